"""Estimate the noise of the data: its family, gain, readout and correlation along energy.

Differences of neighbouring pixels are only an upper bound of the noise, because their spectra differ too. So
low-rank structure is removed first, and the noise is estimated from the residual.

The residual of the spectra that principal vectors were fitted to is too small, by an amount that depends on
how many of the vectors fitted noise. So the vectors of one half of the spectra are applied to the other half:
vectors of noise take out no more there than any others, and how much noise a given number of vectors takes
out is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.linalg
import scipy.optimize

from hyperspy_specml.exceptions import NegativeCountsError, NotCountsError, OptionError
from hyperspy_specml.statistics._moments import are_whole
from hyperspy_specml.statistics._noise import (
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    gaussian_noise,
    median_ratio,
)
from hyperspy_specml.streaming import side_by_side

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
# Median of chi-squared with one degree of freedom: of the squares of standard normal numbers.
_MEDIAN_OF_SQUARES = 0.4549
# Number of principal vectors that structure can have, at most.
_MAX_VECTORS = 48
# Number of lags along energy, in channels, up to which noise may be correlated.
_N_LAGS = 4
# Lags in channels at which no detector's noise is correlated any more: a correlation there is structure.
_FAR_LAGS = range(9, 17, 2)
# Correlation below which noise is taken as uncorrelated.
_MIN_CORRELATION = 0.03
# Standard deviations that residuals are clipped at before they are correlated.
_CLIPPED = 4.0
# Number of times that structure and correlation are found from each other.
_STRUCTURE_ROUNDS = 4
# Power of correlated noise along its strongest vector, relative to white noise, in the first of these rounds.
_STRONGEST = 8.0


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
    whole = minimum >= 0 and are_whole(rows)
    if noise == "poisson":
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
        return NoiseEstimate(PoissonNoise(), 1.0, None)
    few = rows[:: max(1, len(rows) // _MAX_ROWS)][:_MAX_ROWS].astype(np.float64)
    rest = remove_structure(few, _first_variance(few, minimum))
    # Over the mean of the data, as the structure of few counts is biased to low values.
    total = few.sum(axis=0)
    fano = median_ratio((rest.noise**2).sum(axis=0), total, total)
    error = np.sqrt(2 / few.size + 1 / max(1, total.sum()))  # of fano, for counts
    white = len(rest.correlation) == 1 or abs(rest.correlation[1]) < 0.1
    if noise == "auto" and whole and white:
        # Structure of few spectra of few counts is partly their noise; with that in, structure only adds.
        for one in (fano, _fano_about_mean(few)):
            if abs(one - 1) < _POISSON_FANO + 3 * error:
                return NoiseEstimate(PoissonNoise(), one, None)
    few, rest, model = _refine(few, rest)
    weak, strong = model.variance(np.quantile(rest.mean, [0.05, 0.95]))
    if noise == "gaussian" or (noise == "auto" and strong < (1 + _FLAT) * weak):
        deviation, rounding = float(np.sqrt(_typical_square(rest.noise**2))), _rounding(few)
        correlation = model.correlation if deviation > rounding else (1.0,)
        return NoiseEstimate(gaussian_noise(max(deviation, rounding), correlation), fano, None)
    return NoiseEstimate(model, fano, _low_rank(rows, few, rest.rank, model))


def _fano_about_mean(rows: np.ndarray) -> float:
    """Return the variance over the mean of spectra about the mean spectrum, of their own intensity."""
    total, intensity = rows.sum(axis=0), rows.sum(axis=1, keepdims=True)
    expected = intensity * (total / max(float(total.sum()), 1e-300))
    return median_ratio(((rows - expected) ** 2).sum(axis=0), total, total)


def _first_variance(rows: np.ndarray, minimum: float) -> np.ndarray:
    """Return a first noise variance per channel: the mean for counts, else from neighbouring channels."""
    mean = rows.mean(axis=0)
    if minimum >= 0 and mean.max() > 0:
        return np.maximum(mean, 1e-3 * mean.mean())
    curvature = rows[:, 1:-1] - 0.5 * (rows[:, :-2] + rows[:, 2:]) if rows.shape[1] > 2 else rows
    return np.full(rows.shape[1], _typical_square(curvature**2) / 1.5)


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
    weights = _noise_weights(model.variance(few.mean(axis=0)))
    vectors = _principal_vectors(few * weights)[:, :rank]
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


@dataclass(frozen=True)
class Residual:
    """Spectra without their structure. n spectra, E channels.

    Attributes
    ----------
    mean
        (n, E) the structure.
    noise
        (n, E) the rest, scaled to the variance of the noise.
    correlation
        Noise correlation of channels 0, 1, 2, ... apart; (1,) where there is none.
    rank
        Number of principal vectors that the structure has.
    """

    mean: np.ndarray
    noise: np.ndarray
    correlation: np.ndarray
    rank: int


def remove_structure(rows: np.ndarray, variance: np.ndarray) -> Residual:
    """Separate structure and noise.

    Parameters
    ----------
    rows
        (n, E) spectra, float64.
    variance
        (E,) estimate of the noise variance of each channel.
    """
    weights = _noise_weights(variance)
    white = rows * weights
    others = white[1::2], white[::2]
    bases = side_by_side(*(partial(_principal_vectors, fitted) for fitted in others[::-1]))
    level = min(_level(_split(v, other)[1]) for v, other in zip(bases, others, strict=True))
    # Correlated noise has strong principal vectors of its own. In the first round they are not taken for
    # structure: weak structure that remains hardly changes the correlation, and is taken out once that is
    # known.
    strongest, mean, noise = _STRONGEST, np.empty_like(white), np.empty_like(white)
    sizes: list[int] = []
    for _ in range(_STRUCTURE_ROUNDS):
        chosen = [_above(v, other, level * strongest) for v, other in zip(bases, others, strict=True)]
        if sizes == (sizes := [v.shape[1] for v in chosen]):
            break  # level and correlation stay as they are
        for start, v, other in zip((1, 0), chosen, others, strict=True):
            mean[start::2], noise[start::2] = _split(v, other)
        correlation, fraction = _correlation(noise)
        waves = np.cos(np.outer(np.linspace(0, np.pi, 256), np.arange(len(correlation))))
        level, strongest = _level(noise), float((2 * waves @ correlation - 1).max())
    rank = max(v.shape[1] for v in chosen)
    return Residual(mean / weights, noise * (np.sqrt(fraction) / weights), correlation, rank)


def _noise_weights(variance: np.ndarray) -> np.ndarray:
    """Return (E,) one over the standard deviations, kept finite."""
    return 1 / np.sqrt(np.maximum(variance, max(1e-6 * variance.mean(), 1e-300)))


def _principal_vectors(white: np.ndarray) -> np.ndarray:
    """Return (E, r) orthonormal principal vectors of (n, E) spectra, by falling variance; r is small."""
    n, n_channels = white.shape
    size = min(n, n_channels)
    subset = (size - max(1, min(_MAX_VECTORS, n // 2, n_channels // 8)), size - 1)
    if n_channels <= n:
        return scipy.linalg.eigh(white.T @ white, subset_by_index=subset)[1][:, ::-1]
    values, left = scipy.linalg.eigh(white @ white.T, subset_by_index=subset)
    real = values > 1e-12 * max(values[-1], 1e-300)  # spectra without noise have fewer
    return (white.T @ (left[:, real] / np.sqrt(values[real])))[:, ::-1]


def _above(vectors: np.ndarray, other: np.ndarray, level: float) -> np.ndarray:
    """Return the vectors along which spectra that they were not fitted to vary more than noise can."""
    powers = (other @ vectors) ** 2
    # Glitches add power to every vector, in few spectra: powers are cut at 3 standard deviations.
    powers = np.minimum(powers, 9 / _MEDIAN_OF_SQUARES * np.median(powers, axis=0))
    chosen = powers.mean(axis=0) > level * (1 + 4 * np.sqrt(2 / len(other)))
    chosen[0] = True
    return vectors[:, chosen]


def _split(vectors: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the projection on the vectors, and the rest scaled to the variance that the noise had."""
    along = (spectra @ vectors) @ vectors.T
    kept = np.maximum(1 - (vectors**2).sum(axis=1), 0.1) * (1 + vectors.shape[1] / len(spectra))
    return along, (spectra - along) / np.sqrt(kept)


