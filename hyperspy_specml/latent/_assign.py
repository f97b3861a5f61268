"""What follows once it is known what pixels are: scores beside PCA, labels, shares and errors, summed spectra."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._mixture import Classes, Data, Mixture, alike
from hyperspy_specml.latent._reject import model_error
from hyperspy_specml.models import Candidate
from hyperspy_specml.statistics import (
    TEST,
    TRAIN,
    VALIDATION,
    PoissonGaussianNoise,
    PoissonNoise,
    moments_of,
    paired,
    principal_basis,
)

if TYPE_CHECKING:
    from hyperspy_specml.latent._choose import Choice
    from hyperspy_specml.latent._grid import Grid
    from hyperspy_specml.latent._laws import Law
    from hyperspy_specml.latent._table import Recipe, Table
    from hyperspy_specml.streaming import SpectrumStream

# Part of a pixel that is one phase, from which its counts are summed into the spectrum of the phase.
_PURE = 0.75
# By how much the errors of shares exceed those of independent pixels: neighbours are wrong together.
_TOGETHER = 4.0
# Part of the border pixels of a phase that may be wrong alike: mixtures are in sixths, and borders have a shape.
_OF_BORDER = 0.03
# Pixels that the model error is measured on, and those that are compared with PCA, at most.
_MOST_ERROR_ROWS, _MOST_COMPARED = 2000, 4096


@dataclass(frozen=True, eq=False)
class Split:
    """Spectra that a mixture is fitted to, and those of the other two folds."""

    train: Data
    validation: np.ndarray
    test: np.ndarray


def expanded(data: Data, choice: Choice, known: np.ndarray) -> Mixture:
    """Return the chosen mixture with spectra in all values."""
    weights = choice.classes.weights
    spectra = data.law.update(data.values, weights, (weights @ data.values).astype(np.float64))
    if choice.chosen.n_fixed:
        spectra[: len(known)] = known
    return replace(choice.chosen, spectra=spectra)


def ordered(mixture: Mixture, n_first: int) -> Mixture:
    """Return the mixture with labelled and known phases first, the others by falling share."""
    order = np.append(np.arange(n_first), n_first + np.argsort(-mixture.prior[n_first:], kind="stable")).astype(int)
    return replace(mixture, spectra=mixture.spectra[order], prior=mixture.prior[order])


def candidates_of(folds: Split, mixture: Mixture, classes: Classes, recipe: Recipe) -> tuple[Candidate, ...]:
    """Score the mixture on the test fold beside PCA of the same size, both fitted to the training fold."""
    data, k = folds.train, mixture.n_phases
    some = np.flatnonzero(data.grid.used)
    rows = data.values[some]
    noise = recipe.noise if isinstance(data.law, MultinomialLaw) else PoissonGaussianNoise(0.0, 1.0)
    basis = principal_basis(moments_of(rows), noise, n_vectors=k)
    step = -(-len(some) // _MOST_COMPARED)
    some, rows = some[::step], rows[::step]
    floor = 1e-3 * np.maximum(rows.mean(axis=0), 1e-2 * max(float(rows.mean()), 0))
    unit, shares = alike(mixture.spectra).astype(np.float32), classes.phase_shares[:, some].T
    if isinstance(data.law, MultinomialLaw):
        own = rows.sum(axis=1, keepdims=True) * (shares @ unit)
    else:
        own = _scaled(shares @ unit, rows)
    predictions = {"phases": own, "pca": basis.spectra(basis.project(rows))}
    scores = {
        (fold, name): _deviance(values[some], prediction, fraction, floor, data.law)
        for fold, values, fraction in (("validation", folds.validation, VALIDATION), ("test", folds.test, TEST))
        for name, prediction in predictions.items()
    }
    pair = paired(scores["test", "phases"], scores["test", "pca"])
    means = {key: float(value.mean()) for key, value in scores.items()}
    return (
        Candidate(
            f"{k} phase{'s' * (k > 1)}", pair.mean, pair.difference, pair.standard_error, means["validation", "phases"]
        ),
        Candidate(f"pca ({k})", means["test", "pca"], 0.0, 0.0, means["validation", "pca"]),
    )


def _scaled(spectra: np.ndarray, rows: np.ndarray) -> np.ndarray:
    size = np.maximum((spectra**2).sum(axis=1, keepdims=True), 1e-30)
    return np.maximum((rows * spectra).sum(axis=1, keepdims=True), 0) / size * spectra


def _deviance(held: np.ndarray, prediction: np.ndarray, fraction: float, floor: np.ndarray, law: Law) -> np.ndarray:
    """Return the (n,) deviances of a fold with this fraction of the counts to predictions of the training fold."""
    relative = np.float32(fraction / TRAIN)
    if isinstance(law, MultinomialLaw):
        return PoissonNoise().deviance(held, relative * np.maximum(prediction, floor), None)
    return np.asarray(((held - relative * prediction) ** 2).sum(axis=1, dtype=np.float64) / fraction)


def model_error_of(table: Table, mixture: Mixture, recipe: Recipe, seed: int) -> float:
    some = np.flatnonzero(table.grid.used)
    some = some[:: -(-len(some) // _MOST_ERROR_ROWS)]
    return model_error(table.values[some], mixture.spectra, recipe.law, seed=seed)


def labels_of(classes: Classes, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, the second largest share, areas of the phases and their standard errors."""
    chance, shares, used = classes.phase_probability, classes.phase_shares, grid.used
    labels = np.where(used, chance.argmax(axis=0), -1)
    ordered = np.sort(shares, axis=0)
    second = np.where(used, ordered[-2] if len(shares) > 1 else 0.0, np.nan).astype(np.float32)
    n_used = max(1, int(used.sum()))
    areas = shares[:, used].sum(axis=1, dtype=np.float64) / n_used
    variance = (chance * (1 - chance))[:, used].sum(axis=1, dtype=np.float64)
    border = grid.meet(labels, len(shares))[:, classes.border].sum(axis=1)
    error = np.sqrt(_TOGETHER * variance + (_OF_BORDER * border) ** 2) / n_used
    return labels, second, areas, error


def probability_of(classes: Classes, used: np.ndarray) -> np.ndarray:
    found = classes.phase_probability
    found[:, ~used] = np.nan
    return found


def sum_spectra(
    stream: SpectrumStream, labels: np.ndarray, second: np.ndarray, k: int, channels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the spectra of every phase, in one pass: of pixels that are hardly mixed, if it has any."""
    pure = np.where((labels >= 0) & ~(second > 1 - _PURE), labels, -1)
    n = np.bincount(pure[pure >= 0], minlength=k)
    for phase in np.flatnonzero(n == 0):
        pure[labels == phase] = phase
    n = np.bincount(pure[pure >= 0], minlength=k)
    sums = stream.fold(_SumLabels(pure, k, channels), np.add, label="Sum spectra")
    return sums, np.maximum(n, 1e-9).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _SumLabels:
    """The block function of the pass: (K, E) sums, exact for counts."""

    labels: np.ndarray
    k: int
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        labels = self.labels[pixels]
        sums = np.zeros((self.k, int(self.channels.sum())))
        for phase in np.unique(labels[labels >= 0]):
            sums[phase] = rows[labels == phase].sum(axis=0, dtype=np.float64)[self.channels]
        return sums
