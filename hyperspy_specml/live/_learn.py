"""Learn the phases of the spectra received so far, and judge by held-out counts whether that is better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent import (
    FRACTIONS,
    Data,
    Folds,
    Grid,
    Mixture,
    choose,
    classify,
    compression,
    fit,
    held_out_scores,
    one_phase,
)
from hyperspy_specml.live._library import Library
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise

if TYPE_CHECKING:
    from hyperspy_specml.latent import Choice, Recipe
    from hyperspy_specml.live._spectra import Spectra

# Iterations on all counts, from phases fitted to the training fold.
_STEPS = 8
# Iterations on the training fold by which phases forget the counts of other folds.
_FORGET = 3


@dataclass(frozen=True, eq=False)
class Lesson:
    """What was learnt.

    Attributes
    ----------
    library
        The phases, with their null distribution.
    gain, gain_error
        Mean fall of the held-out deviance per spectrum against the library before, and its standard error; NaN
        where there was none.
    certain
        Whether held-out counts say that there is not one phase more.
    """

    library: Library
    gain: float = np.nan
    gain_error: float = np.nan
    certain: bool = True

    @property
    def accepted(self) -> bool:
        """Whether held-out counts are not described worse than before."""
        return not self.gain < 0


def learn(values: np.ndarray, grid: Grid, recipe: Recipe, *, before: Library | None, seed: int) -> Lesson:
    """Learn phases from spectra.

    Parameters
    ----------
    values
        (n, G) values of the law, 0 where a pixel is not used.
    grid
        The pixels.
    recipe
        From spectra to values.
    before
        The library that is compared with.
    seed
        Of the folds and of the drawn spectra.
    """
    train, validation, _ = held_folds(values, recipe, seed)
    given = np.full(len(values), -1)
    matrix = compression(Data(train, recipe.fold_law, grid, given), np.empty((0, values.shape[1])))
    data = Data(train @ matrix, recipe.fold_law, grid, given)
    folds = Folds(data, validation @ matrix)
    start = one_phase(data, mixed=bool(grid.coupled))
    if before is not None:
        prior = before.n_spectra / before.n_spectra.sum()
        start = replace(start, spectra=before.spectra @ matrix, prior=prior)
        start, _ = fit(data, start, steps=_FORGET)  # its spectra hold counts of the validation fold
    choice = choose(folds, start, Run(), n_phases=None)
    gain, error = np.nan, np.nan
    if before is not None:
        old = replace(start, strength=choice.chosen.strength, mixed=choice.chosen.mixed)
        difference = _scores(folds, old) - _scores(folds, choice.chosen)
        gain, error = float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))
    whole, weights = Data(values, recipe.law, grid, given), choice.classes.weights
    spectra = whole.law.update(values, weights, (weights @ values).astype(np.float64))
    mixture, weights = fit(whole, replace(choice.chosen, spectra=spectra), steps=_STEPS)
    order = np.argsort(-mixture.prior)
    mixture, weights = replace(mixture, spectra=mixture.spectra[order], prior=mixture.prior[order]), weights[order]
    library = Library(weights @ values, np.maximum(weights.sum(axis=1), 1.0), recipe.law)
    used = np.flatnonzero(grid.used)
    return Lesson(library.with_null(values[used], seed=seed), gain, error, _is_certain(choice))


def _is_certain(choice: Choice) -> bool:
    """Return whether one phase more is no better; those that were merged are none for other reasons."""
    curve = choice.curve
    best, more = (np.flatnonzero(curve.ranks == curve.chosen + k) for k in (0, 1))
    if choice.merged or not len(more):
        return True
    return bool(curve.scores[more[0]] >= curve.scores[best[0]])


def begin_with(library: Library, spectra: Spectra, *, seed: int) -> Lesson:
    """Return phases of another map, with the deviates that spectra of this map have by chance.

    Parameters
    ----------
    library
        The phases.
    spectra
        First spectra of this map.
    seed
        Of the drawn spectra.
    """
    return Lesson(library.with_null(spectra, seed=seed))


def held_folds(values: np.ndarray, recipe: Recipe, seed: int) -> list[np.ndarray]:
    """Return the (n, G) values of the training, validation and test fold.

    Parameters
    ----------
    values
        (n, G) values of the law.
    recipe
        From spectra to values.
    seed
        Of the folds.
    """
    noise = PoissonNoise() if recipe.deviation is None else PoissonGaussianNoise(0.0, 1.0)
    return [fold.astype(np.float32) for fold in noise.split(values, np.arange(len(values)), FRACTIONS, seed=seed)]


def _scores(folds: Folds, mixture: Mixture) -> np.ndarray:
    data = folds.data
    evidence = data.law.evidence(data.values, mixture.spectra)
    held = data.law.held_out(data.values, folds.validation, mixture.spectra)
    return held_out_scores(data, mixture, classify(data, mixture, evidence), folds.validation, held)
