"""The panels of the figure of an anomaly map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.results._figures import axis_label, axis_limits, draw_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes

    from hyperspy_specml.anomaly import Candidate


def draw_anomalies(
    axes: Axes, score: BaseSignal, detections: BaseSignal, positions: Sequence[tuple[float, ...]]
) -> None:
    """Draw the score map with the detected pixels outlined and numbers at some regions.

    Parameters
    ----------
    axes
        Where to draw.
    score, detections
        Maps (nx, ny |).
    positions
        Of the numbers, (x, y ...) in units of the scan axes.
    """
    scan_axes = score.axes_manager.navigation_axes
    draw_map(axes, score.data, scan_axes)
    if len(scan_axes) > 1:
        axes.set_ylabel(axis_label(scan_axes[1]))
        _outline(axes, detections.data, scan_axes)
    for i, position in enumerate(positions):
        axes.annotate(str(i), (position[0], position[1] if len(scan_axes) > 1 else 0))


def draw_regions(axes: Axes, spectra: BaseSignal, residuals: BaseSignal, lines: Sequence[Candidate | None]) -> None:
    """Draw spectrum and residual of the first regions above each other.

    Parameters
    ----------
    axes
        Where to draw.
    spectra, residuals
        Mean spectra and residuals (regions | E).
    lines
        One for each region that is drawn: the line that is marked, or None.
    """
    (energy,) = residuals.axes_manager.signal_axes
    step = 0.0
    for i, line in enumerate(lines):
        spectrum, residual = spectra.data[i], residuals.data[i]
        axes.plot(energy.axis, spectrum + step, color="0.7", linewidth=0.8)
        axes.plot(energy.axis, residual + step, color=f"C{i}", linewidth=0.8, label=f"region {i}: residual")
        if line is not None:
            axes.axvline(line.energy, color=f"C{i}", linestyle=":", linewidth=0.8)
            axes.annotate(str(line), (line.energy, step + np.nanmax(residual)), fontsize="small")
        step += 1.1 * max(float(np.nanmax(spectrum)), 1e-300)
    axes.set_xlabel(axis_label(energy))
    axes.legend(fontsize="small")


def _outline(axes: Axes, detections: np.ndarray, scan_axes: tuple[BaseDataAxis, ...]) -> None:
    for axis in scan_axes[:1:-1]:
        detections = detections[axis.size // 2]
    if not detections.any():
        return
    fine = np.kron(detections, np.ones((8, 8)))  # pixels keep their corners
    bounds = []
    for axis in scan_axes[:2]:
        first, last = axis_limits(axis)
        half = 0.5 * (last - first) / (8 * axis.size)
        bounds.append(np.linspace(first + half, last - half, 8 * axis.size))
    axes.contour(*bounds, fine, levels=[0.5], colors="red", linewidths=0.8)
