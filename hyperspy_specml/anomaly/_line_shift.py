"""How far the energy axis of each scan line has drifted, in whole channels.

Spectra of one line are recorded together, so their differences tell what the specimen changes and not what
the instrument does. What a whole line is off, beyond such changes, is drift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.linalg import svds

from hyperspy_specml.streaming import shift_channels

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel

_SMOOTH = 1 / 16  # line widths, of what lines are compared with
_FARTHEST = 1.0  # line widths
_LEAST_KEPT = 0.75  # of the channels: no line may lie farther from another than leaves so many
_COMPOSITIONS = 4  # directions in which spectra of one line differ
_SWEEPS = 12
_AGREEMENT = 1 / 3  # correlation of two halves from which moving lines makes them steadier
_DEVIATIONS = 3.0  # of that correlation, by chance
_FLOOR = 1e-3  # of the mean


def estimate_line_shift(
    segments: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel, line_width: float
) -> np.ndarray | None:
    """Return by how many channels each scan line lies too high; None where the energy axis does not drift.

    Lines are moved until they agree best with the mean of all, up to the ways in which spectra of one line
    differ. The two halves of a line drift alike; where they do not tell the same, nothing is known.

    Parameters
    ----------
    segments
        (L, Q, E) sums of spectra along parts of L lines.
    n_pixels
        (L, Q) pixels in each.
    noise
        Of one pixel.
    line_width
        Full width at half maximum of the sharpest structure, in channels.

    Returns
    -------
    (L,) integers of median 0, or None
    """
    n_segments, n_channels = segments.shape[1:]
    farthest = int(min(_FARTHEST * line_width, (1 - _LEAST_KEPT) / 2 * n_channels))
    half = n_segments // 2
    whole = (n_pixels[:, :half].sum(axis=1) > 0) & (n_pixels[:, half:].sum(axis=1) > 0)
    if whole.sum() <= _DEVIATIONS**2 or n_segments < 4 or farthest < 1:
        return None
    lines = _Lines(segments, n_pixels, noise, _SMOOTH * line_width, farthest)
    first, second = (lines.of(part).drift() for part in (slice(None, half), slice(half, None)))
    deviations = [values[whole] - values[whole].mean() for values in (first, second)]
    scatter = np.sqrt(np.prod([np.square(values).sum() for values in deviations]))
    if deviations[0] @ deviations[1] <= max(_AGREEMENT, _DEVIATIONS / np.sqrt(whole.sum())) * scatter:
        return None
    drift = lines.drift()
    drift[n_pixels.sum(axis=1) == 0] = 0
    drift[whole & (np.abs(first - second) > farthest / 2)] = 0
    return drift if drift.any() else None


class _Lines:
    """Scan lines in segments, compared with the mean of all lines."""

    def __init__(
        self, segments: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel, smooth: float, farthest: int
    ) -> None:
        self.segments, self.n_pixels, self.noise = segments, n_pixels, noise
        self.smooth, self.farthest = smooth, farthest
        self.sums = segments.sum(axis=1, dtype=np.float64)
        self.counted = n_pixels.any(axis=1)

    def of(self, part: slice) -> _Lines:
        """Return the lines without the other segments."""
        return _Lines(self.segments[:, part], self.n_pixels[:, part], self.noise, self.smooth, self.farthest)

    def drift(self) -> np.ndarray:
        """Move lines until nothing changes."""
        drift = np.zeros(len(self.sums), int)
        for _ in range(_SWEEPS):
            typical = self._typical(drift)
            weights = 1 / np.sqrt(self.noise.variance(typical))
            patterns = np.vstack([typical, self._compositions(drift, weights)])
            moved = self._misfits(patterns, weights).argmin(axis=1) - self.farthest
            moved -= int(np.median(moved[self.counted]))
            np.clip(moved, -self.farthest, self.farthest, out=moved)
            if (moved == drift).all():
                break
            drift = moved
        return drift

    def _typical(self, drift: np.ndarray) -> np.ndarray:
        """Return the mean spectrum of a pixel, of lines that have been moved."""
        total = shift_channels(self.sums, -drift).sum(axis=0)
        inside = shift_channels(
            np.repeat(self.n_pixels.sum(axis=1)[:, None], len(total), axis=1), -drift
        ).sum(axis=0)
        mean = gaussian_filter1d(total / np.maximum(inside, 1), self.smooth, mode="nearest")
        return np.maximum(mean, _FLOOR * max(float(mean.mean()), 1e-300))

    def _compositions(self, drift: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the spectra by which segments of one line differ most."""
        n_channels = len(weights)
        dose = self.segments.sum(axis=2, keepdims=True)
        counted = dose > 0
        shares = np.where(counted, self.segments / np.where(counted, dose, 1), 0)
        mean = shares.sum(axis=1, keepdims=True) / np.maximum(counted.sum(axis=1, keepdims=True), 1)
        shares = np.where(counted, shares - mean, 0).reshape(-1, n_channels)
        rows = shift_channels(shares, -np.repeat(drift, self.segments.shape[1])) * weights
        rows = gaussian_filter1d(rows, self.smooth, axis=1)
        if not rows.any():
            return np.empty((0, n_channels))
        start = np.random.default_rng(0).standard_normal(min(rows.shape))
        return svds(rows, k=_COMPOSITIONS, v0=start, return_singular_vectors="vh")[2] / weights

    def _misfits(self, patterns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return (L, positions) what the patterns leave of each line when they are moved there."""
        far, n_channels = self.farthest, patterns.shape[1]
        inside = slice(far, n_channels - far)
        rows = self.sums[:, inside] * weights[inside]
        described = [
            np.square(
                rows @ np.linalg.qr((patterns[:, far - k : n_channels - far - k] * weights[inside]).T)[0]
            )
            for k in range(-far, far + 1)
        ]
        return -np.stack([part.sum(axis=1) for part in described], axis=1)
