"""What is a phase of its own, and what is told apart by fewer values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from hyperspy_specml.latent._choose import Folds, choose, one_phase
from hyperspy_specml.latent._compress import compression
from hyperspy_specml.latent._distinct import distance_to_mixtures, lies_between
from hyperspy_specml.latent._grid import Grid
from hyperspy_specml.latent._laws import LineLaw, MultinomialLaw
from hyperspy_specml.latent._mixture import Data
from hyperspy_specml.run import Run

SHAPE, N_CHANNELS = (26, 34), 60
CHANNEL = np.arange(N_CHANNELS)


def spectrum(*centres):
    found = 0.02 + sum(np.exp(-0.5 * ((CHANNEL - centre) / 2) ** 2) for centre in centres)
    return found / found.sum()


PURE = np.array([spectrum(12), spectrum(30), spectrum(48)])


def folds_of(shares, spectra=PURE, *, dose=150.0, seed=0):
    """Training and validation counts of a map of (y, x, K) shares."""
    rng = np.random.default_rng(seed)
    mean = dose * (shares @ spectra).reshape(-1, N_CHANNELS)
    train, validation = (rng.poisson(part * mean).astype(np.float32) for part in (0.7, 0.15))
    grid = Grid(shares.shape[:2], (0, 1), np.ones(len(mean), bool))
    return Folds(Data(train, MultinomialLaw(), grid, np.full(len(mean), -1)), validation)


def chosen(shares, **options):
    folds = folds_of(shares, **options)
    return choose(folds, one_phase(folds.data, mixed=True), Run(), n_phases=None)


def stripes(*edges):
    return np.eye(3)[np.broadcast_to(np.digitize(np.arange(SHAPE[1]), edges), SHAPE)]


@pytest.mark.parametrize("blur", [1, 3])
def test_borders_over_three_pixels_are_no_phases(blur):
    assert chosen(uniform_filter1d(stripes(11, 25), blur, axis=1, mode="nearest")).curve.chosen == 3


def test_noise_of_one_spectrum_is_one_phase():
    assert chosen(stripes(99)).curve.chosen == 1


def test_a_gradient_that_has_no_step_is_one_phase():
    part = np.broadcast_to(np.linspace(0.2, 0.8, SHAPE[1])[:, None], (*SHAPE, 1))
    found = chosen(np.concatenate([part, 1 - part, 0 * part], axis=-1))
    assert found.curve.chosen == 1
    assert found.merged


def test_columns_of_a_crystal_are_no_phases_as_hardly_a_pixel_is_one_alone():
    y, x = np.indices(SHAPE)
    part = (0.5 + 0.25 * np.cos(2 * np.pi * x / 5.3) + 0.25 * np.cos(2 * np.pi * y / 5.3))[..., None]
    found = chosen(np.concatenate([part, 1 - part, 0 * part], axis=-1), dose=3000.0)
    assert found.curve.chosen == 1
    assert "smeared" in found.merged


def test_grains_of_a_mean_composition_are_a_phase():
    spectra = np.array([PURE[0], PURE[1], 0.5 * (PURE[0] + PURE[1])])
    blocks = np.add.outer(np.arange(SHAPE[0]) // 7, np.arange(SHAPE[1]) // 7) % 3
    assert chosen(np.eye(3)[blocks], spectra=spectra).curve.chosen == 3


def test_the_distance_of_a_mixture_is_0_and_that_of_other_channels_is_1():
    data = folds_of(stripes(11, 25)).data
    mixture = np.vstack([PURE[:2], 0.3 * PURE[0] + 0.7 * PURE[1]])
    distance, shares = distance_to_mixtures(mixture, 2, data)
    assert distance == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(shares, [0.3, 0.7, 0], atol=1e-6)
    apart = np.kron(np.eye(3), np.ones(20))
    assert distance_to_mixtures(apart, 1, data)[0] == pytest.approx(1)


def test_the_distance_that_noise_of_few_counts_makes_is_taken_off():
    data, rng = folds_of(stripes(11, 25)).data, np.random.default_rng(0)
    broad = (PURE + 0.02) / (PURE + 0.02).sum(axis=1, keepdims=True)
    border = rng.poisson(1500 * (0.3 * broad[0] + 0.7 * broad[1]))
    assert distance_to_mixtures(np.vstack([broad[:2], border]), 2, data)[0] > 0.15
    assert distance_to_mixtures(np.vstack([broad[:2], border]), 2, data, n_counts=border.sum())[0] < 0.05
    another = np.vstack([broad[:2], rng.poisson(1500 * broad[2])])
    assert distance_to_mixtures(another, 2, data, n_counts=1500)[0] > 0.4


def test_a_border_of_three_phases_lies_between_any_two_of_them():
    labels, shares = np.full(SHAPE, 2), np.array([0.4, 0.0, 0.35, 0.25])
    labels[:, :17], labels[13:, 17:] = 0, 3
    labels[12:, 16:18] = labels[12:14, 17:] = 1  # along the third; the two largest touch each other
    grid = folds_of(stripes(11, 25)).data.grid
    assert lies_between(labels.ravel(), grid, 1, shares)
    labels[labels == 3] = 2
    labels[12:14, 17:] = 1  # a line within one phase
    assert not lies_between(labels.ravel(), grid, 1, np.array([0.5, 0.0, 0.0, 0.5]))


def test_what_keeps_two_phases_apart_lies_between_them():
    labels = stripes(11, 25).argmax(axis=-1)
    grid, shares = folds_of(stripes(11, 25)).data.grid, np.array([0.5, 0.0, 0.5])
    assert lies_between(labels.ravel(), grid, 1, shares)
    labels[:13] = np.where(labels[:13] == 1, 0, labels[:13])  # now they touch along half of the map
    assert not lies_between(labels.ravel(), grid, 1, shares)


def test_channels_are_counted_together_only_where_phases_have_one_ratio():
    folds = folds_of(np.repeat(stripes(11, 25), 2, axis=0).reshape(*SHAPE, 2, 3)[:, :, 0])
    wide = replace(folds.data, values=np.repeat(folds.data.values, 4, axis=1) / 4)
    matrix = compression(wide, np.empty((0, 4 * N_CHANNELS)))
    np.testing.assert_array_equal(matrix.sum(axis=1), 1)
    assert matrix.shape[1] < 0.5 * len(matrix)

    def information(spectra):
        return (spectra * np.log(spectra / spectra.mean(axis=0))).sum()

    before = np.repeat(PURE, 4, axis=1) / 4
    assert information(before @ matrix) > 0.97 * information(before)


def test_noise_stays_white_in_fewer_values():
    rows = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    grid = Grid((300,), (), np.ones(300, bool))
    matrix = compression(Data(rows, LineLaw(), grid, np.full(300, -1)), np.empty((0, 200)))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5)
