"""Can two samples of spectra be told apart? A classifier says how well; half of its answers are right where not.

References
----------
D. Lopez-Paz, M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import rankdata

_N_FOLDS = 5
_NEIGHBOURS = 30  # whose kind votes
_RIDGE = 1e-2  # of the mean square of a feature


def two_sample_score(one: np.ndarray, other: np.ndarray, *, seed: int = 0) -> float:
    """Return how well two samples are told apart: 0.5 where they cannot, 1 where always.

    The area under the receiver operating characteristic of spectra that the classifier has not seen, in shuffled folds.
    The better one of two classifiers: a quadratic one, which sees means and covariances, and a vote of neighbours,
    which sees shapes of any kind.

    Parameters
    ----------
    one, other
        (n, D) and (m, D) features, on axes that were learnt from neither.
    seed
        Of the folds.
    """
    values = np.vstack([one, other]).astype(np.float64)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)
    labels = np.repeat([1.0, 0.0], [len(one), len(other)])
    folds = np.random.default_rng(seed).permutation(len(values)) % _N_FOLDS
    votes = np.empty((2, len(values)))
    for fold in range(_N_FOLDS):
        held, kept = folds == fold, folds != fold
        votes[0, held] = _quadratic(values[kept], labels[kept], values[held])
        votes[1, held] = _neighbours(values[kept], labels[kept], values[held])
    return max(area_under_curve(vote, labels) for vote in votes)


def area_under_curve(votes: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of pairs, one of each label, whose votes are in the right order; ties count half."""
    n_true = labels.sum()
    ranks = rankdata(votes)[labels > 0].sum()
    return float((ranks - n_true * (n_true + 1) / 2) / (n_true * (len(labels) - n_true)))


def _quadratic(values: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return votes of the least-squares discriminant of all products of two features."""
    low, high = np.tril_indices(values.shape[1])

    def features(x: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(x)), x, x[:, low] * x[:, high]])

    known = features(values)
    gram = known.T @ known / len(known)
    gram[np.diag_indices(len(gram))] += _RIDGE
    return features(asked) @ np.linalg.solve(gram, known.T @ labels / len(known))


def _neighbours(values: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the share of the nearest neighbours with label 1."""
    _, nearest = KDTree(values).query(asked, k=min(_NEIGHBOURS, len(values)))
    return labels[nearest].mean(axis=1)
