"""Windows that a scan sums over: intervals of energy channels, squares of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEPS_PER_WINDOW = 4  # a line lies at most an eighth of a window off the centre of the nearest one
_LEAST_COVERED = 0.5  # of a window's channels are in use, or it is left out


@dataclass(frozen=True)
class Windows:
    """Intervals of channels. J windows of E channels in use.

    Attributes
    ----------
    starts, stops
        (J,) first channel, and the one after the last, counted among the channels in use.
    centres, widths
        (J,) centre and width in channels of the whole axis.
    """

    starts: np.ndarray
    stops: np.ndarray
    centres: np.ndarray
    widths: np.ndarray

    def __len__(self) -> int:
        """Return the number of windows J."""
        return len(self.starts)

    def groups(self, n_windows: int) -> list[slice]:
        """Return slices of neighbouring windows, to be worked on at a time."""
        return [slice(i, min(i + n_windows, len(self))) for i in range(0, len(self), n_windows)]

    def sums(self, values: np.ndarray, group: slice) -> np.ndarray:
        """Return (..., n) sums of (..., E) values over the windows of a group."""
        starts, stops = self.starts[group], self.stops[group]
        first, last = int(starts.min()), int(stops.max())
        below = np.zeros((*values.shape[:-1], last - first + 1))  # float64: differences of long sums
        np.cumsum(values[..., first:last], axis=-1, out=below[..., 1:])
        return below[..., stops - first] - below[..., starts - first]


def energy_windows(line_width: np.ndarray, channels: np.ndarray, *, factors: Sequence[float]) -> Windows:
    """Cover the energy axis with overlapping windows of several widths.

    Parameters
    ----------
    line_width
        (all channels,) full width at half maximum of a line there, in channels.
    channels
        (all channels,) bool, the channels in use.
    factors
        Widths of the windows in line widths.
    """
    used = np.flatnonzero(channels)
    parts = []
    for factor in factors:
        centres, position = [], 0.0
        while position < len(line_width):
            centres.append(position)
            position += max(1.0, factor * line_width[int(position)] / _STEPS_PER_WINDOW)
        centre = np.array(centres)
        width = np.clip(factor * line_width[centre.astype(int)], 1.0, len(line_width))
        starts = np.searchsorted(used, centre - width / 2)
        stops = np.searchsorted(used, centre + width / 2)
        keep = stops - starts >= np.maximum(1, _LEAST_COVERED * width)
        parts.append(np.stack([starts, stops, centre, width])[:, keep])
    starts, stops, centre, width = np.concatenate(parts, axis=1)
    both = np.stack([starts, stops]).astype(int)
    _, first = np.unique(both, axis=1, return_index=True)  # narrow windows of several factors coincide
    first.sort()
    return Windows(both[0, first], both[1, first], centre[first], width[first])


def estimate_line_width(mean: np.ndarray, noise_variance: np.ndarray) -> float:
    """Return the full width at half maximum, in channels, of the sharpest structure of a spectrum.

    Of a Gaussian line of standard deviation s the autocorrelation of the derivative crosses zero at a lag of
    sqrt(2) s; of a spectrum it is ruled by its sharpest strong features. White noise shows at lag 0 only.

    Parameters
    ----------
    mean
        (E,) mean spectrum.
    noise_variance
        (E,) its noise variance.
    """
    # Differences of neighbours: those of channels two apart would carry their noise to lag 2.
    slope = np.diff(mean / np.sqrt(np.maximum(noise_variance, 1e-6 * max(noise_variance.mean(), 1e-300))))
    slope -= np.median(slope)
    n = len(slope)
    power = np.abs(np.fft.rfft(slope, 2 * n)) ** 2
    correlation = np.fft.irfft(power)[: n // 2 + 1]
    below = np.flatnonzero(correlation[2:] <= 0)
    lag = below[0] + 2 if len(below) else 2
    return float(np.clip(np.sqrt(8 * np.log(2)) * lag / np.sqrt(2), 2.0, max(2.0, n / 8)))
