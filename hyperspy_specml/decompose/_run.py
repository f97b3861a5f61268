"""Decompose the spectra of a map: prepare, fit, score against PCA, project every spectrum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from hyperspy_specml.decompose._registry import choose_architecture
from hyperspy_specml.decompose._selection import choose_number
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import Candidate, DecompositionReport, FittedModel, LinearModel, encode_map
from hyperspy_specml.prepare import Masks, TrainingData, prepare, smooth_basis
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import NOISE_NAMES, paired

if TYPE_CHECKING:
    import numpy as np

    from hyperspy_specml.decompose._architecture import Architecture, Fit
    from hyperspy_specml.streaming import SpectrumStream

# Shares of the time of a call, measured on maps of 128 x 128 x 2048; a stage that is left out gives its share away.
_STAGES = {"prepare": 0.2, "choose": 0.45, "train": 0.2, "score": 0.05, "project": 0.1}


@dataclass(frozen=True)
class Decomposition:
    """A fitted decomposition, as arrays.

    Attributes
    ----------
    model, baseline
        The model asked for, and PCA of the same size.
    scores, baseline_scores
        (n_pixels, K) float32, and the further outputs of the model; NaN for masked and not finite spectra, 0 for
        empty ones.
    prepared
        What was known before, without the counts.
    report
        The evidence.
    """

    model: FittedModel
    baseline: LinearModel
    scores: np.ndarray = field(repr=False)
    baseline_scores: np.ndarray = field(repr=False)
    prepared: TrainingData
    report: DecompositionReport


@threadpool_limits.wrap(limits=1, user_api="blas")  # see side_by_side, which uses the other cores
def decompose(
    stream: SpectrumStream, run: Run | None = None, *, architecture: Architecture | str = "dense",
    n_components: int | None = None, noise: str = "auto", masks: Masks = (None, None),
) -> Decomposition:  # fmt: skip
    """Decompose the spectra of a stream.

    Parameters
    ----------
    stream
        The spectra; read twice.
    run
        Settings, seed, device and progress.
    architecture
        Its name, or what `choose_architecture` returned.
    n_components
        Components K; None chooses by held-out score.
    noise
        See `statistics.estimate_noise`.
    masks
        Navigation and signal mask, True = masked.

    Raises
    ------
    OptionError
        Unknown architecture or noise, or a number of components that is not positive.
    TooFewSpectraError, NegativeCountsError, NotCountsError, TrainingDivergedError
        See `prepare` and `Architecture.fit`.
    Cancelled
        The progress was asked to end the call before or after a network was trained.
    """
    run = run or Run()
    chosen = choose_architecture(architecture) if isinstance(architecture, str) else architecture
    _check(n_components, noise)
    clock, shares = Clock(), _shares(chosen, n_components)
    with run.progress.enter("Read spectra", shares["prepare"]):
        centre = getattr(chosen.options, "centre", False)
        data = prepare(stream, run, n_needed=n_components or 1, noise=noise, masks=masks, centre=centre)
    clock.stop("preparation")
    data, models, report = _learn(data, chosen, n_components, run, clock)
    # Here no counts are in memory but the blocks: the larger the map, the larger are its scores.
    with run.progress.enter("Project"):
        summary = data.summary
        (scores, baseline_scores), _ = encode_map(stream, models, summary.channels, summary.pixel_state)
    clock.stop("projection")
    return Decomposition(*models, scores, baseline_scores, data, report)


def _check(n_components: int | None, noise: str) -> None:
    """Refuse what is wrong before the file is read."""
    if noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    if n_components is not None and (n_components != int(n_components) or n_components < 1):
        raise OptionError(
            f"output_dimension={n_components!r} must be a whole number, 1 or more, or None, which chooses "
            "it by held-out score."
        )


def _shares(architecture: Architecture, n_components: int | None) -> dict[str, float]:
    left_out = {"choose"} if n_components or not architecture.trained else set()
    if not architecture.trained:
        left_out.add("train")
    whole = sum(share for stage, share in _STAGES.items() if stage not in left_out)
    return {stage: 0.0 if stage in left_out else share / whole for stage, share in _STAGES.items()}


def _learn(
    data: TrainingData, architecture: Architecture, n_components: int | None, run: Run, clock: Clock
) -> tuple[TrainingData, tuple[FittedModel, LinearModel], DecompositionReport]:
    """Fit the model, and score it beside PCA; return the training data without their counts."""
    shares, rank, stopped = _shares(architecture, n_components), data.rank, False
    smooth = smooth_basis(data, n_components or 1) if architecture.smooth else data
    if n_components is None and architecture.trained:
        with run.progress.enter("Choose the number", shares["choose"]):
            rank, stopped = choose_number(architecture, smooth, run)
        # Who stops a search does not want to wait for a long training either.
        run = architecture.completed(run, data).brief() if stopped else run
    k = n_components or rank.chosen
    with run.progress.enter("Train", shares["train"]):
        fit = architecture.fit(smooth, k, run)
        model = fit.model
    clock.stop("training")
    with run.progress.enter("Score", shares["score"]):
        candidates = _score(_fold_models(data, smooth, architecture, fit, k), k)
    clock.stop("scoring")
    baseline = model if isinstance(model, LinearModel) else LinearModel(data.basis.first(k))
    history, summary, estimate = fit.history, data.summary, data.estimate
    report = DecompositionReport(
        architecture=architecture.name,
        n_components=k,
        candidates=candidates,
        chosen=min(candidates, key=lambda c: c.validation_score).name,
        noise_model=estimate.model.to_dict() | {"fano": estimate.fano},
        hold_out=data.hold_out,
        correlation=data.correlation,
        rank=rank,
        baseline_rank=data.rank,
        scree=data.basis.eigenvalues,
        noise_edge=data.edge,
        used=summary.counts(),
        n_sampled=len(summary.sample_pixels),
        random_state=data.seed,
        steps=tuple(history.steps),
        step_scores=tuple(history.scores),
        best_step=history.best_step,
        smoothing=smooth.smoothing,
        interrupted=stopped or history.interrupted,
        attempts=fit.attempts,
        seconds=clock.seconds,
    )
    return data.without_counts(), (model, baseline), report


def _fold_models(
    data: TrainingData, smooth: TrainingData, architecture: Architecture, fit: Fit, k: int
) -> dict[str, tuple[FittedModel, TrainingData]]:
    """Return the models of the training fold that are scored, each with the data on its basis; PCA comes last."""
    models: dict[str, tuple[FittedModel, TrainingData]] = {}
    if architecture.trained:
        models[f"{architecture.name} ({k})"] = fit.fold_model, smooth
        strongest = data.rank.chosen  # the strongest PCA, not only the one of the same size
        models[f"pca ({strongest})"] = LinearModel(data.fold_basis.first(strongest)), data
        models |= {name: (model, data) for name, model in architecture.rivals(data, k).items()}
        models.pop(f"pca ({k})", None)
    models[f"pca ({k})"] = LinearModel(data.fold_basis.first(k)), data
    return models


def _score(models: dict[str, tuple[FittedModel, TrainingData]], k: int) -> tuple[Candidate, ...]:
    """Score models of the training fold; the last one is the rival: PCA of rank K.

    About the mean or not, as is better on the validation fold: a network must not be praised for the mean that
    it may subtract.
    """
    validation = {name: data.scores_of(model).mean() for name, (model, data) in models.items()}
    test = {name: data.scores_of(model, fold="test") for name, (model, data) in models.items()}
    rival = min((name for name in models if name.endswith(f"pca ({k})")), key=lambda name: validation[name])
    test[rival] = test.pop(rival)
    pairs = {name: paired(scores, test[rival]) for name, scores in test.items()}
    return tuple(
        Candidate(name, pair.mean, pair.difference, pair.standard_error, float(validation[name]))
        for name, pair in pairs.items()
    )
