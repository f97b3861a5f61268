"""From the maximum of a scan to a p-value: the distribution of maxima without any anomaly (the null distribution).

The strongest of many windows is strong by chance. How strong depends on how many windows are independent, which is
not known, and on the expected counts of the pixel. Maps drawn from the reference model and scanned in the same way
show both. Their tail is fitted, because few of them are drawn.
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
# p-value that no error of the model makes: such pixels are anomalies, and they and their neighbours are not counted.
_CERTAIN = 1e-8
# Ratio of observed to expected numbers of pixels in the lowest bins from which the null is adapted; smaller ratios
# occur by chance.
_LEAST_RATIO = 1.3
# Logarithm of -log(1 - p) that stands for p = 1.
_LOG_RATE_OF_1 = 5.0


@dataclass(frozen=True)
class NullFit:
    """The distribution of scan maxima without anomalies, depending on the counts expected in the pixel.

    ``log(-log(1 - p)) = shift + slope * log(q)``, where q is the two-sided tail probability of the standard normal
    distribution: for the maximum of independent windows the slope is 1 and the shift the logarithm of their number.

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

        A model with errors makes all pixels a little too significant. Ordinary pixels, of which few are anomalies,
        show it.

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
    tails = [_Tail.of(maxima[stratum]) for stratum in strata]
    # One slope for all: the number of windows changes with the counts, the way they depend on each other does not.
    spread = sum(tail.spread for tail in tails)
    slope = sum(tail.shared for tail in tails) / spread if spread else 1.0
    shift = np.array([tail.log_rate - slope * tail.log_q for tail in tails])
    return NullFit(np.array([np.median(expected[stratum]) for stratum in strata]), shift, slope, len(maxima))


def equivalent_z(log_p: np.ndarray) -> np.ndarray:
    """Return the standard normal deviate with these one-sided p-values."""
    return -ndtri_exp(log_p)


@dataclass(frozen=True)
class _Tail:
    """Weighted means of a stratum's tail, and its sums of squares and products about them."""

    log_q: float
    log_rate: float
    spread: float
    shared: float

    @classmethod
    def of(cls, maxima: np.ndarray) -> _Tail:
        x = _log_q(np.sort(maxima)[::-1])
        n = len(x)
        exceed = (np.arange(n) + 0.5) / n
        inside = (exceed <= max(_TAIL_FRACTION, _N_EXTREME / n)) & (np.arange(n) >= min(_N_EXTREME, n // 8))
        x, y = x[inside], np.log(-np.log1p(-exceed[inside]))
        weights = exceed[inside]  # inverse variances of an empirical tail
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        along = weights * (x - mean_x)
        return cls(mean_x, mean_y, float(along @ (x - mean_x)), float(along @ (y - mean_y)))


def _log_q(maxima: np.ndarray) -> np.ndarray:
    return np.log(2) + log_ndtr(-maxima)
