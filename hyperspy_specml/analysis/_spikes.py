"""Spikes: single channels that are far too high, as cosmic rays and glitches make them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import erf, ndtri_exp

from hyperspy_specml.analysis._scan import Scan, ScanModel, gain_of, signed_squares, unit_of
from hyperspy_specml.analysis._windows import Windows

_CHANCE = 0.01  # of a single false candidate in the whole map
_NARROWEST = 2.5  # channels per line width: below, a line looks like a spike
_DEVIATIONS = 2.0  # of the neighbours' counts, granted to the line that they may belong to
_SLAB = 1 << 20


@dataclass(frozen=True)
class SpikeFinder:
    """Tells spikes from lines by what they leave in the neighbouring channels.

    Attributes
    ----------
    model
        The normal.
    line_width
        (E used,) full width at half maximum of a line, in channels.
    n_values
        Of the whole map: sets how strong a chance deviation can be.
    """

    model: ScanModel
    line_width: np.ndarray
    n_values: int
    _channels: Scan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make a scan of single channels."""
        first = np.arange(len(self.line_width))
        single = Windows(first, first + 1, first.astype(float), np.ones(len(first)))
        object.__setattr__(self, "_channels", Scan(self.model, single, halves=(0,)))

    def find(self, rows: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, channel and prediction of every spike in (n, E) spectra."""
        step = max(1, _SLAB // rows.shape[1])
        found = [
            (i, *self._find(rows[i : i + step], coefficients[i : i + step]))
            for i in range(0, len(rows), step)
        ]
        found = [part for part in found if len(part[1])]
        if not found:
            return np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32)
        row = np.concatenate([start + part for start, part, _, _ in found])
        return row, np.concatenate([part[2] for part in found]), np.concatenate([part[3] for part in found])

    def _find(self, rows: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        limit = -ndtri_exp(np.log(_CHANCE / self.n_values))
        design = np.concatenate([coefficients, np.ones((len(rows), 1), np.float32)], axis=1)
        squares = self._channels.score(rows, design, slice(0, rows.shape[1]))
        row, channel = np.nonzero(squares > limit**2)
        wide = self.line_width[channel] >= _NARROWEST
        row, channel = row[wide], channel[wide]
        if not len(row):
            return row, channel, np.zeros(0, np.float32)
        some, place = np.unique(row, return_inverse=True)
        expected = coefficients[some] @ self.model.spectra + self.model.offset
        alone = self._without_line(rows[some], expected, place, channel) > limit**2
        return row[alone], channel[alone], np.maximum(expected[place, channel][alone], 0)

    def _without_line(
        self, rows: np.ndarray, expected: np.ndarray, row: np.ndarray, channel: np.ndarray
    ) -> np.ndarray:
        """Return the signed square of z that values keep beyond the lines their neighbours can belong to."""
        width = self.line_width[channel]
        half = np.maximum(1, np.rint(width / 2)).astype(int)
        first = np.maximum(channel - half, 0)
        last = np.minimum(channel + half + 1, rows.shape[1])
        measured, predicted = (_sums(values, row, first, last) for values in (rows, expected))
        value, mean = rows[row, channel], np.maximum(expected[row, channel], 0)
        beside = measured - value - (predicted - expected[row, channel])
        noise = self.model.noise
        spread = noise.variance(np.maximum(measured - value, 0)) + gain_of(noise) ** 2
        sigma = width / np.sqrt(8 * np.log(2))
        at = erf(0.5 / (np.sqrt(2) * sigma))
        around = erf((half + 0.5) / (np.sqrt(2) * sigma)) - at
        mean = mean + np.maximum(beside + _DEVIATIONS * np.sqrt(spread), 0) * at / around
        variance = noise.variance(mean)
        unit = unit_of(variance, noise)
        scaled = variance / unit**2
        return signed_squares(np.maximum(scaled + (value - mean) / unit, 0), scaled)


def _sums(values: np.ndarray, row: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    below = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=below[:, 1:])
    return below[row, last] - below[row, first]
