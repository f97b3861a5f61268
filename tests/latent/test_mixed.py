"""Pixels near a border that are mixtures of two phases, at few counts; and numbers of phases that are too large."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from hyperspy_specml.latent import _choose
from hyperspy_specml.latent._choose import Folds, choose, one_phase
from hyperspy_specml.latent._grid import Grid
from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._mixture import Data, Mixture, fit_classes, with_mixtures
from hyperspy_specml.run import Run

SIDE, N_CHANNELS, STRENGTH = 48, 24, 1.0
SPECTRA = np.full((2, N_CHANNELS), 0.5 / N_CHANNELS)
SPECTRA[0, :6] += 0.5 / 6
SPECTRA[1, -6:] += 0.5 / 6


def squares(blur):
    """(pixels, 2) shares of two phases in squares of 12 pixels, the beam as wide as `blur` pixels."""
    y, x = np.indices((SIDE, SIDE)) // 12
    first = uniform_filter(((y + x) % 2).astype(float), blur, mode="nearest").reshape(-1)
    return np.stack([first, 1 - first], axis=1)


def drawn(shares, *, dose=12.0, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.poisson(dose * shares @ SPECTRA).astype(np.float32)
    grid = Grid((SIDE, SIDE), (0, 1), np.ones(len(values), bool))
    return Data(values, MultinomialLaw(), grid, np.full(len(values), -1))


@pytest.mark.parametrize("blur", [1, 3, 5])
def test_at_few_counts_there_are_as_many_mixed_pixels_as_the_beam_makes(blur):
    shares = squares(blur)
    data = drawn(shares)
    mixture = Mixture(SPECTRA, np.full(2, 0.5), STRENGTH, 0.3)
    found, classes = with_mixtures(data, mixture, data.law.evidence(data.values, SPECTRA))
    truth = float((shares.min(axis=1) > 0.01)[classes.border].mean())
    assert classes.mixed_part == pytest.approx(truth, abs=0.3 * truth + 0.03)
    assert (found.mixed > mixture.mixed) == (blur > 1)


def test_mixed_pixels_do_not_vanish_where_the_fit_before_had_none_left():
    shares = squares(5)
    data = drawn(shares)
    fitted, before = fit_classes(data, Mixture(SPECTRA, np.full(2, 0.5), STRENGTH, 0.02), steps=8)
    _, after = with_mixtures(data, fitted, data.law.evidence(data.values, fitted.spectra), start=before.pure)
    truth = shares[:, 0]
    errors = [np.abs(one.phase_shares[0] - truth)[after.border].mean() for one in (before, after)]
    assert before.mixed_part < 0.1
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("worse", [False, True])
def test_phases_are_as_few_as_were_grown_where_leaving_one_out_is_worse(monkeypatch, worse):
    data, held = drawn(squares(1)), drawn(squares(1), dose=3.0, seed=1).values
    folds = Folds(data, held)
    choice = choose(folds, one_phase(data, mixed=True), Run(), n_phases=2)
    grown = _choose._fitted(folds, choice.chosen, Run().progress)
    three = Mixture(np.vstack([grown.mixture.spectra, grown.mixture.spectra[:1]]), np.full(3, 1 / 3), STRENGTH, 0.3)
    best = _choose._fitted(folds, three, Run().progress, warm=True)
    noise = np.random.default_rng(0).normal(0, 0.1, len(held))
    best = _choose._Fitted(best.mixture, best.classes, grown.scores - worse + noise)
    far = _choose._Fitted(grown.mixture, grown.classes, grown.scores + 5 + noise)
    monkeypatch.setattr(_choose, "_fitted", lambda *args, **options: far)
    found = _choose._without_one(folds, best, {2: grown}, [], Run().progress, most=-np.inf)
    assert (found is grown) == (not worse)
