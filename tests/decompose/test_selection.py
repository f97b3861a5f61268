"""The race between numbers of latents: who is out, who wins, and on which counts it is run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hyperspy_specml.decompose import _networks as networks
from hyperspy_specml.decompose import decompose
from hyperspy_specml.decompose._race import joined, run, running, turned
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import principal_basis
from hyperspy_specml.streaming import SpectrumStream

SHORT = TrainConfig(max_steps=300, evaluate_every=20, n_hidden=16)
SIGNS = np.array([1.0, -1.0] * 50)  # 100 spectra: an error of 0.1005
BEST = np.random.default_rng(0).normal(50, 20, 100)  # common to all runners: it pairs away


def everything(steps):
    return steps


@pytest.fixture(scope="module")
def prepared():
    rng = np.random.default_rng(0)
    peaks = np.exp(-0.5 * ((np.arange(60) - np.array([[15], [30], [45]])) / 3) ** 2)
    expected = 4 * (0.1 + rng.dirichlet(np.ones(3), size=(20, 18)) @ peaks)
    return prepare(SpectrumStream(rng.poisson(expected).astype(np.uint16)), n_needed=3, config=SHORT)


def test_who_is_clearly_worse_than_the_best_is_out_and_does_not_come_back():
    rounds = [[BEST + 0.19 + SIGNS], [BEST], [BEST + 0.21 + SIGNS], [BEST + 0.01 + SIGNS]]
    assert running(rounds) == [0, 1, 3]

    for i in (0, 1, 3):
        rounds[i].append(BEST + i)
    assert running(rounds) == [0]  # the differences of both rounds count, and 2, which ran one, is out


def test_differences_are_those_of_rounds_that_both_ran():
    later = BEST + 30  # other counts: another level
    rounds = [[BEST + 1, later + 2], [BEST, later], [BEST + 7]]

    np.testing.assert_allclose(joined(rounds), np.array([[1.5], [0], [7]]) + (BEST + later) / 2)


def test_in_each_round_other_counts_are_held_out_and_the_reporting_fold_never(prepared):
    seen = []

    def score(other, k):
        seen.append((k, other.folds))
        return BEST, False

    rounds = [[BEST], [BEST + SIGNS], [BEST + 9]]
    assert not run(rounds, prepared, score, centre=False)

    assert [k for k, _ in seen] == [1, 2] * 4
    held = [prepared.folds.validation, *[folds.validation for _, folds in seen[::2]]]
    assert (sum(held) + prepared.folds.test == prepared.summary.sample).all()
    assert all((folds.test == prepared.folds.test).all() for _, folds in seen)


def test_an_interrupted_round_does_not_count(prepared):
    rounds = [[BEST], [BEST + SIGNS]]

    assert run(rounds, prepared, lambda _, k: (BEST, k == 2), centre=False)
    assert [len(own) for own in rounds] == [1, 1]


@pytest.mark.parametrize("part", [0, 3])
def test_a_turned_study_knows_its_training_fold_alone(prepared, part):
    other = turned(prepared, part, centre=False)
    assert (other.folds.validation == prepared.folds.parts[part]).all()

    train = sum(values.astype(np.float64) for values in other.folds.parts) / 0.675
    assert train.sum() == pytest.approx(prepared.summary.sample.sum(), rel=0.02)
    moments = dataclasses.replace(
        prepared.summary.moments, n=len(train), sums=train.sum(axis=0), products=train.T @ train
    )
    axes = principal_basis(moments, prepared.estimate.model, n_vectors=3)
    np.testing.assert_allclose(other.fold_basis.first(3).vectors, axes.vectors, atol=1e-7)
    np.testing.assert_allclose(other.fold_scores[:, :3], axes.project(train), rtol=1e-4, atol=1e-3)


def gain_of_one_more(monkeypatch, gain):
    """Let two latents be better than one by a difference that no single fold is sure of."""
    calls = []

    def score(prepared, k, **_):
        calls.append(k)
        noise = np.random.default_rng(len(calls)).normal(0, 1, 400)
        return 10 - gain * (k > 1) + (noise - noise.mean()) * (k > 1) + 0.3 * (k > 2), False

    monkeypatch.setattr(networks, "score_latents", score)
    return calls


def chosen(prepared, **options):
    curve, _ = networks.choose_latents(
        prepared, "dense", SHORT, seed=0, device=torch.device("cpu"), track=everything, **options
    )
    return curve.chosen


def test_a_race_sees_what_one_fold_is_not_sure_of(prepared, monkeypatch):
    gain_of_one_more(monkeypatch, 0.04)  # 0.8 standard errors of one fold, 1.8 of five

    assert chosen(prepared) == 1
    assert chosen(prepared, race=True) == 2


def test_one_latent_more_than_pca_has_components_may_win_but_not_where_nothing_is_held_out(
    prepared, monkeypatch
):
    one = dataclasses.replace(prepared, rank=dataclasses.replace(prepared.rank, chosen=1))
    calls = gain_of_one_more(monkeypatch, 0.04)

    assert chosen(one, race=True) == 2
    calls.clear()
    assert chosen(dataclasses.replace(one, hold_out="none"), race=True) == 1
    assert calls == [1]


def test_a_large_map_is_not_raced(prepared, monkeypatch):
    calls = gain_of_one_more(monkeypatch, 0.04)
    monkeypatch.setattr(networks, "_RACED_ELEMENTS", prepared.folds.validation.size - 1)

    assert chosen(prepared, race=True) == 1
    assert calls == [1, 2, 3, 4]


@pytest.mark.parametrize("gaussian", [False, True])
def test_pure_noise_needs_one_latent(gaussian):
    rng = np.random.default_rng(3)
    mean = np.linspace(2, 6, 64)
    noise = rng.normal(50 + mean, 3, (20, 20, 64)).astype(np.float32) if gaussian else None
    found = decompose(
        SpectrumStream(rng.poisson(mean, (20, 20, 64)) if noise is None else noise), config=SHORT
    )

    assert found.rank.chosen == found.model.n_components == 1
    assert len(found.rank.ranks) == 2  # it was tried
