"""Decompose the spectra of a map: study, fit, score against PCA, project every spectrum."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from hyperspy_specml.estimators._dense import Track, brief, centred_pca
from hyperspy_specml.estimators._encode import encode_all
from hyperspy_specml.estimators._models import LinearModel, SpectrumModel
from hyperspy_specml.estimators._networks import choose_latents, fit_network
from hyperspy_specml.estimators._smooth import smooth_study
from hyperspy_specml.estimators._study import Study, study_spectra
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.statistics import NOISE_NAMES, RankCurve, paired
from hyperspy_specml.train._device import choose_device
from hyperspy_specml.train._loop import History

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from hyperspy_specml.estimators._restarts import Attempt
    from hyperspy_specml.streaming import SpectrumStream
    from hyperspy_specml.train.config import TrainConfig

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
    _check_options(architecture, n_components, noise, energy_shift=energy_shift, centre=config.centre)
    place = choose_device(device) if architecture != "pca" else None
    clock = Clock()
    study = study_spectra(
        stream, n_needed=n_components or 1, noise=noise, navigation_mask=masks[0], signal_mask=masks[1],
        config=config, seed=seed,
    )  # fmt: skip
    clock.stop("study")
    learnt = _learn(study, _Task(architecture, n_components, config, seed, place, energy_shift, track), clock)
    pixel_state, channels, study = study.survey.pixel_state, study.survey.channels, study.without_counts()
    # Here no counts are in memory but the blocks: the larger the map, the larger are its scores.
    scores, baseline_scores = encode_all(stream, (learnt.model, learnt.baseline), pixel_state, channels)
    clock.stop("projection")
    history = learnt.history or History()
    return Decomposition(
        learnt.model, learnt.baseline, scores, baseline_scores, pixel_state, channels, study,
        learnt.candidates, learnt.rank,
        steps=tuple(history.steps), step_scores=tuple(history.scores), best_step=history.best_step,
        interrupted=learnt.stopped or history.interrupted, width=learnt.width, attempts=learnt.attempts,
        seconds=clock.seconds,
    )  # fmt: skip


@dataclass(frozen=True)
class _Task:
    """What is to be learnt; see `decompose`."""

    architecture: str
    n_components: int | None
    config: TrainConfig
    seed: int
    device: torch.device | None
    energy_shift: bool
    track: Track


@dataclass(frozen=True)
class _Learnt:
    """A model, without the counts that it was learnt from."""

    model: SpectrumModel
    baseline: LinearModel
    candidates: tuple[Candidate, ...]
    rank: RankCurve
    history: History | None = None
    stopped: bool = False
    width: float = 0.0
    attempts: tuple[Attempt, ...] = ()


def _learn(study: Study, task: _Task, clock: Clock) -> _Learnt:
    """Fit the model, and score it beside PCA."""
    if task.device is None:
        k = task.n_components or study.rank.chosen
        clock.stop("training")
        candidates = _score({f"pca ({k})": (LinearModel(study.fold_axes.first(k)), study)}, k)
        clock.stop("scoring")
        baseline = LinearModel(study.axes.first(k))
        return _Learnt(baseline, baseline, candidates, study.rank)
    dense, config, rank, stopped = task.architecture == "dense", task.config, study.rank, False
    seen = smooth_study(study, task.n_components or 1, centre=config.centre) if dense else study
    if task.n_components is None:
        rank, stopped = choose_latents(
            seen, task.architecture, config, seed=task.seed, device=task.device, track=task.track, race=dense
        )
        config = brief(config) if stopped else config  # who stops a search does not want to wait
    k = task.n_components or rank.chosen
    fit = fit_network(
        seen, task.architecture, k, config, seed=task.seed, device=task.device, track=task.track,
        energy_shift=task.energy_shift,
    )  # fmt: skip
    clock.stop("training")
    models: dict[str, tuple[SpectrumModel, Study]] = {f"{task.architecture} ({k})": (fit.fold_model, seen)}
    strongest = study.rank.chosen
    if strongest != k:  # the strongest PCA, not only the one of the same size
        models[f"pca ({strongest})"] = LinearModel(study.fold_axes.first(strongest)), study
    if dense and not config.centre:
        models[f"centred pca ({k})"] = centred_pca(study, k, config), study
    models[f"pca ({k})"] = LinearModel(study.fold_axes.first(k)), study
    candidates = _score(models, k)
    clock.stop("scoring")
    baseline = LinearModel(study.axes.first(k))
    return _Learnt(fit.model, baseline, candidates, rank, fit.history, stopped, seen.width, fit.attempts)


def _check_options(
    architecture: str, n_components: int | None, noise: str, *, energy_shift: bool, centre: bool
) -> None:
    if architecture not in ARCHITECTURES:
        raise OptionError.unknown("architecture", architecture, ARCHITECTURES)
    if noise not in NOISE_NAMES:  # said before the file is read
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    if n_components is not None and (n_components != int(n_components) or n_components < 1):
        raise OptionError(
            f"output_dimension={n_components!r} must be a whole number, 1 or more, or None, which chooses "
            "it by held-out score."
        )
    if energy_shift and architecture not in SHIFTING:
        dense = " 'dense' needs no such option: ask for one component more, and a latent is the shift."
        raise OptionError(
            f"energy_shift=True is not known to architecture={architecture!r}, only to "
            f"{' and '.join(map(repr, SHIFTING))}: decomposition_ae(architecture={SHIFTING[0]!r}, "
            f"energy_shift=True).{dense if architecture == 'dense' else ''}"
        )
    if architecture == "simplex" and centre:
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
