"""Spectra that are moved in the compressed space: against spectra that are moved themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperspy_specml.prepare import Moves, prepare
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import PrincipalBasis
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.train import Batch, Moved

E = 50
CHANNELS = np.arange(E)


def peaks(centre, width=3.0, channels=CHANNELS):
    return np.exp(-((channels - np.asarray(centre)[..., None]) ** 2) / (2 * width**2))


def test_a_peak_is_shifted_and_stretched_about_the_middle_and_keeps_its_counts():
    moves = Moves(np.arange(E), 2.0)

    up, wide = moves.moved(peaks([15.0, 30.0]), np.array([(1.0, 0.0), (0.0, 1.0)]))

    np.testing.assert_allclose(up, peaks([17.0, 32.0]), atol=2e-3)
    factor, middle = 1 + 2 / 24.5, 24.5  # the ends move by two channels
    expected = peaks(middle + factor * (np.array([15.0, 30.0]) - middle), 3 * factor) / factor
    np.testing.assert_allclose(wide, expected, atol=2e-3)
    np.testing.assert_allclose(wide.sum(axis=1), peaks([15.0, 30.0]).sum(axis=1), rtol=1e-3)


def test_channels_that_are_left_out_are_passed_over():
    used = np.delete(np.arange(E), [10, 11, 40])

    (moved,) = Moves(used, 4.0).moved(peaks([25.0], channels=used), np.array([(1.0, 0.0)]))

    np.testing.assert_allclose(moved, peaks([29.0], channels=used), atol=5e-3)


def test_scores_are_moved_as_the_spectra_that_they_stand_for():
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, E)
    vectors = np.linalg.qr((peaks(np.arange(5, 45, 5)) * weights).T)[0]
    basis = PrincipalBasis(weights, rng.uniform(0, 1, E), vectors, np.ones(8))
    moves, centre, scale = Moves(np.arange(E), 1.5), rng.normal(size=8), 2.5
    x = rng.normal(size=(6, 8))

    turns, steps = moves.operators(basis, centre, scale)

    spectra = basis.spectra(scale * x + centre)
    moved = x @ turns + steps[:, None]
    still = np.abs(moved - x).max(axis=(1, 2)) < 1e-9
    assert still.mean() == pytest.approx(0.25)
    by = np.random.default_rng(0x6D6F7665).uniform(-1.25, 1.25, (3, 2))  # a quarter beyond the range
    for found, expected in zip(moved, moves.moved(spectra, by), strict=False):
        np.testing.assert_allclose(scale * found + centre, (expected - basis.offset) * weights @ vectors, atol=1e-9)


def test_input_and_target_are_moved_alike_and_each_spectrum_in_its_own_way():
    class Fixed:
        def draw(self):
            return Batch(torch.ones(40, 2), 2 * torch.ones(40, 2), torch.arange(40.0))

    turns = torch.stack([torch.eye(2), 3 * torch.eye(2)])

    batch = Moved(Fixed(), turns, torch.zeros(2, 2), torch.Generator().manual_seed(0)).draw()

    torch.testing.assert_close(batch.target, 2 * batch.input)
    assert {*batch.input[:, 0].tolist()} == {1.0, 3.0}
    torch.testing.assert_close(batch.weight, torch.arange(40.0))


def test_the_basis_of_a_map_that_stays_has_room_for_what_moves():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0, 1, (13, 17, 1))
    counts = rng.poisson(60 * (shares * peaks(15.0) + (1 - shares) * peaks(33.0, 4.0) + 0.2))
    data = prepare(SpectrumStream(counts.astype(np.uint16)), Run(), n_needed=2)
    mean = data.folds.mean
    (moved,) = Moves(np.arange(E), 2.0).moved(mean[None], np.array([(1.0, 0.0)]))

    wide = Moves(np.arange(E), 2.0).widened(data)

    def missed(basis):
        white = moved[0] * basis.weights
        return np.linalg.norm(white - basis.vectors @ (basis.vectors.T @ white))

    for before, after in ((data.fold_basis, wide.fold_basis), (data.basis, wide.basis)):
        assert before.n_vectors < after.n_vectors <= 2 * before.n_vectors
        np.testing.assert_allclose(after.vectors.T @ after.vectors, np.eye(after.n_vectors), atol=1e-9)
        assert missed(after) < 0.1 * missed(before)
    np.testing.assert_allclose(wide.fold_parts[..., : data.fold_basis.n_vectors], data.fold_parts, atol=1e-5)
