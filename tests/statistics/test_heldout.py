"""Held-out scores: they choose the planted rank, and folds that are not independent are detected."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.statistics import (
    TEST,
    TRAIN,
    VALIDATION,
    Moments,
    PoissonGaussianNoise,
    PoissonNoise,
    choose_rank,
    estimate_noise,
    fold_correlation,
    holds_out,
    make_folds,
    moments_of,
    paired,
    principal_basis,
    rank_curve,
)
from hyperspy_specml.statistics._basis import channel_weights
from hyperspy_specml.statistics._noise import gaussian_noise

MODELS = {
    "poisson": PoissonNoise(),
    "gaussian": gaussian_noise(3.0, (1.0, 0.4)),
    "poisson-gaussian": PoissonGaussianNoise(2.0, 3.0, (1.0, 0.5)),
}


def fold(rows, noise, *, mean=None, seed=0):
    return make_folds(rows, np.arange(len(rows)), noise, seed=seed, mean=mean)


def everything(folds):
    return folds.train(slice(None))


def training_basis(folds, n_vectors):
    moments = moments_of(everything(folds))
    scaled = Moments(moments.n, moments.sums / TRAIN, moments.products / TRAIN**2)
    return principal_basis(scaled, folds.noise, n_vectors=n_vectors)


def training_scores(folds, basis):
    return basis.project(everything(folds)) / np.float32(TRAIN)


def half_predictions(folds, basis):
    """Predictions from the two halves of the training fold, as `fold_correlation` wants them."""
    halves = [
        basis.spectra(basis.project((a.astype(np.float32) + b) / np.float32(TRAIN / 2)))
        for a, b in (folds.parts[:2], folds.parts[2:])
    ]
    return [half.__getitem__ for half in halves]


def chosen_rank(rows, noise, *, mean=None, n_vectors=12):
    folds = fold(rows, noise, mean=mean)
    basis = training_basis(folds, n_vectors)
    return rank_curve(folds, basis, training_scores(folds, basis)).chosen


@pytest.mark.parametrize("name", MODELS)
def test_folds_sum_to_the_data_in_their_fractions(name, planted, noisy):
    mean = planted(400, 60, level=200.0)
    rows = noisy(mean, gain=2, readout=3) if name != "poisson" else np.random.default_rng(0).poisson(mean)
    folds = fold(rows, MODELS[name], mean=mean)

    np.testing.assert_allclose(everything(folds) + folds.validation + folds.test, rows, rtol=1e-4, atol=1e-2)
    assert everything(folds).sum() == pytest.approx(TRAIN * rows.sum(), rel=0.01)
    assert folds.validation.sum() == pytest.approx(VALIDATION * rows.sum(), rel=0.02)
    assert folds.test.sum() == pytest.approx(TEST * rows.sum(), rel=0.02)
    np.testing.assert_allclose(folds.mean, everything(folds).mean(axis=0) / TRAIN, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_part_and_the_validation_fold_change_places_with_their_fractions(name, planted, noisy):
    mean = planted(700, 60, level=200.0)
    rows = noisy(mean, gain=2, readout=3) if name == "poisson-gaussian" else noisy(mean, gain=0, readout=3)
    rows = np.random.default_rng(0).poisson(mean) if name == "poisson" else rows
    noise = gaussian_noise(3.0) if name == "gaussian" else MODELS[name]
    folds = fold(rows, noise, mean=mean)
    other = folds.turned(2)

    assert (other.validation == folds.parts[2]).all()
    assert (other.parts[2] == folds.validation).all()
    np.testing.assert_allclose(other.mean, mean.mean(axis=0), rtol=0.05)
    assert other.train_share == pytest.approx(0.675)
    assert other.score("validation", mean.__getitem__).mean() == pytest.approx(60, rel=0.03)  # 1 per channel
    again = other.turned(2)
    assert again.fractions == folds.fractions
    assert (again.validation == folds.validation).all()


def test_a_score_is_that_of_the_noise_model_whatever_the_slabs(planted, monkeypatch):
    mean = planted(37, 50, level=3.0)
    folds = fold(np.random.default_rng(0).poisson(mean), PoissonNoise())
    expected = PoissonNoise().deviance(folds.test, TEST * mean, None)
    found = folds.score("test", mean.__getitem__)
    monkeypatch.setattr("hyperspy_specml.statistics._folds._SLAB", 200)

    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(folds.score("test", mean.__getitem__), found)
    np.testing.assert_allclose(folds.every(3).score("test", mean[::3].__getitem__), found[::3], rtol=1e-6)


def test_a_prediction_of_zero_is_scored_at_the_floor(planted):
    folds = fold(np.random.default_rng(0).poisson(planted(37, 50, level=3.0)), PoissonNoise())
    nothing, negative, floor = (np.full((37, 50), value) for value in (0.0, -5.0, 1.0))

    scores = [folds.score("validation", p.__getitem__) for p in (nothing, negative, floor * folds.floor)]
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[0], scores[2], rtol=1e-6)
    np.testing.assert_allclose(scores[1], scores[2], rtol=1e-6)


def test_the_truth_scores_best(planted):
    mean = planted(600, 50, level=3.0)
    folds = fold(np.random.default_rng(0).poisson(mean), PoissonNoise())
    truth = folds.score("validation", mean.__getitem__)
    for wrong in (1.1 * mean, 0.9 * mean, np.broadcast_to(mean.mean(axis=0), mean.shape), mean[::-1]):
        pair = paired(folds.score("validation", wrong.__getitem__), truth)
        assert pair.difference > 3 * pair.standard_error > 0


def test_errors_are_those_of_paired_differences():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 100, 5000)
    a, b = common + rng.normal(1, 2, 5000), common
    pair = paired(a, b)

    assert pair.difference == pytest.approx(1, abs=0.15)
    assert pair.standard_error == pytest.approx(2 / np.sqrt(5000), rel=0.05)


def test_the_smallest_rank_within_one_standard_error_of_the_best_is_chosen():
    spectrum = np.arange(400)
    level = np.random.default_rng(0).normal(0, 50, 400)  # common to all ranks: it pairs away
    scatter = [2 * (-1.0) ** (spectrum // 2**k) for k in range(4)]  # of mean 0, pairs of variance 8
    scores = level + np.array([[5.0], [1.0], [0.05], [0.0]]) + scatter
    curve = choose_rank(np.arange(1, 5), scores, "held-out counts")

    assert curve.chosen == 3
    np.testing.assert_allclose(curve.standard_errors, [*[np.sqrt(8 / 400)] * 3, 0], rtol=0.01)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_planted_rank_is_chosen_for_counts(rank, planted):
    counts = np.random.default_rng(1).poisson(planted(1500, 128, level=4.0, rank=rank))

    assert chosen_rank(counts.astype(np.uint16), PoissonNoise()) == rank


@pytest.mark.parametrize("rank", [1, 3])
def test_the_planted_rank_is_chosen_for_correlated_noise_that_was_estimated(rank, planted, noisy):
    rows = noisy(planted(900, 200, level=100.0, rank=rank), gain=3, readout=5, correlation=(1, 0.5))
    found = estimate_noise(rows)

    assert chosen_rank(rows.astype(np.float32), found.model, mean=found.mean) == rank


@pytest.fixture(scope="module", params=[(1024, 2048), (100, 2048)])
def pure_noise(request):
    return np.random.default_rng(2).poisson(0.1, request.param).astype(np.uint8)


def test_pure_noise_has_rank_one(pure_noise):
    assert chosen_rank(pure_noise, PoissonNoise(), n_vectors=16) == 1


def test_split_scores_of_noise_components_do_not_correlate(pure_noise):
    folds = fold(pure_noise, PoissonNoise())
    basis = training_basis(folds, 24)
    train, validation = training_scores(folds, basis), basis.project(folds.validation)
    correlations = [np.corrcoef(train[:, k], validation[:, k])[0, 1] for k in range(1, 24)]

    # 0.05 is the bound of the design; a hundred spectra scatter by 0.1 each, their mean by 0.02.
    assert abs(np.mean(correlations)) < 0.05
    if len(pure_noise) > 1000:
        assert np.abs(correlations).max() < 4 / np.sqrt(1024)


def test_the_limit_of_the_correlation_is_wider_for_few_values():
    assert not holds_out(0.06, 10**6)
    assert holds_out(0.06, 1000)
    assert not holds_out(-0.06, 10**6)


@pytest.mark.parametrize("name", MODELS)
def test_residuals_of_valid_folds_do_not_correlate(name, planted, noisy):
    mean = planted(900, 100, level=50.0)
    rows = {
        "poisson": np.random.default_rng(0).poisson(mean),
        "gaussian": noisy(mean, gain=0, readout=3, correlation=(1, 0.4)),
        "poisson-gaussian": noisy(mean, gain=2, readout=3, correlation=(1, 0.5)),
    }[name]
    folds = fold(rows, MODELS[name], mean=mean)
    correlation = fold_correlation(folds, *half_predictions(folds, training_basis(folds, 3)))

    assert abs(correlation) < 0.01
    assert holds_out(correlation, rows.size)


@pytest.mark.parametrize("level", [0.1, 20.0])
@pytest.mark.parametrize("factor", [2, 5])
def test_multiplied_counts_are_detected(level, factor, planted):
    counts = factor * np.random.default_rng(0).poisson(planted(900, 100, level=level, rank=1))
    folds = fold(counts, PoissonNoise())
    correlation = fold_correlation(folds, *half_predictions(folds, training_basis(folds, 1)))

    # Counts times c have c times the variance of counts: halves correlate by (c - 1) / (c + 1).
    assert correlation == pytest.approx((factor - 1) / (factor + 1), abs=0.05)
    assert not holds_out(correlation, counts.size)


@pytest.mark.parametrize("assumed", [0.5, 2.0])
def test_a_wrong_readout_noise_is_detected(assumed, planted, noisy):
    rows = noisy(planted(900, 100, level=50.0), gain=0, readout=1.0)
    folds = fold(rows, gaussian_noise(assumed))
    correlation = fold_correlation(folds, *half_predictions(folds, training_basis(folds, 3)))

    q = 1 / assumed**2 - 1
    assert correlation == pytest.approx(0.5 * q / (1 + 0.5 * q), abs=0.1)


def test_the_error_of_a_prediction_does_not_look_like_a_wrong_noise_model(planted, noisy):
    folds = fold(noisy(planted(3000, 20, level=50.0), gain=0, readout=3.0), gaussian_noise(3.0))
    basis = training_basis(folds, 3)
    shared = basis.spectra(training_scores(folds, basis)).__getitem__

    assert fold_correlation(folds, shared, shared) > 0.05  # 3 of 20 channels' worth of noise
    assert abs(fold_correlation(folds, *half_predictions(folds, basis))) < 0.02


def test_glitches_do_not_correlate_the_residuals_of_a_valid_split(planted, noisy):
    rng = np.random.default_rng(5)
    rows = noisy(planted(900, 100, level=50.0), gain=0, readout=3.0)
    glitches = rng.random(rows.shape) < 2e-4
    rows[glitches] += rng.exponential(500, glitches.sum())
    folds = fold(rows, gaussian_noise(3.0))

    assert abs(fold_correlation(folds, *half_predictions(folds, training_basis(folds, 3)))) < 0.05


def test_the_channel_weights_of_a_fold_are_those_of_its_own_mean(planted):
    mean = planted(900, 50, level=3.0)
    folds = fold(np.random.default_rng(0).poisson(mean), PoissonNoise())

    np.testing.assert_allclose(training_basis(folds, 2).weights, channel_weights(folds.mean, PoissonNoise()), rtol=1e-6)
