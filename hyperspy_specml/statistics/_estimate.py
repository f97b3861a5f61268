"""Estimate the noise of the data: its family, gain, readout and correlation along energy.

Differences of neighbouring pixels are only an upper bound of the noise, because their spectra differ too. So
low-rank structure is removed first, and the noise is estimated from the residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from hyperspy_specml.exceptions import NegativeCountsError, NotCountsError, OptionError
from hyperspy_specml.statistics._noise import NoiseModel, PoissonGaussianNoise, PoissonNoise, gaussian_noise
from hyperspy_specml.statistics._structure import (
    Residual,
    leading_vectors,
    median_ratio,
    noise_weights,
    remove_structure,
)

NOISE_NAMES = ("auto", "poisson", "gaussian", "poisson-gaussian")
# Variance over mean, less 1, up to which values are counts: with more, halves of thinned counts correlate by
# more than 0.05.
_POISSON_FANO = 0.1
# Number of spectra that are looked at, at most: the estimates have a handful of parameters.
_MAX_ROWS = 2048
# Number of groups of values with like means whose variance is fitted.
_N_BINS = 48
# Number of times that glitches, structure and noise model are found from each other.
_ROUNDS = 3
# Standard deviations beyond which a value is a glitch.
_GLITCH = 6.0
# Relative growth of the variance from weak to strong values up to which noise is the same everywhere.
_FLAT = 0.1


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise model and what it was estimated from.

    Attributes
    ----------
    model
        The noise model.
    fano
        Variance over mean of the residuals; 1 for counts.
    mean
        (n, E) low-rank estimate of the mean of the spectra; None where the model does not need it.
    """

    model: NoiseModel
    fano: float
    mean: np.ndarray | None


