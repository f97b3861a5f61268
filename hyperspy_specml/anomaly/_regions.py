"""Regions of significant pixels: their spectra, energies, shifts, and the elements that may explain them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.anomaly._elements import Residual, find_elements
from hyperspy_specml.anomaly._extent import grow_regions, strongest_first
from hyperspy_specml.anomaly._significance import label_regions
from hyperspy_specml.statistics import gain_of

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._elements import Candidate, EnergyAxis
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._score import PixelScores
    from hyperspy_specml.anomaly._setup import ScanSetup

_logger = logging.getLogger(__name__)

# Regions whose spectra are read, at most.
_MOST_REGIONS = 1000
# Line widths that the spectrum of a region can be shifted by, at most.
_FARTHEST_SHIFT = 4.0
# Strength of an excess relative to that of a stronger deficit from which the excess is reported: it shows
# what is there, not what is replaced.
_EXCESS_FIRST = 0.5
# Full width at half maximum of a Gaussian over its standard deviation.
_FWHM = np.sqrt(8 * np.log(2))
# Smallest noise variance of a channel, relative to the mean of all; and weight of all channels in a fit to some.
_LEAST_VARIANCE, _TIED = 1e-3, 1e-2


@dataclass(frozen=True)
class FoundRegion:
    """Neighbouring pixels whose spectra the reference model does not explain. E channels in use.

    Attributes
    ----------
    label
        Its label in the map of labels.
    pixels, peak
        Flat indices of all pixels, and of the strongest one.
    log_p
        Logarithm of the p-value of the strongest pixel.
    energy, deficit
        Where the residual is strongest, and whether counts are missing there.
    excess
        Counts beyond the expected ones in the strongest window, over all pixels.
    shift, shift_error
        By how much the spectra lie higher than the model has them, and the standard error, in units of the
        energy axis; NaN where shifts are not searched for.
    candidates
        Elements with a line or edge at that energy.
    spectrum, residual
        (E,) means over the pixels: of the spectra, and of their difference to the model.
    """

    label: int
    pixels: np.ndarray = field(repr=False)
    peak: int
    log_p: float
    energy: float
    deficit: bool
    excess: float
    shift: float
    shift_error: float
    candidates: tuple[Candidate, ...]
    spectrum: np.ndarray = field(repr=False)
    residual: np.ndarray = field(repr=False)


def find_regions(
    setup: ScanSetup, reference: ReferenceModel, scores: PixelScores, axis: EnergyAxis,
    thresholds: tuple[float, float], spikes: np.ndarray,
) -> tuple[PixelScores, np.ndarray, tuple[FoundRegion, ...]]:  # fmt: skip
    """Label the regions of a map, read their spectra, and describe them.

    Parameters
    ----------
    setup, reference, scores
        The map, what is expected, and its scores.
    axis
        Energies, and the lines of all elements.
    thresholds
        Score that a region has at least, and that every pixel of one has in the end.
    spikes
        (m, 4) pixel, channel as it was recorded, value and prediction.

    Returns
    -------
    the scores, those of pixels in and around regions by what these look like; the map of labels; and the regions,
    the strongest first
    """
    shape = setup.stream.navigation_shape
    labels, n = label_regions(scores.score.reshape(shape), thresholds[0], scores.reach)
    if not n or np.isposinf(thresholds[1]):
        return scores, np.zeros_like(labels), ()
    if n > _MOST_REGIONS:
        _logger.warning("anomaly_map(): %d regions; the %d strongest are listed", n, _MOST_REGIONS)
    order = strongest_first(scores, labels)[:_MOST_REGIONS]
    scores, labels, spectra = grow_regions(setup, reference, scores, labels, order, setup.moved(spikes), thresholds)
    listed = [label for label in strongest_first(scores, labels).tolist() if label in spectra][:_MOST_REGIONS]
    if not listed:
        return scores, labels, ()
    sums = _sum_regions(setup, reference, scores, labels, {label: spectra[label] for label in listed})
    return scores, labels, tuple(_describe(setup, reference, scores, sums, i, axis) for i in range(len(listed)))


@dataclass(frozen=True)
class RegionSums:
    """Sums over the pixels of regions. R regions, E channels in use.

    Attributes
    ----------
    labels, pixels
        Of each region its label in the map, and the flat indices of the pixels of each region.
    spectra, residuals, variances
        (R, E) sums of the spectra, of their difference to the model, and of the noise variance.
    shifts
        (R, 2) channels by which the spectra lie higher than the model has them, and the standard error; NaN
        where shifts are not searched for.
    """

    labels: list[int]
    pixels: list[np.ndarray]
    spectra: np.ndarray
    residuals: np.ndarray
    variances: np.ndarray
    shifts: np.ndarray


def _sum_regions(
    setup: ScanSetup, reference: ReferenceModel, scores: PixelScores, labels: np.ndarray, sums: dict[int, np.ndarray]
) -> RegionSums:
    """Return what is known of regions, given the summed spectra of each."""
    flat, model, spectra = labels.reshape(-1), reference.scan_model(), np.array(list(sums.values()))
    pixels = [np.flatnonzero(flat == label) for label in sums]
    coefficients = np.array([scores.coefficients[p].sum(axis=0, dtype=np.float64) for p in pixels])
    n_pixels = np.array([len(p) for p in pixels])
    each = n_pixels[:, None]
    expected = coefficients @ model.spectra + each * model.offset
    variances = reference.noise.variance(expected / each) * each
    shifts = np.full((len(sums), 2), np.nan)
    if reference.shift_scan is not None:
        farthest = _FARTHEST_SHIFT * float(setup.line_width[0])
        shifts = reference.shift_scan.estimate(spectra / each, coefficients / each, n_pixels, farthest)
    return RegionSums(list(sums), pixels, spectra, spectra - expected, variances, shifts)


def _describe(
    setup: ScanSetup, reference: ReferenceModel, scores: PixelScores, sums: RegionSums, i: int, axis: EnergyAxis
) -> FoundRegion:
    pixels, residual, variance = sums.pixels[i], sums.residuals[i], sums.variances[i]
    peak = int(pixels[np.argmax(scores.score[pixels])])
    inside, deficit = slice(0, len(residual)), None
    used = np.flatnonzero(setup.channels)
    line_width = setup.line_width[used]
    if np.isfinite(scores.z[peak]):
        inside, deficit = strongest_window(setup, scores, sums, i, peak, signed=not gain_of(reference.noise))
        farthest = int(np.ceil(line_width[inside].max()))
        inside = strongest_interval(-residual if deficit else residual, variance, inside, farthest)
        line_width = np.minimum(line_width, inside.stop - inside.start)
        if not deficit and reference.is_linear:
            residual = unexplained(residual, variance, reference.basis.components(), inside)
    channel = peak_channel(residual, variance, line_width, inside)
    deficit = bool(residual[channel] < 0) if deficit is None else deficit
    energy, step = float(axis.energies[used[channel]]), axis.step(used[channel])
    shift, shift_error = sums.shifts[i] * (step, abs(step))
    counts = -residual if deficit else residual
    candidates = find_elements(Residual(counts, variance, setup.line_width[used], used, reference.noise), axis, energy)
    log_p, excess = float(scores.log_p[peak]), float(residual[inside].sum())
    found = (sums.labels[i], pixels, peak, log_p, energy, deficit, excess, float(shift), float(shift_error))
    return FoundRegion(*found, candidates, sums.spectra[i] / len(pixels), residual / len(pixels))


def strongest_window(
    setup: ScanSetup, scores: PixelScores, sums: RegionSums, i: int, peak: int, *, signed: bool = False
) -> tuple[slice, bool]:
    """Return the channels of a region's strongest window, and whether counts are missing there.

    A phase that replaces others has less of their lines, and that may be what is strongest. Its own lines are
    more informative. Where the model expects less than nothing, part of the excess is an error of the model, but of
    signed data.
    """
    windows, window = setup.windows, int(scores.window[peak])
    deficit = bool(scores.z[peak] < 0)
    read = (sums.spectra, sums.residuals, sums.variances)
    spectrum, difference, variance = (windows.sums(values[i], slice(None)) for values in read)
    missing = np.minimum(spectrum - difference, 0) * (not signed)
    z = difference / np.sqrt(np.maximum(np.maximum(variance, difference) + missing**2, 1e-300))
    best = int(np.argmax(z))
    # The whole region may show another window than its strongest pixel does.
    needed = _EXCESS_FIRST * -z[window] if deficit else z[window] / _EXCESS_FIRST
    if missing[window] or z[best] >= max(needed, 0):
        window, deficit = best, False
    return slice(int(windows.starts[window]), int(windows.stops[window])), deficit


def strongest_interval(signal: np.ndarray, variance: np.ndarray, window: slice, farthest: int) -> slice:
    """Return the channels in and beside a window whose sum is the strongest, and a quarter of them on each side.

    A line may be sharper or wider than a window, and lie at its border.

    Parameters
    ----------
    signal, variance
        (E,) sums over the pixels of a region, positive where something is found.
    window
        Channels in which it is found.
    farthest
        Channels beside the window that are looked at.
    """
    first, last = max(0, window.start - farthest), min(len(signal), window.stop + farthest)
    total, spread = (np.append(0.0, np.cumsum(v[first:last], dtype=np.float64)) for v in (signal, variance))
    sums, noise = (v[:, None] - v for v in (total, spread))  # of the channels from the column to the row
    strength = np.where(noise > 0, sums / np.sqrt(np.maximum(noise + np.maximum(sums, 0), 1e-300)), -np.inf)
    stop, start = np.unravel_index(np.argmax(strength), strength.shape)
    more = (stop - start) // 4
    return slice(int(max(first, first + start - more)), int(min(last, first + stop + more)))


def unexplained(residual: np.ndarray, variance: np.ndarray, spectra: np.ndarray, window: slice) -> np.ndarray:
    """Return what spectra leave of a residual if they are fitted to the channels outside a window.

    Fitted to all channels they take up a part of what is found in the window.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region.
    spectra
        (D, E) along which the residual was fitted.
    window
        Channels in which something is found.
    """
    weights = 1 / np.sqrt(np.maximum(variance, _LEAST_VARIANCE * variance.mean()))
    rows, outside = spectra * weights, weights.copy()
    outside[window] = 0
    kept = spectra * outside
    # What only the window shows of a spectrum stays as it is.
    amounts = np.linalg.lstsq(kept @ kept.T + _TIED * (rows @ rows.T), kept @ (residual * outside), rcond=None)[0]
    return residual - amounts @ spectra


def peak_channel(residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray, window: slice) -> int:
    """Return the channel in a window at which a residual, summed over the line shape, is strongest.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region.
    line_width
        (E,) full width at half maximum of a line, in channels.
    window
        Channels to look at.
    """
    sigma = float(np.mean(line_width[window])) / _FWHM
    signal = scipy.ndimage.gaussian_filter1d(residual.astype(np.float64), sigma)
    noise = scipy.ndimage.gaussian_filter1d(variance.astype(np.float64), sigma)
    strength = np.abs(signal[window]) / np.sqrt(np.maximum(noise[window], 1e-300))
    return window.start + int(np.argmax(strength))
