"""What a few strange values cannot hide from: distances, and what a direction rests on.

References
----------
P. J. Rousseeuw, K. Van Driessen, "A fast algorithm for the minimum covariance determinant estimator",
Technometrics 41 (1999) 212.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_CORE = 0.75  # of the values make the estimate
_STEPS = 10


def robust_distance(values: np.ndarray) -> np.ndarray:
    """Return squared Mahalanobis distances from the core of the values, found by concentration steps.

    Parameters
    ----------
    values
        (n, K), n larger than K.
    """
    values = np.asarray(values, np.float64)
    centre = np.median(values, axis=0)
    spread = np.median(np.abs(values - centre), axis=0)
    distance = (((values - centre) / np.maximum(spread, 1e-300)) ** 2).sum(axis=1)
    n_core = max(values.shape[1] + 1, int(_CORE * len(values)))
    for _ in range(_STEPS if n_core < len(values) else 0):
        core = values[np.argpartition(distance, n_core)[:n_core]]
        centred = values - core.mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(core.T)), hermitian=True)
        distance = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    return distance


def carried_alone(scores: np.ndarray, side: int) -> np.ndarray:
    """Return the largest share of any direction of the scores that the square about each point carries.

    A direction w has the square sum over all points of (score @ w)**2. Where one square contributes nearly
    all of it, principal axes have a component there because of this square.

    Parameters
    ----------
    scores
        (*grid, K), 0 where there is none.
    side
        Points along the square, odd.

    Returns
    -------
    (*grid,) shares between 0 and 1
    """
    *grid, n_scores = scores.shape
    rows = scores.reshape(-1, n_scores)
    values, turn = np.linalg.eigh(rows.T @ rows)
    values = np.where(values > 1e-12 * values.max(), values, np.inf)
    white = np.pad(
        (rows @ (turn / np.sqrt(values))).reshape(scores.shape), [(side // 2,) * 2] * len(grid) + [(0, 0)]
    )
    square = (side,) * len(grid)
    near = sliding_window_view(white, square, axis=tuple(range(len(grid)))).reshape(*grid, n_scores, -1)
    return np.linalg.norm(near, ord=2, axis=(-2, -1)) ** 2
