"""What is rare does not become part of the normal, though there is a component to spare for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from hyperspy_specml.anomaly import Scan, ShiftScan, energy_windows, learn_normal
from hyperspy_specml.anomaly._calibrate import calibrate
from hyperspy_specml.statistics import PoissonNoise

GRID, N_CHANNELS, SIDE = (23, 20), 90, 3
ENERGY = np.arange(N_CHANNELS)


def line(channel: float) -> np.ndarray:
    """Return a line above a background, 1000 counts of a pixel."""
    spectrum = 0.02 + np.exp(-0.5 * ((ENERGY - channel) / 2.5) ** 2)
    return 1000 * spectrum / spectrum.sum()


def grains(n_phases: int) -> np.ndarray:
    """Return expected counts of patches, each of a single phase: they lie far from each other."""
    phases = np.array([line(8 + 16 * k) for k in range(n_phases)])
    centres = np.random.default_rng(0).uniform(0, GRID[0], (6 * n_phases, 2))
    distance = ((np.indices(GRID)[:, None] - centres.T[..., None, None]) ** 2).sum(axis=0)
    return SIDE**2 * phases[distance.argmin(axis=0) % n_phases]


def learn(expected: np.ndarray, n_components: int | None, n_pixels: np.ndarray | int = SIDE**2):
    counts = np.random.default_rng(1).poisson(expected).astype(np.float32)
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0, 2.0))
    n_pixels = np.broadcast_to(n_pixels, GRID)
    return learn_normal(counts, n_pixels, PoissonNoise(), windows, side=SIDE, n_components=n_components)


def share_described(normal, spectrum: np.ndarray) -> float:
    axes = normal.model.basis
    rest = spectrum - axes.spectra(axes.project(spectrum[None]))[0]
    return 1 - np.linalg.norm(rest * axes.weights) / np.linalg.norm(spectrum * axes.weights)


@pytest.mark.parametrize("n_components", [5, 6, 8])
def test_a_place_that_alone_has_a_phase_does_not_teach_it(n_components):
    expected = grains(4)
    rare = line(78)
    for patch, share in {(7, 5): 1.0, (7, 6): 0.6, (8, 5): 0.4, (8, 6): 1 / 9}.items():
        expected[patch] = (1 - share) * expected[patch] + share * SIDE**2 * rare

    normal = learn(expected, n_components)

    assert share_described(normal, rare) < 0.2
    assert share_described(normal, line(24)) > 0.9
    assert normal.trimmed == 4


@pytest.mark.parametrize("n_components", [None, 4, 8])
def test_nothing_is_left_out_where_nothing_is_rare(n_components):
    normal = learn(grains(4), n_components)

    assert normal.trimmed <= 1
    assert share_described(normal, line(8)) > 0.9


def test_all_pixels_together_have_put_as_much_noise_into_the_axes_as_there_are():
    expected = grains(4)

    normal = learn(expected, 4)

    pixels = normal.coefficients(expected.reshape(-1, N_CHANNELS) / SIDE**2)
    taken = np.square(pixels @ normal.leverage).sum(axis=1)  # of each pixel, SIDE**2 of a patch
    assert SIDE**2 * taken.sum() == pytest.approx(4, rel=0.02)


def test_drawn_maps_have_neither_the_errors_of_the_model_nor_noise_that_it_learnt():
    normal = learn(grains(4), 4)
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    model = normal.scan_model()
    maps = normal.coefficients(grains(4).reshape(-1, N_CHANNELS) / SIDE**2)
    everywhere = np.ones(len(maps), bool)
    misfit = np.full(len(windows), 0.1, np.float32)

    with_both, without = (
        calibrate(scan, normal, maps, everywhere, GRID, seed=0)[0]
        for scan in (
            Scan(replace(model, leverage=3 * model.leverage), windows, misfit=misfit),
            Scan(replace(model, leverage=None), windows),
        )
    )

    np.testing.assert_array_equal(with_both.shift, without.shift)
    assert with_both.slope == without.slope


def test_drawn_maps_are_looked_at_for_shifts_without_the_error_of_these():
    normal = learn(grains(4), 4)
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    scan = Scan(normal.scan_model(), windows)
    maps = normal.coefficients(grains(4).reshape(-1, N_CHANNELS) / SIDE**2)
    everywhere = np.ones(len(maps), bool)
    shift = ShiftScan.of(normal.scan_model(), grains(4).mean(axis=(0, 1)) / SIDE**2, 2.0)

    (_, none), (_, one), (_, other) = (
        calibrate(scan, replace(normal, shift=given), maps, everywhere, GRID, seed=0)
        for given in (None, shift, replace(shift, misfit=5.0))
    )

    assert none is None
    np.testing.assert_array_equal(one.shift, other.shift)
    three_sizes = np.log(-np.log1p(-np.exp(one.log_p(np.array([3.0]), one.dose[:1]))))
    one_size = np.log(2 * scipy.stats.norm.sf(3.0))
    assert (
        0 < three_sizes - one_size < np.log(4)
    )  # more likely than of one square, less than of three, and noise


@pytest.mark.parametrize(("n_lines", "learnt"), [(1, True), (0, False)])
def test_the_last_scan_line_is_learnt_though_its_patches_are_cut_off(n_lines, learnt):
    n_pixels = np.full(GRID, SIDE**2)
    n_pixels[-1] = n_lines * SIDE
    expected = grains(4)
    expected[-1] = n_pixels[-1][:, None] * line(78)

    normal = learn(expected, None, n_pixels)

    assert (share_described(normal, line(78)) > 0.9) == learnt
