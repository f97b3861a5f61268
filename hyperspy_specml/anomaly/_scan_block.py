"""Scan a box of pixels, strip by strip: spikes are listed and taken out first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._calibrate import scan_rows

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import Normal
    from hyperspy_specml.anomaly._scan import Scan
    from hyperspy_specml.anomaly._spikes import RimFinder, SpikeFinder


_STRIP = 1 << 22  # values scanned at a time: some copies of them as float32 are held


@dataclass(frozen=True)
class ScanBlock:
    """The block function of the scan: an object, so that it travels to other processes."""

    scan: Scan
    normal: Normal
    finder: SpikeFinder
    rims: RimFinder | None
    channels: np.ndarray
    used: np.ndarray

    def __call__(
        self, values: np.ndarray, pixels: np.ndarray, inner: tuple[slice, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        first, halo = inner[0], self.scan.halo
        step = max(4 * halo, _STRIP * len(pixels) // max(1, values.size), 1)
        tables, spikes = [], []
        for start in range(first.start, first.stop, step):
            stop = min(start + step, first.stop)
            below = max(0, start - halo)
            strip = slice(below, min(len(pixels), stop + halo))
            part = self._scan(values[strip], pixels[strip], (slice(start - below, stop - below), *inner[1:]))
            tables.append(part[0])
            spikes.append(part[1])
        return np.concatenate(tables), np.concatenate(spikes)

    def _scan(
        self, values: np.ndarray, pixels: np.ndarray, inner: tuple[slice, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        used = self.used[pixels]
        beyond = self._spikes_at_rims(values[used], pixels[used])
        values = values if self.channels.all() else values[..., self.channels]
        rows = values[used].astype(np.float32)
        coefficients = self.normal.coefficients(rows)
        # The scan must not see spikes, nor the model take part of them.
        row, channel, value, expected = self.finder.take_out(rows, coefficients, self.normal.coefficients)
        place = pixels[used][row], np.flatnonzero(self.channels)[channel]
        spikes = np.concatenate([np.stack([*place, value, expected], axis=1), beyond])
        table = scan_rows(self.scan, self.normal.shift, rows, coefficients, used)
        mine = np.zeros(used.shape, bool)
        mine[inner] = True
        return table[inner].reshape(-1, table.shape[-1]), spikes[np.isin(spikes[:, 0], pixels[mine])]

    def _spikes_at_rims(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Return (m, 4) spikes in channels that only some scan lines have: nothing else is searched there."""
        if self.rims is None:
            return np.empty((0, 4))
        length = self.used.size // len(self.rims.drift)
        row, channel, expected = self.rims.find(rows, pixels // length)
        return np.stack([pixels[row], channel, rows[row, channel], expected], axis=1)
