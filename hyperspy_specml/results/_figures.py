"""Figures of results, drawn with matplotlib on the signals' own axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hyperspy_specml.models import Report

_MOST_COLUMNS = 6
_MOST_OBLONG = 4  # a map longer than this many times its width is drawn square: pixels would be lines


def result_figure(scores: BaseSignal, components: BaseSignal, *, title: str) -> Figure:
    """Draw every component as its score map above its spectrum.

    Parameters
    ----------
    scores
        (K | scan axes): one scan axis is drawn as a line, of three the middle slice is shown.
    components
        (K | E).
    title
        Above the figure.
    """
    import matplotlib.pyplot as plt

    n_columns = min(len(scores.data), _MOST_COLUMNS)
    n_rows = -(-len(scores.data) // n_columns)
    figure, axes = plt.subplots(
        2 * n_rows, n_columns, figsize=(2.6 * n_columns + 0.6, 4.6 * n_rows + 0.4), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    pairs = axes.reshape(n_rows, 2, n_columns).swapaxes(1, 2).reshape(-1, 2)
    scan_axes = scores.axes_manager.signal_axes
    (energy,) = components.axes_manager.signal_axes
    for i, (above, below) in enumerate(pairs):
        if i >= len(scores.data):
            above.remove()
            below.remove()
            continue
        above.set_title(f"component {i}", fontsize="medium")
        _draw_map(above, scores.data[i], scan_axes)
        if i % n_columns == 0 and len(scan_axes) > 1:
            above.set_ylabel(_label(scan_axes[1]))
        below.plot(energy.axis, components.data[i], linewidth=0.8)
        below.set_xlabel(_label(energy))
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def report_figure(report: Report) -> Figure:
    """Draw rank curve, scree and training history."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    n_panels = 3 if report.steps else 2
    figure, axes = plt.subplots(1, n_panels, figsize=(4.2 * n_panels, 3.6), layout="constrained")
    curve = report.rank
    axes[0].errorbar(curve.ranks, curve.scores, yerr=curve.standard_errors, fmt="o-", markersize=3, capsize=2)
    axes[0].axvline(curve.chosen, color="C1", label=f"chosen: {curve.chosen}")
    axes[0].set(xlabel="components", ylabel="held-out score", title=curve.method)
    shown = report.scree[: max(20, 2 * report.n_above_edge())]
    shown = np.where(shown > 0, shown, np.nan)  # rounding leaves some below zero
    axes[1].semilogy(np.arange(1, len(shown) + 1), shown, "o", markersize=3)
    axes[1].axhline(report.noise_edge, color="C1", label="noise edge")
    axes[1].set(xlabel="component", ylabel="eigenvalue / noise variance", title="scree")
    if report.steps:
        axes[2].plot(report.steps, report.step_scores, "o-", markersize=3)
        axes[2].axvline(report.best_step, color="C1", label=f"kept: step {report.best_step}")
        axes[2].set(xlabel="training step", ylabel="held-out score", title="training")
    for panel in axes:
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))  # ten labels of four digits touch
        panel.legend()
    return figure


def _draw_map(axes: Axes, values: np.ndarray, scan_axes: tuple[BaseDataAxis, ...]) -> None:
    if len(scan_axes) == 1:
        axes.plot(scan_axes[0].axis, values, linewidth=0.8)
        axes.set_xlabel(_label(scan_axes[0]))
        return
    for axis in scan_axes[:1:-1]:  # slowest first, as in the array
        middle = len(values) // 2
        values = values[middle]
        axes.set_title(f"{axes.get_title()}, {_label(axis)} {axis.axis[middle]:g}", fontsize="medium")
    x, y = (_borders(axis) for axis in scan_axes[:2])
    oblong = abs((y[1] - y[0]) / (x[1] - x[0]))
    comparable = scan_axes[0].units == scan_axes[1].units and 1 / _MOST_OBLONG < oblong < _MOST_OBLONG
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [0.5, 99.5]) if known.size else (0, 1)
    axes.imshow(
        values, extent=(*x, *y[::-1]), vmin=low, vmax=high, interpolation="nearest",
        aspect="equal" if comparable else "auto",
    )  # fmt: skip
    axes.set_xlabel(_label(scan_axes[0]))


def _borders(axis: BaseDataAxis) -> tuple[float, float]:
    """Return the outer borders of the first and last pixel."""
    first, last = float(axis.axis[0]), float(axis.axis[-1])
    half = 0.5 * (last - first) / (axis.size - 1) if axis.size > 1 else 0.5
    return first - half, last + half


def _label(axis: BaseDataAxis) -> str:
    name, units = (axis.get_axis_dictionary()[key] or "" for key in ("name", "units"))
    return f"{name} ({units})" if units else name
