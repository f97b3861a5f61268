"""Noise models: how values vary about their mean, how to split them, how to score a prediction.

All models have the same methods, so that nothing else in the package asks which noise it deals with. A fold
of fraction f has mean f * mu and variance f * variance(mu), and is independent of the other folds.

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

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import convolve1d
from scipy.special import bdtr, ndtri

from hyperspy_specml.statistics._moments import row_slabs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Mean = np.ndarray | None

# Smallest prediction that is scored, relative to the mean of the channel: one count where a candidate
# predicted none must not decide a comparison. The same floor serves all candidates.
PREDICTION_FLOOR = 1e-3
# Mean of the Poisson variable that stands for a window, at most: with so many counts it is a normal variable.
MOST_COUNTS = 1e4
# Fraction of values above zero up to which only these are visited, which is faster then.
_SPARSE = 0.15
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


class _Noise:
    """What the noise models share: splits are made in slabs of spectra."""

    _split_slab: Callable[..., Sequence[np.ndarray] | np.ndarray]

    def split(
        self,
        values: np.ndarray,
        pixels: np.ndarray,
        fractions: Sequence[float],
        *,
        seed: int,
        stream: int = 0,
        mean: Mean = None,
    ) -> list[np.ndarray]:
        """Split values into independent folds.

        Parameters
        ----------
        values
            (n, E) values; counts are non-negative whole numbers of any dtype.
        pixels
            (n,) flat indices of the spectra in their map: the split depends on them, not on the block.
        fractions
            Expected part of the counts in each fold; they sum to one.
        seed, stream
            Address of the random numbers.
        mean
            Mean of each value, broadcastable to (n, E); needed where the variance of values depends on it
            that are not counts.

        Returns
        -------
        one array per fraction, of the shape of `values` and summing to them; of their dtype if they are counts,
        else float32
        """
        mean = np.broadcast_to(0.0 if mean is None else mean, values.shape)
        folds: list[np.ndarray] = []
        for rows in row_slabs(values.shape, _SLAB):
            parts = self._split_slab(values[rows], pixels[rows], fractions, mean[rows], seed, stream)
            folds = folds or [np.empty(values.shape, part.dtype) for part in parts]
            for fold, part in zip(folds, parts, strict=True):
                fold[rows] = part
        return folds


# Number of groups of channels whose median is taken: an edge, a hot channel or a glitch spoils few of them.
_N_GROUPS = 32


@dataclass(frozen=True)
class PoissonNoise(_Noise):
    """Independent counts: the variance is the mean.

    Attributes
    ----------
    name
        As users give it.
    correlation
        Correlation of the noise of channels 0, 1, 2, ... apart.
    """

    name: str = "poisson"
    correlation: tuple[float, ...] = (1.0,)

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """Return the mean itself, negative values as 0."""
        return np.maximum(mean, 0)

    def _split_slab(
        self, values: np.ndarray, pixels: np.ndarray, fractions: Sequence[float], mean: np.ndarray, *address: int
    ) -> np.ndarray:
        where = np.flatnonzero(values)
        row, channel = np.divmod(where, values.shape[1])
        counts = values.reshape(-1)[where].astype(np.int64)
        folds = np.zeros((len(fractions), values.size), values.dtype)
        folds[:, where] = _thin(counts, fractions, pixels[row], channel, *address)
        return folds.reshape(-1, *values.shape)

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return the (n,) float64 deviances of (n, E) values of a fold from its predicted mean.

        The prediction must be positive where counts are.
        """
        prediction = prediction.astype(np.float32, copy=False)
        if np.count_nonzero(fold) > _SPARSE * fold.size:
            # The terms of the sum are large and cancel: they are combined channel by channel.
            ratio = np.divide(fold, prediction, dtype=np.float32)
            terms = np.log(np.maximum(ratio, np.finfo(np.float32).tiny, out=ratio), out=ratio)
            terms *= fold
            terms += prediction - fold
            return 2 * terms.sum(axis=1, dtype=np.float64)
        # Without counts y log(y / mu) is 0. NumPy finds what is true in a flat array 15 times faster than
        # what is not zero in a table.
        where = np.flatnonzero(fold != 0)
        y = fold.reshape(-1)[where].astype(np.float32)
        terms = y * np.log(y / prediction.reshape(-1)[where]) - y
        counted = np.bincount(where // fold.shape[1], weights=terms, minlength=len(fold))
        return 2 * (counted + prediction.sum(axis=1))

    def to_dict(self) -> dict:
        """Return the name, for reports and model files: there are no parameters."""
        return {"name": self.name}


@dataclass(frozen=True)
class PoissonGaussianNoise(_Noise):
    """Variance = gain * (mean - offset) + readout**2, correlated along energy.

    Attributes
    ----------
    gain
        Signal units per primary count, >= 0; 0 makes the noise the same everywhere ("gaussian").
    readout
        Standard deviation of the part that does not depend on the signal, in signal units, >= 0.
    correlation
        Correlation of the noise of channels 0, 1, 2, ... apart; starts with 1.
    offset
        Signal without any counts (a dark level that was not subtracted), in signal units; 0 where the
        data do not show one.
    """

    gain: float
    readout: float
    correlation: tuple[float, ...] = (1.0,)
    offset: float = 0.0
    name: str = "poisson-gaussian"

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """Return gain * (mean - offset) + readout**2, means below the offset taken as the offset."""
        return np.asarray(self.gain * np.maximum(mean - self.offset, 0) + self.readout**2)

    def _split_slab(
        self, values: np.ndarray, pixels: np.ndarray, fractions: Sequence[float], mean: np.ndarray, *address: int
    ) -> list[np.ndarray]:
        # z_k ~ N(0, Sigma / f_k); fold k = f_k * (x - sum_l f_l z_l + z_k) has covariance f_k * Sigma and
        # none with the other folds.
        scale, kernel = np.sqrt(self.variance(mean)).astype(np.float32), correlation_kernel(self.correlation)
        (seed, stream), common, noises = address, values.astype(np.float32), []
        for k, f in enumerate(fractions):
            z = _correlated_normal(pixels, values.shape[1], kernel, seed, stream + k)
            z *= scale / np.float32(np.sqrt(f))
            common -= np.float32(f) * z
            noises.append(z)
        return [np.float32(f) * (common + z) for f, z in zip(fractions, noises, strict=True)]

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return the (n,) float64 squared errors over `variance` (of the fold), summed over channels."""
        return np.asarray(np.sum((fold - prediction) ** 2 / variance, axis=1, dtype=np.float64))

    def to_dict(self) -> dict:
        """Return name and parameters as plain numbers, for reports and model files."""
        return {"name": self.name} | asdict(self) | {"correlation": list(self.correlation)}


NoiseModel = PoissonNoise | PoissonGaussianNoise
"""Any noise model."""


def gaussian_noise(readout: float, correlation: tuple[float, ...] = (1.0,)) -> PoissonGaussianNoise:
    """Return noise of the same variance everywhere."""
    return PoissonGaussianNoise(0.0, readout, correlation, name="gaussian")


def noise_from_dict(parameters: dict) -> NoiseModel:
    """Return the noise model that its `to_dict` described."""
    if parameters["name"] == "poisson":
        return PoissonNoise()
    numbers = {key: float(parameters[key]) for key in ("gain", "readout", "offset")}
    return PoissonGaussianNoise(**numbers, correlation=tuple(parameters["correlation"]), name=parameters["name"])


def gain_of(noise: NoiseModel) -> float:
    """Return by how much the variance grows with the mean: signal units per count."""
    return float(getattr(noise, "gain", 1.0))


def unit_of(variance: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return what one count stands for in a Poisson variable of this variance; of many it is a normal one."""
    return np.maximum(gain_of(noise), np.sqrt(variance / MOST_COUNTS))


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


def _thin(
    counts: np.ndarray, fractions: Sequence[float], pixels: np.ndarray, channels: np.ndarray, seed: int, stream: int
) -> np.ndarray:
    """Return the (folds, n) parts of (n,) counts."""
    parts = np.zeros((len(fractions), len(counts)), dtype=np.int64)
    # Sparse maps hold single counts almost everywhere: one number says which fold takes it.
    one, more = np.flatnonzero(counts == 1), np.flatnonzero(counts > 1)
    u = uniform(seed, (stream + 1) * _STREAMS - 1, pixels[one], channels[one])
    parts[np.searchsorted(np.cumsum(fractions)[:-1], u), one] = 1
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


def plausible_mean(mean: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return means without the negative ones that counts cannot have; of signed data as they are."""
    return np.maximum(mean, 0) if gain_of(noise) else mean


def draw_noise(mean: np.ndarray, noise: NoiseModel, rng: np.random.Generator) -> np.ndarray:
    """Return (..., E) data of these means: whole numbers of counts, or single-precision values.

    Parameters
    ----------
    mean
        (..., E) means; counts of a negative mean are 0.
    noise
        Noise model.
    rng
        Source of randomness.
    """
    mean = plausible_mean(mean, noise)
    if noise.name == "poisson":
        return rng.poisson(mean).astype(np.int32)
    values = rng.standard_normal(mean.shape, dtype=np.float32)
    values = convolve1d(values, correlation_kernel(noise.correlation), axis=-1)
    return (mean + values * np.sqrt(noise.variance(mean))).astype(np.float32)


def correlation_kernel(correlation: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the symmetric filter that gives white noise these lag correlations (its square root)."""
    if len(correlation) == 1:
        return np.ones(1)
    n, half = 64 * len(correlation), 4 * len(correlation)
    circular = np.zeros(n)
    circular[: len(correlation)] = correlation
    circular[-len(correlation) + 1 :] = correlation[:0:-1]
    # An estimated sequence need not be a covariance: its negative power is cut.
    power = np.clip(np.fft.rfft(circular).real, 0, None)
    kernel = np.roll(np.fft.irfft(np.sqrt(power), n), half)[: 2 * half + 1]
    return kernel / np.sqrt(np.sum(kernel**2))


def _correlated_normal(pixels: np.ndarray, n_channels: int, kernel: np.ndarray, seed: int, stream: int) -> np.ndarray:
    half = len(kernel) // 2
    u = uniform(seed, stream, pixels[:, None], np.arange(n_channels + 2 * half)[None])
    z = ndtri(u).astype(np.float32)
    return convolve1d(z, kernel, axis=1)[:, half : half + n_channels] if half else z


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def median_ratio(numerator: np.ndarray, denominator: np.ndarray, order: np.ndarray) -> float:
    """Return the ratio of two sums over channels: the median over groups of channels with like `order`."""
    groups = np.array_split(np.argsort(order, kind="stable"), min(_N_GROUPS, len(order)))
    ratios = [numerator[g].sum() / denominator[g].sum() for g in groups if denominator[g].sum() > 0]
    return float(np.median(ratios)) if ratios else 0.0
