"""Spikes: values of a few channels of one pixel that are far too high, as cosmic rays and glitches make them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri_exp

from hyperspy_specml.anomaly._scan import Scan, ScanModel
from hyperspy_specml.statistics import (
    NARROWEST_LINE,
    SPIKE_CHANCE,
    Windows,
    channels_beside,
    gain_of,
    line_in_channels,
    plausible_mean,
    squares_of_sums,
    sums_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.statistics import NoiseModel

# Excess of the pixels around a spike in its channels from which it is none, in standard deviations and
# relative to its own: what neighbours show too is a sharp line of the specimen, or one of the optics.
_REPEATED, _LEAST_REPEATED = 4.0, 0.2
# Rounds of replacing the strongest spike of each spectrum; no spectrum has as many spikes, but one may need
# two rounds.
_ROUNDS = 50
# Times that what replaces spikes is predicted again, from spectra in which it replaces them: the first prediction still
# follows the spikes.
_SETTLING = 8
# Values that are searched at a time.
_SLAB_VALUES = 1 << 20


@dataclass(frozen=True)
class Runs:
    """m runs of neighbouring channels that are far too high, each in one spectrum.

    Attributes
    ----------
    row, first, stop
        (m,) the spectrum, the first channel, and the one after the last.
    strength
        (m,) largest squared deviate of its channels.
    """

    row: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    strength: np.ndarray

    @property
    def n_channels(self) -> np.ndarray:
        """(m,) channels of each run."""
        return self.stop - self.first

    def only(self, some: np.ndarray) -> Runs:
        """Return some of them, by number or bool."""
        return Runs(*(values[some] for values in vars(self).values()))


@dataclass(frozen=True)
class SpikeFinder:
    """Distinguishes spikes from lines by the counts in the channels and pixels around them.

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
        self, rows: np.ndarray, coefficients: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], used: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        r"""Replace spikes by what the model predicts there without them, in place.

        A strong spike changes the prediction, so that other channels look like spikes too. So the strongest
        one of a spectrum is replaced first.

        Parameters
        ----------
        rows, coefficients
            (n, E) spectra and their (n, D) coefficients; both are changed.
        encode
            Function from spectra to coefficients.
        used
            (\*box,) bool, the n pixels in the box that they come from.

        Returns
        -------
        row, channel, value and prediction of every channel of a spike
        """
        recorded = rows.copy(), coefficients.copy()
        around, values = _rows_around(used), dict[tuple[int, int], float]()
        left = np.arange(len(rows))
        for _ in range(_ROUNDS):
            runs = self.find(rows[left], coefficients[left])
            runs = replace(runs, row=left[runs.row])
            runs = runs.only(~self._repeated(runs, *recorded, around))
            order = np.argsort(-runs.strength, kind="stable")
            _, strongest = np.unique(runs.row[order], return_index=True)
            runs = runs.only(order[strongest])
            left = runs.row
            if not len(left):
                break
            expected = plausible_mean(self._expected(coefficients[left]), self.model.noise)
            for i, first, stop, mean in zip(left.tolist(), runs.first, runs.stop, expected, strict=True):
                for k in range(first, stop):
                    values.setdefault((i, k), float(rows[i, k]))
                rows[i, first:stop] = mean[first:stop]
            coefficients[left] = encode(rows[left])
        row, channel = np.array(list(values), int).reshape(-1, 2).T
        changed, which = np.unique(row, return_inverse=True)
        for _ in range(_SETTLING if len(row) else 0):
            rows[row, channel] = plausible_mean(self._expected(coefficients[changed]), self.model.noise)[which, channel]
            coefficients[changed] = encode(rows[changed])
        expected = (coefficients[row] * self.model.spectra.T[channel]).sum(axis=1) + self.model.offset[channel]
        return row, channel, np.array(list(values.values()), np.float32), plausible_mean(expected, self.model.noise)

    def find(self, rows: np.ndarray, coefficients: np.ndarray) -> Runs:
        """Return the runs of channels of (n, E) spectra that are too high, and too narrow for a line."""
        step = max(1, _SLAB_VALUES // rows.shape[1])
        slabs = (slice(start, start + step) for start in range(0, max(1, len(rows)), step))
        found = [self._find(rows[slab], coefficients[slab], slab.start) for slab in slabs]
        return Runs(*map(np.concatenate, zip(*(vars(runs).values() for runs in found), strict=True)))

    def _expected(self, coefficients: np.ndarray) -> np.ndarray:
        return coefficients @ self.model.spectra + self.model.offset

    def _find(self, rows: np.ndarray, coefficients: np.ndarray, start: int) -> Runs:
        limit = -ndtri_exp(np.log(SPIKE_CHANCE / self.n_values))
        design = np.concatenate([coefficients, np.ones((len(rows), 1), np.float32)], axis=1)
        squares = self._channels.score(rows, design, slice(0, rows.shape[1]))
        high = (squares > limit**2) & (self.line_width >= NARROWEST_LINE)
        some = np.flatnonzero(high.any(axis=1))
        runs = _runs(high[some], squares[some])
        runs = runs.only(runs.n_channels <= self.line_width[runs.first])
        runs = runs.only(self._without_line(rows[some], self._expected(coefficients[some]), runs) > limit**2)
        return replace(runs, row=start + some[runs.row])

    def _without_line(self, rows: np.ndarray, expected: np.ndarray, runs: Runs) -> np.ndarray:
        """Return the signed square of z that runs keep beyond the lines their neighbours can belong to."""
        width = self.line_width[(runs.first + runs.stop) // 2]
        first, last = channels_beside(runs.first, runs.stop, width, 0, rows.shape[1])
        measured, predicted = (sums_between(values, runs.row, first, last) for values in (rows, expected))
        value, mean = (sums_between(values, runs.row, runs.first, runs.stop) for values in (rows, expected))
        around, reach = measured - value, (runs.first - first, last - runs.stop)
        line = line_in_channels(around, around - (predicted - mean), width, reach, self.model.noise, runs.n_channels)
        mean = plausible_mean(mean, self.model.noise)
        return squares_of_sums(value, mean + line, self.model.noise, runs.n_channels)

    def _repeated(self, runs: Runs, rows: np.ndarray, coefficients: np.ndarray, around: np.ndarray) -> np.ndarray:
        """Return (m,) bool: pixels around a run have an excess in the same channels.

        Parameters
        ----------
        runs
            In these rows.
        rows, coefficients
            (n, E) and (n, D), as recorded.
        around
            See `_rows_around`.
        """
        near = np.column_stack([around[runs.row], runs.row])
        there = near < len(rows)
        some, at = np.unique(np.where(there, near, 0), return_inverse=True)
        expected = self._expected(coefficients[some])
        first, stop = (np.repeat(end, near.shape[1]) for end in (runs.first, runs.stop))
        kinds = rows[some] - expected, self.model.noise.variance(plausible_mean(expected, self.model.noise))
        excess, variance = (sums_between(v, at.reshape(-1), first, stop).reshape(near.shape) * there for v in kinds)
        beside = excess[:, :-1].sum(axis=1)
        strong = beside > _REPEATED * np.sqrt(variance[:, :-1].sum(axis=1))
        return strong & (beside > _LEAST_REPEATED * excess[:, -1])


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
        partial, by = np.flatnonzero(~self.common & (self.line_width >= NARROWEST_LINE)), self.drift[lines]
        before = partial + by[:, None]  # the channel in which it was recorded
        inside = (before >= 0) & (before < n_channels)
        row, k = np.nonzero(inside & self.recorded[before.clip(0, n_channels - 1)])
        channel, by = partial[k], by[row]
        width = self.line_width[channel]
        least, most = np.maximum(0, -by), np.minimum(n_channels, n_channels - by)
        first, last = channels_beside(channel, channel + 1, width, least, most)
        value = rows[row, channel].astype(np.float64)
        around = sums_between(rows, row, first, last) - value
        typical, reach = self.mean[channel + by], (channel - first, last - 1 - channel)
        beside = sums_between(self.mean[None], np.zeros_like(row), first + by, last + by) - typical
        if gain_of(self.noise):
            expected = line_in_channels(around, around, width, reach, self.noise)
            expected = np.maximum(expected, around * typical / np.maximum(beside, 1e-300))
        else:  # signed data have no ratios
            expected = typical + line_in_channels(around, around - beside, width, reach, self.noise)
        limit = -ndtri_exp(np.log(SPIKE_CHANCE / self.n_values))
        found = squares_of_sums(value, expected, self.noise) > limit**2
        return row[found], channel[found], expected[found]


def _rows_around(used: np.ndarray) -> np.ndarray:
    """Return (n, 3**d - 1) which of the n used pixels are around each of them; n where there is none."""
    n = int(used.sum())
    index = np.full(used.shape, n)
    index[used] = np.arange(n)
    index = np.pad(index, 1, constant_values=n)
    steps = [step for step in product(range(3), repeat=used.ndim) if step != (1,) * used.ndim]
    return np.stack([index[tuple((np.argwhere(used) + step).T)] for step in steps], axis=1)


def _runs(high: np.ndarray, squares: np.ndarray) -> Runs:
    """Return the runs of True in (n, E) bool, with the largest of their squares."""
    ends = np.diff(np.pad(high.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, first), (_, stop) = np.nonzero(ends == 1), np.nonzero(ends == -1)
    strength = [squares[i, a:b].max() for i, a, b in zip(row, first, stop, strict=True)]
    return Runs(row, first, stop, np.array(strength, squares.dtype))
