"""How wide the sharpest feature of a map's spectra is: one answer for all methods.

The width is the full width at half maximum, in channels, of the sharpest feature of the mean spectrum that
carries signal. A feature is a maximum, over position and width of a Gaussian filter, of the downward
curvature of the filtered spectrum (scale-space theory). It carries signal if that maximum stands out of the
noise and its height is at least 5 % of the highest feature's. Gaussian lines set the scale: of one with
standard deviation s, the curvature behind a filter of standard deviation f times f^1.5 is largest for f = s.

Differences of neighbouring channels alone will not do: they carry most of the noise, and the strongest
feature rules them, not the sharpest.

References
----------
T. Lindeberg, "Feature detection with automatic scale selection", Int. J. Comput. Vis. 30 (1998) 79.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
import scipy.ndimage

from hyperspy_specml.statistics._noise import uniform

if TYPE_CHECKING:
    from hyperspy_specml.statistics._noise import NoiseModel

    Channels = np.ndarray | None

NARROWEST = 2.0  # channels: narrower lines are not resolved by the sampling
UNKNOWN = 3.0  # channels, where no feature stands out: what a well-chosen dispersion gives a line

_FWHM = float(np.sqrt(8 * np.log(2)))  # full width at half maximum over standard deviation
_WIDEST_SHARE = 1 / 8  # of the channels: broader humps are background
_STEP = 1.15  # ratio of neighbouring filter widths
_POWER = 1.5  # of the filter width; larger values see neighbouring lines, smaller ones more noise
_THRESHOLD = 8.0  # standard deviations: at 6, noise on a broad line still makes narrow maxima now and then
_FROM_ENDS = 3.0  # filter widths: nearer to an end or a gap half a filter sees the noise of the last channel
_LEAST_HEIGHT = 0.05  # of the highest feature: weaker ones may be the detector's gain pattern
_ALIKE = 1.4  # features up to this ratio wider than the sharpest are averaged: the least of many is too small
_GROUPS = 16  # of spectra,
_TRIMMED = 3  # and how many of the highest and of the lowest group means are left out
_ROUNDING = float(np.finfo(np.float32).eps)  # of recorded values


def typical_mean(spectra: np.ndarray) -> np.ndarray:
    """Return a mean spectrum that single hot pixels and cosmic rays do not change.

    Spectra are dealt into 16 groups at random; of the 16 group means the three highest and the three lowest
    are left out in each channel. The noise variance is less than a tenth above that of the plain mean.

    Parameters
    ----------
    spectra
        (n, E) finite values of any real dtype, at least one spectrum.

    Returns
    -------
    (E,) float64
    """
    n = len(spectra)
    order = np.argsort(uniform(0, 0, np.arange(n), np.zeros(1, int)), kind="stable")
    n_groups = min(_GROUPS, n)
    means = np.stack([spectra[np.sort(order[g::n_groups])].mean(axis=0, dtype=np.float64) for g in range(n_groups)])
    trimmed = _TRIMMED * n_groups // _GROUPS
    means.sort(axis=0)
    return means[trimmed : n_groups - trimmed].mean(axis=0)


def line_width(
    mean: np.ndarray, noise: NoiseModel, *, n_spectra: int, channels: Channels = None, detector: Channels = None
) -> float:
    """Return the width of the sharpest feature of a mean spectrum that carries signal.

    Right within 20 % for isolated lines of 3 to 20 channels. Peaks less than 1.7 widths apart narrow each
    other and come out up to 30 % too narrow; a peak less than 1.3 widths from an end of the axis, or from a
    gap, is not seen. What moves lines from spectrum to spectrum, such as a drift of the energy axis, widens
    those of the mean.

    Parameters
    ----------
    mean
        (E in use,) mean spectrum, such as `typical_mean`.
    noise
        Noise model of single spectra.
    n_spectra
        How many spectra the mean is of.
    channels
        (whole axis,) bool, True in the E channels in use; None stands for all. Nothing is seen across gaps.
    detector
        (whole axis,) full width at half maximum of a line at each channel, in channels, where the resolution
        of the detector is known. Nothing is estimated then: the least of them is the answer, among channels
        whose mean is at least 5 % of the largest, whatever its sign.

    Returns
    -------
    full width at half maximum in channels, between 2 and one eighth of the axis; 3 where no feature stands
    out, as in a constant spectrum
    """
    used = np.ones(len(mean), bool) if channels is None else channels
    if detector is not None:
        level = np.abs(mean)
        return max(NARROWEST, float(detector[used][level >= _LEAST_HEIGHT * level.max()].min()))
    return _sharpest(mean, noise.variance(mean) / max(1, n_spectra), used, noise)


def varying_width(spectra: np.ndarray, noise: NoiseModel, *, channels: Channels = None) -> float:
    """Return the width of the sharpest feature by which bright spectra of a map differ from dim ones.

    The pattern of a detector, or the edge of a filter, is in the mean spectrum and sharp, but the same everywhere.

    Parameters
    ----------
    spectra
        (n, E in use) finite values of any real dtype, at least one spectrum.
    noise
        Noise model of single spectra.
    channels
        See `line_width`.

    Returns
    -------
    as `line_width` does
    """
    mean = typical_mean(spectra)
    brightness = np.einsum("ne,e->n", spectra, mean)  # without a copy of them all
    bright = brightness > np.median(brightness)
    if not bright.any():
        return NARROWEST
    difference = typical_mean(spectra[bright]) - typical_mean(spectra[~bright])
    variance = noise.variance(mean) * (1 / bright.sum() + 1 / (~bright).sum())
    return _sharpest(difference, variance, np.ones(len(mean), bool) if channels is None else channels, noise)


def _sharpest(mean: np.ndarray, variance_of_mean: np.ndarray, used: np.ndarray, noise: NoiseModel) -> float:
    """Return the width of the sharpest feature of (E,) values with these variances; see `line_width`."""
    values, variance = np.zeros(len(used)), np.zeros(len(used))
    values[used] = mean
    variance[used] = variance_of_mean + (_ROUNDING * np.abs(mean).max(initial=0)) ** 2
    widest = max(NARROWEST, _WIDEST_SHARE * len(used))
    first = 0.75 * NARROWEST / _FWHM
    # Standard deviations from three quarters of the narrowest line's to one step beyond the widest's.
    filters = first * _STEP ** np.arange(int(np.ceil(np.log(widest / _FWHM / first) / np.log(_STEP))) + 2)
    response, spread = _curvature(values, variance, used, filters, np.array(noise.correlation))
    widths, weights = _features(response, spread, filters)
    if not len(widths):
        return min(UNKNOWN, widest)
    alike = widths <= _ALIKE * widths.min()
    width = np.exp(np.average(np.log(widths[alike]), weights=weights[alike]))
    return float(np.clip(width, NARROWEST, widest))


def _curvature(
    values: np.ndarray, variance: np.ndarray, used: np.ndarray, filters: np.ndarray, correlation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (filters, E) downward curvatures times filter width^1.5, and their noise; inf at the ends."""
    n = len(values)
    whole = scipy.ndimage.binary_erosion(used)  # channels that have both neighbours
    beyond = scipy.ndimage.distance_transform_edt(np.pad(whole, 1))[1:-1]  # channels to the nearest other one
    curvature = np.where(whole, -scipy.ndimage.convolve1d(values, (1, -2, 1)), 0)
    size = scipy.fft.next_fast_len(2 * n, real=True)
    frequency = scipy.fft.rfftfreq(size)
    spectrum, noise = (scipy.fft.rfft(part, size) for part in (curvature, variance))
    lags = correlation[:n] * np.where(np.arange(len(correlation[:n])) > 0, 2, 1)
    response, spread = np.empty((len(filters), n)), np.empty((len(filters), n))
    for k, width in enumerate(filters):
        # A second difference is the second derivative behind a filter of variance 1/6.
        transfer = np.exp(-2 * (np.pi * frequency) ** 2 * max(width**2 - 1 / 6, 0))
        whole_transfer = transfer * 4 * np.sin(np.pi * frequency) ** 2
        kernel = scipy.fft.irfft(whole_transfer, size)
        shared = scipy.fft.irfft(whole_transfer**2, size)  # its autocorrelation
        inflated = max(float(shared[: len(lags)] @ lags / shared[0]), 0.01)
        power = scipy.fft.irfft(noise * scipy.fft.rfft(kernel**2), size)[:n]
        response[k] = width**_POWER * scipy.fft.irfft(spectrum * transfer, size)[:n]
        spread[k] = width**_POWER * np.sqrt(np.maximum(power, 1e-3 * power.max()) * inflated)
        spread[k, beyond < _FROM_ENDS * width] = np.inf
    return response, spread


