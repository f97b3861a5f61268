"""Figures of maps and spectra, drawn with matplotlib on the signals' axes, into a given figure or axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import new_figure
from hyperspy_specml.signals import spectral_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from hyperspy_specml.anomaly import Candidate
    from hyperspy_specml.signals import Line

    Scan = Sequence[BaseDataAxis]

_MAX_COLUMNS = 4
# Longer to shorter side of a map, in calibrated units, above which its pixels are not drawn to scale: the map
# would be a line.
_MAX_ASPECT = 4
# Percentiles of a map that are black and white: single extreme pixels do not set the contrast.
_CONTRAST = (0.5, 99.5)
# Perceptually uniform for amounts, diverging for what has a sign.
_AMOUNTS, _SIGNED = "viridis", "RdBu_r"
# Share of the range below zero from which a map counts as signed: less is noise about an amount.
_NEGATIVE = 0.1
# Length of a scale bar over the width of the map, at most.
_BAR = 0.4
# Weight in its family of the weakest X-ray line that is labelled, smallest rise of a spectrum at a labelled line
# relative to its highest value, and the distance of two labels in points.
_LABELLED, _LEAST_RISE, _APART = 0.49, 0.02, 9.0
# Opacity of a colour over a map.
_OVERLAY = 0.5
# Lines that are marked at most.
_MARKED = 8
# Room for their names above the data, as a share of the height of these.
_HEADROOM = 0.25


def result_figure(
    scores: BaseSignal, components: BaseSignal, title: str, shown: Iterable[int] | None, figure: Figure | None
) -> Figure:
    """Draw components as score maps above their spectra.

    Parameters
    ----------
    scores
        (K | scan axes); see `draw_map`.
    components
        (K | E).
    title
        Above the figure.
    components_shown
        Indices of those that are drawn; all by default.
    figure
        Empty figure or subfigure to draw into; by default a new one of pyplot.

    Raises
    ------
    OptionError
        There is no component of such an index.
    """
    shown = checked_components(shown, len(scores.data))
    n_columns = min(len(shown), _MAX_COLUMNS)
    n_rows = -(-len(shown) // n_columns)
    height = _map_height(scores.axes_manager.signal_axes)
    figure = figure or new_figure(3 * n_columns + 0.6, 2.4 * (1 + height) * n_rows + 0.4)
    panels = figure.subplots(2 * n_rows, n_columns, squeeze=False, height_ratios=[height, 1] * n_rows)
    pairs = panels.reshape(n_rows, 2, n_columns).swapaxes(1, 2).reshape(-1, 2)
    for unused in pairs[len(shown) :].flat:
        unused.remove()
    scan_axes, spectra = scores.axes_manager.signal_axes, pairs[:, 1]
    for k, (above, below) in zip(shown, pairs, strict=False):
        above.set_title(f"component {k}", fontsize="medium")
        draw_map(above, scores.data[k], scan_axes, label="score")
        draw_spectra(below, components, {"": components.data[k]})
        if below is not spectra[0]:
            below.sharex(spectra[0])
            below.set_ylabel("")
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def _map_height(scan_axes: Sequence[BaseDataAxis]) -> float:
    """Return the height of a map above its spectrum, relative to that: less for oblong ones, which would leave room."""
    if len(scan_axes) == 1:
        return 0.7
    (left, right), (top, bottom) = (axis_limits(axis) for axis in scan_axes[:2])
    ratio = abs((bottom - top) / (right - left))
    return float(np.clip(1.25 * ratio, 0.45, 1)) if 1 / _MAX_ASPECT < ratio else 1.0


def checked_components(shown: Iterable[int] | None, n_components: int) -> list[int]:
    """Return the indices of components to draw, all by default.

    Raises
    ------
    OptionError
        There is no component of such an index, or none is asked for.
    """
    indices = list(range(n_components) if shown is None else shown)
    if not indices or not all(isinstance(k, int | np.integer) and 0 <= k < n_components for k in indices):
        raise OptionError(f"plot(components={indices}) must be indices from 0 to {n_components - 1}, e.g. [0].")
    return indices


def draw_map(
    axes: Axes, values: np.ndarray, scan_axes: Scan, *, label: str = "", like: Any = None, bar: bool = True
) -> None:
    """Draw a map: of one scan axis as a line, of two as an image, of three the image of the middle slice.

    An image whose pixels are to scale has a scale bar instead of ticks. Its colours diverge from zero where values
    have both signs.

    Parameters
    ----------
    axes
        To draw into; a slice adds its place to their title.
    values
        One number per pixel, in array order; NaN is left blank.
    scan_axes
        As of the signal: the fastest first.
    label
        What the values are, with their unit.
    like
        Another map whose contrast the image has; by default its own.
    bar
        Whether an image has a colour bar.
    """
    axes.set_xlabel(axis_label(scan_axes[0]))
    if len(scan_axes) == 1:
        axes.plot(scan_axes[0].axis, values, linewidth=0.8)
        axes.set_ylabel(label)
        return
    values = _middle_slice(values)
    places = [f"{axis_label(axis)} {axis.axis[axis.size // 2]:g}" for axis in scan_axes[:1:-1]]  # slowest first
    axes.set_title(", ".join(filter(None, [axes.get_title(), *places])), fontsize="medium")
    x, y = (axis_limits(axis) for axis in scan_axes[:2])
    ratio = abs((y[1] - y[0]) / (x[1] - x[0]))
    to_scale = scan_axes[0].units == scan_axes[1].units and 1 / _MAX_ASPECT < ratio < _MAX_ASPECT
    low, high, colours = _contrast(values if like is None else like)
    shape = "equal" if to_scale else "auto"
    image = _draw_image(axes, values, scan_axes, aspect=shape, vmin=low, vmax=high, cmap=colours)
    if bar:
        beside = axes.inset_axes((1.03, 0, 0.04, 1))
        axes.figure.colorbar(image, cax=beside).set_label(label)
        beside.tick_params(labelsize="small")


def _draw_image(axes: Axes, values: np.ndarray, scan_axes: Scan, *, aspect: str = "equal", **style: Any) -> AxesImage:
    """Draw an image in calibrated units, with a scale bar if it is drawn to scale."""
    x, y = (axis_limits(axis) for axis in scan_axes[:2])
    axes.set_ylabel(axis_label(scan_axes[1]))
    image = axes.imshow(values, extent=(*x, *y[::-1]), aspect=aspect, interpolation="nearest", **style)  # type: ignore[arg-type]
    if aspect == "equal" and axis_units(scan_axes[0]):
        _scale_bar(axes, abs(x[1] - x[0]), axis_units(scan_axes[0]))
    return image


def _contrast(values: np.ndarray) -> tuple[float, float, str]:
    """Return the values at the ends of the colours, and the colours."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _CONTRAST) if finite.size else (0.0, 1.0)
    if high > 0 > low and -low > _NEGATIVE * high:
        most = max(high, -low)
        return -most, most, _SIGNED
    return float(low), float(high), _AMOUNTS


