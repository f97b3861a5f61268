"""Denoise the spectra of a map: prepare, fit candidates, let held-out counts choose, apply, check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.denoise._apply import denoise_own_map
from hyperspy_specml.denoise._candidates import CandidateData, Entry, fit_candidates
from hyperspy_specml.denoise._held_out_error import HeldOutError, pca_errors
from hyperspy_specml.denoise._options import DenoiseOptions
from hyperspy_specml.denoise._restore import Denoised, check_removed
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import Candidate, DenoiseReport, plan_sample, tiles_of
from hyperspy_specml.prepare import CORRUPTIONS, PairedRecordings, corrupt, prepare, smooth_basis
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import NOISE_NAMES, TRAIN, line_width, paired, sample_size, typical_mean

if TYPE_CHECKING:
    from hyperspy_specml.models import FittedDenoiser, Tiles
    from hyperspy_specml.prepare import Masks, TrainingData
    from hyperspy_specml.streaming import SpectrumStream

    Pairs = tuple[SpectrumStream, SpectrumStream] | None

CONTEXTS = ("auto", "spectral", "spatial")
# Shares of the time of a call, measured at 128 x 128 pixels and 2048 channels; what is left is the check.
_STAGES = {"prepare": 0.35, "fit": 0.48, "score": 0.06, "finish": 0.03, "apply": 0.03}
# Two sets of parts of the training fold whose denoised scores differ by noise only.
_HALVES = ((0, 1), (2, 3))
# Largest smoothing of the basis, standard deviation over full width of the sharpest line. Held-out counts
# prefer smoother bases because most channels are between lines; this one lowers a line by 2 %, twice as much
# by 3 to 5 % (measured).
_MOST_SMOOTHING = 1 / 8


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
    masks: Masks = (None, None), pairs: Pairs = None, detector: np.ndarray | None = None,
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
    detector
        (all channels,) full width at half maximum of a line in channels, where the resolution is known.

    Raises
    ------
    TooFewSpectraError, NegativeCountsError, NotCountsError, PairsError
        See `prepare` and `PairedRecordings`.
    Cancelled
        The progress was asked to end the call, and no candidate was ready or it had been chosen.
    """
    run, asked, clock = run or Run(progress=stream.progress), asked or Asked(), Clock()
    source = _Source(stream, masks, pairs, detector)
    denoiser, data, report = _learn(source, run, asked, clock)
    assert report.line_width is not None
    # Here no counts are in memory but the blocks: the larger the map, the larger are its scores.
    with run.progress.enter("Apply", _STAGES["apply"]):
        denoised = denoise_own_map(stream, denoiser, data.summary, report.line_width)
    clock.stop("application")
    with run.progress.enter("Check"):
        noise, channels = data.estimate.model, data.summary.channels
        denoised = check_removed(stream, denoised, noise, channels, protect=asked.protect)
    clock.stop("check")
    return Denoising(denoiser, denoised, data, replace(report, seconds=clock.seconds))


@dataclass(frozen=True)
class _Source:
    """What is denoised; see `denoise`."""

    stream: SpectrumStream
    masks: Masks
    pairs: Pairs
    detector: np.ndarray | None


def _learn(source: _Source, run: Run, asked: Asked, clock: Clock) -> tuple[FittedDenoiser, TrainingData, DenoiseReport]:
    """Fit and choose a denoiser; return it, training data without the counts, and the report."""
    with run.progress.enter("Prepare", _STAGES["prepare"]):
        plain, smooth, tiles, width = _prepare(source, run, asked)
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
        denoiser = chosen.on_all_counts()
    clock.stop("final fit")
    found = {"candidates": candidates, "corruption": asked.corruption, "line_width": width} | quality
    return (
        denoiser,
        plain.without_counts(),
        _report(data, entries, chosen, shape=source.stream.navigation_shape, **found),
    )


def _report(data: CandidateData, entries: list[Entry], chosen: Entry, **found: Any) -> DenoiseReport:
    """Return the report of a choice, with further fields; times are not known yet."""
    plain, history = data.plain, chosen.history
    return DenoiseReport(
        noise_model=plain.estimate.model.to_dict() | {"fano": plain.estimate.fano},
        used=plain.summary.counts(),
        random_state=plain.seed,
        chosen=chosen.name,
        hold_out=plain.hold_out,
        correlation=plain.correlation,
        n_sampled=len(plain.summary.sample_pixels),
        smoothing=data.smooth.smoothing,
        steps=tuple(history.steps),
        step_scores=tuple(history.scores),
        best_step=history.best_step,
        interrupted=any(entry.history.interrupted for entry in entries),
        context=data.context,
        n_components=chosen.fold.n_components,
        n_boxes=len(data.tiles.rows),
        n_steps=history.steps[-1] if history.steps else 0,
        **found,
    )


def _prepare(source: _Source, run: Run, asked: Asked) -> tuple[TrainingData, TrainingData, Tiles, float]:
    """Return training data on the principal and on a smooth basis, the sample as tiles, the line width."""
    stream, masks, shape = source.stream, source.masks, source.stream.navigation_shape
    recordings = PairedRecordings(source.pairs) if source.pairs else None
    masked = None if masks[0] is None else masks[0].reshape(-1)
    regions = plan_sample(shape, sample_size(stream), masked=masked, seed=run.seed)
    wanted = np.zeros(shape, bool)
    for region in regions:
        wanted[region] = True
    centre, sample = asked.options.centre, wanted.reshape(-1)
    with run.progress.enter("Read and split", 0.8):
        plain = prepare(
            stream, run, noise=asked.noise, masks=masks, centre=centre, sample=sample, recordings=recordings
        )
    with run.progress.enter("Smooth the basis"):
        summary, noise = plain.summary, plain.estimate.model
        mean, n, channels = typical_mean(summary.sample), len(summary.sample), summary.channels
        width = line_width(mean, noise, n_spectra=n, channels=channels, detector=source.detector)
        smooth = smooth_basis(plain, 1, score=pca_errors, widest=_MOST_SMOOTHING * width)
        if recordings:
            smooth = replace(smooth, draws=recordings.draws(smooth))
        elif asked.corruption != "split":
            smooth = replace(smooth, draws=corrupt(smooth, asked.corruption))
    return plain, smooth, tiles_of(summary.sample_pixels, shape, regions), width


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
