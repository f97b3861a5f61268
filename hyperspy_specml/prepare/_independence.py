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

_LEAST_PRIMARY = 10.0  # counts per channel: fewer are not normal enough to be split like normals


def check_fold_independence(prepared: TrainingData) -> TrainingData:
    """Find out whether the folds are independent; where they are not, choose the rank in another way.

    Parameters
    ----------
    prepared
        Whose folds are splits of its own counts.

    Returns
    -------
    prepared with `correlation` and `hold_out`, and perhaps with another `rank`
    """
    k = prepared.rank.chosen
    basis = prepared.fold_basis.first(k)
    halves = prepared.fold_parts[:, :, :k].reshape(-1, 2, N_PARTS // 2, k).sum(axis=2) / np.float32(TRAIN / 2)
    correlation = fold_correlation(
        prepared.folds,
        lambda rows: basis.spectra(halves[rows, 0]),
        lambda rows: basis.spectra(halves[rows, 1]),
    )
    noise = prepared.estimate.model
    if not holds_out(correlation, prepared.folds.validation.size):
        _logger.warning(
            "The noise model does not hold (residual halves correlate by %.2f): held-out scores are not "
            "valid, the rank is chosen by bi-cross-validation. Name the right model with noise=, or use raw "
            "counts.",
            correlation,
        )
        white = prepared.summary.sample[:: max(1, len(prepared.summary.sample) // 2048)][:2048].astype(
            np.float32
        )
        rank = bi_cross_validation(
            white * prepared.basis.weights.astype(np.float32), max_rank=prepared.basis.n_vectors,
            block=max(8, 4 * len(noise.correlation)), seed=prepared.seed,
        )  # fmt: skip
        return replace(prepared, correlation=correlation, hold_out="none", rank=rank)
    few = (
        isinstance(noise, PoissonGaussianNoise)
        and noise.gain > 0
        and np.median(prepared.folds.mean) < _LEAST_PRIMARY * noise.gain
    )
    return replace(prepared, correlation=correlation, hold_out="approximate" if few else "exact")
