"""A basis for networks that is smooth along energy, as smooth as held-out counts allow.

Spectra are smooth on the scale of the detector's resolution, but principal vectors do not know it: at few
counts the noise of the vectors themselves is a large part of a network's error. The baseline stays plain PCA.

References
----------
B. W. Silverman, "Smoothed functional principal components analysis by choice of norm", Ann. Stat. 24
(1996) 1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.prepare._training_data import TrainingData, project_parts, train_moments
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, TRAIN, PrincipalBasis, choose_rank, principal_basis
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

_SMOOTHINGS = (0.0, 0.7, 1.5, 3.0)  # standard deviations in channels that are tried
_SCORED = 1 << 22  # deviances for each of them


def smooth_basis(
    data: TrainingData, n_components: int, *, widest: float = np.inf,
    score: Callable[[TrainingData, PrincipalBasis], np.ndarray] | None = None,
) -> TrainingData:  # fmt: skip
    """Return the data on the smoothest basis that the validation fold likes.

    Parameters
    ----------
    data
        Training data on their principal basis.
    n_components
        Vectors that a smoothing is scored with; at least those that PCA carries.
    widest
        Largest smoothing in channels.
    score
        From a basis to the validation scores of PCA on it, one per spectrum; by default deviances.

    Returns
    -------
    data on another basis, with its `smoothing`; the same data where no smoothing is better by more than a
    standard error, or where nothing valid is held out
    """
    if data.hold_out == "none":
        return data
    moments = train_moments(data.folds, wide=data.summary.moments.is_wide)
    n_scored = max(n_components, data.rank.chosen)
    basis_of = partial(principal_basis, noise=data.estimate.model, n_vectors=data.basis.n_vectors, centre=data.centre)

    def tried(smoothing: float) -> tuple[PrincipalBasis, np.ndarray]:
        basis = basis_of(moments, smoothing=smoothing)
        return basis, (score or _deviances)(data, basis.first(n_scored))

    smoothings = [smoothing for smoothing in _SMOOTHINGS if smoothing <= widest]
    found = side_by_side(*(partial(tried, smoothing) for smoothing in smoothings))
    scores = np.array([scores for _, scores in found])
    chosen = choose_rank(np.arange(len(smoothings)), scores, "held-out counts").chosen
    if chosen == 0:
        return data
    smoothing = smoothings[chosen]
    whole = basis_of(data.summary.moments, smoothing=smoothing)
    return data.on(found[chosen][0], basis=whole, smoothing=smoothing)


def _deviances(data: TrainingData, basis: PrincipalBasis) -> np.ndarray:
    """Return the validation deviances of PCA on this basis, of some of the spectra."""
    step = max(1, data.folds.validation.size // _SCORED)
    parts = tuple(part[::step] for part in data.folds.parts)
    scores = project_parts(parts, FRACTIONS[:N_PARTS], basis).sum(axis=1) / np.float32(TRAIN)
    return data.folds.every(step).score("validation", lambda rows: basis.spectra(scores[rows]))
