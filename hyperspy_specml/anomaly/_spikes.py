"""Spikes: values in single channels that are far too high, as cosmic rays and glitches make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf, ndtri_exp

from hyperspy_specml.anomaly._scan import Scan, ScanModel, plausible_mean
from hyperspy_specml.statistics import Windows, gain_of, signed_squares, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.statistics import NoiseModel

# Probability of one or more false candidates in the whole map.
_CHANCE = 0.01
# Channels: where a line's full width at half maximum is smaller, lines look like spikes and none are
# searched.
_NARROWEST = 2.5
# Standard deviations of the neighbours' counts that are added to the line which they may belong to.
_DEVIATIONS = 2.0
# Rounds of replacing the strongest spike of each spectrum; no spectrum has as many spikes, but one may need
# two rounds.
_ROUNDS = 50
# Squared counts: smallest variance.
_LEAST_VARIANCE = 1e-6
# Values that are searched at a time.
_SLAB_VALUES = 1 << 20


@dataclass(frozen=True)
class SpikeFinder:
    """Distinguishes spikes from lines by the counts in the neighbouring channels.

    Attributes
    ----------
    model
        What is expected.
    line_width
        (E used,) full width at half maximum of a line, in channels.
    n_values
        Number of values in the whole map: decides how strong a chance deviation can be.
    """

    model: ScanModel
    line_width: np.ndarray
    n_values: int
    _channels: Scan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make a scan of single channels."""
        first = np.arange(len(self.line_width))
        single = Windows(first, first + 1, first.astype(float), np.ones(len(first)))
        object.__setattr__(self, "_channels", Scan(self.model, single, radii=(0,)))

    def replace_spikes(
        self, rows: np.ndarray, coefficients: np.ndarray, encode: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Replace spikes by what the model predicts there without them, in place.

        A strong spike changes the prediction, so that other channels look like spikes too. So the strongest
        one of a spectrum is replaced first.

        Parameters
        ----------
        rows, coefficients
            (n, E) spectra and their (n, D) coefficients; both are changed.
        encode
            Function from spectra to coefficients.

        Returns
        -------
        row, channel, value and prediction of every spike
        """
        values: dict[tuple[int, int], float] = {}
        left = np.arange(len(rows))
        for _ in range(_ROUNDS):
            place, channel, expected, strength = self.find(rows[left], coefficients[left])
            order = np.argsort(-strength, kind="stable")
            _, first = np.unique(place[order], return_index=True)
            chosen = order[first]
            if not len(chosen):
                break
            left, channel = left[place[chosen]], channel[chosen]
            for spike in zip(left.tolist(), channel.tolist(), strict=True):
                values.setdefault(spike, float(rows[spike]))
            rows[left, channel] = expected[chosen]
            coefficients[left] = encode(rows[left])
        row, channel = np.array(list(values), int).reshape(-1, 2).T
        expected = (coefficients[row] * self.model.spectra.T[channel]).sum(axis=1) + self.model.offset[channel]
        return row, channel, np.array(list(values.values()), np.float32), plausible_mean(expected, self.model.noise)

    def find(self, rows: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return row, channel, prediction and squared deviate of every spike in (n, E) spectra."""
        step = max(1, _SLAB_VALUES // rows.shape[1])
        slabs = (slice(start, start + step) for start in range(0, max(1, len(rows)), step))
        found = (self._find(rows[slab], coefficients[slab], slab.start) for slab in slabs)
        row, channel, expected, strength = map(np.concatenate, zip(*found, strict=True))
        return row, channel, expected, strength

    def _find(self, rows: np.ndarray, coefficients: np.ndarray, start: int) -> tuple[np.ndarray, ...]:
        limit = -ndtri_exp(np.log(_CHANCE / self.n_values))
        design = np.concatenate([coefficients, np.ones((len(rows), 1), np.float32)], axis=1)
        squares = self._channels.score(rows, design, slice(0, rows.shape[1]))
        row, channel = np.nonzero(squares > limit**2)
        wide = self.line_width[channel] >= _NARROWEST
        row, channel = row[wide], channel[wide]
        some, place = np.unique(row, return_inverse=True)
        expected = coefficients[some] @ self.model.spectra + self.model.offset
        alone = self._without_line(rows[some], expected, place, channel) > limit**2
        row, channel = row[alone], channel[alone]
        mean = plausible_mean(expected[place[alone], channel], self.model.noise)
        return start + row, channel, mean, squares[row, channel]

    def _without_line(self, rows: np.ndarray, expected: np.ndarray, row: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """Return the signed square of z that values keep beyond the lines their neighbours can belong to."""
        first, last = _neighbours(channel, self.line_width[channel], 0, rows.shape[1])
        measured, predicted = (_sums(values, row, first, last) for values in (rows, expected))
        noise, value, around = self.model.noise, rows[row, channel], measured - rows[row, channel]
        mean = plausible_mean(expected[row, channel], noise)
        excess, reach = around - (predicted - expected[row, channel]), (channel - first, last - 1 - channel)
        line = _line_in_channel(around, excess, self.line_width[channel], reach, noise)
        return _squares(value, mean + line, noise)


@dataclass(frozen=True)
class PartialChannelSpikes:
    """Finds spikes in channels that only some scan lines have after their drift was taken back.

    No model covers these channels. Expected is the most that the neighbouring channels allow for: of a line,
    or of the shape that the mean spectrum has there.

    Attributes
    ----------
    noise
        Noise model of a pixel.
    line_width
        (whole axis,) full width at half maximum of a line, in channels.
    drift
        (lines,) channels by which each scan line was moved to lower ones.
    recorded, mean
        (whole axis,) bool channels in use, and the mean spectrum, before lines were moved.
    common
        (whole axis,) bool, the channels that all lines have after they were moved.
    n_values
        See `SpikeFinder`.
    """

    noise: NoiseModel
    line_width: np.ndarray
    drift: np.ndarray
    recorded: np.ndarray
    mean: np.ndarray
    common: np.ndarray
    n_values: int

    def find(self, rows: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, channel and expected value of every spike.

        Parameters
        ----------
        rows, lines
            (n, whole axis) moved spectra and the scan line of each.
        """
        n_channels = len(self.common)
        partial, by = np.flatnonzero(~self.common & (self.line_width >= _NARROWEST)), self.drift[lines]
        before = partial + by[:, None]  # the channel in which it was recorded
        inside = (before >= 0) & (before < n_channels)
        row, k = np.nonzero(inside & self.recorded[before.clip(0, n_channels - 1)])
        channel, by = partial[k], by[row]
        width = self.line_width[channel]
        first, last = _neighbours(channel, width, np.maximum(0, -by), np.minimum(n_channels, n_channels - by))
        value = rows[row, channel].astype(np.float64)
        around = _sums(rows, row, first, last) - value
        typical, reach = self.mean[channel + by], (channel - first, last - 1 - channel)
        beside = _sums(self.mean[None], np.zeros_like(row), first + by, last + by) - typical
        if gain_of(self.noise):
            expected = _line_in_channel(around, around, width, reach, self.noise)
            expected = np.maximum(expected, around * typical / np.maximum(beside, 1e-300))
        else:  # signed data have no ratios
            expected = typical + _line_in_channel(around, around - beside, width, reach, self.noise)
        limit = -ndtri_exp(np.log(_CHANCE / self.n_values))
        found = _squares(value, expected, self.noise) > limit**2
        return row[found], channel[found], expected[found]


def _neighbours(
    channel: np.ndarray, width: np.ndarray, least: np.ndarray | int, most: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first channel within half a line width, and the one after the last, within these limits."""
    half = np.maximum(1, np.rint(width / 2)).astype(int)
    return np.maximum(channel - half, least), np.minimum(channel + half + 1, most)


def _line_in_channel(
    around: np.ndarray, excess: np.ndarray, width: np.ndarray, reach: tuple[np.ndarray, ...], noise: NoiseModel
) -> np.ndarray:
    """Return the most counts that a channel can have of a line, given the counts of its neighbours.

    Parameters
    ----------
    around, excess
        Sums of the neighbours, and beyond what is expected of them.
    width, reach
        Line width, and the number of neighbours on each side.
    noise
        Noise model of a pixel.
    """
    spread = noise.variance(np.maximum(around, 0)) + gain_of(noise) ** 2
    return np.maximum(excess + _DEVIATIONS * np.sqrt(spread), 0) * largest_line_ratio(width, *reach)


def largest_line_ratio(width: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return the largest ratio of a line's counts in a channel to those in its neighbours below and above.

    At the end of the axis a line that is centred beside the channel can have more of its counts there.
    """
    kinds, which = np.unique(np.stack([width, below, above]), axis=1, return_inverse=True)
    most = np.array([_largest_ratio(*kind) for kind in kinds.T]) if kinds.size else np.empty(0)
    return most[which.reshape(-1)]


def _largest_ratio(width: float, below: float, above: float) -> float:
    at = np.arange(-below, above + 1)
    edges = np.append(at - 0.5, above + 0.5) - at[:, None]  # of the channels, relative to lines centred in each of them
    parts = np.diff(erf(edges * np.sqrt(4 * np.log(2)) / width), axis=1)
    own = parts[:, int(below)]
    return float((own / np.maximum(parts.sum(axis=1) - own, 1e-12)).max())


def _squares(value: np.ndarray, mean: np.ndarray, noise: NoiseModel) -> np.ndarray:
    variance = np.maximum(noise.variance(mean), _LEAST_VARIANCE * gain_of(noise) ** 2)
    unit = unit_of(variance, noise)
    scaled = variance / unit**2
    return signed_squares(np.maximum(scaled + (value - mean) / unit, 0), scaled)


def _sums(values: np.ndarray, row: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    below = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=below[:, 1:])
    return below[row, last] - below[row, first]
