"""The result of `estimate_shift`: maps of shifts and of their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.models import new_figure
from hyperspy_specml.results._figures import draw_map, draw_spectra
from hyperspy_specml.results._page import small_maps

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure, SubFigure

    from hyperspy_specml.models import ShiftReport


@dataclass(frozen=True, eq=False, repr=False)
class ShiftResult:
    """Shifts of the spectra of a map along energy.

    Attributes
    ----------
    shift
        Map ``(nx, ny |)`` of by how much each spectrum lies too high in energy, in units of the energy axis; 0 on
        average. NaN for pixels that were not used.
    error
        Map of the standard deviation of each shift: 90 % of the true shifts lie within 1.645 errors.
    templates
        (K | E) spectra at shift 0, class of the signal: sharper than the mean spectrum.
    report
        The evidence.
    """

    shift: BaseSignal
    error: BaseSignal
    templates: BaseSignal
    report: ShiftReport

    def plot(self, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
        """Plot the shifts, their errors and the templates.

        Parameters
        ----------
        figure
            Empty figure or subfigure to plot into; by default a new one of pyplot.

        Returns
        -------
        the figure
        """
        figure = figure or new_figure(10.5, 3.0)
        scan_axes, units = self.shift.axes_manager.navigation_axes, self.report.units
        axes = figure.subplots(1, 3)
        for one, (name, signal) in zip(axes, self._maps().items(), strict=False):
            draw_map(one, np.asarray(signal.data), scan_axes)
            one.set_title(f"{name} ({units})" if units else name, fontsize="small")
        rows = np.asarray(self.templates.data).reshape(-1, self.templates.data.shape[-1])
        names = [f"template {k}" for k in range(len(rows))]
        draw_spectra(axes[2], self.templates, dict(zip(names, rows, strict=True)), label="template")
        return figure

    def _maps(self) -> dict[str, BaseSignal]:
        return {"shift": self.shift, "error": self.error}

    def __repr__(self) -> str:
        """Return the report, as text."""
        return f"<ShiftResult of {self.shift.metadata.General.title!r}>\n{self.report}"

    def _repr_html_(self) -> str:
        maps = {name: np.asarray(signal.data) for name, signal in self._maps().items()}
        return small_maps(maps, self.shift.axes_manager.navigation_axes) + self.report._repr_html_()
