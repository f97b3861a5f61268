"""Spectra that are moved along energy."""

from __future__ import annotations

import numpy as np

from hyperspy_specml.prepare import Moves

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


def test_moves_are_undone_by_their_inverse():
    moves, by = Moves(np.arange(E), 2.0), np.array([(1.0, 0.5), (-0.7, -1.0)])

    for one, (back,) in zip(moves.moved(peaks([22.0]), by), by[:, None], strict=True):
        (again,) = moves.moved(one, moves.inverse(back[None]))
        np.testing.assert_allclose(again, peaks([22.0]), atol=2e-3)
        assert np.abs(one - peaks([22.0])).max() > 0.05
