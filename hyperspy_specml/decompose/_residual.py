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

from hyperspy_specml.statistics import VALIDATION, energy_windows, line_width, paired, signed_squares

if TYPE_CHECKING:
    from hyperspy_specml.decompose._architecture import Architecture, Fit
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import Windows

_PIXELS = 9  # sampled spectra in a block, about
_WIDTH = 1.5  # of a window, in line widths: sees most of a line and little beside it
_FALSE = 0.05  # expected number of blocks of a map that noise alone makes coherent
# Coherent blocks that are many: so many, and this share of all. Fewer are particles, which anomaly maps are for.
_MANY, _MANY_SHARE = 5, 0.01


@dataclass(frozen=True)
class Residual:
    """Counts of the validation fold summed over windows of energy and blocks of pixels. B blocks, J windows.

    Attributes
    ----------
    data
        Training data.
    navigation_shape
        Of the map.
    """

    data: TrainingData
    navigation_shape: tuple[int, ...]

    def coherent(self, fit: Fit) -> int:
        """Return in how many blocks a model of the training fold leaves more, or less, than noise can.

        Parameters
        ----------
        fit
            Of the training data.
        """
        folds, scores, variance = self.data.folds, self.data.fold_scores, self.data.folds.variance
        expected, noise = np.zeros_like(self._counted), np.zeros_like(self._counted)
        for rows in folds.slabs():
            blocks = self._blocks[:, rows]
            prediction = np.maximum(fit.fold_model.predict(scores[rows]), folds.floor)
            expected += blocks @ prediction
            if variance is not None:
                noise += blocks @ np.broadcast_to(folds.variance_of(rows), prediction.shape)
        whole = slice(0, len(self._windows))
        found, mean = (self._windows.sums(v, whole) for v in (self._counted, VALIDATION * expected))
        if variance is None:
            squares = np.abs(signed_squares(found.astype(np.float32), mean.astype(np.float32)))
        else:
            squares = (found - mean) ** 2 / (VALIDATION * self._windows.sums(noise, whole))
        limit = norm.isf(_FALSE / (2 * squares.size)) ** 2
        return int((squares > limit).any(axis=1).sum())

    def many(self) -> int:
        """Return how many coherent blocks ask for another component."""
        return max(_MANY, math.ceil(_MANY_SHARE * self._blocks.shape[0]))

    @cached_property
    def _blocks(self) -> scipy.sparse.csr_matrix:
        """(B, n) sums over the sampled spectra of each block."""
        shape, pixels = self.navigation_shape, self.data.folds.pixels
        side = math.ceil((_PIXELS * math.prod(shape) / len(pixels)) ** (1 / len(shape)))
        places = [index // side for index in np.unravel_index(pixels, shape)]
        _, block = np.unique(np.stack(places), axis=1, return_inverse=True)
        ones = np.ones(len(pixels), np.float32)
        return scipy.sparse.csr_matrix((ones, (block.reshape(-1), np.arange(len(pixels)))))

    @cached_property
    def _counted(self) -> np.ndarray:
        """(B, E) counts of the validation fold: the test fold chooses nothing."""
        folds = self.data.folds
        return sum(self._blocks[:, rows] @ folds.validation[rows].astype(np.float32) for rows in folds.slabs())

    @cached_property
    def _windows(self) -> Windows:
        folds, channels = self.data.folds, self.data.summary.channels
        width = line_width(folds.mean, folds.noise, n_spectra=len(folds.pixels), channels=channels)
        return energy_windows(np.full(len(channels), width), channels, factors=(_WIDTH,))


def add_components(architecture: Architecture, residual: Residual, fit: Fit, most: int, run: Run) -> Fit:
    """Return a fit with as many more components as what is left in many places asks for.

    Components are added while held-out counts get no worse by more than a standard error, and while fewer blocks
    are left.

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
    """
    data, left = residual.data, residual.coherent(fit)
    while left >= residual.many() and fit.fold_model.n_components < most and not fit.history.interrupted:
        more = architecture.fit(data, fit.fold_model.n_components + 1, run)
        pair = paired(data.scores_of(more.fold_model), data.scores_of(fit.fold_model))
        fewer = residual.coherent(more)
        if pair.difference > pair.standard_error or fewer >= left:
            break
        fit, left = more, fewer
    return fit
