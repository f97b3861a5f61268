"""Spectra that are moved along energy: models of spectra, never counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Moves:
    """Shifts, and stretches about the middle, of the energy axis.

    Attributes
    ----------
    channels
        (E,) numbers of the channels in use, rising.
    largest
        Largest shift, and largest further shift of the ends by a stretch, in channels.
    """

    channels: np.ndarray
    largest: float

    def moved(self, spectra: np.ndarray, by: np.ndarray) -> Iterator[np.ndarray]:
        """Yield spectra that are moved in several ways; what comes in at the ends is like the channel there.

        Parameters
        ----------
        spectra
            (n, E) expectations, no counts.
        by
            (M, 2) shifts of all channels upwards and of the ends outwards, in units of `largest`.
        """
        channels = self.channels.astype(float)
        first, last = channels[0], channels[-1]
        middle, half = 0.5 * (first + last), self._half
        curve = CubicSpline(channels, spectra, axis=1)
        for shift, outwards in self.largest * by:
            wider = 1 + outwards / half  # and as much lower
            yield curve(np.clip(middle + (channels - middle - shift) / wider, first, last)) / wider

    def inverse(self, by: np.ndarray) -> np.ndarray:
        """Return the (M, 2) moves that undo those of `moved`.

        Parameters
        ----------
        by
            See `moved`.
        """
        wider = 1 + by[:, 1] * self.largest / self._half
        return np.column_stack([-by[:, 0] / wider, (1 / wider - 1) * self._half / self.largest])

    @property
    def _half(self) -> float:
        """Half the length of the axis, in channels."""
        return 0.5 * float(self.channels[-1] - self.channels[0])
