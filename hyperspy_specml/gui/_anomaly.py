"""The tool of ``s.anomaly_map(interactive=True)``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hyperspy.api as hs
import numpy as np
import traits.api as t

from hyperspy_specml.gui._curves import draw_training
from hyperspy_specml.gui._guard import with_gui
from hyperspy_specml.gui._tool import SAME, Action, Control, RunTool
from hyperspy_specml.results import amount, axis_label, draw_anomalies, draw_spectra, legend_outside, mark_line

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.results import AnomalyResult, Region

# Candidate lines of a region that are marked, and regions whose numbers stand on the map.
_MARKED, _NUMBERED = 3, 40
_FIELDS = ("position", "n_pixels", "area", "area_units", "p", "energy", "energy_units", "direction", "excess")


@with_gui("hyperspy_specml.AnomalyMap")
class AnomalyMap(RunTool):
    """Search a map for what the rest of it does not explain, and look at what is found.

    Attributes
    ----------
    architecture, output_dimension, random_state
        Arguments of the method; 0 components: their number is chosen.
    fdr
        Accepted fraction of false regions; a change labels the map anew and scans nothing.
    known
        Spectra that count as ordinary: those of the regions that "Include as known" took.
    path
        File of "Export table".
    created
        Score maps, and below each the mean spectra of its regions, that "Create signals" made.
    """

    title = "Anomaly map"
    table = "regions"
    parameters = (
        Control("architecture", "reference model"),
        Control("output_dimension", "components (0: by held-out counts)"),
        Control("random_state", "seed"),
    )
    controls = (Control("fdr", "false discovery rate", logarithmic=True), Control("path", "table file"))
    actions = (
        *RunTool.actions[:-1],
        Action("include_known", "Include as known and search again", "The selected region becomes ordinary", "chosen"),
        Action("create", "Create signals", "Keep score map and spectra of regions in .created", "result"),
        Action("export", "Export table", "Write the table of regions to a file", "result"),
        RunTool.actions[-1],
    )

    architecture = t.Str("pca")
    output_dimension = t.Range(0, 64, 0)
    random_state = t.Range(0, 2**31 - 1, 0)
    fdr = t.Range(1e-4, 0.5, 0.01)
    chosen = t.Property(t.Any, observe="row, result, running")
    path = t.Str("regions.csv")
    known = t.Any(comparison_mode=SAME)
    created = t.List(t.Any())

    def __init__(
        self, signal: BaseSignal, *, architecture: str = "pca", output_dimension: int | None = None,
        random_state: int = 0, fdr: float = 0.01, known: BaseSignal | None = None,
        result: AnomalyResult | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(signal, **arguments)
        self.choices = {"architecture": ("pca", "dense", "auto")}
        self.trait_setq(architecture=architecture, output_dimension=output_dimension or 0, known=known)
        self.trait_setq(random_state=random_state, fdr=fdr)
        self.observe(self._other_fdr, "fdr")
        self.observe(self._other_row, "row")
        self.result = result
        if result is None:
            self.draw()
        else:
            self.show_result()

    def _get_chosen(self) -> Region | None:
        regions = () if self.result is None or self.running else self.result.regions
        return regions[self.row] if 0 <= self.row < len(regions) else None

    def compute(self, snapshot: BaseSignal, progress: Progress) -> AnomalyResult:
        """Search the snapshot."""
        own: dict[str, Any] = {"random_state": self.random_state, "known": self.known}
        if self.arguments.get("model") is None:
            own |= {"architecture": self.architecture, "output_dimension": self.output_dimension or None}
        if self.arguments.get("threshold") is None:
            own["fdr"] = self.fdr
        return snapshot.anomaly_map(**self.arguments | own | {"show_progressbar": progress})

    def _other_fdr(self, event: Any) -> None:
        if self.result is not None:
            self.start(lambda snapshot, progress: self.result.at_fdr(self.fdr, show_progressbar=progress))

    def _other_row(self, event: Any) -> None:
        if self.chosen is not None:
            self.go_to(*self.chosen.position)

    def show_result(self) -> None:
        """List the regions, and draw."""
        self.summary, *lines = str(self.result).splitlines()
        self.row, self.heading = -1, next(iter(lines), self.table)
        self.rows = lines[1 : 1 + len(self.result.regions)]
        self.draw()

    def include_known(self) -> None:
        """Count the selected region as ordinary from now on, and search again."""
        spectrum = self.result.spectra.inav[self.row : self.row + 1]
        before = [] if self.known is None else [self.known]
        self.known = hs.stack([*before, spectrum], axis=0, show_progressbar=False) if before else spectrum
        self.run()

    def create(self) -> None:
        """Keep copies of the score map and of the mean spectra of the regions."""
        found = [self.result.score, *filter(None, [self.result.spectra])]
        self.created = [*self.created, *(signal.deepcopy() for signal in found)]
        self.message = (
            f"Created: {', '.join(map(str, self.created[-len(found) :]))}, the last of .created of this tool."
        )

    def export(self) -> None:
        """Write the table of regions as comma-separated values."""
        with Path(self.path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow((*_FIELDS, "candidates"))
            for region in self.result.regions:
                cells = [getattr(region, name) for name in _FIELDS]
                writer.writerow((*cells, " ".join(map(str, region.candidates))))
        self.message = f"The table of regions is in {Path(self.path).resolve()}."

    def fill(self, figure: Figure) -> None:
        """Draw the training of a network while it lasts, then the map and the current pixel."""
        if self.result is None:
            axes = figure.subplots()
            if self.progress is not None and self.progress.curves:
                draw_training(axes, self.progress)
            return
        left, self._pixel = figure.subplots(1, 2, width_ratios=[1, 1.3])
        positions = {i: region.position for i, region in enumerate(self.result.regions[:_NUMBERED])}
        draw_anomalies(left, self.result.score, self.result.detections, positions)
        left.set_title(self.result.report.threshold, fontsize="medium")
        self._maps = [left]
        self.mark_pixel()
        self.fill_pixel()

    def fill_pixel(self) -> None:
        """Draw the spectrum of the current pixel, or that of the selected region with its residual and lines."""
        if self.result is None or not self._maps:
            return
        axes, region = self._pixel, self.chosen
        axes.clear()
        name = f"pixel {', '.join(map(str, self.pixel))}"
        if region is None:
            draw_spectra(axes, self.signal, {"": self.pixel_counts()}, label=self.pixel_label)
            return
        mean, residual = (of.data[self.row] for of in (self.result.spectra, self.result.residuals))
        energy = self.signal.axes_manager.signal_axes[0]
        for values, label, colour in ((self.pixel_counts(), name, "0.8"), (mean, f"mean of region {self.row}", "0.4")):
            axes.plot(energy.axis, values, color=colour, linewidth=0.8, label=label)
        axes.plot(energy.axis, residual, color="C3", linewidth=0.9, label="residual")
        for i, line in enumerate(region.candidates[:_MARKED]):  # they are close: one below the other
            mark_line(axes, line.energy, str(line), "C3", top=1 - i / 6)
        axes.set(
            xlabel=axis_label(energy),
            ylabel=f"{amount(self.signal)} per pixel",
            ylim=(None, 1.3 * float(np.nanmax(mean))),
        )
        axes.margins(x=0)
        legend_outside(axes)