def _level(noise: np.ndarray) -> float:
    return float(np.median((noise**2).mean(axis=0)))


def _correlation(noise: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the lag correlation, and the fraction of the variance that is noise and not smooth structure.

    The fraction is above 1 where smooth vectors took some noise out with the structure.
    """
    n_channels = noise.shape[1]
    limit = _CLIPPED * np.sqrt(_level(noise))
    clipped = np.clip(noise, -limit, limit)
    clipped -= clipped.mean(axis=0)  # of sparse counts, which are skewed, the tail alone was clipped
    power = np.einsum("ij,ij->j", clipped, clipped)

    def at(lag: int) -> float:
        products = np.einsum("ij,ij->j", clipped[:, lag:], clipped[:, : n_channels - lag])
        scale = np.sqrt(power[lag:] * power[: n_channels - lag])
        return median_ratio(products, scale, scale)

    far = [at(lag) for lag in _FAR_LAGS] if n_channels > 2 * _FAR_LAGS.stop else [0.0]
    structure = float(np.clip(np.median(far), -0.5, 0.9))
    lags = [at(lag) for lag in range(1, min(_N_LAGS, n_channels // 4) + 1)]
    correlation = np.array([1.0, *((np.array(lags) - structure) / (1 - structure))])
    seen = np.abs(correlation) > np.clip(5 / np.sqrt(noise.size), _MIN_CORRELATION, 0.99)
    return correlation[: np.flatnonzero(seen).max() + 1], 1 - structure
