"""A race between numbers of latents: those that held-out counts cannot tell apart meet again on other counts.

The validation fold holds 15 % of the counts, and on small maps that is too few to see that one latent more
pays. So every part of the training fold takes its place once, and only what has fallen back is left out.

References
----------
O. Maron, A. W. Moore, "The racing algorithm: model selection for lazy learners", Artif. Intell. Rev. 11
(1997) 193, doi:10.1023/A:1006556606079.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.prepare import project_parts, train_moments
from hyperspy_specml.statistics import N_PARTS, paired, principal_basis

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.prepare import TrainingData

_CLEARLY = 2  # standard errors

Rounds = list[list[np.ndarray]]  # of each runner, the (m,) scores of each round it ran, smaller is better


def run(
    rounds: Rounds,
    prepared: TrainingData,
    score: Callable[[TrainingData, int], tuple[np.ndarray, bool]],
    *,
    centre: bool,
) -> bool:
    """Add round after round while several numbers are in it; return whether the user interrupted that.

    Parameters
    ----------
    rounds
        The first round: scores of 1, 2, ... latents on the validation fold. The rounds after it are added.
    prepared
        What is known of the map.
    score
        Called with a prepared and a number of latents; returns validation-fold scores and whether the user
        interrupted the training.
    centre
        As in `principal_basis`.
    """
    for part in range(N_PARTS):
        if len(runners := running(rounds)) == 1:
            break
        other = turned(prepared, part, centre=centre)
        found = {}
        for i in runners:
            found[i], interrupted = score(other, i + 1)
            if interrupted:
                return True
        for i, scores in found.items():
            rounds[i].append(scores)
    return False


def running(rounds: Rounds) -> list[int]:
    """Return which runners of the last round are not clearly worse than the best of it.

    Parameters
    ----------
    rounds
        See `Rounds`; who is out ran fewer rounds.
    """
    means, best = _means(rounds), _best(rounds)
    pairs = {
        i: paired(own, means[best]) for i, own in enumerate(means) if len(rounds[i]) == len(rounds[best])
    }
    return [i for i, pair in pairs.items() if i == best or pair.difference <= _CLEARLY * pair.standard_error]


def joined(rounds: Rounds) -> np.ndarray:
    """Return (n, m) mean scores: the differences to the best are those of the rounds that both ran.

    Parameters
    ----------
    rounds
        See `Rounds`.
    """
    best = rounds[_best(rounds)]
    whole = np.mean(best, axis=0)
    return np.array(
        [whole + np.mean([a - b for a, b in zip(own, best, strict=False)], axis=0) for own in rounds]
    )


def turned(prepared: TrainingData, part: int, *, centre: bool) -> TrainingData:
    """Return the data with another part of the counts as validation fold, and axes of the new training fold.

    Parameters
    ----------
    prepared
        What is known of the map.
    part
        Of the training fold: the one that changes places with the validation fold.
    centre
        As in `principal_basis`.
    """
    folds, wide = prepared.folds.turned(part), prepared.summary.moments.rows is not None
    basis = principal_basis(
        train_moments(folds, wide=wide), prepared.estimate.model, n_vectors=prepared.fold_basis.n_vectors, centre=centre,
        smoothing=prepared.width,
    )  # fmt: skip
    parts = project_parts(folds.parts, folds.fractions[:N_PARTS], basis)
    return replace(prepared, folds=folds, fold_basis=basis, fold_parts=parts)


def _means(rounds: Rounds) -> list[np.ndarray]:
    return [np.mean(own, axis=0) for own in rounds]


def _best(rounds: Rounds) -> int:
    """Return the best of those that ran all rounds."""
    most = max(map(len, rounds))
    return min((i for i, own in enumerate(rounds) if len(own) == most), key=lambda i: np.mean(rounds[i]))
