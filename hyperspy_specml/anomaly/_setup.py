"""A map that is searched: its spectra, what of them is used, the windows of the scan, the drift of scan lines.

Spectra of one line are recorded shortly after each other, so their differences are those of the specimen and
not of the instrument. What a whole line is shifted by, beyond such differences, is drift.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.linalg import svds

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.statistics import energy_windows, line_width, spike_line_width, typical_mean, without_hot_values
from hyperspy_specml.streaming import patch_sums, shift_channels

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.statistics import MapSummary, NoiseModel, Windows
    from hyperspy_specml.streaming import SpectrumStream

_logger = logging.getLogger(__name__)

# Line widths, widths of the windows of energy.
WINDOW_WIDTHS = (1.0, 2.0, 4.0)
# Fraction of the counts in channels that known spectra lack, at most: with more, they are other spectra
# without them.
_MOST_MISSING = 1e-3
# Channels by which single scan lines are moved further, at most, to where a reference model describes them
# best.
_REFINED = 2
# Smallest expected value of a channel, relative to the mean.
_LEAST_EXPECTED = 1e-3
# Values of the sums along scan lines, at most.
_MOST_LINE_VALUES = 1 << 24
# Pixels along the side of a patch; number of patches that a number of components can be learnt from; and
# values of all patches, at most, of which learning needs some 25 bytes each.
_SIDE = 3
_LEAST_PATCHES = 100
_MOST_PATCH_VALUES = 1 << 24
# Part of the full patch whose pixels must be there, so that the last scan line of a map, where a drift ends,
# counts.
_LEAST_PART = 1 / 3
# Line widths, standard deviation of the smoothing of the spectra that lines are compared with.
_SMOOTHING = 1 / 16
# Line widths, largest drift that is looked for; and fraction of the channels that are left at least for any
# two lines.
_FARTHEST = 1.0
_LEAST_LEFT = 0.75
# Directions in which spectra of one line differ.
_N_COMPOSITIONS = 4
# Sweeps over all lines, at most.
_SWEEPS = 12
# Correlation of the drifts of the two halves of all lines from which moving lines is an improvement, and the
# number of standard deviations that it must differ from 0.
_LEAST_CORRELATION = 1 / 3
_DEVIATIONS = 3.0


@dataclass(frozen=True)
class PatchSums:
    r"""Sums over patches of pixels.

    Attributes
    ----------
    sums, counts
        (\*patches, E) summed spectra and (\*patches,) the number of pixels in each.
    side
        Pixels along the side of a full patch.
    """

    sums: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    side: int

    @property
    def used(self) -> np.ndarray:
        r"""(\*patches,) bool, the patches with enough pixels."""
        return self.counts >= max(1, self.side**self.counts.ndim * _LEAST_PART)


@dataclass(frozen=True)
class ScanSetup:
    """A map and how it is scanned.

    Attributes
    ----------
    stream, summary
        The spectra, and what the first pass over them found.
    used, channels
        (n_pixels,) and (whole axis,) bool, pixels and channels in use. After `align_scan_lines` the channels
        are those of moved spectra.
    line_width, windows
        (whole axis,) full width at half maximum of a line in channels, and the windows of energy.
    shifts
        Whether shifted spectra are searched for.
    """

    stream: SpectrumStream
    summary: MapSummary
    used: np.ndarray
    channels: np.ndarray
    line_width: np.ndarray
    windows: Windows
    shifts: bool

    def spike_line_width(self, noise: NoiseModel) -> np.ndarray:
        """Return (whole axis,) the width of the sharpest line that a spike could be taken for, in channels.

        Parameters
        ----------
        noise
            Noise model of a pixel.
        """
        if not self.shifts:  # lines of known width
            return self.line_width
        width = spike_line_width(self.summary.sample, noise, float(self.line_width.min()), self.summary.channels)
        return np.maximum(self.line_width, width)

    def patches(self, *, noise: NoiseModel | None = None, **beside: Any) -> PatchSums:
        """Return sums over patches, as many as fit into memory and are enough to learn from; see `patch_sums`.

        Parameters
        ----------
        noise
            Noise model of a pixel: then hot values of the sample are replaced, see `without_hot_values`.
        **beside
            What else is summed.
        """
        shape, n_channels, side = self.stream.navigation_shape, int(self.channels.sum()), _SIDE
        while np.prod([-(-n // side) for n in shape]) * n_channels > _MOST_PATCH_VALUES:
            side += 1
        while side > 1 and np.prod([n // side for n in shape]) < _LEAST_PATCHES:
            side -= 1
        sides = (side,) * len(shape)
        sums, counts = patch_sums(self.stream, self.used, self.channels, sides=sides, label="Sum patches", **beside)
        if noise is not None:
            self._replace_hot_values(sums, side, noise)
        return PatchSums(sums, counts, side)

    def _replace_hot_values(self, sums: np.ndarray, side: int, noise: NoiseModel) -> None:
        """Take hot values out of sums over patches: each would become a component."""
        summary, shape = self.summary, self.stream.navigation_shape
        clean = without_hot_values(summary, noise, shape).sample
        if clean is summary.sample:
            return
        row, channel = np.nonzero(clean != summary.sample)
        change = clean[row, channel].astype(np.float64) - summary.sample[row, channel]
        pixel, channel = summary.sample_pixels[row], np.flatnonzero(summary.channels)[channel]
        if self.stream.drift is not None:
            channel = channel - self.stream.drift[pixel // shape[-1]]
        inside = self.used[pixel] & np.isin(channel, np.flatnonzero(self.channels))
        patch = tuple(place[inside] // side for place in np.unravel_index(pixel, shape))
        np.add.at(sums, (*patch, np.searchsorted(np.flatnonzero(self.channels), channel[inside])), change[inside])

    def align_scan_lines(self, noise: NoiseModel, known: np.ndarray | None) -> ScanSetup:
        """Return the map with the drift of its scan lines taken back, where it has any.

        A drift that is left would become part of the reference model, which would then describe shifted
        edges.

        Parameters
        ----------
        noise
            Noise model of a pixel.
        known
            (N, whole axis) known spectra; channels where they are not finite are left out.
        """
        _, drift = self._line_drift(noise)
        if drift is None:
            return self
        common = common_channels(self.channels, drift)
        if known is not None:  # they may come from a map of which other channels were left
            common &= np.logical_and.reduce(np.isfinite(known))
        windows = energy_windows(self.line_width, common, factors=WINDOW_WIDTHS)
        return replace(self, stream=replace(self.stream, drift=drift), channels=common, windows=windows)

    def align_to_reference(self, reference: ReferenceModel, recorded: np.ndarray) -> ScanSetup:
        """Return the map with its scan lines moved to where the reference model has its spectra.

        Only where scan lines drift: else the energy axis is taken to be right. Lines that then lack channels
        of the model are not searched.

        Parameters
        ----------
        reference
            The model; its channels are those in use.
        recorded
            (whole axis,) bool, channels that were recorded.
        """
        seen = self.summary.channels
        lines, drift = replace(self, channels=seen)._line_drift(reference.noise)
        if drift is None:
            return self
        if reference.applied:  # all lines by the same shift, then each of them where the model describes it best
            rows = np.zeros((len(lines), len(seen)))
            rows[:, seen] = lines
            farthest = farthest_drift(float(self.line_width[0]), int(self.channels.sum()))
            total = shift_channels(rows, -drift).sum(axis=0, keepdims=True)
            drift = drift + _shifts(total[:, self.channels], reference, farthest)
            moved = shift_channels(rows, -drift)[:, self.channels]
            drift = drift + np.where(moved.any(axis=1), _shifts(moved, reference, _REFINED), 0)
        complete = np.asarray(_moved_channels(recorded, drift)[:, self.channels].all(axis=1))
        if not complete.all():
            _logger.warning(
                "anomaly_map(model=...): %d of %d scan lines have drifted so far that they lack channels of "
                "the model; they are not searched",
                int((~complete).sum()),
                len(complete),
            )
        used = self.used & np.repeat(complete, self.stream.navigation_shape[-1])
        return replace(self, stream=replace(self.stream, drift=drift), used=used)

    def _line_drift(self, noise: NoiseModel) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (L, E) sums of the scan lines and their drift."""
        return _line_drift(self.stream, self.used, self.channels, noise, float(self.line_width[0]))

    def moved(self, spikes: np.ndarray) -> np.ndarray:
        """Return (m, 4) spikes with their channels after the drift of scan lines was taken back."""
        if self.stream.drift is None or not len(spikes):
            return spikes
        by = self.stream.drift[spikes[:, 0].astype(int) // self.stream.navigation_shape[-1]]
        return np.column_stack([spikes[:, 0], spikes[:, 1] - by, spikes[:, 2:]])

    def known_spectra(self, known: np.ndarray) -> np.ndarray:
        """Return known spectra on the channels in use, 0 where another map had no counts.

        Parameters
        ----------
        known
            (N, whole axis) spectra, NaN where they are not known.

        Raises
        ------
        OptionError
            Channels are missing that hold more than a few of this map's counts.
        """
        used = self.summary.channels
        missing = ~np.isfinite(known).all(axis=0) & self.channels & used
        mean = np.abs(self.summary.moments.mean)
        fraction = mean[missing[used]].sum() / mean.sum()
        if fraction > _MOST_MISSING:
            raise OptionError(
                f"anomaly_map(known=...): the known spectra are not finite in {int(missing.sum())} channels "
                f"that have {fraction:.1%} of this map's counts, the first is {int(missing.argmax())}. "
                "Mend these, or leave the channels out of the search with signal_mask=..."
            )
        return np.nan_to_num(known[:, self.channels])


def _line_drift(
    stream: SpectrumStream, used: np.ndarray, channels: np.ndarray, noise: NoiseModel, line_width: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (L, E) sums of the scan lines and their drift; see `scan_line_drift`."""
    *lines, length = stream.navigation_shape
    n_lines = int(np.prod(lines))
    if not lines:
        return np.zeros((1, int(channels.sum()))), None
    n_segments = int(np.clip(_MOST_LINE_VALUES // (n_lines * stream.n_channels), 4, 8))
    sides = (*[1] * len(lines), -(-length // n_segments))
    sums, counts = patch_sums(stream, used, channels, sides=sides, label="Sum lines")
    sums = sums.reshape(n_lines, -1, sums.shape[-1])
    drift = estimate_line_shift(sums, counts.reshape(n_lines, -1), noise, line_width)
    return sums.sum(axis=1, dtype=np.float64), drift


def scan_line_drift(
    stream: SpectrumStream, used: np.ndarray, channels: np.ndarray, noise: NoiseModel, line_width: float
) -> np.ndarray | None:
    """Return by how many channels each scan line of a map lies too high; None where none drifts. One pass.

    Parameters
    ----------
    stream
        The map.
    used, channels
        (n_pixels,) and (whole axis,) bool, what is in use.
    noise
        Noise model of one pixel.
    line_width
        Full width at half maximum of the sharpest structure, in channels.
    """
    return _line_drift(stream, used, channels, noise, line_width)[1]


def sharpest_width(summary: MapSummary, noise: NoiseModel) -> float:
    """Return the full width at half maximum of the sharpest structure of a map, in channels."""
    mean, n_spectra = typical_mean(summary.sample), len(summary.sample)
    return line_width(mean, noise, n_spectra=n_spectra, channels=summary.channels)


def recorded_channels(channels: np.ndarray, drift_range: tuple[int, int]) -> np.ndarray:
    """Return the channels from which those of a model are what scan lines with such drifts have in common.

    Parameters
    ----------
    channels
        (whole axis,) bool, channels of the model.
    drift_range
        Smallest and largest drift of the scan lines that it was learnt from, in channels.
    """
    low, high = drift_range
    return np.logical_or.reduce(_moved_channels(channels, np.arange(-max(high, 0), 1 - min(low, 0))))


def align_to_spectra(
    total: np.ndarray, spectra: np.ndarray, channels: np.ndarray, drift: np.ndarray, line_width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the drift of scan lines from where known spectra are, and which lines then have all of their channels.

    Parameters
    ----------
    total
        (E in use,) sum of counts, the drift taken back.
    spectra
        (K, E in use) of which it is a mixture.
    channels
        (whole axis,) bool, the channels in use; all others were recorded, too.
    drift
        (L,) by how many channels each line lies higher than the others.
    line_width
        Full width at half maximum of the sharpest structure, in channels.
    """
    weights = 1 / np.sqrt(np.maximum(np.abs(total), _LEAST_EXPECTED * np.abs(total).mean()))
    farthest = farthest_drift(line_width, len(total))
    drift = drift + int(best_shifts(total[None], spectra, weights, farthest)[0])
    recorded = np.ones(len(channels), bool)
    return drift, np.asarray(_moved_channels(recorded, drift)[:, channels].all(axis=1))


def common_channels(channels: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Return the channels that all scan lines have after their drift was taken back.

    Parameters
    ----------
    channels
        (whole axis,) bool, what was recorded.
    drift
        (L,) by how many channels each line lies too high.
    """
    return np.logical_and.reduce(_moved_channels(channels, drift))


def _moved_channels(channels: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Return (lines, whole axis) bool, the channels of each line after its drift was taken back."""
    return shift_channels(np.tile(channels, (len(drift), 1)), -drift)


def _shifts(rows: np.ndarray, reference: ReferenceModel, farthest: int) -> np.ndarray:
    """Return (L,) by how many channels (L, E) sums of spectra lie higher than the model has them."""
    spectra = np.vstack([reference.basis.components(), reference.basis.offset])
    spectra = spectra[np.linalg.norm(spectra, axis=1) > 0]
    total = rows.sum(axis=0)
    variance = reference.noise.variance(np.maximum(total, _LEAST_EXPECTED * np.abs(total).mean()))
    return best_shifts(rows, spectra, 1 / np.sqrt(np.maximum(variance, 1e-300)), farthest)


def estimate_line_shift(
    segments: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel, line_width: float
) -> np.ndarray | None:
    """Return by how many channels each scan line lies too high; None where the energy axis does not drift.

    Lines are moved until they agree best with the mean of all, up to the ways in which spectra of one line
    differ. The two halves of a line drift alike: where they do not agree, the drift is not known.

    Parameters
    ----------
    segments
        (L, Q, E) sums of spectra along parts of L lines.
    n_pixels
        (L, Q) pixels in each.
    noise
        Noise model of one pixel.
    line_width
        Full width at half maximum of the sharpest structure, in channels.

    Returns
    -------
    (L,) integers of median 0, or None
    """
    n_segments, n_channels = segments.shape[1:]
    farthest = farthest_drift(line_width, n_channels)
    half = n_segments // 2
    whole = (n_pixels[:, :half].sum(axis=1) > 0) & (n_pixels[:, half:].sum(axis=1) > 0)
    if whole.sum() <= _DEVIATIONS**2 or n_segments < 4 or farthest < 1:
        return None
    lines = _ScanLines(segments, n_pixels, noise, _SMOOTHING * line_width, farthest)
    parts = (slice(None, half), slice(half, None))
    halves = (replace(lines, segments=segments[:, part], n_pixels=n_pixels[:, part]) for part in parts)
    first, second = (one.drift() for one in halves)
    deviations = [values[whole] - values[whole].mean() for values in (first, second)]
    scatter = np.sqrt(np.prod([np.square(values).sum() for values in deviations]))
    least = max(_LEAST_CORRELATION, _DEVIATIONS / np.sqrt(whole.sum()))
    if deviations[0] @ deviations[1] <= least * scatter:
        return None
    drift = lines.drift()
    drift[n_pixels.sum(axis=1) == 0] = 0
    drift[whole & (np.abs(first - second) > farthest / 2)] = 0
    return drift if drift.any() else None


def farthest_drift(line_width: float, n_channels: int) -> int:
    """Return the largest drift that is looked for, in channels."""
    return int(min(_FARTHEST * line_width, (1 - _LEAST_LEFT) / 2 * n_channels))


def best_shifts(rows: np.ndarray, patterns: np.ndarray, weights: np.ndarray, farthest: int) -> np.ndarray:
    """Return (L,) by how many channels patterns have to be moved to describe each of the rows best.

    Parameters
    ----------
    rows
        (L, E) spectra.
    patterns
        (P, E) spectra of which the rows are mixtures.
    weights
        (E,) one over the noise standard deviation of each channel.
    farthest
        Largest shift, in channels.
    """
    n_channels = patterns.shape[1]
    inside = slice(farthest, n_channels - farthest)
    rows = rows[:, inside] * weights[inside]
    explained = []
    for k in range(-farthest, farthest + 1):
        moved = patterns[:, farthest - k : n_channels - farthest - k] * weights[inside]
        explained.append(np.square(rows @ np.linalg.qr(moved.T)[0]).sum(axis=1))
    return np.stack(explained, axis=1).argmax(axis=1) - farthest


@dataclass(frozen=True)
class _ScanLines:
    """Scan lines in segments, compared with the mean of all lines."""

    segments: np.ndarray
    n_pixels: np.ndarray
    noise: NoiseModel
    smoothing: float
    farthest: int

    def drift(self) -> np.ndarray:
        """Return (L,) the drift: lines are moved until nothing changes."""
        sums, counted = self.segments.sum(axis=1, dtype=np.float64), self.n_pixels.any(axis=1)
        drift = np.zeros(len(sums), int)
        for _ in range(_SWEEPS):
            typical = self._typical(sums, drift)
            weights = 1 / np.sqrt(self.noise.variance(typical))
            patterns = np.vstack([typical, self._compositions(drift, weights)])
            moved = best_shifts(sums, patterns, weights, self.farthest)
            moved -= int(np.median(moved[counted]))
            np.clip(moved, -self.farthest, self.farthest, out=moved)
            if (moved == drift).all():
                break
            drift = moved
        return drift

    def _typical(self, sums: np.ndarray, drift: np.ndarray) -> np.ndarray:
        """Return the mean spectrum of a pixel, of lines that have been moved."""
        total = shift_channels(sums, -drift).sum(axis=0)
        n_pixels = np.repeat(self.n_pixels.sum(axis=1)[:, None], len(total), axis=1)
        inside = shift_channels(n_pixels, -drift).sum(axis=0)
        mean = gaussian_filter1d(total / np.maximum(inside, 1), self.smoothing, mode="nearest")
        return np.maximum(mean, _LEAST_EXPECTED * max(float(mean.mean()), 1e-300))

    def _compositions(self, drift: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the spectra by which segments of one line differ most."""
        n_channels = len(weights)
        totals = self.segments.sum(axis=2, keepdims=True)
        counted = totals > 0
        shapes = np.where(counted, self.segments / np.where(counted, totals, 1), 0)
        mean = shapes.sum(axis=1, keepdims=True) / np.maximum(counted.sum(axis=1, keepdims=True), 1)
        shapes = np.where(counted, shapes - mean, 0).reshape(-1, n_channels)
        rows = shift_channels(shapes, -np.repeat(drift, self.segments.shape[1])) * weights
        rows = gaussian_filter1d(rows, self.smoothing, axis=1)
        if not rows.any():
            return np.empty((0, n_channels))
        start = np.random.default_rng(0).standard_normal(min(rows.shape))
        return svds(rows, k=_N_COMPOSITIONS, v0=start, return_singular_vectors="vh")[2] / weights