def _scale_bar(axes: Axes, width: float, units: str) -> None:
    """Draw a scale bar of a round length in place of ticks and labels."""
    from matplotlib.patheffects import withStroke
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    decade = 10 ** np.floor(np.log10(_BAR * width))
    length = decade * max(step for step in (1, 2, 5) if step * decade <= _BAR * width)
    outline = [withStroke(linewidth=2, foreground="black")]
    style = {"frameon": False, "color": "white", "pad": 0.4, "sep": 3, "size_vertical": 0.015 * width, "fill_bar": True}
    bar = AnchoredSizeBar(axes.transData, length, f"{length:g} {units}", "lower left", **style)
    bar.txt_label.get_children()[0].set(path_effects=outline, fontsize="small")
    bar.size_bar.get_children()[0].set(path_effects=outline)
    axes.add_artist(bar)
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")


def draw_spectra(
    axes: Axes, like: BaseSignal, spectra: dict[str, np.ndarray], *, label: str = "intensity",
    colours: Sequence[str] = (), **style: Any,
) -> None:  # fmt: skip
    """Draw spectra above each other's axes, with the lines or edges of the elements that the metadata name.

    Parameters
    ----------
    axes
        To draw into.
    like
        Gives the energy axis and the elements.
    spectra
        (E,) values, by name; without a name there is no legend.
    label
        What the values are, with their unit.
    colours
        Of the spectra; by default matplotlib's own.
    **style
        Of the lines, as matplotlib takes it.
    """
    (energy,) = like.axes_manager.signal_axes
    for i, (name, values) in enumerate(spectra.items()):
        colour = {"color": colours[i]} if colours else {}
        axes.plot(energy.axis, values, **{"linewidth": 0.8, "label": name, **colour, **style})
    axes.set(xlabel=axis_label(energy), ylabel=label)
    axes.margins(x=0)
    label_lines(axes, like, np.abs([*spectra.values()]).sum(axis=0))
    if any(spectra):
        legend_outside(axes)


