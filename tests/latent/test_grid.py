"""Neighbours: what they add to the evidence of a pixel, and how much that should be."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from hyperspy_specml.latent import Grid, posterior
from hyperspy_specml.latent import predicted_strength as predicted
from hyperspy_specml.progress import Progress

SHAPE, K = (24, 30), 3
predicted_strength = partial(predicted, progress=Progress())


def blocks(*, noise=1.5, seed=0, shape=SHAPE):
    """Return classes that fill blocks of six pixels, and noisy log likelihoods of them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, K, [-(-n // 6) for n in shape])
    for axis in range(len(shape)):
        coarse = coarse.repeat(6, axis=axis)
    truth = coarse[tuple(slice(n) for n in shape)].reshape(-1)
    seen = np.eye(K)[truth].T + noise * rng.standard_normal((K, truth.size))
    evidence = seen / noise**2  # log likelihood of unit vectors with Gaussian noise, but for what all have in common
    return truth, (evidence - np.log(np.exp(evidence).sum(axis=0))).astype(np.float32)


def grid_of(shape=SHAPE, used=None):
    return Grid(shape, tuple(range(len(shape))), np.ones(np.prod(shape), bool) if used is None else used)


@pytest.mark.parametrize("shape", [(24, 30), (1200,), (8, 9, 12)])
def test_neighbours_that_are_alike_help_each_other(shape):
    truth, evidence = blocks(shape=shape)
    strength = predicted_strength(evidence, grid_of(shape), 0)
    found = posterior(evidence, grid_of(shape), strength)
    alone, together = (evidence.argmax(axis=0) == truth).mean(), (found.argmax(axis=0) == truth).mean()
    assert strength > 0
    assert together > alone + 0.15


def test_probabilities_with_neighbours_are_as_often_right_as_they_say():
    right, said = [], []
    for seed in range(8):  # a strength that is too large says more than it knows
        truth, evidence = blocks(seed=seed)
        found = posterior(evidence, grid_of(), predicted_strength(evidence, grid_of(), 0))
        right.append(found.argmax(axis=0) == truth)
        said.append(found.max(axis=0))
    assert np.mean(said) == pytest.approx(np.mean(right), abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_in_random_order_each_pixel_speaks_for_itself(seed):
    # Classes of unequal size: that most neighbours are of the large class says nothing of where they are.
    rng = np.random.default_rng(seed)
    truth = rng.choice(K, 720, p=[0.8, 0.15, 0.05])
    evidence = (np.eye(K)[truth].T + rng.standard_normal((K, 720))).astype(np.float32)
    assert predicted_strength(evidence, grid_of(), seed) == 0


def test_pixels_without_a_spectrum_have_no_say():
    truth, evidence = blocks()
    used = np.random.default_rng(1).random(truth.size) > 0.2
    wrong = evidence.copy()
    wrong[:, ~used] = [[50.0], [0.0], [0.0]]
    grid = grid_of(used=used)
    strength = predicted_strength(evidence, grid, 0)
    assert strength == predicted_strength(wrong, grid, 0)
    assert (posterior(evidence, grid, strength) == posterior(wrong, grid, strength)).all()


def test_a_pixel_whose_counts_are_clear_is_not_outvoted():
    truth, evidence = blocks()
    middle = 12 * 30 + 15
    other = (truth[middle] + 1) % K
    evidence[:, middle] = np.where(np.arange(K) == other, 0.0, -40.0)
    found = posterior(evidence, grid_of(), predicted_strength(evidence, grid_of(), 0))
    assert found[:, middle].argmax() == other


def test_one_class_needs_no_neighbours():
    assert predicted_strength(np.zeros((1, 720), np.float32), grid_of(), 0) == 0
