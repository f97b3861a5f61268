"""How far latents lie from those of ordinary spectra, with a p-value that holds whatever the latents look like.

References
----------
R. Laxhammar, G. Falkman, Ann. Math. Artif. Intell. 74 (2015) 67 (conformal anomaly detection); O. Ledoit, M. Wolf,
J. Multivar. Anal. 88 (2004) 365 (the covariance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LatentDensity:
    """A normal density of ordinary latents, and the distances of ordinary latents that it was not fitted to.

    Attributes
    ----------
    mean
        (D,) of one half.
    precision
        (D, D), inverse covariance of that half.
    distances
        (m,) sorted, of the other half.
    """

    mean: np.ndarray
    precision: np.ndarray
    distances: np.ndarray

    @classmethod
    def of(cls, latents: np.ndarray, *, seed: int) -> LatentDensity:
        """Return the density of (n, D) latents; half of them, at random, calibrate it."""
        from sklearn.covariance import LedoitWolf

        order = np.random.default_rng(seed).permutation(len(latents))
        fitted, other = latents[order[::2]].astype(float), latents[order[1::2]].astype(float)
        model = LedoitWolf().fit(fitted)
        found = cls(model.location_, model.precision_, np.empty(0))
        return cls(found.mean, found.precision, np.sort(found.distance(other)))

    def distance(self, latents: np.ndarray) -> np.ndarray:
        """Return (n,) Mahalanobis distances; NaN where a latent is."""
        away = latents - self.mean
        return np.sqrt(np.einsum("nd,de,ne->n", away, self.precision, away))

    def p_value(self, distance: np.ndarray) -> np.ndarray:
        """Return (n,) p-values: among m + 1 ordinary spectra, how many lie as far; at least 1 / (m + 1)."""
        m = len(self.distances)
        farther = m - np.searchsorted(self.distances, distance, side="left")
        return np.where(np.isfinite(distance), (1 + farther) / (1 + m), np.nan)
