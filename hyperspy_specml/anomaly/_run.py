"""Find what a reference model does not explain: learn the model, scan the map, calibrate, describe the regions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._elements import EnergyAxis
from hyperspy_specml.anomaly._learn import Learnt, learn_reference, measure_errors
from hyperspy_specml.anomaly._regions import FoundRegion, PixelScores, find_regions
from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.anomaly._scan_map import N_FOUND, PixelBlock, ScanBlock, draw_null
from hyperspy_specml.anomaly._setup import ScanSetup, recorded_channels
from hyperspy_specml.anomaly._significance import LARGEST_LOG_P, equivalent_z, significant_log_p
from hyperspy_specml.anomaly._spikes import SpikeFinder
from hyperspy_specml.anomaly._trimming import LearningTask
from hyperspy_specml.decompose import Clock
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.prepare import check_enough
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import EMPTY, NOISE_NAMES, NOT_FINITE, estimate_noise, summarise_map
from hyperspy_specml.streaming import map_with_halo

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.prepare import Masks
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

STATISTICS = ("scan", "squared_error", "deviance", "rx")
# Radii of the squares of pixels.
RADII = (0, 1, 2)
# Components that are added where they cost little and scan lines may have drifted.
_N_SPARE = 2
# |z| above which a pixel is not drawn from: the model does not describe it, and may even expect negative counts.
_NOT_DESCRIBED = 10.0
# Times of the stages relative to each other, measured on maps of 128 x 128 x 1024; a stage that is left out gives its
# time to the others.
_STAGES = {
    "read": 1.0, "align": 1.0, "patches": 1.0, "learn": 3.0, "train": 12.0, "errors": 1.0, "scan": 10.0, "null": 5.0,
    "regions": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Search:
    """What is searched for, and how.

    Attributes
    ----------
    statistic
        "scan", or per pixel "squared_error", "deviance" or "rx", which are not calibrated.
    fdr, threshold
        Accepted fraction of false regions; or the smallest score of a region, instead.
    n_components
        Of the reference model; None chooses by held-out score.
    autoencoder, only_if_better
        Trained beside PCA, and whether it is the reference model only where it is clearly better; None for PCA alone.
    noise
        See `statistics.estimate_noise`.
    align
        Take a drift of scan lines back where line widths are estimated and the statistic is the scan.
    """

    statistic: str = "scan"
    fdr: float = 0.01
    threshold: float | None = None
    n_components: int | None = None
    autoencoder: Autoencoder | None = None
    only_if_better: bool = False
    noise: str = "auto"
    align: bool = True

    def __post_init__(self) -> None:
        """Refuse impossible options.

        Raises
        ------
        OptionError
            An unknown statistic or noise model, or an impossible limit.
        """
        if self.statistic not in STATISTICS:
            raise OptionError.unknown("statistic", self.statistic, STATISTICS)
        if self.noise not in NOISE_NAMES:
            raise OptionError.unknown("noise", self.noise, NOISE_NAMES)
        if not (isinstance(self.fdr, Real) and 0 < self.fdr < 1):
            raise OptionError(f"anomaly_map(fdr={self.fdr!r}) must lie between 0 and 1, e.g. fdr=0.05.")
        if self.threshold is not None and not isinstance(self.threshold, Real):
            raise OptionError(f"anomaly_map(threshold={self.threshold!r}) must be a number, e.g. threshold=5.")
        if self.threshold is None and self.statistic != "scan":
            raise OptionError(
                f"anomaly_map(statistic={self.statistic!r}): only the scan has a known error rate. Say where "
                "regions begin with threshold=...; threshold=float('inf') gives the map alone."
            )


@dataclass(frozen=True)
class Anomalies:
    """A searched map, as arrays.

    Attributes
    ----------
    scores
        Of all pixels.
    spikes
        (m, 4) pixel, channel (of the whole axis), value and prediction.
    labels, regions
        Map of labels, and the regions, the strongest first.
    threshold
        Score that regions have at least, in words.
    learnt
        The reference model, calibrated where the statistic is the scan, and how it was learnt.
    setup
        The map, its channels and windows. All channels are those of moved spectra, but for those of `spikes`.
    seconds
        Time of each stage.
    """

    scores: PixelScores
    spikes: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    regions: tuple[FoundRegion, ...]
    threshold: str
    learnt: Learnt
    setup: ScanSetup
    seconds: dict[str, float]


def find_anomalies(
    stream: SpectrumStream, search: Search | None = None, run: Run | None = None, *,
    line_width: np.ndarray | None = None, axis: EnergyAxis | None = None,
    reference: ReferenceModel | None = None, known: np.ndarray | None = None, masks: Masks = (None, None),
) -> Anomalies:  # fmt: skip
    """Search a map for what a reference model does not explain.

    Parameters
    ----------
    stream
        The spectra; read three times, once more if their drift is measured, and once more if the reference model is an
        autoencoder. With a calibrated `reference` they are read twice.
    search
        What is searched for.
    run
        Settings, seed, device and progress.
    line_width
        (whole axis,) full width at half maximum of a line, in channels; None estimates one width.
    axis
        Energies of the channels, and lines of the elements; None counts channels and names no elements.
    reference
        Learnt elsewhere, on the channels that the signal mask leaves; None learns it from the map. A calibrated one
        is used with its errors and its null distribution as they are.
    known
        (N, whole axis) spectra that count as ordinary; NaN in channels where they are not known.
    masks
        Navigation and signal mask, True = masked.

    Raises
    ------
    OptionError
        Known spectra that lack channels of the map.
    TooFewSpectraError, NegativeCountsError, NotCountsError
        See `prepare`.
    TrainingDivergedError
        An autoencoder that is needed diverged.
    Cancelled
        The progress was asked to end the call before or after a network was trained.
    """
    search, run = search or Search(), run or Run()
    axis = axis or EnergyAxis(np.arange(stream.n_channels, dtype=float))
    shares, clock = _shares(search, reference, line_width), Clock()
    if reference is None:
        setup, learnt = _learn(stream, search, run, shares, line_width, known, masks)
    else:
        setup, learnt = _apply(stream, search, run, shares, line_width, known, masks, reference)
    clock.stop("reference model")
    spikes = np.empty((0, 4))
    if search.statistic == "scan":
        with run.progress.enter("Scan", shares["scan"]):
            table, spikes = _scan_map(setup, learnt.reference)
        clock.stop("scan")
        with run.progress.enter("Calibrate", shares["null"]):
            learnt = replace(learnt, reference=_calibrated(setup, learnt.reference, table, run))
        scores = _pixel_scores(setup, learnt.reference, table)
        clock.stop("null distribution")
    else:
        with run.progress.enter("Score pixels", shares["scan"]):
            scores = _score_pixels(setup, learnt.reference, search.statistic)
        clock.stop("score")
    threshold, words = _threshold(scores, search, stream.navigation_shape)
    with run.progress.enter("Describe regions"):
        labels, regions = find_regions(setup, learnt.reference, scores, axis, threshold)
    clock.stop("regions")
    return Anomalies(scores, spikes, labels, regions, words, learnt, setup, clock.seconds)


def _shares(
    search: Search, reference: ReferenceModel | None, line_width: np.ndarray | None
) -> dict[str, float]:
    """Return the fraction of the time of each stage; 0 for those that are left out."""
    scan, new, calibrated = search.statistic == "scan", reference is None, _is_calibrated(reference)
    done = {
        "read": True,
        "align": _aligns(search, line_width) and (new or calibrated),
        "patches": new,
        "learn": new,
        "train": new and search.autoencoder is not None,
        "errors": scan and not calibrated and not (new and search.autoencoder is None),
        "scan": True,
        "null": scan and not calibrated,
        "regions": True,
    }
    whole = sum(time for stage, time in _STAGES.items() if done[stage])
    return {stage: done[stage] * time / whole for stage, time in _STAGES.items()}


def _aligns(search: Search, line_width: np.ndarray | None) -> bool:
    """Return whether scan lines are aligned: not where the line width is that of a calibrated detector."""
    return search.align and line_width is None and search.statistic == "scan"


def _is_calibrated(reference: ReferenceModel | None) -> bool:
    return reference is not None and reference.null is not None


def _read(
    stream: SpectrumStream, run: Run, shares: dict[str, float], masks: Masks, channels: np.ndarray | None,
    n_needed: int = 1,
) -> MapSummary:  # fmt: skip
    """Pass over the map once, and refuse one that cannot be searched in the channels of a model."""
    with run.progress.enter("Read spectra", shares["read"]):
        summary = summarise_map(
            stream, navigation_mask=masks[0], signal_mask=masks[1], seed=run.seed, kernel=run.config.kernel
        )
    check_enough(summary, n_needed)
    if channels is not None and (summary.channel_state[channels] == NOT_FINITE).any():
        raise TooFewSpectraError(
            "anomaly_map(model=...): no spectrum can be used, as channels of the model are not finite. Train "
            "without such channels, signal_mask=..., or mend them."
        )
    return summary


def _learn(
    stream: SpectrumStream, search: Search, run: Run, shares: dict[str, float], line_width: np.ndarray | None,
    known: np.ndarray | None, masks: Masks,
) -> tuple[ScanSetup, Learnt]:  # fmt: skip
    """Plan the scan, and learn the reference model from the map."""
    summary = _read(stream, run, shares, masks, None, search.n_components or 1)
    noise = estimate_noise(summary.sample, noise=search.noise, minimum=summary.minimum).model
    setup = ScanSetup.of(stream, summary, summary.channels, line_width, noise)
    if _aligns(search, line_width):
        with run.progress.enter("Align scan lines", shares["align"]):
            setup = setup.align_scan_lines(noise, known)
    phases = None if known is None else setup.known_spectra(known)
    with run.progress.enter("Sum patches", shares["patches"]):
        patches = setup.patches()
    # What only a scan line that drifted far shows, all patches together do not carry as a component.
    n_spare = _N_SPARE if setup.stream.drift is None else 0
    task = replace(
        _task(setup, noise), n_components=search.n_components, n_spare=n_spare, known=phases,
        autoencoder=search.autoencoder if known is None else None, only_if_better=search.only_if_better,
    )  # fmt: skip
    with run.progress.enter("Learn the reference model", shares["learn"] + shares["train"]):
        learnt = learn_reference(patches, task, run)
    if search.statistic == "scan" and learnt.reference.model_error is None:
        learnt = replace(learnt, reference=_with_errors(setup, learnt.reference, run, shares))
    drift = setup.stream.drift
    span = (0, 0) if drift is None else (int(drift.min()), int(drift.max()))
    return setup, replace(learnt, reference=replace(learnt.reference, drift_range=span))


def _apply(
    stream: SpectrumStream, search: Search, run: Run, shares: dict[str, float], line_width: np.ndarray | None,
    known: np.ndarray | None, masks: Masks, reference: ReferenceModel,
) -> tuple[ScanSetup, Learnt]:  # fmt: skip
    """Plan the scan with a reference model that was learnt elsewhere."""
    # A channel that is dead here was not dead there.
    channels = np.ones(stream.n_channels, bool) if masks[1] is None else ~masks[1]
    if _is_calibrated(reference):
        recorded = recorded_channels(channels, reference.drift_range)
        summary = _read(stream, run, shares, (masks[0], ~recorded), channels)
        setup = ScanSetup.like_reference(stream, summary, channels, reference)
        if _aligns(search, line_width):
            with run.progress.enter("Align scan lines", shares["align"]):
                setup = setup.align_to_reference(reference, recorded)
    else:
        summary = _read(stream, run, shares, masks, channels)
        setup = ScanSetup.of(stream, summary, channels, line_width, reference.noise)
    if known is not None:
        reference = reference.with_reference_spectra(setup.known_spectra(known))
    if search.statistic == "scan" and reference.model_error is None:
        reference = _with_errors(setup, reference, run, shares)
    return setup, Learnt(reference)


def _task(setup: ScanSetup, noise: NoiseModel) -> LearningTask:
    width = setup.line_width[setup.channels]
    return LearningTask(noise, setup.windows, width, shift_smoothing=setup.shift_smoothing)


def _with_errors(
    setup: ScanSetup, reference: ReferenceModel, run: Run, shares: dict[str, float]
) -> ReferenceModel:
    """Measure the errors that a model has on this map, in one more pass."""
    with run.progress.enter("Measure errors", shares["errors"]):
        patches = setup.patches(beside=reference.coefficients, n_beside=reference.basis.n_vectors)
    return measure_errors(reference, patches, _task(setup, reference.noise))


def _scan_map(setup: ScanSetup, reference: ReferenceModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n_pixels, 6 + D) table of `scan_rows`, and the (m, 4) spikes."""
    stream, used, channels = setup.stream, setup.used, setup.channels
    scan = _scan(setup, reference)
    finder = SpikeFinder(scan.model, setup.line_width[channels], setup.n_values)
    block = ScanBlock(scan, reference, finder, setup.partial_spikes(reference.noise), channels, used)
    parts = map_with_halo(stream, block, halo=scan.halo, label="Scan")
    table = np.full((stream.n_pixels, N_FOUND + len(scan.model.spectra)), np.nan, np.float32)
    for pixels, (values, _) in parts:
        table[pixels] = values
    spikes = np.concatenate([spikes for _, (_, spikes) in parts])
    if stream.drift is not None:
        spikes[:, 1] += stream.drift[spikes[:, 0].astype(int) // stream.navigation_shape[-1]]
    return table, spikes[np.lexsort(spikes.T[1::-1])]


def _scan(setup: ScanSetup, reference: ReferenceModel) -> Scan:
    return Scan(reference.scan_model(), setup.windows, RADII, reference.model_error)


def _calibrated(setup: ScanSetup, reference: ReferenceModel, table: np.ndarray, run: Run) -> ReferenceModel:
    """Return the model with its null distribution: from drawn maps, adapted to the ordinary pixels of this one."""
    if _is_calibrated(reference):
        return reference
    used, shape = setup.used, setup.stream.navigation_shape
    z, _, _, expected, shift, _ = np.nan_to_num(table[:, :N_FOUND]).T
    described = used & (np.maximum(np.abs(z), np.abs(shift)) < _NOT_DESCRIBED)
    if 2 * described.sum() < used.sum():
        described = used
    scan, coefficients = _scan(setup, reference), table[:, N_FOUND:].reshape(*shape, -1)
    nulls = draw_null(scan, reference, coefficients, described.reshape(shape), run=run)
    maps, reach = (expected.reshape(shape), used.reshape(shape)), 2 * scan.halo + 1
    null, shift_null = (
        one and one.adapted_to(np.abs(values).reshape(shape), *maps, reach)
        for one, values in zip(nulls, (z, shift), strict=True)
    )
    return replace(reference, null=null, shift_null=shift_null)


def _pixel_scores(setup: ScanSetup, reference: ReferenceModel, table: np.ndarray) -> PixelScores:
    """Return the p-values of the scan: those of windows, and of shifts where they are smaller."""
    assert reference.null is not None
    z, window, which, expected, shift, shift_which = np.nan_to_num(table[:, :N_FOUND]).T
    log_p = reference.null.log_p(np.abs(z), expected)
    if reference.shift_null is not None:
        log_p_shift = reference.shift_null.log_p(np.abs(shift), expected)
        which = np.where(log_p_shift < log_p, shift_which, which)
        log_p = np.minimum(log_p, log_p_shift)
        log_p += np.log(2 - np.exp(log_p))  # of the smaller one of two
    log_p = np.where(setup.used, log_p, np.nan)
    log_p[setup.summary.pixel_state == EMPTY] = 0.0
    score = equivalent_z(np.minimum(log_p, LARGEST_LOG_P))
    radius = np.array(RADII)[which.astype(int)]
    return PixelScores(table[:, 0], log_p, score, window.astype(int), radius, table[:, N_FOUND:])


def _score_pixels(setup: ScanSetup, reference: ReferenceModel, statistic: str) -> PixelScores:
    """Score every pixel by itself, as the literature does."""
    block = PixelBlock(reference, setup.channels, setup.summary.moments.mean.mean(), statistic)
    table = setup.stream.map_rows(block, n_columns=1 + reference.basis.n_vectors, label="Score pixels")
    table[~setup.used] = np.nan
    score, coefficients = table[:, 0].astype(np.float64), table[:, 1:]
    if statistic == "rx":
        centred = coefficients - coefficients[setup.used].mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(centred[setup.used].T)), hermitian=True)
        score = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    nothing, zeros = np.full(len(score), np.nan, np.float32), np.zeros(len(score), int)
    return PixelScores(nothing, nothing, score, zeros, zeros, coefficients)


def _threshold(scores: PixelScores, search: Search, shape: tuple[int, ...]) -> tuple[float, str]:
    """Return the score that a region has at least, as a number and in words."""
    if search.threshold is not None:
        return search.threshold, f"score of {search.threshold:g} or more"
    log_p = significant_log_p(scores.log_p.reshape(shape), fdr=search.fdr, reach=scores.reach)
    return float(equivalent_z(np.array(log_p))), f"false discovery rate of regions {search.fdr:g}"
