"""How far the energy axis of each scan line has drifted, in whole channels.

Spectra of one line are recorded shortly after each other, so their differences are those of the specimen and
not of the instrument. What a whole line is shifted by, beyond such differences, is drift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.linalg import svds

from hyperspy_specml.streaming import shift_channels

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel

# Line widths, standard deviation of the smoothing of the spectra that lines are compared with.
_SMOOTHING = 1 / 16
# Line widths, largest drift that is looked for; and fraction of the channels that are left at least for any
# two lines.
_FARTHEST = 1.0
_LEAST_LEFT = 0.75
# Directions in which spectra of one line differ.
_N_COMPOSITIONS = 4
# Sweeps over all lines, at most.
_SWEEPS = 12
# Correlation of the drifts of the two halves of all lines from which moving lines is an improvement, and the
# number of standard deviations that it must differ from 0.
_LEAST_CORRELATION = 1 / 3
_DEVIATIONS = 3.0
# Smallest expected value of a channel, relative to the mean.
_LEAST_EXPECTED = 1e-3


def estimate_line_shift(
    segments: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel, line_width: float
) -> np.ndarray | None:
    """Return by how many channels each scan line lies too high; None where the energy axis does not drift.

    Lines are moved until they agree best with the mean of all, up to the ways in which spectra of one line
    differ. The two halves of a line drift alike: where they do not agree, the drift is not known.

    Parameters
    ----------
    segments
        (L, Q, E) sums of spectra along parts of L lines.
    n_pixels
        (L, Q) pixels in each.
    noise
        Noise model of one pixel.
    line_width
        Full width at half maximum of the sharpest structure, in channels.

    Returns
    -------
    (L,) integers of median 0, or None
    """
    n_segments, n_channels = segments.shape[1:]
    farthest = farthest_drift(line_width, n_channels)
    half = n_segments // 2
    whole = (n_pixels[:, :half].sum(axis=1) > 0) & (n_pixels[:, half:].sum(axis=1) > 0)
    if whole.sum() <= _DEVIATIONS**2 or n_segments < 4 or farthest < 1:
        return None
    lines = _ScanLines(segments, n_pixels, noise, _SMOOTHING * line_width, farthest)
    first, second = (lines.of(part).drift() for part in (slice(None, half), slice(half, None)))
    deviations = [values[whole] - values[whole].mean() for values in (first, second)]
    scatter = np.sqrt(np.prod([np.square(values).sum() for values in deviations]))
    least = max(_LEAST_CORRELATION, _DEVIATIONS / np.sqrt(whole.sum()))
    if deviations[0] @ deviations[1] <= least * scatter:
        return None
    drift = lines.drift()
    drift[n_pixels.sum(axis=1) == 0] = 0
    drift[whole & (np.abs(first - second) > farthest / 2)] = 0
    return drift if drift.any() else None


def farthest_drift(line_width: float, n_channels: int) -> int:
    """Return the largest drift that is looked for, in channels."""
    return int(min(_FARTHEST * line_width, (1 - _LEAST_LEFT) / 2 * n_channels))


def best_shifts(rows: np.ndarray, patterns: np.ndarray, weights: np.ndarray, farthest: int) -> np.ndarray:
    """Return (L,) by how many channels patterns have to be moved to describe each of the rows best.

    Parameters
    ----------
    rows
        (L, E) spectra.
    patterns
        (P, E) spectra of which the rows are mixtures.
    weights
        (E,) one over the noise standard deviation of each channel.
    farthest
        Largest shift, in channels.
    """
    n_channels = patterns.shape[1]
    inside = slice(farthest, n_channels - farthest)
    rows = rows[:, inside] * weights[inside]
    explained = []
    for k in range(-farthest, farthest + 1):
        moved = patterns[:, farthest - k : n_channels - farthest - k] * weights[inside]
        explained.append(np.square(rows @ np.linalg.qr(moved.T)[0]).sum(axis=1))
    return np.stack(explained, axis=1).argmax(axis=1) - farthest


class _ScanLines:
    """Scan lines in segments, compared with the mean of all lines."""

    def __init__(
        self, segments: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel, smoothing: float, farthest: int
    ) -> None:
        self.segments, self.n_pixels, self.noise = segments, n_pixels, noise
        self.smoothing, self.farthest = smoothing, farthest
        self.sums = segments.sum(axis=1, dtype=np.float64)
        self.counted = n_pixels.any(axis=1)

    def of(self, part: slice) -> _ScanLines:
        """Return the lines without the other segments."""
        segments, n_pixels = self.segments[:, part], self.n_pixels[:, part]
        return _ScanLines(segments, n_pixels, self.noise, self.smoothing, self.farthest)

    def drift(self) -> np.ndarray:
        """Return (L,) the drift: lines are moved until nothing changes."""
        drift = np.zeros(len(self.sums), int)
        for _ in range(_SWEEPS):
            typical = self._typical(drift)
            weights = 1 / np.sqrt(self.noise.variance(typical))
            patterns = np.vstack([typical, self._compositions(drift, weights)])
            moved = best_shifts(self.sums, patterns, weights, self.farthest)
            moved -= int(np.median(moved[self.counted]))
            np.clip(moved, -self.farthest, self.farthest, out=moved)
            if (moved == drift).all():
                break
            drift = moved
        return drift

    def _typical(self, drift: np.ndarray) -> np.ndarray:
        """Return the mean spectrum of a pixel, of lines that have been moved."""
        total = shift_channels(self.sums, -drift).sum(axis=0)
        n_pixels = np.repeat(self.n_pixels.sum(axis=1)[:, None], len(total), axis=1)
        inside = shift_channels(n_pixels, -drift).sum(axis=0)
        mean = gaussian_filter1d(total / np.maximum(inside, 1), self.smoothing, mode="nearest")
        return np.maximum(mean, _LEAST_EXPECTED * max(float(mean.mean()), 1e-300))

    def _compositions(self, drift: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the spectra by which segments of one line differ most."""
        n_channels = len(weights)
        totals = self.segments.sum(axis=2, keepdims=True)
        counted = totals > 0
        shapes = np.where(counted, self.segments / np.where(counted, totals, 1), 0)
        mean = shapes.sum(axis=1, keepdims=True) / np.maximum(counted.sum(axis=1, keepdims=True), 1)
        shapes = np.where(counted, shapes - mean, 0).reshape(-1, n_channels)
        rows = shift_channels(shapes, -np.repeat(drift, self.segments.shape[1])) * weights
        rows = gaussian_filter1d(rows, self.smoothing, axis=1)
        if not rows.any():
            return np.empty((0, n_channels))
        start = np.random.default_rng(0).standard_normal(min(rows.shape))
        return svds(rows, k=_N_COMPOSITIONS, v0=start, return_singular_vectors="vh")[2] / weights
