"""From the maximum of a scan to a p-value: what maxima counts without any anomaly would give.

The strongest of many windows is strong by chance. How strong depends on how many windows are independent,
which nobody knows, and on the counts of the pixel. Maps drawn from the model of the normal and scanned in
the same way tell both. Their tail is fitted, because few of them are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
import scipy.optimize
from scipy.special import log_ndtr, ndtri_exp

from hyperspy_specml.statistics import correlation_kernel

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel

_N_STRATA = 8
_LEAST_PER_STRATUM = 1000
_ORDINARY = 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1 - 1e-9  # p-values between which most pixels are normal
_STRANGE = 1e-8  # p-value that no misfit of the model makes: such pixels and their neighbours do not count
_LEAST_ORDINARY = 10  # pixels below the second p-value
_INFLATED = 1.3  # times too many pixels there: by chance it can be as many
_FITTED = 0.2, 5.0  # from this share of the maxima down to so many of them the tail is fitted


@dataclass(frozen=True)
class NullFit:
    """The distribution of scan maxima without anomalies, by the counts expected in the pixel.

    ``log(-log(1 - p)) = shift + slope * log(q)`` with q the two-sided tail of the standard normal: a maximum
    over independent windows has slope 1 and the log of their number as shift.

    Attributes
    ----------
    dose
        (S,) typical expected counts of each stratum, rising.
    shift, slope
        (S,) and one number: fitted tail.
    n
        Maxima that it was fitted to: p below 1/n is extrapolated.
    """

    dose: np.ndarray
    shift: np.ndarray
    slope: float
    n: int

    def log_p(self, maxima: np.ndarray, dose: np.ndarray) -> np.ndarray:
        """Return the logarithm of the p-value of each maximum."""
        log_rate = self.log_rate(maxima, dose)
        rate = np.exp(np.clip(log_rate, -500, 5))  # p = 1 - exp(-rate), without losing rates that are tiny
        return np.where(log_rate < -15, log_rate, np.log(-np.expm1(-rate)))

    def log_rate(self, maxima: np.ndarray, dose: np.ndarray) -> np.ndarray:
        """Return the logarithm of ``-log(1 - p)``."""
        shift = np.interp(dose, self.dose, self.shift)
        return shift + self.slope * _log_q(np.asarray(maxima, np.float64))

    def adapted_to(self, maxima: np.ndarray, dose: np.ndarray, used: np.ndarray, reach: int) -> NullFit:
        """Return the fit to a map's own maxima, where these are stronger than those of drawn maps.

        A model that does not describe all of the normal makes everything a little too significant. That shows
        among ordinary pixels, of which few are anomalies.

        Parameters
        ----------
        maxima, dose, used
            Maps.
        reach
            Pixels over which an anomaly spreads.
        """
        log_rate = np.where(used, self.log_rate(maxima, dose), 5.0)
        strange = scipy.ndimage.minimum_filter(log_rate, reach, mode="nearest") < np.log(_STRANGE)
        edges = np.log(-np.log1p(-np.array(_ORDINARY)))
        counts = np.histogram(log_rate[used & ~strange], edges)[0]
        if counts.sum() * _ORDINARY[1] < _LEAST_ORDINARY:  # a map of few pixels does not tell
            return self

        def deviance(line: np.ndarray) -> float:
            rate = np.exp(np.clip(line[0] + line[1] * edges, -50, 5))
            share = np.maximum(np.diff(-np.expm1(-rate)), 1e-12)
            return float(-counts @ np.log(share / share.sum()))

        # The line through nothing but the diagonal is what drawn maps have.
        shift, slope = scipy.optimize.minimize(deviance, (0.0, 0.9), method="Nelder-Mead").x
        if not 0.2 < slope < 1 or shift + (slope - 1) * edges[1] < np.log(_INFLATED):
            return self
        return replace(self, shift=shift + slope * self.shift, slope=slope * self.slope)


def fit_null(maxima: np.ndarray, dose: np.ndarray) -> NullFit:
    """Fit the tail of maxima of scans without anomalies, in strata of dose.

    Parameters
    ----------
    maxima, dose
        (n,) scan maximum (without sign) and expected counts of every pixel.
    """
    n_strata = int(np.clip(len(maxima) // _LEAST_PER_STRATUM, 1, _N_STRATA))
    strata = np.array_split(np.argsort(dose, kind="stable"), n_strata)
    tails = [_Tail.of(maxima[stratum]) for stratum in strata]
    # One slope: the number of windows changes with the counts, how they depend on each other does not.
    spread = sum(tail.spread for tail in tails)
    slope = sum(tail.shared for tail in tails) / spread if spread else 1.0
    shift = np.array([tail.log_rate - slope * tail.log_q for tail in tails])
    return NullFit(np.array([np.median(dose[stratum]) for stratum in strata]), shift, slope, len(maxima))


def equivalent_z(log_p: np.ndarray) -> np.ndarray:
    """Return the standard normal deviate with these one-sided p-values."""
    return -ndtri_exp(log_p)


def draw(noise: NoiseModel, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw (..., E) values with this mean, float32."""
    mean = np.maximum(mean, 0)
    if noise.name == "poisson":
        return rng.poisson(mean).astype(np.float32)
    values = rng.standard_normal(mean.shape, dtype=np.float32)
    values = scipy.ndimage.convolve1d(values, correlation_kernel(np.array(noise.correlation)), axis=-1)
    return (mean + values * np.sqrt(noise.variance(mean))).astype(np.float32)


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
        share, few = _FITTED
        inside = (exceed <= max(share, few / n)) & (np.arange(n) >= min(few, n // 8))
        x, y = x[inside], np.log(-np.log1p(-exceed[inside]))
        weights = exceed[inside]  # inverse squares of the scatter of an empirical tail
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        along = weights * (x - mean_x)
        return cls(mean_x, mean_y, float(along @ (x - mean_x)), float(along @ (y - mean_y)))


def _log_q(maxima: np.ndarray) -> np.ndarray:
    return np.log(2) + log_ndtr(-maxima)
