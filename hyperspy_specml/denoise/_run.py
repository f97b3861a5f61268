"""Denoise the spectra of a map: prepare, fit candidates, let held-out counts choose, apply."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose import Candidate, Clock
from hyperspy_specml.denoise._candidates import Entry, Setting, fit_candidates
from hyperspy_specml.denoise._held_out_error import HeldOutError
from hyperspy_specml.denoise._restore import line_width
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import (
    Denoiser,
    LinearModel,
    Tiles,
    denoise_map,
    encode_all,
    plan_sample,
    tiles_of,
)
from hyperspy_specml.prepare import (
    CORRUPTIONS,
    PairedRecordings,
    TrainingData,
    corrupt,
    paired_draws,
    prepare,
    smooth_basis,
)
from hyperspy_specml.statistics import NOISE_NAMES, TRAIN, USED, PrincipalBasis, paired, sample_size
from hyperspy_specml.train import choose_device

if TYPE_CHECKING:
    import torch

    from hyperspy_specml.decompose import Track
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.statistics import MapSummary
    from hyperspy_specml.streaming import SpectrumStream
    from hyperspy_specml.train import History

CONTEXTS = ("auto", "spectral", "spatial")
_HALVES = ((0, 1), (2, 3))  # of the parts of the training fold
# Of the width of the sharpest line: held-out counts like axes that are smoother, because most channels are
# between lines, but a line that gets wider by that loses 2 % of its height here, and 6 % at twice the width.
_WIDEST = 0.08


@dataclass(frozen=True)
class Quality:
    """What denoising gains and what it costs, measured on the training fold and counts it has not seen.

    Attributes
    ----------
    noise_reduction
        Standard deviation of the noise in the data over that in the denoised data.
    error, standard_error
        Squared error that is left in a spectrum on average, in units of the noise variance, summed over the
        channels: from the product of the residuals of two folds, so noise does not add to it.
    variance
        The part of `error` that is noise: the denoised halves differ by it. The rest is bias.
    signal
        Mean square of the denoised spectra about their mean, in the same unit.
    """

    noise_reduction: float
    error: float
    standard_error: float
    variance: float
    signal: float


@dataclass(frozen=True)
class Denoising:
    """A denoised map, as arrays.

    Attributes
    ----------
    denoiser
        The chosen one, fitted on all counts.
    scores
        (n_pixels, P) denoised scores along its axes; NaN for spectra not used, 0 for empty ones.
    prepared
        What was learnt before, without the counts.
    candidates
        Scores on held-out counts, plain PCA last: differences are to it.
    chosen
        Name of the candidate with the best score on the validation fold.
    quality
        Of the chosen candidate.
    history
        Of its training; None for filters.
    width
        Channels over which the axes were smoothed.
    n_tiles
        Boxes of the map that everything was learnt from; 1 is the whole map.
    seconds
        Time of each stage.
    shape
        Of the map, in array order.
    corruption
        How inputs for the networks were made.
    """

    denoiser: Denoiser
    scores: np.ndarray = field(repr=False)
    prepared: TrainingData
    candidates: tuple[Candidate, ...]
    chosen: str
    quality: Quality
    history: History | None
    width: float
    n_tiles: int
    seconds: dict[str, float]
    shape: tuple[int, ...]
    corruption: str = "split"


def denoise(
    stream: SpectrumStream,
    *,
    context: str = "auto",
    corruption: str = "split",
    pairs: tuple[SpectrumStream, SpectrumStream] | None = None,
    noise: str = "auto",
    masks: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    config: TrainConfig,
    seed: int = 0,
    device: str = "auto",
    track: Track = lambda steps: steps,
) -> Denoising:
    """Denoise the spectra of a stream.

    Parameters
    ----------
    stream
        The spectra; read twice.
    context
        "spectral": candidates that see one spectrum at a time; "spatial": those that see its neighbours;
        "auto": all.
    corruption
        How inputs for the networks are made: see `CORRUPTIONS`.
    pairs
        Two independent records of the same area, each read once; None splits the spectra's own counts.
    noise
        See `statistics.estimate_noise`.
    masks
        Navigation and signal mask, True = masked.
    config, seed, device, track
        Settings, seed, torch device name, and the progress bar around training steps.

    Raises
    ------
    OptionError
        Unknown context, noise or device.
    TooFewSpectraError, NegativeCountsError, NotCountsError
        See `prepare`.
    """
    if context not in CONTEXTS:
        raise OptionError.unknown("context", context, CONTEXTS)
    if corruption not in CORRUPTIONS:
        raise OptionError.unknown("corruption", corruption, CORRUPTIONS)
    if noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    clock = Clock()
    task = _Task(context, corruption, noise, masks, config, seed, choose_device(device), track)
    found = _learn(stream, task, PairedRecordings(pairs) if pairs else None, clock)
    # Here no counts are in memory but the blocks: the larger the map, the larger are its scores.
    scores = _apply(stream, found.denoiser, found.prepared.summary, config.memory_budget)
    clock.stop("application")
    return replace(found, scores=scores)


@dataclass(frozen=True)
class _Task:
    """What is to be learnt; see `denoise`."""

    context: str
    corruption: str
    noise: str
    masks: tuple[np.ndarray | None, np.ndarray | None]
    config: TrainConfig
    seed: int
    device: torch.device
    track: Track


def _learn(stream: SpectrumStream, task: _Task, repeats: PairedRecordings | None, clock: Clock) -> Denoising:
    """Fit and choose a denoiser; return the answer but for the scores, without the counts."""
    plain, tiles = _study(stream, task, repeats)
    judge, centre = HeldOutError(plain), task.config.centre
    sharpest = line_width(plain.summary.moments.mean, plain.estimate.model)
    prepared = smooth_basis(plain, 1, centre=centre, score=_errors_along, widest=_WIDEST * sharpest)
    if repeats and repeats.target is not None:
        prepared = replace(prepared, draws=paired_draws(prepared, repeats.target, repeats.target_share))
    elif task.corruption != "split":
        prepared = replace(prepared, draws=corrupt(prepared, task.corruption))
    clock.stop("prepared")
    setting = Setting(plain, prepared, tiles, task.config, task.seed, task.device, task.track)
    entries = fit_candidates(setting, task.context)
    clock.stop("training")
    candidates = _score(judge, entries)
    chosen = _choose(plain, candidates, entries)
    quality = _quality(tiles, judge, chosen)
    clock.stop("scoring")
    denoiser = chosen.on_all_counts()
    return Denoising(
        denoiser, np.empty((0, denoiser.basis.n_vectors), np.float32), plain.without_counts(), candidates,
        chosen.name, quality, chosen.history, prepared.width, len(tiles.rows), clock.seconds,
        stream.navigation_shape, task.corruption,
    )  # fmt: skip


def _apply(stream: SpectrumStream, denoiser: Denoiser, summary: MapSummary, memory_budget: int) -> np.ndarray:
    """Return the (n_pixels, P) denoised scores of all spectra; the file is read once."""
    (scores,) = encode_all(stream, (LinearModel(denoiser.basis),), summary.pixel_state, summary.channels)
    valid = (summary.pixel_state == USED).reshape(stream.navigation_shape)
    maps = np.where(valid[..., None], scores.reshape(*valid.shape, -1), np.float32(0))
    scores[valid.reshape(-1)] = denoise_map(denoiser, maps, valid, memory_budget=memory_budget)[valid]
    return scores


def _study(
    stream: SpectrumStream, task: _Task, repeats: PairedRecordings | None
) -> tuple[TrainingData, Tiles]:
    shape, (navigation_mask, signal_mask) = stream.navigation_shape, task.masks
    masked = None if navigation_mask is None else navigation_mask.reshape(-1)
    regions = plan_sample(shape, sample_size(stream), masked=masked, seed=task.seed)
    wanted = np.zeros(shape, bool)
    for region in regions:
        wanted[region] = True
    prepared = prepare(
        stream, n_needed=1, noise=task.noise, navigation_mask=navigation_mask, signal_mask=signal_mask,
        config=task.config, seed=task.seed, sample=wanted.reshape(-1), repeats=repeats,
    )  # fmt: skip
    return prepared, tiles_of(prepared.summary.sample_pixels, shape, regions)


def _errors_along(prepared: TrainingData, basis: PrincipalBasis) -> np.ndarray:
    train, share = prepared.folds.train, np.float32(TRAIN)
    # In slabs: all spectra at once would be the largest array of the whole analysis.
    scores = np.concatenate([basis.project(train(rows) / share) for rows in prepared.folds.slabs()])
    return HeldOutError(prepared).score("validation", basis, scores)


def _score(judge: HeldOutError, entries: list[Entry]) -> tuple[Candidate, ...]:
    """Score candidates on the validation and the test fold, the last one being the rival."""
    choose, report = {}, {}
    for entry in entries:
        scores = entry.scores()
        choose[entry.name] = float(judge.score("validation", entry.fold.basis, scores).mean())
        report[entry.name] = judge.score("test", entry.fold.basis, scores)
    pairs = {name: paired(errors, report[entries[-1].name]) for name, errors in report.items()}
    return tuple(
        Candidate(name, pair.mean, pair.difference, pair.standard_error, choose[name])
        for name, pair in pairs.items()
    )


def _choose(prepared: TrainingData, candidates: tuple[Candidate, ...], entries: list[Entry]) -> Entry:
    if (
        prepared.hold_out == "none"
    ):  # scores favour what keeps the noise; the rank of PCA does not come from them
        return entries[-1]
    best = min(candidates, key=lambda candidate: candidate.validation_score)
    return next(entry for entry in entries if entry.name == best.name)


def _quality(tiles: Tiles, judge: HeldOutError, chosen: Entry) -> Quality:
    fold, n, share = chosen.fold, chosen.fold.basis.n_vectors, chosen.prepared.share
    half = np.float32(TRAIN / 2)
    halves = [chosen.prepared.fold_parts[:, list(parts), :n].sum(axis=1) / half for parts in _HALVES]
    first, second = (
        tiles.flat(fold.denoise(tiles.maps(scores), tiles.valid, share / 2)) for scores in halves
    )
    noise = 0.5 * float(np.square(first - second).sum(axis=1, dtype=np.float64).mean())
    clean = chosen.scores()
    residuals = [judge.scores_of(name, fold.basis) - clean for name in ("validation", "test")]
    errors = np.einsum("np,np->n", *residuals, dtype=np.float64)
    n_channels = len(fold.basis.weights)
    return Quality(
        noise_reduction=float(np.sqrt(2 * n_channels / share / max(noise, 1e-12 * n_channels))),
        error=float(errors.mean()),
        standard_error=float(errors.std() / np.sqrt(len(errors))),
        variance=noise / 2,  # of the whole fold
        signal=float(clean.var(axis=0, dtype=np.float64).sum()),
    )
