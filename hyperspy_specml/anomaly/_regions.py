"""Regions of significant pixels: their spectra, energies, shifts, and the elements that may explain them."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.ndimage
import scipy.optimize

from hyperspy_specml.anomaly._extent import grow_regions, strongest_first
from hyperspy_specml.anomaly._significance import label_regions
from hyperspy_specml.statistics import gain_of, unit_of

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._score import PixelScores
    from hyperspy_specml.anomaly._setup import ScanSetup
    from hyperspy_specml.statistics import NoiseModel

Families = Mapping[str, Sequence[Sequence[tuple[float, float]]]]
"""For each element its families of lines: (channel, weight) of each line, fixed within a family."""

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
# Rounds of a fit whose weights depend on what is fitted; further ones change nothing visible.
_ROUNDS = 4
# Candidates that are listed, at most.
_MOST_CANDIDATES = 8
# Line widths between the energy of a residual and a line, at most; and how far the onset of an edge may lie
# below it, because the strongest part of an edge lies beyond its onset.
_NEAR = 1.0
_NEAR_EDGE = 8.0
# Weight in its family of the weakest line that may be seen without the others.
_WEAKEST = 0.1


class SpectralLine(Protocol):
    """An X-ray line or an ionisation edge, as `signals.spectral_lines` makes them."""

    @property
    def element(self) -> str:
        """Such as "Nb"."""

    @property
    def name(self) -> str:
        """Such as "La"."""

    @property
    def family(self) -> str:
        """Lines of one family have a fixed ratio."""

    @property
    def energy(self) -> float:
        """In units of the energy axis."""

    @property
    def weight(self) -> float:
        """Intensity within the family; of edges 1 for major and 0.5 for minor ones."""

    @property
    def edge(self) -> bool:
        """Whether it is an ionisation edge."""


@dataclass(frozen=True)
class EnergyAxis:
    """The energies of channels, and the lines and edges that may be seen there.

    Attributes
    ----------
    energies
        (whole axis,) energy of each channel.
    lines
        Lines or edges of all elements, in the same units.
    """

    energies: np.ndarray = field(repr=False)
    lines: Sequence[SpectralLine] = field(repr=False, default=())

    def step(self, channel: int) -> float:
        """Return by how much the energy changes per channel, negative on a falling axis."""
        return float(np.gradient(self.energies)[channel])


@dataclass(frozen=True)
class Candidate:
    """An element whose line or edge may be the anomaly.

    Attributes
    ----------
    element, line
        Such as "Nb" and "La".
    energy, distance
        Energy of the line, and its distance to that of the region, in units of the energy axis.
    evidence
        By how much the element's lines together lower the deviance of the residual, less two for each family
        of lines; NaN for edges.
    """

    element: str
    line: str
    energy: float
    distance: float
    evidence: float

    def __str__(self) -> str:
        """Return element and line, such as ``Nb La``."""
        return f"{self.element} {self.line}"


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
    if not n:
        return scores, labels, ()
    if n > _MOST_REGIONS:
        _logger.warning("anomaly_map(): %d regions; the %d strongest are listed", n, _MOST_REGIONS)
    order = strongest_first(scores, labels)[:_MOST_REGIONS]
    scores, labels, spectra = grow_regions(setup, reference, scores, labels, order, setup.moved(spikes), thresholds)
    listed = [label for label in strongest_first(scores, labels).tolist() if label in spectra][:_MOST_REGIONS]
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
    variances = reference.noise.variance(np.maximum(expected, 0) / each) * each
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
        inside, deficit = strongest_window(setup, scores, sums, i, peak)
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
    candidates = _candidates(setup, reference.noise, counts, variance, axis, energy)
    log_p, excess = float(scores.log_p[peak]), float(residual[inside].sum())
    found = (sums.labels[i], pixels, peak, log_p, energy, deficit, excess, float(shift), float(shift_error))
    return FoundRegion(*found, candidates, sums.spectra[i] / len(pixels), residual / len(pixels))


def strongest_window(setup: ScanSetup, scores: PixelScores, sums: RegionSums, i: int, peak: int) -> tuple[slice, bool]:
    """Return the channels of a region's strongest window, and whether counts are missing there.

    A phase that replaces others has less of their lines, and that may be what is strongest. Its own lines are
    more informative. Where the model expects less than nothing, part of the excess is an error of the model.
    """
    windows, window = setup.windows, int(scores.window[peak])
    deficit = bool(scores.z[peak] < 0)
    read = (sums.spectra, sums.residuals, sums.variances)
    spectrum, difference, variance = (windows.sums(values[i], slice(None)) for values in read)
    missing = np.minimum(spectrum - difference, 0)
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


def _candidates(
    setup: ScanSetup, noise: NoiseModel, residual: np.ndarray, variance: np.ndarray, axis: EnergyAxis, energy: float
) -> tuple[Candidate, ...]:
    """Return the elements with a line near the energy of a residual: X-ray lines by evidence, edges by distance."""
    if not axis.lines:
        return ()
    edges = axis.lines[0].edge
    place = int(np.abs(axis.energies - energy).argmin())
    width = float(setup.line_width[place] * abs(axis.step(place)))
    before = _NEAR_EDGE if edges else _NEAR

    def distance(line: SpectralLine) -> float:
        return abs(line.energy - energy)

    near: dict[str, SpectralLine] = {}
    for line in axis.lines:
        if line.weight >= _WEAKEST and -_NEAR * width <= energy - line.energy <= before * width:
            near[line.element] = min(near.get(line.element, line), line, key=distance)
    evidence = dict.fromkeys(near, float("nan"))
    if edges:
        order = sorted(near.values(), key=lambda line: (-line.weight, distance(line)))
    else:
        families = _families(axis, near, np.flatnonzero(setup.channels))
        evidence = line_evidence(residual, variance, setup.line_width[setup.channels], families, noise)
        order = sorted(near.values(), key=lambda line: -evidence[line.element])
    return tuple(
        Candidate(line.element, line.name, line.energy, line.energy - energy, evidence[line.element])
        for line in order[:_MOST_CANDIDATES]
    )


def _families(axis: EnergyAxis, elements: Container[str], channels: np.ndarray) -> Families:
    """Return the families of lines of these elements, in channels in use."""
    order = np.argsort(axis.energies)
    families: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in axis.lines:
        if line.element in elements:
            channel = float(np.interp(line.energy, axis.energies[order], order))
            place = float(np.interp(channel, channels, np.arange(len(channels))))
            families.setdefault(line.element, {}).setdefault(line.family, []).append((place, line.weight))
    return {element: list(of.values()) for element, of in families.items()}


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


def line_evidence(
    residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray, families: Families, noise: NoiseModel
) -> dict[str, float]:
    """Return by how much each element's lines, with positive amplitudes, lower the deviance of a residual.

    Two are subtracted for each family, whose amplitude is free: Akaike's criterion compares few lines with
    many. Counts of a line are noisy themselves: where nothing was expected, a few of them would outweigh all
    others.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region; the variance is that of what was expected.
    line_width
        (E,) full width at half maximum of a line, in channels.
    families
        For each element its families of lines: (channel, weight) of each line, fixed within a family.
    noise
        Noise model.
    """
    blur = float(np.mean(line_width)) / _FWHM
    excess = scipy.ndimage.gaussian_filter1d(np.maximum(residual, 0).astype(np.float64), blur)
    variance = np.maximum(variance, 1e-12)
    unit, gain = unit_of(variance, noise), gain_of(noise)
    mean = variance / unit**2
    counts = np.maximum(mean + residual / unit, 0)
    evidence = {}
    for element, groups in families.items():
        shapes = np.stack([_line_shapes(group, line_width) for group in groups], axis=1)
        fitted = excess
        for _ in range(_ROUNDS):  # the noise is that of what is fitted
            weights = 1 / np.sqrt(variance + gain * fitted)
            amplitudes, _ = scipy.optimize.nnls(shapes * weights[:, None], residual * weights)
            fitted = shapes @ amplitudes
        added = fitted / unit
        evidence[element] = 2 * float(counts @ np.log1p(added / mean) - added.sum()) - 2 * len(groups)
    return evidence


def _line_shapes(lines: Sequence[tuple[float, float]], line_width: np.ndarray) -> np.ndarray:
    """Return (E,) the sum of Gaussian lines at these channels with these weights."""
    channels, shape = np.arange(len(line_width)), np.zeros(len(line_width))
    for channel, weight in lines:
        sigma = line_width[int(np.clip(round(channel), 0, len(line_width) - 1))] / _FWHM
        shape += weight / sigma * np.exp(-0.5 * ((channels - channel) / sigma) ** 2)
    return shape