def legend_outside(axes: Axes) -> None:
    """Put the legend above the axes, beside no data.

    Parameters
    ----------
    axes
        With labelled lines.
    """
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize="small", frameon=False, borderaxespad=0.2)


def label_lines(axes: Axes, signal: BaseSignal, strength: np.ndarray) -> None:
    """Mark the X-ray lines or edges that stand out most: of the elements that the metadata list.

    Where they list none, the likeliest X-ray lines are marked, with a question mark.

    Parameters
    ----------
    axes
        With energy along x.
    signal
        Gives energy axis, type and elements.
    strength
        (E,) height of what is drawn.
    """
    guessed = not len(signal.metadata.get_item("Sample.elements", ()))
    lines = [line for line in spectral_lines(signal) if line.rank == guessed and not (guessed and line.edge)]
    energy = signal.axes_manager.signal_axes[0].axis
    width = axes.get_window_extent().width * 72 / axes.figure.dpi  # in points
    chosen = prominent_lines(lines, energy, strength, apart=_APART / max(width, 1.0) * float(np.ptp(energy)))
    for line in chosen:
        mark_line(axes, line.energy, f"{line.element} {line.name}" + "?" * guessed)
    if chosen:
        leave_headroom(axes)


def leave_headroom(axes: Axes) -> None:
    """Leave room for the names of lines above the data.

    Parameters
    ----------
    axes
        With all of the data in it.
    """
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + _HEADROOM * (high - low))


def prominent_lines(
    lines: Sequence[Line], energy: np.ndarray, strength: np.ndarray, *, apart: float = 0.0
) -> list[Line]:
    """Return the lines at the highest peaks of a spectrum, and the edges where it rises most.

    Parameters
    ----------
    lines
        Of the elements that there are, or may be.
    energy
        (E,) in their units.
    strength
        (E,) values of the spectrum.
    apart
        Smallest distance of two of them, in units of the axis.

    Returns
    -------
    The highest first. Of lines of elements that nobody listed, those of lower
    shells come first: they are likelier.
    """
    values = np.nan_to_num(strength)
    rises = {line: _rise(line, energy, values) for line in lines}
    found = [line for line, rise in rises.items() if rise > _LEAST_RISE * values.max(initial=0)]
    found.sort(key=lambda line: (line.family if line.rank else "", -rises[line]))
    chosen: list[Line] = []
    for line in found:
        if len(chosen) < _MARKED and all(abs(line.energy - one.energy) > apart for one in chosen):
            chosen.append(line)
    return chosen


