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
    from hyperspy_specml.signals import Line

_MAX_COLUMNS = 6
# Longer to shorter side of a map, in calibrated units, above which its pixels are not drawn to scale: the map
# would be a line.
_MAX_ASPECT = 4
# Percentiles of a map that are black and white: single extreme pixels do not set the contrast.
_CONTRAST = (0.5, 99.5)
# Lines that are named in a figure, at most.
_MOST_LINES = 10
# Smallest weight of a line in its family, and smallest rise over its surroundings relative to the highest value, of
# lines that are named.
_MAIN_LINE, _LEAST_RISE = 0.5, 0.02


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


def draw_phase_map(axes: Axes, labels: BaseSignal, names: Sequence[str]) -> None:
    """Draw a map of phases with a legend, and a scale bar where the scan axes have one unit.

    Parameters
    ----------
    axes
        Where to draw.
    labels
        Int map (nx, ny |); -1 is left blank, -2 is black.
    names
        Of the phases.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    scan_axes = labels.axes_manager.navigation_axes
    colours = ["black", "white", *(f"C{k % 10}" for k in range(len(names)))]
    shown = [k for k in range(-2, len(names)) if k >= 0 or (k == -2 and (labels.data == -2).any())]
    handles = [Patch(color=colours[k + 2], label=names[k] if k >= 0 else "none of these") for k in shown]
    axes.set_xlabel(axis_label(scan_axes[0]))
    if len(scan_axes) == 1:
        for k in shown:
            some = labels.data == k
            axes.plot(scan_axes[0].axis[some], labels.data[some], ".", color=colours[k + 2])
    else:
        x, y = (axis_limits(axis) for axis in scan_axes[:2])
        axes.imshow(
            _middle_slice(labels.data), extent=(*x, *y[::-1]), cmap=ListedColormap(colours), vmin=-2.5,
            vmax=len(names) - 0.5, interpolation="nearest",
        )  # fmt: skip
        axes.set_ylabel(axis_label(scan_axes[1]))
        if scan_axes[0].get_axis_dictionary()["units"]:
            _scale_bar(axes, scan_axes[0], y)
    axes.legend(handles=handles, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _scale_bar(axes: Axes, axis: BaseDataAxis, limits: tuple[float, float]) -> None:
    """Draw a bar of a round length of about a fifth of the map."""
    low, high = axis_limits(axis)
    wanted = abs(high - low) / 5
    power = 10 ** np.floor(np.log10(wanted))
    length = float(max(step * power for step in (1, 2, 5) if step * power <= wanted))
    start, place = low + 0.06 * (high - low), limits[1] - 0.06 * (limits[1] - limits[0])
    stop = start + np.sign(high - low) * length
    for colour, width in (("black", 5), ("white", 3)):
        axes.plot([start, stop], [place, place], color=colour, linewidth=width, solid_capstyle="butt")
    axes.annotate(
        f"{length:g} {axis.units}", ((start + stop) / 2, place), xytext=(0, 4), textcoords="offset points", ha="center",
        color="white", fontsize="small", bbox={"facecolor": "black", "alpha": 0.4, "linewidth": 0, "pad": 1},
    )  # fmt: skip


def draw_phase_spectra(
    axes: Axes, spectra: BaseSignal, n_spectra: Sequence[int], names: Sequence[str], lines: Sequence[Line]
) -> None:
    """Draw the mean spectra of phases above each other, and name the lines that stand out most.

    Parameters
    ----------
    axes
        Where to draw.
    spectra
        Sums (phases | E).
    n_spectra
        Of how many pixels.
    names
        Of the phases.
    lines
        Lines or edges that may be named.
    """
    (energy,) = spectra.axes_manager.signal_axes
    means = spectra.data / np.maximum(1, np.array(n_spectra))[:, None]
    step = 1.05 * float(np.nanmax(np.abs(means), initial=1e-300))
    for k, (mean, name) in enumerate(zip(means, names, strict=True)):
        axes.plot(energy.axis, mean + k * step, color=f"C{k % 10}", linewidth=0.8, label=name)
    top = means.max(axis=0)
    for line, height in _prominent(lines, energy.axis, top):
        k = int(np.nanargmax(means[:, int(np.abs(energy.axis - line.energy).argmin())]))
        axes.annotate(
            f"{line.element} {line.name}", (line.energy, height + k * step), fontsize="x-small", rotation=90,
            ha="center", va="bottom", xytext=(0, 2), textcoords="offset points",
        )  # fmt: skip
    axes.set_xlabel(axis_label(energy))
    axes.set_ylabel("mean of a pixel, shifted")
    axes.margins(x=0.01, y=0.12)


def _prominent(lines: Sequence[Line], energy: np.ndarray, spectrum: np.ndarray) -> list[tuple[Line, float]]:
    """Return lines at the highest places of a spectrum, and its height there; edges where it rises.

    Of lines at one place, those of lower shells come first: without a list of elements they are likelier.
    """
    values = np.nan_to_num(spectrum)
    reach = max(2, len(values) // 150)
    found: list[tuple[str, float, Line, float]] = []
    for line in lines:
        i = int(np.abs(energy - line.energy).argmin())
        near, around = values[max(0, i - 1) : i + 2], values[max(0, i - 4 * reach) : i + 4 * reach + 1]
        if line.edge:
            rise = float(values[i : i + reach].max() - values[max(0, i - reach) : i + 1].mean())
        else:
            rise = (float(near.max()) - float(np.percentile(around, 25))) * (line.weight > _MAIN_LINE)
        found.append((line.family, rise, line, float(values[max(0, i - reach) : i + reach + 1].max())))
    least = _LEAST_RISE * float(values.max(initial=0))
    found = sorted((one for one in found if one[1] > least), key=lambda one: (one[0], -one[1]))
    chosen: list[tuple[Line, float]] = []
    apart = 2.5 * reach * float(np.abs(np.diff(energy)).mean())
    for _, _, line, height in found:
        if len(chosen) < _MOST_LINES and all(abs(line.energy - other.energy) > apart for other, _ in chosen):
            chosen.append((line, height))
    return chosen


def _middle_slice(values: np.ndarray) -> np.ndarray:
    """Return the image in the middle of slower scan axes."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values