def _features(response: np.ndarray, spread: np.ndarray, filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return full widths at half maximum of the features that carry signal, and the weight of each."""
    highest = scipy.ndimage.maximum_filter(response, 3, mode="constant", cval=0)
    found = (response == highest) & (response > _THRESHOLD * spread)
    found[-1] = False  # still growing with the filter: background
    scale, place = np.nonzero(found)
    strength, noise = response[scale, place], spread[scale, place]
    height = strength * filters[scale] ** (2 - _POWER)
    # Widths are refined by the parabola through three neighbouring filters.
    inner, below, above = scale > 0, response[np.maximum(scale - 1, 0), place], response[scale + 1, place]
    bend = np.where(inner, below - 2 * strength + above, -1)
    shift = np.where(inner & (bend < 0), 0.5 * (below - above) / np.minimum(bend, -1e-300), 0)
    width = filters[scale] * _STEP ** np.clip(shift, -0.5, 0.5)
    # Noise on a broad line makes narrow maxima: what lies on a broader feature must stand out of what that
    # one alone gives behind the narrower filter.
    wider = (width > width[:, None]) & (np.abs(place - place[:, None]) < _FWHM / 2 * width)
    ratio = width[:, None] / width
    given = np.where(wider, strength * (2 * ratio / (1 + ratio**2)) ** _POWER, 0).max(axis=1, initial=0)
    keep = (strength - given > _THRESHOLD * noise) & (height >= _LEAST_HEIGHT * height.max(initial=0))
    return _FWHM * width[keep], np.square(strength / noise)[keep]
