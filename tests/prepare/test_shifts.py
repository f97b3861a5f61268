"""Shifts by likelihood on arrays: closed forms, planted shifts, the Cramer-Rao bound."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

from hyperspy_specml.prepare import ShiftTask, learn_shifts
from hyperspy_specml.prepare._shifts import smooth_distribution
from hyperspy_specml.prepare._templates import Templates, fit_templates
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import PoissonNoise, noise_from_dict

E = 60
CHANNELS = np.arange(E)
EVERY = np.ones(E, bool)
GAUSSIAN = {"name": "gaussian", "gain": 0.0, "readout": 0.5, "offset": 0.0, "correlation": [1.0]}


def peaks(shift: np.ndarray, *, second: float = 0.5, third: float = 0.0) -> np.ndarray:
    """Return (n, E) spectra of two or three peaks on a background, moved to higher channels."""
    x = CHANNELS - np.asarray(shift)[:, None]
    others = second * np.exp(-0.5 * ((x - 36) / 2.0) ** 2) + third * np.exp(-0.5 * ((x - 16) / 2.0) ** 2)
    return 0.2 + np.exp(-0.5 * ((x - 25) / 2.5) ** 2) + others


@pytest.fixture(scope="module")
def shifts() -> np.ndarray:
    values = np.random.default_rng(3).normal(0, 0.8, 400)
    return values - values.mean()


def bound(scale: float, spread: float, variance_of_mean: bool) -> float:
    """Return the smallest error of a shift, of its Fisher information at a free intensity and its prior."""
    mean, slope = scale * peaks(np.zeros(1))[0], scale * (peaks(np.full(1, 1e-3)) - peaks(np.zeros(1)))[0] / 1e-3
    weight = 1 / mean if variance_of_mean else np.full(E, 1 / GAUSSIAN["readout"] ** 2)
    information = slope @ (weight * slope) - (slope @ (weight * mean)) ** 2 / (mean @ (weight * mean))
    return float(1 / np.sqrt(information + spread**-2))


def test_templates_are_cubic_splines_between_channels() -> None:
    knots = np.random.default_rng(0).normal(size=(2, 12))
    found = Templates(knots).shifted(np.array([0.0, 1.7, -0.4]), np.arange(2, 5))
    for k, own in enumerate(knots):
        spline = BSpline(np.arange(-4, 12.0), own, 3)
        for j, shift in enumerate((0.0, 1.7, -0.4)):
            np.testing.assert_allclose(found[k, j], spline(np.arange(2, 5) - shift), rtol=1e-12)


def test_templates_of_shifted_sums_are_found_again() -> None:
    rng = np.random.default_rng(1)
    truth = Templates(rng.normal(size=(2, E + 5)))
    mixing, grid = np.array([[1, 0], [0.5, 0.5], [0.2, 0.8]]), np.array([-1.5, -0.25, 0.0, 1.0])
    compared = CHANNELS[3:-3]
    weights = rng.uniform(0.5, 2, (3, 4, len(compared)))
    sums = weights * np.einsum("mk,ksw->msw", mixing, truth.shifted(grid, compared))
    found = fit_templates(sums, weights, mixing, grid, compared, n_channels=E, smoothing=0.0)
    inner = slice(8, -8)
    np.testing.assert_allclose(found.knots[:, inner], truth.knots[:, inner], atol=1e-3)


def test_a_distribution_is_smoothed_to_the_variance_that_is_asked_for() -> None:
    grid = np.linspace(-6, 6, 121)
    rough = np.zeros(121)
    rough[[40, 60, 70]] = 0.3, 0.5, 0.2
    found = smooth_distribution(rough, grid, 1.5)
    assert found.sum() == pytest.approx(1)
    assert found @ grid == pytest.approx(rough @ grid, abs=0.01)
    assert found @ grid**2 - (found @ grid) ** 2 == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("scale", [4.0, 400.0])
def test_counts_reach_the_bound_and_intervals_cover(shifts: np.ndarray, scale: float) -> None:
    intensity = np.random.default_rng(5).uniform(0.7, 1.3, (len(shifts), 1))
    rows = np.random.default_rng(4).poisson(scale * intensity * peaks(shifts))
    found = learn_shifts(rows, EVERY, PoissonNoise(), ShiftTask(n_templates=1), Run()).model.estimate(rows)
    error = found[:, 0] - shifts
    assert error.std() < 1.15 * bound(scale, shifts.std(), variance_of_mean=True)
    assert abs(error.mean()) < 0.1
    assert 0.83 < np.mean(np.abs(error) < 1.645 * found[:, 1]) < 0.97


def test_gaussian_noise_reaches_the_bound(shifts: np.ndarray) -> None:
    rows = 5 * peaks(shifts) + np.random.default_rng(6).normal(0, GAUSSIAN["readout"], (len(shifts), E))
    found = learn_shifts(rows, EVERY, noise_from_dict(GAUSSIAN), ShiftTask(n_templates=1), Run()).model.estimate(rows)
    error = found[:, 0] - shifts
    assert error.std() < 1.15 * bound(5, shifts.std(), variance_of_mean=False)
    assert 0.83 < np.mean(np.abs(error) < 1.645 * found[:, 1]) < 0.97


def test_shifts_far_below_a_channel_are_found_at_many_counts() -> None:
    truth = np.random.default_rng(7).normal(0, 0.02, 64)
    rows = np.random.default_rng(8).poisson(1e6 * peaks(truth))
    found = learn_shifts(rows, EVERY, PoissonNoise(), ShiftTask(n_templates=1), Run()).model.estimate(rows)
    assert np.std(found[:, 0] - truth) < 0.005
    assert np.median(found[:, 1]) < 0.005


def of_kinds(shifts: np.ndarray, n_kinds: int, scale: float) -> np.ndarray:
    """Return the counts of spectra that are one kind each, of up to three."""
    kinds = np.stack([peaks(shifts, second=0.1), peaks(shifts, second=1.5), peaks(shifts, second=0.1, third=1.5)])
    kind = np.random.default_rng(9).integers(n_kinds, size=len(shifts))
    return np.random.default_rng(10).poisson(scale * kinds[kind, np.arange(len(shifts))])


@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_as_many_templates_are_chosen_as_there_are_kinds(shifts: np.ndarray, n_kinds: int) -> None:
    found = learn_shifts(of_kinds(shifts, n_kinds, 10), EVERY, PoissonNoise(), ShiftTask(), Run())
    assert found.model.mixing.shape[1] == n_kinds
    assert found.gain is not None
    assert (found.gain[0] > 2 * found.gain[1]) == (n_kinds > 1)


def test_a_template_for_each_kind_makes_shifts_more_precise(shifts: np.ndarray) -> None:
    rows = of_kinds(shifts, 3, 10)
    one, three = (learn_shifts(rows, EVERY, PoissonNoise(), ShiftTask(n_templates=k), Run()).model for k in (1, 3))
    errors = [np.std(model.estimate(rows)[:, 0] - shifts) for model in (one, three)]
    assert errors[1] < 0.8 * errors[0]


def test_channels_that_are_not_in_use_have_no_say(shifts: np.ndarray) -> None:
    rows = np.random.default_rng(11).poisson(30 * peaks(shifts))
    used = EVERY.copy()
    used[[20, 41]] = False
    spoilt = rows.copy()
    spoilt[:, ~used] = 10_000
    found = [
        learn_shifts(values, used, PoissonNoise(), ShiftTask(n_templates=1), Run()).model.estimate(values)
        for values in (rows, spoilt)
    ]
    np.testing.assert_array_equal(*found)
