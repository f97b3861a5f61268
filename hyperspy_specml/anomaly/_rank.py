"""Number and smoothness of the components of what is normal, chosen on counts that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.statistics import (
    TRAIN,
    VALIDATION,
    RankCurve,
    make_folds,
    moments_of,
    principal_basis,
    rank_curve,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.statistics import NoiseModel

_MOST_AXES = 32
_TOLD = 2.0  # standard errors
_CHEAP = 3 * VALIDATION / TRAIN  # deviance per patch: three times what a fixed direction of noise costs


@dataclass(frozen=True)
class Chosen:
    """Rank and smoothing that held-out counts choose; the curve says why."""

    curve: RankCurve | None
    rank: int
    width: float

    def with_spare(self, spare: int) -> int:
        """Return the rank and at most so many more.

        A component too many costs the scan little where it is smooth. Where the noise of few patches with
        many channels makes it, it would take single counts for what is normal.
        """
        rank, scores = self.rank, self.curve.scores if self.curve else np.zeros(0)
        for _ in range(spare):
            if rank < len(scores) and scores[rank] - scores[rank - 1] <= _CHEAP:
                rank += 1
        return rank


def choose(
    rows: np.ndarray, noise: NoiseModel, widths: Sequence[float], n_components: int | None, *, seed: int
) -> Chosen:
    """Score PCA of every rank, or of the one wanted, with axes smoothed by each of the widths."""
    if n_components and len(widths) == 1:
        return Chosen(None, n_components, widths[0])
    most = n_components or min(_MOST_AXES, len(rows) // 3)
    n_vectors = max(1, min(most, rows.shape[1] // 2))
    curves = dict(zip(widths, _curves(rows, noise, widths, n_vectors, seed), strict=True))
    wanted = slice(-1, None) if n_components else slice(None)
    width = min(curves, key=lambda width: curves[width].scores[wanted].min())
    return Chosen(curves[width], n_components or _best_rank(curves[width]), width)


def _curves(
    rows: np.ndarray, noise: NoiseModel, widths: Sequence[float], n_vectors: int, seed: int
) -> list[RankCurve]:
    """Score PCA of every rank on counts that it has not seen, for each smoothing of its axes."""
    mean = None
    if noise.name == "poisson-gaussian":
        basis = principal_basis(moments_of(rows), noise, n_vectors=n_vectors)
        mean = np.maximum(basis.spectra(basis.project(rows)), 0)
    if noise.name == "poisson":
        rows = rows.astype(np.min_scalar_type(int(rows.max(initial=0))))  # six folds of it
    folds = make_folds(rows, np.arange(len(rows)), noise, seed=seed, mean=mean)
    train = folds.train(slice(None))
    moments = moments_of(train).scaled(1 / TRAIN)
    train = train.astype(np.float32) / np.float32(TRAIN)
    along = [principal_basis(moments, noise, n_vectors=n_vectors, smoothing=width) for width in widths]
    return [rank_curve(folds, basis, basis.project(train)) for basis in along]


def _best_rank(curve: RankCurve) -> int:
    """Return the largest rank that held-out counts cannot tell from the best one.

    A component too many costs the scan little; what is missing would be found as an anomaly.
    """
    return int(curve.ranks[curve.scores - curve.scores.min() <= _TOLD * curve.standard_errors].max())
