"""Decompose the spectra of a map: study, fit, score against PCA, project every spectrum."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.estimators._dense import DenseFit, Track, brief, centred_pca, fit_dense, score_latents
from hyperspy_specml.estimators._models import LinearModel, SpectrumModel
from hyperspy_specml.estimators._smooth import smooth_study
from hyperspy_specml.estimators._study import Study, study_spectra
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.statistics import EMPTY, NOISE_NAMES, USED, RankCurve, choose_rank, paired, project_along
from hyperspy_specml.train._device import choose_device

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from hyperspy_specml.streaming import SpectrumStream
    from hyperspy_specml.train.config import TrainConfig

_logger = logging.getLogger(__name__)

ARCHITECTURES = ("dense", "pca")
_SCORED_ELEMENTS = 1 << 23  # deviances per candidate: more would only shrink an error that is small already
_MOST_LATENTS = 12
_PATIENCE_LATENTS = 2  # numbers of latents tried after the best one


@dataclass(frozen=True)
class Candidate:
    """A model scored on counts that it has not seen.

    Attributes
    ----------
    name
        Architecture and number of components.
    score
        Mean deviance per spectrum on the report fold; smaller is better.
    difference, standard_error
        Mean and standard error of the paired difference to PCA of the same size, about the mean spectrum or
        not, whichever is better on the choosing fold.
    choose_score
        The same score on the choosing fold, which decides between candidates.
    """

    name: str
    score: float
    difference: float
    standard_error: float
    choose_score: float


@dataclass(frozen=True)
class Decomposition:
    """A fitted decomposition, as arrays.

    Attributes
    ----------
    model, baseline
        The model asked for, and PCA of the same size.
    scores, baseline_scores
        (n_pixels, K) float32; NaN for masked and not finite spectra, 0 for empty ones.
    pixel_state, channels
        (n_pixels,) state of every spectrum and (E,) bool channels in use.
    study
        What was learnt before.
    candidates
        Scores on held-out counts; last the PCA of the same size that the others are compared with.
    rank
        The curve that chose (or would have chosen) the number of components.
    steps, step_scores, best_step, interrupted
        The training: held-out score at steps, the step kept, and whether the user stopped it.
    width
        Channels over which the axes of the network were smoothed, see `smooth_study`.
    seconds
        Time of each stage.
    """

    model: SpectrumModel
    baseline: LinearModel
    scores: np.ndarray = field(repr=False)
    baseline_scores: np.ndarray = field(repr=False)
    pixel_state: np.ndarray = field(repr=False)
    channels: np.ndarray = field(repr=False)
    study: Study
    candidates: tuple[Candidate, ...]
    rank: RankCurve
    steps: tuple[int, ...] = ()
    step_scores: tuple[float, ...] = ()
    best_step: int = 0
    interrupted: bool = False
    width: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


def decompose(
    stream: SpectrumStream,
    *,
    architecture: str = "dense",
    n_components: int | None = None,
    noise: str = "auto",
    masks: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    config: TrainConfig,
    seed: int = 0,
    device: str = "auto",
    track: Track = lambda steps: steps,
) -> Decomposition:
    """Decompose the spectra of a stream.

    Parameters
    ----------
    stream
        The spectra; read twice.
    architecture
        "dense" or "pca".
    n_components
        Components K; None chooses by held-out score.
    noise
        See `statistics.estimate_noise`.
    masks
        Navigation and signal mask, True = masked.
    config, seed, device, track
        Settings, seed, torch device name, and the progress bar around training steps.

    Raises
    ------
    OptionError
        Unknown architecture, noise or device, or a number of components that is not positive.
    TooFewSpectraError, NegativeCountsError, NotCountsError, TrainingDivergedError
        See `study_spectra` and `fit_dense`.
    """
    _check_options(architecture, n_components, noise)
    place = choose_device(device) if architecture != "pca" else None
    clock = Clock()
    study = study_spectra(
        stream, n_needed=n_components or 1, noise=noise, navigation_mask=masks[0], signal_mask=masks[1],
        config=config, seed=seed,
    )  # fmt: skip
    clock.stop("study")
    smooth = smooth_study(study, n_components or 1, centre=config.centre) if place is not None else study
    rank, stopped = study.rank, False
    if n_components is None and place is not None:
        rank, stopped = choose_latents(smooth, config, seed, place, track)
        config = brief(config) if stopped else config  # who stops a search does not want to wait
    k = n_components or rank.chosen
    baseline = LinearModel(study.axes.first(k))
    fold_baseline = LinearModel(study.fold_axes.first(k))
    fit: DenseFit | None = None
    if place is not None:
        fit = fit_dense(smooth, k, config, seed=seed, device=place, track=track)
    clock.stop("training")
    model = fit.model if fit else baseline
    models: dict[str, tuple[SpectrumModel, Study]] = {}
    if fit:
        models[f"{architecture} ({k})"] = fit.fold_model, smooth
        if study.rank.chosen != k:  # the strongest PCA, not only the one of the same size
            models[f"pca ({study.rank.chosen})"] = (
                LinearModel(study.fold_axes.first(study.rank.chosen)),
                study,
            )
        if not config.centre:
            models[f"centred pca ({k})"] = centred_pca(study, k, config), study
    candidates = _score({**models, f"pca ({k})": (fold_baseline, study)}, k)
    clock.stop("scoring")
    scores, baseline_scores = encode_all(
        stream, (model, baseline), study.survey.pixel_state, study.survey.channels
    )
    clock.stop("projection")
    history = fit.history if fit else None
    return Decomposition(
        model, baseline, scores, baseline_scores, study.survey.pixel_state, study.survey.channels, study,
        candidates, rank,
        steps=tuple(history.steps) if history else (), step_scores=tuple(history.scores) if history else (),
        best_step=history.best_step if history else 0,
        interrupted=stopped or bool(history and history.interrupted), width=smooth.width,
        seconds=clock.seconds,
    )  # fmt: skip


def encode_all(
    stream: SpectrumStream, models: tuple[SpectrumModel, ...], pixel_state: np.ndarray, channels: np.ndarray
) -> list[np.ndarray]:
    """Score every spectrum under each model, in one pass over the file.

    Parameters
    ----------
    stream
        The spectra.
    models
        Fitted models; the same one twice is computed once.
    pixel_state, channels
        (n_pixels,) state of every spectrum and (E,) bool channels in use.

    Returns
    -------
    one (n_pixels, K) float32 array per model; NaN for spectra not used, 0 for empty ones
    """
    different = list({id(m): m for m in models}.values())
    table = stream.map_rows(
        EncodeRows(tuple(different), channels),
        n_columns=sum(m.n_components for m in different),
        label="Project",
    )
    table[pixel_state != USED] = np.nan
    table[pixel_state == EMPTY] = 0
    ends = np.cumsum([m.n_components for m in different])
    parts = dict(zip(map(id, different), np.split(table, ends[:-1], axis=1), strict=True))
    return [parts[id(m)] for m in models]


@dataclass(frozen=True)
class EncodeRows:
    """The block function of the projection: an object, so that it travels to other processes."""

    models: tuple[SpectrumModel, ...]
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, dtype=rows.dtype.newbyteorder("="))
        with np.errstate(invalid="ignore", over="ignore"):  # not finite spectra become NaN scores
            along = project_along(rows, [model.axes for model in self.models], self.channels)
            scores = [model.encode_scores(own) for model, own in zip(self.models, along, strict=True)]
        return np.concatenate(scores, axis=1)


def _check_options(architecture: str, n_components: int | None, noise: str) -> None:
    if architecture not in ARCHITECTURES:
        raise OptionError.unknown("architecture", architecture, ARCHITECTURES)
    if noise not in NOISE_NAMES:  # said before the file is read
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    if n_components is not None and (n_components != int(n_components) or n_components < 1):
        raise OptionError(
            f"output_dimension={n_components!r} must be a whole number, 1 or more, or None, which chooses "
            "it by held-out score."
        )


def choose_latents(
    study: Study, config: TrainConfig, seed: int, device: torch.device, track: Track
) -> tuple[RankCurve, bool]:
    """Try 1, 2, ... latents; a nonlinear model never needs more of them than PCA needs components.

    Returns
    -------
    the curve, and whether the user interrupted the search
    """
    most = min(_MOST_LATENTS, study.rank.chosen)
    curve: list[np.ndarray] = []
    interrupted = False
    for k in range(1, most + 1):
        scores, interrupted = score_latents(study, k, config, seed=seed, device=device, track=track)
        curve.append(scores)
        best = int(np.argmin([scores.mean() for scores in curve]))
        if interrupted or k - 1 - best >= _PATIENCE_LATENTS:
            break
    return choose_rank(np.arange(1, len(curve) + 1), np.array(curve), "held-out counts"), interrupted


def _score(models: dict[str, tuple[SpectrumModel, Study]], k: int) -> tuple[Candidate, ...]:
    """Score fold models, each along the axes of its study; the last one is the rival: PCA of rank K.

    About the mean or not, as is better on the choosing fold: a network must not be praised for the mean that
    it may subtract.
    """

    def scores_on(fold: str, model: SpectrumModel, study: Study) -> np.ndarray:
        step = max(1, study.folds.choose.size // _SCORED_ELEMENTS)
        fold_scores = study.fold_scores[::step]
        return study.folds.every(step).score(fold, lambda rows: model.predict(fold_scores[rows]))

    choose = {name: scores_on("choose", *model) for name, model in models.items()}
    report = {name: scores_on("report", *model) for name, model in models.items()}
    rival = min((name for name in models if name.endswith(f"pca ({k})")), key=lambda n: choose[n].mean())
    report[rival] = report.pop(rival)
    reference = report[rival]
    found = []
    for name, scores in report.items():
        pair = paired(scores, reference)
        found.append(
            Candidate(name, pair.mean, pair.difference, pair.standard_error, float(choose[name].mean()))
        )
    return tuple(found)


class Clock:
    """Seconds between stops, by the name of the stage that ended."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.seconds: dict[str, float] = {}
        self.last = now()

    def stop(self, stage: str) -> None:
        """End a stage."""
        here = self.now()
        self.seconds[stage] = here - self.last
        self.last = here
