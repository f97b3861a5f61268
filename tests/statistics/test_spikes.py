"""Hot values: single ones that neither the channels nor the pixels around them explain."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.statistics import (
    NARROWEST_LINE,
    PoissonNoise,
    find_hot_values,
    line_width,
    moments_of,
    spike_line_width,
    summarise_map,
    without_hot_values,
)
from hyperspy_specml.statistics._noise import gaussian_noise
from hyperspy_specml.streaming import SpectrumStream

SCAN, N_CHANNELS = (19, 23), 96
HOT = [(3, 5, 17), (3, 6, 60), (11, 20, 88), (18, 0, 40)]
CHANNEL = np.arange(N_CHANNELS)


def peak(centre: float, width: float, height: float) -> np.ndarray:
    return height * np.exp(-0.5 * ((CHANNEL - centre) / width) ** 2)


def mean_spectra() -> np.ndarray:
    y, x = np.indices(SCAN)
    mixing = (0.5 + 0.5 * np.sin(x / 5) * np.cos(y / 4))[..., None]
    return 20 * (mixing * peak(30, 5, 1) + (1 - mixing) * peak(55, 6, 1.2) + 0.1)


def measured(kind: str) -> tuple[np.ndarray, object]:
    rng, mean = np.random.default_rng(0), mean_spectra()
    if kind == "counts":
        return rng.poisson(mean).astype(np.uint16), PoissonNoise()
    return (mean - mean.mean() + rng.normal(0, 1, mean.shape)).astype(np.float32), gaussian_noise(1.0)


@pytest.mark.parametrize("kind", ["counts", "signed"])
def test_hot_values_are_replaced_in_the_sample_and_its_moments(kind: str) -> None:
    data, noise = measured(kind)
    clean = summarise_map(SpectrumStream(data))
    assert without_hot_values(clean, noise, SCAN) is clean
    hot = data.copy()
    for place in HOT:
        hot[place] += 400
    found = without_hot_values(summarise_map(SpectrumStream(hot)), noise, SCAN)
    assert found.n_hot == len(HOT)
    assert found.counts()["values"] == {"hot": len(HOT)}
    rows = found.sample.reshape(data.shape)
    np.testing.assert_array_equal(np.argwhere(rows != hot), sorted(HOT))
    expected = mean_spectra() - (0 if kind == "counts" else mean_spectra().mean())
    assert all(abs(float(rows[place]) - expected[place]) < 5 * np.sqrt(max(expected[place], 1)) for place in HOT)
    right = moments_of(found.sample)
    np.testing.assert_allclose(found.moments.sums, right.sums, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(found.moments.products, right.products, rtol=1e-5, atol=1e-2)


def test_what_channels_or_pixels_around_show_too_is_not_hot() -> None:
    data, noise = measured("counts")
    data[4, 4] += np.random.default_rng(1).poisson(peak(75, 2.5, 300)).astype(np.uint16)  # a line of one pixel
    data[10:12, 8:10, 20] += 300  # a sharp one of four
    data[15] *= 20  # a bright line of the scan
    summary = summarise_map(SpectrumStream(data))
    assert without_hot_values(summary, noise, SCAN) is summary


def test_noise_that_is_far_too_small_makes_no_structure_hot() -> None:
    data, _ = measured("signed")
    summary = summarise_map(SpectrumStream(data))
    assert without_hot_values(summary, gaussian_noise(1e-3), SCAN) is summary
    assert len(find_hot_values(summary.sample, gaussian_noise(1.0), 2.0, data.mean(axis=(0, 1)))[0]) == 0


def with_rays_on_a_pattern() -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """A map of broad lines whose detector adds the same sharp pattern to all spectra, with rays two channels wide."""
    rng = np.random.default_rng(3)
    data = mean_spectra() + 10 + rng.choice([-1.0, 1.0], N_CHANNELS) + rng.normal(0, 0.3, (*SCAN, N_CHANNELS))
    for y, x, channel in HOT:
        data[y, x, channel : channel + 2] += (120, 60)
    return data.astype(np.float32), [(y, x, k + i) for y, x, k in HOT for i in (0, 1)]


def test_a_sharp_pattern_that_all_spectra_share_hides_no_ray() -> None:
    data, places = with_rays_on_a_pattern()
    summary = summarise_map(SpectrumStream(data))
    rows, noise = summary.sample, gaussian_noise(0.3)
    sharpest = line_width(rows.mean(axis=0), noise, n_spectra=len(rows))
    assert sharpest < NARROWEST_LINE < spike_line_width(rows, noise, sharpest)
    found = without_hot_values(summary, noise, SCAN)
    np.testing.assert_array_equal(np.argwhere(found.sample.reshape(data.shape) != data), sorted(places))


def test_rays_on_a_sharp_pattern_are_spikes_and_no_regions() -> None:
    found = hs.signals.Signal1D(with_rays_on_a_pattern()[0]).anomaly_map(show_progressbar=False)
    assert found.regions == ()
    assert sorted(spike.position for spike in found.spikes) == sorted((x, y) for y, x, _ in HOT)


@pytest.mark.parametrize("kind", ["counts", "signed"])
def test_hot_values_become_no_components_and_are_counted_in_the_report(kind: str) -> None:
    data, _ = measured(kind)
    for place in HOT:
        data[place] += 400
    dec = hs.signals.Signal1D(data).decomposition_ae(architecture="pca", show_progressbar=False)
    assert dec.report.n_components == 2
    assert dec.report.used["values"] == {"hot": len(HOT)}
    assert f"{len(HOT)} hot" in str(dec.report)
    residual = dec.residual.data
    assert all(residual[place] > 300 for place in HOT)  # still there to be seen
