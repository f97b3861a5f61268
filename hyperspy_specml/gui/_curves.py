"""Pictures of a computation that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hyperspy_specml.progress import Progress

# Curves of earlier stages that are still shown, in grey.
_SHOWN = 5


def draw_training(axes: Axes, progress: Progress) -> None:
    """Draw the held-out scores of the trainings so far, beside that of PCA.

    Parameters
    ----------
    axes
        To draw into.
    progress
        Has them as curves; a curve of one point is a level to compare with.
    """
    curves = {name: np.array(points).T for name, points in list(progress.curves.items())}
    levels = {name: values for name, values in curves.items() if name.startswith("pca")}
    trainings = {name: values for name, values in curves.items() if len(values[0]) > 1 and name != "components"}
    names = list(trainings)[-_SHOWN:]
    for name in names:
        x, y = trainings[name]
        breaks = np.flatnonzero(np.diff(x) < 0) + 1  # a training that began anew
        last = name == names[-1]
        style: Any = {"markersize": 2.5, "linewidth": 0.9, "color": "C0" if last else "0.7"}
        x, y = (np.insert(values, breaks, np.nan) for values in (x, y))
        axes.plot(x, y, "o-", label=name if last else None, **style)
    for name, (_, y) in levels.items():
        axes.axhline(y[-1], color="C1", linewidth=0.9, label=name)
    axes.set(xlabel="training step", ylabel="held-out score, lower is better")
    if names or levels:
        axes.legend(fontsize="small", loc="upper right")


def draw_numbers(axes: Axes, numbers: np.ndarray, scores: np.ndarray, errors: np.ndarray | None = None) -> None:
    """Draw held-out scores against the number of phases.

    Parameters
    ----------
    axes
        To draw into.
    numbers, scores, errors
        The numbers, their scores, and the standard errors of these.
    """
    axes.errorbar(numbers, scores - np.min(scores), yerr=errors, fmt="o-", markersize=4, linewidth=0.9)
    axes.set_xticks(numbers)
    axes.set(xlabel="phases", ylabel="held-out score above the best")


def draw_candidates(axes: Axes, progress: Progress) -> None:
    """Draw the held-out errors of the candidates that are scored so far, the best at the top.

    Parameters
    ----------
    axes
        To draw into.
    progress
        Has them as curves of one point, named "candidate: ...".
    """
    found = {name: points[-1][1] for name, points in list(progress.curves.items()) if name.startswith("candidate: ")}
    names = sorted(found, key=lambda name: -found[name])
    axes.plot([found[name] for name in names], range(len(names)), "o", markersize=4)
    axes.set_yticks(range(len(names)), [name.removeprefix("candidate: ") for name in names], fontsize="small")
    axes.set(xlabel="held-out error, lower is better", title="candidates scored so far")
