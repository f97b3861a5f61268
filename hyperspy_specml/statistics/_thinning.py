"""Split counts, or values with Gaussian noise, into independent folds that sum to them.

Counts are thinned binomially, which is exact for Poisson data (a Poisson count thinned with probability
f and its rest are independent). Gaussian values are split so that fold k has mean f_k * mu and
covariance f_k * Sigma, and all folds are uncorrelated: the same two facts, so everything after a split
treats both alike.

Random numbers are a function of (seed, stream, pixel, channel) alone: a generator that is advanced call by
call would give others for other chunks or threads. Every number is the SplitMix64 output function of key +
counter * odd constant, which is that generator's own sequence with random access.

References
----------
G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
A. Neufeld et al., "Data thinning for convolution-closed distributions", JMLR 25 (2024) 57.
J. Batson, L. Royer, J. Webber, "Molecular cross-validation for single-cell RNA-seq", bioRxiv 786269.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import convolve1d
from scipy.special import bdtr, ndtri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Number of values worked on at a time: their index arrays stay in tens of MB.
_SLAB = 1 << 20
# Counts with more binary digits are thinned as a sum of powers of two, so the tables stay few and small.
_LOW_BITS = 12
# Number of counts from which a binomial law is taken as normal: they differ by 1e-4 standard deviations.
_MAX_TABULATED = 1 << 24
# Number of random numbers that one split of one value may need: one per binary digit, and one more.
_STREAMS = 64

# Constants of SplitMix64.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
# Binary digits of the counter that are the channel: spectra of up to 16.7 million channels.
_CHANNEL_BITS = np.uint64(24)


def uniform(seed: int, stream: int, pixels: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Return uniform numbers in the open interval (0, 1), float64.

    Parameters
    ----------
    seed
        Seed of the analysis.
    stream
        Which of several independent numbers of the same pixel and channel is wanted.
    pixels, channels
        Integer arrays that broadcast; the result has their common shape.
    """
    counter = (pixels.astype(np.uint64) << _CHANNEL_BITS) + channels.astype(np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        key = _mix(_mix(np.uint64(seed & 0xFFFFFFFFFFFFFFFF)) + np.uint64(stream + 1) * _GOLDEN)
        bits = _mix(key + counter * _GOLDEN)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def standard_normal(seed: int, stream: int, pixels: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Return standard normal numbers, float32; see `uniform`."""
    return ndtri(uniform(seed, stream, pixels, channels)).astype(np.float32)


def thin_counts(
    counts: np.ndarray, pixels: np.ndarray, fractions: Sequence[float], *, seed: int, stream: int = 0
) -> list[np.ndarray]:
    """Split integer counts into independent folds, exactly.

    Parameters
    ----------
    counts
        (n, E) non-negative whole numbers of any dtype.
    pixels
        (n,) flat indices of the spectra in their map: the split depends on them, not on the block.
    fractions
        Expected part of the counts in each fold; they sum to one.
    seed, stream
        Address of the random numbers.

    Returns
    -------
    one array per fraction, of the shape and dtype of `counts`, summing to `counts`
    """
    folds = [np.zeros(counts.shape, counts.dtype) for _ in fractions]
    for rows in _slabs(counts.shape):
        where = np.flatnonzero(counts[rows])
        row, channel = np.divmod(where, counts.shape[1])
        values = counts[rows].reshape(-1)[where].astype(np.int64)
        thinned = _thin(values, fractions, seed, stream, pixels[rows][row], channel)
        for fold, part in zip(folds, thinned, strict=True):
            some = np.flatnonzero(part)
            fold[rows].reshape(-1)[where[some]] = part[some]
    return folds


def _thin(
    counts: np.ndarray, fractions: Sequence[float], seed: int, stream: int, pixels: np.ndarray, channels: np.ndarray
) -> np.ndarray:
    """Return the (folds, n) parts of (n,) counts."""
    parts = np.zeros((len(fractions), len(counts)), dtype=np.int64)
    # Sparse maps hold single counts almost everywhere: one number says which fold takes it.
    one = np.flatnonzero(counts == 1)
    u = uniform(seed, (stream + 1) * _STREAMS - 1, pixels[one], channels[one])
    parts[np.searchsorted(np.cumsum(fractions)[:-1], u), one] = 1
    more = np.flatnonzero(counts > 1)
    rest, rest_of_fractions = counts[more], 1.0
    for k, fraction in enumerate(fractions[:-1]):
        p = min(1.0, fraction / rest_of_fractions)
        taken = _binomial(rest, p, seed, (stream + k) * _STREAMS, pixels[more], channels[more])
        parts[k, more] = taken
        rest = rest - taken
        rest_of_fractions -= fraction
    parts[-1, more] = rest
    return parts


def _binomial(n: np.ndarray, p: float, seed: int, stream: int, pixels: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Return a binomial number of each of `n` trials, a function of the address alone."""
    u = uniform(seed, stream, pixels, channels)
    low = n & ((1 << _LOW_BITS) - 1)
    order = np.argsort(low.astype(np.uint16), kind="stable")
    values, starts = np.unique(low[order], return_index=True)
    taken = np.zeros(len(n), dtype=np.int64)
    for value, bounds in zip(values.tolist(), pairwise([*starts, len(n)]), strict=True):
        group = order[slice(*bounds)]
        taken[group] = _binomial_quantile(value, p, u[group])
    # B(n) is the sum of independent B(2**bit) over the binary digits of n.
    for bit in range(_LOW_BITS, int(n.max(initial=0)).bit_length()):
        which = np.flatnonzero(n >> bit & 1)
        u = uniform(seed, stream + 1 + bit - _LOW_BITS, pixels[which], channels[which])
        taken[which] += _binomial_quantile(1 << bit, p, u)
    return taken


def _binomial_quantile(n: int, p: float, u: np.ndarray) -> np.ndarray:
    mean, deviation = n * p, np.sqrt(n * p * (1 - p))
    if n > _MAX_TABULATED:
        return np.clip(np.rint(mean + deviation * ndtri(u)), 0, n).astype(np.int64)
    # Beyond 12 standard deviations the probability is less than the resolution of u.
    reach = 12 * deviation + 12
    k = np.arange(max(0, int(mean - reach)), min(n, int(mean + reach)) + 1)
    return k[0] + np.minimum(np.searchsorted(bdtr(k, n, p), u), len(k) - 1)


def split_gaussian(
    values: np.ndarray,
    pixels: np.ndarray,
    fractions: Sequence[float],
    *,
    variance: np.ndarray,
    correlation: np.ndarray,
    seed: int,
    stream: int = 0,
) -> list[np.ndarray]:
    """Split values with Gaussian noise of known covariance into independent folds.

    Parameters
    ----------
    values
        (n, E) real values.
    pixels, fractions, seed, stream
        As in `thin_counts`.
    variance
        Noise variance, broadcastable to (n, E).
    correlation
        Correlation of the noise of channels 0, 1, 2, ... apart; starts with 1.

    Returns
    -------
    one float32 array per fraction, summing to `values`
    """
    folds = [np.empty(values.shape, np.float32) for _ in fractions]
    variance = np.broadcast_to(variance, values.shape)
    kernel = correlation_kernel(correlation)
    for rows in _slabs(values.shape):
        # z_k ~ N(0, Sigma / f_k); fold k = f_k * (x - sum_l f_l z_l + z_k) has covariance f_k * Sigma and
        # none with the other folds.
        scale = np.sqrt(variance[rows]).astype(np.float32)
        noises = [
            _correlated_normal(pixels[rows], values.shape[1], kernel, seed, stream + k) for k in range(len(fractions))
        ]
        for f, z in zip(fractions, noises, strict=True):
            z *= scale / np.float32(np.sqrt(f))
        common = values[rows].astype(np.float32)
        for f, z in zip(fractions, noises, strict=True):
            common -= np.float32(f) * z
        for fold, f, z in zip(folds, fractions, noises, strict=True):
            fold[rows] = np.float32(f) * (common + z)
    return folds


def correlation_kernel(correlation: np.ndarray) -> np.ndarray:
    """Return the symmetric filter that gives white noise these lag correlations (its square root)."""
    correlation = np.asarray(correlation, dtype=np.float64)
    if len(correlation) == 1:
        return np.ones(1)
    n = 64 * len(correlation)
    circular = np.zeros(n)
    circular[: len(correlation)] = correlation
    circular[-len(correlation) + 1 :] = correlation[:0:-1]
    # An estimated sequence need not be a covariance: its negative power is cut.
    power = np.clip(np.fft.rfft(circular).real, 0, None)
    half = 4 * len(correlation)
    kernel = np.roll(np.fft.irfft(np.sqrt(power), n), half)[: 2 * half + 1]
    return kernel / np.sqrt(np.sum(kernel**2))


def _correlated_normal(pixels: np.ndarray, n_channels: int, kernel: np.ndarray, seed: int, stream: int) -> np.ndarray:
    half = len(kernel) // 2
    z = standard_normal(seed, stream, pixels[:, None], np.arange(n_channels + 2 * half)[None])
    return convolve1d(z, kernel, axis=1)[:, half : half + n_channels] if half else z


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, _SLAB // max(1, shape[1]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
