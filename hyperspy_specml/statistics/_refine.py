"""Axes of wide spectra, first found in a sample, from all spectra: one more pass over the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from hyperspy_specml.statistics._basis import PrincipalBasis, canonical_signs
from hyperspy_specml.statistics._summary import USED, MapSummary

if TYPE_CHECKING:
    from hyperspy_specml.streaming import SpectrumStream

_SLAB = 1 << 22  # elements that are whitened at a time
_TINY = 1e-9  # of the largest eigenvalue: keeps a factorisation positive


def refine_basis(stream: SpectrumStream, summary: MapSummary, basis: PrincipalBasis) -> PrincipalBasis:
    """Turn the axes of a sample into those of all used spectra.

    The second moments C of all spectra are seen along the given axes V alone: ``Y = C V`` is one step of
    subspace iteration, and ``C = Y (V' Y)^-1 Y'`` on what it spans. (E, P) numbers are held, never (E, E).

    Parameters
    ----------
    stream
        The spectra; read once.
    summary
        Of the same stream.
    basis
        Principal axes of the sample. Their eigenvalues are kept: they belong to the noise edge of the sample.

    References
    ----------
    N. Halko, P. G. Martinsson, J. A. Tropp, SIAM Rev. 53 (2011) 217, section 5.5.
    """
    block = _AlongAxes(summary.pixel_state == USED, summary.channels, basis)
    image = stream.fold(block, np.add, label="Refine") / summary.moments.n
    seen = basis.vectors.T @ image
    seen = 0.5 * (seen + seen.T)
    seen[np.diag_indices(len(seen))] += _TINY * max(np.trace(seen), 1e-300)
    half = scipy.linalg.solve_triangular(scipy.linalg.cholesky(seen, lower=True), image.T, lower=True)
    _, _, vectors = scipy.linalg.svd(half, full_matrices=False)
    return replace(basis, vectors=canonical_signs(vectors, basis.weights).T)


@dataclass(frozen=True)
class _AlongAxes:
    """The block function of the pass: an object, so that it travels to other processes."""

    used: np.ndarray
    channels: np.ndarray
    basis: PrincipalBasis

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        basis = self.basis
        weights, offset = basis.weights.astype(np.float32), basis.offset.astype(np.float32)
        total = np.zeros(basis.vectors.shape)
        chosen = np.flatnonzero(self.used[pixels])
        step = max(1, _SLAB // max(1, len(weights)))
        for start in range(0, len(chosen), step):
            white = rows[chosen[start : start + step]][:, self.channels].astype(np.float32)
            white = (white - offset) * weights
            total += white.T @ (white @ basis.vectors.astype(np.float32))
        return total
