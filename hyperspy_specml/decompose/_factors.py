"""Non-negative matrix factorisation by the likelihood of counts: unmixing without the smallest simplex.

Where each phase is pure somewhere the counts alone tell the endmembers, and a penalty on the volume makes them less
pure than they are. So both are fitted, and held-out counts choose. Where these cannot tell them apart, the endmembers
are taken that repeat better when other counts are held out.

References
----------
D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 13 (2001); C. Ding, T. Li, W. Peng,
"On the equivalence between non-negative matrix factorization and probabilistic latent semantic indexing",
Comput. Stat. Data Anal. 52 (2008) 3913: abundances of sum one lose nothing, the intensity is that of the counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from hyperspy_specml.decompose._endmembers import factorise, first_endmembers
from hyperspy_specml.models import CLEAR, FactorModel
from hyperspy_specml.statistics import TRAIN, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.prepare import TrainingData

_MOST_SPECTRA = 4096  # looked at
_ROUNDS = 400  # of updates from the best of the first guesses; more change the third digit of an angle
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
    few = slice(None, None, -(-len(data.fold_scores) // _MOST_SPECTRA))
    parts = [part[few].astype(np.float32) for part in data.folds.parts]
    spectra = np.sum(parts, axis=0) / np.float32(TRAIN)
    guesses = first_endmembers(spectra, data.fold_scores[few], k, seed=seed)
    return FactorModel(data.fold_basis, _refined(spectra, guesses["nmf"]))


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


def _refined(spectra: np.ndarray, endmembers: np.ndarray) -> np.ndarray:
    """Return (K, E) endmembers after further updates, in the order of their use."""
    abundances, found = factorise(np.maximum(spectra, 0), endmembers, _ROUNDS)
    return found[np.argsort(-abundances.mean(axis=0), kind="stable")].astype(np.float64)


def prefer_factors(
    data: TrainingData,
    factors: FactorModel,
    other: FittedModel,
    brief: Callable[[TrainingData], FittedModel],
    seed: int,
) -> bool:
    """Return whether the factors are taken, and not the smallest simplex.

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
    pair = paired(data.scores_of(factors), data.scores_of(other))
    if abs(pair.difference) > CLEAR * pair.standard_error:
        return pair.difference < 0
    turned = [data.turned(part) for part in range(N_TURNS)]
    own = [fit_factors(one, factors.n_components, seed=seed).components() for one in turned]
    rival = [brief(one).components() for one in turned]
    return angle_between(*own) <= angle_between(*rival)


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
