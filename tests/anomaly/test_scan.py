"""The scan: window sums, their z values, spikes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from hyperspy_specml.anomaly._learn import leverage_of
from hyperspy_specml.anomaly._scan import Scan, ScanModel
from hyperspy_specml.anomaly._spikes import PartialChannelSpikes, SpikeFinder
from hyperspy_specml.statistics import (
    PoissonGaussianNoise,
    PoissonNoise,
    energy_windows,
    largest_line_ratio,
    moments_of,
    principal_basis,
    signed_squares,
    spatial_sums,
)


def flat_model(level: float, n_channels: int = 61, noise=None) -> ScanModel:
    """Return a model whose only coefficient is the level, known without noise."""
    return ScanModel(np.ones((1, n_channels)), np.zeros(n_channels), noise or PoissonNoise(), 10**6)


def windows_of(n_channels: int = 61, width: float = 6.0, channels: np.ndarray | None = None):
    use = np.ones(n_channels, bool) if channels is None else channels
    return energy_windows(np.full(n_channels, width), use, factors=(1, 2))


def test_window_sums_agree_with_plain_slices():
    windows = windows_of()
    values = np.random.default_rng(0).random((7, 5, 61))

    sums = windows.sums(values, slice(3, 9))

    for j, total in zip(range(3, 9), np.moveaxis(sums, -1, 0), strict=True):
        np.testing.assert_allclose(total, values[..., windows.starts[j] : windows.stops[j]].sum(axis=-1))


def test_windows_lie_where_channels_are_in_use():
    channels = np.ones(61, bool)
    channels[20:41] = False

    windows = windows_of(channels=channels)

    used = np.flatnonzero(channels)
    for start, stop, centre, width in zip(windows.starts, windows.stops, windows.centres, windows.widths, strict=True):
        assert stop - start >= width / 2
        assert (np.abs(used[start:stop] - centre) <= width / 2 + 1).all()


@pytest.mark.parametrize("mean", [1e-4, 0.02, 0.5, 4.0, 80.0])
def test_squares_are_those_of_the_normal_deviate_of_the_mid_p_value(mean):
    law = scipy.stats.poisson(mean)
    counts = np.arange(np.ceil(mean + 8 * np.sqrt(mean) + 6))
    upper, lower = law.sf(counts) + 0.5 * law.pmf(counts), law.cdf(counts) - 0.5 * law.pmf(counts)
    exact = np.where(counts > mean, scipy.stats.norm.isf(upper), scipy.stats.norm.ppf(lower))
    strong = (np.abs(exact) > 2.2) & (np.abs(exact) < 8)  # the deviance alone is wrong by .5 at mean 4

    found = signed_squares(counts.astype(np.float32), np.full(counts.shape, mean, np.float32))

    z = np.copysign(np.sqrt(np.abs(found)), found)
    np.testing.assert_allclose(z[strong], exact[strong], atol=0.07)
    np.testing.assert_allclose(z[~strong & (counts > mean)], exact[~strong & (counts > mean)], atol=0.4)


def test_spatial_sums_are_sums_over_squares_cut_off_at_the_border():
    values = np.random.default_rng(0).random((7, 5, 3)).astype(np.float32)

    sums = spatial_sums(values, 1)

    np.testing.assert_allclose(sums[3, 2], values[2:5, 1:4].sum(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(sums[0, 4], values[:2, 3:].sum(axis=(0, 1)), rtol=1e-5)


@pytest.mark.parametrize("noise", [PoissonNoise(), PoissonGaussianNoise(3.0, 5.0, (1.0, 0.4))])
def test_single_windows_are_standard_normal_without_anomalies(noise):
    rng = np.random.default_rng(0)
    mean = np.full((40, 30, 61), 9.0)
    if noise.name == "poisson":
        values = rng.poisson(mean).astype(np.float32)
    else:
        white = rng.standard_normal((40, 30, 63))
        mixed = white[..., 1:-1] + 0.5 * (white[..., :-2] + white[..., 2:]) * 0.5
        mixed /= mixed.std()
        noise = PoissonGaussianNoise(3.0, 5.0, (1.0, 0.444, 0.056))  # of that filter
        values = (mean + np.sqrt(noise.variance(mean)) * mixed).astype(np.float32)
    windows = windows_of()
    scan = Scan(flat_model(9.0, noise=noise), windows)
    design = np.concatenate([np.full((40, 30, 1), 9.0), np.ones((40, 30, 1))], axis=2).astype(np.float32)

    for half in (0, 1):
        group = slice(0, len(windows))
        counts = spatial_sums(windows.sums(values, group).astype(np.float32), half)
        squares = scan.score(counts, spatial_sums(design, half), group)
        z = np.sign(squares) * np.sqrt(np.abs(squares))

        assert abs(z.mean()) < 0.15
        assert z.std() == pytest.approx(1, abs=0.06)


def test_noise_of_the_prediction_is_allowed_for():
    rng = np.random.default_rng(0)
    channel = np.arange(61)
    spectra = np.stack([np.exp(-((channel - c) ** 2) / 18) + 0.01 for c in (15, 40)])
    projector = np.linalg.pinv(spectra)  # (E, D)
    weights = rng.uniform(2, 20, (3000, 2))
    weights[:1500, 0] = 0  # a phase that is not there: its prediction is noise alone
    rows = rng.poisson(weights @ spectra).astype(np.float32)
    coefficients = (rows @ projector).astype(np.float32)
    model = ScanModel(spectra, np.zeros(61), PoissonNoise(), 10**6, projector)
    windows = windows_of()

    found = Scan(model, windows, radii=(0,)).strongest(rows, coefficients, np.ones(3000, bool))

    assert np.abs(found.z[:1500]).max() < 5.5
    assert np.abs(found.z[1500:]).max() < 5.5


def test_noise_that_components_have_learnt_is_allowed_for():
    rng, n_channels = np.random.default_rng(0), 61
    lines = np.exp(-0.5 * ((np.arange(n_channels) - np.array([[15], [40]])) / 8) ** 2)
    expected = rng.uniform(0.2, 1, (40, 2)) @ (200 + 600 * lines)
    windows, squares = windows_of(), {True: [], False: []}
    for _ in range(200):
        counts = rng.poisson(expected).astype(np.float32)
        axes = principal_basis(moments_of(counts), PoissonNoise(), n_vectors=2)
        scores = axes.project(counts)
        design = np.column_stack([scores, np.ones(40)]).reshape(8, 5, 3).sum(axis=1)
        sums = windows.sums(counts.reshape(8, 5, -1).sum(axis=1), slice(None))
        for learnt in squares:
            projector = axes.vectors * axes.weights[:, None]
            leverage = leverage_of(scores, 2) if learnt else None
            model = ScanModel(axes.components(), axes.offset, PoissonNoise(), 40, projector, leverage=leverage)
            mean, variance = Scan(model, windows, radii=(0,)).moments(design, slice(None))
            squares[learnt].append(((sums - mean) ** 2 / variance).mean())

    assert np.mean(squares[True]) == pytest.approx(1, abs=0.03)
    assert np.mean(squares[False]) < 0.9  # five of forty spectra are an eighth of what one axis rests on


def test_the_strongest_window_is_where_the_counts_were_planted():
    rng = np.random.default_rng(0)
    values = rng.poisson(2.0, (12, 9, 61)).astype(np.float32)
    values[5:8, 3:6, 28:34] += rng.poisson(3.0, (3, 3, 6))
    windows = windows_of()

    found = Scan(flat_model(2.0), windows).strongest(values, np.full((12, 9, 1), 2, np.float32), np.ones((12, 9), bool))

    assert np.unravel_index(found.z.argmax(), (12, 9)) == (6, 4)
    assert windows.centres[found.window[6, 4]] == pytest.approx(30.5, abs=2.5)
    assert found.radius[6, 4] == 1


@pytest.mark.parametrize("level", [0.0, -0.01])
def test_where_nothing_is_expected_the_noise_of_all_counts_there_may_be(level):
    counts, windows = np.full(61, 1.5), windows_of()
    model = ScanModel(np.ones((1, 61)), np.zeros(61), PoissonNoise(), 1000, counts=counts)
    design = np.array([[level, 1.0], [1.0, 1.0]], np.float32)

    mean, _ = Scan(model, windows).moments(design, slice(None))

    here = windows.sums(counts[None], slice(None))[0]
    np.testing.assert_allclose(mean[0], (1 + np.sqrt(here)) / 1000, rtol=1e-5)
    np.testing.assert_allclose(mean[1], here / 1.5, rtol=1e-5)  # elsewhere the model says it


@pytest.mark.parametrize("level", [0.0, -0.01])
def test_one_count_where_nothing_is_expected_is_as_strange_as_one_in_all_spectra(level):
    model = ScanModel(np.ones((1, 61)), np.zeros(61), PoissonNoise(), 1000)
    windows = windows_of()
    design = np.array([[level, 1.0]], np.float32)

    square = Scan(model, windows).score(np.ones((1, len(windows)), np.float32), design, slice(0, len(windows)))

    law = scipy.stats.poisson(1 / 1000)
    exact = scipy.stats.norm.isf(law.sf(1) + 0.5 * law.pmf(1))
    np.testing.assert_allclose(np.sqrt(square), exact, atol=0.02)


@pytest.mark.parametrize("shape", [(12, 9), (23,), (7, 5, 11)])
def test_neighbours_of_a_strong_pixel_are_scored_without_it(shape):
    rng = np.random.default_rng(1)
    values = rng.poisson(2.0, (*shape, 61)).astype(np.float32)
    strong, weak = tuple(n // 2 for n in shape), (*(n // 2 for n in shape[:-1]), shape[-1] // 2 + 1)
    values[(*strong, slice(28, 34))] += 40
    values[(*weak, slice(28, 34))] += 4
    level, used = np.full((*shape, 1), 2, np.float32), np.ones(shape, bool)
    scan = Scan(flat_model(2.0), windows_of())

    z = scan.strongest(values, level, used).z

    used[strong] = values[strong] = level[strong] = 0
    without = scan.strongest(values, level, used).z
    np.testing.assert_allclose(z[used], without[used], rtol=1e-4)
    assert np.argsort(np.abs(z).ravel())[-2:].tolist() == [
        np.ravel_multi_index(place, shape) for place in (weak, strong)
    ]


def replaced(finder, rows, coefficients, shape=None, encode=None):
    """Replace spikes of a line of pixels, or of those of a shape; the model's coefficient does not follow them."""
    encode = encode or (lambda part: np.full((len(part), 1), 0.5, np.float32))
    return finder.replace_spikes(rows, coefficients, encode, np.ones(shape or len(rows), bool))


