"""What a denoiser took away and noise cannot explain: sums of the residual over windows of energy and space.

The family-wise error of the many tests is held by dividing it by their number (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.stats

_FALSE = 0.01  # probability that a map without any erased feature shows one
_SIDES = (1, 3, 5)  # pixels of the squares, as far as the map has scan axes
_WIDTH_FACTOR = 1.5  # of a window, in widths of the sharpest structure
_MOST_WINDOWS = 128
_SLAB_ROWS = 256  # spectra summed at a time: they stay in the cache
_SKEWED = 0.2  # a shifted Poisson variable stands for sums with so few counts that they are skewed


@dataclass(frozen=True)
class WindowSums:
    """Sums over J windows of E channels: an object, so that it travels to other processes.

    Attributes
    ----------
    starts, stops
        (J,) first channel, and the one after the last.
    channels
        (all channels,) bool, those in use; windows count among them.
    """

    starts: np.ndarray
    stops: np.ndarray
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Return (n, J) sums of (n, all channels) spectra."""
        rows = rows if self.channels.all() else rows[:, self.channels]
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may be anything
            return self.sums(np.asarray(rows))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return (n, J) sums of (n, E) values."""
        sums = np.empty((len(values), len(self.starts)))
        below = np.zeros((min(len(values), _SLAB_ROWS), values.shape[1] + 1))
        for start in range(0, len(values), _SLAB_ROWS):
            slab = values[start : start + _SLAB_ROWS]
            part = below[: len(slab)]
            np.cumsum(slab, axis=1, dtype=np.float64, out=part[:, 1:])
            sums[start : start + _SLAB_ROWS] = part[:, self.stops] - part[:, self.starts]
        return sums


@dataclass(frozen=True)
class ErasedRegion:
    """Neighbouring pixels whose spectra held something that the denoised ones do not.

    Attributes
    ----------
    pixels
        Flat indices.
    start, stop
        Channels, among those in use, where it is strongest.
    intervals
        Ranges of channels in use where the sum over the pixels shows it, that one among them.
    z
        Of the strongest window, in standard deviations; negative where the denoised spectra hold too much.
    excess
        Sum of the residual over the pixels and these channels.
    """

    pixels: np.ndarray = field(repr=False)
    start: int
    stop: int
    intervals: tuple[tuple[int, int], ...]
    z: float
    excess: float


@dataclass(frozen=True)
class Erased:
    """All that was erased.

    Attributes
    ----------
    regions
        By falling strength.
    threshold
        In standard deviations: the strongest of all windows would reach it by chance in one map of a hundred.
    """

    regions: tuple[ErasedRegion, ...]
    threshold: float


def channel_windows(line_width: float, channels: np.ndarray) -> WindowSums:
    """Cover the channels in use with windows that overlap by half.

    Parameters
    ----------
    line_width
        Of the sharpest structure, in channels.
    channels
        (all channels,) bool, those in use.
    """
    n_channels = int(channels.sum())
    width = max(1.0, _WIDTH_FACTOR * line_width, 2 * n_channels / _MOST_WINDOWS)
    starts = np.unique(np.arange(0, max(1, n_channels - width / 2), max(1.0, width / 2)).astype(int))
    return WindowSums(starts, np.minimum(starts + max(1, round(width)), n_channels), channels)


Look = Callable[[Any, slice], tuple[np.ndarray, np.ndarray, np.ndarray | None]]
"""From n of the flat pixels and m of the windows to (n, m) sums over the windows.

