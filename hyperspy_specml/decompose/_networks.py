"""The architectures that are trained: how each is fitted, and how each scores a number of latents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose._autoencoder import DenseFit, Track, fit_dense, score_latents
from hyperspy_specml.decompose._race import Rounds, joined, run
from hyperspy_specml.decompose._simplex import SimplexFit, fit_simplex, score_simplex
from hyperspy_specml.statistics import RankCurve, choose_rank

if TYPE_CHECKING:
    import torch

    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import TrainConfig

_MOST_LATENTS = 12
_PATIENCE_LATENTS = 2  # numbers of latents tried after the best one
_RACED_ELEMENTS = 1 << 23  # values of a map whose other counts are held out too: larger ones tell enough


def fit_network(
    prepared: TrainingData, architecture: str, n_components: int, config: TrainConfig, *, seed: int,
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
            prepared, n_components, config, seed=seed, device=device, track=track, energy_shift=energy_shift
        )
    return fit_dense(prepared, n_components, config, seed=seed, device=device, track=track)


def choose_latents(
    prepared: TrainingData, architecture: str, config: TrainConfig, *, seed: int, device: torch.device, track: Track,
    race: bool = False,
) -> tuple[RankCurve, bool]:  # fmt: skip
    """Try 1, 2, ... latents; a network hardly ever needs many more of them than PCA needs components.

    Parameters
    ----------
    prepared
        What is known of the map.
    architecture, config, seed, device, track
        See `decompose`.
    race
        Whether the numbers that the validation fold cannot tell apart are trained again, with every part of the
        training fold in its place. Takes up to five times as long.

    Returns
    -------
    the curve, and whether the user interrupted the search
    """
    trained = score_simplex if architecture == "simplex" else score_latents
    score = partial(trained, config=config, seed=seed, device=device, track=track)
    race = race and prepared.hold_out != "none"
    # Constraints, or smooth axes and shrunk latents, may carry one more than PCA does.
    most = min(
        _MOST_LATENTS, prepared.rank.chosen + (race or architecture == "simplex"), prepared.basis.n_vectors
    )
    rounds: Rounds = []
    interrupted = False
    for k in range(1, most + 1):
        scores, interrupted = score(prepared, k)
        rounds.append([scores])
        best = int(np.argmin([scores.mean() for (scores,) in rounds]))
        if interrupted or k - 1 - best >= _PATIENCE_LATENTS:
            break
    if race and not interrupted and prepared.folds.validation.size <= _RACED_ELEMENTS:
        interrupted = run(rounds, prepared, score, centre=config.centre)
    return choose_rank(np.arange(1, len(rounds) + 1), joined(rounds), "held-out counts"), interrupted
