"""The tool of ``s.decomposition_ae(interactive=True)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traits.api as t

from hyperspy_specml.decompose import architecture_names, choose_architecture
from hyperspy_specml.gui._curves import draw_training
from hyperspy_specml.gui._guard import with_gui
from hyperspy_specml.gui._tool import Action, Control, OptionsForm, RunTool
from hyperspy_specml.results import draw_map, draw_spectra

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.results import DecompositionResult


@with_gui("hyperspy_specml.DecompositionAE")
class DecompositionAE(RunTool):
    """Decompose a signal, and look at the components.

    Attributes
    ----------
    architecture, output_dimension, random_state
        Arguments of the method; 0 components: their number is chosen.
    form
        The options of the architecture.
    component
        The one that is shown.
    """

    title = "Decomposition"
    parameters = (
        Control("architecture", "architecture"),
        Control("output_dimension", "components (0: by held-out counts)"),
        Control("random_state", "seed"),
    )
    controls = (Control("component", "component", most="last_component"),)
    actions = (
        *RunTool.actions[:-1],
        Action("create", "To learning results", "Write the result to the signal's learning results", "result"),
        RunTool.actions[-1],
    )

    architecture = t.Str("dense")
    output_dimension = t.Range(0, 64, 0)
    random_state = t.Range(0, 2**31 - 1, 0)
    form: Any = t.Instance(OptionsForm)
    component = t.Int(0)
    last_component = t.Int(0)

    def __init__(
        self, signal: BaseSignal, output_dimension: int | None = None, *, architecture: str = "dense",
        options: Any = None, random_state: int = 0, **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(signal, **arguments)
        self.choices = {"architecture": architecture_names()}
        self.trait_setq(architecture=architecture, output_dimension=output_dimension or 0, random_state=random_state)
        self.form = OptionsForm(choose_architecture(architecture, options).options)
        self.observe(self._other_form, "architecture")
        self.observe(lambda event: self.draw(), "component")
        self.draw()

    def _other_form(self, event: Any) -> None:
        self.form = OptionsForm(choose_architecture(self.architecture).options)

    def compute(self, snapshot: BaseSignal, progress: Progress) -> DecompositionResult:
        """Decompose the snapshot."""
        own: dict[str, Any] = {"random_state": self.random_state}
        if self.arguments.get("model") is None:
            own |= {"architecture": self.architecture, "options": self.form.options()}
            own["output_dimension"] = self.output_dimension or None
        return snapshot.decomposition_ae(**self.arguments | own | {"show_progressbar": progress})

    def show_result(self) -> None:
        """Say how it compares with PCA, and draw."""
        self.summary, self.last_component = str(self.result.report), len(self.result.components.data) - 1
        self.component = min(self.component, self.last_component)
        self.draw()

    def create(self) -> None:
        """Write the result to the signal's learning results."""
        self.result.to_learning_results(self.signal)
        self.message = f"Written to the learning results of {self.name}."

    def fill(self, figure: Figure) -> None:
        """Draw the training while it lasts, then component, training and the current pixel."""
        if self.result is None or (self.running and not self.computed):
            axes = figure.subplots()
            if self.progress is not None and self.progress.curves:
                draw_training(axes, self.progress)
            else:
                axes.set_axis_off()
                axes.text(0.5, 0.5, "Run shows held-out scores here as the training goes on", ha="center")
            return
        panels = figure.subplot_mosaic([["map", "spectrum"], ["training", "pixel"]], width_ratios=[1, 1.6])
        scores, components, k = self.result.scores, self.result.components, self.component
        panels["map"].set_title(f"component {k}", fontsize="medium")
        draw_map(panels["map"], scores.data[k], scores.axes_manager.signal_axes, label="score")
        draw_spectra(panels["spectrum"], components, {"": components.data[k]})
        report, training = self.result.report, panels["training"]
        training.plot(report.steps, report.step_scores, "o-", markersize=2.5, linewidth=0.9)
        rival = report.candidates[-1]
        training.axhline(rival.validation_score, color="C1", linewidth=0.9, label=rival.name)
        training.set(xlabel="training step", ylabel="held-out score")
        training.legend(fontsize="small")
        self._maps, self._pixel = [panels["map"]], panels["pixel"]
        self.mark_pixel()
        self.fill_pixel()

    def fill_pixel(self) -> None:
        """Draw spectrum, model and residual of the current pixel."""
        if self.result is None or not self._maps:
            return
        axes, counts, model = self._pixel, self.pixel_counts(), self.result.expected_spectrum(*self.pixel)
        axes.clear()
        below = np.nanmin(np.append(model, 0)) - 1.1 * max(np.nanmax(np.abs(counts - model)), 1e-30)
        shown = {"counts": counts, "model": model, "residual (below)": counts - model + below}
        draw_spectra(axes, self.result.components, shown, label=self.pixel_label, colours=("0.6", "C1", "C2"))
        axes.axhline(below, color="0.7", linewidth=0.6)
