"""Training data: what is known of a map before any model of it.

The folds and everything fitted on them come from a sample of the pixels (all of a small map), held in
memory; the basis of the final model comes from all counts of all pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hyperspy_specml.statistics import FRACTIONS, N_PARTS, TRAIN, Moments, moments_of, principal_basis, wide_moments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from hyperspy_specml.statistics import Folds, MapSummary, NoiseEstimate, PrincipalBasis, RankCurve

_SCORED = 1 << 23  # deviances for each candidate: more would only shrink an error that is small already
_ROUNDING = 1e-6  # of a mean spectrum
_LEAST_VECTORS = 12  # of a basis that has one to spare for the mean spectrum


class Predicts(Protocol):
    """A model of spectra, as far as scoring it needs."""

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores of the training fold to (n, E) spectra."""
        ...


@dataclass(frozen=True)
class Draws:
    """Inputs and the target of networks, on the basis of the training fold. n spectra, D draws, P vectors.

    Attributes
    ----------
    inputs
        (n, D, P) scores on the scale of the whole data.
    fractions
        (D,) share of the counts that the noise of each input is that of.
    target, target_fraction
        (n, P) scores on the same scale, and the share of the counts that their noise is that of.
    """

    inputs: np.ndarray = field(repr=False)
    fractions: np.ndarray
    target: np.ndarray = field(repr=False)
    target_fraction: float


@dataclass(frozen=True)
class TrainingData:
    """What is known of a map before any model. n sampled spectra, E channels in use, P basis vectors.

    Attributes
    ----------
    summary
        Pass 1 over all spectra.
    estimate
        Noise model and its evidence.
    folds
        The sample's counts, split; scores of candidates are computed on it.
    fold_basis, fold_parts
        Basis of the training fold alone; (n, 4, P) scores of its parts, each on the scale of its counts.
    basis
        Basis of all counts of all spectra: the PCA baseline and the scree.
    edge
        Largest eigenvalue that noise alone would give in the scree of the map.
    rank
        Score of PCA against rank; its choice.
    seed
        Seed of the sample and of the splits.
    centre
        Whether the bases are about the mean spectrum.
    correlation
        Of the residuals of two halves; beyond 0.05 the folds are not independent.
    hold_out
        "exact", "approximate" (first two moments only), "none" (no valid split) or "pairs" (two recordings).
    smoothing
        Standard deviation of the Gaussian along energy that the bases were made smooth with, in channels; 0 for
        principal vectors.
    fraction
        Share of the counts that the noise of the training fold is that of.
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
    rank: RankCurve
    seed: int
    centre: bool = False
    correlation: float = 0.0
    hold_out: str = "exact"
    smoothing: float = 0.0
    fraction: float = TRAIN
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
    def shot(self) -> float:
        """Share of the noise variance at the mean spectrum that is proportional to the intensity: 1 for counts."""
        noise, mean = self.estimate.model, np.maximum(self.folds.mean, 0)
        variance, still = noise.variance(mean).mean(), noise.variance(np.zeros_like(mean)).mean()
        return float(1 - still / max(variance, np.finfo(float).tiny))

    def facts(self) -> dict[str, Any]:
        """Return what every report says of the data."""
        estimate, summary = self.estimate, self.summary
        found: dict[str, Any] = {"noise_model": estimate.model.to_dict() | {"fano": estimate.fano}}
        found |= {"used": summary.counts(), "n_sampled": len(summary.sample_pixels), "random_state": self.seed}
        return found | {"hold_out": self.hold_out, "correlation": self.correlation}

    def few(self, n_values: int = _SCORED) -> tuple[Folds, np.ndarray]:
        """Return folds and training-fold scores of about as many spectra as make up so many values."""
        step = max(1, self.folds.validation.size // n_values)
        return self.folds.every(step), self.fold_scores[::step]

    def scores_of(self, model: Predicts, n_values: int = _SCORED, *, fold: str = "validation") -> np.ndarray:
        """Return the (m,) held-out scores of a model of the training fold, on some of the spectra.

        Parameters
        ----------
        model
            Predicts spectra from scores on `fold_basis`.
        n_values
            Deviances that are computed, about.
        fold
            "validation" or "test".
        """
        folds, scores = self.few(n_values)
        return folds.score(fold, lambda rows: model.predict(scores[rows]))

    def basis_of(self, moments: Moments, smoothing: float) -> PrincipalBasis:
        """Return the basis of moments like those of the data, as large and as centred as that of the data.

        It holds the mean spectrum; see `holding_mean`.
        """
        noise, n_vectors = self.estimate.model, self.fold_basis.n_vectors
        basis = principal_basis(moments, noise, n_vectors=n_vectors, centre=self.centre, smoothing=smoothing)
        return holding_mean(basis, moments.mean)

    def with_mean(self) -> Self:
        """Return the data on the same bases, but so that these hold the mean spectrum; see `holding_mean`."""
        basis = holding_mean(self.basis, self.summary.moments.mean)
        return self.on(holding_mean(self.fold_basis, self.folds.mean), basis=basis)

    def on(self, fold_basis: PrincipalBasis, *, folds: Folds | None = None, **changes: Any) -> Self:
        """Return the data on another basis of the training fold, with other changes that go with it."""
        folds = folds or self.folds
        parts = project_parts(folds.parts, folds.fractions[:N_PARTS], fold_basis)
        return replace(self, folds=folds, fold_basis=fold_basis, fold_parts=parts, **changes)

    def turned(self, part: int) -> Self:
        """Return the data where a part of the training fold and the validation fold have changed places.

        Parameters
        ----------
        part
            Of the training fold.
        """
        folds = self.folds.turned(part)
        return self.on(self.basis_of(train_moments(folds, self.summary), self.smoothing), folds=folds)

    def without_counts(self) -> Self:
        """Return what is known, without the sample and its folds: they are as large as memory allows."""
        nothing, moments = self.folds.validation[:0].copy(), self.summary.moments
        moments = Moments(moments.n, moments.sums, np.empty(0))
        summary = replace(self.summary, moments=moments, sample=nothing)
        folds = replace(self.folds, parts=(), validation=nothing, test=nothing, variance=None)
        return replace(self, summary=summary, folds=folds, fold_parts=self.fold_parts[:0].copy())


def holding_mean(basis: PrincipalBasis, mean: np.ndarray) -> PrincipalBasis:
    """Return a basis whose last vector, which is mostly noise, holds what the others miss of the mean spectrum.

    So what is made of its scores can have the counts of the data in every channel, however smooth the other vectors.

    Parameters
    ----------
    basis
        Of a map.
    mean
        (E,) mean spectrum.
    """
    white, others = (mean - basis.offset) * basis.weights, basis.vectors[:, :-1]
    rest = white - others @ (others.T @ white)
    size = np.linalg.norm(rest)
    if basis.n_vectors < _LEAST_VECTORS or size <= _ROUNDING * np.linalg.norm(white):
        return basis
    return replace(basis, vectors=np.column_stack([others, rest / size]))


def train_moments(folds: Folds, summary: MapSummary) -> Moments:
    """Moments of the training fold, on the scale of the whole data; of wide spectra represented by them."""
    rows = folds.train(slice(None))
    moments = moments_of(rows) if summary.moments.rows is None else replace(wide_moments(rows), rows=rows)
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
