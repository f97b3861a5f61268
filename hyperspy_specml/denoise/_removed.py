"""Removed signal that noise cannot explain: sums of the residual over windows of energy and space.

The probability of any false region in a map is held by dividing it by the number of sums tested (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage
import scipy.stats

from hyperspy_specml.statistics import Windows

if TYPE_CHECKING:
    from hyperspy_specml.progress import Progress

# Probability that a map without any removed signal shows a region.
_FALSE_ALARM = 0.01
# Sides of the squares of pixels that are summed, as far as the map has scan axes.
_SIDES = (1, 3, 5)
# Width of a window of energies, relative to that of the sharpest line: holds a Gaussian line but for 8 %.
_WIDTH_FACTOR = 1.5
# Windows at most; finer ones would take more memory than they gain.
_MOST_WINDOWS = 128
# Expected counts of a sum from which on a Poisson variable describes it; a rarer one is treated as if it had
# these.
_LEAST_COUNTS = 0.2
# Smallest noise variance of a sum, in squared units of the data: it is divided by.
_TINY = 1e-12


@dataclass(frozen=True)
class RemovedRegion:
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


def overlapping_windows(n_channels: int, line_width: float) -> Windows:
    """Cover the channels in use with windows of one width that overlap by half.

    Parameters
    ----------
    n_channels
        Number of them.
    line_width
        Full width at half maximum of the sharpest line, in channels.
    """
    width = max(1.0, _WIDTH_FACTOR * line_width, 2 * n_channels / _MOST_WINDOWS)
    starts = np.unique(np.arange(0, max(1, n_channels - width / 2), max(1.0, width / 2)).astype(int))
    stops = np.minimum(starts + max(1, round(width)), n_channels)
    return Windows(starts, stops, (starts + stops - 1) / 2, stops - starts)


WindowSums = Callable[[Any, slice], tuple[np.ndarray, np.ndarray, np.ndarray | None]]
"""From n of the flat pixels and m of the windows to three (n, m) sums over the windows.

Of data minus denoised data, of their noise variance and, for counts, of the denoised data (else None): where
these are negative, that is an error of the denoiser, and no counts were removed. Held for all windows at once
they would take more memory than all else.
"""


def find_removed(
    sums: WindowSums, valid: np.ndarray, windows: Windows, *, gain: float, progress: Progress
) -> tuple[RemovedRegion, ...]:
    r"""Find regions of the residual that noise cannot explain, the strongest first.

    Parameters
    ----------
    sums
        See `WindowSums`.
    valid
        (\*navigation,) bool, pixels that were denoised.
    windows
        The windows.
    gain
        Signal units per count; 0 for noise that is not from counting.
    progress
        The windows make up its current stage.
    """
    n_tests = max(1, int(valid.sum())) * len(windows) * len(_SIDES)
    threshold = float(scipy.stats.norm.isf(_FALSE_ALARM / 2 / n_tests))
    strongest, window = _strongest(sums, valid, progress.steps(range(len(windows))), threshold, gain)
    labels, _ = scipy.ndimage.label(np.abs(strongest) > threshold, np.ones((3,) * valid.ndim))
    regions = []
    for number, box in enumerate(scipy.ndimage.find_objects(labels), start=1):
        inside = labels[box] == number
        peak = np.unravel_index(np.argmax(np.where(inside, np.abs(strongest[box]), 0)), inside.shape)
        j, z = int(window[box][peak]), float(strongest[box][peak])
        places = np.argwhere(inside).T + np.array([s.start for s in box])[:, None]
        pixels = np.ravel_multi_index(tuple(places), valid.shape)
        residual, variance, clean = sums(pixels, slice(None))
        excess = residual.sum(axis=0)
        if clean is not None:
            excess = excess + np.minimum(clean.sum(axis=0), 0)
        beyond = np.abs(_deviate(excess, variance.sum(axis=0), gain)) > threshold
        beyond[j] = True
        span = int(windows.starts[j]), int(windows.stops[j])
        regions.append(RemovedRegion(pixels, *span, _intervals(beyond, windows), z, float(excess[j])))
    return tuple(sorted(regions, key=lambda region: -abs(region.z)))


def _strongest(
    sums: WindowSums, valid: np.ndarray, windows: Iterator[int], threshold: float, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the (\*navigation,) largest deviate about each pixel, in size, and the window that has it."""
    strongest, window = np.zeros(valid.shape, np.float32), np.zeros(valid.shape, np.int32)
    for j in windows:
        maps = [
            None if values is None else np.where(valid, values.reshape(valid.shape), 0)
            for values in sums(slice(None), slice(j, j + 1))
        ]
        for side in _SIDES:
            excess, variance, clean = (None if values is None else _square_sum(values, side) for values in maps)
            assert excess is not None
            assert variance is not None
            if clean is not None:
                excess += np.minimum(clean, 0)
            candidates = valid & _may_exceed(excess, variance, threshold, gain)
            z = np.zeros(valid.shape, np.float32)
            z[candidates] = _deviate(excess[candidates], variance[candidates], gain)
            better = np.abs(z) > np.abs(strongest)
            strongest[better], window[better] = z[better], j
    return strongest, window


def _intervals(beyond: np.ndarray, windows: Windows) -> tuple[tuple[int, int], ...]:
    """Return the unions of neighbouring windows out of those marked."""
    runs, n_runs = scipy.ndimage.label(beyond)
    return tuple(
        (int(windows.starts[runs == run].min()), int(windows.stops[runs == run].max())) for run in range(1, n_runs + 1)
    )


def _square_sum(values: np.ndarray, side: int) -> np.ndarray:
    """Return sums over squares of pixels about each; outside of the map is 0."""
    size = [min(side, n) for n in values.shape]
    mean = scipy.ndimage.uniform_filter(values, size, mode="constant", output=np.float64)
    return mean * np.prod(size)


def _may_exceed(residual: np.ndarray, variance: np.ndarray, threshold: float, gain: float) -> np.ndarray:
    """Return where `_deviate` may be beyond the threshold, in a tenth of its time.

    The root of a Poisson deviance is at most the square root of two times the plain deviate.
    """
    least = max(_LEAST_COUNTS * gain**2, _TINY)
    return 2 * np.square(residual) >= threshold**2 * np.maximum(variance, least)


def _deviate(residual: np.ndarray, variance: np.ndarray, gain: float) -> np.ndarray:
    """Return the signed root of the Poisson deviance of the counts that have this variance."""
    variance = np.maximum(variance, _TINY)
    if gain <= 0:
        return residual / np.sqrt(variance)
    expected = np.maximum(variance / gain**2, _LEAST_COUNTS)
    counts = np.maximum(expected + residual / gain, 0)
    deviance = counts * np.log(np.maximum(counts, 1e-30) / expected) - (counts - expected)
    return np.sign(counts - expected) * np.sqrt(2 * np.maximum(deviance, 0))
