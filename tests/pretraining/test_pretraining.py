"""Grids, simulators, heads and the encoder on arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.nn import MaskedAutoencoder, adapt, products, with_products
from hyperspy_specml.pretraining import (
    Blend,
    EdgePhysics,
    Features,
    Head,
    Inputs,
    Instruments,
    LatentDensity,
    LibraryPhysics,
    Mixtures,
    PatchShape,
    Readout,
    Scale,
    Source,
    SpectralGrid,
    SpectrumEncoder,
    Task,
    Tuned,
    Unlabelled,
    XrayPhysics,
    blend_shares,
    contest,
    train_encoder,
    tune,
)
from hyperspy_specml.pretraining import fit_head as fit
from hyperspy_specml.pretraining._heads import discriminant
from hyperspy_specml.progress import Progress
from hyperspy_specml.run import Run, TrainConfig

SHAPE = PatchShape(patch=8, width=16, depth=1, heads=2)


def line(centres: np.ndarray, at: float, sigma: float = 3.0) -> np.ndarray:
    return np.exp(-0.5 * ((centres - at) / sigma) ** 2)


@pytest.mark.parametrize(("first", "step", "size"), [(0, 1, 64), (0.3, 0.5, 128), (-1, 1.7, 40), (63, -1, 64)])
def test_counts_are_kept_where_the_grid_covers_them(first: float, step: float, size: int) -> None:
    centres = first + step * np.arange(size)
    grid = SpectralGrid("eV", -5.0, 0.9, 100)
    rows = np.abs(line(centres, 30.0))[None] * abs(step)
    laid = rows @ grid.matrix(centres)
    assert laid.sum() == pytest.approx(rows.sum(), rel=1e-5)
    assert laid[0] @ grid.centres / laid.sum() == pytest.approx(30.0, abs=0.1)


def test_the_same_channels_stay_as_they_are() -> None:
    grid = SpectralGrid("eV", 2.0, 0.5, 20)
    assert grid.matrix(grid.centres).toarray() == pytest.approx(np.eye(20))
    assert grid.covered(grid.centres[:9], 8).tolist() == [True, False, False]


def test_spectra_on_another_grid_have_the_same_latents() -> None:
    torch.manual_seed(0)
    grid = SpectralGrid("eV", 0.0, 1.0, 128)
    values = np.sqrt(np.stack([0.2 + line(grid.centres, at) for at in (30.0, 40.0, 60.0)]))
    encoder = SpectrumEncoder(SHAPE.network(), SHAPE, (grid,), (Scale.of(values),))
    own = encoder.encode(1000 * line(grid.centres, 40.0)[None], "eV", grid.centres)
    for first, step, size in ((0.25, 0.5, 255), (-3.0, 1.3, 102), (0.0, 1.0, 120)):
        centres = first + step * np.arange(size)
        other = encoder.encode(1000 * step * line(centres, 40.0)[None], "eV", centres)
        cosine = (own * other).sum() / np.linalg.norm(own) / np.linalg.norm(other)
        assert cosine > 0.95


def test_xray_spectra_show_the_lines_of_their_composition() -> None:
    grid = SpectralGrid("eV", 0.0, 10.0, 400)
    lines = np.array([[0, 1000.0, 1.0], [1, 2000.0, 1.0], [1, 2300.0, 0.1]])
    physics = XrayPhysics(grid, ("A", "B"), lines, np.array([0, 1, 1]))
    counts, truth = physics.draw(400, np.random.default_rng(0))
    assert counts.shape == (400, 400)
    assert truth.shape == (400, physics.n_parameters)
    assert physics.n_composition == len(physics.elements)
    share = (truth[:, 0] / 3 + 0.2) ** 2
    window = counts[:, 85:115].sum(axis=1) / counts.sum(axis=1)
    assert np.corrcoef(share, window)[0, 1] > 0.85
    assert (counts == np.floor(counts)).all()


def test_xray_lines_are_as_wide_as_detectors_make_them() -> None:
    grid = SpectralGrid("eV", 0.0, 5.0, 2400)
    lines = np.array([[0, 1000.0, 1.0], [1, 5898.7, 1.0], [2, 8000.0, 1.0]])
    physics = XrayPhysics(grid, ("A", "B", "C"), lines, np.array([0, 1, 2]))
    # Full widths at half maximum that exspy gives for 135 eV at Mn Ka.
    for found, energy, expected in zip(physics.pure(), lines[:, 1], (77.3, 135.0, 153.2), strict=False):
        around = np.abs(grid.centres - energy) < 150
        within = np.interp(grid.centres, grid.centres[~around], found[~around])  # the background
        peak = (found - within)[around]
        full = 5.0 * (peak > peak.max() / 2).sum()  # eV
        assert full == pytest.approx(expected, abs=10.0)


def test_library_spectra_are_mixed_in_known_shares() -> None:
    grid = SpectralGrid("eV", 0.0, 1.0, 60)
    physics = LibraryPhysics(grid, np.stack([line(grid.centres, 20.0), line(grid.centres, 40.0)]), doses=(1e5, 1e5 + 1))
    counts, truth = physics.draw(200, np.random.default_rng(0))
    left = counts[:, :30].sum(axis=1) / counts.sum(axis=1)
    assert abs(np.corrcoef(left, truth[:, 0])[0, 1]) > 0.99
    middle = counts @ grid.centres / counts.sum(axis=1) - (40 - 20 * left)
    assert np.corrcoef(middle, truth[:, -1])[0, 1] > 0.9
    assert np.abs(middle).max() == pytest.approx(0.03 * 60, rel=0.15)
    assert np.abs(truth[:, -1]).max() == pytest.approx(np.sqrt(3), rel=0.1)
    many = LibraryPhysics(grid, np.eye(60)[[8, 16, 24, 32, 40, 48]], doses=(1e4, 1e4 + 1))
    counts, truth = many.draw(2000, np.random.default_rng(0))
    within = counts.reshape(2000, -1)[:, 4:52].reshape(2000, 6, 8).sum(axis=2)  # about where each of the lines is
    assert (within.max(axis=1) / counts.sum(axis=1) > 0.95).mean() > 0.1  # of single spectra, too
    assert truth.shape == (2000, many.n_parameters)
    assert truth.std(axis=0) == pytest.approx(1, abs=0.25)


def test_a_library_of_xray_spectra_is_of_few_counts_and_of_a_calibrated_detector() -> None:
    grid = SpectralGrid("eV", 0.0, 5.0, 400)
    physics = LibraryPhysics.of_xrays(grid, np.stack([line(grid.centres, at, 30.0) for at in (600.0, 600.0)]))
    counts, truth = physics.draw(2000, np.random.default_rng(0))
    assert 20 < np.median(counts.sum(axis=1)) < 3000
    many = counts.sum(axis=1) > 500
    moved = (counts @ grid.centres / counts.sum(axis=1))[many] - 600
    assert moved.std() == pytest.approx(15, rel=0.1)  # eV
    assert np.corrcoef(moved, truth[many, -1])[0, 1] > 0.9


def test_only_what_counts_tell_is_asked_for() -> None:
    grid = SpectralGrid("eV", 0.0, 1.0, 60)
    first, second = line(grid.centres, 20.0), line(grid.centres, 40.0)
    alike = np.stack([first, first * (1 + 1e-4 * grid.centres), second])
    for dose, told in ((1e3, 0.0), (1e11, 1.0)):
        physics = LibraryPhysics(grid, alike, doses=(dose, dose + 1))
        _, truth = physics.draw(500, np.random.default_rng(0))
        assert truth[:, :2].std(axis=0) == pytest.approx([1, told], abs=0.35)


def test_a_head_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((50, 5))
    weights = rng.standard_normal(5)
    truth = features @ weights + 3
    head = fit(features, truth, n_classes=0, kernel=False)
    assert head.weights[:, 0] == pytest.approx(weights, abs=1e-2)
    assert head(features)[:, 0] == pytest.approx(truth, abs=0.05)
    curved = fit(features[:, :1], np.sin(2 * features[:, 0]), n_classes=0, kernel=True)
    error = curved(features[:, :1])[:, 0] - np.sin(2 * features[:, 0])
    assert np.square(error).mean() < 0.05


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_head_tells_classes_apart(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) % n_classes
    features = 4 * np.eye(n_classes)[truth] + rng.standard_normal((60, n_classes))
    head = fit(features, truth, n_classes=n_classes, kernel=False)
    assert (head(features).argmax(axis=1) == truth).mean() > 0.9


def test_of_few_labels_a_discriminant_makes_more_than_logistic_regression() -> None:
    """Classes of one width: with the width known, the nearest mean is the best there is."""
    right: dict[str, list[float]] = {"head": [], "logistic": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = np.concatenate([np.repeat(np.arange(6), 5), rng.integers(0, 6, 600)])
        width = np.array([1.0, 1.0, 4.0, 4.0, 4.0, 4.0])
        values = 2.5 * rng.standard_normal((6, 6))[truth] + width * rng.standard_normal((630, 6))
        known, others = slice(0, 30), slice(30, None)
        head = fit(values[known], truth[known], n_classes=6, kernel=False)
        model = LogisticRegression(C=0.1).fit(values[known], truth[known])
        for name, found in (("head", head(values)), ("logistic", model.decision_function(values))):
            right[name].append(float((found.argmax(axis=1) == truth)[others].mean()))
    assert np.mean(right["head"]) > np.mean(right["logistic"]) + 0.02


def test_a_discriminant_of_many_channels_is_that_of_their_sums() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 8)
    features = rng.standard_normal((24, 700)) + np.where(np.arange(700) // 100 == truth[:, None], 0.2, 0.0)
    head = discriminant(features, truth, 3)
    sums = np.pad(features, ((0, 0), (0, 2))).reshape(24, 234, 3).sum(axis=2)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(sums, truth).decision_function(sums)
    assert 0 < head.error < np.log(3)
    assert head(features) / head(features).std() == pytest.approx(expected / expected.std(), abs=1e-6)


def mixed(shares: np.ndarray, dose: float, rng: np.random.Generator) -> np.ndarray:
    """Return (n, 120) counts of mixtures of three peaks on a background."""
    return rng.poisson(dose * shares @ pure_peaks()).astype(np.float32)


def pure_peaks() -> np.ndarray:
    peaks = np.stack([0.02 + line(np.arange(120.0), at, 5.0) for at in (30.0, 45.0, 90.0)])
    return peaks / peaks.sum(axis=1, keepdims=True)


def test_classes_are_told_by_the_likelihood_of_their_mixtures() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 4)
    truth = np.concatenate([np.repeat(np.arange(4), 8), rng.integers(0, 4, 2000)])
    rows = mixed(shares[truth], 60.0, rng)
    few, others = slice(0, 32), slice(32, None)
    found = Mixtures.of(pure_peaks(), np.ones(120, bool)).fit(rows[few], truth[few], 4)
    best = (rows @ np.log(shares @ pure_peaks()).T).argmax(axis=1)
    right, most = ((one == truth)[others].mean() for one in (found(rows).argmax(axis=1), best))
    cheap = fit(np.sqrt(rows[few]), truth[few], n_classes=4, kernel=False)(np.sqrt(rows)).argmax(axis=1)
    assert most - 0.05 < right
    assert (cheap == truth)[others].mean() < right - 0.05
    # And it knows how sure it is: of those that it gives a probability, as many are right.
    sure = softmax(found(rows[others]), axis=1).max(axis=1)
    assert sure.mean() == pytest.approx(right, abs=0.05)


def test_pure_spectra_that_the_data_do_not_hold_cost_nothing() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 6)
    truth = np.concatenate([np.repeat(np.arange(6), 5), rng.integers(0, 6, 2000)])
    rows, few = mixed(shares[truth], 60.0, rng), slice(0, 30)
    others = np.stack(
        [line(np.arange(120.0), at, 2.0) for at in (*range(2, 14, 2), *range(62, 74, 2), *range(108, 118, 2))]
    )
    pure = np.concatenate([pure_peaks(), others / others.sum(axis=1, keepdims=True)])
    every = np.ones(120, bool)
    tried = Mixtures.tried(pure, every, rows.mean(axis=0))
    assert {len(one.axes) for one in tried} == {19, 2}
    heads = [one.fit(rows[few], truth[few], 6) for one in tried]
    right = [(head(rows).argmax(axis=1) == truth)[30:].mean() for head in heads]
    best = int(np.argmin([head.error for head in heads]))
    assert len(tried[best].axes) == 2
    assert right[best] > right[0] + 0.05
    assert len(Mixtures.tried(pure_peaks(), every, rows.mean(axis=0))) == 2  # all are held: nothing more to try


def test_likelihoods_do_not_depend_on_the_unit_of_the_spectra() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    rows = mixed(np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3]])[truth], 300.0, rng)
    mixtures = Mixtures.of(pure_peaks(), np.ones(120, bool))
    own, other = mixtures.fit(rows, truth, 2), mixtures.fit(1e-3 * rows, truth, 2)
    assert other(1e-3 * rows) == pytest.approx(own(rows), rel=1e-4)


def test_classes_are_drawn_to_their_mean_as_far_as_counts_leave_them_open() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(20) % 2
    rows = mixed(np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])[truth], 100.0, rng)
    mixtures = Mixtures.of(pure_peaks(), np.ones(120, bool))
    apart = [
        np.ptp(replace(mixtures, variance=factor * mixtures.variance).fit(rows, truth, 2).weights, axis=1).max()
        for factor in (0.0, 1e-3, 1.0, 1e6)
    ]
    assert apart[0] == pytest.approx(0, abs=1e-9)  # all spectra are known to be one
    assert apart[1] < 0.5 * apart[2]
    assert apart[2] == pytest.approx(apart[3], rel=0.1)  # 1,000 counts of each class tell


def test_channels_that_are_not_recorded_say_nothing_of_classes() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    rows = mixed(np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3]])[truth], 300.0, rng)
    mixtures = Mixtures.of(pure_peaks(), np.arange(120) < 70)
    other = np.where(np.arange(120) < 70, rows, 1e3 * truth[:, None])
    assert (mixtures.fit(other, truth, 2)(other) == mixtures.fit(rows, truth, 2)(rows)).all()


def test_the_mean_of_the_data_stands_for_what_pure_spectra_do_not_have() -> None:
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.repeat(np.arange(2), 10), rng.integers(0, 2, 1000)])
    slope = np.linspace(3, 0, 120) / 180  # a background that no pure spectrum has
    shares = np.array([[0.5, 0.3, 0.2], [0.42, 0.33, 0.25]])
    rows = rng.poisson(200 * (shares[truth] @ pure_peaks() + 3 * slope)).astype(np.float32)
    every, few = np.ones(120, bool), slice(0, 20)
    plain, beside = (
        Mixtures.of(pure_peaks(), every, measured).fit(rows[few], truth[few], 2)
        for measured in (None, rows.mean(axis=0))
    )
    right = [(head(rows).argmax(axis=1) == truth)[20:].mean() for head in (plain, beside)]
    assert right[1] > right[0]
    assert beside.error < plain.error


@pytest.mark.parametrize("kind", ["X-rays", "losses", "library"])
def test_what_simulators_draw_are_mixtures_of_their_pure_spectra(kind: str) -> None:
    grid = SpectralGrid("eV", 500.0 if kind == "losses" else 0.0, 2.0 if kind == "losses" else 10.0, 300)
    lines = np.array([[0, 1000.0, 1.0], [1, 2000.0, 1.0], [1, 2100.0, 0.1]])
    edges = np.array([[0, 640.0, 1.0, 1], [1, 860.0, 1.0, 0]])
    physics: Any = {
        "X-rays": lambda: XrayPhysics(grid, ("A", "B"), lines, np.array([0, 1, 1])),
        "losses": lambda: EdgePhysics(grid, ("A", "B"), edges),
        "library": lambda: LibraryPhysics(grid, pure_peaks()[:, np.arange(300) % 120], shift=0.001, stretch=1e-4),
    }[kind]()
    pure, rng = physics.pure(), np.random.default_rng(0)
    assert pure.sum(axis=1) == pytest.approx(1)
    assert (pure >= 0).all()
    drawn = np.concatenate([physics.draw(64, rng)[0] for _ in range(40)])
    mean = drawn.sum(axis=0) / drawn.sum()
    shares, _ = nnls(pure.T / np.sqrt(mean)[:, None].clip(1e-6), mean / np.sqrt(mean).clip(1e-6))
    left = np.abs(mean - shares @ pure).sum()
    assert left < 0.06  # lines of random widths, offsets and absorption on one of usual ones


def test_aligned_features_do_not_see_a_shift_but_for_the_last() -> None:
    rng, centres = np.random.default_rng(0), np.arange(200.0)
    shift = rng.integers(-4, 5, 300)
    height = rng.uniform(0.5, 1.0, (300, 1))
    edge = np.stack([200 * (line(centres, 80.0 + by) + line(centres, 120.0 + by)) for by in shift])
    rows = rng.poisson(40 + height * edge).astype(np.float32)  # on a background, of which the ends are cut off
    plain, aligned = (Features.of(kind, rows) for kind in ("pca", "aligned"))
    assert abs(np.corrcoef(plain(rows)[:, 0], shift)[0, 1]) > 0.9
    components, last = aligned(rows)[:, :-1], aligned(rows)[:, -1]
    assert max(abs(np.corrcoef(one, shift)[0, 1]) for one in components[:, :4].T) < 0.3
    assert abs(np.corrcoef(components[:, 0], height[:, 0])[0, 1]) > 0.9
    assert np.corrcoef(last, shift)[0, 1] > 0.95
    few = aligned.first(2)(rows)
    assert few == pytest.approx(aligned(rows)[:, [0, 1, -1]], abs=1e-4)


def test_channels_without_signal_do_not_drown_the_others() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.where(np.arange(200) < 10, 50.0, 0.01), (300, 200))
    values = Features.of("raw", counts)(counts)
    assert values[:, :10].var() > 4 * values[:, 10:].var()  # channels of a count or none
    assert np.square(values).mean() == pytest.approx(1)


def test_small_components_are_small_for_classes_and_alike_for_values() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    grid = SpectralGrid("eV", 0.0, 1.0, 64)
    rows = rng.poisson(20 + 40 * line(grid.centres, 30.0) * (1 + truth[:, None])).astype(np.float32)
    every = Features.of("pca", rows)
    alike, natural = every.first(8)(rows), every.first(8).in_one_unit()(rows)
    assert alike.std(axis=0) == pytest.approx(1, rel=1e-3)
    deviation = (np.sqrt(rows / rows.sum(axis=1, keepdims=True) * 64) @ every.basis[:, :8]).std(axis=0)
    assert natural.std(axis=0) == pytest.approx(deviation / deviation[0], rel=1e-3)
    task = simulated_task(60)
    assert np.ptp(tune("pca", task).features.scale) == 0
    assert np.ptp(tune("pca", replace(task, truth=task.truth.astype(float), n_classes=0)).features.scale) > 0


@pytest.mark.parametrize("told_by", [0, 1])
def test_parameters_beside_the_composition_are_used_where_they_tell(told_by: int) -> None:
    rng, task = np.random.default_rng(1), simulated_task(40)
    latents = rng.standard_normal((40, 16))
    latents[:, told_by] += 3.0 * task.truth
    encoder = replace(task.unlabelled.encoder, readout=Readout(np.eye(16), np.zeros(16), np.arange(16) == 0))
    unlabelled = replace(task.unlabelled, encoder=encoder, _known={"latents": latents})
    found = tune("parameters", replace(task, unlabelled=unlabelled, latents=latents))
    assert np.isfinite(found.features.scale).tolist() == [True] + 15 * [bool(told_by)]
    assert (found.on_latents(latents).argmax(axis=1) == task.truth).mean() > 0.85


def test_shares_of_values_are_those_of_the_smallest_error() -> None:
    rng = np.random.default_rng(0)
    truth = 3 + rng.standard_normal(4000)
    found = truth + np.array([[1.0], [2.0], [9.0]]) * rng.standard_normal((3, 4000))
    found[2] += 50
    shares = blend_shares(found[..., None], truth, 0)
    assert shares == pytest.approx([0.8, 0.2, 0.0], abs=0.03)  # inverse variances


def test_shares_of_classes_are_those_of_the_largest_likelihood() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    sure, unsure = 4.0 * np.eye(3)[truth], 1.0 * np.eye(3)[truth]
    wrong = 20.0 * np.eye(3)[rng.integers(0, 3, 600)]  # and sure of it
    assert blend_shares(np.stack([unsure, wrong, sure]), truth, 3) == pytest.approx([0, 0, 1])
    # Each knows half of the spectra: both are needed.
    half = rng.random((600, 1)) < 0.5
    shares = blend_shares(np.stack([np.where(half, sure, 0), np.where(half, 0, sure)]), truth, 3)
    assert shares == pytest.approx([0.5, 0.5], abs=0.1)
    # Of few labels none is enough to leave a method out.
    shares = blend_shares(np.stack([unsure, wrong, sure])[:, :4], truth[:4], 3)
    assert shares.min() > 0.15
    # A class of few labels counts as much as others.
    truth = np.repeat([0, 1], [540, 60])
    first, second = (np.where((truth == k)[:, None], 4.0 * np.eye(2)[truth], 0) for k in (0, 1))
    assert blend_shares(np.stack([first, second]), truth, 2) == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_blend_of_classes_is_the_mean_probability() -> None:
    features = Features("raw", np.zeros(4), np.ones(4), np.zeros((4, 0)), np.zeros(4))
    sides = [Tuned("raw", Head(np.zeros((4, 2)), np.array([a, 0.0])), features) for a in (np.log(9.0), -np.log(3.0))]
    inputs = Inputs(8, "total", SpectralGrid("eV", 0.0, 1.0, 4), np.ones(1, bool))
    found = Blend(tuple(sides), (0.75, 0.25))(np.ones((3, 4)), inputs, classes=True)
    assert np.exp(found[:, 0]) == pytest.approx(0.75 * 0.9 + 0.25 * 0.25)
    assert np.exp(found).sum(axis=1) == pytest.approx(1)


def simulated_task(n: int) -> Task:
    rng, grid = np.random.default_rng(0), SpectralGrid("eV", 0.0, 1.0, 64)
    truth = rng.integers(0, 2, n)
    rows = rng.poisson(20 + 30 * line(grid.centres, 30.0) * (1 + truth[:, None])).astype(np.float32)
    torch.manual_seed(0)
    encoder = SpectrumEncoder(SHAPE.network(), SHAPE, (grid,), (Scale.of(np.sqrt(rows)),))
    return Task(rows, truth, Unlabelled(rows, encoder.inputs(grid, np.ones(8, bool)), encoder), 2)


def test_adapters_that_fall_behind_are_trained_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    task, trained = simulated_task(60), []

    def counted(method: str, some: Task) -> Tuned:
        if method != "lora":
            return tune(method, some)
        trained.append(len(some.truth))
        right = tune("raw", some)
        head = Head(right.head.weights[:, ::-1], right.head.constant[::-1])  # always wrong
        return replace(right, method="lora", head=head)

    monkeypatch.setattr("hyperspy_specml.pretraining._contest.tune", counted)
    table, blend, _ = contest(task, Progress())
    assert trained == [48]  # one fold of five
    assert table[-1].method == "lora"
    assert table[-1].share == 0
    assert table[-1].score < 0.5 < table[0].score
    assert "lora" not in blend.method


def test_an_encoder_is_trained_and_embeds_in_one_thread() -> None:
    seen: list[int] = []
    task = simulated_task(40)
    grid = task.unlabelled.encoder.grids[0]
    settings = TrainConfig(
        learning_rate=1e-3, batch_size=8, max_steps=1, evaluate_every=1, patience=1, restarts=1, comparison_share=1.0
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sources = [Source(grid, np.ones(8, bool), task.laid)]
        train_encoder(
            SHAPE, "total", Run(settings), sources=sources, keep=lambda _: seen.append(torch.get_num_threads())
        )
        network = task.unlabelled.encoder.network
        network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        task.unlabelled.encoder.encode(task.laid, "eV", grid.centres)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_hidden_patches_are_not_seen() -> None:
    torch.manual_seed(0)
    network = MaskedAutoencoder(SHAPE.network())
    grid = SpectralGrid("eV", 0.0, 1.0, 64)
    inputs = Inputs(8, "square root", grid, np.ones(8, bool))
    patches, place, dose = inputs(torch.rand(2, 64))
    seen = torch.tensor([[0, 5], [3, 2]])
    changed = patches.clone()
    changed[0, 1] += 5
    one, other = (network(values, place, dose, seen) for values in (patches, changed))
    assert torch.equal(one, other)
    changed[0, 5] += 5
    assert not torch.equal(one, network(changed, place, dose, seen))


@pytest.mark.parametrize("normalisation", ["square root", "total"])
def test_expected_counts_are_those_of_the_values(normalisation: str) -> None:
    rng, grid = np.random.default_rng(0), SpectralGrid("eV", 0.0, 1.0, 60)
    rows = rng.poisson(50 + 200 * line(grid.centres, 30.0), (5, 60)).astype(np.float32)
    for visible in (np.ones(8, bool), np.arange(8) < 4):
        own = rows * np.repeat(visible, 8)[:60]
        torch.manual_seed(0)
        plain = Inputs(8, normalisation, grid, np.ones(8, bool)).normalised(torch.from_numpy(rows))[0].numpy()
        inputs = Inputs(8, normalisation, grid, visible, Scale.of(plain))
        values, _, dose = inputs(torch.from_numpy(own))
        found = inputs.expected(values, dose)
        assert found.numpy() == pytest.approx(inputs.patches(torch.from_numpy(own)).numpy(), rel=0.02, abs=1.0)


def test_the_network_sees_by_how_much_spectra_differ_from_their_mean() -> None:
    grid = SpectralGrid("eV", 0.0, 1.0, 60)  # the last patch has channels beyond it
    counts = torch.from_numpy(np.random.default_rng(0).poisson(50 + 100 * line(grid.centres, 30.0), (400, 60))).float()
    plain = Inputs(8, "square root", grid, np.ones(8, bool))
    scale = Scale.of(plain.normalised(counts)[0].numpy())
    values = replace(plain, scale=scale)(counts)[0]
    shown = values.reshape(400, -1)[:, :60]
    assert torch.allclose(shown.mean(dim=0), torch.zeros(60), atol=1e-5)
    assert float(shown.square().mean()) == pytest.approx(1, rel=1e-4)
    assert not values.reshape(400, -1)[:, 60:].any()
    # Spectra whose upper half was not recorded: what there is of them looks as it does in whole ones.
    half = replace(plain, scale=scale, visible=np.arange(8) < 4)
    cut = counts.clone()
    cut[:, 32:] = 0
    # What differs is the noise of the total, alike in all channels.
    assert float((half(cut)[0] - values[:, :4]).abs().mean()) < 0.3


def test_adapters_start_as_the_network_and_merge_into_it() -> None:
    torch.manual_seed(0)
    encoder = SHAPE.network().eval()
    inputs = Inputs(8, "total", SpectralGrid("eV", 0.0, 1.0, 64), np.ones(8, bool))(torch.rand(3, 64))
    before = encoder(*inputs)
    adapt(encoder, rank=2, alpha=4.0, targets=("qkv", "out"))
    assert torch.allclose(encoder(*inputs), before)
    trained = [name for name, weights in encoder.named_parameters() if weights.requires_grad]
    assert trained
    assert all(name.endswith(("up", "down")) for name in trained)
    with torch.no_grad():
        for name, weights in encoder.named_parameters():
            if name in trained:
                weights += 0.1
    adapted = encoder(*inputs)
    assert not torch.allclose(adapted, before)
    assert torch.allclose(with_products(encoder, products(encoder))(*inputs), adapted, atol=1e-5)
    assert not any("layer" in name for name, _ in encoder.named_parameters())


def test_counts_on_another_instrument_are_poisson_counts_of_the_moved_spectrum() -> None:
    rng = np.random.default_rng(0)
    mean = np.tile(50 * line(np.arange(60.0), 30.0) + 0.5, (4000, 1))
    rows = Instruments(offset=0.0, dispersion=0.0, resolution=0.0, slope=0.6).applied(rng.poisson(mean), rng)
    assert (rows == np.floor(rows)).all()
    assert rows[:, 0].mean() == pytest.approx(0.5 * (1 - 0.6 / 4), rel=0.05)  # half lose there
    assert rows.sum() / mean.sum() == pytest.approx(1 - 0.6 / 4, rel=0.01)

    wide = Instruments(offset=2.0, dispersion=0.0, resolution=0.0, slope=0.0).applied(rng.poisson(mean), rng)
    centre = wide @ np.arange(60.0) / wide.sum(axis=1)
    assert centre.std() == pytest.approx(2.0, rel=0.1)
    assert wide[:, 5:55].sum() == pytest.approx(mean[:, 5:55].sum(), rel=0.01)
    at = np.abs(centre - 30) < 0.05  # about where they were: a draw of the same mean, no wider noise
    assert (wide[at, 10] - wide[at, 10].mean()).var() == pytest.approx(wide[at, 10].mean(), rel=0.35)


def test_values_that_are_no_counts_are_interpolated() -> None:
    rng = np.random.default_rng(0)
    rows = np.tile(line(np.arange(60.0), 30.0), (500, 1)).astype(np.float32) - 0.2
    moved = Instruments(offset=2.0, dispersion=0.0, resolution=3.0, slope=0.0).applied(rows, rng, counts=False)
    assert moved.dtype == np.float32
    assert moved[:, 15:45].argmax(axis=1).std() == pytest.approx(2.0, rel=0.15)
    assert 0.4 < moved.max(axis=1).mean() < 0.75  # of 0.8: blurred


@pytest.mark.parametrize(
    "given", [{"offset": -1}, {"offset": "a"}, {"dispersion": 0.5}, {"slope": 1.0}, {"resolution": np.nan}]
)
def test_instruments_that_do_not_exist_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=rf"Instruments\({next(iter(given))}="):
        Instruments(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch": 0}, r"PatchShape\(patch=0\) needs a whole number from 1 to 4096, e.g. patch=32"),
        ({"depth": 0}, r"PatchShape\(depth=0\)"),
        ({"width": 5000}, r"PatchShape\(width=5000\)"),  # no file of such an encoder is read
        ({"heads": 2.0}, r"PatchShape\(heads=2.0\)"),
        ({"width": 30, "heads": 4}, "e.g. width=32"),
    ],
)
def test_networks_that_do_not_exist_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PatchShape(**given)


def test_sizes_are_the_same_whatever_holds_them() -> None:
    assert repr(PatchShape(patch=np.int64(8))) == repr(PatchShape(patch=8))  # type: ignore[arg-type]


def test_energy_losses_show_the_edges_of_their_composition() -> None:
    grid = SpectralGrid("eV", 400.0, 1.0, 500)
    physics = EdgePhysics(grid, ("O", "Fe"), np.array([[0, 532.0, 1.0, 0], [1, 708.0, 1.0, 1]]))
    counts, truth = physics.draw(600, np.random.default_rng(0))
    assert counts.shape == (600, 500)
    assert truth.shape == (600, physics.n_parameters)
    assert np.abs(truth[:, 2:].mean(axis=0)).max() < 0.2
    jump = counts[:, 312:325].sum(axis=1) / np.maximum(counts[:, 290:303].sum(axis=1), 1)
    share = (truth[:, 1] / 3 + 0.2) ** 2 * 0.1 * np.exp(truth[:, 2])
    assert np.corrcoef(np.log(jump), share)[0, 1] > 0.8
    before = np.log(counts[:, 100:120].sum(axis=1) / counts[:, :20].sum(axis=1)) / np.log(410 / 510)
    pure = counts.sum(axis=1) > 1e5
    assert np.corrcoef(before[pure], truth[pure, -2])[0, 1] > 0.95  # the exponent of the background


def test_p_values_of_latents_are_uniform_for_ordinary_spectra() -> None:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((5, 8))
    draw = lambda n: rng.exponential(size=(n, 5)) @ mix + 0.1 * rng.standard_normal((n, 8))  # noqa: E731
    density = LatentDensity.of(draw(3000), seed=0)
    p = density.p_value(density.distance(draw(2000)))
    for level in (0.01, 0.1, 0.5):
        error = np.sqrt(level * (1 - level) * (1 / 1500 + 1 / 2000))
        assert (p <= level).mean() == pytest.approx(level, abs=4 * error)
    far = np.vstack([draw(3) + 60, np.full((1, 8), np.nan)])
    assert density.p_value(density.distance(far))[:3] == pytest.approx(1 / 1501)
    assert np.isnan(density.p_value(density.distance(far))[3])


def test_ridge_regression_takes_the_strength_of_the_smallest_error_of_who_is_left_out() -> None:
    """Brute force: fit without each spectrum, its mean left out as well; also more features than spectra."""
    rng = np.random.default_rng(0)
    for n, n_features in ((12, 30), (25, 4)):
        features = rng.standard_normal((n, n_features)) + 3
        truth = features[:, 0] + 0.3 * rng.standard_normal(n)
        centred = features - features.mean(axis=0)
        unit, errors = np.linalg.eigvalsh(centred @ centred.T).mean(), []
        for strength in unit * np.logspace(-4, 4, 17):
            left_out = []
            for k in range(n):
                rest = np.arange(n) != k
                mean, others = features[rest].mean(axis=0), truth[rest]
                inner = (features[rest] - mean).T @ (features[rest] - mean) + strength * np.eye(n_features)
                weights = np.linalg.solve(inner, (features[rest] - mean).T @ (others - others.mean()))
                left_out.append(others.mean() + (features[k] - mean) @ weights - truth[k])
            errors.append(np.square(left_out).mean())
        head = fit(features, truth, n_classes=0, kernel=False)
        assert head.error == pytest.approx(min(errors), rel=1e-6)
