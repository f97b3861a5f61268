"""What is learnt about a map before any model of it: noise, folds, axes, rank.

The folds and everything fitted on them come from a sample of the pixels (all of a small map), held in
memory; the axes of the final model come from all counts of all pixels.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import NegativeCountsError, TooFewSpectraError
from hyperspy_specml.prepare._independence import check_fold_independence
from hyperspy_specml.statistics import (
    FRACTIONS,
    N_PARTS,
    TRAIN,
    Folds,
    MapSummary,
    Moments,
    NoiseEstimate,
    PrincipalBasis,
    RankCurve,
    channel_weights,
    estimate_noise,
    make_folds,
    moments_of,
    n_compressed,
    noise_edge,
    principal_basis,
    rank_curve,
    refine_basis,
    summarise_map,
    wide_moments,
)
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.prepare._corruptions import Draws
    from hyperspy_specml.prepare._paired import PairedRecordings
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.streaming import SpectrumStream

_logger = logging.getLogger(__name__)

_LEAST_SPECTRA = 4
_MOST_AXES = 128


@dataclass(frozen=True)
class TrainingData:
    """A map, looked at. n sampled spectra, E channels in use, P axes.

    Attributes
    ----------
    summary
        Pass 1 over all spectra.
    estimate
        Noise model and its evidence.
    folds
        The sample's counts, split; scores of candidates are computed on it.
    fold_basis, fold_parts
        Axes of the training fold alone; (n, 4, P) scores of its parts, each on the scale of its counts.
    basis
        Axes of all counts of all spectra: the PCA baseline and the scree.
    edge
        Largest eigenvalue that noise alone would give in the scree of the map.
    correlation
        Of the residuals of two halves; beyond 0.05 the folds are not independent.
    hold_out
        "exact", "approximate" (first two moments only), "none" (no valid split) or "pairs" (real repeats).
    rank
        Score of PCA against rank; its choice.
    seed
        Seed of the sample and of the splits.
    width
        Of the Gaussian that the axes were made smooth with, in channels; 0 for principal axes.
    share
        Of the counts, that the noise of the training fold is that of.
    draws
        What networks are trained on instead of splits of the training fold; None for these.
    """

    summary: MapSummary
    estimate: NoiseEstimate
    folds: Folds = field(repr=False)
    fold_basis: PrincipalBasis = field(repr=False)
    fold_parts: np.ndarray = field(repr=False)
    basis: PrincipalBasis = field(repr=False)
    edge: float
    correlation: float
    hold_out: str
    rank: RankCurve
    seed: int
    width: float = 0.0
    share: float = TRAIN
    draws: Draws | None = field(default=None, repr=False)

    @cached_property
    def aligned(self) -> PrincipalBasis:
        """The space of `basis` turned towards `fold_basis`: what a network learnt along those goes on here."""
        return self.basis.aligned_with(self.fold_basis)

    @cached_property
    def parts(self) -> np.ndarray:
        """(n, 6, P) scores of all parts along `aligned`, each on the scale of its counts."""
        folds = self.folds
        return project_parts((*folds.parts, folds.validation, folds.test), FRACTIONS, self.aligned)

    @cached_property
    def fold_scores(self) -> np.ndarray:
        """(n, P) scores of the training fold on the scale of the whole data."""
        return self.fold_parts.sum(axis=1) / np.float32(self.folds.train_share)

    @cached_property
    def spectrum_weights(self) -> np.ndarray:
        """(n,) inverse noise variance of each sampled spectrum, about 1.

        From the training fold's dose alone: a spectrum with twice the counts has twice the variance.
        """
        noise, mean = self.estimate.model, np.maximum(self.folds.mean, 0)
        total = mean.sum()
        if total <= 0:
            return np.ones(len(self.folds.validation), np.float32)
        sums = np.concatenate([self.folds.train(r).sum(axis=1, dtype=np.float64) for r in self.folds.slabs()])
        dose = np.clip(sums / self.folds.train_share / total, 0.05, None)
        at_mean = noise.variance(mean)
        at_mean = np.maximum(at_mean, 1e-6 * at_mean.mean())
        levels = np.geomspace(dose.min(), dose.max() * (1 + 1e-9), 64)
        spread = np.array([np.mean(noise.variance(level * mean) / at_mean) for level in levels])
        return (1 / np.interp(dose, levels, spread)).astype(np.float32)

    def without_counts(self) -> TrainingData:
        """Return what is known, without the sample and its folds: they are as large as memory allows."""
        summary, folds = self.summary, self.folds
        nothing = np.empty((0, folds.validation.shape[1]), folds.validation.dtype)
        moments = Moments(summary.moments.n, summary.moments.sums, np.empty(0))
        return replace(
            self,
            summary=replace(summary, moments=moments, sample=nothing),
            folds=replace(folds, parts=(), validation=nothing, test=nothing, variance=None),
            fold_parts=np.empty((0, N_PARTS, self.fold_basis.n_vectors), np.float32),
        )


def prepare(
    stream: SpectrumStream,
    *,
    n_needed: int,
    noise: str = "auto",
    navigation_mask: np.ndarray | None = None,
    signal_mask: np.ndarray | None = None,
    config: TrainConfig,
    seed: int = 0,
    sample: np.ndarray | None = None,
    repeats: PairedRecordings | None = None,
) -> TrainingData:
    """Look at a map: one pass over the file, then everything in memory.

    Parameters
    ----------
    stream
        The spectra.
    n_needed
        Components that the caller will fit: as many spectra and channels and one more are needed.
    noise, navigation_mask, signal_mask, config, seed
        As in ``Signal1D.decomposition_ae``.
    sample
        See `summarise_map`.
    repeats
        Two independent records of the map, which make the folds; None splits the map's own counts.

    Raises
    ------
    TooFewSpectraError
        Not enough usable spectra or channels.
    OptionError, NegativeCountsError, NotCountsError
        See `estimate_noise`.
    """
    summary = summarise_map(
        stream, navigation_mask=navigation_mask, signal_mask=signal_mask, seed=seed, kernel=config.kernel,
        sample=sample,
    )  # fmt: skip
    check_enough(summary, n_needed)
    estimate = _estimate(summary, noise)
    wide = summary.moments.rows is not None

    def split() -> tuple[Folds, PrincipalBasis]:
        folds = (
            repeats.folds(summary, estimate, noise, seed)
            if repeats
            else make_folds(
                summary.sample, summary.sample_pixels, estimate.model, seed=seed, mean=estimate.mean
            )
        )
        moments = train_moments(folds, wide=wide)
        return folds, principal_basis(moments, estimate.model, n_vectors=_MOST_AXES, centre=config.centre)

    (folds, fold_basis), basis, edge = side_by_side(
        split,
        lambda: principal_basis(
            summary.moments, estimate.model, n_vectors=_MOST_AXES, centre=config.centre, scree=True
        ),
        lambda: noise_edge(
            summary.sample, summary.sample_pixels, estimate.model,
            channel_weights(summary.moments.mean, estimate.model),
            n_spectra=summary.moments.n_second, seed=seed, mean=estimate.mean,
        ),
    )  # fmt: skip
    if wide:
        basis = refine_basis(stream, summary, basis)
    n_vectors = _n_axes(summary, fold_basis, edge, n_needed)
    fold_basis = fold_basis.first(n_vectors)
    fold_parts = project_parts(folds.parts, FRACTIONS[:N_PARTS], fold_basis)
    prepared = TrainingData(
        summary, estimate, folds, fold_basis, fold_parts, basis.first(n_vectors), edge, 0.0, "exact",
        rank_curve(folds, fold_basis, fold_parts.sum(axis=1) / np.float32(TRAIN)), seed,
    )  # fmt: skip
    return (
        replace(prepared, hold_out="pairs", share=repeats.share)
        if repeats
        else check_fold_independence(prepared)
    )


def _estimate(summary: MapSummary, noise: str) -> NoiseEstimate:
    if noise == "poisson" and summary.minimum < 0:
        raise NegativeCountsError(
            f"noise='poisson' needs counts, but the smallest value is {summary.minimum:g}. Use noise='auto' "
            "or noise='poisson-gaussian', or undo the background or dark subtraction."
        )
    estimate = estimate_noise(summary.sample, noise=noise, minimum=summary.minimum)
    _logger.info("noise model: %s", estimate.model.to_dict())
    return estimate


def _n_axes(summary: MapSummary, fold_basis: PrincipalBasis, edge: float, n_needed: int) -> int:
    """Return how many axes are looked at: `edge` is that of all spectra, the folds are of the sample."""
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
        who, fewer = ("1 component needs", "") if n_needed == 1 else (
            f"{n_needed} components need", "ask for fewer, output_dimension=1; "
        )  # fmt: skip
        raise TooFewSpectraError(
            f"{who} at least {needed} spectra and {n_needed + 1} channels that can be used, but there are "
            f"{n_spectra} and {n_channels} ({summary.counts()}). Ways out: {fewer}mask less; stack more "
            "spectra, hs.stack([s1, s2]); replace what is not finite, s.data = np.nan_to_num(s.data)."
        )


def train_moments(folds: Folds, *, wide: bool) -> Moments:
    """Moments of the training fold, on the scale of the whole data; of wide spectra represented by them."""
    rows = folds.train(slice(None))
    moments = replace(wide_moments(rows), rows=rows) if wide else moments_of(rows)
    return moments.scaled(1 / folds.train_share)


def project_parts(
    parts: tuple[np.ndarray, ...], fractions: Sequence[float] | np.ndarray, basis: PrincipalBasis
) -> np.ndarray:
    """Return (n, F, P) scores of parts on the scale of their own counts; they sum to the sample's."""
    scores = np.empty((len(parts[0]), len(parts), basis.n_vectors), dtype=np.float32)
    constant = basis.project(np.zeros((1, len(basis.weights)), np.float32))[0]
    for k, (part, fraction) in enumerate(zip(parts, fractions, strict=True)):
        # project() subtracts the whole offset; a part carries its share of it.
        scores[:, k] = basis.project(part) + np.float32(fraction - 1) * constant
    return scores
