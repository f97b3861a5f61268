"""From features to classes or a value: discriminants, logistic regression, ridge regression with and without a kernel.

Of few labels a linear discriminant, which takes classes for equally wide, makes more than logistic regression, which
asks for nothing but the probabilities: it is asymptotically better by a third to two thirds where that holds. Which
of the two is better shows in labels that are left out.

n labelled spectra, F features, C classes (or one value).

References
----------
T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed. (2009), sections 3.4, 4.3, 4.4,
7.10; B. Efron, J. Am. Stat. Assoc. 70 (1975) 892 (discriminant and logistic regression); O. Ledoit, M. Wolf, J.
Multivar. Anal. 88 (2004) 365 (covariances of few spectra).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

# Strengths of the ridge (of unit features), inverse strengths of the logistic regression.
_RIDGE, _INVERSE = np.logspace(-4, 4, 17), np.logspace(-2, 3, 6)
# Channels of a covariance, at most: of more, neighbours are taken together.
_CHANNELS = 256
# Factors of the logarithms of probabilities that a discriminant gives, which are too sure where labels are few.
_SURE = np.logspace(-2, 0, 9)
# Logit of a class without labels.
NEVER = -1e3
# Smallest probability of a class.
_UNLIKELY = 1e-12


@dataclass(frozen=True, eq=False)
class Head:
    """From features to classes or a value.

    Attributes
    ----------
    weights, constant
        (F, C) and (C,) of a linear head; of a kernel head (n, 1) dual coefficients.
    support
        (n, F) features of a kernel head; None for a linear one.
    gamma
        Of its Gaussian kernel.
    error
        Mean squared error of values, or mean negative log likelihood of classes, of labels that were left out; infinite
        where there were too few.
    """

    weights: np.ndarray
    constant: np.ndarray
    support: np.ndarray | None = None
    gamma: float = 0.0
    error: float = np.inf

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (n, C) logits, or (n, 1) values."""
        if self.support is None:
            return features @ self.weights + self.constant
        squares = (features**2).sum(axis=1)[:, None] + (self.support**2).sum(axis=1) - 2 * features @ self.support.T
        return np.exp(-self.gamma * np.maximum(squares, 0)) @ self.weights + self.constant


def fit_head(features: np.ndarray, truth: np.ndarray, *, n_classes: int, kernel: bool) -> Head:
    """Fit a head, its strength by cross-validation within these spectra.

    Parameters
    ----------
    features
        (n, F).
    truth
        (n,) classes, or values where `n_classes` is 0.
    n_classes
        Number of classes C.
    kernel
        Whether values are fitted with a Gaussian kernel.
    """
    if n_classes:
        both = (_logistic(features, truth, n_classes), discriminant(features, truth, n_classes))
        return min(both, key=lambda head: head.error)
    constant = np.array([truth.mean()])
    if kernel:
        gamma = 1 / (4 * max(1.0, float(np.median((features**2).sum(axis=1)))))
        squares = (features**2).sum(axis=1)
        gram = np.exp(-gamma * np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0))
        dual, error = _ridge_dual(gram, truth - constant, centred=False)
        return Head(dual[:, None], constant, features, gamma, error)
    centre = features.mean(axis=0)
    dual, error = _ridge_dual((features - centre) @ (features - centre).T, truth - constant, centred=True)
    weights = (features - centre).T @ dual
    return Head(weights[:, None], constant - centre @ weights, error=error)


def _ridge_dual(gram: np.ndarray, values: np.ndarray, *, centred: bool) -> tuple[np.ndarray, float]:
    """Return the dual coefficients of ridge regression with the strength of smallest leave-one-out error, and that.

    Parameters
    ----------
    gram, values
        (n, n) products of features and (n,) values about their mean.
    centred
        Whether the features are about their mean, too. Then nothing but that mean tells of the direction in which all
        spectra change alike, and who is left out does not count there.
    """
    eigenvalues, vectors = np.linalg.eigh(gram)
    rotated, unit, best = vectors.T @ values, max(float(eigenvalues.mean()), 1e-30), (np.zeros(len(values)), np.inf)
    for strength in _RIDGE * unit:
        inverse = 1 / (np.maximum(eigenvalues, 0) + strength)
        dual = vectors @ (inverse * rotated)
        own = (vectors**2) @ inverse - centred / (len(values) * strength)
        left_out = dual / np.maximum(own, 1e-9 / strength)
        best = min(best, (dual, float((left_out**2).mean())), key=lambda one: one[1])
    return best


