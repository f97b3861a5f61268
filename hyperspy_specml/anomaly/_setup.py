"""A map that is searched: its spectra, what of them is used, and the windows of the scan."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._drift import best_shifts, estimate_line_shift, farthest_drift
from hyperspy_specml.anomaly._spikes import PartialChannelSpikes
from hyperspy_specml.anomaly._trimming import PatchSums
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.statistics import USED, energy_windows, typical_mean
from hyperspy_specml.statistics import line_width as sharpest_width
from hyperspy_specml.streaming import patch_sums, shift_channels

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.statistics import MapSummary, NoiseModel, Windows
    from hyperspy_specml.streaming import SpectrumStream

_logger = logging.getLogger(__name__)

# Line widths, widths of the windows of energy.
_WINDOW_WIDTHS = (1.0, 2.0, 4.0)
# Line widths, standard deviation of the Gaussian whose derivative shifted spectra are compared with.
_SHIFT_SMOOTHING = 1 / 16
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

    @classmethod
    def of(
        cls,
        stream: SpectrumStream,
        summary: MapSummary,
        channels: np.ndarray,
        line_width: np.ndarray | None,
        noise: NoiseModel,
    ) -> ScanSetup:
        """Plan the scan; where no line width is known it is estimated, and shifts are searched for."""
        shifts = line_width is None
        if line_width is None:
            mean, n = typical_mean(summary.sample), len(summary.sample)
            sharpest = sharpest_width(mean, noise, n_spectra=n, channels=summary.channels)
            line_width = np.full(stream.n_channels, sharpest)
        windows = energy_windows(line_width, channels, factors=_WINDOW_WIDTHS)
        return cls(stream, summary, summary.pixel_state == USED, channels, line_width, windows, shifts)

    @classmethod
    def like_reference(
        cls, stream: SpectrumStream, summary: MapSummary, channels: np.ndarray, reference: ReferenceModel
    ) -> ScanSetup:
        """Plan the scan of a map with the windows and the line width of a reference model."""
        assert reference.windows is not None
        assert reference.line_width is not None
        line_width = np.interp(np.arange(len(channels)), np.flatnonzero(channels), reference.line_width)
        shifts = reference.shift_scan is not None
        used = summary.pixel_state == USED
        return cls(stream, summary, used, channels, line_width, reference.windows, shifts)

    @property
    def side(self) -> int:
        """Pixels along a patch."""
        return patch_side(self.stream.navigation_shape, int(self.channels.sum()))

    @property
    def shift_smoothing(self) -> float | None:
        """Standard deviation, in channels, of the Gaussian of the search for shifts; None for no search."""
        return max(1.0, _SHIFT_SMOOTHING * float(self.line_width[0])) if self.shifts else None

    @property
    def n_values(self) -> int:
        """Number of values that are searched."""
        return int(self.used.sum()) * int(self.channels.sum())

    def patches(self, **beside: Any) -> PatchSums:
        """Return sums over patches; see `streaming.patch_sums`."""
        sides = (self.side,) * len(self.stream.navigation_shape)
        sums, counts = patch_sums(self.stream, self.used, self.channels, sides=sides, label="Sum patches", **beside)
        return PatchSums(sums, counts, self.side)

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
        common = np.logical_and.reduce(_moved_channels(self.channels, drift))
        if known is not None:  # they may come from a map of which other channels were left
            common &= np.logical_and.reduce(np.isfinite(known))
        windows = energy_windows(self.line_width, common, factors=_WINDOW_WIDTHS)
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
        *lines, length = self.stream.navigation_shape
        n_lines = int(np.prod(lines))
        if not lines:
            return np.zeros((1, int(self.channels.sum()))), None
        n_segments = int(np.clip(_MOST_LINE_VALUES // (n_lines * self.stream.n_channels), 4, 8))
        sides = (*[1] * len(lines), -(-length // n_segments))
        sums, counts = patch_sums(self.stream, self.used, self.channels, sides=sides, label="Sum lines")
        sums = sums.reshape(n_lines, -1, sums.shape[-1])
        drift = estimate_line_shift(sums, counts.reshape(n_lines, -1), noise, float(self.line_width[0]))
        return sums.sum(axis=1, dtype=np.float64), drift

    def partial_spikes(self, noise: NoiseModel) -> PartialChannelSpikes | None:
        """Return the finder of spikes in channels that only some lines have; None where no line was moved."""
        if self.stream.drift is None:
            return None
        recorded, mean = self.summary.channels, np.zeros(self.stream.n_channels)
        mean[recorded] = self.summary.moments.mean
        return PartialChannelSpikes(
            noise, self.line_width, self.stream.drift, recorded, mean, self.channels, self.n_values
        )

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
    recorded = channels.copy()
    for by in range(min(low, 0), max(high, 0) + 1):
        recorded |= _moved_channels(channels, np.array([-by]))[0]
    return recorded


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


def patch_side(navigation_shape: tuple[int, ...], n_channels: int) -> int:
    """Return the side of patches: as many of them as fit into memory, and enough to learn from.

    Parameters
    ----------
    navigation_shape, n_channels
        Of the map.
    """
    side = _SIDE
    while np.prod([-(-n // side) for n in navigation_shape]) * n_channels > _MOST_PATCH_VALUES:
        side += 1
    while side > 1 and np.prod([n // side for n in navigation_shape]) < _LEAST_PATCHES:
        side -= 1
    return side
