"""Components of the reference model: how many, how smooth, and which patches of pixels alone are behind one.

References
----------
P. J. Rousseeuw, K. Van Driessen, "A fast algorithm for the minimum covariance determinant estimator",
Technometrics 41 (1999) 212.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hyperspy_specml.statistics import TRAIN, VALIDATION, RankCurve, make_folds, moments_of, principal_basis, rank_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.statistics import NoiseModel

# Components that are tried, at most.
_MOST_COMPONENTS = 32
# Standard errors by which the score of a number of components differs from the best one at most.
_ALIKE = 2.0
# Held-out deviance per patch that a spare component may cost: three times what one component of pure noise
# costs.
_SPARE_COST = 3 * VALIDATION / TRAIN
# Fraction of the values that the robust estimate of the covariance is made of, and its iterations.
_CORE = 0.75
_ITERATIONS = 10


@dataclass(frozen=True)
class ComponentChoice:
    """Number and smoothness of the components that held-out counts choose.

    Attributes
    ----------
    curve
        Held-out score against the number of components; None where nothing was to be chosen.
    n_components
        The number chosen.
    smoothing
        Standard deviation, in channels, of the Gaussian along energy that the components are made smooth
        with.
    """

    curve: RankCurve | None
    n_components: int
    smoothing: float

    def with_spare(self, n_spare: int) -> int:
        """Return the number of components and at most so many more.

        A component too many costs the scan little where it is smooth. Where it is noise of few patches with
        many channels, single counts would be explained by it.
        """
        n, scores = self.n_components, self.curve.scores if self.curve else np.zeros(0)
        for _ in range(n_spare):
            if n < len(scores) and scores[n] - scores[n - 1] <= _SPARE_COST:
                n += 1
        return n


def choose_components(
    rows: np.ndarray, noise: NoiseModel, smoothings: Sequence[float], n_components: int | None, *, seed: int
) -> ComponentChoice:
    """Score PCA on counts it has not seen, for every number of components and each smoothing.

    Parameters
    ----------
    rows
        (n, E) sums over patches.
    noise
        Noise model of the rows.
    smoothings
        Standard deviations, in channels, that are tried.
    n_components
        The number of components where it is fixed; None tries all.
    seed
        Seed of the split into folds.
    """
    if n_components and len(smoothings) == 1:
        return ComponentChoice(None, n_components, smoothings[0])
    most = n_components or min(_MOST_COMPONENTS, len(rows) // 3)
    n_vectors = max(1, min(most, rows.shape[1] // 2))
    curves = dict(zip(smoothings, _curves(rows, noise, smoothings, n_vectors, seed), strict=True))
    wanted = slice(-1, None) if n_components else slice(None)
    best = min(curves, key=lambda smoothing: curves[smoothing].scores[wanted].min())
    return ComponentChoice(curves[best], n_components or _largest_good(curves[best]), best)


def _curves(
    rows: np.ndarray, noise: NoiseModel, smoothings: Sequence[float], n_vectors: int, seed: int
) -> list[RankCurve]:
    mean = None
    if noise.name == "poisson-gaussian":
        basis = principal_basis(moments_of(rows), noise, n_vectors=n_vectors)
        mean = np.maximum(basis.spectra(basis.project(rows)), 0)
    if noise.name == "poisson":
        rows = rows.astype(np.min_scalar_type(int(rows.max(initial=0))))  # six folds are held
    folds = make_folds(rows, np.arange(len(rows)), noise, seed=seed, mean=mean)
    train = folds.train(slice(None))
    moments = moments_of(train).scaled(1 / TRAIN)
    train = train.astype(np.float32) / np.float32(TRAIN)
    bases = [principal_basis(moments, noise, n_vectors=n_vectors, smoothing=smoothing) for smoothing in smoothings]
    return [rank_curve(folds, basis, basis.project(train)) for basis in bases]


def _largest_good(curve: RankCurve) -> int:
    """Return the largest number of components whose score is not clearly worse than the best.

    A component too many costs the scan little; what a missing one describes would be found as an anomaly.
    """
    return int(curve.ranks[curve.scores - curve.scores.min() <= _ALIKE * curve.standard_errors].max())


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
    for _ in range(_ITERATIONS if n_core < len(values) else 0):
        core = values[np.argpartition(distance, n_core)[:n_core]]
        centred = values - core.mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(core.T)), hermitian=True)
        distance = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    return distance


def largest_contribution(scores: np.ndarray, side: int) -> np.ndarray:
    r"""Return the largest fraction of any direction of the scores that the square about a point has.

    A direction w has the sum over all points of (score @ w)**2. Where one square contributes nearly all of
    it, PCA has a component because of this square alone.

    Parameters
    ----------
    scores
        (\*grid, K), 0 where there is none.
    side
        Points along the square, odd.

    Returns
    -------
    (\*grid,) fractions between 0 and 1
    """
    *grid, n_scores = scores.shape
    rows = scores.reshape(-1, n_scores)
    values, turn = np.linalg.eigh(rows.T @ rows)
    values = np.where(values > 1e-12 * values.max(), values, np.inf)
    white = np.pad((rows @ (turn / np.sqrt(values))).reshape(scores.shape), [(side // 2,) * 2] * len(grid) + [(0, 0)])
    square = (side,) * len(grid)
    near = sliding_window_view(white, square, axis=tuple(range(len(grid)))).reshape(*grid, n_scores, -1)
    return np.linalg.norm(near, ord=2, axis=(-2, -1)) ** 2
