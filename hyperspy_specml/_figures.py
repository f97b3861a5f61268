"""Figures of results, drawn with matplotlib on the signals' own axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hyperspy_specml.report import Report


def result_figure(scores: BaseSignal, components: BaseSignal, *, title: str) -> Figure:
    """Draw one column per component: its score map above its spectrum.

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

    k = len(scores.data)
    figure, axes = plt.subplots(
        2, k, figsize=(min(2.6 * k + 0.6, 24), 5.0), squeeze=False, layout="constrained"
    )
    energy = components.axes_manager.signal_axes[0]
    for i in range(k):
        _draw_map(axes[0, i], np.asarray(scores.data[i]), scores.axes_manager.signal_axes)
        axes[0, i].set_title(f"component {i}", fontsize="medium")
        axes[1, i].plot(energy.axis, components.data[i], linewidth=0.8)
        axes[1, i].set_xlabel(_label(energy))
    figure.suptitle(title)
    return figure


def report_figure(report: Report) -> Figure:
    """Draw rank curve, scree and training history."""
    import matplotlib.pyplot as plt

    n_panels = 3 if report.steps else 2
    figure, axes = plt.subplots(1, n_panels, figsize=(4.2 * n_panels, 3.6), layout="constrained")
    curve = report.rank
    axes[0].errorbar(curve.ranks, curve.scores, yerr=curve.standard_errors, fmt="o-", markersize=3, capsize=2)
    axes[0].axvline(curve.chosen, color="C1", label=f"chosen: {curve.chosen}")
    axes[0].set(xlabel="components", ylabel="held-out score", title=curve.method)
    axes[0].legend()
    shown = report.scree[: max(20, 2 * report.n_above_edge())]
    axes[1].semilogy(np.arange(1, len(shown) + 1), np.maximum(shown, 1e-12), "o", markersize=3)
    axes[1].axhline(report.noise_edge, color="C1", label="noise edge")
    axes[1].set(xlabel="component", ylabel="eigenvalue / noise variance", title="scree")
    axes[1].legend()
    if report.steps:
        axes[2].plot(report.steps, report.step_scores, "o-", markersize=3)
        axes[2].axvline(report.best_step, color="C1", label=f"kept: step {report.best_step}")
        axes[2].set(xlabel="training step", ylabel="held-out score", title="training")
        axes[2].legend()
    return figure


def _draw_map(axes: Axes, values: np.ndarray, scan_axes: tuple[Any, ...]) -> None:
    while values.ndim > 2:
        values = values[len(values) // 2]
    if values.ndim == 1:
        axes.plot(scan_axes[0].axis, values, linewidth=0.8)
        axes.set_xlabel(_label(scan_axes[0]))
        return
    x, y = scan_axes[:2]
    extent = (*_ends(x), *_ends(y)[::-1])
    low, high = np.nanpercentile(values, [0.5, 99.5]) if np.isfinite(values).any() else (0, 1)
    axes.imshow(values, extent=extent, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xlabel(_label(x))


def _ends(axis: Any) -> tuple[float, float]:
    """Return the outer borders of the first and last pixel."""
    values = np.asarray(axis.axis, dtype=float)
    half = 0.5 * (values[-1] - values[0]) / max(1, len(values) - 1) or 0.5
    return values[0] - half, values[-1] + half


def _label(axis: Any) -> str:
    units = str(axis.units)
    known = units and units != "<undefined>"
    name = "" if str(axis.name) == "<undefined>" else str(axis.name)
    return f"{name} ({units})".strip() if known else name
