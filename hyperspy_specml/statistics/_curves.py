"""Curves of held-out scores over the steps of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Points at the end of a training's curve that its slope is measured on, and the fewest.
_LAST, _LEAST_LAST = 10, 4
# Standard errors that the slope is below zero by, where the curve still falls.
_STEEP = 3.0


def falls(scores: Sequence[float]) -> bool:
    """Return whether the scores of a training still fall: their slope, beside the error that their scatter gives it.

    The last point of a curve that has come to its end is often its lowest, by chance.

    Parameters
    ----------
    scores
        At equal distances; the last ten are looked at. Of fewer than four, whether the last one is the smallest.
    """
    last = np.asarray(scores[-_LAST:])
    if len(last) < _LEAST_LAST:
        return len(last) > 1 and bool(last.argmin() == len(last) - 1)
    places = np.arange(len(last)) - (len(last) - 1) / 2
    slope = places @ last / (places @ places)
    left = last - last.mean() - slope * places
    error = np.sqrt(left @ left / (len(last) - 2) / (places @ places))
    return bool(slope < -_STEEP * error)
