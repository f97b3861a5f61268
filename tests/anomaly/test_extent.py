"""Regions have the extent of what was planted, and pixels their own score."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hyperspy_specml.anomaly import Search, find_anomalies
from hyperspy_specml.anomaly._extent import NearPixels, replace_values
from hyperspy_specml.anomaly._significance import equivalent_z, label_regions, significant_log_p
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise
from hyperspy_specml.streaming import SpectrumStream

SHAPE, N_CHANNELS, WIDTH = (35, 33), 96, 6.0
pytestmark = pytest.mark.usefixtures("few_drawn_pixels")
LINE_WIDTH = np.full(N_CHANNELS, WIDTH)


def line(at, width=WIDTH):
    """Return a line of one count with this full width at half maximum."""
    shape = np.exp(-0.5 * ((np.arange(N_CHANNELS) - at) / (width / 2.3548)) ** 2)
    return shape / shape.sum()


def ordinary():
    """Expected counts, some 90 of a pixel, of two mixed phases."""
    rows, columns = np.indices(SHAPE)
    part = (0.5 + 0.4 * np.sin(rows / 5) * np.cos(columns / 4))[..., None]
    return 70 * (part * line(20) + (1 - part) * line(36)) + 0.2


def planted(form):
    """Return the 24 pixels of a piece, of blocks of 2 x 2, or of lines one pixel wide, one of them diagonal."""
    inside = np.zeros(SHAPE, bool)
    if form == "piece":
        inside[12:16, 9:15] = True
    elif form == "blocks":
        for y, x in ((4, 5), (4, 22), (13, 13), (20, 27), (26, 6), (29, 19)):
            inside[y : y + 2, x : x + 2] = True
    else:
        inside[7, 10:22] = True
        inside[np.arange(18, 30), np.arange(12, 24)] = True
    return inside


def search(counts):
    """Search with the two phases of the map; in so few pixels 24 scattered ones would be learnt as a third."""
    return find_anomalies(SpectrumStream(counts), Search(fdr=0.05, n_components=2), line_width=LINE_WIDTH)


def average_precision(score, truth):
    hits = truth.ravel()[np.argsort(-score.ravel(), kind="stable")]
    return (np.cumsum(hits) / np.arange(1, hits.size + 1))[hits].mean()


@pytest.mark.parametrize(("form", "n_regions"), [("piece", 1), ("blocks", 6), ("lines", 2)])
def test_planted_phases_are_found_with_their_extent(form, n_regions):
    """Before, blocks lost pixels and lines were three pixels wide: intersection over union .3 to .6."""
    expected, truth = ordinary(), planted(form)
    expected[truth] += 40 * line(66)

    found = search(np.random.default_rng(3).poisson(expected).astype(np.uint16))

    inside, score = found.labels > 0, found.scores.score.reshape(SHAPE)
    assert (inside & truth).sum() / (inside | truth).sum() >= 0.9
    assert average_precision(score, truth) >= 0.97
    assert len(found.regions) == n_regions
    assert sum(region.excess for region in found.regions) == pytest.approx(24 * 40, rel=0.1)
    for region in found.regions:
        assert region.energy == pytest.approx(66, abs=1.1)


def test_a_core_grows_to_the_whole_of_a_weaker_halo():
    """A feature of 25 pixels was reported as its brightest one, because neighbours are weaker than 0.6 of it."""
    expected, truth = ordinary(), np.zeros(SHAPE, bool)
    truth[14:19, 10:15] = True
    expected[truth] += 25 * line(66)
    expected[16, 12] += 300 * line(66)

    (region,) = search(np.random.default_rng(3).poisson(expected).astype(np.uint16)).regions

    assert set(region.pixels.tolist()) >= set(np.flatnonzero(truth).tolist())
    assert len(region.pixels) <= 27
    assert region.excess == pytest.approx(25 * 25 + 300, rel=0.1)


@pytest.mark.parametrize("seed", [4, 6])
def test_no_region_of_the_scan_is_lost_beside_a_stronger_one_of_the_same_spectrum(seed):
    """The line is too faint to be seen in single pixels of the second area, but squares of pixels show it."""
    expected = ordinary()
    expected[5:9, 6:11] += 40 * line(66)
    expected[20:30, 18:28] += 7 * line(66)

    found = search(np.random.default_rng(seed).poisson(expected).astype(np.uint16))

    score = found.scanned.score.reshape(SHAPE)
    log_p = significant_log_p(found.scanned.log_p.reshape(SHAPE), fdr=0.05, reach=found.scanned.reach)
    scanned, n = label_regions(score, float(equivalent_z(np.array(log_p))), found.scanned.reach)
    assert n >= 3
    assert all((found.labels[scanned == k] > 0).any() for k in range(1, n + 1))


def test_touching_regions_with_different_spectra_are_not_merged():
    expected = ordinary()
    expected[10:13, 8:11] += 40 * line(66)
    expected[10:13, 11:14] += 40 * line(84)

    found = search(np.random.default_rng(3).poisson(expected).astype(np.uint16))

    assert len(found.regions) == 2
    energies = {round(region.energy): np.unravel_index(region.pixels, SHAPE)[1] for region in found.regions}
    assert sorted(energies) == [66, 84]
    assert set(energies[66]) == {8, 9, 10}
    assert set(energies[84]) == {11, 12, 13}


def test_score_p_value_and_regions_agree():
    expected, truth = ordinary(), planted("blocks")
    expected[truth] += 40 * line(66)

    found = search(np.random.default_rng(3).poisson(expected).astype(np.uint16))

    scores, inside = found.scores, found.labels.ravel() > 0
    np.testing.assert_allclose(norm.isf(np.exp(scores.log_p[inside])), scores.score[inside], rtol=1e-6)
    assert np.exp(scores.log_p[inside]).max() < 0.01
    least = min(scores.score[region.pixels].max() for region in found.regions)
    assert scores.score[~inside].max() < least
    for region in found.regions:
        assert region.log_p == scores.log_p[region.pixels].min()


def test_pixels_around_a_region_have_p_values_of_their_own():
    """They had those of the search for the region's border, 1 nearly everywhere: a frame of low scores."""
    expected = ordinary()
    expected[10:14, 8:12] += 60 * line(66)

    found = search(np.random.default_rng(3).poisson(expected).astype(np.uint16))

    beside = np.zeros(found.labels.shape, bool)
    beside[6:18, 4:16] = True
    beside[9:15, 7:13] = False
    p = np.exp(found.scores.log_p.reshape(beside.shape)[beside])
    assert (p > 0.95).mean() < 0.2
    assert np.median(p) == pytest.approx(0.5, abs=0.2)


