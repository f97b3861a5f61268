"""The picture of a scan that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperspy_specml.models import new_figure
from hyperspy_specml.results._figures import draw_map, draw_phase_map, draw_phase_spectra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Events shown, the last ones.
_SHOWN = 8


def draw_live(monitor: Any, figure: Figure | None = None) -> Figure:
    """Draw the map so far, the spectra of its phases, the last events and what may be unseen.

    Parameters
    ----------
    monitor
        A `LiveMonitor`.
    figure
        That is drawn anew; None makes one.
    """
    figure = figure or new_figure(11.0, 4.6)
    figure.clear()
    grid = figure.subplots(2, 2, width_ratios=[1, 1.5], height_ratios=[3, 1])
    for axes in grid[1]:
        axes.remove()
    if monitor.n_phases:
        phases = monitor.phases
        draw_phase_map(grid[0, 0], phases.labels, [f"phase {k}" for k in range(len(phases))])
        spectra = phases.spectra.deepcopy()
        spectra.data = spectra.data / [[max(1, n)] for n in phases.n_spectra]
        draw_phase_spectra(grid[0, 1], spectra, [k for k, n in enumerate(phases.n_spectra) if n > 0])
    else:
        counts = monitor.intensity
        draw_map(grid[0, 0], counts.data, counts.axes_manager.navigation_axes, label="counts")
        grid[0, 1].set_axis_off()
    lines = [*map(str, monitor.events[-_SHOWN:]), str(monitor.unseen)]
    figure.text(0.02, 0.02, "\n".join(lines), fontsize="small", va="bottom", wrap=True)
    return figure