def _rise(line: Line, energy: np.ndarray, values: np.ndarray) -> float:
    """Return how far a spectrum rises at a line above its surroundings, or at an edge above what lies before it."""
    reach = max(2, len(values) // 150)
    i = int(np.abs(energy - line.energy).argmin())
    if line.edge:
        return float(values[i : i + reach].max() - values[max(0, i - reach) : i + 1].mean())
    around = values[max(0, i - 4 * reach) : i + 4 * reach + 1]
    rise = float(values[max(0, i - 1) : i + 2].max()) - float(np.percentile(around, 25))
    return rise * line.weight * (line.weight > _LABELLED)


def mark_line(axes: Axes, energy: float, text: str, colour: str = "0.35", *, top: float = 1.0) -> None:
    """Mark an energy with a thin line and a text that stands upright beside it.

    Parameters
    ----------
    axes
        With energy along x.
    energy, text, colour
        Where, what it says, and its colour.
    top
        Where the text ends, as a share of the height of the axes.
    """
    axes.axvline(energy, color=colour, linestyle=":", linewidth=0.6, zorder=0)
    place: Any = {"xy": (energy, top), "xycoords": ("data", "axes fraction"), "xytext": (1, -2)}
    style: Any = {"textcoords": "offset points", "rotation": 90, "va": "top", "fontsize": "x-small"}
    axes.annotate(text, **place, **style, color=colour)


def axis_limits(axis: BaseDataAxis) -> tuple[float, float]:
    """Return the outer borders of the first and the last pixel, in units of the axis."""
    first, last = float(axis.axis[0]), float(axis.axis[-1])
    half = 0.5 * (last - first) / (axis.size - 1) if axis.size > 1 else 0.5
    return first - half, last + half


def axis_units(axis: BaseDataAxis) -> str:
    """Return the units of an axis, or "" where it has none."""
    return axis.get_axis_dictionary()["units"] or ""


def axis_label(axis: BaseDataAxis) -> str:
    """Return name and units of an axis.

    Parameters
    ----------
    axis
        Of a signal.
    """
    name, units = axis.get_axis_dictionary()["name"] or "", axis_units(axis)
    return f"{name} ({units})" if units else name


def amount(signal: BaseSignal) -> str:
    """Return what the values of a signal are: counts, or what its metadata say, or an intensity.

    Parameters
    ----------
    signal
        Or one that has its metadata.
    """
    quantity = str(signal.metadata.get_item("Signal.quantity", ""))
    return "counts" if "counts" in quantity.lower() else quantity or "intensity"


def draw_anomalies(
    axes: Axes, score: BaseSignal, detections: BaseSignal, positions: Mapping[Any, tuple[float, ...]]
) -> None:
    """Draw the score map with the detected pixels outlined and numbers, or names, at some regions.

    Parameters
    ----------
    axes
        Where to draw.
    score, detections
        Maps (nx, ny |).
    positions
        Of regions by their numbers or names, (x, y ...) in units of the scan axes.
    """
    from matplotlib.patheffects import withStroke

    scan_axes = score.axes_manager.navigation_axes
    draw_map(axes, score.data, scan_axes, label="score (standard deviations)")
    if len(scan_axes) > 1:
        draw_outlines(axes, detections.data, scan_axes)
    outline = [withStroke(linewidth=2.5, foreground="white")]
    for i, position in positions.items():
        place = position[0], position[1] if len(scan_axes) > 1 else 0
        style: Any = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": "small", "fontweight": "bold"}
        axes.annotate(str(i), place, **style, color="magenta", path_effects=outline)


def draw_outlines(axes: Axes, mask: np.ndarray, scan_axes: Sequence[BaseDataAxis], colour: str = "magenta") -> None:
    """Outline the True pixels of a map of two or three scan axes.

    Parameters
    ----------
    axes
        With the map in it.
    mask
        Bool, in array order.
    scan_axes
        As of the signal: the fastest first.
    colour
        Of the lines.
    """
    fine = np.kron(np.pad(_middle_slice(mask), 1), np.ones((8, 8)))  # pixels keep their corners, also at the border
    edges = [_fine_grid(axis) for axis in scan_axes[:2]]
    if fine.any():
        axes.autoscale(False)
        axes.contour(*edges, fine, levels=[0.5], colors=colour, linewidths=0.8)


def draw_overlay(axes: Axes, mask: np.ndarray, colour: str = "magenta") -> AxesImage:
    """Lay a colour over the True pixels of an image: much faster than outlines.

    Parameters
    ----------
    axes
        With the image of a map in it.
    mask
        Bool, in array order.
    colour
        Of the True pixels, which shine through.
    """
    from matplotlib.colors import to_rgba

    values, (below, *_) = _middle_slice(mask), axes.images
    layer = np.zeros((*values.shape, 4), np.uint8)
    layer[values] = np.multiply(to_rgba(colour, _OVERLAY), 255)
    extent: Any = below.get_extent()
    return axes.imshow(layer, extent=extent, aspect=axes.get_aspect(), interpolation="nearest")


def _fine_grid(axis: BaseDataAxis) -> np.ndarray:
    """Return eight places in each pixel, from a pixel before the first to one behind the last."""
    first, last = axis_limits(axis)
    step = (last - first) / axis.size / 8
    return first + step * (np.arange(8 * (axis.size + 2)) - 7.5)


def draw_regions(axes: Axes, spectra: BaseSignal, residuals: BaseSignal, lines: Mapping[int, Candidate | None]) -> None:
    """Draw spectrum and residual of regions above each other.

    Parameters
    ----------
    axes
        Where to draw.
    spectra, residuals
        Mean spectra and residuals (regions | E).
    lines
        The regions that are drawn, by their numbers: the line that is marked, or None.
    """
    (energy,) = residuals.axes_manager.signal_axes
    step = 0.0
    for i, line in lines.items():
        spectrum, residual = spectra.data[i], residuals.data[i]
        axes.plot(energy.axis, spectrum + step, color="0.7", linewidth=0.8, label="" if step else "mean spectra")
        axes.plot(energy.axis, residual + step, color=f"C{i % 10}", linewidth=0.8, label=f"residual {i}")
        if line is not None:
            mark_line(axes, line.energy, f"{i}: {line}", f"C{i % 10}")
        step += 1.1 * max(float(np.nanmax(spectrum)), 1e-300)
    axes.set(xlabel=axis_label(energy), ylabel=f"{amount(spectra)} per pixel" + ", shifted" * (len(lines) > 1))
    axes.margins(x=0)
    if any(lines.values()):
        leave_headroom(axes)
    legend_outside(axes)


def phase_colour(k: int) -> str:
    """Return the colour of a phase: matplotlib's ten, then their ten light ones.

    Parameters
    ----------
    k
        Number of the phase.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["tab20"](2 * (k % 10) + k // 10 % 2))


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
    colours = ["black", "white", *map(phase_colour, range(len(names)))]
    shown = [k for k in range(-2, len(names)) if k >= 0 or (k == -2 and (labels.data == -2).any())]
    handles = [Patch(color=colours[k + 2], label=names[k] if k >= 0 else "none of these") for k in shown]
    axes.set_xlabel(axis_label(scan_axes[0]))
    if len(scan_axes) == 1:
        for k in shown:
            some = labels.data == k
            axes.plot(scan_axes[0].axis[some], labels.data[some], ".", color=colours[k + 2])
        axes.set_yticks(shown, [str(k) if k >= 0 else "none" for k in shown])
        axes.set_ylabel("phase")
    else:
        style: Any = {"cmap": ListedColormap(colours), "vmin": -2.5, "vmax": len(names) - 0.5}
        _draw_image(axes, _middle_slice(labels.data), scan_axes, **style)
    axes.legend(handles=handles, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def draw_phase_spectra(axes: Axes, spectra: BaseSignal, shown: Sequence[int]) -> None:
    """Draw spectra of phases above each other, and name the lines that stand out most.

    Parameters
    ----------
    axes
        Where to draw.
    spectra
        Means (phases | E).
    shown
        Numbers of the phases that are drawn.
    """
    (energy,) = spectra.axes_manager.signal_axes
    means = spectra.data[list(shown)]
    step = 1.05 * float(np.nanmax(np.abs(means), initial=1e-300))
    for i, (k, mean) in enumerate(zip(shown, means, strict=True)):
        axes.plot(energy.axis, mean + i * step, color=phase_colour(k), linewidth=0.8)
    label_lines(axes, spectra, np.abs(means).max(axis=0))
    axes.set(xlabel=axis_label(energy), ylabel=f"{amount(spectra)} per pixel" + ", shifted" * (len(shown) > 1))
    axes.margins(x=0)


def _middle_slice(values: np.ndarray) -> np.ndarray:
    """Return the image in the middle of slower scan axes."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values
