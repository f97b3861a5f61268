"""The width of the sharpest feature of a map, planted and found again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise, line_width, typical_mean

N_SPECTRA, N_CHANNELS = 567, 331
CHANNEL = np.arange(N_CHANNELS)
BACKGROUND = (1 + CHANNEL / 150) ** -1.5


def line(centre: float, width: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((CHANNEL - centre) / width) ** 2)


def draw(clean: np.ndarray, counts: float, seed: int = 0, n: int = N_SPECTRA) -> np.ndarray:
    return np.random.default_rng(seed).poisson(np.tile(clean * counts / clean.mean(), (n, 1)))


def width_of(spectra: np.ndarray) -> float:
    return line_width(typical_mean(spectra), PoissonNoise(), n_spectra=len(spectra))


@pytest.mark.parametrize("counts", [3, 300])
@pytest.mark.parametrize("width", [3.0, 6.0, 12.0, 20.0])
def test_the_width_of_lines_is_found(width, counts):
    clean = BACKGROUND + 0.8 * line(71, width) + 0.5 * line(137, width) + line(222, width)

    assert width_of(draw(clean, counts)) == pytest.approx(width, rel=0.2)


@pytest.mark.parametrize("width", [3.0, 8.0])
def test_a_narrow_line_counts_although_broad_ones_are_stronger(width):
    clean = BACKGROUND + 0.4 * line(90, width) + 2 * line(215, 4 * width)

    assert width_of(draw(clean, 20.0)) == pytest.approx(width, rel=0.2)


def test_strong_lines_are_not_widened_by_their_own_noise():
    clean = 0.01 * BACKGROUND + line(71, 12) + 0.7 * line(222, 12)  # counts over their noise: root of the counts

    assert width_of(draw(clean, 30.0)) == pytest.approx(12, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [0.5, 300])
def test_without_any_line_the_answer_is_three_channels(counts, seed):
    assert width_of(draw(BACKGROUND, counts, seed)) == 3.0


def test_a_constant_spectrum_without_noise_has_no_feature():
    assert line_width(np.full(N_CHANNELS, 1 / 3), PoissonNoise(), n_spectra=10**12) == 3.0
    assert line_width(np.zeros(N_CHANNELS), PoissonNoise(), n_spectra=7) == 3.0


def test_hot_pixels_are_no_lines():
    spectra = draw(BACKGROUND + line(137, 12), 10.0)
    hot = np.random.default_rng(1).choice(spectra.size, 40, replace=False)
    spectra.reshape(-1)[hot] += 2000

    assert width_of(spectra) == pytest.approx(12, rel=0.2)


def test_noise_that_is_correlated_along_energy_is_no_line():
    kernel = np.array([1, 2, 4, 2, 1]) / np.sqrt(26)
    correlation = tuple(np.correlate(kernel, kernel, "full")[4:])
    noise = np.random.default_rng(0).standard_normal((N_SPECTRA, N_CHANNELS))
    spectra = 40 * BACKGROUND + convolve1d(noise, kernel, axis=1)

    def width(clean):
        model = PoissonGaussianNoise(0.0, 1.0, correlation)
        return line_width(typical_mean(spectra + clean), model, n_spectra=N_SPECTRA)

    assert width(0) == 3.0
    assert width(line(137, 12)) == pytest.approx(12, rel=0.2)


def test_unit_and_zero_of_the_signal_do_not_matter():
    rng = np.random.default_rng(0)
    spectra = line(137, 9) + rng.normal(0, 0.5, (N_SPECTRA, N_CHANNELS))

    found = [
        line_width(typical_mean(a * spectra + b), PoissonGaussianNoise(0.0, 0.5 * a, (1.0,)), n_spectra=N_SPECTRA)
        for a, b in ((1.0, 0.0), (1e-9, -3e-9), (1e9, 4e9))
    ]

    assert found == pytest.approx([9, 9, 9], rel=0.2)
    assert np.ptp(found) < 1e-3


def test_a_gap_in_the_axis_is_no_feature():
    channels = np.ones(N_CHANNELS, bool)
    channels[140:190] = False
    clean = 30 * (BACKGROUND + (CHANNEL > 160))  # a step, inside the gap

    def width(clean):
        mean = draw(clean[channels], clean[channels].mean()).mean(axis=0)
        return line_width(mean, PoissonNoise(), n_spectra=N_SPECTRA, channels=channels)

    assert width(clean) == 3.0
    assert width(clean + 30 * line(250, 12)) == pytest.approx(12, rel=0.2)


def test_the_ends_of_the_axis_are_no_features():
    steep = 1 + 50 * np.exp(-CHANNEL / 9)

    assert {width_of(draw(steep[::step], 50.0, seed)) for seed in range(3) for step in (1, -1)} == {3.0}


def test_the_resolution_of_the_detector_counts_where_the_map_has_counts():
    widths = np.linspace(4, 9, N_CHANNELS)
    mean = np.where(CHANNEL < 100, 0.01, 1.0)
    channels = CHANNEL % 5 > 0

    found = line_width(mean[channels], PoissonNoise(), n_spectra=7, channels=channels, detector=widths)

    assert found == widths[101]
    assert line_width(-mean, PoissonNoise(), n_spectra=7, detector=widths) == widths[100]


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_spectra_of_few_channels_have_an_answer(n):
    assert line_width(np.arange(n) ** 2.0, PoissonNoise(), n_spectra=7) == 2.0


def test_single_values_do_not_change_the_typical_mean():
    spectra = np.tile(np.arange(11.0), (53, 1))
    spectra[[3, 17], [5, 5]] = 1e6, -1e6

    np.testing.assert_allclose(typical_mean(spectra), np.arange(11.0))


@pytest.mark.parametrize("n", [1, 2, 7, 53])
def test_the_typical_mean_of_clean_spectra_is_nearly_as_good_as_the_mean(n):
    spectra = np.random.default_rng(n).standard_normal((n, 40_000)).astype(np.float32)

    typical = typical_mean(spectra)

    assert typical.shape == (40_000,)
    assert n * typical.var() == pytest.approx(1, abs=0.15)
