"""Passes over the same pixels, one after the other: sums of spectra, and what their trends tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.live._events import Damage, EnergyDrift, Event, IntensityChange
from hyperspy_specml.live._trend import LEAST_FRAMES, Trend, limit_of, null_maxima, trend
from hyperspy_specml.statistics import energy_windows

if TYPE_CHECKING:
    from hyperspy_specml.statistics import Windows

# Standard errors and channels from which a drift, and change from which an intensity is told.
_CLEAR, _LEAST_SHIFT, _LEAST_CHANGE = 5.0, 0.1, 0.05


class Frames:
    """Sums of the spectra of every pass. E channels, T frames.

    Parameters
    ----------
    n_channels
        Number of channels E.
    seed
        Of the simulated scans that the limit of alarms is taken from.
    """

    def __init__(self, n_channels: int, *, seed: int) -> None:
        self.sums = np.zeros((0, n_channels))
        self.n_pixels: list[int] = []
        self.told: dict[str, float] = {}
        self.trend: Trend | None = None
        self._seed = seed
        self._maxima: np.ndarray | None = None

    def absorb(self, rows: np.ndarray, visits: np.ndarray) -> list[int]:
        """Add (n, E) spectra of pixels that were visited (n,) times before.

        Returns
        -------
        the numbers of frames at which the last one is complete and trends can be looked for
        """
        complete = []
        first, last = int(visits.min()), int(visits.max())
        for visit in range(first, last + 1):
            some = rows if first == last else rows[visits == visit]
            while len(self.n_pixels) <= visit:
                self.sums = np.vstack([self.sums, np.zeros((1, self.sums.shape[1]))])
                self.n_pixels.append(0)
            self.sums[visit] += some.sum(axis=0, dtype=np.float64)
            self.n_pixels[visit] += len(some)
            if len(some) and visit + 1 >= LEAST_FRAMES and self.n_pixels[visit] == self.n_pixels[0]:
                complete.append(visit + 1)
        return complete

    def look(self, n_frames: int, line_width: np.ndarray, time: float, n_spectra: int) -> list[Event]:
        """Return what so many frames tell that was not told before.

        Parameters
        ----------
        n_frames
            Number of complete frames.
        line_width
            (E,) in channels.
        time, n_spectra
            Of the events.
        """
        windows = energy_windows(line_width, np.ones(len(line_width), bool), factors=(1.0, 2.0))
        frames = self.sums[:n_frames]
        if self._maxima is None:
            self._maxima = null_maxima(frames.mean(axis=0), windows, seed=self._seed)
        start = None if self.trend is None else self.trend.shift
        self.trend = trend(frames, windows, line_width=float(np.median(line_width)), start=start)
        when = (time, n_spectra)
        found = (self._damage(windows, n_frames, when), self._drift(n_frames, when), self._intensity(n_frames, when))
        return [event for event in found if event is not None]

    def _damage(self, windows: Windows, n_frames: int, when: tuple[float, int]) -> Event | None:
        assert self.trend is not None
        assert self._maxima is not None
        strongest = int(np.abs(self.trend.deviate).argmax())
        deviate = float(abs(self.trend.deviate[strongest]))
        if deviate <= limit_of(self._maxima) or "damage" in self.told:
            return None
        self.told["damage"] = deviate
        p = (1 + int((self._maxima >= deviate).sum())) / (1 + len(self._maxima))
        at, extent, rate = (float(v[strongest]) for v in (windows.centres, windows.widths, self.trend.rate))
        return Damage(*when, frame=n_frames, energy=at, width=extent, rate=rate, elements=(), p_value=p)

    def _drift(self, n_frames: int, when: tuple[float, int]) -> Event | None:
        assert self.trend is not None
        shift, error = float(self.trend.shift[-1]), float(self.trend.shift_error[-1])
        if abs(shift) <= max(_CLEAR * error, _LEAST_SHIFT, 2 * self.told.get("shift", 0.0)):
            return None
        self.told["shift"] = abs(shift)
        return EnergyDrift(*when, frame=n_frames, shift=shift, error=error)

    def _intensity(self, n_frames: int, when: tuple[float, int]) -> Event | None:
        assert self.trend is not None
        ratio = float(self.trend.intensity[-1])
        change = abs(np.log(max(ratio, 1e-6)))
        noise = _CLEAR * np.sqrt(2 / max(float(self.sums[0].sum()), 1.0))
        if change <= max(noise, _LEAST_CHANGE, 2 * self.told.get("intensity", 0.0)):
            return None
        self.told["intensity"] = change
        return IntensityChange(*when, frame=n_frames, ratio=ratio)
