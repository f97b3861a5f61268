"""Non-negative matrix factorisation by the likelihood of counts: unmixing without the smallest simplex.

Where each phase is pure somewhere the counts alone tell the endmembers, and a penalty on the volume makes them less
pure than they are. So both are fitted, and held-out counts choose. Where these cannot tell them apart, the endmembers
are taken that repeat better when other counts are held out.

A count that has made an endmember seems the more likely to be of it. Where an endmember has few counts in each
channel, abundances and endmembers of the same counts so confirm each other, and phases that are nowhere pure come out
as mixtures. Therefore the abundances of a spectrum are found with endmembers of the counts of other spectra.

References
----------
D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 13 (2001); C. Ding, T. Li, W. Peng,
"On the equivalence between non-negative matrix factorization and probabilistic latent semantic indexing",
Comput. Stat. Data Anal. 52 (2008) 3913: abundances of sum one lose nothing, the intensity is that of the counts;
A. Asuncion, M. Welling, P. Smyth, Y. W. Teh, "On smoothing and inference for topic models", UAI (2009) 27: there each
count is judged by all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from hyperspy_specml.decompose._endmembers import TINY, drawn, first_endmembers
from hyperspy_specml.models import CLEAR, FactorModel
from hyperspy_specml.statistics import TRAIN, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.prepare import TrainingData

_MOST_SPECTRA = 4096  # looked at
# Rounds of updates from the best of the first guesses, and from another prior; more change the third digit of an angle.
_ROUNDS, _MORE_ROUNDS = 400, 100
# Part of the counts of an endmember by which it is drawn to the mean spectrum, as many counts in every channel: without
# them channels become zero by chance. So little changes an angle less than noise does.
_PRIOR = 0.01
# More of them predict held-out counts better: those with which factors are compared with another assumption.
_COMPARED = (0.03, 0.1)
# The endmembers that judge a spectrum are those of all parts but its own; twice as many change an angle by 1 %.
_PARTS = 16
N_TURNS = 2  # other counts that are held out where held-out counts do not choose


def fit_factors(data: TrainingData, k: int, *, seed: int) -> FactorModel:
    """Return the factors of the training fold.

    Parameters
    ----------
    data
        Training data of counts.
    k
        Endmembers K.
    seed
        Of the first guesses.
    """
    spectra, scores = _training(data)
    return FactorModel(data.fold_basis, _refined(spectra, first_endmembers(spectra, scores, k, seed=seed)["nmf"]))


def _training(data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, E) spectra of the training fold, some of them where there are many, and their (n, P) scores."""
    few = slice(None, None, -(-len(data.fold_scores) // _MOST_SPECTRA))
    parts = [part[few].astype(np.float32) for part in data.folds.parts]
    return np.sum(parts, axis=0) / np.float32(TRAIN), data.fold_scores[few]


def on_all_counts(data: TrainingData, model: FactorModel) -> FactorModel:
    """Return the factors of all counts, from those of the training fold.

    Parameters
    ----------
    data
        Training data.
    model
        Of its training fold.
    """
    few = slice(None, None, -(-len(data.fold_scores) // _MOST_SPECTRA))
    folds = data.folds
    spectra = np.sum([part[few].astype(np.float32) for part in (*folds.parts, folds.validation, folds.test)], axis=0)
    endmembers = _refined(spectra, model.endmembers)
    order = np.argsort(-FactorModel(data.basis, endmembers).encode_scores(data.fold_scores)[:, :-1].mean(axis=0))
    return FactorModel(data.aligned, endmembers[order])


def _refined(spectra: np.ndarray, endmembers: np.ndarray, prior: float = _PRIOR, n_rounds: int = _ROUNDS) -> np.ndarray:
    """Return (K, E) endmembers after further updates, in the order of their use."""
    spectra = np.maximum(spectra, 0)
    counts = prior * float(spectra.sum(dtype=np.float64)) / endmembers.size  # in a channel of an endmember
    abundances, found = factorise_apart(spectra, endmembers, n_rounds, counts)
    return found[np.argsort(-abundances.mean(axis=0), kind="stable")].astype(np.float64)


def factorise_apart(
    spectra: np.ndarray, endmembers: np.ndarray, n_rounds: int, prior: float
) -> tuple[np.ndarray, np.ndarray]:
    """Factorise as `factorise` does, but find abundances with endmembers that the same counts have not made.

    Parameters
    ----------
    spectra
        (n, E), not negative, float32.
    endmembers
        (K, E) to start from.
    n_rounds
        Updates.
    prior
        Counts in each channel that speak for the mean spectrum, in each endmember.

    Returns
    -------
    (n, K) abundances, summing to one, and (K, E) endmembers of all spectra
    """
    mean, k = spectra.mean(axis=0), len(endmembers)
    # At random: in a regular order one part could hold all of a layer that runs along a scan axis.
    rows = np.array_split(np.random.default_rng(0).permutation(len(spectra)), _PARTS)
    parts = [spectra[some] for some in rows]
    abundances = [np.full((len(part), k), 1 / k, np.float32) for part in parts]
    seen = np.tile(endmembers.astype(np.float32), (_PARTS, 1, 1))  # by each part: those of the other parts
    own = np.empty_like(seen)  # counts of each endmember in each part
    for _ in range(n_rounds):
        for i, part in enumerate(parts):
            ratio = part / np.maximum(abundances[i] @ seen[i], np.finfo(np.float32).tiny)
            own[i] = seen[i] * (abundances[i].T @ ratio)
            new = abundances[i] * (ratio @ seen[i].T) + TINY
            abundances[i] = new / new.sum(axis=1, keepdims=True)
        seen = drawn(np.maximum(own.sum(axis=0) - own, 0), mean, prior)
    return np.concatenate(abundances)[np.argsort(np.concatenate(rows))], drawn(own.sum(axis=0), mean, prior)


def prefer_factors(
    data: TrainingData,
    factors: FactorModel,
    other: FittedModel,
    brief: Callable[[TrainingData], FittedModel],
    seed: int,
) -> bool:
    """Return whether the factors are taken, and not the smallest simplex.

    Endmembers that predict best are drawn to the mean more than those that are nearest to the true ones: what is
    compared is how well the assumption predicts, with as much of it as helps.

    Parameters
    ----------
    data
        Training data.
    factors, other
        Of their training fold.
    brief
        Trains the other briefly, on such data.
    seed
        Of the factors.
    """
    pair = paired(_best_scores(data, factors), data.scores_of(other))
    if abs(pair.difference) > CLEAR * pair.standard_error:
        return pair.difference < 0
    turned = [data.turned(part) for part in range(N_TURNS)]
    own = [fit_factors(one, factors.n_components, seed=seed).components() for one in turned]
    rival = [brief(one).components() for one in turned]
    return angle_between(*own) <= angle_between(*rival)


def _best_scores(data: TrainingData, factors: FactorModel) -> np.ndarray:
    """Return the held-out scores of factors drawn to the mean as far as it helps."""
    spectra, endmembers, scores = _training(data)[0], factors.endmembers, [data.scores_of(factors)]
    for prior in _COMPARED:
        endmembers = _refined(spectra, endmembers, prior, _MORE_ROUNDS)
        scores.append(data.scores_of(FactorModel(data.fold_basis, endmembers)))
    return min(scores, key=np.mean)


def angle_between(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean angle of (K, E) spectra, in radians, matched as well as possible.

    Parameters
    ----------
    one, other
        Not negative, not zero.
    """
    unit, units = (s / np.linalg.norm(s, axis=1, keepdims=True) for s in (one, other))
    angles = np.arccos(np.clip(unit @ units.T, -1, 1))
    return float(angles[linear_sum_assignment(angles)].mean())
