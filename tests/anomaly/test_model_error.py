"""How far a model describes a map is found in sums over patches of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_specml.anomaly import ReferenceModel
from hyperspy_specml.anomaly._learn import (
    LearningTask,
    PatchRows,
    design_of,
    measure_errors,
    model_error_of,
    shift_scan_of,
)
from hyperspy_specml.anomaly._setup import PatchSums
from hyperspy_specml.models import LinearModel
from hyperspy_specml.statistics import PoissonNoise, PrincipalBasis, energy_windows
from hyperspy_specml.statistics._noise import gaussian_noise
from hyperspy_specml.streaming import SpectrumStream, patch_sums

SHAPE, N_CHANNELS, SIDE = (60, 45), 80, 3
ENERGY = np.arange(N_CHANNELS)
PEAK = np.exp(-0.5 * ((ENERGY - 55) / 2.5) ** 2)
SPECTRUM = 2 + 30 * np.exp(-0.5 * ((ENERGY - 20) / 2.5) ** 2) + 20 * PEAK


WIDTH = np.full(N_CHANNELS, 6.0)
WINDOWS = energy_windows(WIDTH, np.ones(N_CHANNELS, bool), factors=(1.0,))


def a_reference() -> ReferenceModel:
    vector = SPECTRUM[:, None] / np.linalg.norm(SPECTRUM)
    basis = PrincipalBasis(np.ones(N_CHANNELS), np.zeros(N_CHANNELS), vector, np.ones(1))
    return ReferenceModel(LinearModel(basis), PoissonNoise(), 10**6)


def patch_rows(reference: ReferenceModel, rows: np.ndarray) -> PatchRows:
    ones = np.ones(len(rows))
    return PatchRows(rows, design_of(reference.coefficients(rows), ones), ones, PoissonNoise())


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_the_relative_error_of_each_window_is_found(error):
    rng = np.random.default_rng(0)
    wrong = 1 + error * rng.standard_normal(SHAPE)[..., None] * (PEAK > 0.01)  # the height of one peak varies
    counts = rng.poisson(10 * np.maximum(wrong, 0) * SPECTRUM).astype(np.uint16)
    counts[:9, :9, 40] += 1000  # new to the model, and no error of it
    reference, windows = a_reference(), WINDOWS
    sums, n = patch_sums(
        SpectrumStream(counts), np.ones(counts[..., 0].size, bool), np.ones(N_CHANNELS, bool), label="test",
        sides=(SIDE, SIDE), beside=reference.coefficients, n_beside=1,
    )  # fmt: skip
    alone = reference.coefficients(sums[..., :-1].reshape(-1, N_CHANNELS)).reshape(n.shape)
    np.testing.assert_allclose(sums[..., -1], alone, rtol=1e-4)

    task = LearningTask(PoissonNoise(), windows, WIDTH)
    found = measure_errors(reference, PatchSums(sums, n, SIDE), task).model_error

    nearest = np.argmin(np.abs(windows.centres - 55))
    vector = reference.basis.vectors[:, 0]
    left = error * 20 * (PEAK - (PEAK @ vector) * vector)  # the coefficient takes the rest
    part = slice(windows.starts[nearest], windows.stops[nearest])
    expected = left[part].sum() / SPECTRUM[part].sum() / SIDE  # the errors of a patch's pixels differ
    assert found[nearest] == pytest.approx(expected, abs=0.005)
    assert found[np.argmin(np.abs(windows.centres - 40))] < 0.01
    assert np.median(found) < 0.005


@pytest.mark.parametrize("error", [0.0, 1.5])  # counted twice, the noise would hide the second
def test_the_read_out_noise_of_a_patch_is_that_of_its_pixels_once(error):
    rng = np.random.default_rng(0)
    tall, wide = (n // SIDE for n in SHAPE)
    amounts = np.kron(rng.standard_normal((tall, wide)), np.ones((SIDE, SIDE)))[..., None]  # alike in a patch
    values = 10 * SPECTRUM + error * amounts * PEAK + rng.normal(0, 2, (*SHAPE, N_CHANNELS))
    reference = replace(a_reference(), noise=gaussian_noise(2.0))
    sums, n = patch_sums(
        SpectrumStream(values), np.ones(amounts.size, bool), np.ones(N_CHANNELS, bool), label="test",
        sides=(SIDE, SIDE), beside=reference.coefficients, n_beside=1,
    )  # fmt: skip
    task = LearningTask(reference.noise, WINDOWS, WIDTH)

    found = measure_errors(reference, PatchSums(sums, n, SIDE), task).model_error

    nearest, vector = np.argmin(np.abs(WINDOWS.centres - 55)), reference.basis.vectors[:, 0]
    part = slice(WINDOWS.starts[nearest], WINDOWS.stops[nearest])
    left = error * (PEAK - (PEAK @ vector) * vector)[part].sum()
    of_a_pixel = 2 * np.sqrt(part.stop - part.start)  # noise
    assert found[nearest] == pytest.approx(left / of_a_pixel, abs=0.2)


def test_single_counts_where_few_are_expected_are_no_error_of_the_model():
    rows = np.random.default_rng(0).poisson(0.02 * SPECTRUM, (4000, N_CHANNELS)).astype(np.float32)
    reference = a_reference()

    found = model_error_of(reference.scan_model(), patch_rows(reference, rows), WINDOWS, fraction=0.99)

    assert (found > 0).mean() < 0.1


@pytest.mark.parametrize("shift", [0.0, 0.02])  # channels; noise of a patch is .017
def test_the_spread_of_ordinary_shifts_is_found(shift):
    rng = np.random.default_rng(0)
    reference = a_reference()
    squares = []
    for _ in range(10):  # maps of 300 patches
        by = shift * rng.standard_normal((300, 1))
        by[0] = 3.0  # an anomaly
        rows = rng.poisson(100 * np.interp(ENERGY - by, ENERGY, SPECTRUM)).astype(np.float32)
        patches = patch_rows(reference, rows)
        scan = shift_scan_of(reference.scan_model(), patches, smoothing=1.0, fraction=0.99)
        squares.append(scan.model_error**2)

    assert np.sqrt(np.mean(squares)) == pytest.approx(shift, abs=0.003 if shift else 0.007)
