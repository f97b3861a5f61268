"""Where to look longer: a second pass in proportion to the root of what is not known.

References
----------
J. Neyman, J. R. Stat. Soc. 97 (1934) 558 (samples in proportion to the standard deviation of each stratum).
"""

from __future__ import annotations

import numpy as np

# Part of the mean dwell time that pixels of certain phase get: a model is never quite right.
_LEAST = 0.05


def dwell_times(probability: np.ndarray, total: float, max_ratio: float) -> np.ndarray:
    """Return the (n,) dwell times of pixels.

    Parameters
    ----------
    probability
        (K, n) of the phases.
    total
        Sum of the dwell times.
    max_ratio
        Largest dwell time over the mean one, from 1 on.
    """
    entropy = -(probability * np.log(np.maximum(probability, 1e-30))).sum(axis=0, dtype=np.float64)
    wanted = np.sqrt(entropy) + _LEAST * max(float(np.sqrt(entropy).mean()), 1e-12)
    mean = total / len(wanted)
    dwell = wanted * (total / wanted.sum())
    for _ in range(50):  # what is cut off goes to the others
        dwell = np.minimum(dwell, max_ratio * mean)
        free = dwell < max_ratio * mean
        missing = total - dwell.sum()
        if missing <= 1e-9 * total or not free.any():
            break
        dwell[free] += wanted[free] * (missing / wanted[free].sum())
    return dwell