They are of data minus denoised data, of their noise variance and, where only errors of the denoiser make
denoised data negative, of these (else None): what is below zero is no counts that were erased. Maps of all
windows would take more memory than all else.
"""


def find_erased(look: Look, valid: np.ndarray, windows: WindowSums, *, gain: float) -> Erased:
    r"""Find what noise cannot explain.

    Parameters
    ----------
    look
        See `Look`.
    valid
        (\*navigation,) bool.
    windows
        The windows.
    gain
        Signal units per count; 0 for noise that is not from counting.
    """
    n_windows = len(windows.starts)
    n_tests = max(1, int(valid.sum())) * n_windows * len(_SIDES)
    threshold = float(scipy.stats.norm.isf(_FALSE / 2 / n_tests))
    strongest = np.zeros(valid.shape, np.float32)
    at = np.zeros(valid.shape, np.int32)
    for j in range(n_windows):
        looked = look(slice(None), slice(j, j + 1))
        residual, variance = (np.where(valid, values.reshape(valid.shape), 0) for values in looked[:2])
        clean = None if looked[2] is None else np.where(valid, looked[2].reshape(valid.shape), 0)
        for side in _SIDES:
            excess = _square_sum(residual, side)
            if clean is not None:
                excess += np.minimum(_square_sum(clean, side), 0)
            noise = _square_sum(variance, side)
            candidates = valid & _may_exceed(excess, noise, threshold, gain)
            z = np.zeros(valid.shape, np.float32)
            z[candidates] = _deviate(excess[candidates], noise[candidates], gain)
            better = np.abs(z) > np.abs(strongest)
            strongest[better], at[better] = z[better], j
    labels, _ = scipy.ndimage.label(np.abs(strongest) > threshold, np.ones((3,) * valid.ndim))
    regions = []
    for number, box in enumerate(scipy.ndimage.find_objects(labels), start=1):
        inside = labels[box] == number
        peak = np.unravel_index(np.argmax(np.where(inside, np.abs(strongest[box]), 0)), inside.shape)
        j = int(at[box][peak])
        corner = [s.start for s in box]
        places = np.argwhere(inside).T + np.array(corner)[:, None]
        pixels = np.ravel_multi_index(tuple(places), valid.shape)
        residual, variance, clean = look(pixels, slice(None))
        sums, noise = residual.sum(axis=0), variance.sum(axis=0)
        if clean is not None:
            sums = sums + np.minimum(clean.sum(axis=0), 0)
        regions.append(
            ErasedRegion(
                pixels, int(windows.starts[j]), int(windows.stops[j]),
                _intervals(_deviate(sums, noise, gain), threshold, j, windows), float(strongest[box][peak]),
                float(sums[j]),
            )
        )  # fmt: skip
    regions.sort(key=lambda region: -abs(region.z))
    return Erased(tuple(regions), threshold)


def _intervals(
    z: np.ndarray, threshold: float, strongest: int, windows: WindowSums
) -> tuple[tuple[int, int], ...]:
    """Return the unions of neighbouring windows that are beyond the threshold."""
    beyond = np.abs(z) > threshold
    beyond[strongest] = True
    runs, n_runs = scipy.ndimage.label(beyond)
    return tuple(
        (int(windows.starts[runs == run].min()), int(windows.stops[runs == run].max()))
        for run in range(1, n_runs + 1)
    )


def _square_sum(values: np.ndarray, side: int) -> np.ndarray:
    size = [min(side, n) for n in values.shape]
    mean = scipy.ndimage.uniform_filter(values, size, mode="constant", output=np.float64)
    return mean * np.prod(size)


def _may_exceed(residual: np.ndarray, variance: np.ndarray, threshold: float, gain: float) -> np.ndarray:
    """Return where `_deviate` may be beyond the threshold, in a tenth of its time.

    The root of a Poisson deviance is at most the square root of two times the plain deviate.
    """
    least = max(_SKEWED * gain**2, 1e-12)
    return 2 * np.square(residual) >= threshold**2 * np.maximum(variance, least)


def _deviate(residual: np.ndarray, variance: np.ndarray, gain: float) -> np.ndarray:
    """Return the signed root of the Poisson deviance of the counts that have this variance."""
    variance = np.maximum(variance, 1e-12)
    if gain <= 0:
        return residual / np.sqrt(variance)
    expected = np.maximum(variance / gain**2, _SKEWED)
    counts = np.maximum(expected + residual / gain, 0)
    deviance = counts * np.log(np.maximum(counts, 1e-30) / expected) - (counts - expected)
    return np.sign(counts - expected) * np.sqrt(2 * np.maximum(deviance, 0))
