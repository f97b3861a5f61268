"""Spikes in spectra of a scan: they are no phase.

n spectra, G groups of channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.live._spectra import Spectra

if TYPE_CHECKING:
    from hyperspy_specml.live._library import Library

# Standard deviations of one group of channels from which it may be a spike, the counts from which its noise is
# measured, and the part of it that a line puts into the groups beside it, at least.
_STRONG, _LEAST, _BESIDE = 12.0, 1.0, 0.25


def without_spikes(library: Library, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return (n, G) values with what phases expect in place of spikes, and the number of spikes.

    A spike fills one group of channels, a line three; nothing of the sample is as strong as that in one group.

    Parameters
    ----------
    library
        The phases.
    values
        (n, G) values of the law.
    """
    some = np.flatnonzero(values.max(axis=1) > _STRONG)
    if not len(some):
        return values, 0
    rows = values[some]
    expected = library.means(Spectra(rows))
    excess = rows - expected
    noise = np.sqrt(np.maximum(expected, np.float32(_LEAST))) if library.counts else np.float32(1.0)
    row, group = np.nonzero(excess > np.float32(_STRONG) * noise)
    if not len(row):
        return values, 0
    last = values.shape[1] - 1
    left = np.where(group > 0, excess[row, np.maximum(group - 1, 0)], 0)
    right = np.where(group < last, excess[row, np.minimum(group + 1, last)], 0)
    alone = np.maximum(left, right) < _BESIDE * excess[row, group]
    row, group = row[alone], group[alone]
    clean = values.copy()
    clean[some[row], group] = expected[row, group]
    return clean, len(row)
