"""A model that was learnt elsewhere: how far it describes a map is found in sums over patches of it."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.anomaly import Normal, energy_windows
from hyperspy_specml.anomaly._reference import adapt_normal, design_of, misfit_of
from hyperspy_specml.models import LinearModel
from hyperspy_specml.statistics import PoissonNoise, PrincipalBasis
from hyperspy_specml.streaming import SpectrumStream, patch_sums

SHAPE, N_CHANNELS, SIDE = (60, 45), 80, 3
ENERGY = np.arange(N_CHANNELS)
PEAK = np.exp(-0.5 * ((ENERGY - 55) / 2.5) ** 2)
SPECTRUM = 2 + 30 * np.exp(-0.5 * ((ENERGY - 20) / 2.5) ** 2) + 20 * PEAK


def a_normal() -> Normal:
    vector = SPECTRUM[:, None] / np.linalg.norm(SPECTRUM)
    axes = PrincipalBasis(np.ones(N_CHANNELS), np.zeros(N_CHANNELS), vector, np.ones(1))
    return Normal(LinearModel(axes), PoissonNoise(), 10**6)


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_the_relative_error_of_each_window_is_found(error):
    rng = np.random.default_rng(0)
    wrong = 1 + error * rng.standard_normal(SHAPE)[..., None] * (PEAK > 0.01)  # the height of one peak varies
    counts = rng.poisson(10 * np.maximum(wrong, 0) * SPECTRUM).astype(np.uint16)
    counts[:9, :9, 40] += 1000  # new to the model, and no error of it
    normal, everything = a_normal(), np.ones(N_CHANNELS, bool)
    windows = energy_windows(np.full(N_CHANNELS, 6.0), everything, factors=(1.0,))
    sums, n = patch_sums(
        SpectrumStream(counts), np.ones(counts[..., 0].size, bool), everything, sides=(SIDE, SIDE),
        label="test", beside=normal.coefficients, n_beside=1,
    )  # fmt: skip
    alone = normal.coefficients(sums[..., :-1].reshape(-1, N_CHANNELS)).reshape(n.shape)
    np.testing.assert_allclose(sums[..., -1], alone, rtol=1e-4)

    misfit = adapt_normal(normal, sums, n, windows, side=SIDE).misfit

    nearest = np.argmin(np.abs(windows.centres - 55))
    vector = normal.model.basis.vectors[:, 0]
    left = error * 20 * (PEAK - (PEAK @ vector) * vector)  # the coefficient takes the rest
    part = slice(windows.starts[nearest], windows.stops[nearest])
    expected = left[part].sum() / SPECTRUM[part].sum() / SIDE  # the errors of a patch's pixels differ
    assert misfit[nearest] == pytest.approx(expected, abs=0.005)
    assert misfit[np.argmin(np.abs(windows.centres - 40))] < 0.01
    assert np.median(misfit) < 0.005


def test_single_counts_where_few_are_expected_are_no_error_of_the_model():
    rows = np.random.default_rng(0).poisson(0.02 * SPECTRUM, (4000, N_CHANNELS)).astype(np.float32)
    normal = a_normal()
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    design = design_of(normal.coefficients(rows), np.ones(len(rows)))

    misfit = misfit_of(normal, rows, design, PoissonNoise(), windows, share=0.99)

    assert (misfit > 0).mean() < 0.1


@pytest.mark.parametrize("shift", [0.0, 0.02])  # channels; the counts of a patch tell it to .017
def test_shifts_that_are_normal_are_found(shift):
    rng = np.random.default_rng(0)
    normal = a_normal()
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    squares = []
    for _ in range(10):  # maps of 300 patches
        by = shift * rng.standard_normal((300, 1))
        by[0] = 3.0  # no part of the normal
        rows = rng.poisson(100 * np.interp(ENERGY - by, ENERGY, SPECTRUM)).astype(np.float32)
        design = design_of(normal.coefficients(rows), np.ones(len(rows)))
        adapted = normal.adapted_to(rows, design, PoissonNoise(), windows, share=0.99, width=1.0)
        squares.append(adapted.shift.misfit**2)

    assert np.sqrt(np.mean(squares)) == pytest.approx(shift, abs=0.003 if shift else 0.007)
