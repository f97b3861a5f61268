"""A space for networks whose axes are smooth along energy, as smooth as held-out counts allow.

Spectra are smooth on the scale of the detector's resolution, but principal axes do not know it: at low doses
the noise of the axes themselves is a large part of a network's error. The baseline stays plain PCA.

References
----------
B. W. Silverman, "Smoothed functional principal components analysis by choice of norm", Ann. Stat. 24
(1996) 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.prepare._training_data import TrainingData, project_parts, train_moments
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, TRAIN, PrincipalBasis, choose_rank, principal_basis
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTHS = (0.0, 0.7, 1.5, 3.0)  # channels
_SCORED_ELEMENTS = 1 << 22  # deviances per width


def smooth_basis(
    prepared: TrainingData,
    n_components: int,
    *,
    centre: bool,
    score: Callable[[TrainingData, PrincipalBasis], np.ndarray] | None = None,
    widest: float = np.inf,
) -> TrainingData:
    """Return the data along the smoothest axes that the validation fold likes.

    Parameters
    ----------
    prepared
        What is known of the map, along its principal axes.
    n_components
        Axes that a width is scored with; at least those that PCA carries.
    centre
        As in `principal_basis`.
    score
        From axes to the validation-fold scores of PCA along them, one per spectrum; by default deviances.
    widest
        Largest width in channels.

    Returns
    -------
    prepared with other axes, scores and `width`; the same one where no smoothing is better by more than a
    standard error, or where nothing valid is held out
    """
    if prepared.hold_out == "none":
        return prepared
    wide = prepared.summary.moments.rows is not None
    noise, n_vectors, moments = (
        prepared.estimate.model,
        prepared.basis.n_vectors,
        train_moments(prepared.folds, wide=wide),
    )
    n_scored = max(n_components, prepared.rank.chosen)
    score = score or _deviances

    def along(width: float) -> tuple[PrincipalBasis, np.ndarray]:
        basis = principal_basis(moments, noise, n_vectors=n_vectors, centre=centre, smoothing=width)
        return basis, score(prepared, basis.first(n_scored))

    widths = [width for width in _WIDTHS if width <= widest]
    spaces = side_by_side(*(partial(along, width) for width in widths))
    scores = np.array([scores for _, scores in spaces])
    chosen = choose_rank(np.arange(len(widths)), scores, "held-out counts").chosen
    if chosen == 0:
        return prepared
    fold_basis = spaces[chosen][0]
    return replace(
        prepared,
        fold_basis=fold_basis,
        fold_parts=project_parts(prepared.folds.parts, FRACTIONS[:N_PARTS], fold_basis),
        basis=principal_basis(
            prepared.summary.moments, noise, n_vectors=n_vectors, centre=centre, smoothing=widths[chosen]
        ),
        width=widths[chosen],
    )


def _deviances(prepared: TrainingData, basis: PrincipalBasis) -> np.ndarray:
    """Return the validation-fold deviances of PCA along these axes, of some of the spectra."""
    step = max(1, prepared.folds.validation.size // _SCORED_ELEMENTS)
    parts = tuple(part[::step] for part in prepared.folds.parts)
    scores = project_parts(parts, FRACTIONS[:N_PARTS], basis).sum(axis=1) / np.float32(TRAIN)
    return prepared.folds.every(step).score("validation", lambda rows: basis.spectra(scores[rows]))