def estimate_noise(rows: np.ndarray, *, noise: str = "auto", minimum: float = 0.0) -> NoiseEstimate:
    """Choose or complete a noise model.

    Parameters
    ----------
    rows
        (n, E) finite spectra, at least two.
    noise
        "auto" decides between the others: "poisson" for whole non-negative numbers whose variance is
        their mean, "gaussian" where the variance does not grow with the mean, else "poisson-gaussian".
    minimum
        Smallest value of the whole map.

    Raises
    ------
    OptionError
        Unknown name.
    NegativeCountsError, NotCountsError
        noise="poisson" for values that are negative or not whole.
    """
    if noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    whole = minimum >= 0 and _are_whole(rows)
    if noise == "poisson":
        _check_counts(minimum, whole)
        return NoiseEstimate(PoissonNoise(), 1.0, None)
    few = rows[:: max(1, len(rows) // _MAX_ROWS)][:_MAX_ROWS].astype(np.float64)
    rest = remove_structure(few, _first_variance(few, minimum))
    fano = _fano(rest, few)
    if noise == "auto" and whole and _is_poisson(fano, few, rest):
        return NoiseEstimate(PoissonNoise(), fano, None)
    few, rest, model = _refine(few, rest)
    if noise == "gaussian" or (noise == "auto" and _is_flat(model, rest.mean)):
        deviation, rounding = float(np.sqrt(_typical_square(rest.noise**2))), _rounding(few)
        correlation = model.correlation if deviation > rounding else (1.0,)
        return NoiseEstimate(gaussian_noise(max(deviation, rounding), correlation), fano, None)
    return NoiseEstimate(model, fano, _low_rank(rows, few, rest.rank, model))


def _check_counts(minimum: float, whole: bool) -> None:
    if minimum < 0:
        raise NegativeCountsError(
            f"noise='poisson' needs counts, but the smallest value is {minimum:g}. Use noise='auto' or "
            "noise='poisson-gaussian', or undo the background or dark subtraction."
        )
    if not whole:
        raise NotCountsError(
            "noise='poisson' needs whole numbers (counts can be split exactly, scaled counts cannot). Use "
            "noise='auto' or noise='poisson-gaussian', or undo the normalisation."
        )


def _are_whole(rows: np.ndarray) -> bool:
    return rows.dtype.kind in "ui" or bool(np.all(rows == np.floor(rows)))


def _first_variance(rows: np.ndarray, minimum: float) -> np.ndarray:
    """Return a first noise variance per channel: the mean for counts, else from neighbouring channels."""
    mean = rows.mean(axis=0)
    if minimum >= 0 and mean.max() > 0:
        return np.maximum(mean, 1e-3 * mean.mean())
    curvature = rows[:, 1:-1] - 0.5 * (rows[:, :-2] + rows[:, 2:]) if rows.shape[1] > 2 else rows
    return np.full(rows.shape[1], _typical_square(curvature**2) / 1.5)


def _fano(rest: Residual, rows: np.ndarray) -> float:
    """Return variance over mean: that of the data, as the structure of few counts is biased to low values."""
    total = rows.sum(axis=0)
    return median_ratio((rest.noise**2).sum(axis=0), total, total)


def _is_poisson(fano: float, rows: np.ndarray, rest: Residual) -> bool:
    error = np.sqrt(2 / rows.size + 1 / max(1, rows.sum()))  # of fano, for counts
    white = len(rest.correlation) == 1 or abs(rest.correlation[1]) < 0.1
    return white and abs(fano - 1) < _POISSON_FANO + 3 * error


def _is_flat(model: PoissonGaussianNoise, mean: np.ndarray) -> bool:
    weak, strong = model.variance(np.quantile(mean, [0.05, 0.95]))
    return strong < (1 + _FLAT) * weak


def _refine(few: np.ndarray, rest: Residual) -> tuple[np.ndarray, Residual, PoissonGaussianNoise]:
    """Return spectra without glitches, their residual, and the noise model.

    The structure is found better once noise and glitches are known, and these once the structure is known.
    """
    model = _fit_variance(few, rest)
    for _ in range(_ROUNDS):
        limit = _GLITCH * (np.sqrt(model.variance(rest.mean)) + model.gain)
        few = np.where(np.abs(few - rest.mean) > limit, rest.mean, few)
        rest = remove_structure(few, model.variance(few.mean(axis=0)))
        model = _fit_variance(few, rest)
    return few, rest, model


def _rounding(rows: np.ndarray) -> float:
    """Return the standard deviation of rounding, which even data without noise (simulated, denoised) have."""
    return float(np.finfo(np.float32).eps * np.sqrt(np.mean(rows**2)))


def _low_rank(rows: np.ndarray, few: np.ndarray, rank: int, model: NoiseModel) -> np.ndarray:
    """Return the structure of all rows, negative values as 0, float32."""
    weights = noise_weights(model.variance(few.mean(axis=0)))
    vectors = leading_vectors(few * weights)[:, :rank]
    to_scores, to_spectra = vectors * weights[:, None], vectors.T / weights
    mean = (rows.astype(np.float32) @ to_scores.astype(np.float32)) @ to_spectra.astype(np.float32)
    return np.maximum(mean, 0, out=mean)


def _fit_variance(few: np.ndarray, rest: Residual) -> PoissonGaussianNoise:
    """Fit gain, readout and offset to the squared residuals of values with like means."""
    values, squares = rest.mean.reshape(-1), rest.noise.reshape(-1) ** 2
    bins = [b for b in np.array_split(np.argsort(values, kind="stable"), _N_BINS) if len(b)]
    centres = np.array([max(0.0, values[b].mean()) for b in bins])
    variances = np.array([_typical_square(squares[b]) for b in bins])
    offset = 0.0
    gain, base, distance = _fit_line(centres, variances)
    # A line of zero variance at a positive signal is taken only where it fits twice as well.
    most = centres[0]
    gain_above, base_above, distance_above = _fit_line(centres - most, variances)
    if base_above < gain_above * most and distance_above < 0.5 * distance:
        gain, base, offset = gain_above, 0.0, most - base_above / gain_above
    readout = max(np.sqrt(base), _rounding(few))
    return PoissonGaussianNoise(gain, float(readout), tuple(rest.correlation.tolist()), float(offset))


def _fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return slope and intercept, neither negative, and the mean relative distance of the points."""
    if not y.any():
        return 0.0, 0.0, 0.0
    design = np.stack([x, np.ones_like(x)], axis=1)
    scale = np.maximum(design.max(axis=0), 1e-300)
    floor = max(0.01 * y.mean(), 1e-300)
    fitted, distance = np.maximum(y, floor), np.zeros_like(y)
    for _ in range(20):
        # Squared residuals scatter in proportion to the variance itself. Beyond a tenth of it the absolute
        # distance is minimised, not its square: bins on an edge hold structure that was not removed.
        weights = 1 / (fitted * np.sqrt(np.maximum(1, distance / 0.1)))
        solution, _ = scipy.optimize.nnls(design / scale * weights[:, None], y * weights)
        fitted = np.maximum(design / scale @ solution, floor)
        distance = np.abs(y / fitted - 1)
    slope, intercept = solution / scale
    return float(slope), float(intercept), float(distance.mean())


def _typical_square(squares: np.ndarray) -> float:
    """Return the mean of squares without glitches, which are few and lie beyond 4 standard deviations."""
    everything = typical = float(squares.mean())
    for _ in range(20):
        typical = float(np.minimum(squares, 16 * typical).mean())
    # Sparse counts lie beyond that as well, but more than one in a hundred of them.
    return typical if np.mean(squares > 16 * typical) < 0.01 else everything
