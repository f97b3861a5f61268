"""The result of ``s.anomaly_map()``."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field, fields
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly import Candidate
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import as_html, as_text, data_frame, new_figure
from hyperspy_specml.results._explore import open_tool
from hyperspy_specml.results._figures import checked_components, draw_anomalies, draw_regions
from hyperspy_specml.results._files import Result
from hyperspy_specml.results._page import small_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure, SubFigure
    from pandas import DataFrame

    from hyperspy_specml.models import AnomalyReport, TrainedModel
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.signals import Source

_HEAD = ("", "position", "pixels", "area", "p", "energy", "", "counts", "candidates")
_MOST_ROWS = 40
# Standard errors below which a shift is not shown in the table.
_SHIFTED = 3.0
# Regions whose spectra are drawn.
_MOST_DRAWN = 3


@dataclass(frozen=True)
class Region:
    """Neighbouring pixels whose spectra the reference model does not explain.

    Attributes
    ----------
    position
        Position of the strongest pixel, (x, y ...) in units of the scan axes.
    pixels
        Indices (x, y ...) of all pixels, as ``s.inav`` takes them.
    area, area_units
        Calibrated length, area or volume.
    p
        Smallest p-value of its pixels, corrected for the windows searched there.
    energy, energy_units
        Where the difference is strongest. An excess is preferred to a deficit of up to twice its strength.
    direction
        "excess" or "deficit" of counts there.
    excess
        Counts beyond the expected ones in the strongest window, summed over all pixels.
    shift, shift_error
        How far the mean spectrum has to be moved down in energy so that the reference model describes it
        best, and the standard error of that, in units of the energy axis. Both are NaN for X-ray maps, where
        shifts are not searched for; the shift also where it would be more than four line widths or would not
        explain the difference.
    candidates
        Elements whose lines or edges may explain it, the likeliest first; each prints as ``Nb La``. Those that
        ``metadata.Sample.elements`` lists come first where they explain it half as well as others, radioactive
        and noble ones only where nothing else does: list an element, ``s.set_elements([...])``, to be asked for.
        Of EELS maps prominent edges at an onset that the residual shows; none where it shows none.
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

    @property
    def elements(self) -> str:
        """The first candidate and those of like evidence, as ``S Ka*, Mo La or Pb Ma``; * marks listed ones."""
        *some, last = [f"{one}{'*' * one.listed}" for one in takewhile(lambda one: one.close, self.candidates)] or [""]
        return f"{', '.join(some)} or {last}" if some else last

    def to_dict(self) -> dict[str, Any]:
        """Return the region as nested numbers, text and lists."""
        return asdict(self) | {"n_pixels": self.n_pixels}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Return the region that `to_dict` took apart.

        Parameters
        ----------
        plain
            What it returned, also as JSON gives it back.
        """
        own = {item.name: _as_tuples(plain[item.name]) for item in fields(cls)}
        return cls(**own | {"candidates": tuple(Candidate(**one) for one in plain["candidates"])})


@dataclass(frozen=True)
class Spike:
    """Values of one or a few channels of a pixel that are far too high, as a cosmic ray or a glitch makes them.

    Attributes
    ----------
    position
        Indices (x, y ...) of the pixel.
    energy
        Energy of the channel with the largest value, in units of the energy axis.
    value, expected
        The value measured there, and the model's prediction, of all its channels together; in channels that
        only some scan lines have, the most that the neighbouring channels allow for.
    n_channels
        Neighbouring channels that it has.
    """

    position: tuple[int, ...]
    energy: float
    value: float
    expected: float
    n_channels: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class AnomalyResult(Result):
    """What ``s.anomaly_map()`` returns. All maps are in memory.

    Attributes
    ----------
    score
        Map ``(nx, ny |)``: the standard normal deviate of the p-value of a pixel, comparable between maps. Of
        other statistics than the scan the plain value. NaN where a pixel was not used.
    p_value
        Map: the probability of so strong a deviation anywhere in the pixel's spectrum without an anomaly.
    detections
        Bool map: the pixels of all regions.
    energy
        Map: where in the spectrum the deviation is strongest, in units of the energy axis. Where scan lines
        have drifted, this and the spectra of regions are those of the typical line.
    regions
        Found regions, the most significant first.
    spikes
        Values of a few channels of single pixels that are far too high; they count neither as regions nor in
        the maps, nor in the spectra and counts of regions.
    spectra, residuals
        Mean spectrum and mean difference to the reference model of each region (regions | E), in the order of
        `regions`; None if there is no region.
    report
        What the map was made with; prints as a table.
    model
        The reference model with its errors and its null distribution: ``s2.anomaly_map(model=found.model)``
        gives another map scores that are comparable with these. ``found.model.save(path)`` keeps it.
    """

    score: BaseSignal
    p_value: BaseSignal
    detections: BaseSignal
    energy: BaseSignal
    regions: tuple[Region, ...]
    spikes: tuple[Spike, ...]
    spectra: BaseSignal | None
    residuals: BaseSignal | None
    report: AnomalyReport
    model: TrainedModel
    _source: Source | None = None
    _relabelled: Callable[..., AnomalyResult] | None = None

    def at_fdr(self, fdr: float, *, show_progressbar: bool | Progress | None = None) -> AnomalyResult:
        """Label the same scores with another false discovery rate; only the spectra of regions are read.

        Parameters
        ----------
        fdr
            Accepted fraction of false regions among the regions found, on average.
        show_progressbar
            As in ``s.anomaly_map()``.

        Returns
        -------
        what ``s.anomaly_map(fdr=fdr)`` returns, without a new scan

        Raises
        ------
        OptionError
            An impossible fraction, a statistic without error rates, or a result without its map, such as one
            of a file.
        Cancelled
            The `Progress` was cancelled.
        """
        if self._relabelled is None:
            raise OptionError(
                f"at_fdr({fdr!r}) needs the spectra, which this result does not have: s.anomaly_map(fdr={fdr!r})."
            )
        return self._relabelled(fdr, show_progressbar)

    def explore(self, signal: BaseSignal | None = None, *, display: bool = True, toolkit: str | None = None) -> Any:
        """Open the result in the tool of ``s.anomaly_map(interactive=True)``.

        Parameters
        ----------
        signal
            The map that was searched, if its navigator is to follow the tool; by default a view of its data.
        display, toolkit
            As in ``s.anomaly_map()``.

        Returns
        -------
        the tool, or what HyperSpy's ``gui(display=False)`` returns

        Raises
        ------
        OptionError
            The result has no map, such as one of a file, and no signal is given.
        """
        return open_tool("AnomalyMap", signal, self._source, display, toolkit, result=self)

    @classmethod
    def restored(cls, model: TrainedModel, score: BaseSignal, parts: dict[str, Any]) -> Self:
        """Put a result together that `save` took apart.

        Parameters
        ----------
        model
            The reference model.
        score, parts
            The score map, and everything else by name.
        """
        texts = (np.asarray(parts.pop(name), np.uint8).tobytes() for name in ("regions", "spikes"))
        regions, spikes = map(json.loads, texts)
        parts |= {name: parts.get(name) for name in ("spectra", "residuals")}
        return cls(
            score=score,
            regions=tuple(Region.from_dict(one) for one in regions),
            spikes=tuple(Spike(**{name: _as_tuples(value) for name, value in one.items()}) for one in spikes),
            report=model.report,  # type: ignore[arg-type]  # that of an anomaly map
            model=model,
            **parts,
        )

    def taken_apart(self) -> tuple[BaseSignal, dict[str, Any]]:
        """Return the score map, and by name all else but the model; see `save`."""
        names = ("p_value", "detections", "energy", "spectra", "residuals")
        parts: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name in ("regions", "spikes"):  # attributes of HDF5 hold 64 kB of text at most
            text = json.dumps([asdict(one) for one in getattr(self, name)])
            parts[name] = np.frombuffer(text.encode(), np.uint8)
        return self.score, parts

    def to_dataframe(self) -> DataFrame:
        """Return the regions, one a row, as a table of pandas; candidates as text, without the list of pixels.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        rows = []
        for region in self.regions:
            row = region.to_dict() | {"candidates": ", ".join(map(str, region.candidates))}
            del row["pixels"]
            rows.append(row)
        return data_frame(rows, "found.to_dataframe()")

    def plot(
        self, figure: Figure | SubFigure | None = None, *, components: Sequence[int] | None = None
    ) -> Figure | SubFigure:
        """Plot the score map with its regions outlined, and the spectra of the strongest ones.

        Parameters
        ----------
        figure
            Empty matplotlib figure or subfigure to plot into; by default a new one of pyplot.
        components
            Numbers of the regions whose spectra are shown; by default the first three.

        Returns
        -------
        the figure

        Raises
        ------
        OptionError
            There is no region of such a number.
        """
        numbers = list(range(len(self.regions)))[:_MOST_DRAWN]
        shown = numbers if components is None else checked_components(components, len(self.regions))
        figure = figure or new_figure(10 if self.regions else 5, 4.2)
        axes = figure.subplots(1, 1 + bool(shown), squeeze=False, width_ratios=[1, 1.4][: 1 + bool(shown)])[0]
        draw_anomalies(axes[0], self.score, self.detections, {i: self.regions[i].position for i in shown})
        if self.spectra is not None and self.residuals is not None:
            lines = {i: next(iter(self.regions[i].candidates), None) for i in shown}
            draw_regions(axes[1], self.spectra, self.residuals, lines)
        figure.suptitle(self.score.metadata.General.title, fontsize="medium", wrap=True)
        return figure

    def __repr__(self) -> str:
        """Return the table of regions as text."""
        return "\n".join(filter(None, [self._summary(), as_text(self._head(), self._rows())]))

    def _repr_html_(self) -> str:
        maps, scan_axes = {"score": self.score.data}, self.score.axes_manager.navigation_axes
        picture = small_maps(maps, scan_axes, self.detections.data)
        return f"<p>{html.escape(self._summary())}</p>{picture}{as_html(self._head(), self._rows())}"

    def _summary(self) -> str:
        title = self.score.metadata.General.title
        found = f"{_number(self.regions, 'region')}, {_number(self.spikes, 'spike')}"
        return f"{title}: {found} ({self.report.threshold})"

    @property
    def _counts(self) -> bool:
        return self.report.noise_model["name"] == "poisson"

    def _head(self) -> tuple[str, ...]:
        return _HEAD if self._counts else tuple("difference" if name == "counts" else name for name in _HEAD)

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for i, region in enumerate(self.regions[:_MOST_ROWS]):
            place, elements = ", ".join(f"{x:.4g}" for x in region.position), region.elements
            area, energy = f"{region.area:.3g} {region.area_units}", f"{region.energy:.4g} {region.energy_units}"
            p, size = f"{region.p:.1e}" if region.p else "< 1e-300", str(region.n_pixels)
            excess = format(region.excess, "+.0f" if self._counts else "+.3g")
            texts = (str(i), place, size, area, p, energy, _what(region), excess, elements)
            rows.append(tuple(text.strip() for text in texts))
        return rows + [("...", *[""] * (len(_HEAD) - 1))] * (len(self.regions) > _MOST_ROWS)


def _what(region: Region) -> str:
    """Return the direction, and how far the spectrum is shifted if it is."""
    if abs(region.shift) > _SHIFTED * region.shift_error:
        return f"{region.direction}, shifted by {region.shift:+.2g} {region.energy_units}".rstrip()
    return region.direction


def _as_tuples(value: Any) -> Any:
    """Return lists as tuples, however nested: JSON has only lists."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _number(found: tuple[object, ...], name: str) -> str:
    return f"{len(found)} {name}{'s' * (len(found) != 1)}"
