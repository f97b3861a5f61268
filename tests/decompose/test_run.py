"""Decompositions of arrays: what they find, and what they must not have looked at."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hyperspy_specml.datasets import fe_l_map
from hyperspy_specml.decompose import decompose, fit_dense
from hyperspy_specml.decompose._autoencoder import score_latents
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import principal_basis
from hyperspy_specml.streaming import SpectrumStream

SHORT = TrainConfig(max_steps=60, evaluate_every=20, n_hidden=16)
CPU = torch.device("cpu")


def everything(steps):
    return steps


def planted_counts(shape=(24, 20), n_channels=64, rank=3, dose=4.0, seed=0):
    """Counts of a map with `rank` endmembers whose abundances vary freely."""
    rng = np.random.default_rng(seed)
    centres = np.linspace(8, n_channels - 8, rank)
    endmembers = 0.2 + 5 * np.exp(-0.5 * ((np.arange(n_channels) - centres[:, None]) / 3) ** 2)
    abundances = rng.dirichlet(np.ones(rank), size=shape)
    expected = dose * abundances @ endmembers
    return rng.poisson(expected), expected


@pytest.fixture(scope="module")
def prepared():
    counts, _ = planted_counts()
    return prepare(SpectrumStream(counts.astype(np.uint16)), n_needed=3, config=SHORT)


@pytest.mark.parametrize("shape", [(32, 32), (100,)])
def test_pure_noise_has_rank_one(shape):
    counts = np.random.default_rng(1).poisson(0.1, (*shape, 2048)).astype(np.uint8)
    found = decompose(SpectrumStream(counts), architecture="pca", config=SHORT)

    assert found.prepared.estimate.model.name == "poisson"
    assert found.rank.chosen == 1
    assert found.prepared.hold_out == "exact"


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_planted_rank_is_chosen_on_held_out_counts(rank):
    counts, _ = planted_counts(rank=rank, dose=8.0)
    found = decompose(SpectrumStream(counts), architecture="pca", config=SHORT)

    assert found.rank.chosen == rank
    assert int((found.prepared.basis.eigenvalues > found.prepared.edge).sum()) == rank


def test_the_axes_of_the_folds_come_from_the_training_counts_alone(prepared):
    train = sum(part.astype(np.float64) for part in prepared.folds.parts) / 0.7
    moments = dataclasses.replace(
        prepared.summary.moments, n=len(train), sums=train.sum(axis=0), products=train.T @ train
    )
    expected = principal_basis(moments, prepared.estimate.model, n_vectors=3)

    np.testing.assert_allclose(prepared.fold_basis.first(3).vectors, expected.vectors, atol=1e-7)
    np.testing.assert_allclose(prepared.fold_scores[:, :3], expected.project(train), rtol=1e-4, atol=1e-3)


def test_the_report_fold_chooses_nothing(prepared):
    # Other counts in the test fold must not change one bit of the fold's model.
    garbage = dataclasses.replace(
        prepared, folds=dataclasses.replace(prepared.folds, test=prepared.folds.test[::-1])
    )
    fits = [fit_dense(s, 2, SHORT, seed=0, device=CPU, track=everything) for s in (prepared, garbage)]

    np.testing.assert_array_equal(
        fits[0].fold_model.predict(prepared.fold_scores), fits[1].fold_model.predict(prepared.fold_scores)
    )


def test_the_parts_of_all_counts_sum_to_the_scores_of_the_data(prepared):
    np.testing.assert_allclose(
        prepared.parts.sum(axis=1), prepared.aligned.project(prepared.summary.sample), rtol=1e-3, atol=2e-3
    )


def test_aligned_axes_span_the_space_of_the_axes_of_all_counts(prepared):
    a, b = prepared.basis.vectors, prepared.aligned.vectors
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
def test_canonical_latents_are_uncorrelated_sorted_and_change_no_prediction(prepared, k):
    fit = fit_dense(prepared, k, SHORT, seed=0, device=CPU, track=everything)
    model = fit.model
    rows = prepared.summary.sample
    latents = model.encode(rows)

    covariance = np.atleast_2d(np.cov(latents.T))
    np.testing.assert_allclose(covariance, np.diag(model.spread**2), atol=0.02 * covariance.max())
    assert np.all(np.diff(model.spread) <= 0)
    plain = dataclasses.replace(model, rotation=np.eye(k), origin=np.zeros(k))
    np.testing.assert_allclose(model.decode(latents), plain.decode(plain.encode(rows)), rtol=1e-3, atol=1e-3)


def test_components_of_the_autoencoder_are_its_response_to_one_deviation(prepared):
    model = fit_dense(prepared, 2, SHORT, seed=0, device=CPU, track=everything).model
    step = np.array([[0, model.spread[1]]])
    by_hand = 0.5 * (model.decode(step) - model.decode(-step))

    np.testing.assert_allclose(model.components()[1], by_hand[0], rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    counts, _ = planted_counts()
    runs = [decompose(SpectrumStream(counts), n_components=2, config=SHORT, seed=seed) for seed in (0, 0, 1)]

    np.testing.assert_array_equal(runs[0].scores, runs[1].scores)
    assert not np.array_equal(runs[0].scores, runs[2].scores)


def test_a_fit_leaves_the_global_random_state_alone():
    counts, _ = planted_counts()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state of users who rely on it
    expected = torch.rand(1), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    decompose(SpectrumStream(counts), n_components=2, config=SHORT)

    assert torch.rand(1) == expected[0]
    np.testing.assert_array_equal(np.random.get_state()[1], expected[1])  # noqa: NPY002


def test_the_autoencoder_beats_the_best_pca_on_an_edge_that_shifts():
    simulated = fe_l_map((40, 40), n_channels=256, dose=60.0)
    counts, clean = simulated.signal.data, simulated.clean.data.reshape(-1, 256)
    found = decompose(SpectrumStream(counts), n_components=4, config=TrainConfig(max_steps=1500))
    error = np.sqrt(np.mean((found.model.decode(found.scores) - clean) ** 2))

    rows = counts.reshape(-1, 256)
    baseline = decompose(SpectrumStream(counts), architecture="pca", n_components=10, config=SHORT)
    axes = baseline.prepared.basis
    best_pca = min(
        np.sqrt(np.mean((axes.first(k).spectra(axes.first(k).project(rows)) - clean) ** 2))
        for k in range(1, 11)
    )
    assert error < 0.95 * best_pca
    model, pca = found.candidates[0], found.candidates[-1]
    assert model.difference < -5 * model.standard_error  # the held-out score says so too
    assert pca.difference == 0


def test_the_number_of_latents_is_chosen_by_held_out_score():
    counts, _ = planted_counts(rank=2, dose=8.0)
    found = decompose(SpectrumStream(counts), config=SHORT)

    assert found.model.n_components == found.rank.chosen <= 2


def test_a_sample_smaller_than_the_map_finds_nearly_the_same():
    counts, _ = planted_counts(shape=(60, 50), dose=8.0)
    budget = 3 * 7 * 64 * 8 * 1000  # room for 1000 of 3000 spectra of 64 channels, 8 bytes each
    found = decompose(
        SpectrumStream(counts, memory_budget=budget), architecture="pca", n_components=3, config=SHORT
    )
    whole = decompose(SpectrumStream(counts), architecture="pca", n_components=3, config=SHORT)

    assert 256 <= len(found.prepared.summary.sample_pixels) < 3000
    assert found.rank.chosen == 3
    np.testing.assert_allclose(
        found.scores, whole.scores, rtol=1e-4, atol=1e-3
    )  # axes are those of all spectra


def test_a_result_holds_no_counts():
    counts, _ = planted_counts(shape=(30, 20), dose=8.0)

    prepared = decompose(SpectrumStream(counts), architecture="pca", n_components=3, config=SHORT).prepared

    held = [
        prepared.summary.sample,
        *prepared.folds.parts,
        prepared.folds.validation,
        prepared.folds.test,
        prepared.fold_parts,
    ]
    assert not any(array.size or array.base is not None for array in held)  # a view would hold all of it


def test_spectra_with_more_counts_weigh_less_in_proportion(prepared):
    sums = sum(part.sum(axis=1) for part in prepared.folds.parts).astype(float)
    product = prepared.spectrum_weights * sums
    np.testing.assert_allclose(product, product.mean(), rtol=0.02)


def test_a_model_trained_on_parts_predicts_on_the_scale_of_the_whole(prepared):
    fit = fit_dense(prepared, 3, SHORT, seed=0, device=CPU, track=everything)
    total = prepared.summary.sample.sum()
    assert fit.model.decode(fit.model.encode(prepared.summary.sample)).sum() == pytest.approx(total, rel=0.02)
    assert fit.fold_model.predict(prepared.fold_scores).sum() == pytest.approx(total, rel=0.02)


def test_too_few_spectra_for_the_components_are_refused_with_the_numbers():
    counts, _ = planted_counts(shape=(5,))
    with pytest.raises(TooFewSpectraError, match="at least 9 spectra and 9 channels"):
        decompose(SpectrumStream(counts), n_components=8, config=SHORT)


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_number_of_components_that_is_none_is_refused(k):
    counts, _ = planted_counts(shape=(5,))
    with pytest.raises(OptionError, match="whole number"):
        decompose(SpectrumStream(counts), n_components=k, config=SHORT)


def test_several_seeds_are_tried_briefly_and_the_best_goes_on(prepared):
    several = dataclasses.replace(SHORT, max_steps=200, restarts=3)
    fit = fit_dense(prepared, 2, several, seed=5, device=CPU, track=everything)

    names = [attempt.name for attempt in fit.attempts]
    assert names == ["seed 5", "seed 7924", "seed 15843"]
    assert len({attempt.score for attempt in fit.attempts}) == 3
    best = min(fit.attempts, key=lambda attempt: attempt.score)
    assert min(fit.history.scores) <= best.score + 1e-9  # it went on from there
    assert fit.history.steps == sorted(set(fit.history.steps))
    assert fit.history.best_step in fit.history.steps


def test_a_latent_that_the_counts_do_not_carry_is_told_and_costs_no_other_seed(prepared):
    fit = fit_dense(prepared, 6, SHORT, seed=0, device=CPU, track=everything)

    (attempt,) = fit.attempts
    assert "explains nothing" in attempt.collapsed or "worse than PCA" in attempt.collapsed


def test_a_search_for_the_number_of_latents_calls_nothing_a_collapse(prepared, caplog):
    scores, interrupted = score_latents(prepared, 6, SHORT, seed=0, device=CPU, track=everything)

    assert scores.shape == prepared.folds.validation.shape[:1]
    assert not interrupted
    assert "collapsed" not in caplog.text


def test_a_collapse_on_counts_that_carry_more_is_mended_by_another_seed(prepared, monkeypatch):
    found = iter(["component 1 explains nothing", "", ""])
    monkeypatch.setattr("hyperspy_specml.decompose._autoencoder.collapse", lambda *_: next(found))

    fit = fit_dense(prepared, 2, SHORT, seed=0, device=CPU, track=everything)

    assert [bool(attempt.collapsed) for attempt in fit.attempts] == [True, False]
    assert np.isfinite(fit.model.components()).all()


def test_the_fold_model_can_be_watched_at_every_scored_step(prepared):
    seen = []
    fit = fit_dense(
        prepared, 2, SHORT, seed=0, device=CPU, track=everything,
        watch=lambda model: seen.append(model.predict(prepared.fold_scores[:9])),
    )  # fmt: skip

    assert len(seen) == len(fit.history.steps)
    best = seen[fit.history.steps.index(fit.history.best_step)]
    np.testing.assert_allclose(best, fit.fold_model.predict(prepared.fold_scores[:9]), rtol=1e-3, atol=1e-3)
