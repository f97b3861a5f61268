"""From a hundred labels to a predictor: cheap rivals and the encoder in one cross-validation.

n labelled spectra, E channels, F features, C classes (or one value).

References
----------
T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed. (2009), sections 3.4, 4.4, 7.10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.lazy import torch
from hyperspy_specml.train import without_compiler

if TYPE_CHECKING:
    from hyperspy_specml.pretraining._encoder import Inputs, SpectrumEncoder

METHODS = ("auto", "raw", "pca", "aligned", "linear", "lora", "full")
# What "auto" compares, from the simplest on.
_CONTENDERS = ("raw", "pca", "aligned", "linear", "lora")
# Folds of the cross-validation, and repetitions of it.
_FOLDS, _REPEATS = 5, 2
# Principal components of the features "pca" and "aligned".
_COMPONENTS = 12
# Strengths of the ridge (of unit features), inverse strengths of the logistic regression.
_RIDGE, _INVERSE = np.logspace(-4, 4, 17), np.logspace(-2, 3, 6)
# Largest shift that is looked for, part of the channels.
_SHIFTS = 0.03
# Steps and learning rates of adapters and of the whole network.
_STEPS, _RATES = 150, {"lora": 2e-3, "full": 3e-4}
# Spectra that principal components are made of, at most.
_POOL = 4000


@dataclass(frozen=True, eq=False)
class Features:
    """From (n, E) spectra on a grid to (n, F) numbers of mean 0 and deviation 1.

    Attributes
    ----------
    kind
        "raw", "pca" or "aligned".
    mean, scale
        (F,) of the features before they are standardised.
    basis
        (E, P) principal components; of "raw" none.
    centre
        (E,) mean root of the shares; of "aligned" also what spectra are compared with.
    """

    kind: str
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, kind: str, pool: np.ndarray) -> Features:
        """Return the features of a kind, from (m, E) spectra without labels."""
        centre = _roots(pool).mean(axis=0)
        empty = cls(kind, np.zeros(1), np.ones(1), np.zeros((pool.shape[1], 0)), centre)
        values = empty._prepared(pool)
        if kind != "raw":
            _, _, vectors = np.linalg.svd(values, full_matrices=False)
            empty = replace(empty, basis=vectors[:_COMPONENTS].T.copy())
            values = values @ empty.basis
        scale = values.std(axis=0)
        return replace(
            empty, mean=values.mean(axis=0), scale=np.where(scale > 1e-9 * max(scale.max(), 1e-30), scale, np.inf)
        )

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of spectra."""
        values = self._prepared(rows)
        return ((values @ self.basis if self.basis.shape[1] else values) - self.mean) / self.scale

    def _prepared(self, rows: np.ndarray) -> np.ndarray:
        return _roots(_aligned(rows, self.centre**2) if self.kind == "aligned" else rows) - self.centre


def _roots(rows: np.ndarray) -> np.ndarray:
    total = np.maximum(np.abs(rows).sum(axis=1, keepdims=True), 1e-30)
    return np.sqrt(np.maximum(rows, 0) / total * rows.shape[1])


