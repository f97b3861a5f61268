"""Distances that a few strange values cannot hide from.

References
----------
P. J. Rousseeuw, K. Van Driessen, "A fast algorithm for the minimum covariance determinant estimator",
Technometrics 41 (1999) 212.
"""

from __future__ import annotations

import numpy as np

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
