"""What a spectrum looks like if it is of a phase: laws of the noise in which the pixel's intensity is free.

n spectra, G groups of channels, K phases. Spectra of phases have any scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import uniform_filter1d

# Counts of the mean spectrum that every phase is given beside its own: no channel is impossible.
_PSEUDO_COUNTS = 10.0
# Groups of channels that show how much more than noise a phase differs from the mean.
_AROUND = 9
_TINY = 1e-30


class Law(Protocol):
    """Likelihood of spectra, and spectra of largest likelihood."""

    def evidence(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Return the (K, n) log likelihood of (n, G) spectra under each phase, up to a number per spectrum."""
        ...

    def update(self, values: np.ndarray, weights: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Return better (K, G) spectra of the phases; (K, n) weights say what belongs to them."""
        ...

    def held_out(self, train: np.ndarray, validation: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Return the (K, n) log likelihood of one fold, given the intensities of the other one."""
        ...

    def expected(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Return the (n, G) means of spectra of the same intensity as `values`; (n, G) or (1, G) phases."""
        ...

    def deviation(self, phases: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the noise of each value, up to a factor, of the shape of `phases`."""
        ...


@dataclass(frozen=True)
class MultinomialLaw:
    """Counts: how they spread over the channels, whatever their sum is."""

    def evidence(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        spectra = np.maximum(phases / phases.sum(axis=1, keepdims=True), _TINY)
        return np.log(spectra).astype(np.float32) @ values.T

    def update(self, values: np.ndarray, weights: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        sums = (weights @ values).astype(np.float64)
        total = sums.sum(axis=0)
        mean = total / max(total.sum(), _TINY)
        return _shrunk(sums, mean) + _PSEUDO_COUNTS * mean

    def held_out(self, train: np.ndarray, validation: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return self.evidence(validation, phases)

    def expected(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return values.sum(axis=1, keepdims=True) * (phases / phases.sum(axis=1, keepdims=True))

    def deviation(self, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return np.sqrt(np.maximum(phases, 1e-6 * phases.mean()))


@dataclass(frozen=True)
class LineLaw:
    """White noise of variance one: a spectrum is one of the phase, times an intensity that fits it best.

    Attributes
    ----------
    fractions
        Of the counts in the training and in the validation fold.
    """

    fractions: tuple[float, float] = (1.0, 1.0)

    def evidence(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return np.maximum(_unit(phases) @ values.T, 0) ** 2 / np.float32(2 * self.fractions[0])

    def update(self, values: np.ndarray, weights: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        intensity = np.maximum(_unit(phases) @ values.T, 0)
        return ((weights * intensity) @ values).astype(np.float64) + _TINY

    def held_out(self, train: np.ndarray, validation: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        unit = _unit(phases)
        intensity = np.maximum(unit @ train.T, 0) / np.float32(self.fractions[0])
        return intensity * (unit @ validation.T) - np.float32(0.5 * self.fractions[1]) * intensity**2

    def expected(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        unit = phases / np.maximum(np.linalg.norm(phases, axis=1, keepdims=True), _TINY)
        return np.maximum((values * unit).sum(axis=1, keepdims=True), 0) * unit

    def deviation(self, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return np.ones_like(phases)


def _shrunk(sums: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return (K, G) sums drawn to the mean spectrum where they differ from it by noise alone (Wiener's filter)."""
    counts = sums.sum(axis=1, keepdims=True)
    expected = counts * mean
    variance = expected * (1 - counts / max(counts.sum(), _TINY))
    squares = (sums - expected) ** 2 / np.maximum(variance, _TINY * (1 + counts))
    local = uniform_filter1d(squares, min(_AROUND, sums.shape[1]), axis=1, mode="nearest")
    return expected + np.clip(1 - 1 / np.maximum(local, _TINY), 0, 1) * (sums - expected)


def _unit(phases: np.ndarray) -> np.ndarray:
    return (phases / np.maximum(np.linalg.norm(phases, axis=1, keepdims=True), _TINY)).astype(np.float32)
