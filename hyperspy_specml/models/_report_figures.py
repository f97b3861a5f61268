"""Figures of reports, drawn with matplotlib into a given figure or axes.

Reports are known here by their attributes alone, as they draw themselves with these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Number of labels on an axis of whole numbers, at most: ten of four digits touch.
_MAX_TICKS = 6
# Number of eigenvalues that the scree shows, at least.
_MIN_SCREE = 20


def decomposition_figure(report: Any, *, figure: Figure | None = None) -> Figure:
    """Draw the rank curve, the scree and, if a network was trained, the course of its training.

    Parameters
    ----------
    report
        Of a decomposition.
    figure
        Empty figure or subfigure to draw into; by default a new one of pyplot.
    """
    from matplotlib.ticker import MaxNLocator

    panels = [draw_rank, draw_scree, draw_training] if report.steps else [draw_rank, draw_scree]
    figure = figure or _new_figure(4.2 * len(panels), 3.6)
    for axes, draw in zip(figure.subplots(1, len(panels)), panels, strict=True):
        draw(axes, report)
        axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS, integer=True))
        axes.legend()
    return figure


def draw_rank(axes: Axes, report: Any) -> None:
    """Draw the held-out score against the number of components, and the number that was chosen."""
    curve = report.rank
    axes.errorbar(curve.ranks, curve.scores, yerr=curve.standard_errors, fmt="o-", markersize=3, capsize=2)
    axes.axvline(curve.chosen, color="C1", label=f"chosen: {curve.chosen}")
    axes.set(xlabel="components", ylabel="held-out score", title=curve.method)


def draw_scree(axes: Axes, report: Any) -> None:
    """Draw the largest eigenvalues, in units of the noise variance, and the noise edge."""
    shown = report.scree[: max(_MIN_SCREE, 2 * report.n_above_edge())]
    shown = np.where(shown > 0, shown, np.nan)  # rounding leaves some below zero
    axes.semilogy(np.arange(1, len(shown) + 1), shown, "o", markersize=3)
    axes.axhline(report.noise_edge, color="C1", label="noise edge")
    axes.set(xlabel="component", ylabel="eigenvalue / noise variance", title="scree")


def draw_training(axes: Axes, report: Any) -> None:
    """Draw the score on the validation fold during the training, and the step that was kept."""
    axes.plot(report.steps, report.step_scores, "o-", markersize=3)
    axes.axvline(report.best_step, color="C1", label=f"kept: step {report.best_step}")
    axes.set(xlabel="training step", ylabel="held-out score", title="training")


def candidates_figure(report: Any, *, figure: Figure | None = None) -> Figure:
    """Draw every candidate's difference to PCA; see `draw_candidates`.

    Parameters
    ----------
    report
        With candidates.
    figure
        Empty figure or subfigure to draw into; by default a new one of pyplot.
    """
    figure = figure or _new_figure(6.4, 0.24 * len(report.candidates) + 1.2)
    draw_candidates(figure.subplots(), report)
    return figure


def draw_candidates(axes: Axes, report: Any) -> None:
    """Draw every candidate's difference to PCA with its standard error, the best at the top."""
    ordered = sorted(report.candidates, key=lambda candidate: -candidate.validation_score)
    for place, one in enumerate(ordered):
        colour = "C1" if one.name == report.chosen else "C0"
        axes.errorbar(one.difference, place, xerr=one.standard_error, fmt="o", markersize=4, color=colour)
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.set_yticks(range(len(ordered)), [candidate.name for candidate in ordered], fontsize="small")
    axes.set(xlabel="held-out score, difference to plain PCA", title="".join(report.words()[:1]))
    axes.title.set(fontsize="small", wrap=True)


def _new_figure(width: float, height: float) -> Figure:
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")
