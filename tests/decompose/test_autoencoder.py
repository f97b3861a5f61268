"""Autoencoders of scores: canonical latents, seeds, collapses, and a test fold that chooses nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hyperspy_specml.decompose import DenseOptions, choose_architecture

DENSE = choose_architecture("dense", DenseOptions(n_hidden=16))


@pytest.fixture(scope="module")
def fits(prepared, short):
    """Fit once for each number of latents; nobody may write to what comes back."""
    known = {}

    def fit(k):
        if k not in known:
            known[k] = DENSE.fit(prepared, k, short)
        return known[k]

    return fit


def test_the_test_fold_chooses_nothing(prepared, short, fits):
    # Other counts in the test fold must not change one bit of the fold's model.
    folds = dataclasses.replace(prepared.folds, test=prepared.folds.test[::-1])
    garbage = DENSE.fit(dataclasses.replace(prepared, folds=folds), 2, short)

    np.testing.assert_array_equal(
        fits(2).fold_model.predict(prepared.fold_scores), garbage.fold_model.predict(prepared.fold_scores)
    )


def as_trained(model):
    """The model without what is done after the training, so that counts keep their totals."""
    return dataclasses.replace(model, keeps_totals=False, shift=0 * model.shift)


@pytest.mark.parametrize("k", [1, 3])
def test_canonical_latents_are_uncorrelated_sorted_and_change_no_prediction(prepared, fits, k):
    model, rows = fits(k).model, prepared.summary.sample
    latents = model.encode(rows)

    covariance = np.atleast_2d(np.cov(latents[:, :k].T))
    np.testing.assert_allclose(covariance, np.diag(model.deviation**2), atol=0.02 * covariance.max())
    assert np.all(np.diff(model.deviation) <= 0)
    plain = dataclasses.replace(model, rotation=np.eye(k), origin=np.zeros(k))
    np.testing.assert_allclose(model.decode(latents), plain.decode(plain.encode(rows)), rtol=1e-3, atol=1e-3)


def test_components_of_the_autoencoder_are_its_response_to_one_deviation(fits):
    model = fits(2).model
    step = np.array([[0, model.deviation[1]]])
    by_hand = 0.5 * (model.decode(step) - model.decode(-step))

    np.testing.assert_allclose(model.components()[1], by_hand[0], rtol=1e-3, atol=1e-4)


def test_a_model_trained_on_parts_predicts_on_the_scale_of_the_whole(prepared, fits):
    fit, total = fits(3), prepared.summary.sample.sum()

    assert fit.model.decode(fit.model.encode(prepared.summary.sample)).sum() == pytest.approx(total, rel=0.02)
    assert fit.fold_model.predict(prepared.fold_scores).sum() == pytest.approx(total, rel=0.02)


def test_the_model_of_the_fold_is_that_of_the_best_step(prepared, fits):
    fit = fits(2)

    assert fit.history.best_step > 0
    assert prepared.scores_of(as_trained(fit.fold_model)).mean() == pytest.approx(min(fit.history.scores), rel=1e-5)


def test_a_trained_network_beats_the_pca_that_it_starts_as_on_counts_it_has_not_seen(prepared, fits):
    history = fits(2).history

    assert history.scores[0] > min(history.scores)


def test_several_seeds_are_tried_briefly_and_the_best_goes_on(prepared, short):
    config = dataclasses.replace(short.config, max_steps=200, restarts=3)
    fit = DENSE.fit(prepared, 2, dataclasses.replace(short, config=config, seed=5))

    names = [attempt.name for attempt in fit.attempts]
    assert names == ["seed 5", "seed 7924", "seed 15843"]
    assert len({attempt.score for attempt in fit.attempts}) == 3
    best = min(fit.attempts, key=lambda attempt: attempt.score)
    assert min(fit.history.scores) <= best.score + 1e-9  # it went on from there
    assert fit.history.steps == sorted(set(fit.history.steps))
    assert fit.history.best_step in fit.history.steps


def test_a_latent_that_the_counts_do_not_carry_is_told_and_costs_no_other_seed(prepared, short):
    (attempt,) = DENSE.fit(prepared, 6, short).attempts

    assert "explains nothing" in attempt.collapsed or "worse than PCA" in attempt.collapsed


def test_a_search_for_the_number_of_latents_calls_nothing_a_collapse(prepared, short, caplog):
    scores, interrupted = DENSE.compare(prepared, 6, short)

    assert scores.shape == prepared.folds.validation.shape[:1]
    assert not interrupted
    assert "collapsed" not in caplog.text


def test_a_collapse_on_counts_that_carry_more_is_mended_by_another_seed(prepared, short, monkeypatch):
    found = iter(["component 1 explains nothing", "", ""])
    monkeypatch.setattr("hyperspy_specml.decompose._architecture.collapse", lambda *_: next(found))

    fit = DENSE.fit(prepared, 2, short)

    assert [bool(attempt.collapsed) for attempt in fit.attempts] == [True, False]
    assert np.isfinite(fit.model.components()).all()


def test_pca_about_the_mean_is_a_rival_only_where_the_basis_is_not_about_it(prepared):
    (name,) = DENSE.rivals(prepared, 2)
    assert name == "centred pca (2)"
    rival = as_trained(DENSE.rivals(prepared, 2)[name]).predict(prepared.fold_scores)

    scores = prepared.fold_scores.astype(float)
    mean = scores.mean(axis=0)
    vectors = np.linalg.svd(scores - mean, full_matrices=False)[2][:2]
    expected = prepared.fold_basis.spectra(((scores - mean) @ vectors.T @ vectors + mean).astype(np.float32))
    np.testing.assert_allclose(rival, expected, rtol=1e-3, atol=1e-3)
    assert DENSE.rivals(dataclasses.replace(prepared, centre=True), 2) == {}
