"""Mixtures that no network encodes: non-negative factors, and the abundances nearest to each spectrum.

n spectra, E channels in use, P compressed scores, K endmembers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.models._base import FittedModel, Parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.statistics import PrincipalBasis

_SWEEPS = 100  # over the endmembers; more change the fourth digit of an abundance


@dataclass(frozen=True)
class FactorModel(FittedModel):
    """Non-negative factors: ``spectra = intensity * abundances @ endmembers``.

    Abundances are those of the smallest squared error in units of the noise of the mean spectrum, the intensity is the
    sum of the spectrum in the compressed space.

    Attributes
    ----------
    basis
        The P vectors of the compressed space that spectra are compared in.
    endmembers
        (K, E) spectra of sum one, not negative.
    """

    basis: PrincipalBasis
    endmembers: np.ndarray
    kind = "nmf"
    score_range = (0.0, 1.0)
    stored = ("endmembers",)

    @property
    def architecture(self) -> str:
        """Name of the architecture that chooses it."""
        return "simplex"

    @property
    def n_components(self) -> int:
        """Number of endmembers K."""
        return len(self.endmembers)

    @property
    def outputs(self) -> dict[str, str]:
        """The intensity (expected sum of a spectrum) in signal units."""
        return {"intensity": "signal"}

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + 1) abundances and intensity to (n, E) spectra, float32."""
        scores = np.asarray(scores, np.float32)
        return (scores[:, -1:] * scores[:, :-1]) @ self.endmembers.astype(np.float32)

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K + 1) abundances and intensity, float32."""
        scores = np.asarray(scores, np.float64)
        seen = self.endmembers @ (self.basis.vectors * self.basis.weights[:, None])  # (K, P)
        amounts = nearest_amounts(scores, seen)
        whole = amounts.sum(axis=1, keepdims=True)
        equal = np.float64(1 / self.n_components)
        abundances = np.divide(amounts, whole, out=np.full_like(amounts, equal), where=~(whole == 0))
        # Amounts that may not be negative have too large a sum where a spectrum lies outside of the endmembers.
        totals = scores @ self.basis.components().sum(axis=1) + self.basis.offset.sum()
        return np.column_stack([abundances, np.maximum(totals, 0)]).astype(np.float32)

    def components(self) -> np.ndarray:
        """Return the (K, E) endmembers; each sums to one."""
        return self.endmembers

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra in other channels; see `FittedModel.resampled`."""
        endmembers = np.maximum(resample(self.endmembers), 0)
        endmembers = endmembers / np.maximum(endmembers.sum(axis=1, keepdims=True), 1e-300)
        return replace(self, basis=self.basis.resampled(resample), endmembers=endmembers)

    def settings(self) -> dict[str, Any]:
        """Return the number of endmembers."""
        return {"n_endmembers": self.n_components}

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays."""
        basis = parts.basis()
        endmembers = parts.array("endmembers", parts.size("n_endmembers"), len(basis.weights))
        if (endmembers < 0).any():
            raise ValueError("array 'endmembers' holds negative values")
        return cls(basis, endmembers)


def nearest_amounts(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the (n, K) amounts, not negative, of the smallest squared error; NaN where scores are.

    Parameters
    ----------
    scores
        (n, P) of spectra.
    seen
        (K, P) of the endmembers.
    """
    gram, along = seen @ seen.T, scores @ seen.T  # (K, K), (n, K)
    amounts = np.maximum(along @ np.linalg.pinv(gram), 0)
    for _ in range(_SWEEPS):
        for k, size in enumerate(np.diag(gram)):
            if size > 0:
                amounts[:, k] = np.maximum(amounts[:, k] + (along[:, k] - amounts @ gram[:, k]) / size, 0)
    return amounts
