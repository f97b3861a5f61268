"""What is said about a region comes from where its spectrum tells most."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hyperspy_specml.anomaly import energy_windows
from hyperspy_specml.results._regions import _strongest

N_CHANNELS = 40
WINDOWS = energy_windows(np.full(N_CHANNELS, 4.0), np.ones(N_CHANNELS, bool), factors=(1.0,))


def region(expected, spectrum, window, z):
    variances = np.maximum(expected, 0.01)
    sums = SimpleNamespace(
        spectra=spectrum[None], residuals=(spectrum - expected)[None], variances=variances[None]
    )
    return SimpleNamespace(windows=WINDOWS, window=[window], z=[z]), sums


def at(channel):
    return int(np.abs(WINDOWS.centres - channel).argmin())


@pytest.mark.parametrize(
    ("expected_at_10", "channel"),
    [(0.0, 10), (-8.0, 30)],  # nothing expected: the counts tell; less than nothing: the model is wrong there
)
def test_where_less_than_nothing_is_expected_the_excess_is_not_believed(expected_at_10, channel):
    expected, spectrum = np.full(N_CHANNELS, 1.0), np.full(N_CHANNELS, 1.0)
    expected[8:13], spectrum[8:13] = expected_at_10, 2.0
    spectrum[28:33] = 7.0
    found, sums = region(expected, spectrum, at(10), 9.0)

    inside, deficit = _strongest(found, sums, 0, 0)

    assert inside.start <= channel < inside.stop
    assert not deficit


@pytest.mark.parametrize(("excess", "channel", "missing"), [(0.2, 10, True), (6.0, 30, False)])
def test_an_excess_tells_more_than_a_deficit_of_twice_its_strength(excess, channel, missing):
    expected, spectrum = np.full(N_CHANNELS, 10.0), np.full(N_CHANNELS, 10.0)
    spectrum[8:13] = 2.0
    spectrum[28:33] += excess
    found, sums = region(expected, spectrum, at(10), -5.0)

    inside, deficit = _strongest(found, sums, 0, 0)

    assert inside.start <= channel < inside.stop
    assert deficit == missing
