"""Folds of counts that a model has not seen, and scores on them.

References
----------
J. Batson, L. Royer, J. Webber, "Molecular cross-validation for single-cell RNA-seq", bioRxiv 786269 (2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.statistics._noise import PREDICTION_FLOOR, NoiseModel
from hyperspy_specml.statistics._structure import median_ratio
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

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

    @property
    def train_share(self) -> float:
        """Fraction of the counts in the training fold."""
        return sum(self.fractions[:N_PARTS])

    @cached_property
    def floor(self) -> np.ndarray:
        """(E,) smallest prediction that is scored, on the scale of the whole data."""
        return PREDICTION_FLOOR * np.maximum(self.mean, 1e-2 * max(self.mean.mean(), 0))

    def train(self, rows: slice) -> np.ndarray:
        """Return the training fold of some spectra, in the dtype of the parts (their sum fits)."""
        total = self.parts[0][rows].copy()
        for part in self.parts[1:]:
            total += part[rows]
        return total

    def variance_of(self, rows: slice) -> np.ndarray:
        """Return the variance of some spectra, (E,) or (m, E); not for counts."""
        assert self.variance is not None
        return self.variance[rows] if self.variance.ndim == 2 else self.variance

    def slabs(self, n_elements: int = _SLAB, *, within: slice | None = None) -> list[slice]:
        """Return slices of spectra, of all or of some, with about this many values each."""
        n, n_channels = self.validation.shape
        start, stop = (0, n) if within is None else (within.start, within.stop)
        step = max(1, n_elements // n_channels)
        return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]

    def turned(self, part: int) -> Folds:
        """Return the folds where a part of the training fold and the validation fold have changed places.

        Parameters
        ----------
        part
            Which of the `N_PARTS`.
        """
        folds, fractions = [*self.parts, self.validation], [*self.fractions]
        folds[part], folds[-1] = folds[-1], folds[part]
        fractions[part], fractions[N_PARTS] = fractions[N_PARTS], fractions[part]
        *parts, validation = folds
        mean = sum(values.mean(axis=0, dtype=np.float64) for values in parts) / sum(fractions[:N_PARTS])
        return replace(self, parts=tuple(parts), validation=validation, fractions=tuple(fractions), mean=mean)

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
            for rows in self.slabs(within=several):
                here = slice(rows.start - several.start, rows.stop - several.start)
                scores[rows] = self.score_slab(fold, rows, prediction[here])

        side_by_side(*(partial(score_several, several) for several in self.slabs(_PREDICTED)))
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
    rows: np.ndarray,
    pixels: np.ndarray,
    noise: NoiseModel,
    *,
    seed: int,
    mean: np.ndarray | None = None,
    n_parts: int = N_PARTS,
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
    *parts, validation, test = noise.split(rows, pixels, fractions, seed=seed, stream=0, mean=mean)
    variance = None
    if noise.name != "poisson":
        variance = noise.variance(np.zeros(rows.shape[1]) if mean is None else mean).astype(np.float32)
        variance = np.maximum(variance, 1e-6 * variance.mean())
    fold_mean = sum(part.mean(axis=0, dtype=np.float64) for part in parts) / TRAIN
    return Folds(tuple(parts), validation, test, pixels, noise, variance, fold_mean, fractions)


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


def holds_out(correlation: float, n_values: int) -> bool:
    """Return whether folds with this correlation of residuals are independent enough to validate on.

    The limit is wider by two standard errors of a correlation measured on so many values.
    """
    return abs(correlation) <= _MAX_CORRELATION + 2 * 0.5 / (VALIDATION * np.sqrt(n_values))
