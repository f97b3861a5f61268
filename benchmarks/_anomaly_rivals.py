"""What others do to find anomalies: scores per pixel, larger is stranger; and what no one can beat."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy.signals import BaseSignal

INFINITE = float("inf")
_SCORES = 8  # PCA scores that the general methods see


def rivals() -> dict[str, Callable[[BaseSignal, int], np.ndarray]]:
    """Return functions of (signal, rank of the truth) that give a map of scores."""
    found: dict[str, Callable[[BaseSignal, int], np.ndarray]] = {
        f"PCA {statistic}": partial(_of_pca, statistic=statistic) for statistic in ("squared_error", "deviance", "rx")
    }
    try:
        import sklearn  # noqa: F401  (whether it is there)
    except ImportError:
        return found
    found |= {"isolation forest": _isolation_forest, "local outlier factor": _local_outliers}
    try:
        from pyod.models.auto_encoder import AutoEncoder  # noqa: F401
    except ImportError:
        return found
    return found | {"pyod autoencoder": _pyod}


def autoencoder_error(signal: BaseSignal, rank: int) -> np.ndarray:
    """Return the squared error of our own autoencoder."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PCA is better does not matter here
        found = signal.decomposition_ae(rank, show_progressbar=False)
    return (found.residual.data.astype(np.float64) ** 2).sum(axis=-1)


def oracle(counts: np.ndarray, normal: np.ndarray, strange: np.ndarray) -> np.ndarray:
    """Return each pixel's log likelihood ratio, its spectrum with and without the anomaly being known."""
    normal, strange = np.maximum(normal, 1e-9), np.maximum(strange, 1e-9)
    return (counts * np.log(strange / normal) - (strange - normal)).sum(axis=-1)


def average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    """Return the average precision of a map of scores; pixels of equal score in the worst order."""
    score, truth = np.nan_to_num(score, nan=-INFINITE).ravel(), truth.ravel()
    order = np.lexsort((truth, -score))
    hits = truth[order]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def true_positives(score: np.ndarray, truth: np.ndarray, *, false_positives: float = 0.01) -> float:
    """Return the share of the anomalous pixels found where this share of the others is."""
    score = np.nan_to_num(score, nan=-INFINITE)
    return float((score[truth] > np.quantile(score[~truth], 1 - false_positives)).mean())


def _of_pca(signal: BaseSignal, rank: int, *, statistic: str) -> np.ndarray:
    rank = max(rank, _SCORES) if statistic == "rx" else rank
    model = signal.decomposition_ae(rank, architecture="pca", show_progressbar=False).model
    found = signal.anomaly_map(statistic=statistic, threshold=INFINITE, model=model, show_progressbar=False)
    return found.score.data


def _pca_scores(signal: BaseSignal) -> tuple[np.ndarray, tuple[int, ...]]:
    maps = signal.decomposition_ae(_SCORES, architecture="pca", show_progressbar=False).scores.data
    return np.nan_to_num(maps.reshape(len(maps), -1).T), maps.shape[1:]


def _isolation_forest(signal: BaseSignal, rank: int) -> np.ndarray:
    from sklearn.ensemble import IsolationForest

    scores, shape = _pca_scores(signal)
    return -IsolationForest(random_state=0).fit(scores).score_samples(scores).reshape(shape)


def _local_outliers(signal: BaseSignal, rank: int) -> np.ndarray:
    from sklearn.neighbors import LocalOutlierFactor

    scores, shape = _pca_scores(signal)
    return -LocalOutlierFactor(n_neighbors=50).fit(scores).negative_outlier_factor_.reshape(shape)


def _pyod(signal: BaseSignal, rank: int) -> np.ndarray:
    from pyod.models.auto_encoder import AutoEncoder

    scores, shape = _pca_scores(signal)
    return np.asarray(AutoEncoder(epoch_num=20, verbose=0).fit(scores).decision_scores_).reshape(shape)
