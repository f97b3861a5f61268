"""Changes over frames: damage, drift and intensity are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.live import dwell_times, limit_of, null_maxima, trend
from hyperspy_specml.statistics import Windows, energy_windows

from .conftest import N_CHANNELS, line, spectra

WIDTH = 6.0


@pytest.fixture(scope="module")
def windows() -> Windows:
    return energy_windows(np.full(N_CHANNELS, WIDTH), np.ones(N_CHANNELS, bool), factors=(1.0, 2.0))


@pytest.fixture(scope="module")
def limit(windows: Windows) -> float:
    return limit_of(null_maxima(2e5 * spectra()[0], windows, seed=0))


def frames(*, decay: float = 0.0, drift: float = 0.0, current: float = 0.0, n: int = 20, seed: int = 0) -> np.ndarray:
    """Return (T, E) counts: a line at channel 75 decays, the axis drifts, the current falls, per frame."""
    rng, channels = np.random.default_rng(seed), np.arange(N_CHANNELS)
    found = []
    for t in range(n):
        mean = spectra()[0] + 0.05 * (1 - decay) ** t * line(75) / line(75).sum()
        mean = np.interp(channels - drift * t, channels, mean)
        found.append(rng.poisson(2e5 * (1 - current) ** t * mean))
    return np.array(found, float)


def test_the_limit_is_that_of_many_windows_and_frames(limit: float) -> None:
    assert 3.5 < limit < 5.5


@pytest.mark.parametrize("change", [{}, {"drift": 0.05}, {"current": 0.02}])
def test_without_damage_there_is_none(windows: Windows, limit: float, change: dict) -> None:
    for seed in range(3):
        assert np.abs(trend(frames(**change, seed=seed), windows, line_width=WIDTH).deviate).max() < limit


@pytest.mark.parametrize("beside", [{}, {"drift": 0.05}, {"current": 0.02}])
def test_a_decaying_line_is_found(windows: Windows, limit: float, beside: dict) -> None:
    found = trend(frames(decay=0.02, **beside), windows, line_width=WIDTH)
    strongest = np.abs(found.deviate).argmax()
    assert found.deviate[strongest] < -limit
    assert abs(windows.centres[strongest] - 75) < WIDTH
    assert -0.03 < found.rate[strongest] < -0.005
    assert found.of_shape(line(75)) < -limit
    assert found.of_shape(line(55)) > -limit


def test_drift_is_measured(windows: Windows) -> None:
    found = trend(frames(drift=0.05), windows, line_width=WIDTH)
    assert found.shift[-1] == pytest.approx(0.05 * 19, abs=0.05)
    assert np.abs(found.shift - 0.05 * np.arange(20)).max() < 5 * found.shift_error.max()


def test_shifts_go_on_from_those_before(windows: Windows) -> None:
    every = frames(drift=0.05)
    before = trend(every[:19], windows, line_width=WIDTH)
    again = trend(every, windows, line_width=WIDTH, start=before.shift)
    fresh = trend(every, windows, line_width=WIDTH)
    assert np.abs(again.shift - fresh.shift).max() < 0.5 * fresh.shift_error.max()


def test_intensity_is_measured(windows: Windows) -> None:
    found = trend(frames(current=0.02), windows, line_width=WIDTH)
    assert found.intensity[-1] == pytest.approx(0.98**19, rel=0.02)


def test_dwell_times_follow_the_root_of_the_entropy() -> None:
    probability = np.array([[1.0, 0.5, 0.9, 0.99], [0.0, 0.5, 0.1, 0.01]])
    dwell = dwell_times(probability, 8.0, 100.0)
    entropy = -(probability * np.log(np.maximum(probability, 1e-30))).sum(axis=0)
    assert dwell.sum() == pytest.approx(8)
    least = 0.05 * np.sqrt(entropy).mean()
    wanted = np.sqrt(entropy) + least
    assert dwell == pytest.approx(8 * wanted / wanted.sum())


def test_no_dwell_time_is_too_long() -> None:
    rng = np.random.default_rng(0)
    one = rng.uniform(0.99, 1, 500)
    one[:5] = 0.5
    dwell = dwell_times(np.stack([one, 1 - one]), 500.0, 2.0)
    assert dwell.max() <= 2 + 1e-9
    assert dwell.sum() == pytest.approx(500)
