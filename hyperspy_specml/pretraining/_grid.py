"""Spectra of any instrument on a common grid: what a channel holds is spread over the channels that it overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse

# Part of a patch that must be recorded for it to be shown to the encoder.
_LEAST_COVERED = 0.5
# Factors of the widths of channels beyond which spectra are of another kind: energy losses are no X-ray spectra.
_WIDER, _NARROWER = 20.0, 1 / 8


@dataclass(frozen=True)
class SpectralGrid:
    """Channels of equal width.

    Attributes
    ----------
    units
        Of the energies, "" where there are none.
    first, step
        Centre of the first channel, and width of all.
    size
        Number of channels E.
    """

    units: str
    first: float
    step: float
    size: int

    @property
    def centres(self) -> np.ndarray:
        """(E,) energies."""
        return self.first + self.step * np.arange(self.size)

    def overlap(self, centres: np.ndarray) -> float:
        """Return which part of the grid lies within channels with these centres, or of these within the grid: more.

        Much wider channels are of another kind of spectra, and tell nothing of these; of much narrower ones, which may
        be so, only the first counts.
        """
        low, high = np.sort([centres[0], centres[-1]])
        covered = float(((self.centres >= low) & (self.centres <= high)).mean())
        ratio = (high - low) / max(1, len(centres) - 1) / self.step
        if ratio > _WIDER or ratio < _NARROWER:
            return 0.0 if ratio > _WIDER else covered
        ends = self.first - self.step / 2, self.first + self.step * (self.size - 0.5)
        return max(covered, float(((centres >= ends[0]) & (centres <= ends[1])).mean()))

    def matrix(self, centres: np.ndarray) -> scipy.sparse.csr_array:
        """Return the (E of the data, E) parts of each channel that fall into each channel of the grid.

        Parameters
        ----------
        centres
            (E of the data,) energies of the data's channels, rising or falling.
        """
        return _overlaps(tuple(map(float, centres)), self)

    def covered(self, centres: np.ndarray, patch: int) -> np.ndarray:
        """Return (n_patches,) bool: which patches the data's channels record."""
        low, high = _edges(np.sort(centres))[[0, -1]]
        inside = (self.centres >= low) & (self.centres <= high)
        inside = np.pad(inside, (0, -self.size % patch))
        return inside.reshape(-1, patch).mean(axis=1) >= _LEAST_COVERED

    def places(self, patch: int) -> np.ndarray:
        """Return the (n_patches, 2) centres and widths of the patches, as positive numbers of their unit."""
        starts = np.arange(0, self.size, patch)
        centre = self.first + self.step * (starts + (patch - 1) / 2)
        return np.stack([np.abs(centre) + self.step, np.full(len(starts), self.step * patch)], axis=1)


def _edges(centres: np.ndarray) -> np.ndarray:
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


@lru_cache(maxsize=64)
def _overlaps(centres: tuple[float, ...], grid: SpectralGrid) -> scipy.sparse.csr_array:
    values = np.array(centres)
    order = np.argsort(values)
    edges = (_edges(values[order]) - grid.first) / grid.step + 0.5  # in channels of the grid
    rows, columns, parts = [], [], []
    for k in range(len(values)):
        low, high = edges[k], edges[k + 1]
        for j in range(max(0, int(np.floor(low))), min(grid.size, int(np.ceil(high)))):
            part = (min(high, j + 1) - max(low, j)) / (high - low)
            if part > 0:
                rows.append(order[k])
                columns.append(j)
                parts.append(part)
    return scipy.sparse.csr_array((parts, (rows, columns)), (len(values), grid.size), dtype=np.float32)
