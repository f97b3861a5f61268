"""Learn a reference model from a map, and measure its errors."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._errors import (
    PatchRows,
    design_of,
    leverage_of,
    model_error_of,
    noise_of_sums,
    shift_scan_of,
)
from hyperspy_specml.anomaly._network import NetworkTrial, try_network
from hyperspy_specml.anomaly._trimming import LearningTask, PatchSums, Trimming
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.progress import STOPPED

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._components import ComponentChoice
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel, RankCurve

_logger = logging.getLogger(__name__)

# Fraction of the patches whose residuals are errors of the model: of a model learnt from the same map, and of
# a model learnt elsewhere, to which more of the map may be new.
_ORDINARY = 0.99
_ORDINARY_ELSEWHERE = 0.9
# Part of the time that PCA takes where an autoencoder is trained too.
_PCA_SHARE = 0.4


@dataclass(frozen=True)
class Learnt:
    """A reference model and how it was learnt.

    Attributes
    ----------
    reference
        The model, with its errors if it is PCA. Those of an autoencoder are measured by `measure_errors`.
    curve
        Held-out score against the number of components; None where nothing was to be chosen.
    n_left_out
        Patches left out because they may contain something rare.
    trial
        Autoencoder that was trained beside PCA; None for none.
    interrupted
        Whether the user ended the training of the autoencoder.
    """

    reference: ReferenceModel
    curve: RankCurve | None = None
    n_left_out: int = 0
    trial: NetworkTrial | None = None
    interrupted: bool = False


def learn_reference(patches: PatchSums, task: LearningTask, run: Run) -> Learnt:
    """Fit PCA to the patches of a map without those that may be rare, and train an autoencoder if asked to.

    Parameters
    ----------
    patches, task
        What is learnt from, and for.
    run
        Its seed is that of the split into folds; its stages are "Fit PCA" and "Train network".

    Raises
    ------
    TrainingDivergedError
        An autoencoder that is needed diverged.
    Cancelled
        The user asked for it, and not while a network was trained.
    """
    trimming = Trimming(patches, task, run)
    share = _PCA_SHARE if task.autoencoder else 1.0
    with run.progress.enter("Fit PCA", share):
        reference, keep, choice = trimming.fit_without_rare()
    rows, n_pixels, n = patches.sums[keep], float(np.median(patches.counts[keep])), choice.n_components
    learnt = Learnt(reference, choice.curve, int((patches.used & ~keep).sum()))
    if task.autoencoder is not None:
        trial, interrupted = None, False
        try:
            with run.progress.enter("Train network"):
                trial = _trial(rows, n_pixels, trimming.noise_of_sum, choice, task, run)
        except STOPPED:
            if trial is None:
                _logger.warning("anomaly_map(): PCA is the reference model, as no network was trained so far")
            interrupted = True
        interrupted |= trial is not None and trial.history.interrupted
        learnt = replace(learnt, trial=trial, interrupted=interrupted)
        if trial and (trial.better or not task.only_if_better):
            leverage = leverage_of(trial.model.basis.project(rows), n) * np.sqrt(n_pixels)
            return replace(learnt, reference=replace(reference, model=trial.model, leverage=leverage))
    coefficients = reference.coefficients(rows)
    leverage, design = leverage_of(coefficients, n), design_of(coefficients, np.ones(len(rows)))  # of patches
    reference = replace(reference, leverage=leverage)
    sums = PatchRows(rows, design, trimming.noise_of_sum)
    reference = _with_errors(reference, sums, task, _ORDINARY)
    return replace(learnt, reference=replace(reference, leverage=leverage * np.sqrt(n_pixels)))  # of pixels


def measure_errors(reference: ReferenceModel, patches: PatchSums, task: LearningTask) -> ReferenceModel:
    r"""Measure how far a model that was learnt elsewhere describes this map.

    Parameters
    ----------
    reference
        The model.
    patches
        (\*patches, E + D) sums of spectra and of their coefficients.
    task
        Gives windows, line width and the smoothing of the search for shifts.
    """
    used = patches.used
    reference = replace(reference, side=patches.side)
    if not used.any():
        nothing = np.zeros(len(task.windows), np.float32)
        return replace(reference, windows=task.windows, line_width=task.line_width, model_error=nothing)
    rows, coefficients = np.split(patches.sums[used], [len(reference.basis.weights)], axis=1)
    noise = noise_of_sums(reference.noise, float(np.median(patches.counts[used])))
    sums = PatchRows(rows, design_of(coefficients, patches.counts[used]), noise)
    return _with_errors(reference, sums, task, _ORDINARY_ELSEWHERE)


def _with_errors(reference: ReferenceModel, sums: PatchRows, task: LearningTask, fraction: float) -> ReferenceModel:
    """Return the model with its errors, from the residuals of this fraction of the patches."""
    model = reference.scan_model()
    error, shifts = model_error_of(model, sums, task.windows, fraction=fraction), None
    if task.shift_smoothing is not None:
        shifts = shift_scan_of(model, sums, smoothing=task.shift_smoothing, fraction=fraction)
    reference = replace(reference, windows=task.windows, line_width=task.line_width)
    return replace(reference, model_error=error, shift_scan=shifts)


def _trial(
    rows: np.ndarray, n_pixels: float, noise: NoiseModel, choice: ComponentChoice, task: LearningTask, run: Run
) -> NetworkTrial | None:
    """Return the autoencoder that was trained; None where it diverged and is not needed."""
    assert task.autoencoder is not None
    try:
        return try_network(rows, n_pixels, noise, choice, task.autoencoder, run)
    except TrainingDivergedError as error:
        if task.only_if_better:
            _logger.warning("anomaly_map(): PCA is the reference model, because for the autoencoder %s", error)
            return None
        raise TrainingDivergedError(
            f"anomaly_map(architecture={task.autoencoder.name!r}): {error}. Train more gently, config="
            "specml.TrainConfig(learning_rate=5e-4); PCA does not train: architecture='pca'."
        ) from error
