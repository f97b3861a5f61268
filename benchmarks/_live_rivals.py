"""Rivals of the live monitor: online subspaces, and control charts of one window for damage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Frames that a control chart takes its reference from, weight of a new frame in the moving average, and drift in
# standard errors that a cumulative sum forgives each frame: the usual choices.
_REFERENCE, _WEIGHT, _SLACK = 5, 0.2, 0.5
_FALSE = 0.05  # scans without damage in which a chart may alarm


def subspaces(lines: np.ndarray, rank: int, angle: Callable[[np.ndarray, int], float]) -> list[list[str]]:
    """Return rows of scikit-learn's incremental PCA and HyperSpy's online robust PCA.

    Parameters
    ----------
    lines
        (lines, pixels, E) whitened spectra.
    rank
        Of the subspace.
    angle
        Gives degrees between (E, rank) vectors and the batch PCA of so many lines.
    """
    return [_incremental(lines, rank, angle), _online_robust(lines, rank, angle)]


def _incremental(lines: np.ndarray, rank: int, angle: Callable[[np.ndarray, int], float]) -> list[str]:
    from sklearn.decomposition import IncrementalPCA

    model, times, angles = IncrementalPCA(rank), [], []
    for n, line in enumerate(lines, 1):
        start, cpu = time.perf_counter(), time.thread_time()
        model.partial_fit(line)
        times.append((time.perf_counter() - start, time.thread_time() - cpu))
        if n in checked(len(lines)):
            angles.append(angle(model.components_.T, n))
    return row("scikit-learn IncrementalPCA", times, angles)


def _online_robust(lines: np.ndarray, rank: int, angle: Callable[[np.ndarray, int], float]) -> list[str]:
    """Its public function takes all spectra at once: the mean time of a line stands for each."""
    from hyperspy.learn import orpca

    times, angles = [], []
    for n in checked(len(lines)):
        start, cpu = time.perf_counter(), time.thread_time()
        vectors, _ = orpca(lines[:n].reshape(-1, lines.shape[-1]).T, rank, random_state=0)
        times = [((time.perf_counter() - start) / n, (time.thread_time() - cpu) / n)]
        angles.append(angle(np.linalg.qr(vectors)[0], n))
    return row("HyperSpy orpca", times, angles)


def checked(n_lines: int) -> list[int]:
    """Return the numbers of lines after which subspaces are compared."""
    return [n for n in (32, 64, 128, 256) if n <= n_lines]


def row(name: str, times: Sequence[tuple[float, float]], angles: Sequence[float]) -> list[str]:
    """Return name, median and 99th percentile of wall times and median of CPU times in ms, and angles in degrees."""
    wall, cpu = 1e3 * np.array(times).T
    figures = [np.median(wall), np.quantile(wall, 0.99), np.median(cpu)]
    tail = "-" if len(wall) == 1 else f"{figures[1]:.1f}"
    return [name, f"{figures[0]:.1f}", tail, f"{figures[2]:.1f}", ", ".join(f"{one:.2f}" for one in angles)]


def charts(window: np.ndarray, total: np.ndarray) -> dict[str, np.ndarray]:
    """Return {name: (scans, frames)} statistics of control charts of a window whose place is known.

    Parameters
    ----------
    window, total
        (scans, frames) counts of the window, and of the whole spectra.
    """
    share = window / total
    reference = share[:, :_REFERENCE].mean(axis=1, keepdims=True)
    below = (reference - share) / np.sqrt(reference * (1 - reference) / total)  # in standard errors of a frame
    average, summed = np.zeros_like(below), np.zeros_like(below)
    for n in range(_REFERENCE, below.shape[1]):
        average[:, n] = _WEIGHT * below[:, n] + (1 - _WEIGHT) * average[:, n - 1]
        summed[:, n] = np.maximum(0, summed[:, n - 1] + below[:, n] - _SLACK)
    return {"EWMA": average, "CUSUM": summed}


def alarms(statistics: np.ndarray, undamaged: np.ndarray) -> str:
    """Return in how many scans a chart alarms, the median frame, and the threshold that keeps false alarms few.

    Parameters
    ----------
    statistics, undamaged
        (scans, frames) of one chart, of scans that decay and of others that do not.
    """
    threshold = float(np.quantile(undamaged.max(axis=1), 1 - _FALSE, method="higher"))
    over = statistics > threshold
    frames = [int(one.argmax()) for one in over if one.any()]
    when = f"frame {np.median(frames):g}" if frames else "-"
    return f"{len(frames)} of {len(over)}, {when}, above {threshold:.1f}"
