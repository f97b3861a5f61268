"""Take low-rank structure out of spectra, so that the residual has the variance of their noise.

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

from hyperspy_specml.streaming import side_by_side

# Median of chi-squared with one degree of freedom: of the squares of standard normal numbers.
_MEDIAN_OF_SQUARES = 0.4549
# Number of principal vectors that structure can have, at most.
_MAX_VECTORS = 48
# Number of groups of channels whose median is taken: an edge, a hot channel or a glitch spoils few of them.
_N_GROUPS = 32
# Number of lags along energy, in channels, up to which noise may be correlated.
_N_LAGS = 4
# Lags in channels at which no detector's noise is correlated any more: a correlation there is structure.
_FAR_LAGS = range(9, 17, 2)
# Correlation below which noise is taken as uncorrelated.
_MIN_CORRELATION = 0.03
# Standard deviations beyond which a value is a glitch.
_GLITCH = 4.0
# Number of times that structure and correlation are found from each other.
_ROUNDS = 4
# Power of correlated noise along its strongest vector, relative to white noise, in the first of these rounds.
_STRONGEST = 8.0


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
    weights = noise_weights(variance)
    white = rows * weights
    halves = [(white[::2], white[1::2]), (white[1::2], white[::2])]
    bases = side_by_side(*(partial(leading_vectors, fitted) for fitted, _ in halves))
    level = min(_level(_split(v, other)[1]) for v, (_, other) in zip(bases, halves, strict=True))
    # Correlated noise has strong principal vectors of its own. In the first round they are not taken for
    # structure: weak structure that remains hardly changes the correlation, and is taken out once that is
    # known.
    strongest = _STRONGEST
    mean, noise = np.empty_like(white), np.empty_like(white)
    for _ in range(_ROUNDS):
        chosen = [_above(v, other, level * strongest) for v, (_, other) in zip(bases, halves, strict=True)]
        for start, v, (_, other) in zip((1, 0), chosen, halves, strict=True):
            mean[start::2], noise[start::2] = _split(v, other)
        correlation, fraction = _correlation(noise)
        level, strongest = _level(noise), _strongest(correlation)
    rank = max(v.shape[1] for v in chosen)
    return Residual(mean / weights, noise * (np.sqrt(fraction) / weights), correlation, rank)


def noise_weights(variance: np.ndarray) -> np.ndarray:
    """Return (E,) one over the standard deviations, kept finite."""
    return 1 / np.sqrt(np.maximum(variance, max(1e-6 * variance.mean(), 1e-300)))


def leading_vectors(white: np.ndarray) -> np.ndarray:
    """Return (E, r) orthonormal principal vectors of (n, E) spectra, by falling variance; r is small."""
    n, n_channels = white.shape
    size = min(n, n_channels)
    subset = (size - max(1, min(_MAX_VECTORS, n // 2, n_channels // 8)), size - 1)
    if n_channels <= n:
        return scipy.linalg.eigh(white.T @ white, subset_by_index=subset)[1][:, ::-1]
    values, left = scipy.linalg.eigh(white @ white.T, subset_by_index=subset)
    real = values > 1e-12 * max(values[-1], 1e-300)  # spectra without noise have fewer
    return (white.T @ (left[:, real] / np.sqrt(values[real])))[:, ::-1]


def median_ratio(numerator: np.ndarray, denominator: np.ndarray, order: np.ndarray) -> float:
    """Return the ratio of two sums over channels: the median over groups of channels with like `order`."""
    groups = np.array_split(np.argsort(order, kind="stable"), min(_N_GROUPS, len(order)))
    ratios = [numerator[g].sum() / denominator[g].sum() for g in groups if denominator[g].sum() > 0]
    return float(np.median(ratios)) if ratios else 0.0


def _above(vectors: np.ndarray, other: np.ndarray, level: float) -> np.ndarray:
    """Return the vectors along which spectra that they were not fitted to vary more than noise can."""
    powers = (other @ vectors) ** 2
    # Glitches add power to every vector, in few spectra: powers are cut at 3 standard deviations.
    powers = np.minimum(powers, 9 / _MEDIAN_OF_SQUARES * np.median(powers, axis=0))
    chosen = powers.mean(axis=0) > level * (1 + 4 * np.sqrt(2 / len(other)))
    chosen[0] = True
    return vectors[:, chosen]


def _strongest(correlation: np.ndarray) -> float:
    """Return the largest spectral power of correlated noise, relative to white noise."""
    waves = np.cos(np.outer(np.linspace(0, np.pi, 256), np.arange(len(correlation))))
    return float((2 * waves @ correlation - 1).max())


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
    limit = _GLITCH * np.sqrt(_level(noise))
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
