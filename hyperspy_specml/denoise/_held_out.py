"""Errors of predicted scores on counts that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.prepare import project_parts
from hyperspy_specml.statistics import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.statistics import PrincipalBasis

_FRACTIONS = {"validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class HeldOutError:
    """Squared errors of predicted scores on a fold that they have not seen, without computing a spectrum.

    On simulated maps the squared error, in units of the noise, orders candidates as the truth does, while the
    Poisson deviance, which depends most on predictions near zero at low doses, prefers others whose error is up
    to a third larger. ``|y - V s|**2 = |y|**2 - 2 (V.T y) s + |s|**2``: only scores are needed once y is
    projected.

    Attributes
    ----------
    data
        Training data of the map. Every basis must have its weights and its offset.
    fold
        "validation" or "test".
    """

    data: TrainingData
    fold: str

    def scores(self, basis: PrincipalBasis) -> np.ndarray:
        """Return (n, P) scores of the counts of the fold, on the scale of the whole data."""
        values, fraction = getattr(self.data.folds, self.fold), _FRACTIONS[self.fold]
        return project_parts((values,), (fraction,), basis)[:, 0] / np.float32(fraction)

    def of(self, basis: PrincipalBasis, scores: np.ndarray) -> np.ndarray:
        """Return (n,) errors of (n, P) scores along a basis, summed over channels; noise makes about 1 for each."""
        error = np.einsum("np,np->n", scores, scores - 2 * self.scores(basis).astype(np.float64))
        return _FRACTIONS[self.fold] * (self._squares + error)

    @cached_property
    def _squares(self) -> np.ndarray:
        """(n,) squared lengths of the whitened spectra of the fold."""
        basis, values, fraction = self.data.fold_basis, getattr(self.data.folds, self.fold), _FRACTIONS[self.fold]
        squares = np.empty(len(values))
        weights, offset = basis.weights.astype(np.float32), basis.offset.astype(np.float32)
        for rows in self.data.folds.slabs():
            white = (values[rows] / np.float32(fraction) - offset) * weights
            squares[rows] = np.einsum("ne,ne->n", white, white)
        return squares


def pca_errors(data: TrainingData, basis: PrincipalBasis) -> np.ndarray:
    """Return (n,) held-out errors, on the validation fold, of the training fold projected on a basis."""
    train, fraction = data.folds.train, np.float32(TRAIN)
    # In slabs: all spectra at once would be the largest array of the whole analysis.
    scores = np.concatenate([basis.project(train(rows) / fraction) for rows in data.folds.slabs()])
    return HeldOutError(data, "validation").of(basis, scores)
