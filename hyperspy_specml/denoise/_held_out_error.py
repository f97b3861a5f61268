"""Held-out errors of denoised scores, in units of the noise, without computing a spectrum.

Candidates are compared by squared error. On simulated maps it orders them as the truth does, while the
Poisson deviance, which depends most on predictions near zero at low doses, prefers others whose error is up
to a third larger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.prepare import project_parts
from hyperspy_specml.statistics import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.statistics import PrincipalBasis

# Spectra whitened at a time: they stay in the cache.
_SLAB = 512
FRACTIONS = {"validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class HeldOutError:
    """Scores predictions along orthonormal vectors of whitened spectra.

    ``|y - V s|**2 = |y|**2 - 2 (V.T y) s + |s|**2``: only scores are needed once y is projected.

    Attributes
    ----------
    data
        Training data of the map. Every basis must have its weights and its offset.
    """

    data: TrainingData
    _squares: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def scores_of(self, fold: str, basis: PrincipalBasis) -> np.ndarray:
        """Return (n, P) scores of the counts of a fold, on the scale of the whole data."""
        fraction = FRACTIONS[fold]
        return project_parts((self._values(fold),), np.array([fraction]), basis)[:, 0] / np.float32(fraction)

    def score(self, fold: str, basis: PrincipalBasis, scores: np.ndarray) -> np.ndarray:
        """Return (n,) squared errors of predictions, summed over channels; noise makes about 1 for each.

        Parameters
        ----------
        fold
            "validation" or "test".
        basis
            The P vectors of the predictions.
        scores
            (n, P) predicted scores on the scale of the whole data.
        """
        found = self.scores_of(fold, basis).astype(np.float64)
        error = np.einsum("np,np->n", scores, scores - 2 * found)
        return FRACTIONS[fold] * (self._square(fold) + error)

    def _values(self, fold: str) -> np.ndarray:
        return self.data.folds.validation if fold == "validation" else self.data.folds.test

    def _square(self, fold: str) -> np.ndarray:
        """Return (n,) squared lengths of the whitened spectra of a fold."""
        if fold not in self._squares:
            basis, values, fraction = self.data.fold_basis, self._values(fold), np.float32(FRACTIONS[fold])
            squares = np.empty(len(values))
            weights, offset = basis.weights.astype(np.float32), basis.offset.astype(np.float32)
            for start in range(0, len(values), _SLAB):
                rows = slice(start, start + _SLAB)
                white = (values[rows] / fraction - offset) * weights
                squares[rows] = np.einsum("ne,ne->n", white, white)
            self._squares[fold] = squares
        return self._squares[fold]


def pca_errors(data: TrainingData, basis: PrincipalBasis) -> np.ndarray:
    """Return (n,) held-out errors, on the validation fold, of the training fold projected on a basis."""
    train, fraction = data.folds.train, np.float32(TRAIN)
    # In slabs: all spectra at once would be the largest array of the whole analysis.
    scores = np.concatenate([basis.project(train(rows) / fraction) for rows in data.folds.slabs()])
    return HeldOutError(data).score("validation", basis, scores)
