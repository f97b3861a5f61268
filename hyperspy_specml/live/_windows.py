"""Windows of energy, one, two and four lines wide, and how far spectra are from what is expected in them.

n spectra, G groups of channels, J windows. A group is a third of a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hyperspy_specml.statistics import signed_squares

# Widths in groups of channels, and steps from one window to the next in a width.
_WIDTHS, _STEPS = (3, 6, 12), 3
# Smallest expected counts of a window.
_LEAST_EXPECTED = np.float32(1e-3)


@dataclass(frozen=True, eq=False)
class Windows:
    """Intervals of groups of channels.

    Attributes
    ----------
    starts, stops
        (J,) first group, and the one after the last.
    """

    starts: np.ndarray
    stops: np.ndarray

    def __len__(self) -> int:
        """Return the number of windows J."""
        return len(self.starts)

    @property
    def widths(self) -> np.ndarray:
        """(J,) number of groups."""
        return self.stops - self.starts

    def sums(self, table: np.ndarray) -> np.ndarray:
        """Return the (n, J) float32 sums of (n, G) values over the windows."""
        found = np.empty((len(table), len(self)), np.float32)
        table = np.asarray(table, np.float32)
        narrow, before, start = table, (1, 1, table.shape[1]), 0
        for width, step, n in _layout(table.shape[1]):
            # Sums over narrower windows, side by side: (width, step, number) of those are `before`.
            parts, stride = width // before[0], step // before[1]
            out, last = found[:, start : start + n], (n - 1) * stride + 1
            if parts * before[0] != width or stride * before[1] != step or before[0] % before[1]:
                narrow, before, parts, stride = table, (1, 1, table.shape[1]), width, step
                last = (n - 1) * stride + 1
            shift = before[0] // before[1]
            np.copyto(out, narrow[:, 0:last:stride])
            for k in range(1, parts):
                out += narrow[:, k * shift : k * shift + last : stride]
            narrow, before, start = out, (width, step, n), start + n
        return found

    def squares(
        self, sums: np.ndarray, mean: np.ndarray, *, counts: bool, error: np.ndarray | float, doubt: np.ndarray
    ) -> np.ndarray:
        """Return the (n, J) squared deviates of windows.

        Parameters
        ----------
        sums, mean
            (n, J) sums over the windows, and their means.
        counts
            Whether the values are counts; else the variance of each group is one.
        error
            Relative error of the means: of all windows, or (J,).
        doubt
            (n,) variance of the means over that of the values.
        """
        error = np.asarray(error, np.float32)
        more = 1 + np.asarray(doubt, np.float32)[:, None]
        if counts:
            mean = np.maximum(mean, _LEAST_EXPECTED)
            return np.abs(signed_squares(sums, mean)) / (more + error**2 * mean)
        return (sums - mean) ** 2 / (self.widths.astype(np.float32) * more + error**2 * mean**2)

    def relative_error(self, excess: np.ndarray, mean: np.ndarray, *, counts: bool) -> np.ndarray:
        """Return the (J,) relative errors of means that make variances so many times larger than those of noise.

        Parameters
        ----------
        excess
            (J,) variance over that of noise.
        mean
            (J,) mean of the windows.
        counts
            Whether the values are counts.
        """
        mean = np.maximum(mean, _LEAST_EXPECTED)
        return np.sqrt(np.maximum(excess - 1, 0) * (1 / mean if counts else self.widths / mean**2)).astype(np.float32)


def _layout(n_groups: int) -> list[tuple[int, int, int]]:
    """Return width, step and number of the windows of each kind."""
    found = []
    for width in sorted({min(width, n_groups) for width in _WIDTHS}):
        step = max(1, width // _STEPS)
        found.append((width, step, (n_groups - width) // step + 1))
    return found


@lru_cache(maxsize=8)
def windows_of(n_groups: int) -> Windows:
    """Return the windows of so many groups of channels.

    Parameters
    ----------
    n_groups
        Number of groups G.
    """
    layout = _layout(n_groups)
    starts = np.concatenate([step * np.arange(n) for _, step, n in layout])
    widths = np.concatenate([np.full(n, width) for width, _, n in layout])
    return Windows(starts, starts + widths)
