"""Prepare the training data of a map: one pass over the file, then everything in memory.

Spectra are smooth on the scale of the detector's resolution, but principal vectors do not know it: at few
counts the noise of the vectors themselves is a large part of a network's error. So networks work on a basis
that is smooth along energy, as smooth as held-out counts allow. The baseline stays plain PCA.

References
----------
B. W. Silverman, "Smoothed functional principal components analysis by choice of norm", Ann. Stat. 24
(1996) 1.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import TooFewSpectraError
from hyperspy_specml.prepare._training_data import TrainingData, project_parts, train_moments
from hyperspy_specml.statistics import (
    FRACTIONS,
    N_PARTS,
    TRAIN,
    PoissonGaussianNoise,
    bi_cross_validation,
    choose_rank,
    estimate_noise,
    fold_correlation,
    holds_out,
    make_folds,
    n_compressed,
    noise_edge,
    principal_basis,
    rank_curve,
    refine_basis,
    summarise_map,
    without_hot_values,
)
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.prepare._corruptions import PairedRecordings
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import Folds, MapSummary, NoiseEstimate, PrincipalBasis
    from hyperspy_specml.streaming import SpectrumStream

    Score = Callable[[TrainingData, PrincipalBasis], np.ndarray]

Masks = tuple[np.ndarray | None, np.ndarray | None]
"""Navigation and signal mask, True = masked."""

_logger = logging.getLogger(__name__)

_LEAST_SPECTRA = 4
_MOST_VECTORS = 128
_MOST_ROWS = 2048  # spectra that choose a rank by bi-cross-validation
_LEAST_PRIMARY = 10.0  # counts per channel: fewer are not normal enough to be split like normals
_CERTAIN = 0.025  # correlation of residual halves from which folds are called nearly independent
_SMOOTHINGS = (0.0, 0.7, 1.5, 3.0)  # standard deviations in channels that are tried
_SCORED = 1 << 22  # deviances for each of them


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
    seed, progress = run.seed, run.progress
    with progress.enter("Read spectra", 0.5):
        kernel, (navigation, channels) = run.config.kernel, masks
        summary = summarise_map(
            stream, navigation_mask=navigation, signal_mask=channels, seed=seed, kernel=kernel, sample=sample
        )
    check_enough(summary, n_needed)
    with progress.enter("Estimate the noise", 0.4):
        summary, estimate = _with_noise(summary, stream, noise, cool=recordings is None)
    model, moments = estimate.model, summary.moments
    basis_of = partial(principal_basis, noise=model, n_vectors=_MOST_VECTORS, centre=centre)

    def split() -> tuple[Folds, PrincipalBasis]:
        if recordings:
            folds = recordings.folds(summary, estimate, noise, seed)
        else:
            folds = make_folds(summary.sample, summary.sample_pixels, model, seed=seed, mean=estimate.mean)
        return folds, basis_of(train_moments(folds, summary))

    whole, edge_of_noise = partial(basis_of, moments, scree=True), partial(noise_edge, summary, estimate, seed=seed)
    with progress.enter("Split the counts", 0.6):
        (folds, fold_basis), basis, edge = side_by_side(split, whole, edge_of_noise)
    if moments.rows is not None:
        basis = refine_basis(stream, summary, basis)
    with progress.enter("Fit PCA"):
        n_vectors = _n_vectors(summary, fold_basis, edge, n_needed)
        fold_basis = fold_basis.first(n_vectors)
        fold_parts = project_parts(folds.parts, FRACTIONS[:N_PARTS], fold_basis)
        rank = rank_curve(folds, fold_basis, fold_parts.sum(axis=1) / np.float32(TRAIN))
        basis = basis.first(n_vectors)
        data = TrainingData(summary, estimate, folds, fold_basis, fold_parts, basis, edge, rank, seed, centre)
        if recordings:
            return replace(data, hold_out="pairs", fraction=recordings.fraction)
        return check_fold_independence(data)


def _with_noise(
    summary: MapSummary, stream: SpectrumStream, noise: str, *, cool: bool
) -> tuple[MapSummary, NoiseEstimate]:
    """Return the summary, where it is asked for without hot values, and what its noise is."""
    estimate = estimate_noise(summary.sample, noise=noise, minimum=summary.minimum)
    if cool:
        summary = without_hot_values(summary, estimate.model, stream.navigation_shape)
    if summary.n_hot:
        _logger.info("%d hot values, each in one channel of one spectrum, are not learnt", summary.n_hot)
        estimate = estimate_noise(summary.sample, noise=noise, minimum=summary.minimum)
    _logger.info("noise model: %s", estimate.model.to_dict())
    return summary, estimate


def _n_vectors(summary: MapSummary, fold_basis: PrincipalBasis, edge: float, n_needed: int) -> int:
    """Return how many vectors are kept: `edge` is that of all spectra, the folds are of the sample."""
    n_sample, n_channels = summary.sample.shape
    ratio = (1 + np.sqrt(n_channels / n_sample)) / (1 + np.sqrt(n_channels / summary.moments.n_second))
    n_vectors = n_compressed(fold_basis.eigenvalues, edge * ratio**2 / TRAIN)
    return min(max(n_vectors, n_needed), n_sample, n_channels)


def check_enough(
    summary: MapSummary, n_needed: int, *, of: str = "component", argument: str = "output_dimension"
) -> None:
    """Refuse a map that has too few spectra or channels for so many components.

    Parameters
    ----------
    summary
        Of the map.
    n_needed
        Components.
    of, argument
        What the caller's user calls one of them, and the argument that asks for fewer.

    Raises
    ------
    TooFewSpectraError
        There are not as many spectra and channels as components, and one more.
    """
    n_spectra, n_channels = summary.moments.n, len(summary.moments.sums)
    needed = max(_LEAST_SPECTRA, n_needed + 1)
    if n_spectra < needed or n_channels <= n_needed:
        who = f"1 {of} needs" if n_needed == 1 else f"{n_needed} {of}s need"
        fewer = "" if n_needed == 1 else f"ask for fewer, {argument}=1; "
        raise TooFewSpectraError(
            f"{who} at least {needed} spectra and {n_needed + 1} channels that can be used, but there are "
            f"{n_spectra} and {n_channels} ({summary.counts()}). Ways out: {fewer}mask less; stack more "
            "spectra, hs.stack([s1, s2]); replace what is not finite, s.data = np.nan_to_num(s.data)."
        )


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
    k, noise = data.rank.chosen, data.estimate.model
    basis = data.fold_basis.first(k)
    halves = data.fold_parts[:, :, :k].reshape(-1, 2, N_PARTS // 2, k).sum(axis=2) / np.float32(TRAIN / 2)
    correlation = fold_correlation(
        data.folds, lambda rows: basis.spectra(halves[rows, 0]), lambda rows: basis.spectra(halves[rows, 1])
    )
    if not holds_out(correlation, data.folds.n_effective):
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
    doubtful = not holds_out(correlation, data.folds.n_effective, limit=_CERTAIN)
    return replace(data, correlation=correlation, hold_out="approximate" if few or doubtful else "exact")


def smooth_basis(
    data: TrainingData, n_components: int, *, widest: float = np.inf, score: Score | None = None
) -> TrainingData:
    """Return the data on the smoothest basis that the validation fold likes.

    Parameters
    ----------
    data
        Training data on their principal basis.
    n_components
        Vectors that a smoothing is scored with; at least those that PCA carries.
    widest
        Largest smoothing in channels.
    score
        From a basis to the validation scores of PCA on it, one per spectrum; by default deviances.

    Returns
    -------
    data on another basis, with its `smoothing`; the same data where no smoothing is better by more than a
    standard error, or where nothing valid is held out
    """
    if data.hold_out == "none":
        return data
    moments = train_moments(data.folds, data.summary)
    n_scored = max(n_components, data.rank.chosen)

    def tried(smoothing: float) -> tuple[PrincipalBasis, np.ndarray]:
        basis = data.basis_of(moments, smoothing)
        return basis, (score or _deviances)(data, basis.first(n_scored))

    smoothings = [smoothing for smoothing in _SMOOTHINGS if smoothing <= widest]
    found = side_by_side(*(partial(tried, smoothing) for smoothing in smoothings))
    scores = np.array([scores for _, scores in found])
    chosen = choose_rank(np.arange(len(smoothings)), scores, "held-out counts").chosen
    if chosen == 0:
        return data
    smoothing = smoothings[chosen]
    whole = data.basis_of(data.summary.moments, smoothing)
    return data.on(found[chosen][0], basis=whole, smoothing=smoothing)


def _deviances(data: TrainingData, basis: PrincipalBasis) -> np.ndarray:
    """Return the validation deviances of PCA on this basis, of some of the spectra."""
    step = max(1, data.folds.validation.size // _SCORED)
    parts = tuple(part[::step] for part in data.folds.parts)
    scores = project_parts(parts, FRACTIONS[:N_PARTS], basis).sum(axis=1) / np.float32(TRAIN)
    return data.folds.every(step).score("validation", lambda rows: basis.spectra(scores[rows]))
