"""Denoise the spectra of a map: prepare, fit candidates, let held-out counts choose, apply, check.

Another map is denoised without a fit: see `apply_denoiser`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.denoise._candidates import CandidateData, Entry, compare, fit_candidates
from hyperspy_specml.denoise._held_out import HeldOutError, pca_errors
from hyperspy_specml.denoise._options import Asked
from hyperspy_specml.denoise._removed import Denoised, check_removed
from hyperspy_specml.denoise._spatial import sum_of_parts
from hyperspy_specml.denoise._sums import basis_of_sums
from hyperspy_specml.denoise._totals import choose_width
from hyperspy_specml.exceptions import NegativeCountsError
from hyperspy_specml.models import DenoiseReport, encode_map, encode_new_map, noise_along, plan_sample, tiles_of
from hyperspy_specml.prepare import PairedRecordings, corrupt, prepare, smooth_basis
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import SATURATED, USED, gain_of, line_width, sample_size, typical_mean

if TYPE_CHECKING:
    from hyperspy_specml.models import Candidate, FittedDenoiser, Tiles
    from hyperspy_specml.prepare import Masks, TrainingData
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

    Pairs = tuple[SpectrumStream, SpectrumStream] | None

# Shares of the time of a call, measured at 128 x 128 pixels and 2048 channels; what is left is the check.
_STAGES = {"prepare": 0.35, "fit": 0.48, "score": 0.06, "finish": 0.03, "apply": 0.03}
# Two sets of parts of the training fold whose denoised scores differ by noise only.
_HALVES = ((0, 1), (2, 3))
# Largest smoothing of the basis, standard deviation over full width of the sharpest line. Held-out counts
# prefer smoother bases because most channels are between lines; this one lowers a line by 2 %, twice as much
# by 3 to 5 % (measured).
_MOST_SMOOTHING = 1 / 8


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
    with run.progress.enter("Prepare", _STAGES["prepare"]):
        data, width = _prepare(stream, run, asked, masks, pairs, detector)
    clock.stop("preparation")
    denoiser, report = _learn(data, clock, corruption=asked.corruption, line_width=width, shape=stream.navigation_shape)
    prepared = data.plain.without_counts()
    del data  # now no counts are in memory but the blocks: the larger the map, the larger are its scores
    with run.progress.enter("Apply", _STAGES["apply"]):
        noise, moments = prepared.estimate.model, prepared.summary.moments
        denoised = denoise_own_map(stream, denoiser, prepared.summary, width, noise)
    clock.stop("application")
    with run.progress.enter("Check"):
        channels = prepared.summary.channels
        how: Any = {"protect": asked.protect, "mean": moments.mean, "width": report.averaged}
        denoised = check_removed(stream, denoised, noise, channels, **how)
    clock.stop("check")
    return Denoising(denoiser, denoised, prepared, replace(report, seconds=clock.seconds))


def _prepare(
    stream: SpectrumStream, run: Run, asked: Asked, masks: Masks, pairs: Pairs, detector: np.ndarray | None
) -> tuple[CandidateData, float]:
    """Return what candidates are fitted to, on the principal and on a smooth basis, and the line width."""
    recordings, shape = PairedRecordings(pairs) if pairs else None, stream.navigation_shape
    regions = plan_sample(shape, sample_size(stream), masked=masks[0], seed=run.seed)
    wanted = np.zeros(shape, bool)
    for region in regions:
        wanted[region] = True
    how: dict[str, Any] = {"noise": asked.noise, "centre": asked.options.centre, "recordings": recordings}
    with run.progress.enter("Read and split", 0.8):
        plain = prepare(stream, run, masks=masks, sample=wanted.reshape(-1), **how)
    with run.progress.enter("Smooth the basis"):
        summary, noise = plain.summary, plain.estimate.model
        mean, n, channels = typical_mean(summary.sample), len(summary.sample), summary.channels
        width = line_width(mean, noise, n_spectra=n, channels=channels, detector=detector)
        smooth = smooth_basis(plain, 1, score=pca_errors, widest=_MOST_SMOOTHING * width)
        tiles = tiles_of(summary.sample_pixels, shape, regions)
        smooth = smooth if asked.context == "spectral" else basis_of_sums(smooth, tiles)
        if recordings:
            smooth = replace(smooth, draws=recordings.draws(smooth))
        elif asked.corruption != "split":
            smooth = replace(smooth, draws=corrupt(smooth, asked.corruption))
    return CandidateData(plain, smooth, tiles, asked.context, asked.options, run), width


def _learn(data: CandidateData, clock: Clock, **found: Any) -> tuple[FittedDenoiser, DenoiseReport]:
    """Fit and choose a denoiser; return it and the report, with further fields."""
    plain, progress = data.plain, data.run.progress
    with progress.enter("Fit candidates", _STAGES["fit"]):
        entries = fit_candidates(data)
    clock.stop("training")
    with progress.enter("Score candidates", _STAGES["score"]):
        validation, test = HeldOutError(plain, "validation"), HeldOutError(plain, "test")
        candidates = compare(entries, validation, test, progress)
        chosen = _choose(plain, candidates, entries)
        clean, basis = chosen.scores(), chosen.fold.basis
        found |= _quality(data.tiles, chosen, clean, validation, test)
        totals = clean @ basis.components().sum(axis=1) + basis.offset.sum()
        found["averaged"] = choose_width(plain, data.tiles, totals, alone=data.context == "spectral")
    clock.stop("scoring")
    with progress.enter("Fit to all counts", _STAGES["finish"]):
        denoiser = chosen.on_all_counts()
    clock.stop("final fit")
    history = chosen.history
    return denoiser, DenoiseReport(
        chosen=chosen.name,
        candidates=candidates,
        smoothing=data.smooth.smoothing,
        interrupted=any(entry.history.interrupted for entry in entries),
        context=data.context,
        n_components=chosen.fold.n_components,
        n_boxes=len(data.tiles.rows),
        n_steps=history.steps[-1] if history.steps else 0,
        **plain.facts(),
        **history.curve(),
        **found,
    )


def _choose(data: TrainingData, candidates: tuple[Candidate, ...], entries: list[Entry]) -> Entry:
    """Return the candidate with the best score on the validation fold."""
    # Without a valid hold-out scores favour what keeps the noise; the rank of PCA does not come from them.
    if data.hold_out == "none":
        return entries[-1]
    return min(zip(candidates, entries, strict=True), key=lambda pair: pair[0].validation_score)[1]


def _quality(tiles: Tiles, chosen: Entry, clean: np.ndarray, *held_out: HeldOutError) -> dict[str, Any]:
    """Return what denoising gains and costs, measured on the training fold and counts it has not seen."""
    data, fold = chosen.data, chosen.fold
    halves = [sum_of_parts(data, parts, fold.n_components)[0] for parts in _HALVES]
    first, second = (tiles.flat(fold.denoise(tiles.maps(scores), tiles.valid, data.fraction / 2)) for scores in halves)
    noise = 0.5 * float(np.square(first - second).sum(axis=1, dtype=np.float64).mean())
    residuals = [unseen.scores(fold.basis) - clean for unseen in held_out]
    errors = np.einsum("np,np->n", *residuals, dtype=np.float64)
    n_channels = len(fold.basis.weights)
    return {
        "noise_reduction": float(np.sqrt(2 * n_channels / data.fraction / max(noise, 1e-12 * n_channels))),
        "error": float(errors.mean()),
        "error_standard_error": float(errors.std() / np.sqrt(len(errors))),
        "error_variance": noise / 2,  # of the whole fold
        "signal_variance": float(clean.var(axis=0, dtype=np.float64).sum()),
    }


def denoise_own_map(
    stream: SpectrumStream, denoiser: FittedDenoiser, summary: MapSummary, width: float, noise: NoiseModel
) -> Denoised:
    """Denoise the spectra that a denoiser was fitted to; the file is read once.

    Parameters
    ----------
    stream
        The spectra.
    denoiser
        Fitted to all of their counts.
    summary
        Of the map.
    width
        Of the sharpest line, in channels.
    noise
        Noise model.
    """
    with stream.progress.enter("Project", 0.5):
        (scores,), _ = encode_map(stream, (denoiser,), summary.channels, summary.pixel_state)
    with stream.progress.enter("Denoise"):
        _denoise_scores(stream, denoiser, scores, summary.pixel_state == USED)
    return Denoised.of(denoiser.basis, noise, scores, summary.pixel_state, width)


def apply_denoiser(
    stream: SpectrumStream, denoiser: FittedDenoiser, *, channels: np.ndarray, noise: NoiseModel,
    mean: np.ndarray, masked: np.ndarray | None = None, detector: np.ndarray | None = None,
    protect: bool = True, averaged: float | None = None,
) -> Denoised:  # fmt: skip
    """Denoise the spectra of another map than the one of the training.

    They are scaled to the intensity of the training map; the noise of the map sets how strongly they are
    denoised. The file is read twice, and twice more where removed signal is restored.

    Parameters
    ----------
    stream
        The spectra.
    denoiser
        Fitted.
    channels
        (all channels,) bool, the channels that it uses; no others are looked at.
    noise, mean
        Noise model and (E in use,) mean spectrum of the training map.
    masked
        (*navigation,) bool, pixels to leave out.
    detector
        (all channels,) full width at half maximum of a line in channels, where the resolution is known.
    protect
        Whether removed signal that noise cannot explain is restored.
    averaged
        Width that was chosen for the training map: see `choose_width`.

    Raises
    ------
    TooFewSpectraError
        No spectrum can be used.
    NegativeCountsError
        The denoiser is one of counts, and the mean spectrum is not positive.
    """
    progress = stream.progress
    with progress.enter("Project", 0.4):
        (scores,), state = encode_new_map(stream, (denoiser,), channels, masked, method="denoise_dae")
    used = np.isin(state, (USED, SATURATED))
    here = _mean_spectrum(denoiser, scores[used], noise)
    ratio = _relative_intensity(here, mean, noise)
    width = line_width(here, noise, n_spectra=int(used.sum()), channels=channels, detector=detector)
    fitting = denoiser.with_noise(noise_along(denoiser.basis, noise, here) / ratio)
    with progress.enter("Denoise", 0.3):
        # As if the map were as bright as the training map, from the scores of a spectrum of zeros on: they
        # are not 0 for a basis about a mean spectrum.
        zero, scale = denoiser.basis.project(np.zeros((1, len(here)), np.float32)), np.float32(ratio)
        scores[used] = (scores[used] - zero) / scale + zero
        _denoise_scores(stream, fitting, scores, used)
        scores[used] = (scores[used] - zero) * scale + zero
    with progress.enter("Check"):
        denoised = Denoised.of(denoiser.basis, noise, scores, state, width, ratio)
        return check_removed(stream, denoised, noise, channels, protect=protect, width=averaged)


def _mean_spectrum(denoiser: FittedDenoiser, scores: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return the (E,) part of the mean spectrum of a map that the basis describes; refuse what has none."""
    mean = denoiser.basis.spectra(scores.mean(axis=0, dtype=np.float64)[None])[0]
    if noise.name == "poisson" and not mean.sum() > 0:
        raise NegativeCountsError(
            "denoise_dae(model=...): the model was trained on counts, but the mean spectrum of the signal "
            f"has a sum of {mean.sum():.3g}. Undo the background or dark subtraction, or train on such data."
        )
    return mean


def _denoise_scores(stream: SpectrumStream, denoiser: FittedDenoiser, scores: np.ndarray, used: np.ndarray) -> None:
    """Denoise (n_pixels, P) scores of the used pixels in place."""
    maps = np.where(used[:, None], scores, np.float32(0)).reshape(*stream.navigation_shape, -1)
    there = used.reshape(stream.navigation_shape)
    clean = denoiser.denoise_map(maps, there, stream.memory_budget, stream.progress)
    scores[used] = clean.reshape(scores.shape)[used]


def _relative_intensity(here: np.ndarray, mean: np.ndarray, noise: NoiseModel) -> float:
    """Return how much brighter a map is than the training map; 1 for noise that does not depend on it."""
    comparable = gain_of(noise) > 0 and here.sum() > 0 and mean.sum() > 0
    return float(here.sum() / mean.sum()) if comparable else 1.0
