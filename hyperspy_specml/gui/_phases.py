"""The tool of ``s.phase_map(interactive=True)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traits.api as t

from hyperspy_specml.gui._curves import draw_numbers
from hyperspy_specml.gui._guard import with_gui
from hyperspy_specml.gui._tool import Action, Control, RunTool
from hyperspy_specml.results import draw_map, draw_phase_map, draw_phase_spectra, draw_spectra, phase_colour

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.results import PhaseResult

# What the map can show.
_PHASES, _MIXED, _PROBABILITY = "phases", "share of the second phase", "probability of the selected phase"


@with_gui("hyperspy_specml.PhaseMap")
class PhaseMap(RunTool):
    """Find the phases of a signal, look at other numbers of them, and name them.

    Attributes
    ----------
    n_phases, mixed, random_state
        Arguments of the method; 0 phases: their number is chosen.
    number
        Of phases that are shown: one of those that were fitted on the way to the chosen one.
    shown
        What the map shows.
    called
        Name of the selected phase; another one renames it.
    created
        Label map and summed spectra that "Create signals" made, newest last.
    """

    title = "Phases"
    table = "phases"
    parameters = (
        Control("n_phases", "phases (0: by held-out counts)"),
        Control("mixed", "mixtures near borders"),
        Control("random_state", "seed"),
    )
    controls = (
        Control("number", "number of phases", most="last_number", least="first_number"),
        Control("shown", "map"),
        Control("called", "name of the selected phase"),
    )
    actions = (
        *RunTool.actions[:-1],
        Action("create", "Create signals", "Keep labels and spectra in .created", "result"),
        RunTool.actions[-1],
    )

    n_phases = t.Range(0, 64, 0)
    mixed = t.Bool(True)
    random_state = t.Range(0, 2**31 - 1, 0)
    number = t.Int(1)
    first_number = t.Int(1)
    last_number = t.Int(1)
    shown = t.Str(_PHASES)
    called = t.Str()
    chosen = t.Property(t.Any, observe="row, result, running")
    created = t.List(t.Any())

    def __init__(
        self, signal: BaseSignal, n_phases: int | None = None, *, mixed: bool = True, random_state: int = 0,
        result: PhaseResult | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(signal, **arguments)
        self.choices = {"shown": (_PHASES, _MIXED, _PROBABILITY)}
        self.trait_setq(n_phases=n_phases or 0, mixed=mixed, random_state=random_state)
        self._numbers: dict[int, PhaseResult] = {}  # those that were looked at, of one search
        self.observe(self._other_number, "number")
        self.observe(self._other_row, "row")
        self.observe(self._other_name, "called")
        self.observe(lambda event: self.draw(), "shown")
        self.result = result
        if result is None:
            self.draw()
        else:
            self.show_result()

    def _get_chosen(self) -> int | None:
        """Return the number of the selected phase."""
        return self.row if self._has_phases() and 0 <= self.row < len(self.result.names) else None

    def _has_phases(self) -> bool:
        return self.result is not None and not self.running

    def compute(self, snapshot: BaseSignal, progress: Progress) -> PhaseResult:
        """Find the phases of the snapshot."""
        own: dict[str, Any] = {}
        if self.arguments.get("model") is None:
            own = {"n_phases": self.n_phases or None, "mixed": self.mixed, "random_state": self.random_state}
        self._numbers = {}
        return snapshot.phase_map(**self.arguments | own | {"show_progressbar": progress})

    def _other_number(self, event: Any) -> None:
        """Show another number of phases; the search is not done again."""
        if not self._has_phases() or self.number == len(self.result.names):
            return
        if self.number not in self.result.alternatives:
            self.message = f"Of {self.number} phases nothing was fitted."
        elif self.number in self._numbers:
            self.result = self._numbers[self.number]
            self.show_result()
        else:
            found, number = self.result, self.number
            self.start(lambda snapshot, progress: found.at_number(number, show_progressbar=progress))

    def _other_row(self, event: Any) -> None:
        if self.chosen is not None:
            self.called = self.result.names[self.chosen]
            self.draw()

    def show_result(self) -> None:
        """List the phases, set the limits of the slider, and draw."""
        n = len(self.result.names)
        self._numbers[n] = self.result
        self.first_number, self.last_number = min((n, *self.result.alternatives)), max((n, *self.result.alternatives))
        self.trait_setq(row=-1)
        self.number, self.summary = n, str(self.result.report)
        self.heading, *self.rows = str(self.result.shares).splitlines()
        self.draw()

    def finished(self) -> None:
        """Show the number that the slider was moved to meanwhile."""
        if self.stage == "Done":
            self._other_number(None)

    def _other_name(self, event: Any) -> None:
        if self.chosen is None:
            self.message = "Select a phase in the table first: what is typed then is its name."
        elif self.called not in ("", self.result.names[self.chosen]):
            self.do("rename")

    def rename(self) -> None:
        """Give the selected phase the name in `called`."""
        row = self.row
        self.result = self.result.rename({row: self.called})
        self.show_result()
        self.row, self.message = row, f"Phase {row} is {self.called}."

    def create(self) -> None:
        """Keep copies of the map of labels and of the summed spectra."""
        self.created = [*self.created, self.result.labels.deepcopy(), self.result.spectra.deepcopy()]
        self.message = "Created labels and summed spectra: .created[-2] and .created[-1] of this tool."

    def fill(self, figure: Figure) -> None:
        """Draw the scores of the numbers that are fitted so far, then map, spectra and the current pixel."""
        if self.result is None or (self.running and not self.computed):
            axes = figure.subplots()
            if self.progress is not None and self.progress.curves.get("phases"):
                draw_numbers(axes, *np.array(self.progress.curves["phases"]).T)
            else:
                axes.set_axis_off()
                axes.text(0.5, 0.5, "Run finds phases, and shows held-out scores of their number here", ha="center")
            return
        panels = figure.subplot_mosaic([["map", "spectra"], ["numbers", "pixel"]], width_ratios=[1, 1.6])
        self._fill_map(panels["map"])
        self._fill_spectra(panels["spectra"])
        curve = self.result.report.numbers
        if curve is None:
            panels["numbers"].set_axis_off()
        else:
            draw_numbers(panels["numbers"], curve.ranks, curve.scores, curve.standard_errors)
            panels["numbers"].axvline(len(self.result.names), color="C1", linewidth=0.8)
        self._maps, self._pixel = [panels["map"]], panels["pixel"]
        self.mark_pixel()
        self.fill_pixel()

    def _fill_map(self, axes: Axes) -> None:
        result, scan_axes = self.result, self.result.labels.axes_manager.navigation_axes
        if self.shown == _MIXED:
            draw_map(axes, result.mixed.data, scan_axes, label="share of the second phase")
        elif self.shown == _PROBABILITY and self.chosen is not None:
            label = f"probability of {result.names[self.chosen]}"
            draw_map(axes, result.probability.data[self.chosen], scan_axes, label=label)
        else:
            draw_phase_map(axes, result.labels, result.names)

    def _fill_spectra(self, axes: Axes) -> None:
        """Draw the mean spectra of the phases, all but the selected one pale."""
        draw_phase_spectra(axes, self.result.mean_spectra(), range(len(self.result.names)))
        for k, line in enumerate(axes.lines[: len(self.result.names)]):
            line.set_alpha(1.0 if self.chosen in (None, k) else 0.3)

    def fill_pixel(self) -> None:
        """Draw the spectrum of the current pixel beside that of its phase, as many counts as it has."""
        if self.result is None or not self._maps:
            return
        axes, counts = self._pixel, self.pixel_counts()
        axes.clear()
        k = int(self.result.labels.data[self.pixel[::-1]])
        shown = {"counts": counts}
        if k >= 0:
            mean = self.result.spectra.data[k]
            scale = np.nansum(counts, dtype=np.float64) / max(float(np.nansum(np.abs(mean))), 1e-300)
            chance = float(self.result.probability.data[(k, *self.pixel[::-1])])
            shown[f"{self.result.names[k]}, probability {chance:.2f}"] = mean * scale
        draw_spectra(axes, self.result.spectra, shown, label=self.pixel_label, colours=("0.6", phase_colour(k)))
