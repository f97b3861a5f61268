"""What is said about a region comes from where its spectrum is most informative."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hyperspy_specml.anomaly import EnergyAxis, Search, find_anomalies
from hyperspy_specml.anomaly._regions import strongest_window
from hyperspy_specml.statistics import energy_windows
from hyperspy_specml.streaming import SpectrumStream

pytestmark = pytest.mark.usefixtures("few_drawn_pixels")
N_CHANNELS = 40
WINDOWS = energy_windows(np.full(N_CHANNELS, 4.0), np.ones(N_CHANNELS, bool), factors=(1.0,))


def region(expected, spectrum, window, z):
    variances = np.maximum(expected, 0.01)
    sums = SimpleNamespace(spectra=spectrum[None], residuals=(spectrum - expected)[None], variances=variances[None])
    return SimpleNamespace(windows=WINDOWS), SimpleNamespace(window=[window], z=[z]), sums


def at(channel):
    return int(np.abs(WINDOWS.centres - channel).argmin())


@pytest.mark.parametrize(
    ("expected_at_10", "channel"),
    [(0.0, 10), (-8.0, 30)],  # with negative expected counts the model is wrong there
)
def test_an_excess_over_negative_expected_counts_is_not_believed(expected_at_10, channel):
    expected, spectrum = np.full(N_CHANNELS, 1.0), np.full(N_CHANNELS, 1.0)
    expected[8:13], spectrum[8:13] = expected_at_10, 2.0
    spectrum[28:33] = 7.0

    inside, deficit = strongest_window(*region(expected, spectrum, at(10), 9.0), 0, 0)

    assert inside.start <= channel < inside.stop
    assert not deficit


@pytest.mark.parametrize(("excess", "channel", "missing"), [(0.2, 10, True), (6.0, 30, False)])
def test_an_excess_is_preferred_to_a_deficit_of_twice_its_strength(excess, channel, missing):
    expected, spectrum = np.full(N_CHANNELS, 10.0), np.full(N_CHANNELS, 10.0)
    spectrum[8:13] = 2.0
    spectrum[28:33] += excess

    inside, deficit = strongest_window(*region(expected, spectrum, at(10), -5.0), 0, 0)

    assert inside.start <= channel < inside.stop
    assert deficit == missing


def line(element, energy, edge=False):
    return SimpleNamespace(element=element, name="Ka", family="K", energy=energy, weight=1.0, edge=edge, rank=1)


def counts():
    channels = np.arange(61)
    spectrum = 3 + 20 * np.exp(-0.5 * ((channels - 15) / 2.5) ** 2)
    strength = np.random.default_rng(0).uniform(0.7, 1.3, (31, 27, 1))
    expected = strength * spectrum
    expected[20:23, 4:7] += 12 * np.exp(-0.5 * ((channels - 45) / 2.5) ** 2)
    return np.random.default_rng(1).poisson(expected).astype(np.uint16)


@pytest.mark.parametrize("step", [0.01, -0.01])  # a falling axis is one too
def test_arrays_alone_give_regions_energies_and_elements(step):
    energies = 2.0 + step * np.arange(61)
    lines = [line("Aa", energies[15]), line("Bb", energies[44]), line("Cc", energies[50])]

    found = find_anomalies(SpectrumStream(counts()), line_width=np.full(61, 6.0), axis=EnergyAxis(energies, lines))

    (one,) = found.regions
    rows, columns = np.unravel_index(one.pixels, (31, 27))
    planted = {(y, x) for y in (20, 21, 22) for x in (4, 5, 6)}
    pixels = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert pixels <= planted
    assert len(pixels) >= 8
    assert found.labels[21, 5] == one.label
    assert one.energy == pytest.approx(energies[45], abs=0.011)
    assert not one.deficit
    assert 0.5 < one.excess / (len(pixels) * 12 * 2.5 * np.sqrt(2 * np.pi)) < 1.1
    assert [candidate.element for candidate in one.candidates] == ["Bb", "Cc"]
    assert one.candidates[0].distance == pytest.approx(energies[44] - one.energy)
    np.testing.assert_allclose(one.spectrum, counts()[rows, columns].mean(axis=0), rtol=1e-6)


def test_without_an_axis_energies_are_channels():
    found = find_anomalies(SpectrumStream(counts()), Search(threshold=6.0), line_width=np.full(61, 6.0))

    assert found.regions[0].energy == pytest.approx(45, abs=1.1)
    assert found.regions[0].candidates == ()
    assert found.threshold == "score of 6 or more"
