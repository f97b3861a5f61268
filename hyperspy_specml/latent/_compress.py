"""Fewer values that tell phases apart as well: channels in which all phases have the same ratio are counted together.

Sums of counts are counts again, so the mixture stays exact; what is lost is only what tells channels of one group
apart. White noise stays white under projections on orthonormal directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter1d

from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._table import PER_LINE

if TYPE_CHECKING:
    from hyperspy_specml.latent._mixture import Data

# Values that are left, and directions of the spectra by which channels are compared.
_GROUPS, _LEAST_DIRECTIONS, _DIRECTIONS = 96, 4, 12
# Spectra that the directions are found from, at most, and neighbours that are added up to one of them.
_MOST_ROWS, _TOGETHER = 4096, 4


def compression(data: Data, known: np.ndarray) -> np.ndarray:
    """Return the (G, C) matrix from values to fewer ones.

    Parameters
    ----------
    data
        Spectra of the training fold: nothing else may say which channels belong together.
    known
        (N, G) spectra of phases that are known to be there.
    """
    n_groups = data.values.shape[1]
    if n_groups <= _GROUPS:
        return np.eye(n_groups, dtype=np.float32)
    rows = _rows(data).astype(np.float64)
    if isinstance(data.law, MultinomialLaw):
        return _merged_channels(rows, known)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    basis = np.linalg.qr(np.vstack([known, rows.mean(axis=0), vectors[:, ::-1].T[:_GROUPS]]).T)[0]
    return np.ascontiguousarray(basis[:, : _GROUPS + len(known)], np.float32)


def _rows(data: Data) -> np.ndarray:
    """Return (r, G) spectra, of a map each the sum of neighbours: phases stand out from noise the more."""
    together = _TOGETHER if data.grid.coupled else 1
    n = len(data.values) // together
    first = np.arange(0, n, -(-n // _MOST_ROWS)) * together
    rows = sum((data.values[first + k] for k in range(together)), np.zeros((len(first), data.values.shape[1])))
    return np.asarray(rows[rows.any(axis=1)])


def _merged_channels(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    mean = rows.mean(axis=0)
    mean = np.maximum(mean, 1e-6 * mean.mean())
    mean /= mean.sum()
    total = rows.sum(axis=1, keepdims=True)
    rest = (rows - total * mean) / np.sqrt(np.maximum(total, 1e-30) * mean)
    values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
    # Along directions of noise, of variance one, channels do not differ; all others count alike, or weak ones are lost.
    edge = (1 + np.sqrt(rows.shape[1] / len(rows))) ** 2
    n = int(np.clip((values > edge).sum(), _LEAST_DIRECTIONS, _DIRECTIONS))
    ratios = _along_lines(vectors[:, ::-1][:, :n] * np.sqrt(mean)[:, None])
    ratios /= _along_lines(mean[:, None])
    if len(known):
        ratios = np.hstack([ratios, (known / known.sum(axis=1, keepdims=True) / mean).T])
    labels = _median_cut(ratios, mean)
    return (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float32)


def _along_lines(table: np.ndarray) -> np.ndarray:
    """Return a (G, P) table averaged over the width of a line."""
    return uniform_filter1d(table, min(PER_LINE, len(table)), axis=0, mode="nearest")


def _median_cut(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n,) labels of groups of (n, P) points: the widest one is cut again and again."""
    labels = np.zeros(len(points), int)
    cuts = [_widest(points, weights, labels == 0)]
    while len(cuts) < _GROUPS:
        group = int(np.argmax([size for size, _, _ in cuts]))
        size, axis, where = cuts[group]
        if size <= 0:
            break
        labels[(labels == group) & (points[:, axis] > where)] = len(cuts)
        cuts[group] = _widest(points, weights, labels == group)
        cuts.append(_widest(points, weights, labels == len(cuts)))
    return labels


def _widest(points: np.ndarray, weights: np.ndarray, chosen: np.ndarray) -> tuple[float, int, float]:
    """Return the weighted sum of squares of points along the axis where it is largest, this axis, and their mean."""
    mean = weights[chosen] @ points[chosen] / weights[chosen].sum()
    squares = weights[chosen] @ (points[chosen] - mean) ** 2
    axis = int(squares.argmax())
    above = points[chosen, axis] > mean[axis]  # all or none where points differ by rounding alone
    return float(squares[axis]) if above.any() and not above.all() else 0.0, axis, float(mean[axis])
