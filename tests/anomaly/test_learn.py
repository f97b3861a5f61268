"""What is rare does not become part of the reference model, though there is a component to spare for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from hyperspy_specml.anomaly import _score
from hyperspy_specml.anomaly._learn import LearningTask, learn_reference
from hyperspy_specml.anomaly._scan import Scan, ShiftScan
from hyperspy_specml.anomaly._score import draw_null, scan_rows
from hyperspy_specml.anomaly._setup import PatchSums
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import PoissonNoise, energy_windows

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
    patches = PatchSums(counts, np.broadcast_to(n_pixels, GRID), SIDE)
    task = LearningTask(PoissonNoise(), windows, np.full(N_CHANNELS, 6.0), n_components=n_components)
    return learn_reference(patches, task, Run())


def fraction_described(learnt, spectrum: np.ndarray) -> float:
    basis = learnt.reference.basis
    rest = spectrum - basis.spectra(basis.project(spectrum[None]))[0]
    return 1 - np.linalg.norm(rest * basis.weights) / np.linalg.norm(spectrum * basis.weights)


@pytest.mark.parametrize("n_components", [5, 6, 8])
def test_a_phase_of_one_place_is_not_learnt(n_components):
    expected = grains(4)
    rare = line(78)
    for patch, fraction in {(7, 5): 1.0, (7, 6): 0.6, (8, 5): 0.4, (8, 6): 1 / 9}.items():
        expected[patch] = (1 - fraction) * expected[patch] + fraction * SIDE**2 * rare

    learnt = learn(expected, n_components)

    assert fraction_described(learnt, rare) < 0.2
    assert fraction_described(learnt, line(24)) > 0.9
    assert learnt.n_left_out == 4


@pytest.mark.parametrize("n_components", [None, 4, 8])
def test_nothing_is_left_out_where_nothing_is_rare(n_components):
    learnt = learn(grains(4), n_components)

    assert learnt.n_left_out <= 1
    assert fraction_described(learnt, line(8)) > 0.9


def test_the_leverages_of_all_pixels_add_up_to_the_number_of_components():
    expected = grains(4)

    learnt = learn(expected, 4)

    reference = learnt.reference
    pixels = reference.coefficients(expected.reshape(-1, N_CHANNELS) / SIDE**2)
    taken = np.square(pixels @ reference.leverage).sum(axis=1)  # of each pixel, SIDE**2 of a patch
    assert SIDE**2 * taken.sum() == pytest.approx(4, rel=0.02)


def test_drawn_maps_contain_neither_errors_of_the_model_nor_noise_that_it_learnt():
    learnt = learn(grains(4), 4)
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    reference = learnt.reference
    model = reference.scan_model()
    maps = reference.coefficients(grains(4).reshape(-1, N_CHANNELS) / SIDE**2).reshape(*GRID, -1)
    everywhere = np.ones(GRID, bool)
    error = np.full(len(windows), 0.1, np.float32)

    with_both, without = (
        draw_null(scan, reference, maps, everywhere, run=Run())[0]
        for scan in (
            Scan(replace(model, leverage=3 * model.leverage), windows, model_error=error),
            Scan(replace(model, leverage=None), windows),
        )
    )

    np.testing.assert_array_equal(with_both.shift, without.shift)
    assert with_both.slope == without.slope


def test_drawn_maps_contain_no_ordinary_shifts():
    learnt = learn(grains(4), 4)
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    reference = learnt.reference
    scan = Scan(reference.scan_model(), windows)
    maps = reference.coefficients(grains(4).reshape(-1, N_CHANNELS) / SIDE**2).reshape(*GRID, -1)
    everywhere = np.ones(GRID, bool)
    shift = ShiftScan.of(reference.scan_model(), grains(4).mean(axis=(0, 1)) / SIDE**2, 2.0)

    (_, none), (_, one), (_, other) = (
        draw_null(scan, replace(reference, shift_scan=given), maps, everywhere, run=Run())
        for given in (None, shift, replace(shift, model_error=5.0))
    )

    assert none is None
    np.testing.assert_array_equal(one.shift, other.shift)
    three_sizes = np.log(-np.log1p(-np.exp(one.log_p(np.array([3.0]), one.expected[:1]))))
    one_size = np.log(2 * scipy.stats.norm.sf(3.0))
    assert 0 < three_sizes - one_size < np.log(4)  # more likely than of one square, less than of three, and noise


@pytest.mark.parametrize("shape", [(5,), (3, 7)])
def test_maps_of_few_pixels_are_drawn_in_few_pieces(monkeypatch, shape):
    """Thousands of maxima are needed whatever the size of the map; one by one, five spectra took 46 s."""
    learnt, pieces = learn(grains(4), 4), []
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    maps = np.ones((*shape, 4), np.float32)
    draw = _score._draw_and_scan
    monkeypatch.setattr(_score, "_draw_and_scan", lambda *parts: pieces.append(parts[-2].sum()) or draw(*parts))

    null, _ = draw_null(
        Scan(learnt.reference.scan_model(), windows), learnt.reference, maps, np.ones(shape, bool), run=Run()
    )

    assert len(pieces) <= 3
    assert null.n == sum(pieces) >= 4000


def test_copies_of_a_small_map_do_not_see_each_other():
    reference, used = learn(grains(4), 4).reference, np.random.default_rng(2).random((3, 5)) < 0.8
    windows = energy_windows(np.full(N_CHANNELS, 6.0), np.ones(N_CHANNELS, bool), factors=(1.0,))
    scan = Scan(reference.scan_model(), windows)
    values = np.random.default_rng(3).poisson(30 * used[..., None], (3, 5, N_CHANNELS)).astype(np.float32)
    values[0] += 9 * used[0, :, None]

    alone, several = (
        scan_rows(scan, None, some[inside], reference.coefficients(some[inside]), inside)
        for some, inside in ((values, used), (_score._repeated(values, 4, 2), _score._repeated(used, 4, 2)))
    )

    for k in range(4):
        np.testing.assert_allclose(several[5 * k : 5 * k + 3], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n_lines", "described"), [(1, True), (0, False)])
def test_the_last_scan_line_is_learnt_though_its_patches_are_cut_off(n_lines, described):
    n_pixels = np.full(GRID, SIDE**2)
    n_pixels[-1] = n_lines * SIDE
    expected = grains(4)
    expected[-1] = n_pixels[-1][:, None] * line(78)

    learnt = learn(expected, None, n_pixels)

    assert (fraction_described(learnt, line(78)) > 0.9) == described
