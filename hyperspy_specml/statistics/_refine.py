"""Refine the basis of wide spectra, found in a sample, with all spectra: one more pass over the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from hyperspy_specml.statistics._basis import PrincipalBasis, canonical_signs
from hyperspy_specml.statistics._summary import USED, MapSummary

if TYPE_CHECKING:
    from hyperspy_specml.streaming import SpectrumStream

# Number of values that are whitened at a time.
_SLAB = 1 << 22
# Added to the diagonal of a matrix, relative to its trace: the Cholesky factorisation needs positive
# eigenvalues.
_TINY = 1e-9


def refine_basis(stream: SpectrumStream, summary: MapSummary, basis: PrincipalBasis) -> PrincipalBasis:
    """Return the principal basis of all used spectra, close to that of a sample.

    The second moments C of all spectra are only multiplied by the given vectors V: ``Y = C V`` is one step of
    subspace iteration, and ``C = Y (V' Y)^-1 Y'`` on its span. (E, P) numbers are in memory, never (E, E).

    Parameters
    ----------
    stream
        The spectra; read once.
    summary
        Of the same stream.
    basis
        Principal basis of the sample. Its eigenvalues are kept: they are compared with the sample's noise
        edge.

    References
    ----------
    N. Halko, P. G. Martinsson, J. A. Tropp, SIAM Rev. 53 (2011) 217, section 5.5.
    """
    block = _TimesMoments(summary.pixel_state == USED, summary.channels, basis)
    image = stream.fold(block, np.add, label="Refine") / summary.moments.n
    small = basis.vectors.T @ image
    small = 0.5 * (small + small.T)
    small[np.diag_indices(len(small))] += _TINY * max(np.trace(small), 1e-300)
    root = scipy.linalg.solve_triangular(scipy.linalg.cholesky(small, lower=True), image.T, lower=True)
    _, _, vectors = scipy.linalg.svd(root, full_matrices=False)
    return replace(basis, vectors=canonical_signs(vectors, basis.weights).T)


@dataclass(frozen=True)
class _TimesMoments:
    """The block function of the pass, ``C V``: an object, so that it travels to other processes."""

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
