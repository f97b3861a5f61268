"""The figure of an anomaly map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.results._figures import axis_label, axis_limits, draw_map

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hyperspy_specml.results._anomaly import AnomalyResult

_MOST_REGIONS = 3


def anomaly_figure(found: AnomalyResult) -> Figure:
    """Draw the score map with the regions outlined, then spectrum and residual of the strongest regions.

    Parameters
    ----------
    found
        What ``s.anomaly_map()`` returned.
    """
    import matplotlib.pyplot as plt

    shown = found.regions[:_MOST_REGIONS]
    figure, axes = plt.subplots(
        1, 1 + bool(shown), figsize=(5 + 5 * bool(shown), 4.2), squeeze=False, layout="constrained",
        width_ratios=[1, 1.4][: 1 + bool(shown)],
    )  # fmt: skip
    scan_axes = found.score.axes_manager.navigation_axes
    draw_map(axes[0, 0], found.score.data, scan_axes)
    if len(scan_axes) > 1:
        axes[0, 0].set_ylabel(axis_label(scan_axes[1]))
        _outline(axes[0, 0], found.detections.data, scan_axes)
    for i, region in enumerate(shown):
        axes[0, 0].annotate(str(i), region.position[:2] if len(scan_axes) > 1 else (region.position[0], 0))
    if shown:
        _draw_regions(axes[0, 1], found)
    figure.suptitle(found.score.metadata.General.title, fontsize="medium", wrap=True)
    return figure


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


def _draw_regions(axes: Axes, found: AnomalyResult) -> None:
    assert found.spectra is not None
    assert found.residuals is not None
    (energy,) = found.residuals.axes_manager.signal_axes
    step = 0.0
    for i, region in enumerate(found.regions[:_MOST_REGIONS]):
        spectrum, residual = found.spectra.data[i], found.residuals.data[i]
        axes.plot(energy.axis, spectrum + step, color="0.7", linewidth=0.8)
        axes.plot(energy.axis, residual + step, color=f"C{i}", linewidth=0.8, label=f"region {i}: residual")
        for candidate in region.candidates[:1]:
            axes.axvline(candidate.energy, color=f"C{i}", linestyle=":", linewidth=0.8)
            axes.annotate(str(candidate), (candidate.energy, step + np.nanmax(residual)), fontsize="small")
        step += 1.1 * max(float(np.nanmax(spectrum)), 1e-300)
    axes.set_xlabel(axis_label(energy))
    axes.legend(fontsize="small")
