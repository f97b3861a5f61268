"""From p-values of pixels to regions with a controlled false discovery rate.

A strong anomaly makes many pixels significant, and they are one discovery: regions are counted, not pixels.

References
----------
Y. Benjamini, Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289;
A. Schwartzman, Y. Gavrilov, R. J. Adler, Ann. Statist. 39 (2011) 3290 (testing of peaks).
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from hyperspy_specml.anomaly._null import equivalent_z

_CERTAIN = -1e-12  # logarithm of the largest p-value that has a normal deviate
_EXTENT = 0.6  # of the strongest neighbour: outside a region windows that reach into it are weaker


def peaks(strength: np.ndarray, reach: int) -> np.ndarray:
    """Return bool: the pixel is the strongest within a square of `reach` pixels, the first of equal ones."""
    strength = np.nan_to_num(strength, nan=-np.inf)
    top = (strength == scipy.ndimage.maximum_filter(strength, reach, mode="nearest")) & np.isfinite(strength)
    labels, _ = scipy.ndimage.label(top, np.ones((3,) * strength.ndim))
    first = np.zeros(strength.size, bool)
    flat = labels.reshape(-1)
    inside = np.flatnonzero(flat)
    first[inside[np.unique(flat[inside], return_index=True)[1]]] = True
    return first.reshape(strength.shape)


def significant(log_p: np.ndarray, *, fdr: float, reach: int) -> float:
    """Return the logarithm of the largest p-value that keeps the false discovery rate; -inf for none.

    Parameters
    ----------
    log_p
        Map of p-values, NaN where a pixel is not used.
    fdr
        Wanted share of false regions among all.
    reach
        Of a peak.
    """
    n_tests = max(1, int(np.isfinite(log_p).sum()))  # strong pixels without anomalies stand alone
    limit = _benjamini_hochberg(log_p[peaks(-log_p, reach)], fdr, n_tests)
    if np.isinf(limit):
        return limit
    # A large region has several peaks and is one discovery all the same.
    strength = equivalent_z(np.minimum(log_p, _CERTAIN))
    labels, n = label_regions(strength, float(equivalent_z(np.array(limit))), reach)
    best = scipy.ndimage.minimum(np.nan_to_num(log_p), labels, np.arange(1, n + 1))
    return _benjamini_hochberg(np.asarray(best), fdr, n_tests)


def _benjamini_hochberg(log_p: np.ndarray, fdr: float, n_tests: int) -> float:
    """Return the logarithm of the largest p-value that keeps the false discovery rate; -inf for none."""
    limits = np.log(fdr * np.arange(1, len(log_p) + 1) / n_tests)
    good = np.flatnonzero(np.sort(log_p) <= limits)
    return float(limits[good[-1]]) if len(good) else -np.inf


def label_regions(strength: np.ndarray, threshold: float, reach: int) -> tuple[np.ndarray, int]:
    """Label the regions of pixels that are beyond a threshold.

    Parameters
    ----------
    strength
        Map, NaN where a pixel is not used.
    threshold
        Every region has a pixel at or above it.
    reach
        Pixels over which windows blur a region.
    """
    strength = np.nan_to_num(strength, nan=-np.inf)
    top = scipy.ndimage.maximum_filter(strength, reach, mode="nearest")
    inside = (strength >= threshold) & (strength >= _EXTENT * top)
    # What lies two pixels apart is one region: the windows that found it do not see such gaps.
    labels, n = scipy.ndimage.label(scipy.ndimage.maximum_filter(inside, 3), np.ones((3,) * strength.ndim))
    return np.where(inside, labels, 0), n
