"""Choose the number of components by held-out counts; numbers that these cannot tell apart race on other counts.

The validation fold holds 15 % of the counts, and on small maps that is too few to see that one latent more
pays. So every part of the training fold takes its place once, and only what has fallen back is left out.

References
----------
O. Maron, A. W. Moore, "The racing algorithm: model selection for lazy learners", Artif. Intell. Rev. 11
(1997) 193, doi:10.1023/A:1006556606079.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.statistics import N_PARTS, RankCurve, choose_rank, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.decompose._architecture import Architecture
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run

_MOST_COMPONENTS = 12
_PATIENCE = 2  # numbers tried after the best one
_RACED = 1 << 23  # values of a map whose other counts are held out too: larger ones tell enough
_CLEARLY = 2  # standard errors
_FIRST_ROUND = 0.4  # share of the time of a race; most numbers run in no other round

Rounds = list[list[np.ndarray]]
"""For each number of components, the (m,) scores of each round that it ran, smaller is better."""


def choose_number(
    architecture: Architecture, data: TrainingData, run: Run, *, race: bool = True
) -> tuple[RankCurve, bool]:
    """Try 1, 2, ... components; a network hardly ever needs many more of them than PCA does.

    Parameters
    ----------
    architecture
        Trains them.
    data
        Training data.
    run
        Settings of the trainings.
    race
        Whether the numbers that the validation fold cannot tell apart are trained again, with every part of the
        training fold in its place, where the architecture has a smooth basis. Takes up to five times as long.

    Returns
    -------
    the curve, and whether the user interrupted the search
    """
    race = race and architecture.smooth and data.hold_out != "none"
    # Constraints, or a smooth basis and shrunk latents, may carry one more than PCA does.
    more = architecture.more_components if race or not architecture.smooth else 0
    most = min(_MOST_COMPONENTS, data.rank.chosen + more, data.basis.n_vectors)
    race = race and data.folds.validation.size <= _RACED
    rounds: Rounds = []
    interrupted = False
    for k in range(1, most + 1):
        with run.progress.enter("Choose the number", (_FIRST_ROUND if race else 1.0) / most):
            scores, interrupted = architecture.compare(data, k, run)
        rounds.append([scores])
        best = int(np.argmin([scores.mean() for (scores,) in rounds]))
        if interrupted or k - 1 - best >= _PATIENCE:
            break
    if race and not interrupted:
        interrupted = run_race(rounds, data, lambda other, k: architecture.compare(other, k, run), run)
    return choose_rank(np.arange(1, len(rounds) + 1), joined(rounds), "held-out counts"), interrupted


def run_race(
    rounds: Rounds, data: TrainingData, compare: Callable[[TrainingData, int], tuple[np.ndarray, bool]], run: Run
) -> bool:
    """Add round after round while several numbers are in it; return whether the user interrupted that.

    Parameters
    ----------
    rounds
        The first round: scores of 1, 2, ... components on the validation fold. The rounds after it are added.
    data
        Training data.
    compare
        Called with data and a number of components; returns validation scores and whether the user interrupted
        the training.
    run
        Its progress.
    """
    for part in range(N_PARTS):
        if len(runners := running(rounds)) == 1:
            break
        other = data.turned(part)
        found = {}
        for i in runners:
            with run.progress.enter("Choose the number", (1 - _FIRST_ROUND) / N_PARTS / len(runners)):
                found[i], interrupted = compare(other, i + 1)
            if interrupted:
                return True
        for i, scores in found.items():
            rounds[i].append(scores)
    return False


def running(rounds: Rounds) -> list[int]:
    """Return which numbers of the last round are not clearly worse than the best of it.

    Parameters
    ----------
    rounds
        See `Rounds`; who is out ran fewer rounds.
    """
    means, best = [np.mean(own, axis=0) for own in rounds], _best(rounds)
    pairs = {i: paired(own, means[best]) for i, own in enumerate(means) if len(rounds[i]) == len(rounds[best])}
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
    return np.array([whole + np.mean([a - b for a, b in zip(own, best, strict=False)], axis=0) for own in rounds])


def _best(rounds: Rounds) -> int:
    """Return the best of those that ran all rounds."""
    most = max(map(len, rounds))
    return min((i for i, own in enumerate(rounds) if len(own) == most), key=lambda i: np.mean(rounds[i]))
