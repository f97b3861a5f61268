"""Spatial filters of score maps against other implementations of them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from skimage.restoration import denoise_nl_means

from hyperspy_specml.models import filters
from hyperspy_specml.models._filters import Maps

N_PIXELS, N_MAPS = 90, 5


def steps_and_noise() -> tuple[np.ndarray, np.ndarray]:
    """Score maps of a line in steps of nine pixels, and the same with noise of variance 1; three are alike twice."""
    rng = np.random.default_rng(0)
    levels = np.tile(rng.normal(0, 3, (5, N_MAPS)), (2, 1))
    clean = np.repeat(levels, 9, axis=0)
    return clean, (clean + rng.normal(0, 1, clean.shape)).astype(np.float32)


@pytest.mark.parametrize(("patch", "strength"), [(3, 0.6), (3, 0.8), (5, 0.8)])
def test_non_local_means_of_a_line_are_those_of_an_image_of_equal_rows(patch: int, strength: float) -> None:
    clean, noisy = steps_and_noise()
    bank = {one.name: one.function for one in filters(1)}
    found = bank[f"non-local means {patch}, {strength:g}"](
        Maps(noisy, np.ones(N_PIXELS, bool), noisy.mean(axis=0), N_MAPS)
    )
    image = np.repeat(noisy[None], 3, axis=0)
    known = {"h": strength, "sigma": 1.0, "patch_size": patch, "patch_distance": 31, "channel_axis": -1}
    expected = denoise_nl_means(image, fast_mode=True, **known)[1]
    np.testing.assert_allclose(found, expected, atol=0.06)  # scikit-image rounds its exponential
    assert np.square(found - clean).mean() < 0.5 * np.square(noisy - clean).mean()
    assert np.square(noisy.mean(axis=0) - clean).mean() > 5  # what it is not


def test_no_filter_of_a_line_takes_long() -> None:
    values = np.random.default_rng(0).normal(0, 1, (700, 40)).astype(np.float32)
    maps = Maps(values, np.ones(700, bool), values.mean(axis=0), 30)
    start = time.process_time()
    for one in filters(1):
        one.function(maps)
    assert time.process_time() - start < 3  # non-local means of an image of one row took nine
