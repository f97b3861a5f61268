"""Figures of maps and spectra, drawn with matplotlib on the signals' axes, into a given figure or axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.models import new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hyperspy_specml.anomaly import Candidate

_MAX_COLUMNS = 6
# Longer to shorter side of a map, in calibrated units, above which its pixels are not drawn to scale: the map
# would be a line.
_MAX_ASPECT = 4
# Percentiles of a map that are black and white: single extreme pixels do not set the contrast.
_CONTRAST = (0.5, 99.5)


def result_figure(scores: BaseSignal, components: BaseSignal, *, title: str, figure: Figure | None = None) -> Figure:
    """Draw every component as its score map above its spectrum.

    Parameters
    ----------
    scores
        (K | scan axes); see `draw_map`.
    components
        (K | E).
    title
        Above the figure.
    figure
        Empty figure or subfigure to draw into; by default a new one of pyplot.
    """
    n_components = len(scores.data)
    n_columns = min(n_components, _MAX_COLUMNS)
    n_rows = -(-n_components // n_columns)
    figure = figure or new_figure(2.6 * n_columns + 0.6, 4.6 * n_rows + 0.4)
    panels = figure.subplots(2 * n_rows, n_columns, squeeze=False)
    pairs = panels.reshape(n_rows, 2, n_columns).swapaxes(1, 2).reshape(-1, 2)
    scan_axes = scores.axes_manager.signal_axes
    (energy,) = components.axes_manager.signal_axes
    for i, (above, below) in enumerate(pairs[:n_components]):
        above.set_title(f"component {i}", fontsize="medium")
        draw_map(above, scores.data[i], scan_axes)
        if i % n_columns == 0 and len(scan_axes) > 1:
            above.set_ylabel(axis_label(scan_axes[1]))
        below.plot(energy.axis, components.data[i], linewidth=0.8)
        below.set_xlabel(axis_label(energy))
    for unused in pairs[n_components:].flat:
        unused.remove()
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def draw_map(axes: Axes, values: np.ndarray, scan_axes: Sequence[BaseDataAxis]) -> None:
    """Draw a map: of one scan axis as a line, of two as an image, of three the image of the middle slice.

    Parameters
    ----------
    axes
        To draw into; a slice adds its place to their title.
    values
        One number per pixel, in array order; NaN is left blank.
    scan_axes
        As of the signal: the fastest first.
    """
    axes.set_xlabel(axis_label(scan_axes[0]))
    if len(scan_axes) == 1:
        axes.plot(scan_axes[0].axis, values, linewidth=0.8)
        return
    values = _middle_slice(values)
    places = [f"{axis_label(axis)} {axis.axis[axis.size // 2]:g}" for axis in scan_axes[:1:-1]]  # slowest first
    axes.set_title(", ".join(filter(None, [axes.get_title(), *places])), fontsize="medium")
    x, y = (axis_limits(axis) for axis in scan_axes[:2])
    ratio = abs((y[1] - y[0]) / (x[1] - x[0]))
    to_scale = scan_axes[0].units == scan_axes[1].units and 1 / _MAX_ASPECT < ratio < _MAX_ASPECT
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _CONTRAST) if finite.size else (0, 1)
    aspect: Any = "equal" if to_scale else "auto"
    axes.imshow(values, extent=(*x, *y[::-1]), aspect=aspect, vmin=low, vmax=high, interpolation="nearest")


def axis_limits(axis: BaseDataAxis) -> tuple[float, float]:
    """Return the outer borders of the first and the last pixel, in units of the axis."""
    first, last = float(axis.axis[0]), float(axis.axis[-1])
    half = 0.5 * (last - first) / (axis.size - 1) if axis.size > 1 else 0.5
    return first - half, last + half


def axis_label(axis: BaseDataAxis) -> str:
    """Return name and units of an axis."""
    name, units = (axis.get_axis_dictionary()[key] or "" for key in ("name", "units"))
    return f"{name} ({units})" if units else name


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
        fine = np.kron(_middle_slice(detections.data), np.ones((8, 8)))  # pixels keep their corners
        edges = [np.linspace(*axis_limits(axis), 8 * axis.size + 1) for axis in scan_axes[:2]]
        if fine.any():
            axes.contour(*(0.5 * (e[1:] + e[:-1]) for e in edges), fine, levels=[0.5], colors="red", linewidths=0.8)
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
    for i, (line, spectrum, residual) in enumerate(zip(lines, spectra.data, residuals.data, strict=False)):
        axes.plot(energy.axis, spectrum + step, color="0.7", linewidth=0.8)
        axes.plot(energy.axis, residual + step, color=f"C{i}", linewidth=0.8, label=f"region {i}: residual")
        if line is not None:
            axes.axvline(line.energy, color=f"C{i}", linestyle=":", linewidth=0.8)
            axes.annotate(str(line), (line.energy, step + np.nanmax(residual)), fontsize="small")
        step += 1.1 * max(float(np.nanmax(spectrum)), 1e-300)
    axes.set_xlabel(axis_label(energy))
    axes.legend(fontsize="small")


def _middle_slice(values: np.ndarray) -> np.ndarray:
    """Return the image in the middle of slower scan axes."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values
