"""Random numbers that are a function of (seed, stream, pixel, channel) alone.

A generator that is advanced call by call gives other numbers for other chunks or threads. Here every
number is addressed by its counter: the SplitMix64 output function applied to key + counter * odd
constant, which is that generator's own sequence with random access.

References
----------
G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_CHANNEL_BITS = np.uint64(24)  # spectra of up to 16.7 million channels


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


def normal(seed: int, stream: int, pixels: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Return standard normal numbers, float32; see `uniform`."""
    return ndtri(uniform(seed, stream, pixels, channels)).astype(np.float32)


def choose_pixels(seed: int, n_pixels: int, n_wanted: int) -> np.ndarray:
    """Return sorted flat indices of a random sample of the pixels, all of them if they are few."""
    if n_pixels <= n_wanted:
        return np.arange(n_pixels)
    chosen = np.random.default_rng([seed & 0xFFFFFFFF, n_pixels]).choice(n_pixels, n_wanted, replace=False)
    return np.sort(chosen)


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
