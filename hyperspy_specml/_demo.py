"""The map of the demo, and what can only be said of a map whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.datasets import fe_l_map

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.datasets import SimulatedMap
    from hyperspy_specml.results import DecompositionResult

SHAPE = (64, 64)
N_FIELDS = 4  # that the map is made of: valence, thickness, iron, drift
_DOSE = 300.0  # counts per channel: enough for the curvature of the data to show

_INTRODUCTION = """\
Beside the truth: error of the spectra (root mean square, over the standard deviation of the noise-free map),
then the share of each field's variance that the best linear combination of the score maps explains."""


def simulated_map(shape: Sequence[int], *, lazy: bool) -> SimulatedMap:
    """Simulate the map: an Fe-L2,3 edge whose shape and position vary, which no few components can follow.

    Parameters
    ----------
    shape
        Of the scan, (ny, nx).
    lazy
        Make its signals lazy.
    """
    return fe_l_map(tuple(shape), dose=_DOSE, lazy=lazy)


def beside_truth(simulated: SimulatedMap, result: DecompositionResult) -> tuple[str, Figure]:
    """Compare a result, and PCA, with the truth: a table and a figure.

    PCA comes twice: of the size of the result, and of the size that held-out counts choose for it.

    Parameters
    ----------
    simulated
        The map.
    result
        Of ``simulated.signal``.
    """
    pca = simulated.signal.decomposition_ae(architecture="pca", show_progressbar=False)
    models = [model for model in (result, result.baseline, pca) if model is not None]
    named = {f"{m.report.architecture} ({m.report.n_components})": m for m in models}
    readouts = {
        name: [_readout(model.scores, field) for field in simulated.truth.values()] for name, model in named.items()
    }
    clean = simulated.clean.data
    rows = [("", "spectra", *simulated.truth), ("counts", f"{_error(simulated.signal.data, clean):.4f}")]
    for name, model in named.items():
        error = _error(model.reconstruction.data, clean)
        rows.append((name, f"{error:.4f}", *(f"{share:.2f}" for _, share in readouts[name])))
    lines = [f"{row[0]:<10}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows]
    return "\n".join([_INTRODUCTION, "", *lines]), _draw(simulated.truth, readouts)


def _error(data: np.ndarray, clean: np.ndarray) -> float:
    return float(np.sqrt(((data - clean) ** 2).mean()) / clean.std())  # float() computes a lazy one


def _readout(scores: BaseSignal, field: BaseSignal) -> tuple[np.ndarray, float]:
    """Return the linear combination of score maps nearest to a field, and the share of variance explained."""
    maps = scores.data.reshape(len(scores.data), -1).T.astype(np.float64)  # (pixels, K)
    maps = np.column_stack([maps, np.ones(len(maps))])
    truth = field.data.reshape(-1)
    found = maps @ np.linalg.lstsq(maps, truth, rcond=None)[0]
    return found.reshape(field.data.shape), 1 - np.var(truth - found) / np.var(truth)


def _draw(truth: Mapping[str, BaseSignal], readouts: Mapping[str, list[tuple[np.ndarray, float]]]) -> Figure:
    """Draw the fields, and below them what each model's score maps tell of them, on the same colour scale."""
    import matplotlib.pyplot as plt

    rows = {"truth": [(field.data, 1.0) for field in truth.values()], **readouts}
    figure, axes = plt.subplots(
        len(rows), len(truth), figsize=(2.1 * len(truth), 2.3 * len(rows)), layout="constrained"
    )
    for panels, (label, row) in zip(axes, rows.items(), strict=True):
        panels[0].set_ylabel(label)
        for panel, (image, share), (name, field) in zip(panels, row, truth.items(), strict=True):
            panel.imshow(image, vmin=field.data.min(), vmax=field.data.max(), interpolation="nearest")
            title = name.replace("_", " ") if label == "truth" else f"{share:.2f}"
            panel.set(title=title, xticks=[], yticks=[])
    return figure
