"""Spectra of known phases, added to what is normal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis

_SAME = 1e-6  # of a known spectrum: less is not missing


def extend_basis(
    basis: PrincipalBasis, known: np.ndarray, noise: NoiseModel
) -> tuple[PrincipalBasis, np.ndarray]:
    """Return axes that describe these spectra too, and all mixtures with them.

    Parameters
    ----------
    basis
        Of the normal.
    known
        (N, E) spectra of any scale.
    noise
        Of a pixel. Of counts, the smallest value of a mean spectrum tells how many spectra it is the mean of.

    Returns
    -------
    the axes, and the (D, E) variances of the spectra that they stand for
    """
    rows = np.vstack([known, basis.offset]) * basis.weights  # a mixture has only a share of the offset
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    rows = rows / length
    rest = rows - (rows @ basis.vectors) @ basis.vectors.T
    added, size, turn = np.linalg.svd(rest.T, full_matrices=False)
    good = size > _SAME
    variances = np.zeros((basis.n_vectors + int(good.sum()), known.shape[1]))
    if noise.name == "poisson":
        one = np.where(known > 0, known, np.inf).min(axis=1, initial=np.inf, keepdims=True)
        one = np.where(np.isfinite(one), one, 0)  # 1/n
        shares = (turn / np.maximum(size, _SAME)[:, None])[good, :-1] / length[:-1, 0]
        variances[basis.n_vectors :] = shares**2 @ ((np.maximum(known, 0) + one) * one)
    return replace(basis, vectors=np.concatenate([basis.vectors, added[:, good]], axis=1)), variances
