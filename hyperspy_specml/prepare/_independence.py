"""Whether counts that were held back are news: folds of a wrong noise model share noise."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.statistics import (
    N_PARTS,
    TRAIN,
    PoissonGaussianNoise,
    bi_cross_validation,
    fold_correlation,
    holds_out,
)

if TYPE_CHECKING:
    from hyperspy_specml.prepare._training_data import TrainingData

_logger = logging.getLogger(__name__)

_MOST_ROWS = 2048  # spectra that choose a rank by bi-cross-validation
_LEAST_PRIMARY = 10.0  # counts per channel: fewer are not normal enough to be split like normals


def check_fold_independence(data: TrainingData) -> TrainingData:
    """Find out whether the folds are independent; where they are not, choose the rank in another way.

    Parameters
    ----------
    data
        Whose folds are splits of its own counts.

    Returns
    -------
    data with `correlation` and `hold_out`, and perhaps with another `rank`
    """
    k = data.rank.chosen
    basis = data.fold_basis.first(k)
    halves = data.fold_parts[:, :, :k].reshape(-1, 2, N_PARTS // 2, k).sum(axis=2) / np.float32(TRAIN / 2)
    correlation = fold_correlation(
        data.folds, lambda rows: basis.spectra(halves[rows, 0]), lambda rows: basis.spectra(halves[rows, 1])
    )
    noise = data.estimate.model
    if not holds_out(correlation, data.folds.validation.size):
        _logger.warning(
            "The noise model does not hold (residual halves correlate by %.2f): held-out scores are not "
            "valid, the rank is chosen by bi-cross-validation. Name the right model with noise=, or use raw "
            "counts.",
            correlation,
        )
        sample, block = data.summary.sample, max(8, 4 * len(noise.correlation))
        some = sample[:: max(1, len(sample) // _MOST_ROWS)][:_MOST_ROWS].astype(np.float32)
        white = some * data.basis.weights.astype(np.float32)
        rank = bi_cross_validation(white, max_rank=data.basis.n_vectors, block=block, seed=data.seed)
        return replace(data, correlation=correlation, hold_out="none", rank=rank)
    gain = noise.gain if isinstance(noise, PoissonGaussianNoise) else 0.0
    few = gain > 0 and np.median(data.folds.mean) < _LEAST_PRIMARY * gain
    return replace(data, correlation=correlation, hold_out="approximate" if few else "exact")