def test_a_spike_is_distinguished_from_a_line_of_the_same_height():
    rng = np.random.default_rng(0)
    rows = rng.poisson(0.5, (50, 61)).astype(np.float32)
    rows[7, 20] += 40
    line = 40 * np.exp(-((np.arange(61) - 30) ** 2) / (2 * (6 / 2.355) ** 2))
    rows[9] += np.rint(line).astype(np.float32)
    finder = SpikeFinder(flat_model(0.5), np.full(61, 6.0), rows.size)

    row, channel, value, expected = replaced(finder, rows, np.full((50, 1), 0.5, np.float32))

    assert (row.tolist(), channel.tolist()) == ([7], [20])
    assert value >= 40
    np.testing.assert_allclose(expected, 0.5)
    assert not len(finder.find(rows[:0], np.zeros((0, 1), np.float32)).row)


def test_a_strong_spike_makes_no_others():
    """It draws the model to itself, so that other channels seem far too high or too low beside it."""
    up, ripple = np.linspace(0.5, 1.5, 61), np.cos(np.pi * np.arange(61))
    vectors = np.linalg.qr(np.stack([up, ripple]).T)[0]
    model = ScanModel(vectors.T, np.zeros(61), PoissonNoise(), 10**6, vectors)
    truth = np.tile(40 * up, (5, 1))
    rows = np.random.default_rng(0).poisson(truth).astype(np.float32)
    before = rows.copy()
    rows[2, 55] += 9000
    rows[2, 20] += 300
    finder = SpikeFinder(model, np.full(61, 6.0), rows.size)
    coefficients = rows @ vectors.astype(np.float32)
    assert len(finder.find(rows, coefficients).row) > 2

    row, channel, value, expected = replaced(finder, rows, coefficients, encode=lambda part: part @ vectors)

    assert sorted(zip(row.tolist(), channel.tolist(), strict=True)) == [(2, 20), (2, 55)]
    np.testing.assert_array_equal(np.sort(value), np.sort(before[2, [20, 55]] + [300, 9000]))
    np.testing.assert_allclose(expected, truth[row, channel], rtol=0.15)
    np.testing.assert_array_equal(np.delete(rows[2], [20, 55]), np.delete(before[2], [20, 55]))
    np.testing.assert_allclose(coefficients[2], before[2] @ vectors, atol=10)  # counts; noise is 6


