"""Decompose the spectra of a map: prepare, fit, score against PCA, project every spectrum."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from hyperspy_specml.decompose._autoencoder import Track, brief, centred_pca
from hyperspy_specml.decompose._networks import choose_latents, fit_network
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import Candidate, LinearModel, SpectrumModel, encode_all
from hyperspy_specml.prepare import TrainingData, prepare, smooth_basis
from hyperspy_specml.statistics import NOISE_NAMES, RankCurve, paired
from hyperspy_specml.train import History, choose_device

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from hyperspy_specml.decompose._restarts import Attempt
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.streaming import SpectrumStream

ARCHITECTURES = ("dense", "simplex", "pca")
SHIFTING = ("simplex",)  # architectures that know shifts along energy
_SCORED_ELEMENTS = 1 << 23  # deviances per candidate: more would only shrink an error that is small already


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
    prepared
        What was learnt before.
    candidates
        Scores on held-out counts; last the PCA of the same size that the others are compared with.
    rank
        The curve that chose (or would have chosen) the number of components.
    steps, step_scores, best_step, interrupted
        The training: held-out score at steps, the step kept, and whether the user stopped it.
    width
        Channels over which the axes of the network were smoothed, see `smooth_basis`.
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
    prepared: TrainingData
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
        See `prepare`, `fit_dense` and `fit_simplex`.
    """
    _check_options(architecture, n_components, noise, energy_shift=energy_shift, centre=config.centre)
    place = choose_device(device) if architecture != "pca" else None
    clock = Clock()
    prepared = prepare(
        stream, n_needed=n_components or 1, noise=noise, navigation_mask=masks[0], signal_mask=masks[1],
        config=config, seed=seed,
    )  # fmt: skip
    clock.stop("prepared")
    learnt = _learn(
        prepared, _Task(architecture, n_components, config, seed, place, energy_shift, track), clock
    )
    pixel_state, channels, prepared = (
        prepared.summary.pixel_state,
        prepared.summary.channels,
        prepared.without_counts(),
    )
    # Here no counts are in memory but the blocks: the larger the map, the larger are its scores.
    scores, baseline_scores = encode_all(stream, (learnt.model, learnt.baseline), pixel_state, channels)
    clock.stop("projection")
    history = learnt.history or History()
    return Decomposition(
        learnt.model, learnt.baseline, scores, baseline_scores, pixel_state, channels, prepared,
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


def _learn(prepared: TrainingData, task: _Task, clock: Clock) -> _Learnt:
    """Fit the model, and score it beside PCA."""
    if task.device is None:
        k = task.n_components or prepared.rank.chosen
        clock.stop("training")
        candidates = _score({f"pca ({k})": (LinearModel(prepared.fold_basis.first(k)), prepared)}, k)
        clock.stop("scoring")
        baseline = LinearModel(prepared.basis.first(k))
        return _Learnt(baseline, baseline, candidates, prepared.rank)
    dense, config, rank, stopped = task.architecture == "dense", task.config, prepared.rank, False
    seen = smooth_basis(prepared, task.n_components or 1, centre=config.centre) if dense else prepared
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
    models: dict[str, tuple[SpectrumModel, TrainingData]] = {
        f"{task.architecture} ({k})": (fit.fold_model, seen)
    }
    strongest = prepared.rank.chosen
    if strongest != k:  # the strongest PCA, not only the one of the same size
        models[f"pca ({strongest})"] = LinearModel(prepared.fold_basis.first(strongest)), prepared
    if dense and not config.centre:
        models[f"centred pca ({k})"] = centred_pca(prepared, k, config), prepared
    models[f"pca ({k})"] = LinearModel(prepared.fold_basis.first(k)), prepared
    candidates = _score(models, k)
    clock.stop("scoring")
    baseline = LinearModel(prepared.basis.first(k))
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


def _score(models: dict[str, tuple[SpectrumModel, TrainingData]], k: int) -> tuple[Candidate, ...]:
    """Score fold models, each along the axes of its data; the last one is the rival: PCA of rank K.

    About the mean or not, as is better on the validation fold: a network must not be praised for the mean that
    it may subtract.
    """

    def scores_on(fold: str, model: SpectrumModel, prepared: TrainingData) -> np.ndarray:
        step = max(1, prepared.folds.validation.size // _SCORED_ELEMENTS)
        fold_scores = prepared.fold_scores[::step]
        return prepared.folds.every(step).score(fold, lambda rows: model.predict(fold_scores[rows]))

    choose = {name: scores_on("validation", *model) for name, model in models.items()}
    report = {name: scores_on("test", *model) for name, model in models.items()}
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
