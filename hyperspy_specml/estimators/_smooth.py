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

from hyperspy_specml.estimators._study import Study, project_parts, train_moments
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, TRAIN, PrincipalAxes, choose_rank, principal_axes
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTHS = (0.0, 0.7, 1.5, 3.0)  # channels
_SCORED_ELEMENTS = 1 << 22  # deviances per width


def smooth_study(
    study: Study,
    n_components: int,
    *,
    centre: bool,
    score: Callable[[Study, PrincipalAxes], np.ndarray] | None = None,
    widest: float = np.inf,
) -> Study:
    """Return the study along the smoothest axes that the choosing fold likes.

    Parameters
    ----------
    study
        What is known of the map, along its principal axes.
    n_components
        Axes that a width is scored with; at least those that PCA carries.
    centre
        As in `principal_axes`.
    score
        From axes to the choosing-fold scores of PCA along them, one per spectrum; by default deviances.
    widest
        Largest width in channels.

    Returns
    -------
    study with other axes, scores and `width`; the same one where no smoothing is better by more than a
    standard error, or where nothing valid is held out
    """
    if study.hold_out == "none":
        return study
    wide = study.survey.moments.rows is not None
    noise, n_axes, moments = study.estimate.model, study.axes.n_axes, train_moments(study.folds, wide=wide)
    n_scored = max(n_components, study.rank.chosen)
    score = score or _deviances

    def along(width: float) -> tuple[PrincipalAxes, np.ndarray]:
        axes = principal_axes(moments, noise, n_axes=n_axes, centre=centre, width=width)
        return axes, score(study, axes.first(n_scored))

    widths = [width for width in _WIDTHS if width <= widest]
    spaces = side_by_side(*(partial(along, width) for width in widths))
    scores = np.array([scores for _, scores in spaces])
    chosen = choose_rank(np.arange(len(widths)), scores, "held-out counts").chosen
    if chosen == 0:
        return study
    fold_axes = spaces[chosen][0]
    return replace(
        study,
        fold_axes=fold_axes,
        fold_parts=project_parts(study.folds.parts, FRACTIONS[:N_PARTS], fold_axes),
        axes=principal_axes(study.survey.moments, noise, n_axes=n_axes, centre=centre, width=widths[chosen]),
        width=widths[chosen],
    )


def _deviances(study: Study, axes: PrincipalAxes) -> np.ndarray:
    """Return the choosing-fold deviances of PCA along these axes, of some of the spectra."""
    step = max(1, study.folds.choose.size // _SCORED_ELEMENTS)
    parts = tuple(part[::step] for part in study.folds.parts)
    scores = project_parts(parts, FRACTIONS[:N_PARTS], axes).sum(axis=1) / np.float32(TRAIN)
    return study.folds.every(step).score("choose", lambda rows: axes.spectra(scores[rows]))