def peak(at, height):
    return height * np.exp(-((np.arange(61) - at) ** 2) / (2 * (6 / 2.355) ** 2))


@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_spikes_of_several_channels_are_replaced_in_all_of_them(width):
    rows = np.random.default_rng(0).poisson(0.5, (35, 61)).astype(np.float32)
    ray = slice(20, 20 + width)
    rows[17, ray] += 60 + 200 * np.hanning(width + 2)[1:-1]
    before = rows.copy()

    row, channel, value, expected = replaced(
        SpikeFinder(flat_model(0.5), np.full(61, 12.0), rows.size), rows, np.full((35, 1), 0.5, np.float32), (5, 7)
    )

    assert row.tolist() == [17] * width
    assert channel.tolist() == list(range(20, 20 + width))
    np.testing.assert_array_equal(value, before[17, ray])
    np.testing.assert_allclose(rows[17, ray], 0.5)
    np.testing.assert_allclose(expected, 0.5)


@pytest.mark.parametrize("beside", [(0, 1), (1, 0), (1, 1), (-1, 1)])
@pytest.mark.parametrize("height", [1.0, 0.4])
def test_what_a_neighbouring_pixel_shows_too_is_no_spike(beside, height):
    rows = np.random.default_rng(0).poisson(0.5, (5, 7, 61)).astype(np.float32)
    rows[2, 3, 20:22] += 100
    rows[2 + beside[0], 3 + beside[1], 20:22] += height * 100
    rows[0, 0, 50] += 100
    flat = rows.reshape(35, 61)

    row, channel, *_ = replaced(
        SpikeFinder(flat_model(0.5), np.full(61, 12.0), flat.size), flat, np.full((35, 1), 0.5, np.float32), (5, 7)
    )

    assert (row.tolist(), channel.tolist()) == ([0], [50])


