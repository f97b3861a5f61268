"""Sums over windows of energy and over squares of pixels, and how unlikely such sums are.

A line is a little in many channels and a phase a little in many pixels: no single value shows either, but
sums over windows as wide as they are do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.statistics._states import USED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.statistics._noise import NoiseModel
    from hyperspy_specml.statistics._resample import Resampling

# Windows start so many times per window width: a line then lies at most an eighth of a window off the centre
# of the nearest one.
_STEPS_PER_WINDOW = 4
# Fraction of a window's channels that must be in use; windows with fewer are left out.
_LEAST_COVERED = 0.5
# Squared deviates from which the correction of the deviance is computed. It costs time, and the maximum over
# many windows, which alone counts, is always larger.
_LEAST_CORRECTED = np.float32(4.0)


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

    @classmethod
    def checked(
        cls, starts: np.ndarray, stops: np.ndarray, centres: np.ndarray, widths: np.ndarray, *, n_channels: int
    ) -> Windows:
        """Return windows of numbers that come from a file.

        Raises
        ------
        ValueError
            They are no intervals of so many channels.
        """
        whole = (starts == starts.astype(int)) & (stops == stops.astype(int))
        if not (len(starts) and (whole & (starts >= 0) & (starts < stops) & (stops <= n_channels)).all()):
            raise ValueError(f"starts and stops of windows are no intervals of {n_channels} channels")
        return cls(starts.astype(int), stops.astype(int), centres, widths)

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

    def variance_ratio(self, noise: NoiseModel) -> np.ndarray:
        """Return the (J,) variance of sums over the windows, relative to that without correlation along energy."""
        lags = np.arange(1, len(noise.correlation))
        shared = np.maximum(0, 1 - lags / np.maximum(self.widths, 1)[:, None])  # fraction of the pairs in a window
        return 1 + 2 * (shared * np.array(noise.correlation)[1:]).sum(axis=1)

    def resampled(self, resampling: Resampling) -> tuple[Windows, np.ndarray]:
        """Return windows of the same energies in other channels.

        Parameters
        ----------
        resampling
            To the other channels.

        Returns
        -------
        the windows, without those that contain no channel any more, and the (J,) bool that says which are left
        """
        channels = np.arange(int(self.stops.max()))
        inside = np.zeros((len(self), resampling.n_channels))
        inside[:, channels] = (channels >= self.starts[:, None]) & (channels < self.stops[:, None])
        covered = resampling(inside) / resampling(np.ones((1, resampling.n_channels)))
        member = covered >= 0.5
        kept = member.any(axis=1)
        starts = member.argmax(axis=1)[kept]
        stops = member.shape[1] - member[:, ::-1].argmax(axis=1)[kept]
        used = np.flatnonzero(resampling.channel_state == USED)
        centres = (used[starts] + used[stops - 1]) / 2
        widths = (self.widths * covered.sum(axis=1) / (self.stops - self.starts))[kept]
        return Windows(starts, stops, centres, widths), kept


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


def signed_squares(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the square of the normal deviate of Poisson counts, with the sign of their excess.

    It is the Poisson deviance. Above 4 it is corrected, so that its root gives the mid-p value also where few
    counts are expected (O. E. Barndorff-Nielsen, Biometrika 73 (1986) 307): otherwise the p-value of a strong
    window would be wrong by a factor that depends on the expected counts.
    """
    ratio = counts / expected
    np.maximum(ratio, np.float32(1e-30), out=ratio)
    squares = np.log(ratio, out=ratio)
    squares *= counts
    excess = counts - expected
    squares -= excess
    np.maximum(squares, 0, out=squares)
    squares *= 2
    strong = np.flatnonzero(squares > _LEAST_CORRECTED)
    deviance, n, mean = (np.take(values, strong) for values in (squares, counts, expected))
    root = np.sqrt(deviance)
    # One sixth, from Stirling's formula, also gives zero counts a probability.
    root += np.log(2 * np.sqrt(n + np.float32(1 / 6)) * np.abs(n - mean) / ((n + mean) * root)) / root
    np.put(squares, strong, root * root)
    return np.copysign(squares, excess, out=squares)


def spatial_sums(values: np.ndarray, radius: int) -> np.ndarray:
    r"""Return (\*navigation, n) sums of values over squares of 2 radius + 1 pixels; outside the map is 0."""
    side = 2 * radius + 1
    for axis in range(values.ndim - 1 if radius else 0):
        values = scipy.ndimage.uniform_filter1d(values, side, axis=axis, mode="constant") * np.float32(side)
    return values
