"""Spikes: single channels that are far too high, as cosmic rays and glitches make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf, ndtri_exp

from hyperspy_specml.analysis._scan import Scan, ScanModel, gain_of, signed_squares, unit_of
from hyperspy_specml.analysis._windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

_CHANCE = 0.01  # of a single false candidate in the whole map
_NARROWEST = 2.5  # channels per line width: below, a line looks like a spike
_DEVIATIONS = 2.0  # of the neighbours' counts, granted to the line that they may belong to
_ROUNDS = 50  # of taking out; no spectrum has more spikes, but one may need two
_LEAST = 1e-6  # counts: no mean is smaller
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

    def take_out(
        self, rows: np.ndarray, coefficients: np.ndarray, encode: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Replace spikes by what the model predicts there without them, in place.

        A strong spike draws the model to itself, and then other channels look like spikes. So the strongest
        one of a spectrum goes first.

        Parameters
        ----------
        rows, coefficients
            (n, E) spectra and their (n, D) coefficients; both are changed.
        encode
            From spectra to coefficients.

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
        expected = (coefficients[row] * self.model.spectra.T[channel]).sum(axis=1) + self.model.offset[
            channel
        ]
        return row, channel, np.array(list(values.values()), np.float32), np.maximum(expected, 0)

    def find(
        self, rows: np.ndarray, coefficients: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return row, channel, prediction and squared deviate of every spike in (n, E) spectra."""
        step = max(1, _SLAB // rows.shape[1])
        starts = range(0, max(1, len(rows)), step)
        found = [self._find(rows[i : i + step], coefficients[i : i + step]) for i in starts]
        row = np.concatenate([start + part[0] for start, part in zip(starts, found, strict=True)])
        channel, expected, strength = (np.concatenate([part[k] for part in found]) for k in (1, 2, 3))
        return row, channel, expected, strength

    def _find(self, rows: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, ...]:
        limit = -ndtri_exp(np.log(_CHANCE / self.n_values))
        design = np.concatenate([coefficients, np.ones((len(rows), 1), np.float32)], axis=1)
        squares = self._channels.score(rows, design, slice(0, rows.shape[1]))
        row, channel = np.nonzero(squares > limit**2)
        wide = self.line_width[channel] >= _NARROWEST
        row, channel = row[wide], channel[wide]
        if not len(row):
            return row, channel, np.zeros(0, np.float32), np.zeros(0, np.float32)
        some, place = np.unique(row, return_inverse=True)
        expected = coefficients[some] @ self.model.spectra + self.model.offset
        alone = self._without_line(rows[some], expected, place, channel) > limit**2
        row, channel = row[alone], channel[alone]
        return row, channel, np.maximum(expected[place[alone], channel], 0), squares[row, channel]

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
        variance = np.maximum(noise.variance(mean), _LEAST * gain_of(noise) ** 2)
        unit = unit_of(variance, noise)
        scaled = variance / unit**2
        return signed_squares(np.maximum(scaled + (value - mean) / unit, 0), scaled)


def _sums(values: np.ndarray, row: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    below = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=below[:, 1:])
    return below[row, last] - below[row, first]
