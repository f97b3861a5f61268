"""Folds of counts that a model has not seen, scores on them, and how many components they support.

References
----------
J. Batson, L. Royer, J. Webber, "Molecular cross-validation for single-cell RNA-seq", bioRxiv 786269 (2019).
A. B. Owen, P. O. Perry, "Bi-cross-validation of the SVD and the nonnegative matrix factorization",
Ann. Appl. Stat. 3 (2009) 564, doi:10.1214/08-AOAS227.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from hyperspy_specml.statistics._basis import channel_weights
from hyperspy_specml.statistics._moments import row_slabs
from hyperspy_specml.statistics._noise import PREDICTION_FLOOR, NoiseModel, median_ratio
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from hyperspy_specml.statistics._basis import PrincipalBasis
    from hyperspy_specml.statistics._estimate import NoiseEstimate
    from hyperspy_specml.statistics._noise import Mean
    from hyperspy_specml.statistics._summary import MapSummary

# Fractions of the counts in the three folds.
TRAIN, VALIDATION, TEST = 0.70, 0.15, 0.15
# Number of equal parts of the training fold: any of them can be the input of a network and the others its
# target.
N_PARTS = 4
FRACTIONS = (TRAIN / N_PARTS,) * N_PARTS + (VALIDATION, TEST)
# Number of values scored at a time: they stay in the cache.
_SLAB = 1 << 18
# Number of values predicted at a time: networks are faster with more spectra than the cache holds.
_PREDICTED = 1 << 21
# Correlation of the residuals of halves from which folds are not independent.
_MAX_CORRELATION = 0.05
# Standard deviations beyond which a value is a glitch.
_GLITCH = 4.0
# Number of spectra that the noise edge is estimated from, at most.
_EDGE_ROWS = 4096
# Number of deviances computed per rank, at most: of enough spectra for a small standard error.
_CURVE_ELEMENTS = 1 << 23
# Of a field: a curve, which a report leaves out where it must be short.
_CURVE, _NOTHING = {"curve": True}, partial(np.zeros, 0)


@dataclass(frozen=True)
class Folds:
    """One set of spectra, its counts split three ways.

    Attributes
    ----------
    parts
        (n, E) values of the equal parts of the training fold.
    validation, test
        (n, E) values of the other folds; everything sums to the data. The test fold chooses nothing.
    pixels
        (n,) flat indices of the spectra.
    noise
        The noise model that split them.
    variance
        None for counts; else the noise variance of the whole data, broadcastable to (n, E), fixed before
        any candidate is compared.
    mean
        (E,) mean spectrum of the training fold on the scale of the whole data.
    fractions
        Fractions of the counts in the parts, the validation and the test fold.
    """

    parts: tuple[np.ndarray, ...]
    validation: np.ndarray
    test: np.ndarray
    pixels: np.ndarray
    noise: NoiseModel
    variance: np.ndarray | None
    mean: np.ndarray
    fractions: tuple[float, ...] = FRACTIONS

    @classmethod
    def of(
        cls, parts: Sequence[np.ndarray], pixels: np.ndarray, noise: NoiseModel, *, mean: np.ndarray | None = None
    ) -> Self:
        """Return folds of parts that make up spectra.

        Parameters
        ----------
        parts
            (n, E) values of the parts of the training fold, of the validation and of the test fold.
        pixels, noise
            Flat indices of the spectra, and the noise model.
        mean
            (n, E) estimate of the mean of each value, for noise models that need it.
        """
        *train, validation, test = parts
        variance = None
        if noise.name != "poisson":
            variance = noise.variance(np.zeros(test.shape[1]) if mean is None else mean).astype(np.float32)
            variance = np.maximum(variance, 1e-6 * variance.mean())
        fold_mean = sum(part.mean(axis=0, dtype=np.float64) for part in train) / TRAIN
        return cls(tuple(train), validation, test, pixels, noise, variance, fold_mean)

    @property
    def train_share(self) -> float:
        """Fraction of the counts in the training fold."""
        return sum(self.fractions[:-2])

    @cached_property
    def floor(self) -> np.ndarray:
        """(E,) smallest prediction that is scored, on the scale of the whole data."""
        return PREDICTION_FLOOR * np.maximum(self.mean, 1e-2 * max(self.mean.mean(), 0))

    @property
    def n_effective(self) -> float:
        """Number of values that residuals summed over all spectra are worth: in a vacuum few spectra rule the sum."""
        if self.variance is not None:
            return self.validation.size
        counts = self.validation.sum(axis=1, dtype=np.float64) + self.test.sum(axis=1, dtype=np.float64)
        return self.validation.shape[1] * counts.sum() ** 2 / max(np.square(counts).sum(), 1.0)

    def train(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return the training fold of some spectra, in the dtype of the parts (their sum fits)."""
        total = self.parts[0][rows].copy()
        for part in self.parts[1:]:
            total += part[rows]
        return total

    def variance_of(self, rows: slice) -> np.ndarray:
        """Return the variance of some spectra, (E,) or (m, E); not for counts."""
        assert self.variance is not None
        return self.variance[rows] if self.variance.ndim == 2 else self.variance

    def slabs(self) -> list[slice]:
        """Return slices of spectra with about as many values each as the cache holds."""
        return row_slabs(self.validation.shape, _SLAB)

    def turned(self, part: int) -> Folds:
        """Return the folds where a part of the training fold and the validation fold have changed places.

        Parameters
        ----------
        part
            Which of the `N_PARTS`.
        """
        parts, fractions = [*self.parts], [*self.fractions]
        parts[part], fractions[part], fractions[N_PARTS] = self.validation, fractions[N_PARTS], fractions[part]
        mean = sum(values.mean(axis=0, dtype=np.float64) for values in parts) / sum(fractions[:N_PARTS])
        return replace(self, parts=tuple(parts), validation=self.parts[part], fractions=tuple(fractions), mean=mean)

    def every(self, step: int) -> Folds:
        """Return every `step`-th spectrum, without the training fold: enough for a score."""
        some = slice(None, None, step)
        variance = None if self.variance is None else self.variance_of(some)
        arrays = {name: getattr(self, name)[some] for name in ("validation", "test", "pixels")}
        return replace(self, parts=(), variance=variance, **arrays)

    def score(self, fold: str, predict: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Score predictions on a fold they have not seen.

        Parameters
        ----------
        fold
            "validation" or "test".
        predict
            Called with slices of the spectra; returns (m, E) predicted means on the scale of the whole data.

        Returns
        -------
        (n,) deviance per spectrum, float64, smaller is better
        """
        scores = np.empty(len(self.validation))

        def score_several(several: slice) -> None:
            prediction = predict(several)
            for here in row_slabs(prediction.shape, _SLAB):
                rows = slice(several.start + here.start, several.start + here.stop)
                scores[rows] = self.score_slab(fold, rows, prediction[here])

        several = row_slabs(self.validation.shape, _PREDICTED)
        side_by_side(*(partial(score_several, some) for some in several))
        return scores

    def score_slab(self, fold: str, rows: slice, prediction: np.ndarray) -> np.ndarray:
        """Score the prediction of some spectra; see `score`.

        Parameters
        ----------
        fold
            "validation" or "test".
        rows
            Slice of the spectra.
        prediction
            (m, E) their predicted means on the scale of the whole data; not changed.
        """
        values, fraction = (self.validation, self.fractions[-2]) if fold == "validation" else (self.test, TEST)
        if self.variance is None:
            prediction = np.maximum(prediction, self.floor.astype(prediction.dtype))
            prediction *= prediction.dtype.type(fraction)
            return self.noise.deviance(values[rows], prediction, None)
        return self.noise.deviance(values[rows], fraction * prediction, fraction * self.variance_of(rows))


def make_folds(
    rows: np.ndarray, pixels: np.ndarray, noise: NoiseModel, *, seed: int, mean: Mean = None, n_parts: int = N_PARTS
) -> Folds:
    """Split (n, E) spectra into training, validation and test folds.

    Parameters
    ----------
    rows, pixels
        Spectra and their flat indices.
    noise
        Noise model.
    seed
        Seed of the split.
    mean
        (n, E) estimate of the mean of each value, for noise models that need it.
    n_parts
        Number of equal parts of the training fold.
    """
    fractions = (TRAIN / n_parts,) * n_parts + (VALIDATION, TEST)
    folds = Folds.of(noise.split(rows, pixels, fractions, seed=seed, mean=mean), pixels, noise, mean=mean)
    return replace(folds, fractions=fractions)


@dataclass(frozen=True)
class PairedScore:
    """Mean of a candidate's scores, and its distance to a reference on the same spectra.

    Attributes
    ----------
    mean
        Mean deviance per spectrum.
    difference
        Mean of (candidate - reference); negative where the candidate is better.
    standard_error
        Standard error of `difference`: that of the mean of paired differences.
    """

    mean: float
    difference: float
    standard_error: float


def paired(scores: np.ndarray, reference: np.ndarray) -> PairedScore:
    """Compare two candidates scored on the same spectra."""
    difference = scores - reference
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else float("nan")
    return PairedScore(float(scores.mean()), float(difference.mean()), float(error))


def fold_correlation(
    folds: Folds, predict: Callable[[slice], np.ndarray], predict_again: Callable[[slice], np.ndarray]
) -> float:
    """Return the correlation that the residuals of two halves of the data would have.

    It is 0 where the noise model holds. It is measured between the validation and the test fold and converted
    to halves: noise of q + 1 times the assumed variance correlates folds of fraction f by f q / (1 + f q).
    The median over groups of channels is taken, so that a misfit of the prediction in a few channels, at an
    edge for example, does not count.

    Parameters
    ----------
    folds
        The split spectra.
    predict, predict_again
        As in `Folds.score`, from two different halves of the training fold: one prediction would lend
        its error to both residuals.
    """
    cross, power_a, power_b = (np.zeros(folds.validation.shape[1]) for _ in range(3))
    for rows in folds.slabs():
        a = folds.validation[rows] / VALIDATION - predict(rows)
        b = folds.test[rows] / TEST - predict_again(rows)
        if folds.variance is not None:
            # Independent noise is never this large in both folds: it is a glitch of the detector, which also
            # spoils the prediction of its spectrum. If it is in most spectra, the variance is wrong instead.
            fine = (np.abs(a * b) < _GLITCH**2 / VALIDATION * folds.variance_of(rows)).all(axis=1)
            a, b = (a[fine], b[fine]) if fine.mean() > 0.5 else (a, b)
        cross += np.einsum("ij,ij->j", a, b)
        power_a += np.einsum("ij,ij->j", a, a)
        power_b += np.einsum("ij,ij->j", b, b)
    correlation = median_ratio(cross, np.sqrt(power_a * power_b), folds.mean)
    excess = correlation / (VALIDATION * max(1 - correlation, 1e-9))
    return 0.5 * excess / (1 + 0.5 * excess) if excess > -1 else -1.0


def holds_out(correlation: float, n_values: float, *, limit: float = _MAX_CORRELATION) -> bool:
    """Return whether folds with this correlation of residuals are independent enough to validate on.

    The limit is wider by two standard errors of a correlation measured on so many values.
    """
    return abs(correlation) <= limit + 2 * 0.5 / (VALIDATION * np.sqrt(max(n_values, 1)))


@dataclass(frozen=True)
class RankCurve:
    """Held-out score against the number of components.

    Attributes
    ----------
    ranks
        (n,) numbers of components, rising.
    scores
        (n,) mean score, smaller is better.
    standard_errors
        (n,) standard error of the paired difference to the best rank; 0 at the best.
    chosen
        The smallest rank that is not worse than the best by more than one standard error.
    method
        "held-out counts" or "bi-cross-validation".
    """

    ranks: np.ndarray = field(default_factory=_NOTHING, metadata=_CURVE)
    scores: np.ndarray = field(default_factory=_NOTHING, metadata=_CURVE)
    standard_errors: np.ndarray = field(default_factory=_NOTHING, metadata=_CURVE)
    chosen: int = 0
    method: str = ""


def choose_rank(ranks: np.ndarray, scores: np.ndarray, method: str) -> RankCurve:
    """Build the curve from (n ranks, m) scores of the same m spectra or blocks."""
    means = scores.mean(axis=1)
    best = int(np.argmin(means))
    errors = np.array([paired(row, scores[best]).standard_error for row in scores])
    errors[best] = 0.0
    good = means - means[best] <= np.nan_to_num(errors)
    return RankCurve(np.asarray(ranks), means, errors, int(ranks[int(np.argmax(good))]), method)


def rank_curve(folds: Folds, basis: PrincipalBasis, scores: np.ndarray) -> RankCurve:
    """Score PCA of rank 1, 2, ... P on the validation fold.

    Parameters
    ----------
    folds
        The split spectra.
    basis
        Principal basis of the training fold, on the scale of the whole data.
    scores
        (n, P) scores of the training fold on that scale.
    """
    every = max(1, folds.validation.size // _CURVE_ELEMENTS)
    folds, scores = folds.every(every), scores[::every]
    components = basis.components().astype(np.float32)
    curve = np.empty((basis.n_vectors, len(scores)))

    def score(rows: slice) -> None:
        prediction = np.tile(basis.offset.astype(np.float32), (len(scores[rows]), 1))
        for k in range(basis.n_vectors):
            prediction += scores[rows, k : k + 1] * components[k]
            curve[k, rows] = folds.score_slab("validation", rows, prediction)

    side_by_side(*(partial(score, rows) for rows in folds.slabs()))
    return choose_rank(np.arange(1, basis.n_vectors + 1), curve, "held-out counts")


def noise_edge(summary: MapSummary, estimate: NoiseEstimate, *, seed: int) -> float:
    """Return the largest eigenvalue that noise alone makes in the scree of a map.

    The difference of two independent halves of the data holds no signal and exactly the data's noise,
    however unequal its pixels and channels are. The largest eigenvalue of a sample of it is converted to the
    number of spectra in the map by the Marchenko-Pastur law.

    Parameters
    ----------
    summary
        Of the map: a sample of its spectra, and how many they stand for.
    estimate
        Noise model, and the mean of the sample where it needs that.
    seed
        Of the halves.
    """
    some = slice(None, None, -(-len(summary.sample) // _EDGE_ROWS))
    mean = None if estimate.mean is None else estimate.mean[some]
    rows, pixels, moments, noise = summary.sample[some], summary.sample_pixels[some], summary.moments, estimate.model
    first, second = noise.split(rows, pixels, (0.5, 0.5), seed=seed, stream=100, mean=mean)
    weights = channel_weights(moments.mean, noise).astype(np.float32)
    white = (first.astype(np.float32) - second.astype(np.float32)) * weights
    n, n_channels = white.shape
    gram = (white.T @ white if n_channels <= n else white @ white.T).astype(np.float64) / n
    if len(gram) > 64:  # Lanczos iterations: a hundred products with a vector instead of a full reduction
        top = scipy.sparse.linalg.eigsh(gram, k=1, v0=np.ones(len(gram)), tol=1e-5, return_eigenvectors=False)[0]
    else:
        top = scipy.linalg.eigvalsh(gram)[-1]
    return float(top * ((1 + np.sqrt(n_channels / moments.n_second)) / (1 + np.sqrt(n_channels / n))) ** 2)


def bi_cross_validation(white: np.ndarray, *, max_rank: int, block: int, seed: int) -> RankCurve:
    """Choose a rank by predicting held-out channel blocks of held-out spectra.

    For data that cannot be split into independent folds: the held-out part is predicted from the other
    channels of the same spectra and the same channels of other spectra, so nothing predicts itself.

    Parameters
    ----------
    white
        (n, E) whitened spectra.
    max_rank
        Largest rank tried.
    block
        Channels in a block; more than the noise is correlated over.
    seed
        Shuffles spectra into two halves.
    """
    n, n_channels = white.shape
    order = np.random.default_rng(seed).permutation(n)
    groups = np.arange(n_channels) // max(1, min(block, n_channels // 4 or 1)) % 2 == 0
    n_ranks = max(1, min(max_rank, n // 4, n_channels // 4))
    halves = (order[::2], order[1::2]), (order[1::2], order[::2])
    blocks = [(rows, held) for rows in halves for held in (groups, ~groups)]
    errors = [_predict_block(white, *rows, held, n_ranks) for rows, held in blocks]
    return choose_rank(np.arange(1, n_ranks + 1), np.concatenate(errors, axis=1), "bi-cross-validation")


def _predict_block(
    white: np.ndarray, held_rows: np.ndarray, kept_rows: np.ndarray, held: np.ndarray, n_ranks: int
) -> np.ndarray:
    target = white[np.ix_(held_rows, held)]
    left = white[np.ix_(held_rows, ~held)]
    above = white[np.ix_(kept_rows, held)]
    u, s, vt = scipy.linalg.svd(white[np.ix_(kept_rows, ~held)], full_matrices=False)
    smallest = s[0] * max(white.shape) * np.finfo(s.dtype).eps  # smaller singular values are rounding
    prediction = np.zeros_like(target)
    errors = np.empty((n_ranks, len(held_rows)))
    for k in range(n_ranks):
        if s[k] > smallest:
            prediction = prediction + np.outer(left @ vt[k] / s[k], u[:, k] @ above)
        errors[k] = ((target - prediction) ** 2).sum(axis=1)
    return errors


def n_compressed(eigenvalues: np.ndarray, edge: float) -> int:
    """Return how many vectors P a network is given: half as many again as are above the noise edge, and 8."""
    above = int((eigenvalues > edge).sum())
    return int(min(np.clip(1.5 * above + 8, 16, 128), len(eigenvalues)))