def _logistic(features: np.ndarray, truth: np.ndarray, n_classes: int) -> Head:
    from sklearn.linear_model import LogisticRegression

    scale = 1 / np.sqrt(features.shape[1])
    # Weights lie in the space of the spectra: in its own coordinates fits cost the number of spectra, not of channels.
    space = np.linalg.svd(features, full_matrices=False)[2] if len(features) < features.shape[1] else None
    values = (features if space is None else features @ space.T) * scale
    strength, error = _strength(values, truth, n_classes)
    weights, constant = _linear(LogisticRegression(C=strength, max_iter=1000).fit(values, truth), n_classes)
    return Head((weights if space is None else space.T @ weights) * scale, constant, error=error)


def discriminant(features: np.ndarray, truth: np.ndarray, n_classes: int) -> Head:
    """Fit a linear discriminant of classes that are equally frequent, no surer than labels that are left out are."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold

    counted = np.bincount(truth, minlength=n_classes)
    smallest = int(counted[counted > 0].min())
    if smallest < 3:  # without one of them, a covariance of one spectrum
        return Head(np.zeros((features.shape[1], n_classes)), np.zeros(n_classes))

    def fitted(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        even = np.full(len(np.unique(truth)), 1 / len(np.unique(truth)))
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=even)
        return _linear(model.fit(values[some], truth[some]), n_classes)

    together = -(-features.shape[1] // _CHANNELS)
    values = _summed(features, together)
    logits, order = np.empty((len(truth), n_classes)), np.arange(len(truth))
    for train, test in StratifiedKFold(min(5, smallest), shuffle=True, random_state=0).split(values, truth):
        weights, constant = fitted(train)
        logits[test] = values[test] @ weights + constant
    errors = [-log_softmax(sure * logits, axis=1)[order, truth].mean() for sure in _SURE]
    best = int(np.argmin(errors))
    weights, constant = fitted(order)
    every = np.repeat(weights, together, axis=0)[: features.shape[1]]
    return Head(_SURE[best] * every, _SURE[best] * constant, error=float(errors[best]))


def _summed(features: np.ndarray, together: int) -> np.ndarray:
    """Return (n, F) features as sums of so many neighbours; of the last, fewer."""
    return np.add.reduceat(features, np.arange(0, features.shape[1], together), axis=1)


def _linear(model: Any, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (F, C) weights and (C,) constants of a linear model, which may have seen some classes only."""
    weights, constant = np.zeros((model.coef_.shape[1], n_classes)), np.full(n_classes, NEVER)
    if len(model.classes_) == 2:  # one row for the second class against the first
        weights[:, model.classes_[1]], constant[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[:, model.classes_], constant[model.classes_] = model.coef_.T, model.intercept_
    return weights, constant


def _strength(values: np.ndarray, truth: np.ndarray, n_classes: int) -> tuple[float, float]:
    """Return the inverse strength of the smallest negative log likelihood of left-out labels, and that.

    Fits become looser until left-out labels become less likely; each starts from the one before.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    counted = np.bincount(truth, minlength=n_classes)
    smallest = int(counted[counted > 0].min())
    if smallest < 2:
        return 1.0, np.inf
    folds = list(StratifiedKFold(min(3, smallest), shuffle=True, random_state=0).split(values, truth))
    models = [LogisticRegression(max_iter=300, warm_start=True) for _ in folds]
    best, least = 1.0, np.inf
    for inverse in _INVERSE:
        errors = []
        for model, (train, test) in zip(models, folds, strict=True):
            model.set_params(C=inverse).fit(values[train], truth[train])
            right = model.predict_proba(values[test])[
                np.arange(len(test)), np.searchsorted(model.classes_, truth[test])
            ]
            errors.append(-np.log(np.maximum(right, _UNLIKELY)).mean())
        if (error := float(np.mean(errors))) >= least:
            break
        best, least = float(inverse), error
    return best, least
