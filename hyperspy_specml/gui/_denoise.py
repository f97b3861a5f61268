"""The tool of ``s.denoise_dae(interactive=True)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traits.api as t

from hyperspy_specml.denoise import CONTEXTS, DenoiseOptions
from hyperspy_specml.gui._curves import draw_candidates, draw_training
from hyperspy_specml.gui._guard import with_gui
from hyperspy_specml.gui._tool import Action, Control, OptionsForm, RunTool
from hyperspy_specml.results import amount, denoise_model, denoise_report, draw_map, draw_spectra

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.progress import Progress

# Channels over which maps are summed, on both sides of the chosen one, as a share of all.
_AROUND = 1 / 128


@with_gui("hyperspy_specml.DenoiseDAE")
class DenoiseDAE(RunTool):
    """Denoise a signal, and look at what was removed.

    Attributes
    ----------
    context, random_state
        Arguments of the method.
    form
        The options of the method.
    protect
        Whether removed signal is restored; nothing is fitted again.
    channel
        Middle of the energies that the maps show.
    created
        Signals that "Create signal" made.
    """

    title = "Denoising"
    parameters = (Control("context", "context"), Control("random_state", "seed"))
    controls = (Control("protect", "protect removed signal"), Control("channel", "channel", most="last_channel"))
    actions = (
        *RunTool.actions[:-1],
        Action("create", "Create signal", "Keep a copy of the denoised signal in .created", "result"),
        RunTool.actions[-1],
    )

    context = t.Str("auto")
    random_state = t.Range(0, 2**31 - 1, 0)
    form: Any = t.Instance(OptionsForm)
    protect = t.Bool(False)
    channel = t.Int(0)
    last_channel = t.Int(0)
    created = t.List(t.Any())

    def __init__(
        self, signal: BaseSignal, *, context: str = "auto", options: DenoiseOptions | None = None,
        protect: bool = False, random_state: int = 0, **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(signal, **arguments)
        self.choices = {"context": CONTEXTS}
        self.trait_setq(context=context, random_state=random_state, protect=protect)
        self.form = OptionsForm(DenoiseOptions() if options is None else options)
        self._versions: dict[bool, BaseSignal] = {}  # without and with protection, of one fit
        self.observe(self._other_protection, "protect")
        self.observe(lambda event: self.draw(), "channel")
        self.draw()

    def compute(self, snapshot: BaseSignal, progress: Progress) -> BaseSignal:
        """Denoise the snapshot."""
        own: dict[str, Any] = {"random_state": self.random_state, "protect": self.protect}
        if self.arguments.get("model") is None:
            own |= {"context": self.context, "options": self.form.options()}
        clean = snapshot.denoise_dae(**self.arguments | own | {"show_progressbar": progress})
        self._versions = {own["protect"]: clean}
        return clean

    def _other_protection(self, event: Any) -> None:
        """Show the other version; it is made by applying the fitted denoiser."""
        if self.result is None or self.running:
            return
        if self.protect in self._versions:
            self.result = self._versions[self.protect]
            self.show_result()
        else:
            self.start(self._apply)

    def _apply(self, snapshot: BaseSignal, progress: Progress) -> BaseSignal:
        model, mask = denoise_model(self.result), self.arguments.get("navigation_mask")
        clean = snapshot.denoise_dae(model=model, protect=self.protect, navigation_mask=mask, show_progressbar=progress)
        self._versions[self.protect] = clean
        return clean

    def show_result(self) -> None:
        """Say what was chosen and what was removed, and draw."""
        self.summary = str(denoise_report(self.result))
        if not self.last_channel:
            self.last_channel = self.result.axes_manager.signal_axes[0].size - 1
            self.channel = int(np.argmax(np.nan_to_num(np.asarray(self.result.inav[self.pixel].data))))
        self.draw()

    def create(self) -> None:
        """Keep a copy of the denoised signal."""
        self.created = [*self.created, self.result.deepcopy()]
        self.message = f"Created {self.created[-1]}: .created[{len(self.created) - 1}] of this tool."

    def fill(self, figure: Figure) -> None:
        """Draw candidates while they are fitted, then maps and the current pixel."""
        if self.result is None or (self.running and not self.computed):
            left, right = figure.subplots(1, 2)
            if self.progress is not None:
                draw_training(left, self.progress)
                draw_candidates(right, self.progress)
            return
        panels = figure.subplot_mosaic([["before", "after", "removed"], ["pixel"] * 3])
        axis, scan_axes = self.result.axes_manager.signal_axes[0], self.signal.axes_manager.navigation_axes
        reach = max(1, round(_AROUND * axis.size))
        window = slice(max(0, self.channel - reach), min(axis.size, self.channel + reach + 1))
        before, after = (self._sum(signal, window) for signal in (self.signal, self.result))
        where = f"{axis.axis[window][0]:.4g} to {axis.axis[window][-1]:.4g} {axis.units}"
        for name, values, like in (
            ("before", before, after),
            ("after", after, after),
            ("removed", before - after, None),
        ):
            panels[name].set_title(name, fontsize="medium")
            draw_map(panels[name], values, scan_axes, label=amount(self.signal), like=like)
        figure.suptitle(f"Sums from {where}", fontsize="medium")
        self._maps, self._pixel = [panels[name] for name in ("before", "after", "removed")], panels["pixel"]
        self.mark_pixel()
        self.fill_pixel()

    def _sum(self, signal: BaseSignal, window: slice) -> np.ndarray:
        """Return the sum over channels, in array order."""
        part = signal.isig[window.start : window.stop]
        return np.asarray(part._data_aligned_with_axes.sum(axis=-1, dtype=np.float64))

    def fill_pixel(self) -> None:
        """Draw the spectrum of the current pixel before and after."""
        if self.result is None or not self._maps:
            return
        axes, clean = self._pixel, np.asarray(self.result.inav[self.pixel].data)
        axes.clear()
        shown = {"counts": self.pixel_counts(), "denoised": clean}
        draw_spectra(axes, self.result, shown, label=self.pixel_label, colours=("0.6", "C1"))
        axis = self.result.axes_manager.signal_axes[0]
        axes.axvline(axis.axis[self.channel], color="C2", linewidth=0.8)
