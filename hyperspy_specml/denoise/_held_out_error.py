"""Held-out errors of denoised scores, in units of the noise, without making a spectrum.

What denoising is for is a small error, and squared error measures just that. The Poisson deviance does not:
at low doses it is ruled by predictions near zero. On simulated maps the squared error orders candidates
as the truth does, the deviance prefers others whose error is up to a third larger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.prepare import project_parts
from hyperspy_specml.statistics import TEST, VALIDATION

if TYPE_CHECKING:
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.statistics import PrincipalBasis

_SLAB = 512  # spectra
SHARES = {"validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class HeldOutError:
    """Scores predictions along orthonormal axes of whitened spectra.

    ``|y - V s|**2 = |y|**2 - 2 (V.T y) s + |s|**2``: only scores are needed once y is projected.

    Attributes
    ----------
    prepared
        What is known of the map. All axes must have its weights and its offset.
    """

    prepared: TrainingData
    _powers: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def scores_of(self, fold: str, basis: PrincipalBasis) -> np.ndarray:
        """Return (n, P) scores of the counts of a fold, on the scale of the whole data."""
        share = SHARES[fold]
        return project_parts((self._values(fold),), np.array([share]), basis)[:, 0] / np.float32(share)

    def score(self, fold: str, basis: PrincipalBasis, scores: np.ndarray) -> np.ndarray:
        """Return (n,) squared errors of predictions, summed over channels; about 1 for each is noise.

        Parameters
        ----------
        fold
            "validation" or "test".
        basis
            The P axes of the predictions.
        scores
            (n, P) predicted scores on the scale of the whole data.
        """
        found = self.scores_of(fold, basis).astype(np.float64)
        error = np.einsum("np,np->n", scores, scores - 2 * found)
        return SHARES[fold] * (self._power(fold) + error)

    def _values(self, fold: str) -> np.ndarray:
        return self.prepared.folds.validation if fold == "validation" else self.prepared.folds.test

    def _power(self, fold: str) -> np.ndarray:
        if fold not in self._powers:
            basis, values, share = self.prepared.fold_basis, self._values(fold), SHARES[fold]
            power = np.empty(len(values))
            weights, offset = basis.weights.astype(np.float32), basis.offset.astype(np.float32)
            for start in range(0, len(values), _SLAB):
                rows = slice(start, start + _SLAB)
                white = (values[rows] / np.float32(share) - offset) * weights
                power[rows] = np.einsum("ne,ne->n", white, white)
            self._powers[fold] = power
        return self._powers[fold]
