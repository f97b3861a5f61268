"""Prepare the training data of a map: one pass over the file, then everything in memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import NegativeCountsError, TooFewSpectraError
from hyperspy_specml.prepare._independence import check_fold_independence
from hyperspy_specml.prepare._training_data import TrainingData, project_parts, train_moments
from hyperspy_specml.statistics import (
    FRACTIONS,
    N_PARTS,
    TRAIN,
    Folds,
    MapSummary,
    NoiseEstimate,
    PrincipalBasis,
    channel_weights,
    estimate_noise,
    make_folds,
    n_compressed,
    noise_edge,
    principal_basis,
    rank_curve,
    refine_basis,
    summarise_map,
)
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from hyperspy_specml.prepare._paired import PairedRecordings
    from hyperspy_specml.run import Run
    from hyperspy_specml.streaming import SpectrumStream

Masks = tuple[np.ndarray | None, np.ndarray | None]
"""Navigation and signal mask, True = masked."""

_logger = logging.getLogger(__name__)

_LEAST_SPECTRA = 4
_MOST_VECTORS = 128


def prepare(
    stream: SpectrumStream, run: Run, *, n_needed: int = 1, noise: str = "auto", masks: Masks = (None, None),
    centre: bool = False, sample: np.ndarray | None = None, recordings: PairedRecordings | None = None,
) -> TrainingData:  # fmt: skip
    """Learn about a map what every fit needs.

    Parameters
    ----------
    stream
        The spectra; read once.
    run
        Settings and seed.
    n_needed
        Components that the caller will fit: as many spectra and channels and one more are needed.
    noise, masks
        As in ``Signal1D.decomposition_ae``.
    centre
        Subtract the mean spectrum before PCA.
    sample
        See `summarise_map`.
    recordings
        Two independent records of the map, which make the folds; None splits the map's own counts.

    Raises
    ------
    TooFewSpectraError
        Not enough usable spectra or channels.
    OptionError, NegativeCountsError, NotCountsError
        See `estimate_noise`.
    """
    seed = run.seed
    summary = summarise_map(
        stream, navigation_mask=masks[0], signal_mask=masks[1], seed=seed, kernel=run.config.kernel, sample=sample
    )
    check_enough(summary, n_needed)
    estimate, moments, pixels = _estimate(summary, noise), summary.moments, summary.sample_pixels
    model, mean = estimate.model, estimate.mean

    def split() -> tuple[Folds, PrincipalBasis]:
        if recordings:
            folds = recordings.folds(summary, estimate, noise, seed)
        else:
            folds = make_folds(summary.sample, pixels, model, seed=seed, mean=mean)
        train = train_moments(folds, wide=moments.is_wide)
        return folds, principal_basis(train, model, n_vectors=_MOST_VECTORS, centre=centre)

    def whole() -> PrincipalBasis:
        return principal_basis(moments, model, n_vectors=_MOST_VECTORS, centre=centre, scree=True)

    def edge_of_noise() -> float:
        weights = channel_weights(moments.mean, model)
        n = moments.n_second
        return noise_edge(summary.sample, pixels, model, weights, n_spectra=n, seed=seed, mean=mean)

    (folds, fold_basis), basis, edge = side_by_side(split, whole, edge_of_noise)
    if moments.is_wide:
        basis = refine_basis(stream, summary, basis)
    n_vectors = _n_vectors(summary, fold_basis, edge, n_needed)
    fold_basis = fold_basis.first(n_vectors)
    fold_parts = project_parts(folds.parts, FRACTIONS[:N_PARTS], fold_basis)
    rank = rank_curve(folds, fold_basis, fold_parts.sum(axis=1) / np.float32(TRAIN))
    found = (summary, estimate, folds, fold_basis, fold_parts, basis.first(n_vectors), edge, rank, seed, centre)
    if recordings:
        return TrainingData(*found, hold_out="pairs", fraction=recordings.fraction)
    return check_fold_independence(TrainingData(*found))


def _estimate(summary: MapSummary, noise: str) -> NoiseEstimate:
    if noise == "poisson" and summary.minimum < 0:
        raise NegativeCountsError(
            f"noise='poisson' needs counts, but the smallest value is {summary.minimum:g}. Use noise='auto' "
            "or noise='poisson-gaussian', or undo the background or dark subtraction."
        )
    estimate = estimate_noise(summary.sample, noise=noise, minimum=summary.minimum)
    _logger.info("noise model: %s", estimate.model.to_dict())
    return estimate


def _n_vectors(summary: MapSummary, fold_basis: PrincipalBasis, edge: float, n_needed: int) -> int:
    """Return how many vectors are kept: `edge` is that of all spectra, the folds are of the sample."""
    n_sample, n_channels = summary.sample.shape
    ratio = (1 + np.sqrt(n_channels / n_sample)) / (1 + np.sqrt(n_channels / summary.moments.n_second))
    n_vectors = n_compressed(fold_basis.eigenvalues, edge * ratio**2 / TRAIN)
    return min(max(n_vectors, n_needed), n_sample, n_channels)


def check_enough(summary: MapSummary, n_needed: int) -> None:
    """Refuse a map that has too few spectra or channels for so many components.

    Parameters
    ----------
    summary
        Of the map.
    n_needed
        Components.

    Raises
    ------
    TooFewSpectraError
        There are not as many spectra and channels as components, and one more.
    """
    n_spectra, n_channels = summary.moments.n, len(summary.moments.sums)
    needed = max(_LEAST_SPECTRA, n_needed + 1)
    if n_spectra < needed or n_channels <= n_needed:
        who = "1 component needs" if n_needed == 1 else f"{n_needed} components need"
        fewer = "" if n_needed == 1 else "ask for fewer, output_dimension=1; "
        raise TooFewSpectraError(
            f"{who} at least {needed} spectra and {n_needed + 1} channels that can be used, but there are "
            f"{n_spectra} and {n_channels} ({summary.counts()}). Ways out: {fewer}mask less; stack more "
            "spectra, hs.stack([s1, s2]); replace what is not finite, s.data = np.nan_to_num(s.data)."
        )
