"""Decompose the spectra of a map: study, fit, score against PCA, project every spectrum."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from hyperspy_specml.estimators._dense import DenseFit, Track, brief, centred_pca
from hyperspy_specml.estimators._models import LinearModel, SpectrumModel, n_columns
from hyperspy_specml.estimators._networks import choose_latents, fit_network
from hyperspy_specml.estimators._smooth import smooth_study
from hyperspy_specml.estimators._study import Study, study_spectra
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.statistics import EMPTY, NOISE_NAMES, USED, RankCurve, paired, project_along
from hyperspy_specml.train._device import choose_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.estimators._restarts import Attempt
    from hyperspy_specml.estimators._simplex import SimplexFit
    from hyperspy_specml.streaming import SpectrumStream
    from hyperspy_specml.train.config import TrainConfig

_logger = logging.getLogger(__name__)

ARCHITECTURES = ("dense", "simplex", "pca")
SHIFTING = ("simplex",)  # architectures that know shifts along energy
_SCORED_ELEMENTS = 1 << 23  # deviances per candidate: more would only shrink an error that is small already


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
        (n_pixels, K) float32, and the model's extra columns; NaN for masked and not finite spectra, 0 for
        empty ones.
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
    attempts
        The starts of the training, where there were several.
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
    attempts: tuple[Attempt, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


@threadpool_limits.wrap(limits=1, user_api="blas")  # see side_by_side, which uses the other cores
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
    energy_shift: bool = False,
    track: Track = lambda steps: steps,
) -> Decomposition:
    """Decompose the spectra of a stream.

    Parameters
    ----------
    stream
        The spectra; read twice.
    architecture
        "dense", "simplex" or "pca".
    n_components
        Components K; None chooses by held-out score.
    noise
        See `statistics.estimate_noise`.
    masks
        Navigation and signal mask, True = masked.
    config, seed, device
        Settings, seed, torch device name.
    energy_shift
        Whether each spectrum is shifted along energy.
    track
        The progress bar around training steps.

    Raises
    ------
    OptionError
        Unknown architecture, noise or device, a number of components that is not positive, or an option that
        the architecture does not have.
    TooFewSpectraError, NegativeCountsError, NotCountsError, TrainingDivergedError
        See `study_spectra`, `fit_dense` and `fit_simplex`.
    """
    _check_options(architecture, n_components, noise)
    _check_combination(architecture, energy_shift, config)
    place = choose_device(device) if architecture != "pca" else None
    clock = Clock()
    study = study_spectra(
        stream, n_needed=n_components or 1, noise=noise, navigation_mask=masks[0], signal_mask=masks[1],
        config=config, seed=seed,
    )  # fmt: skip
    clock.stop("study")
    seen = smooth_study(study, n_components or 1, centre=config.centre) if architecture == "dense" else study
    rank, stopped = study.rank, False
    if n_components is None and place is not None:
        rank, stopped = choose_latents(seen, architecture, config, seed=seed, device=place, track=track)
        config = brief(config) if stopped else config  # who stops a search does not want to wait
    k = n_components or rank.chosen
    baseline = LinearModel(study.axes.first(k))
    fold_baseline = LinearModel(study.fold_axes.first(k))
    fit: DenseFit | SimplexFit | None = None
    if place is not None:
        fit = fit_network(
            seen, architecture, k, config, seed=seed, device=place, track=track, energy_shift=energy_shift
        )
    clock.stop("training")
    model = fit.model if fit else baseline
    models: dict[str, tuple[SpectrumModel, Study]] = {}
    if fit:
        models[f"{architecture} ({k})"] = fit.fold_model, seen
        strongest = study.rank.chosen
        if strongest != k:  # the strongest PCA, not only the one of the same size
            models[f"pca ({strongest})"] = LinearModel(study.fold_axes.first(strongest)), study
        if isinstance(fit, DenseFit) and not config.centre:
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
        interrupted=stopped or bool(history and history.interrupted), width=seen.width,
        attempts=fit.attempts if fit else (),
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
    one (n_pixels, K + extras) float32 array per model; NaN for spectra not used, 0 for empty ones
    """
    different = list({id(m): m for m in models}.values())
    table = stream.map_rows(
        EncodeRows(tuple(different), channels),
        n_columns=sum(n_columns(m) for m in different),
        label="Project",
    )
    table[pixel_state != USED] = np.nan
    table[pixel_state == EMPTY] = 0
    ends = np.cumsum([n_columns(m) for m in different])
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


def _check_combination(architecture: str, energy_shift: bool, config: TrainConfig) -> None:
    if energy_shift and architecture not in SHIFTING:
        dense = " 'dense' needs no such option: ask for one component more, and a latent is the shift."
        raise OptionError(
            f"energy_shift=True is not known to architecture={architecture!r}, only to "
            f"{' and '.join(map(repr, SHIFTING))}: decomposition_ae(architecture={SHIFTING[0]!r}, "
            f"energy_shift=True).{dense if architecture == 'dense' else ''}"
        )
    if architecture == "simplex" and config.centre:
        raise OptionError(
            "architecture='simplex' mixes spectra themselves, not their differences from the mean: "
            "TrainConfig(centre=True) is for 'dense' and 'pca'. Leave it out."
        )


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
