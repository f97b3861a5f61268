"""Principal components while spectra arrive: exact second moments, and one step of subspace iteration per block.

References
----------
G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed. (2013), section 8.2 (subspace iteration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_specml.statistics import Moments, PrincipalBasis, channel_weights, moments_of

# Vectors beside those wanted: the space of the wanted ones settles in one step for each doubling of the spectra.
_MORE = 8


@dataclass(frozen=True, eq=False)
class Subspace:
    """Moments of all spectra so far and the space of their leading components. E channels, P vectors.

    Attributes
    ----------
    moments
        Exact for counts.
    vectors
        (E, P) orthonormal, of whitened spectra.
    """

    moments: Moments
    vectors: np.ndarray

    @classmethod
    def empty(cls, n_channels: int, n_components: int, *, seed: int) -> Subspace:
        """Return that of no spectra."""
        size = min(n_channels, n_components + _MORE)
        start = np.random.default_rng(seed).standard_normal((n_channels, size))
        moments = Moments(0, np.zeros(n_channels), np.zeros((n_channels, n_channels)))
        return cls(moments, np.linalg.qr(start)[0])

    def absorb(self, rows: np.ndarray) -> Subspace:
        """Return the subspace with (n, E) spectra more; this object must not be used again."""
        return Subspace(
            self.moments.absorb(moments_of(rows, kernel="float32" if rows.dtype.kind == "f" else "auto")), self.vectors
        )

    def stepped(self, noise: object, *, n: int = 1) -> Subspace:
        """Return the subspace after so many steps of the iteration."""
        weights = channel_weights(self.moments.mean, noise)[:, None]  # type: ignore[arg-type]
        vectors = self.vectors
        for _ in range(n):
            vectors = weights * (self.moments.products @ (weights * vectors))
            vectors = np.linalg.qr(vectors)[0]
        return Subspace(self.moments, vectors)

    def basis(self, noise: object, n_components: int) -> PrincipalBasis:
        """Return the leading components."""
        weights = channel_weights(self.moments.mean, noise)  # type: ignore[arg-type]
        turned = weights[:, None] * self.vectors
        small = turned.T @ self.moments.products @ turned / max(1, self.moments.n)
        values, rotation = np.linalg.eigh(small)
        vectors = (self.vectors @ rotation[:, ::-1])[:, :n_components]
        return PrincipalBasis(weights, np.zeros(len(weights)), vectors, values[::-1][:n_components])
