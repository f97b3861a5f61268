"""With noise of one size neither an added constant nor the unit of the data decides what is found."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.anomaly._scan import Scan, ScanModel, ShiftScan
from hyperspy_specml.statistics import PoissonNoise, energy_windows
from hyperspy_specml.statistics._noise import gaussian_noise

SHAPE, N_CHANNELS = (20, 24), 96
pytestmark = pytest.mark.usefixtures("few_drawn_pixels")
PLANTED = np.s_[8:11, 12:15]


def peak(centre: float, width: float, height: float) -> np.ndarray:
    return height * np.exp(-0.5 * ((np.arange(N_CHANNELS) - centre) / width) ** 2)


def signed_map() -> np.ndarray:
    y, x = np.indices(SHAPE)
    share = (0.5 + 0.45 * np.sin(y / 4) * np.cos(x / 5))[..., None]
    mean = share * peak(30, 3, 1) + (1 - share) * peak(50, 4, 1.2)
    mean[PLANTED] += peak(70, 2, 0.35)
    return mean + np.random.default_rng(1).normal(0, 0.15, mean.shape)


def search(data: np.ndarray):
    return hs.signals.Signal1D(data).anomaly_map(show_progressbar=False)


def share_planted(found) -> float:
    (region,) = found.regions
    inside = np.zeros(SHAPE, bool)
    inside[PLANTED] = True
    return np.mean([inside[y, x] for x, y in region.pixels])


@pytest.mark.parametrize("constant", [3.0, 0.0, -0.103, -0.3, -1.0, -3.0])
def test_an_added_constant_does_not_decide_what_is_found(constant):
    found = search(signed_map() + constant)

    (region,) = found.regions
    assert found.report.noise_model["name"] == "gaussian"
    assert region.energy == pytest.approx(70, abs=1)
    assert share_planted(found) == 1
    assert 5 <= region.n_pixels <= 9
    assert region.excess > 0
    assert not found.spikes


@pytest.mark.parametrize("unit", [2.0**-60, 2.0**60])
def test_the_unit_of_the_data_changes_nothing(unit, tmp_path):
    data = signed_map()
    data[3, 4, 60] = 40  # a spike
    found, other = search(data), search(data * unit)

    np.testing.assert_allclose(other.score.data, found.score.data, rtol=1e-6, atol=1e-6)
    (region,), (same,) = found.regions, other.regions
    assert (same.pixels, same.energy, same.p) == (region.pixels, region.energy, pytest.approx(region.p))
    assert same.excess == pytest.approx(region.excess * unit)
    assert other.spikes[0].value == pytest.approx(40 * unit)
    np.testing.assert_allclose(other.residuals.data, found.residuals.data * unit, atol=1e-6 * unit)
    # The model is one of the data as they are.
    path = other.model.save(tmp_path / "model")
    again = hs.signals.Signal1D(data * unit).anomaly_map(model=path, show_progressbar=False)
    np.testing.assert_allclose(again.score.data, other.score.data, rtol=1e-5, atol=1e-5)
    assert again.report.noise_model["readout"] == pytest.approx(0.15 * unit, rel=0.1)


def test_the_mean_of_signed_data_is_what_the_model_expects():
    spectra, windows = (
        np.ones((1, N_CHANNELS)),
        energy_windows(np.full(N_CHANNELS, 4.0), np.ones(N_CHANNELS, bool), factors=(1.0,)),
    )
    everything, width = slice(0, len(windows)), windows.stops - windows.starts

    def mean(noise, level):
        scan = Scan(ScanModel(spectra, np.zeros(N_CHANNELS), noise, n_spectra=100), windows)
        return scan.moments(np.array([[level, 1.0]], np.float32), everything)[0]

    for level in (-2.0, 0.0, 3.0):
        np.testing.assert_allclose(mean(gaussian_noise(0.1), level)[0], level * width, atol=1e-5)
    assert (mean(PoissonNoise(), -2.0) > 0).all()  # counts have no negative mean


def test_a_constant_is_no_shift_and_changes_none():
    slope = np.linspace(0, 1, N_CHANNELS) + peak(40, 4, 2.0)
    moved = np.interp(np.arange(N_CHANNELS) - 0.5, np.arange(N_CHANNELS), slope)

    def z(constant):
        model = ScanModel(np.stack([slope + constant]), np.zeros(N_CHANNELS), gaussian_noise(0.05), n_spectra=100)
        scan = ShiftScan.of(model, slope + constant, 1.0)
        values, ones = np.tile(moved + constant, (3, 3, 1)), np.ones((3, 3, 1))
        return scan.strongest(values, ones, np.ones((3, 3), bool), (0,))[0]

    np.testing.assert_allclose(z(-3.0), z(0.0), rtol=0.15)
    assert (z(-3.0) > 4).all()