def test_a_wide_spike_is_distinguished_from_a_sharp_line_of_one_pixel():
    """A line has its flanks; nine channels with edges have none."""
    rows = np.random.default_rng(0).poisson(0.5, (35, 61)).astype(np.float32)
    rows[17] += np.random.default_rng(1).poisson(300 * np.exp(-0.5 * ((np.arange(61) - 30) / (12 / 2.3548)) ** 2))

    row, *_ = replaced(
        SpikeFinder(flat_model(0.5), np.full(61, 12.0), rows.size), rows, np.full((35, 1), 0.5, np.float32), (5, 7)
    )

    assert not len(row)


@pytest.mark.parametrize("at", [0, 1, 60])
def test_a_line_at_the_end_of_the_axis_is_no_spike(at):
    rows = np.rint(np.random.default_rng(0).poisson(0.5, (50, 61)) + peak(at, 200)).astype(np.float32)
    finder = SpikeFinder(flat_model(0.5), np.full(61, 6.0), rows.size)

    runs = finder.find(rows, np.full((50, 1), 0.5, np.float32))

    assert not len(runs.row)


def test_spikes_in_partly_covered_channels_need_no_model():
    by, n = np.array([6, -5, 0, -2]), 61
    # Falling, with lines at both ends, and a first channel that is far above the second one.
    truth = 900 * np.exp(-np.arange(n) / 10) + peak(1, 3000) + peak(58, 300) + 9000 * (np.arange(n) == 0)
    lines = np.repeat(np.arange(len(by)), 100)
    before = np.random.default_rng(0).poisson(truth, (len(lines), n))
    mean = before.mean(axis=0)
    spikes = [(17, 6, 2500), (117, 52, 300), (250, 60, 400), (330, 0, 9000)]
    for row, channel, height in (*spikes, (230, 30, 300)):  # in the middle a model looks
        before[row, channel] += height
    rows, common = np.zeros_like(before), np.zeros(n, bool)
    for row, line in enumerate(lines):
        at = np.arange(n) - by[line]
        inside = (at >= 0) & (at < n)
        rows[row, at[inside]] = before[row, inside]
    common[5:55] = True
    finder = PartialChannelSpikes(PoissonNoise(), np.full(n, 6.0), by, np.ones(n, bool), mean, common, rows.size)

    row, channel, expected = finder.find(rows, lines)

    original = channel + by[lines[row]]
    assert list(zip(row.tolist(), original.tolist(), strict=True)) == [spike[:2] for spike in spikes]
    assert (expected >= 0.8 * truth[original]).all()
    assert (expected < rows[row, channel]).all()


@pytest.mark.parametrize(("below", "above"), [(3, 3), (0, 3), (2, 1), (3, 0)])
def test_neighbours_allow_for_the_most_counts_of_a_line_beside_the_channel(below, above):
    law, shares = scipy.stats.norm(0, 6 / 2.3548), []
    for centre in range(-below, above + 1):
        part = {k: law.cdf(k + 0.5 - centre) - law.cdf(k - 0.5 - centre) for k in range(-below, above + 1)}
        shares.append(part[0] / (sum(part.values()) - part[0]))

    most = largest_line_ratio(np.array([6.0, 4.0]), np.array([below, 3]), np.array([above, 3]))
    three = largest_line_ratio(np.array([6.0]), np.array([3]), np.array([3]), np.array([3]))

    assert most[0] == pytest.approx(max(shares), rel=1e-4)
    assert most[1] != pytest.approx(most[0], rel=1e-2)
    inside, whole = (law.cdf(reach) - law.cdf(-reach) for reach in (1.5, 4.5))
    assert three[0] == pytest.approx(inside / (whole - inside), rel=1e-4)
