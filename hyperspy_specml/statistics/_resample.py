"""Resample the spectra of a model to other energy channels, counts conserved.

Only models are ever resampled, never counts: interpolation would correlate their noise and change its
variance from channel to channel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from hyperspy_specml.statistics._states import EMPTY, MASKED, USED

# Largest ratio of channel widths: twice, and the rounding of a calibration.
_MAX_RATIO = 2.1
# Mismatch of channel edges that is ignored, in channels: less than calibrations of one instrument repeat to.
_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class Resampling:
    """From the channels of a model to those of data.

    Attributes
    ----------
    channel_state
        (E of the data,) state of each channel of the data for the model.
    partly
        Whether the data lack channels of the model.
    """

    channel_state: np.ndarray
    _pieces: tuple[tuple[np.ndarray, ...], ...]
    _used: np.ndarray
    partly: bool = False

    @property
    def n_channels(self) -> int:
        """Number of channels in use of the model."""
        return int(self._used.sum())

    def __call__(self, spectra: np.ndarray) -> np.ndarray:
        """Resample spectra: counts, and whatever adds up as counts do.

        Parameters
        ----------
        spectra
            (n, E in use of the model).

        Returns
        -------
        (n, E in use of the data)
        """
        known = np.zeros((len(spectra), len(self._used)))  # the channels that were empty stay 0
        known[:, self._used] = spectra
        out = np.zeros((len(spectra), len(self.channel_state)))
        for source, edges, target, low, high in self._pieces:  # off a smooth curve through the running sum
            sums = np.cumsum(known[:, source], axis=1)
            curve = CubicSpline(edges, np.pad(sums, ((0, 0), (1, 0))), axis=1)
            out[:, target] = curve(high) - curve(low)
        return out[:, self.channel_state == USED]


def plan_resampling(
    model: np.ndarray, model_state: np.ndarray, data: np.ndarray, *, partly: bool = False
) -> Resampling:
    """Plan how a model is resampled to the channels of data, if that is sound.

    Parameters
    ----------
    model, data
        Centres of the energy channels, in the same unit.
    model_state
        State of the model's channels.
    partly
        Whether data may lack channels of the model, at the ends.

    Raises
    ------
    ValueError
        It is not sound; the message says why, as the end of a sentence about the data.
    """
    source, target = _Channels.of(model, "the model's"), _Channels.of(data, "its")
    state = model_state[source.order]
    missing = _check(source, state == USED, target, partly=partly)
    found = np.full(len(data), MASKED, np.uint8)
    nearest = np.clip(np.searchsorted(source.edges, target.centres) - 1, 0, len(state) - 1)
    inside = (target.centres > source.edges[0]) & (target.centres < source.edges[-1])
    excluded = inside & ~np.isin(state[nearest], (USED, EMPTY))
    found[excluded] = state[nearest[excluded]]
    pieces, flags = [], np.pad(np.isin(state, (USED, EMPTY)), 1)
    for run in itertools.starmap(slice, np.flatnonzero(flags[1:] != flags[:-1]).reshape(-1, 2)):
        # Neighbouring channels of the model, and the channels of the data that lie within them.
        edges = source.edges[run.start : run.stop + 1]
        tolerance = _TOLERANCE * target.widths
        within = np.flatnonzero((target.low >= edges[0] - tolerance) & (target.high <= edges[-1] + tolerance))
        low, high = (np.clip(limit[within], *edges[[0, -1]]) for limit in (target.low, target.high))
        in_use = np.append(0, np.cumsum(np.diff(edges) * (state[run] == USED)))  # width of used channels below
        used = np.interp(high, edges, in_use) - np.interp(low, edges, in_use) >= 0.5 * (high - low)
        found[within] = np.where(used, USED, EMPTY)
        pieces.append((source.order[run], edges, target.order[within], low, high))
    in_place = np.empty_like(found)
    in_place[target.order] = found
    return Resampling(in_place, tuple(pieces), model_state == USED, missing)


@dataclass(frozen=True, eq=False)
class _Channels:
    """Channels of an axis in rising order, each from one edge to the next."""

    centres: np.ndarray
    edges: np.ndarray
    low: np.ndarray
    high: np.ndarray
    widths: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, centres: np.ndarray, whose: str) -> _Channels:
        steps = np.diff(centres)
        if len(centres) < 2 or not ((steps > 0).all() or (steps < 0).all()):
            raise ValueError(f"{whose} channels are not in rising or falling order")
        order = np.argsort(centres)
        centres = centres[order]
        between = (centres[1:] + centres[:-1]) / 2
        ends = 2 * centres[[0, -1]] - between[[0, -1]]
        edges = np.concatenate([ends[:1], between, ends[1:]])
        return cls(centres, edges, edges[:-1], edges[1:], np.diff(edges), order)


def _check(model: _Channels, used: np.ndarray, data: _Channels, *, partly: bool) -> bool:
    """Return whether data lack channels of the model, and refuse that if not `partly`.

    Refuse also channels much wider or narrower than those of the model.

    Half of one channel of the data may be missing at each end.
    """
    half = 0.5 + _TOLERANCE
    first, last = model.low[used].min(), model.high[used].max()
    missing = data.edges[0] > first + half * data.widths[0] or data.edges[-1] < last - half * data.widths[-1]
    if missing and not partly:
        raise ValueError(f"the model needs all channels from {first:.8g} to {last:.8g}")

    there = (data.high > first) & (data.low < last)
    ratio = data.widths[there] / np.interp(data.centres[there], model.centres, model.widths)
    worst = ratio[np.argmax(np.abs(np.log(ratio)))]
    if not 1 / _MAX_RATIO <= worst <= _MAX_RATIO:
        raise ValueError(f"its channels are {worst:.2g} times as wide, which is beyond a factor of two")
    return bool(missing)