def _aligned(rows: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return spectra moved by whole channels to where the Poisson likelihood of a template is largest."""
    from hyperspy_specml.streaming import shift_channels

    most = max(1, int(_SHIFTS * rows.shape[1]))
    shifts = np.arange(-most, most + 1)
    inner = slice(most, rows.shape[1] - most)
    floor = 1e-3 * max(float(template.mean()), 1e-30)
    moved = np.stack([np.roll(template, by)[inner] for by in shifts])
    moved = np.maximum(moved, floor)
    score = rows[:, inner] @ np.log(moved).T - rows[:, inner].sum(axis=1, keepdims=True) * np.log(moved.sum(axis=1))
    return shift_channels(rows, -shifts[score.argmax(axis=1)])


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
    """

    weights: np.ndarray
    constant: np.ndarray
    support: np.ndarray | None = None
    gamma: float = 0.0

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
        return Head(_ridge_dual(gram, truth - constant)[:, None], constant, features, gamma)
    centre = features.mean(axis=0)
    weights = (features - centre).T @ _ridge_dual((features - centre) @ (features - centre).T, truth - constant)
    return Head(weights[:, None], constant - centre @ weights)


def _ridge_dual(gram: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the dual coefficients of ridge regression with the strength of smallest leave-one-out error."""
    eigenvalues, vectors = np.linalg.eigh(gram)
    rotated, unit, best = vectors.T @ values, max(float(eigenvalues.mean()), 1e-30), (np.inf, np.zeros(len(values)))
    for strength in _RIDGE * unit:
        inverse = 1 / (np.maximum(eigenvalues, 0) + strength)
        dual = vectors @ (inverse * rotated)
        left_out = dual / np.maximum((vectors**2) @ inverse, 1e-30)
        best = min(best, (float((left_out**2).mean()), dual), key=lambda one: one[0])
    return best[1]


def _logistic(features: np.ndarray, truth: np.ndarray, n_classes: int) -> Head:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    smallest, scale = (
        int(np.bincount(truth, minlength=n_classes)[np.unique(truth)].min()),
        1 / np.sqrt(features.shape[1]),
    )
    # Weights lie in the space of the spectra: in its own coordinates fits cost the number of spectra, not of channels.
    space = np.linalg.svd(features, full_matrices=False)[2] if len(features) < features.shape[1] else None
    values, strengths = (features if space is None else features @ space.T) * scale, _INVERSE
    if smallest >= 2:
        folds = StratifiedKFold(min(3, smallest), shuffle=True, random_state=0)
        means = [
            cross_val_score(
                LogisticRegression(C=c, max_iter=300), values, truth, cv=folds, scoring="neg_log_loss"
            ).mean()
            for c in strengths
        ]
        strength = float(strengths[int(np.argmax(means))])
    else:
        strength = 1.0
    model = LogisticRegression(C=strength, max_iter=1000).fit(values, truth)
    weights, constant = np.zeros((values.shape[1], n_classes)), np.full(n_classes, -1e3)
    if len(model.classes_) == 2:  # one row for the second class against the first
        weights[:, model.classes_[1]], constant[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[:, model.classes_], constant[model.classes_] = model.coef_.T, model.intercept_
    return Head((weights if space is None else space.T @ weights) * scale, constant)


@dataclass(frozen=True, eq=False)
class Tuned:
    """What predicts: features or an encoder, and a head.

    Attributes
    ----------
    method
        One of `METHODS` but "auto".
    head
        On the features.
    features
        Of "raw", "pca" and "aligned"; else how the outputs of the encoder are standardised.
    encoder
        Of the other methods.
    """

    method: str
    head: Head
    features: Features
    encoder: SpectrumEncoder | None = None

    def __call__(self, laid: np.ndarray, inputs: Inputs) -> np.ndarray:
        """Return (n, C) logits or (n, 1) values of (n, E) spectra on the grid."""
        if self.encoder is None:
            return self.head(self.features(laid))
        return self.head((_encoded(self.encoder, laid, inputs) - self.features.mean) / self.features.scale)


def _encoded(encoder: SpectrumEncoder, laid: np.ndarray, inputs: Inputs) -> np.ndarray:
    with torch.no_grad():
        parts = [
            encoder.network(*inputs(torch.from_numpy(laid[start : start + 512].astype(np.float32)))).numpy()
            for start in range(0, len(laid), 512)
        ]
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt. n labelled spectra, E channels of the grid.

    Attributes
    ----------
    laid, truth
        (n, E) spectra on the grid and (n,) labels.
    pool
        (m, E) spectra without labels.
    inputs, encoder
        How spectra are shown to the encoder.
    n_classes
        0 for values.
    seed
        Of folds and trainings.
    """

    laid: np.ndarray
    truth: np.ndarray
    pool: np.ndarray
    inputs: Inputs
    encoder: SpectrumEncoder
    n_classes: int
    seed: int = 0

    def of(self, some: np.ndarray) -> Task:
        """Return the task with some of the labelled spectra."""
        return replace(self, laid=self.laid[some], truth=self.truth[some])


def tune(method: str, task: Task) -> Tuned:
    """Fit one method to labelled spectra.

    Parameters
    ----------
    method
        One of `METHODS` but "auto".
    task
        The spectra and their labels.
    """
    laid, truth, n_classes, encoder = task.laid, task.truth, task.n_classes, task.encoder
    if method in ("raw", "pca", "aligned"):
        features = Features.of(method, task.pool[:_POOL])
        head = fit_head(features(laid), truth, n_classes=n_classes, kernel=method != "raw")
        return Tuned(method, head, features)
    if method in _RATES:
        encoder = _trained(method, task)
    latent = _encoded(encoder, task.pool[:_POOL], task.inputs)
    scale = latent.std(axis=0)
    standard = Features("latent", latent.mean(axis=0), np.maximum(scale, 1e-6), np.zeros((0, 0)), np.zeros(0))
    values = (_encoded(encoder, laid, task.inputs) - standard.mean) / standard.scale
    return Tuned(method, fit_head(values, truth, n_classes=n_classes, kernel=False), standard, encoder)


def _trained(method: str, task: Task) -> SpectrumEncoder:
    """Return the encoder with adapters, or as a whole, trained on the labels in few steps."""
    import copy

    from hyperspy_specml.nn import WithHead, adapt, merged

    torch.manual_seed(task.seed)
    truth, n_classes, network = task.truth, task.n_classes, copy.deepcopy(task.encoder.network)
    if method == "lora":
        adapt(network, rank=4, alpha=8.0, targets=("qkv", "out"))
    whole = WithHead(network, n_classes or 1)
    spread = 1.0 if n_classes else max(float(truth.std()), 1e-12)
    target = torch.from_numpy(truth if n_classes else ((truth - truth.mean()) / spread).astype(np.float32)[:, None])
    parameters = [p for p in whole.parameters() if p.requires_grad]
    optimiser = without_compiler(torch.optim.AdamW)(parameters, _RATES[method], weight_decay=0.01)
    losses, rng = torch.nn.functional, np.random.default_rng(task.seed)
    loss: Any = losses.cross_entropy if n_classes else losses.mse_loss
    for _ in range(_STEPS):
        some = rng.integers(len(truth), size=min(64, len(truth)))
        thin = rng.uniform(0.5, 1.0)
        counts = task.laid[some] * thin  # of another dose
        whole.zero_grad()
        loss(whole(*task.inputs(torch.from_numpy(counts.astype(np.float32)))), target[some]).backward()
        optimiser.step()
    return replace(task.encoder, network=merged(network).eval())


@dataclass(frozen=True)
class Contest:
    """Scores of a cross-validation.

    Attributes
    ----------
    method
        Contender.
    score, error
        Mean balanced accuracy or R2, and its standard error over the folds.
    """

    method: str
    score: float
    error: float


def contest(task: Task) -> tuple[Contest, ...]:
    """Cross-validate the contenders on the same folds.

    Parameters
    ----------
    task
        The spectra and their labels.
    """
    folds = list(_folds(task.truth, task.n_classes, task.seed))
    if not folds:
        raise OptionError(
            "fine_tune(method='auto') needs two labelled spectra of every class, or six values, to cross-validate. "
            "Label more, or say the method, method='linear'."
        )
    found = []
    for method in _CONTENDERS:
        scores = []
        for train, test in folds if method != "lora" else folds[:_FOLDS]:
            predicted = tune(method, task.of(train))(task.laid[test], task.inputs)
            scores.append(_score(predicted, task.truth[test], task.truth, task.n_classes))
        found.append(Contest(method, float(np.mean(scores)), float(np.std(scores) / np.sqrt(len(scores)))))
    return tuple(found)


def _folds(truth: np.ndarray, n_classes: int, seed: int) -> Any:
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    if n_classes:
        smallest = int(np.bincount(truth, minlength=n_classes).min())
        if smallest < 2:
            return []
        return RepeatedStratifiedKFold(n_splits=min(_FOLDS, smallest), n_repeats=_REPEATS, random_state=seed).split(
            truth, truth
        )
    if len(truth) < 6:
        return []
    return RepeatedKFold(n_splits=min(_FOLDS, len(truth) // 3), n_repeats=_REPEATS, random_state=seed).split(truth)


def _score(found: np.ndarray, truth: np.ndarray, every: np.ndarray, n_classes: int) -> float:
    """Return the balanced accuracy, or R2 against the variance of all labels."""
    if n_classes:
        right = found.argmax(axis=1) == truth
        return float(np.mean([right[truth == c].mean() for c in np.unique(truth)]))
    return float(1 - ((found[:, 0] - truth) ** 2).mean() / max(float(every.var()), 1e-30))
