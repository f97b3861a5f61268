"""What a model leaves of held-out counts that noise cannot explain, and more components where that is in many places.

A mean score over all spectra does not see what is in a few of them. Sums over windows of energy and blocks of
neighbouring pixels do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy.stats import norm

from hyperspy_specml.models import CLEAR
from hyperspy_specml.statistics import energy_windows, line_width, paired, signed_squares

if TYPE_CHECKING:
    from hyperspy_specml.decompose._architecture import Architecture, Fit
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import RankCurve, Windows

_PIXELS = 9  # sampled spectra in the smallest blocks, about
_WIDTH = 1.5  # of a window, in line widths: sees most of a line and little beside it
_FALSE = 0.05  # expected number of blocks of one size that noise alone makes coherent
# Coherent blocks that are many: so many, and this share of the smallest ones. Fewer are particles, which anomaly maps
# are for; larger blocks only join places.
_MANY, _MANY_SHARE = 5, 0.01


@dataclass(frozen=True)
class Residual:
    """What models of the training fold leave of counts, summed over windows of energy and blocks of pixels.

    B blocks, J windows.

    Attributes
    ----------
    data
        Training data.
    navigation_shape
        Of the map.
    weak
        Whether weak contrasts of large areas are looked for too: in larger blocks, and in the training fold beside
        the validation fold. A model that was fitted to counts leaves less of these than noise would, so noise is not
        taken for more than it is.
    """

    data: TrainingData
    navigation_shape: tuple[int, ...]
    weak: bool = True

    def coherent(self, fit: Fit) -> tuple[int, ...]:
        """Return in how many blocks of each size a model leaves more, or less, than noise can.

        Parameters
        ----------
        fit
            Of the training data.
        """
        folds, scores, blocks = self.data.folds, self.data.fold_scores, self._blocks[0]
        expected, noise = np.zeros_like(self._counted), np.zeros_like(self._counted)
        for rows in folds.slabs():
            prediction = np.maximum(fit.fold_model.predict(scores[rows]), folds.floor)
            expected += blocks[:, rows] @ prediction
            if folds.variance is not None:
                noise += blocks[:, rows] @ np.broadcast_to(folds.variance_of(rows), prediction.shape)
        sums = [self._windows.sums(v, slice(0, len(self._windows))) for v in (self._counted, expected, noise)]
        return tuple(self._n_beyond(*(joins @ v for v in sums)) for joins in self._blocks[1])

    def many(self) -> int:
        """Return how many coherent blocks ask for another component."""
        return max(_MANY, math.ceil(_MANY_SHARE * self._blocks[0].shape[0]))

    def _n_beyond(self, found: np.ndarray, expected: np.ndarray, noise: np.ndarray) -> int:
        """Return how many blocks have a (B, J) sum that noise does not explain."""
        share = self.data.folds.fractions[-2] + self.weak * self.data.folds.train_share
        if self.data.folds.variance is None:
            squares = np.abs(signed_squares(found.astype(np.float32), (share * expected).astype(np.float32)))
        else:
            noise *= self._windows.variance_ratio(self.data.folds.noise)
            squares = (found - share * expected) ** 2 / (share * noise)
        limit = norm.isf(_FALSE / (2 * squares.size)) ** 2
        return int((squares > limit).any(axis=1).sum())

    @cached_property
    def _blocks(self) -> tuple[scipy.sparse.csr_matrix, list[scipy.sparse.csr_matrix]]:
        """(B, n) sums over the sampled spectra of each of the smallest blocks, and sums of these for each size.

        Sides double as long as many blocks are less than half of all.
        """
        shape, pixels = self.navigation_shape, self.data.folds.pixels
        side = math.ceil((_PIXELS * math.prod(shape) / len(pixels)) ** (1 / len(shape)))
        places = np.stack([index // side for index in np.unravel_index(pixels, shape)])
        places, block = np.unique(places, axis=1, return_inverse=True)
        least = 2 * max(_MANY, math.ceil(_MANY_SHARE * places.shape[1]))
        joined: list[scipy.sparse.csr_matrix] = []
        while True:
            groups, group = np.unique(places, axis=1, return_inverse=True)
            if joined and (groups.shape[1] < least or not self.weak):
                return _sums(block), joined
            joined.append(_sums(group))
            places = places // 2

    @cached_property
    def _counted(self) -> np.ndarray:
        """(B, E) counts of the smallest blocks without the test fold, which chooses nothing."""
        folds, counted = self.data.folds, np.zeros((self._blocks[0].shape[0], self.data.folds.validation.shape[1]))
        for rows in folds.slabs():
            counts = folds.validation[rows].astype(np.float32)
            counted += self._blocks[0][:, rows] @ (counts + folds.train(rows) if self.weak else counts)
        return counted

    @cached_property
    def _windows(self) -> Windows:
        folds, channels = self.data.folds, self.data.summary.channels
        width = line_width(folds.mean, folds.noise, n_spectra=len(folds.pixels), channels=channels)
        return energy_windows(np.full(len(channels), width), channels, factors=(_WIDTH,))


def _sums(group: np.ndarray) -> scipy.sparse.csr_matrix:
    """Return the (groups, n) matrix that sums what is in the same group."""
    group = group.reshape(-1)
    return scipy.sparse.csr_matrix((np.ones(len(group), np.float32), (group, np.arange(len(group)))))


def add_components(
    architecture: Architecture, residual: Residual, fit: Fit, most: int, run: Run, curve: RankCurve | None = None
) -> Fit:
    """Return a fit with more components, if full trainings or what is left in many places ask for them.

    One more is tried while many blocks are left, and where brief trainings could not tell whether it pays. It is
    added where held-out counts are clearly better with it, or where fewer of many blocks are left and held-out
    counts are no worse by more than a standard error.

    Parameters
    ----------
    architecture
        Fits them.
    residual
        Of the training data.
    fit
        With the number of components that the mean score chose.
    most
        Components at most.
    run
        Settings of the trainings.
    curve
        Scores of brief trainings, on more held-out counts than a full one is scored on; None where there were none.
        A number that is worse here is not tried: two trainings also differ by where they happened to end.
    """
    data, left = residual.data, residual.coherent(fit)
    while (k := fit.fold_model.n_components + 1) <= most and not fit.history.interrupted:
        tried, many = curve is not None and k in curve.ranks, max(left) >= residual.many()
        if not (_as_good(curve, k) if tried else many):
            break
        more = architecture.fit(data, k, run)
        pair, fewer = paired(data.scores_of(more.fold_model), data.scores_of(fit.fold_model)), residual.coherent(more)
        worse = _collapsed(more) if tried else pair.difference > pair.standard_error
        better = pair.difference < -CLEAR * pair.standard_error
        if not (better or (many and not worse and sum(fewer) < sum(left))):
            break
        fit, left = more, fewer
    return fit


def _as_good(curve: RankCurve | None, k: int) -> bool:
    """Return whether a number of components is not worse than the best by more than a standard error."""
    assert curve is not None
    worse = curve.scores - curve.scores.min()
    return bool(np.any((curve.ranks == k) & (worse <= np.nan_to_num(curve.standard_errors))))


def _collapsed(fit: Fit) -> bool:
    """Return whether every training says that fewer components are enough."""
    return bool(fit.attempts) and all(attempt.collapsed for attempt in fit.attempts)
