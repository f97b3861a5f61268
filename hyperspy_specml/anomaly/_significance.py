"""From the maximum of a scan to a p-value, and from p-values to regions with a known false discovery rate.

The strongest of many windows is strong by chance. How strong depends on how many windows are independent,
which is not known, and on the expected counts of the pixel. Maps drawn from the reference model and scanned
in the same way show both: the distribution of maxima without any anomaly (the null distribution). Its tail is
fitted, because few maps are drawn.

A strong anomaly makes many pixels significant, and they are one discovery: regions are counted, not pixels.

References
----------
Y. Benjamini, Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289;
A. Schwartzman, Y. Gavrilov, R. J. Adler, Ann. Statist. 39 (2011) 3290 (testing of peaks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
import scipy.optimize
from scipy.special import log_ndtr, ndtri_exp

if TYPE_CHECKING:
    from hyperspy_specml.models import Parts

# Groups of pixels with similar expected counts, at most, and the smallest number of pixels in one.
_N_STRATA = 8
_LEAST_PER_STRATUM = 1000
# Fraction of the maxima whose tail is fitted, and how many of the largest are left out because they scatter.
_TAIL_FRACTION, _N_EXTREME = 0.2, 5.0
# p-values that bound the bins in which a map's own maxima are counted; most pixels there are ordinary.
_ORDINARY = 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1 - 1e-9
# Ordinary pixels needed below the second of these p-values.
_LEAST_ORDINARY = 10
# p-value that no error of the model makes: such pixels are anomalies, and they and their neighbours are not
# counted.
_CERTAIN = 1e-8
# Ratio of observed to expected numbers of pixels in the lowest bins from which the null is adapted; smaller
# ratios occur by chance.
_LEAST_RATIO = 1.3
# Logarithm of the largest p-value that has a finite normal deviate.
LARGEST_LOG_P = -1e-12
# Score of a pixel relative to its strongest neighbour from which it belongs to the region: outside, squares
# that reach into the region have weaker scores.
_EXTENT = 0.6
# Logarithm of -log(1 - p) that stands for p = 1.
_LOG_RATE_OF_1 = 5.0


@dataclass(frozen=True)
class NullFit:
    """The distribution of scan maxima without anomalies, depending on the counts expected in the pixel.

    ``log(-log(1 - p)) = shift + slope * log(q)``, where q is the two-sided tail probability of the standard
    normal distribution: for the maximum of independent windows the slope is 1 and the shift the logarithm of
    their number.

    Attributes
    ----------
    expected
        (S,) typical expected counts of each stratum, rising.
    shift, slope
        (S,) and one number: the fitted tail.
    n
        Maxima that it was fitted to: p below 1/n is extrapolated.
    """

    expected: np.ndarray
    shift: np.ndarray
    slope: float
    n: int

    def log_p(self, maxima: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return the logarithm of the p-value of each maximum, given the expected counts of its pixel."""
        log_rate = self.log_rate(maxima, expected)
        rate = np.exp(np.clip(log_rate, -500, _LOG_RATE_OF_1))
        # p = 1 - exp(-rate), without losing tiny rates
        return np.where(log_rate < -15, log_rate, np.log(-np.expm1(-rate)))

    def log_rate(self, maxima: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return the logarithm of ``-log(1 - p)``."""
        shift = np.interp(expected, self.expected, self.shift)
        return shift + self.slope * _log_q(np.asarray(maxima, np.float64))

    def adapted_to(self, maxima: np.ndarray, expected: np.ndarray, used: np.ndarray, reach: int) -> NullFit:
        """Return the fit to a map's own maxima, where these are stronger than those of drawn maps.

        A model with errors makes all pixels a little too significant. Ordinary pixels, of which few are
        anomalies, show it.

        Parameters
        ----------
        maxima, expected, used
            Maps.
        reach
            Side in pixels of the square that one anomaly can affect.
        """
        log_rate = np.where(used, self.log_rate(maxima, expected), _LOG_RATE_OF_1)
        certain = scipy.ndimage.minimum_filter(log_rate, reach, mode="nearest") < np.log(_CERTAIN)
        edges = np.log(-np.log1p(-np.array(_ORDINARY)))
        counts = np.histogram(log_rate[used & ~certain], edges)[0]
        if counts.sum() * _ORDINARY[1] < _LEAST_ORDINARY:  # too few pixels for a fit
            return self

        def deviance(line: np.ndarray) -> float:
            rate = np.exp(np.clip(line[0] + line[1] * edges, -50, _LOG_RATE_OF_1))
            fraction = np.maximum(np.diff(-np.expm1(-rate)), 1e-12)
            return float(-counts @ np.log(fraction / fraction.sum()))

        # Maps drawn from the model have shift 0 and slope 1.
        shift, slope = scipy.optimize.minimize(deviance, (0.0, 0.9), method="Nelder-Mead").x
        if not 0.2 < slope < 1 or shift + (slope - 1) * edges[1] < np.log(_LEAST_RATIO):
            return self
        return replace(self, shift=shift + slope * self.shift, slope=slope * self.slope)

    def settings(self) -> dict[str, float]:
        """Return the numbers of the fit, for a file."""
        return {"slope": float(self.slope), "n": self.n}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the fit, for a file."""
        return {"expected": self.expected, "shift": self.shift}

    @classmethod
    def from_parts(cls, parts: Parts) -> NullFit:
        """Return the fit with these settings and arrays.

        Raises
        ------
        ValueError
            They do not make up one.
        """
        expected = parts.array("expected", -1)
        if not len(expected) or (np.diff(expected) < 0).any():
            raise ValueError("the expected counts of the null distribution do not rise")
        slope = parts.setting("slope", float)
        if not 0 < slope < np.inf:
            raise ValueError(f"the slope of the null distribution is {slope}, not positive")
        return cls(expected, parts.array("shift", len(expected)), slope, parts.size("n", most=1 << 40))


def fit_null(maxima: np.ndarray, expected: np.ndarray) -> NullFit:
    """Fit the tail of maxima of scans without anomalies, in strata of expected counts.

    Parameters
    ----------
    maxima, expected
        (n,) scan maximum (without sign) and expected counts of every pixel.
    """
    n_strata = int(np.clip(len(maxima) // _LEAST_PER_STRATUM, 1, _N_STRATA))
    strata = np.array_split(np.argsort(expected, kind="stable"), n_strata)
    log_q, log_rate, spread, shared = np.transpose([_tail(maxima[stratum]) for stratum in strata])
    # One slope for all: the number of windows changes with the counts, the way they depend on each other does
    # not.
    slope = sum(shared.tolist()) / sum(spread.tolist()) if spread.any() else 1.0
    typical = np.array([np.median(expected[stratum]) for stratum in strata])
    return NullFit(typical, log_rate - slope * log_q, slope, len(maxima))


def equivalent_z(log_p: np.ndarray) -> np.ndarray:
    """Return the standard normal deviate with these one-sided p-values."""
    return -ndtri_exp(log_p)


def local_peaks(strength: np.ndarray, reach: int) -> np.ndarray:
    """Return bool: the pixel is the strongest within a square of `reach` pixels, the first of equal ones."""
    strength = np.nan_to_num(strength, nan=-np.inf)
    top = (strength == scipy.ndimage.maximum_filter(strength, reach, mode="nearest")) & np.isfinite(strength)
    labels, _ = scipy.ndimage.label(top, np.ones((3,) * strength.ndim))
    found, first = np.unique(labels, return_index=True)
    return np.isin(np.arange(strength.size), first[found > 0]).reshape(strength.shape)


def significant_log_p(log_p: np.ndarray, *, fdr: float, reach: int) -> float:
    """Return the logarithm of the largest p-value that keeps the false discovery rate; -inf for none.

    Parameters
    ----------
    log_p
        Map of logarithms of p-values, NaN where a pixel is not used.
    fdr
        Accepted fraction of false regions among all.
    reach
        Side in pixels of the square within which a peak is the largest value.
    """
    n_tests = max(1, int(np.isfinite(log_p).sum()))  # without anomalies strong pixels are isolated
    limit = _benjamini_hochberg(log_p[local_peaks(-log_p, reach)], fdr, n_tests)
    if np.isinf(limit):
        return limit
    # A large region has several peaks and is one discovery all the same.
    strength = equivalent_z(np.minimum(log_p, LARGEST_LOG_P))
    labels, n = label_regions(strength, float(equivalent_z(np.array(limit))), reach)
    best = scipy.ndimage.minimum(np.nan_to_num(log_p), labels, np.arange(1, n + 1))
    return _benjamini_hochberg(np.asarray(best), fdr, n_tests)


def _benjamini_hochberg(log_p: np.ndarray, fdr: float, n_tests: int) -> float:
    """Return the logarithm of the largest p-value that keeps the false discovery rate; -inf for none."""
    limits = np.log(fdr * np.arange(1, len(log_p) + 1) / n_tests)
    good = np.flatnonzero(np.sort(log_p) <= limits)
    return float(limits[good[-1]]) if len(good) else -np.inf


def label_regions(strength: np.ndarray, threshold: float, reach: int) -> tuple[np.ndarray, int]:
    """Label the regions of pixels that are above a threshold.

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
    # Pixels two apart belong to one region: the squares that found them do not see such gaps.
    labels, n = scipy.ndimage.label(scipy.ndimage.maximum_filter(inside, 3), np.ones((3,) * strength.ndim))
    return np.where(inside, labels, 0), n


def _tail(maxima: np.ndarray) -> tuple[float, float, float, float]:
    """Return weighted means of log q and the log rate in a tail, and the sums of squares and products about them."""
    x = _log_q(np.sort(maxima)[::-1])
    n = len(x)
    exceed = (np.arange(n) + 0.5) / n
    inside = (exceed <= max(_TAIL_FRACTION, _N_EXTREME / n)) & (np.arange(n) >= min(_N_EXTREME, n // 8))
    x, y = x[inside], np.log(-np.log1p(-exceed[inside]))
    weights = exceed[inside]  # inverse variances of an empirical tail
    mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
    along = weights * (x - mean_x)
    return mean_x, mean_y, float(along @ (x - mean_x)), float(along @ (y - mean_y))


def _log_q(maxima: np.ndarray) -> np.ndarray:
    return np.log(2) + log_ndtr(-maxima)
