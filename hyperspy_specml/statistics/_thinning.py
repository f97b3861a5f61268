"""Split counts, or values with Gaussian noise, into independent folds that sum to them.

Counts are thinned binomially, which is exact for Poisson data (a Poisson count thinned with probability
f and its rest are independent). Gaussian values are split so that fold k has mean f_k * mu and
covariance f_k * Sigma, and all folds are uncorrelated: the same two facts, so everything after a split
treats both alike.

References
----------
A. Neufeld et al., "Data thinning for convolution-closed distributions", JMLR 25 (2024) 57.
J. Batson, L. Royer, J. Webber, "Molecular cross-validation for single-cell RNA-seq", bioRxiv 786269.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr

from hyperspy_specml.statistics._random import normal, uniform

_SLAB = 1 << 21  # elements worked on at a time: the index arrays of a slab stay in tens of MB
_LOW_BITS = 12  # larger counts are thinned as a sum of powers of two, so the tables stay small


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
        Expected share of each fold; they sum to one.
    seed, stream
        Address of the random numbers.

    Returns
    -------
    one array per fraction, of the shape and dtype of `counts`, summing to `counts`
    """
    folds = [np.zeros(counts.shape, counts.dtype) for _ in fractions]
    step = max(1, _SLAB // counts.shape[1])
    for start in range(0, len(counts), step):
        rows = slice(start, start + step)
        row, channel = np.nonzero(counts[rows])
        rest = counts[rows][row, channel].astype(np.int64)
        rest_of_fractions = 1.0
        for k, fraction in enumerate(fractions[:-1]):
            share = min(1.0, fraction / rest_of_fractions)
            taken = _binomial(rest, share, seed, (stream + k) * 64, pixels[rows][row], channel)
            folds[k][rows][row, channel] = taken
            rest = rest - taken
            rest_of_fractions -= fraction
        folds[-1][rows][row, channel] = rest
    return folds


def _binomial(
    n: np.ndarray, p: float, seed: int, stream: int, pixels: np.ndarray, channels: np.ndarray
) -> np.ndarray:
    low = (n & ((1 << _LOW_BITS) - 1)).astype(np.uint16)
    taken = _binomial_quantile(low, p, uniform(seed, stream, pixels, channels))
    high = n >> _LOW_BITS
    bit = 0
    while high.any():
        # B(n) is the sum of independent B(2**k) over the binary digits of n.
        which = np.flatnonzero(high & 1)
        u = uniform(seed, stream + 1 + bit, pixels[which], channels[which])
        trials = np.full(len(which), 1 << (_LOW_BITS + bit), dtype=np.int64)
        taken[which] += _binomial_quantile(trials, p, u)
        high = high >> 1
        bit += 1
    return taken


def _binomial_quantile(n: np.ndarray, p: float, u: np.ndarray) -> np.ndarray:
    order = np.argsort(n, kind="stable")
    values, starts = np.unique(n[order], return_index=True)
    taken = np.zeros(len(n), dtype=np.int64)
    for value, group in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
        if value == 0:
            continue
        # Beyond 12 standard deviations lies less than the resolution of u.
        spread = 12 * np.sqrt(value * p * (1 - p)) + 12
        k = np.arange(max(0, int(value * p - spread)), min(value, int(value * p + spread)) + 1)
        taken[group] = k[0] + np.minimum(np.searchsorted(bdtr(k, value, p), u[group]), len(k) - 1)
    return taken


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
    values = np.asarray(values, dtype=np.float32)
    scale = np.sqrt(variance).astype(np.float32)
    kernel = correlation_kernel(correlation)
    # z_k ~ N(0, Sigma / f_k); fold k = f_k * (x - sum_l f_l z_l + z_k) has covariance f_k * Sigma and
    # none with the other folds.
    noises = [
        scale * _correlated_normal(values.shape, pixels, kernel, seed, stream + k) / np.float32(np.sqrt(f))
        for k, f in enumerate(fractions)
    ]
    common = values - sum(np.float32(f) * z for f, z in zip(fractions, noises, strict=True))
    return [np.float32(f) * (common + z) for f, z in zip(fractions, noises, strict=True)]


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
    half = 8 * len(correlation)
    kernel = np.roll(np.fft.irfft(np.sqrt(power), n), half)[: 2 * half + 1]
    return kernel / np.sqrt(np.sum(kernel**2))


def _correlated_normal(
    shape: tuple[int, int], pixels: np.ndarray, kernel: np.ndarray, seed: int, stream: int
) -> np.ndarray:
    n_extra = len(kernel) - 1
    channels = np.arange(shape[1] + n_extra)
    out = np.empty(shape, dtype=np.float32)
    step = max(1, _SLAB // len(channels))
    for start in range(0, shape[0], step):
        z = normal(seed, stream, pixels[start : start + step, None], channels[None])
        if n_extra == 0:
            out[start : start + step] = z
            continue
        width = 2 ** int(np.ceil(np.log2(len(channels))))
        spectrum = np.fft.rfft(z, width) * np.fft.rfft(kernel, width)
        out[start : start + step] = np.fft.irfft(spectrum, width)[:, n_extra : len(channels)]
    return out
