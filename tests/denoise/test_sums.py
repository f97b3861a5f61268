"""A basis learnt from averages over neighbouring pixels: taken where neighbours are alike, not elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.ndimage

from hyperspy_specml import TrainConfig
from hyperspy_specml.denoise import _sums, basis_of_sums
from hyperspy_specml.models import tiles_of
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import Run
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from hyperspy_specml.models import Tiles
    from hyperspy_specml.prepare import TrainingData

SCAN, N_CHANNELS = (40, 36), 64


def mean_spectra(scan: tuple[int, ...] = SCAN) -> tuple[np.ndarray, np.ndarray]:
    """A line that is strong everywhere and one of a large area in the middle, and the shape of the latter."""
    channel, (y, x) = np.arange(N_CHANNELS), np.indices(scan)
    weak = np.exp(-((channel - 45) ** 2) / 8)
    area = (np.hypot(y - scan[0] / 2, x - scan[1] / 2) < 12)[..., None]
    return 0.4 * np.exp(-((channel - 20) ** 2) / 18) + 0.01 + 0.06 * area * weak, weak


def prepared(counts: np.ndarray) -> tuple[TrainingData, Tiles]:
    data = prepare(
        SpectrumStream(counts), Run(TrainConfig()), noise="poisson", sample=np.ones(counts[..., 0].size, bool)
    )
    whole = tuple(slice(0, n) for n in counts.shape[:-1])
    return data, tiles_of(data.summary.sample_pixels, counts.shape[:-1], (whole,))


def held_by(data: TrainingData, spectrum: np.ndarray, n: int = 2) -> float:
    """Return which share of a spectrum lies in the first vectors."""
    white = spectrum[data.summary.channels] * data.basis.weights
    return float(np.linalg.norm(data.basis.vectors[:, :n].T @ white) / np.linalg.norm(white))


def test_a_faint_line_of_a_large_area_is_in_the_basis_of_averages() -> None:
    mean, weak = mean_spectra()
    data, tiles = prepared(np.random.default_rng(0).poisson(3 * mean).astype(np.uint8))
    found = basis_of_sums(data, tiles)
    assert found is not data
    assert held_by(found, weak) > max(0.85, 1.2 * held_by(data, weak))
    for one in (found.basis, found.fold_basis):  # or held-out errors could not be compared
        assert one.n_vectors == data.basis.n_vectors
        np.testing.assert_allclose(one.vectors.T @ one.vectors, np.eye(one.n_vectors), atol=1e-5)
    np.testing.assert_allclose(found.fold_basis.weights, data.fold_basis.weights, rtol=1e-12)
    np.testing.assert_allclose(found.basis.weights, data.basis.weights, rtol=1e-12)
    np.testing.assert_array_equal(found.fold_parts, data.on(found.fold_basis).fold_parts)


def test_pixels_in_any_order_keep_their_own_basis() -> None:
    mean, _ = mean_spectra()
    shuffled = np.random.default_rng(1).permutation(mean.reshape(-1, N_CHANNELS)).reshape(mean.shape)
    data, tiles = prepared(np.random.default_rng(0).poisson(40 * shuffled).astype(np.uint16))
    assert basis_of_sums(data, tiles) is data


@pytest.mark.parametrize("shape", [(7, 5, 11), (13, 11), (3, 7, 5, 11)])
def test_averages_are_those_of_the_used_neighbours(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sums, "_AVERAGED", 2 * 5 * 11)  # some lines at a time
    scan = shape[:-1]
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    there = np.random.default_rng(1).random(scan) > 0.2
    pixels = np.flatnonzero(there)
    tiles = tiles_of(pixels, scan, (tuple(slice(0, n) for n in scan),))
    rows = values.reshape(-1, 11)[pixels]
    found = np.concatenate(list(_sums._averages(rows.__getitem__, tiles)))
    box = np.ones((3,) * len(scan))
    sums = [scipy.ndimage.convolve(values[..., e] * there, box, mode="constant") for e in range(11)]
    n = scipy.ndimage.convolve(there.astype(float), box, mode="constant")
    np.testing.assert_allclose(found, (np.stack(sums, axis=-1)[there] / n[there][:, None]), rtol=1e-4)
