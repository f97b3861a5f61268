"""From features to classes or a value: logistic regression, ridge regression with and without a kernel.

n labelled spectra, F features, C classes (or one value).

References
----------
T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed. (2009), sections 3.4, 4.4, 7.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Strengths of the ridge (of unit features), inverse strengths of the logistic regression.
_RIDGE, _INVERSE = np.logspace(-4, 4, 17), np.logspace(-2, 3, 6)
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
        return _logistic(features, truth, n_classes)
    constant = np.array([truth.mean()])
    if kernel:
        gamma = 1 / (4 * max(1.0, float(np.median((features**2).sum(axis=1)))))
        squares = (features**2).sum(axis=1)
        gram = np.exp(-gamma * np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0))
        dual, error = _ridge_dual(gram, truth - constant)
        return Head(dual[:, None], constant, features, gamma, error)
    centre = features.mean(axis=0)
    dual, error = _ridge_dual((features - centre) @ (features - centre).T, truth - constant)
    weights = (features - centre).T @ dual
    return Head(weights[:, None], constant - centre @ weights, error=error)


def _ridge_dual(gram: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the dual coefficients of ridge regression with the strength of smallest leave-one-out error, and that."""
    eigenvalues, vectors = np.linalg.eigh(gram)
    rotated, unit, best = vectors.T @ values, max(float(eigenvalues.mean()), 1e-30), (np.zeros(len(values)), np.inf)
    for strength in _RIDGE * unit:
        inverse = 1 / (np.maximum(eigenvalues, 0) + strength)
        dual = vectors @ (inverse * rotated)
        left_out = dual / np.maximum((vectors**2) @ inverse, 1e-30)
        best = min(best, (dual, float((left_out**2).mean())), key=lambda one: one[1])
    return best


def _logistic(features: np.ndarray, truth: np.ndarray, n_classes: int) -> Head:
    from sklearn.linear_model import LogisticRegression

    scale = 1 / np.sqrt(features.shape[1])
    # Weights lie in the space of the spectra: in its own coordinates fits cost the number of spectra, not of channels.
    space = np.linalg.svd(features, full_matrices=False)[2] if len(features) < features.shape[1] else None
    values = (features if space is None else features @ space.T) * scale
    strength, error = _strength(values, truth, n_classes)
    model = LogisticRegression(C=strength, max_iter=1000).fit(values, truth)
    weights, constant = np.zeros((values.shape[1], n_classes)), np.full(n_classes, -1e3)
    if len(model.classes_) == 2:  # one row for the second class against the first
        weights[:, model.classes_[1]], constant[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[:, model.classes_], constant[model.classes_] = model.coef_.T, model.intercept_
    return Head((weights if space is None else space.T @ weights) * scale, constant, error=error)


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
