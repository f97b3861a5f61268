"""Denoise the spectra of a map: prepare, fit candidates, let held-out counts choose, apply, check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose import Clock
from hyperspy_specml.denoise._apply import denoise_own_map
from hyperspy_specml.denoise._candidates import CandidateData, Entry, fit_candidates
from hyperspy_specml.denoise._held_out_error import HeldOutError, pca_errors
from hyperspy_specml.denoise._options import DenoiseOptions
from hyperspy_specml.denoise._restore import Denoised, check_removed, line_width
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import Candidate, DenoiseReport, plan_sample, tiles_of
from hyperspy_specml.prepare import CORRUPTIONS, PairedRecordings, corrupt, prepare, smooth_basis
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import NOISE_NAMES, TRAIN, paired, sample_size

if TYPE_CHECKING:
    from hyperspy_specml.models import FittedDenoiser, Tiles
    from hyperspy_specml.prepare import Masks, TrainingData
    from hyperspy_specml.streaming import SpectrumStream

CONTEXTS = ("auto", "spectral", "spatial")
# Shares of the time of a call, measured at 128 x 128 pixels and 2048 channels; what is left is the check.
_STAGES = {"prepare": 0.35, "fit": 0.48, "score": 0.06, "finish": 0.03, "apply": 0.03}
# Two sets of parts of the training fold whose denoised scores differ by noise only.
_HALVES = ((0, 1), (2, 3))
# Largest smoothing of the basis, relative to the width of the sharpest line. Held-out counts prefer smoother
# bases because most channels are between lines; this one lowers the height of that line by 2 %, twice as much
# by 6 %.
_MOST_SMOOTHING = 0.08


@dataclass(frozen=True)
class Asked:
    """What is asked of a denoising.

    Parameters
    ----------
    context
        "spectral": candidates that see one spectrum at a time; "spatial": those that see its neighbours;
        "auto": all.
    corruption
        How inputs for the networks are made: see `CORRUPTIONS`.
    noise
        See `statistics.estimate_noise`.
    protect
        Whether removed signal that noise cannot explain is restored.
    options
        Of the networks.

    Raises
    ------
    OptionError
        Unknown context, corruption or noise, or options of another class.
    """

    context: str = "auto"
    corruption: str = "split"
    noise: str = "auto"
    protect: bool = False
    options: DenoiseOptions = field(default_factory=DenoiseOptions)

    def __post_init__(self) -> None:
        """Refuse what is wrong before the file is read."""
        for name, known in {"context": CONTEXTS, "corruption": CORRUPTIONS, "noise": NOISE_NAMES}.items():
            if getattr(self, name) not in known:
                raise OptionError.unknown(name, getattr(self, name), known)
        if type(self.options) is not DenoiseOptions:
            raise OptionError(f"denoise_dae(options={self.options!r}) needs options=specml.DenoiseOptions(...).")


@dataclass(frozen=True)
class Denoising:
    """A denoising, as arrays.

    Attributes
    ----------
    denoiser
        The chosen one, fitted on all counts.
    denoised
        The map, and what was removed from it.
    prepared
        What was known before, without the counts.
    report
        The evidence; what was removed is not in it, as it is in `denoised` in pixels and channels.
    """

    denoiser: FittedDenoiser
    denoised: Denoised
    prepared: TrainingData
    report: DenoiseReport


def denoise(
    stream: SpectrumStream, run: Run | None = None, asked: Asked | None = None, *,
    masks: Masks = (None, None), pairs: tuple[SpectrumStream, SpectrumStream] | None = None,
) -> Denoising:  # fmt: skip
    """Denoise the spectra of a stream.

    Parameters
    ----------
    stream
        The spectra; read three times, and twice more where removed signal is restored.
    run
        Settings, seed, device and progress (that of the stream).
    asked
        What is asked for.
    masks
        Navigation and signal mask, True = masked.
    pairs
        Two independent records of the same area, each read once; None splits the spectra's own counts.

    Raises
    ------
    TooFewSpectraError, NegativeCountsError, NotCountsError, PairsError
        See `prepare` and `PairedRecordings`.
    Cancelled
        The progress was asked to end the call, and no candidate was ready or it had been chosen.
    """
    run, asked = run or Run(progress=stream.progress), asked or Asked()
    clock, enter = Clock(), run.progress.enter
    found = _learn(stream, _Setting(asked, masks, run, PairedRecordings(pairs) if pairs else None), clock)
    # Here no counts are in memory but the blocks: the larger the map, the larger are its scores.
    with enter("Apply", _STAGES["apply"]):
        denoised = denoise_own_map(stream, found.denoiser, found.prepared.summary)
    clock.stop("application")
    with enter("Check"):
        summary, noise = found.prepared.summary, found.prepared.estimate.model
        denoised = check_removed(stream, denoised, noise, summary.channels, protect=asked.protect)
    clock.stop("check")
    return replace(found, denoised=denoised)


@dataclass(frozen=True)
class _Setting:
    """What is to be learnt; see `denoise`."""

    asked: Asked
    masks: Masks
    run: Run
    recordings: PairedRecordings | None


def _learn(stream: SpectrumStream, setting: _Setting, clock: Clock) -> Denoising:
    """Fit and choose a denoiser; return the answer without the denoised map and without the counts."""
    asked, run = setting.asked, setting.run
    with run.progress.enter("Prepare", _STAGES["prepare"]):
        plain, smooth, tiles = _prepare(stream, setting)
    clock.stop("preparation")
    with run.progress.enter("Fit candidates", _STAGES["fit"]):
        data = CandidateData(plain, smooth, tiles, asked.context, asked.options, run)
        entries = fit_candidates(data)
    clock.stop("training")
    held_out = HeldOutError(plain)
    with run.progress.enter("Score candidates", _STAGES["score"]):
        candidates = _score(held_out, entries)
        chosen = _choose(plain, candidates, entries)
        quality = _quality(tiles, held_out, chosen)
    clock.stop("scoring")
    with run.progress.enter("Fit to all counts", _STAGES["finish"]):
        denoiser, history = chosen.on_all_counts(), chosen.history
    clock.stop("final fit")
    summary, estimate = plain.summary, plain.estimate
    report = DenoiseReport(
        noise_model=estimate.model.to_dict() | {"fano": estimate.fano},
        used=summary.counts(),
        random_state=plain.seed,
        seconds=clock.seconds,
        candidates=candidates,
        chosen=chosen.name,
        hold_out=plain.hold_out,
        correlation=plain.correlation,
        n_sampled=len(summary.sample_pixels),
        smoothing=smooth.smoothing,
        steps=tuple(history.steps),
        step_scores=tuple(history.scores),
        best_step=history.best_step,
        interrupted=any(entry.history.interrupted for entry in entries),
        context=asked.context,
        corruption=asked.corruption,
        n_components=denoiser.n_components,
        n_boxes=len(tiles.rows),
        n_steps=history.steps[-1] if history.steps else 0,
        shape=stream.navigation_shape,
        **quality,
    )
    nothing = Denoised(
        denoiser, np.empty((0, denoiser.n_components), np.float32), summary.pixel_state, summary.moments.mean
    )
    return Denoising(denoiser, nothing, plain.without_counts(), report)


def _prepare(stream: SpectrumStream, setting: _Setting) -> tuple[TrainingData, TrainingData, Tiles]:
    """Return training data on the principal basis and on a smooth one, and the sample as tiles."""
    shape, run, masks, asked = stream.navigation_shape, setting.run, setting.masks, setting.asked
    masked = None if masks[0] is None else masks[0].reshape(-1)
    regions = plan_sample(shape, sample_size(stream), masked=masked, seed=run.seed)
    wanted = np.zeros(shape, bool)
    for region in regions:
        wanted[region] = True
    recordings, centre, sample = setting.recordings, asked.options.centre, wanted.reshape(-1)
    with run.progress.enter("Read and split", 0.8):
        plain = prepare(
            stream, run, noise=asked.noise, masks=masks, centre=centre, sample=sample, recordings=recordings
        )
    with run.progress.enter("Smooth the basis"):
        widest = _MOST_SMOOTHING * line_width(plain.summary.moments.mean, plain.estimate.model)
        smooth = smooth_basis(plain, 1, score=pca_errors, widest=widest)
        if recordings:
            smooth = replace(smooth, draws=recordings.draws(smooth))
        elif asked.corruption != "split":
            smooth = replace(smooth, draws=corrupt(smooth, asked.corruption))
    return plain, smooth, tiles_of(plain.summary.sample_pixels, shape, regions)


def _score(held_out: HeldOutError, entries: list[Entry]) -> tuple[Candidate, ...]:
    """Score candidates on the validation and the test fold; the last one is what they are compared with."""
    validation, test = {}, {}
    for entry in entries:
        scores = entry.scores()
        validation[entry.name] = float(held_out.score("validation", entry.fold.basis, scores).mean())
        test[entry.name] = held_out.score("test", entry.fold.basis, scores)
    pairs = {name: paired(errors, test[entries[-1].name]) for name, errors in test.items()}
    return tuple(
        Candidate(name, pair.mean, pair.difference, pair.standard_error, validation[name])
        for name, pair in pairs.items()
    )


def _choose(data: TrainingData, candidates: tuple[Candidate, ...], entries: list[Entry]) -> Entry:
    """Return the candidate with the best score on the validation fold."""
    # Without a valid hold-out scores favour what keeps the noise; the rank of PCA does not come from them.
    if data.hold_out == "none":
        return entries[-1]
    best = min(candidates, key=lambda candidate: candidate.validation_score)
    return next(entry for entry in entries if entry.name == best.name)


def _quality(tiles: Tiles, held_out: HeldOutError, chosen: Entry) -> dict[str, Any]:
    """Return what denoising gains and costs, measured on the training fold and counts it has not seen."""
    data, fold = chosen.data, chosen.fold
    half, n = np.float32(TRAIN / 2), fold.n_components
    halves = [data.fold_parts[:, list(parts), :n].sum(axis=1) / half for parts in _HALVES]
    first, second = (tiles.flat(fold.denoise(tiles.maps(scores), tiles.valid, data.fraction / 2)) for scores in halves)
    noise = 0.5 * float(np.square(first - second).sum(axis=1, dtype=np.float64).mean())
    clean = chosen.scores()
    residuals = [held_out.scores_of(name, fold.basis) - clean for name in ("validation", "test")]
    errors = np.einsum("np,np->n", *residuals, dtype=np.float64)
    n_channels = len(fold.basis.weights)
    return {
        "noise_reduction": float(np.sqrt(2 * n_channels / data.fraction / max(noise, 1e-12 * n_channels))),
        "error": float(errors.mean()),
        "error_standard_error": float(errors.std() / np.sqrt(len(errors))),
        "error_variance": noise / 2,  # of the whole fold
        "signal_variance": float(clean.var(axis=0, dtype=np.float64).sum()),
    }
