"""Move spectra along the energy axis, by whole channels."""

from __future__ import annotations

import numpy as np


def shift_channels(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return (n, E) spectra moved to higher channels; what comes from beyond the ends is 0.

    Whole channels leave the noise what it was.

    Parameters
    ----------
    rows
        (n, E) spectra.
    by
        (n,) integers, fewer than E.
    """
    moved = np.zeros_like(rows)
    n_channels = rows.shape[1]
    for shift in np.unique(by):
        at = by == shift
        moved[at, max(0, shift) : n_channels + min(0, shift)] = rows[
            at, max(0, -shift) : n_channels - max(0, shift)
        ]
    return moved
