"""Totals of spectra from the pixels around them: as few of these as held-out counts allow."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml import TrainConfig
from hyperspy_specml.denoise import average_totals, choose_width
from hyperspy_specml.denoise._totals import WIDTHS
from hyperspy_specml.models import tiles_of
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import Run
from hyperspy_specml.streaming import SpectrumStream

SCAN, N_CHANNELS = (36, 40), 8


def chosen(mean: np.ndarray, predicted: np.ndarray, *, noise: str = "poisson") -> float | None:
    """Return the width that is chosen for counts of these means, beside a denoiser that predicts other totals."""
    counts = np.random.default_rng(0).poisson(np.repeat(mean[..., None] / N_CHANNELS, N_CHANNELS, axis=-1))
    stream = SpectrumStream(counts.astype(np.uint16))
    data = prepare(stream, Run(TrainConfig()), noise=noise, sample=np.ones(counts[..., 0].size, bool))
    tiles = tiles_of(data.summary.sample_pixels, counts.shape[:-1], (tuple(slice(0, n) for n in counts.shape[:-1]),))
    return choose_width(data, tiles, predicted.ravel()[data.summary.sample_pixels])


def smooth(dose: float) -> np.ndarray:
    y, x = np.indices(SCAN)
    return dose * (1 + 0.2 * np.sin(y / 5) * np.cos(x / 6))


def test_averages_are_over_pixels_with_a_spectrum_and_within_a_slice_of_slower_axes() -> None:
    rng = np.random.default_rng(0)
    valid = rng.random((3, 4, 7, 11)) > 0.2
    constant = np.where(valid, 7.0, np.nan)
    np.testing.assert_allclose(average_totals(constant, valid, 1.2), np.where(valid, 7, 0), rtol=1e-12)
    first = np.zeros(valid.shape)
    first[0] = 1
    assert not average_totals(first, np.ones_like(valid), 1.2)[1:].any()
    np.testing.assert_array_equal(average_totals(first, valid, 0.0), first * valid)


def test_hills_and_valleys_keep_what_a_gaussian_average_takes_to_the_third_power() -> None:
    """It leaves exp(-2 (pi width / period)^2) of a wave; here 38 %, 50 % and 83 %."""
    for width, period in ((4.0, 18.0), (3.0, 16.0), (1.2, 12.25)):
        x = np.arange(400)
        wave, left = np.cos(2 * np.pi * x / period), np.exp(-2 * (np.pi * width / period) ** 2)
        found = average_totals(5 + wave, np.ones(400, bool), width) - 5
        inner = slice(100, 300)  # the ends of a line have neighbours on one side
        np.testing.assert_allclose(found[inner], (1 - (1 - left) ** 3) * wave[inner], atol=2e-3)


def test_totals_beside_a_bright_edge_are_not_negative() -> None:
    edge = np.where(np.arange(60) < 30, 0.1, 500.0)
    assert average_totals(edge, np.ones(60, bool), 2.7).min() == 0


@pytest.mark.parametrize(("dose", "least", "most"), [(5.0, 1.8, 6.0), (400.0, 0.8, 2.7)])
def test_few_counts_are_averaged_farther(dose: float, least: float, most: float) -> None:
    mean = smooth(dose)
    width = chosen(mean, np.full(SCAN, mean.mean()))
    assert width is not None
    assert least <= width <= most


@pytest.mark.parametrize("dose", [5.0, 20.0, 100.0])
def test_the_width_chosen_has_nearly_the_smallest_error_and_leaves_bright_and_dim_parts_as_they_are(
    dose: float,
) -> None:
    mean = smooth(dose)
    width = chosen(mean, np.full(SCAN, mean.mean()))
    again = np.random.default_rng(7).poisson(mean).astype(float)  # counts that chose nothing
    errors = [np.square(average_totals(again, np.ones(SCAN, bool), w) - mean).mean() for w in WIDTHS]
    assert width is not None
    assert errors[WIDTHS.index(width)] < 1.8 * min(errors)  # one and a half is meant
    expected = average_totals(mean, np.ones(SCAN, bool), width)  # the average is linear
    for quarter in np.array_split(np.argsort(mean.ravel()), 4):
        assert expected.ravel()[quarter].sum() == pytest.approx(mean.ravel()[quarter].sum(), rel=0.03)


def test_pixels_that_differ_from_their_neighbours_keep_their_own_counts() -> None:
    mean = 200 * np.where(np.random.default_rng(1).random(SCAN) > 0.5, 3.0, 0.5)
    assert not chosen(mean, np.full(SCAN, mean.mean()))  # drawn to their own counts, or these


def test_totals_that_are_right_are_kept_and_counts_alone_are_averaged() -> None:
    mean = 200 * np.where(np.random.default_rng(1).random(SCAN) > 0.5, 3.0, 0.5)
    assert chosen(mean, mean) is None
    assert chosen(smooth(5.0), smooth(5.0), noise="poisson-gaussian") is None