def test_a_spike_is_in_no_number_of_a_region():
    """A ray in a pixel of a region, which the scan takes out, named the region: its sum was of raw spectra."""
    expected = ordinary()
    expected[10:14, 8:12] += 60 * line(66)
    counts = np.random.default_rng(3).poisson(expected).astype(np.uint16)
    (clean,) = search(counts).regions
    hit = counts.copy()
    hit[12, 10, 45] += 3000

    found = search(hit)

    (region,) = found.regions
    assert found.spikes[:, 1].tolist() == [45]
    assert region.energy == pytest.approx(clean.energy, abs=1.1)
    assert region.excess == pytest.approx(clean.excess, rel=0.05)
    assert region.spectrum[45] < 2
    # One faint pixel of the border more or less, of sixteen.
    np.testing.assert_allclose(np.delete(region.spectrum, 45), np.delete(clean.spectrum, 45), rtol=0.1, atol=0.3)


@pytest.mark.parametrize("noise", [PoissonNoise(), PoissonGaussianNoise(0.0, 2.0, (1.0, 0.3)), "skewed"])
def test_filtered_ordinary_pixels_are_standard_normal_and_members_are_not(noise):
    rng, n = np.random.default_rng(0), 3000
    mean = np.full((n, N_CHANNELS), 0.02 if noise == "skewed" else 3.0)
    noise, discrete = (PoissonNoise(), True) if noise == "skewed" else (noise, False)
    members = np.arange(n) < 6
    extra = np.where(members[:, None], 60 * line(50), 0)
    if noise.name == "poisson":
        rows = rng.poisson(mean + extra).astype(np.float64)
    else:
        white = rng.standard_normal((n, N_CHANNELS + 1))
        a = (1 - np.sqrt(1 - 4 * 0.3**2)) / (2 * 0.3)  # a moving average with a correlation of .3
        rows = mean + extra + 2.0 * (white[:, 1:] + a * white[:, :-1]) / np.sqrt(1 + a**2)
    near = NearPixels(np.arange(n), rows, rows - mean, noise.variance(mean), 1.2, noise)

    z = near.scores(members)

    for p in (0.1, 0.01):
        fraction = (z[~members] > norm.isf(p)).mean()
        assert fraction < 1.4 * p
        assert fraction > 0.6 * p or discrete  # of sums that are mostly 0 few have a p-value near this one
    assert z[members].min() > 5
    alone = near.scores(np.arange(n) == 0)
    assert np.isnan(alone[0])
    assert np.isfinite(alone[1:]).all()


def test_a_pixel_does_not_contribute_to_its_own_filter():
    rng = np.random.default_rng(0)
    mean = np.full((400, N_CHANNELS), 3.0)
    rows = rng.poisson(mean).astype(np.float64)
    near = NearPixels(np.arange(400), rows, rows - mean, mean, 1.2, PoissonNoise())

    z = near.scores(np.arange(400) < 4)  # four pixels of noise have nothing in common

    assert np.abs(z[:4]).max() < 4


def test_spikes_are_replaced_in_the_channels_in_use():
    rows, channels = np.ones((3, 4)), np.array([True, False, True, True, True])
    spikes = np.array([[7, 3, 90, 0.5], [7, 1, 90, 0.5], [9, 4, 80, 0.25], [8, 0, 70, 0.1]])

    replace_values(rows, np.array([2, 7, 9]), spikes, channels)

    np.testing.assert_array_equal(rows, [[1, 1, 1, 1], [1, 1, 0.5, 1], [1, 1, 1, 0.25]])
