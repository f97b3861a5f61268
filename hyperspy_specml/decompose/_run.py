"""Decompose the spectra of a map: prepare, choose the number of components, fit, score against PCA, project.

The number is chosen by held-out counts; numbers that these cannot tell apart race on other counts: the validation fold
holds 15 % of the counts, and on small maps that is too few to see that one latent more pays. So every part of the
training fold takes its place once, and only what has fallen back is left out.

References
----------
O. Maron, A. W. Moore, "The racing algorithm: model selection for lazy learners", Artif. Intell. Rev. 11
(1997) 193, doi:10.1023/A:1006556606079.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from hyperspy_specml.decompose._architecture import SCORED
from hyperspy_specml.decompose._registry import choose_architecture
from hyperspy_specml.decompose._residual import Residual, add_components
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import CLEAR, Candidate, DecompositionReport, FittedModel, LinearModel, encode_map
from hyperspy_specml.prepare import Masks, TrainingData, prepare, smooth_basis
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import N_PARTS, NOISE_NAMES, RankCurve, choose_rank, paired

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.decompose._architecture import Architecture, Fit
    from hyperspy_specml.streaming import SpectrumStream

# Shares of the time of a call, measured on maps of 128 x 128 x 2048; a stage that is left out gives its share away.
_STAGES = {"prepare": 0.17, "smooth": 0.03, "choose": 0.45, "train": 0.2, "score": 0.05, "project": 0.1}
_MOST_COMPONENTS = 12
_PATIENCE = 2  # numbers tried after the best one
_RACED = 1 << 23  # values of a map whose other counts are held out too: larger ones tell enough
_FIRST_ROUND = 0.4  # share of the time of a race; most numbers run in no other round

Rounds = list[list[np.ndarray]]
"""For each number of components, the (m,) scores of each round that it ran, smaller is better."""


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
    data, models, report = _learn(data, chosen, n_components, run, clock, stream.navigation_shape)
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
    stages = _STAGES if architecture.trained and not n_components else _STAGES | {"choose": 0.0}
    stages = stages if architecture.trained else stages | {"train": 0.0}
    stages = stages if architecture.smooth else stages | {"smooth": 0.0}
    return {stage: share / sum(stages.values()) for stage, share in stages.items()}


def _learn(
    data: TrainingData, architecture: Architecture, n_components: int | None, run: Run, clock: Clock, shape: Any
) -> tuple[TrainingData, tuple[FittedModel, LinearModel], DecompositionReport]:
    """Fit the model, and score it beside PCA; return the training data without their counts."""
    shares, rank, stopped = _shares(architecture, n_components), data.rank, False
    with run.progress.enter("Smooth the basis", shares["smooth"]):
        smooth = smooth_basis(data, n_components or 1).with_mean() if architecture.smooth else data
    if n_components is None and architecture.trained and data.hold_out != "none":
        with run.progress.enter("Choose the number", shares["choose"]):
            rank, stopped = choose_number(architecture, smooth, run)
        # Who stops a search does not want to wait for a long training either.
        run = architecture.completed(run, data).brief() if stopped else run
    k = n_components or rank.chosen
    if architecture.trained:
        pca = data.scores_of(LinearModel(data.fold_basis.first(k)), SCORED)
        run.progress.record(f"pca ({k})", 0, float(pca.mean()))
    with run.progress.enter(architecture.stage, shares["train"]):
        fit = architecture.fit(smooth, k, run)
        if n_components is None and data.hold_out != "none" and not stopped:
            most = min(_MOST_COMPONENTS, data.basis.n_vectors)
            raced = rank if architecture.trained and architecture.smooth else None
            residual = Residual(smooth, shape, weak=not architecture.mixes)
            fit = add_components(architecture, residual, fit, most, run, raced)
            k = fit.fold_model.n_components
        model, ended = _shown(architecture, fit, smooth, run)
    clock.stop("training")
    with run.progress.enter("Score", shares["score"]):
        candidates = _score(_fold_models(data, smooth, architecture, fit, k), k)
    clock.stop("scoring")
    baseline = model if isinstance(model, LinearModel) else LinearModel(data.basis.first(k))
    report = DecompositionReport(
        architecture=architecture.name,
        n_components=k,
        n_added=k - (n_components or rank.chosen),
        candidates=candidates,
        chosen=min(candidates, key=lambda c: c.validation_score).name,
        rank=rank,
        baseline_rank=data.rank,
        scree=data.basis.eigenvalues,
        noise_edge=data.edge,
        smoothing=smooth.smoothing,
        interrupted=stopped or ended or fit.history.interrupted,
        attempts=fit.attempts,
        assumption=fit.assumption,
        seconds=clock.seconds,
        **data.facts(),
        **fit.history.curve(),
    )
    return data.without_counts(), (model, baseline), report


def _shown(architecture: Architecture, fit: Fit, data: TrainingData, run: Run) -> tuple[FittedModel, bool]:
    """Return the model with the scores that users see, and whether the user ended the search for these."""
    model, ended = fit.model, False
    try:
        model = architecture.shown(model, data, run)
    except STOPPED:
        ended = True
    return architecture.applied(model, data, fold=False), ended


def _fold_models(
    data: TrainingData, smooth: TrainingData, architecture: Architecture, fit: Fit, k: int
) -> dict[str, tuple[FittedModel, TrainingData]]:
    """Return the models of the training fold that are scored, each with the data on its basis; PCA comes last."""
    models: dict[str, tuple[FittedModel, TrainingData]] = {}
    if architecture.trained:
        own = architecture.applied(fit.fold_model, smooth, fold=True)
        models[f"{architecture.name} ({k})"] = own, smooth if own is fit.fold_model else smooth.on(own.basis)
        models |= {name: (other, smooth) for name, other in fit.others.items()}
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


def choose_number(
    architecture: Architecture, data: TrainingData, run: Run, *, race: bool = True
) -> tuple[RankCurve, bool]:
    """Try 1, 2, ... components; a network hardly ever needs many more of them than PCA does.

    Where PCA carries as many as are tried at most, or more, the largest number is tried first, then smaller ones: on
    clear data each of them is worse than the one before, and would be trained in vain.

    Parameters
    ----------
    architecture
        Trains them.
    data
        Training data.
    run
        Settings of the trainings.
    race
        Whether the numbers that the validation fold cannot tell apart are trained again, with every part of the
        training fold in its place, where the architecture has a smooth basis. Takes up to five times as long.

    Returns
    -------
    the curve, and whether the user interrupted the search
    """
    race = race and architecture.smooth and data.hold_out != "none"
    # Constraints, or a smooth basis and shrunk latents, may carry one more than PCA does.
    more = architecture.more_components if race or not architecture.smooth else 0
    most = min(_MOST_COMPONENTS, data.rank.chosen + more, data.basis.n_vectors)
    race = race and data.folds.validation.size <= _RACED
    falling = data.rank.chosen >= _MOST_COMPONENTS
    tried: dict[int, np.ndarray] = {}
    interrupted = False
    for k in range(most, 0, -1) if falling else range(1, most + 1):
        with run.progress.enter("Choose the number", (_FIRST_ROUND if race else 1.0) / most):
            tried[k], interrupted = architecture.compare(data, k, run)
        run.progress.record("components", k, float(tried[k].mean()))
        if interrupted or _found([*tried.values()], clearly=falling):
            break
    first, rounds = min(tried), [[tried[k]] for k in sorted(tried)]
    if race and not interrupted:
        interrupted = run_race(rounds, data, lambda other, k: architecture.compare(other, k, run), run, first=first)
    return choose_rank(np.arange(first, first + len(rounds)), joined(rounds), "held-out counts"), interrupted


def _found(scores: list[np.ndarray], *, clearly: bool) -> bool:
    """Return whether the numbers tried last are worse than the best one; if asked for, each of them clearly."""
    best = int(np.argmin([one.mean() for one in scores]))
    later = scores[best + 1 :][-_PATIENCE:]
    pairs = [paired(one, scores[best]) for one in later]
    worse = [pair.difference > CLEAR * pair.standard_error for pair in pairs] if clearly else [True] * len(later)
    return len(later) == _PATIENCE and all(worse)


def run_race(
    rounds: Rounds, data: TrainingData, compare: Callable[[TrainingData, int], tuple[np.ndarray, bool]], run: Run, *,
    first: int = 1,
) -> bool:  # fmt: skip
    """Add round after round while several numbers are in it; return whether the user interrupted that.

    Parameters
    ----------
    rounds
        The first round: scores of the smallest number of components and those after it on the validation fold. The
        rounds after it are added.
    data
        Training data.
    compare
        Called with data and a number of components; returns validation scores and whether the user interrupted
        the training.
    run
        Its progress.
    first
        The smallest number.
    """
    for part in range(N_PARTS):
        if len(runners := running(rounds)) == 1:
            break
        other = data.turned(part)
        found = {}
        for i in runners:
            with run.progress.enter("Choose the number", (1 - _FIRST_ROUND) / N_PARTS / len(runners)):
                found[i], interrupted = compare(other, first + i)
            if interrupted:
                return True
        for i, scores in found.items():
            rounds[i].append(scores)
    return False


def running(rounds: Rounds) -> list[int]:
    """Return which numbers of the last round are not clearly worse than the best of it.

    Parameters
    ----------
    rounds
        See `Rounds`; who is out ran fewer rounds.
    """
    means, best = [np.mean(own, axis=0) for own in rounds], _best(rounds)
    pairs = {i: paired(own, means[best]) for i, own in enumerate(means) if len(rounds[i]) == len(rounds[best])}
    return [i for i, pair in pairs.items() if i == best or pair.difference <= CLEAR * pair.standard_error]


def joined(rounds: Rounds) -> np.ndarray:
    """Return (n, m) mean scores: the differences to the best are those of the rounds that both ran.

    Parameters
    ----------
    rounds
        See `Rounds`.
    """
    best = rounds[_best(rounds)]
    whole = np.mean(best, axis=0)
    return np.array([whole + np.mean([a - b for a, b in zip(own, best, strict=False)], axis=0) for own in rounds])


def _best(rounds: Rounds) -> int:
    """Return the best of those that ran all rounds."""
    most = max(map(len, rounds))
    return min((i for i, own in enumerate(rounds) if len(own) == most), key=lambda i: np.mean(rounds[i]))
