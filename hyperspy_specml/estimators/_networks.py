"""The architectures that are trained: how each is fitted, and how each scores a number of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.estimators._dense import DenseFit, Track, fit_dense, score_latents
from hyperspy_specml.estimators._simplex import SimplexFit, fit_simplex, score_simplex
from hyperspy_specml.statistics import RankCurve, choose_rank

if TYPE_CHECKING:
    import torch

    from hyperspy_specml.estimators._study import Study
    from hyperspy_specml.train.config import TrainConfig

_MOST_LATENTS = 12
_PATIENCE_LATENTS = 2  # numbers of latents tried after the best one


def fit_network(
    study: Study, architecture: str, n_components: int, config: TrainConfig, *, seed: int,
    device: torch.device, track: Track, energy_shift: bool,
) -> DenseFit | SimplexFit:  # fmt: skip
    """Train the network of an architecture.

    Raises
    ------
    TrainingDivergedError
        See `fit_dense` and `fit_simplex`.
    """
    if architecture == "simplex":
        return fit_simplex(
            study, n_components, config, seed=seed, device=device, track=track, energy_shift=energy_shift
        )
    return fit_dense(study, n_components, config, seed=seed, device=device, track=track)


def choose_latents(
    study: Study, architecture: str, config: TrainConfig, *, seed: int, device: torch.device, track: Track
) -> tuple[RankCurve, bool]:
    """Try 1, 2, ... latents; a network hardly ever needs more of them than PCA needs components.

    Returns
    -------
    the curve, and whether the user interrupted the search
    """
    score = score_simplex if architecture == "simplex" else score_latents
    # A curved decoder needs no more latents than PCA; constraints may ask for one endmember more.
    most = min(_MOST_LATENTS, study.rank.chosen + (architecture == "simplex"), study.axes.n_axes)
    curve: list[np.ndarray] = []
    interrupted = False
    for k in range(1, most + 1):
        scores, interrupted = score(study, k, config, seed=seed, device=device, track=track)
        curve.append(scores)
        best = int(np.argmin([scores.mean() for scores in curve]))
        if interrupted or k - 1 - best >= _PATIENCE_LATENTS:
            break
    return choose_rank(np.arange(1, len(curve) + 1), np.array(curve), "held-out counts"), interrupted
