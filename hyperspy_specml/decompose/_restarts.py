"""Several trainings, of which held-out counts choose one; collapsed ones are dropped and remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.models import Attempt
from hyperspy_specml.statistics import paired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.prepare import TrainingData

_logger = logging.getLogger(__name__)

_CLEARLY = 2  # standard errors

T = TypeVar("T")


def best_of(
    starts: Iterable[tuple[str, Callable[[], T]]],
    judge: Callable[[T], tuple[float, str]],
    *,
    enough: Callable[[T, list[Attempt]], bool] = lambda *_: False,
) -> tuple[T, tuple[Attempt, ...]]:
    """Train from several starts and keep the best that did not collapse.

    Parameters
    ----------
    starts
        Names, and functions that train.
    judge
        Returns the score of what was trained, and why it collapsed or "".
    enough
        Asked after each training with what was trained and all attempts so far: whether no more are tried.

    Returns
    -------
    the best one, and all attempts in order. Where all collapsed, the best of these: the log says so.

    Raises
    ------
    TrainingDivergedError
        Every training diverged.
    """
    trained: list[tuple[T, Attempt]] = []
    attempts: list[Attempt] = []
    for name, train in starts:
        try:
            result = train()
        except TrainingDivergedError as error:
            _logger.warning("Training from %s diverged (%s); trying another start.", name, error)
            attempts.append(Attempt(name, float("nan"), f"diverged: {error}"))
            continue
        attempts.append(Attempt(name, *judge(result)))
        trained.append((result, attempts[-1]))
        if enough(result, attempts):
            break
    if not trained:
        raise TrainingDivergedError(f"all {len(attempts)} trainings diverged ({attempts[-1].collapsed})")
    best, attempt = min(trained, key=lambda one: (bool(one[1].collapsed), one[1].score))
    if attempt.collapsed:
        which = f"All {len(attempts)} trainings" if len(attempts) > 1 else "The training"
        _logger.warning("%s collapsed (%s): ask for fewer components.", which, attempt.collapsed)
    return best, tuple(attempts)


def judge(
    data: TrainingData, model: FittedModel, without: Callable[[np.ndarray, int], np.ndarray], n_values: int
) -> tuple[np.ndarray, str]:
    """Score a model of the training fold, and say why it collapsed, if it did.

    Parameters
    ----------
    data
        Training data.
    model
        Of their training fold.
    without
        Returns the scores without one of the components.
    n_values
        Deviances that are computed each time, about.

    Returns
    -------
    (m,) validation scores, and why K components are worth no more than fewer, or ""
    """
    k, (folds, scores) = model.n_components, data.few(n_values)
    encoded = model.encode_scores(scores)

    def score(columns: np.ndarray) -> np.ndarray:
        return folds.score("validation", lambda rows: model.decode(columns[rows]))

    own = score(encoded)
    if k == 1:
        return own, collapse(own, {}, None)
    reduced = {f"component {i}": score(without(encoded, i)) for i in range(k)}
    basis = data.fold_basis.first(k - 1)
    smaller = folds.score("validation", lambda rows: basis.spectra(scores[rows, : basis.n_vectors]))
    return own, collapse(own, reduced, smaller)


def collapse(scores: np.ndarray, without: dict[str, np.ndarray], smaller: np.ndarray | None) -> str:
    """Say why a model with K components is worth no more than one with fewer; "" if it is worth it.

    Parameters
    ----------
    scores
        (m,) held-out scores of the model.
    without
        (m,) scores of the model without one component, by what to call this component.
    smaller
        (m,) scores of PCA with one component less; None for K = 1.
    """
    for name, other in without.items():
        pair = paired(other, scores)
        if pair.difference <= pair.standard_error:
            return f"{name} explains nothing"
    if smaller is not None:
        pair = paired(scores, smaller)
        if pair.difference > _CLEARLY * pair.standard_error:
            return "worse than PCA with one component less"
    return ""
