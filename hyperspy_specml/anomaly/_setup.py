"""A map that is searched: its spectra, what of them is used, and how they are scanned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._line_shift import estimate_line_shift
from hyperspy_specml.anomaly._reference import patch_side
from hyperspy_specml.anomaly._spikes import RimFinder
from hyperspy_specml.anomaly._windows import energy_windows, estimate_line_width
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.statistics import USED
from hyperspy_specml.streaming import shift_channels, patch_sums

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._windows import Windows
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

WIDTHS = (1.0, 2.0, 4.0)  # of the energy windows, in line widths
_MOST_MISSING = 1e-3  # of the counts, in channels that known spectra lack: without them these are others
_MOST_LINE_VALUES = 1 << 24  # of the sums along lines
_SMOOTHED = 1 / 16  # line widths


@dataclass(frozen=True)
class Given:
    """A map and how it is scanned.

    Attributes
    ----------
    stream, summary
        The spectra, and the first look at them.
    used, channels
        (n,) pixels and (whole axis,) channels in use, bool; after `steady` those of moved spectra.
    line_width, windows
        (whole axis,) width of a line in channels, and the windows of energy.
    shifts
        Whether shifted spectra are looked for.
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
        cls, stream: SpectrumStream, summary: MapSummary, channels: np.ndarray, line_width: np.ndarray | None,
        noise: NoiseModel,
    ) -> Given:  # fmt: skip
        """Plan the scan of a map; where no line width is known it is estimated, and shifts are looked for."""
        shifts = line_width is None
        if line_width is None:
            mean = summary.moments.mean
            line_width = np.full(stream.n_channels, estimate_line_width(mean, noise.variance(mean)))
        windows = energy_windows(line_width, channels, factors=WIDTHS)
        return cls(stream, summary, summary.pixel_state == USED, channels, line_width, windows, shifts)

    @property
    def side(self) -> int:
        """Pixels along a patch."""
        return patch_side(self.stream.navigation_shape, int(self.channels.sum()))

    @property
    def width(self) -> float | None:
        """Width of the derivative that tells shifts, in channels."""
        return max(1.0, _SMOOTHED * float(self.line_width[0])) if self.shifts else None

    def patches(self, **beside: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return sums over patches, and how many pixels each has."""
        sides = (self.side,) * len(self.stream.navigation_shape)
        return patch_sums(self.stream, self.used, self.channels, sides=sides, label="Sum patches", **beside)

    def steady(self, noise: NoiseModel, known: np.ndarray | None) -> Given:
        """Return the map with the drift of its scan lines taken back, where it has any.

        A drift that is left is learnt as something normal, and what only looks like it is not found.
        """
        *lines, length = self.stream.navigation_shape
        if not lines:
            return self
        n_segments = int(np.clip(_MOST_LINE_VALUES // (np.prod(lines) * self.stream.n_channels), 4, 8))
        sides = (*[1] * len(lines), -(-length // n_segments))
        sums, counts = patch_sums(self.stream, self.used, self.channels, sides=sides, label="Sum lines")
        n_lines = int(np.prod(lines))
        drift = estimate_line_shift(
            sums.reshape(n_lines, -1, sums.shape[-1]), counts.reshape(n_lines, -1), noise,
            float(self.line_width[0]),
        )  # fmt: skip
        if drift is None:
            return self
        lines_have = shift_channels(np.tile(self.channels, (n_lines, 1)), -drift)
        everywhere = np.logical_and.reduce(lines_have)
        if known is not None:  # they may come from a map of which other channels were left
            everywhere &= np.logical_and.reduce(np.isfinite(known))
        windows = energy_windows(self.line_width, everywhere, factors=WIDTHS)
        stream = replace(self.stream, drift=drift)
        return replace(self, stream=stream, channels=everywhere, windows=windows)

    def rims(self, noise: NoiseModel, n_values: int) -> RimFinder | None:
        """Return what finds spikes in channels that only some lines have; None where none has drifted."""
        if self.stream.drift is None:
            return None
        recorded, mean = self.summary.channels, np.zeros(self.stream.n_channels)
        mean[recorded] = self.summary.moments.mean
        return RimFinder(noise, self.line_width, self.stream.drift, recorded, mean, self.channels, n_values)

    def phases(self, known: np.ndarray) -> np.ndarray:
        """Return known spectra on the channels in use, 0 where another map had no counts.

        Raises
        ------
        OptionError
            Channels are missing that hold more than a few of this map's counts.
        """
        used = self.summary.channels
        missing = ~np.isfinite(known).all(axis=0) & self.channels & used
        mean = np.abs(self.summary.moments.mean)
        share = mean[missing[used]].sum() / mean.sum()
        if share > _MOST_MISSING:
            raise OptionError(
                f"anomaly_map(known=...): the known spectra are not finite in {int(missing.sum())} channels "
                f"that have {share:.1%} of this map's counts, the first of them is {int(missing.argmax())}. "
                "Mend these, or leave the channels out of the search with signal_mask=..."
            )
        return np.nan_to_num(known[:, self.channels])
