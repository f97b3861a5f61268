"""The result of ``s.anomaly_map()``."""

from __future__ import annotations

import dataclasses
import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

_HEAD = ("", "position", "pixels", "area", "p", "energy", "", "counts", "candidates")
_MOST_ROWS = 40
_SHIFTED = 3.0  # standard errors: smaller shifts are not shown


@dataclass(frozen=True)
class Candidate:
    """An element whose line or edge may be the anomaly.

    Attributes
    ----------
    element, line
        Such as "Nb" and "La".
    energy, distance
        Of the line, and from the region's energy to it, in units of the energy axis.
    evidence
        By how much the element's lines together lower the chi-squared of the residual, less two for each
        family of lines; NaN for edges.
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
class Region:
    """Neighbouring pixels whose spectra the model of the normal does not explain.

    Attributes
    ----------
    position
        Of the strongest pixel, (x, y ...) in units of the scan axes.
    pixels
        Indices (x, y ...) of all pixels, as ``s.inav`` takes them.
    area, area_units
        Calibrated length, area or volume.
    p
        Smallest p-value of its pixels, corrected for the windows searched there.
    energy, energy_units
        Where the difference is strongest; rather at an excess of half the strength than at a deficit.
    direction
        "excess" or "deficit" of counts.
    excess
        Difference to the model in the strongest window of energy, summed over the region, in signal units.
    shift, shift_error
        How far its mean spectrum has to be moved down in energy so that the model describes it best, and the
        standard error of that, in units of the energy axis. NaN for EDS, where shifts are not looked for; the
        shift also where it would be more than four line widths, or would not explain the difference.
    candidates
        Elements whose lines or edges are near, the likeliest first.
    """

    position: tuple[float, ...]
    pixels: tuple[tuple[int, ...], ...] = field(repr=False)
    area: float
    area_units: str
    p: float
    energy: float
    energy_units: str
    direction: str
    excess: float
    shift: float
    shift_error: float
    candidates: tuple[Candidate, ...]

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return len(self.pixels)

    def to_dict(self) -> dict[str, Any]:
        """Return the region as nested numbers, text and lists."""
        return dataclasses.asdict(self) | {"n_pixels": self.n_pixels}


@dataclass(frozen=True)
class Spike:
    """One value that is far too high, as a cosmic ray or a glitch makes it.

    Attributes
    ----------
    position
        Indices (x, y ...) of the pixel.
    energy
        Of the channel, in units of the energy axis.
    value, expected
        What was measured there, and the model's prediction; in channels that only some scan lines have, the
        most that the neighbouring channels allow for.
    """

    position: tuple[int, ...]
    energy: float
    value: float
    expected: float


@dataclass(frozen=True, eq=False, repr=False)
class AnomalyResult:
    """What ``s.anomaly_map()`` returns. All maps are in memory.

    Attributes
    ----------
    score
        Map ``(nx, ny |)``: the standard normal deviate of the p-value of a pixel, comparable between maps.
        Of other statistics than the scan their plain values. NaN where a pixel was not used.
    p_value
        Map: the probability of so strong a deviation anywhere in the pixel's spectrum without an anomaly.
    detections
        Bool map: the pixels of all regions.
    energy
        Map: where in the spectrum the deviation is strongest, in units of the energy axis. Where scan lines
        have drifted, this and the spectra of regions are those of the typical line.
    regions
        Found regions, the most significant first. Prints as a table, see `to_table`.
    spikes
        Single values far too high; they count neither as regions nor in the maps.
    spectra, residuals
        Mean spectrum and mean difference to the model of each region (regions | E), in the order of
        `regions`; None if there is no region.
    report
        What was done: model of the normal, noise, windows, false discovery rate, smallest p-value that was
        not extrapolated, the drift of each scan line in units of the energy axis, if it was taken back, and
        the held-out score of an autoencoder, if one was trained: its deviance per patch and the difference to
        that of PCA with as many components.
    """

    score: BaseSignal
    p_value: BaseSignal
    detections: BaseSignal
    energy: BaseSignal
    regions: tuple[Region, ...]
    spikes: tuple[Spike, ...]
    spectra: BaseSignal | None
    residuals: BaseSignal | None
    report: dict[str, Any]

    def plot(self) -> Figure:
        """Plot the score map with its regions outlined, and the spectra of the strongest ones.

        Returns
        -------
        matplotlib figure
        """
        from hyperspy_specml.results import _anomaly_figure

        return _anomaly_figure.anomaly_figure(self)

    def __repr__(self) -> str:
        """Return the table of regions as text."""
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._summary(), *(lines if self.regions else [])])

    def _repr_html_(self) -> str:
        head, *rows = (
            "<tr>" + "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in row) + "</tr>"
            for cell, row in [("th", _HEAD), *(("td", row) for row in self._rows())]
        )
        table = f"<table>{head}{''.join(rows)}</table>" if self.regions else ""
        return f"<p>{html.escape(self._summary())}</p>{table}"

    def _summary(self) -> str:
        title = self.score.metadata.General.title
        return f"{title}: {len(self.regions)} regions, {len(self.spikes)} spikes ({self.report['threshold']})"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for i, region in enumerate(self.regions[:_MOST_ROWS]):
            rows.append((
                str(i), ", ".join(f"{x:.4g}" for x in region.position), str(region.n_pixels),
                f"{region.area:.3g} {region.area_units}".strip(),
                f"{region.p:.1e}" if region.p else "< 1e-300",
                f"{region.energy:.4g} {region.energy_units}".strip(), _what(region),
                f"{region.excess:+.0f}",
                ", ".join(str(candidate) for candidate in region.candidates[:3]),
            ))  # fmt: skip
        if len(self.regions) > _MOST_ROWS:
            rows.append(("...", *[""] * (len(_HEAD) - 1)))
        return rows


def _what(region: Region) -> str:
    """Return the direction, and how far the spectrum is shifted if it is."""
    if abs(region.shift) > _SHIFTED * region.shift_error:
        return f"{region.direction}, shifted by {region.shift:+.2g} {region.energy_units}".rstrip()
    return region.direction
