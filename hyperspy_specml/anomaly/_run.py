"""Find what a reference model does not explain: learn it, scan the map, calibrate, describe the regions."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._elements import EnergyAxis
from hyperspy_specml.anomaly._learn import LearningTask, Learnt, learn_reference, measure_errors
from hyperspy_specml.anomaly._regions import find_regions
from hyperspy_specml.anomaly._score import pixel_scores, scan_map, score_pixels, with_null
from hyperspy_specml.anomaly._setup import WINDOW_WIDTHS, ScanSetup, recorded_channels, sharpest_width
from hyperspy_specml.anomaly._significance import equivalent_z, significant_log_p
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.prepare import Masks, check_enough
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import NOISE_NAMES, NOT_FINITE, USED, energy_windows, estimate_noise, summarise_map
from hyperspy_specml.streaming import shift_channels

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._regions import FoundRegion
    from hyperspy_specml.anomaly._score import PixelScores
    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

_logger = logging.getLogger(__name__)

STATISTICS = ("scan", "squared_error", "deviance", "rx")
# Components that are added where they cost little and scan lines may have drifted.
_N_SPARE = 2
# Relative difference of the sums of all counts up to which two maps are the same: rounding of other blocks.
_SAME = 1e-9
# Standard deviations of all values of a map between which squares and sums of them are far from the limits of single
# precision, and from the absolute constants of the scan.
_SIZES = 1e-6, 1e9
# Pixels of a line that this is measured on, at most; and pairs of neighbours that are compared, about.
_SEEN, _PAIRS = 256, 2048
# Correlation of the residuals of neighbouring pixels from which their noise is not independent; errors of models make
# smaller ones. Their standard deviations are clipped, and variances relative to the mean are no smaller.
_CORRELATED, _CLIPPED, _LEAST_WHITENED = 0.2, 4.0, 0.05
# Line widths, standard deviation of the Gaussian whose derivative shifted spectra are compared with.
_SHIFT_SMOOTHING = 1 / 16
# Seconds of the stages, measured on a map of 128 x 128 x 1024; only their ratios count, and a stage that is
# left out gives its time to the others.
_SECONDS = {"read": 1.2, "align": 0.7, "patches": 0.2, "learn": 4.0, "train": 6.0, "errors": 0.3}
_SECONDS |= {"scan": 4.0, "null": 7.0, "regions": 0.1}


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
        Trained beside PCA, and whether it is the reference model only where it is clearly better; None for
        PCA alone.
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
class Preparation:
    """A map, what is searched for in it, and what is known of it.

    Attributes
    ----------
    stream, search, run
        The spectra, what is searched for, and settings, seed and progress.
    reference
        Learnt elsewhere; None learns it from the map.
    line_width
        (whole axis,) full width at half maximum of a line, in channels; None estimates one width.
    known
        (N, whole axis) spectra that count as ordinary; NaN in channels where they are not known.
    masks
        Navigation and signal mask, True = masked.
    """

    stream: SpectrumStream
    search: Search
    run: Run
    reference: ReferenceModel | None = None
    line_width: np.ndarray | None = field(repr=False, default=None)
    known: np.ndarray | None = field(repr=False, default=None)
    masks: Masks = (None, None)

    def __post_init__(self) -> None:
        """Refuse known spectra beside a network."""
        linear = self.reference is None or self.reference.is_linear
        if self.known is not None and (self.search.autoencoder is not None or not linear):
            raise OptionError(
                "anomaly_map(known=...): known spectra can be added to a linear model, not to a network. Use "
                "architecture='pca', or the model of such a map."
            )

    @property
    def scans(self) -> bool:
        """Whether the statistic is the scan."""
        return self.search.statistic == "scan"

    @property
    def aligns(self) -> bool:
        """Whether scan lines may be moved; never where a detector gives the line width: it does not drift."""
        calibrated = self.reference is None or self.reference.null is not None
        return self.search.align and self.line_width is None and self.scans and calibrated

    @cached_property
    def shares(self) -> dict[str, float]:
        """Fraction of the time of each stage; 0 for those that are left out."""
        new, trains = self.reference is None, self.search.autoencoder is not None
        calibrated = self.reference is not None and self.reference.null is not None
        done = {"align": self.aligns, "patches": new, "learn": new, "train": new and trains}
        done |= {"errors": self.scans and not calibrated and (trains or not new)}
        done |= {"null": self.scans and not calibrated}
        times = {stage: time * done.get(stage, True) for stage, time in _SECONDS.items()}
        return {stage: time / sum(times.values()) for stage, time in times.items()}

    def learn(self) -> tuple[ScanSetup, Learnt]:
        """Read the map, and return how it is scanned and the reference model that is learnt from it."""
        search, progress = self.search, self.run.progress
        with progress.enter("Read spectra", self.shares["read"]):
            summary = self._read(self.masks[1])
            check_enough(summary, search.n_components or 1)
            noise = estimate_noise(summary.sample, noise=search.noise, minimum=summary.minimum).model
            setup = self._plan(summary, summary.channels, noise)
        if self.aligns:
            with progress.enter("Align scan lines", self.shares["align"]):
                setup = setup.align_scan_lines(noise, self.known)
        known = None if self.known is None else setup.known_spectra(self.known)
        # What only a scan line that drifted far shows, all patches together do not carry as a component.
        n_spare = _N_SPARE if setup.stream.drift is None else 0
        task = _task(setup, noise, n_components=search.n_components, n_spare=n_spare, known=known)
        task = replace(task, autoencoder=search.autoencoder, only_if_better=search.only_if_better)
        with progress.enter("Sum patches", self.shares["patches"]):
            patches = setup.patches(noise=noise)
        with progress.enter("Learn the reference model", self.shares["learn"] + self.shares["train"]):
            learnt = learn_reference(patches, task, self.run)
        reference = replace(self._with_errors(setup, learnt.reference), total=float(summary.moments.sums.sum()))
        if (drift := setup.stream.drift) is not None:
            reference = replace(reference, drift_range=(int(drift.min()), int(drift.max())))
        return setup, replace(learnt, reference=reference)

    def apply(self, reference: ReferenceModel) -> tuple[ScanSetup, Learnt]:
        """Read the map, and return how it is scanned and the given reference model."""
        # A channel that is dead here was not dead there.
        channels = np.ones(self.stream.n_channels, bool) if self.masks[1] is None else self.masks[1] == USED
        recorded = recorded_channels(channels, reference.drift_range)
        with self.run.progress.enter("Read spectra", self.shares["read"]):
            summary = self._read(~recorded)
        check_enough(summary, 1)
        total = float(summary.moments.sums.sum())
        reference = replace(reference, applied=abs(total - reference.total) > _SAME * abs(total))
        if (summary.channel_state[channels] == NOT_FINITE).any():
            raise TooFewSpectraError(
                "anomaly_map(model=...): no spectrum can be used, as channels of the model are not finite. "
                "Train without such channels, signal_mask=..., or mend them."
            )
        setup = self._plan(summary, channels, reference.noise, None if reference.null is None else reference)
        if self.aligns:
            with self.run.progress.enter("Align scan lines", self.shares["align"]):
                setup = setup.align_to_reference(reference, recorded)
        if self.known is not None:
            reference = reference.with_reference_spectra(setup.known_spectra(self.known))
        return setup, Learnt(self._with_errors(setup, reference))

    def _read(self, signal_mask: np.ndarray | None) -> MapSummary:
        """Pass over the map once."""
        mask, run = self.masks[0], self.run
        return summarise_map(
            self.stream, navigation_mask=mask, signal_mask=signal_mask, seed=run.seed, kernel=run.config.kernel
        )

    def _plan(
        self, summary: MapSummary, channels: np.ndarray, noise: NoiseModel, like: ReferenceModel | None = None
    ) -> ScanSetup:
        """Plan the scan with the windows of a reference model, or with those for a line width, known or estimated.

        Shifts are searched for as with the model; without one where no line width is known.
        """
        width, shifts, n_channels = self.line_width, self.line_width is None, self.stream.n_channels
        if like is not None and like.windows is not None and like.line_width is not None:
            width = np.interp(np.arange(n_channels), np.flatnonzero(channels), like.line_width)
            windows, shifts = like.windows, like.shift_scan is not None
        else:
            if width is None:
                width = np.full(n_channels, sharpest_width(summary, noise))
            windows = energy_windows(width, channels, factors=WINDOW_WIDTHS)
        return ScanSetup(self.stream, summary, summary.pixel_state == USED, channels, width, windows, shifts)

    def _with_errors(self, setup: ScanSetup, reference: ReferenceModel) -> ReferenceModel:
        """Measure the errors of a model on this map, in one more pass, where the scan needs them."""
        if not self.scans or reference.model_error is not None:
            return reference
        with self.run.progress.enter("Measure errors", self.shares["errors"]):
            patches = setup.patches(beside=reference.coefficients, n_beside=reference.basis.n_vectors)
        return measure_errors(reference, patches, _task(setup, reference.noise))


def _task(setup: ScanSetup, noise: NoiseModel, **more: Any) -> LearningTask:
    smoothing = max(1.0, _SHIFT_SMOOTHING * float(setup.line_width[0])) if setup.shifts else None
    return LearningTask(noise, setup.windows, setup.line_width[setup.channels], shift_smoothing=smoothing, **more)


@dataclass(frozen=True)
class Anomalies:
    """A searched map, as arrays.

    Attributes
    ----------
    scores, scanned
        Of all pixels: those shown, where pixels in and around regions are scored by what these look like, and those
        of the scan alone.
    spikes
        (m, 4) pixel, channel (of the whole axis), value and prediction of every channel that has one.
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
    scanned: PixelScores = field(repr=False)
    spikes: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    regions: tuple[FoundRegion, ...]
    threshold: str
    learnt: Learnt
    setup: ScanSetup
    seconds: dict[str, float]

    def rescaled(self, unit: float) -> Anomalies:
        """Return the same in another unit of the spectra, of which `unit` make one of this."""
        size = ("excess", "spectrum", "residual")
        regions = tuple(replace(one, **{name: getattr(one, name) * unit for name in size}) for one in self.regions)
        learnt = replace(self.learnt, reference=self.learnt.reference.rescaled(unit))
        summary = self.setup.summary
        summary = replace(summary, moments=replace(summary.moments, sums=summary.moments.sums * unit))
        spikes, setup = self.spikes * (1, 1, unit, unit), replace(self.setup, summary=summary)
        return replace(self, spikes=spikes, regions=regions, learnt=learnt, setup=setup)


def find_anomalies(
    stream: SpectrumStream, search: Search | None = None, run: Run | None = None, *,
    line_width: np.ndarray | None = None, axis: EnergyAxis | None = None,
    reference: ReferenceModel | None = None, known: np.ndarray | None = None, masks: Masks = (None, None),
) -> Anomalies:  # fmt: skip
    """Search a map for what a reference model does not explain.

    Parameters
    ----------
    stream
        The spectra; read three times and a few lines a fourth time, once more if their drift is measured, and
        once more if the reference model is an autoencoder. With a calibrated `reference` they are read twice.
    search
        What is searched for.
    run
        Settings, seed, device and progress.
    line_width
        (whole axis,) full width at half maximum of a line, in channels; None estimates one width.
    axis
        Energies of the channels, and lines of the elements; None counts channels and names no elements.
    reference
        Learnt elsewhere, on the channels that the signal mask leaves; None learns it from the map. A
        calibrated one is used with its errors and its null distribution as they are.
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
    if search.statistic == STATISTICS[0] and (unit := _unit_of(stream)) != 1:
        known = None if known is None else known / unit
        reference = None if reference is None else reference.rescaled(1 / unit)
        given: Any = {"line_width": line_width, "axis": axis, "reference": reference, "known": known, "masks": masks}
        return find_anomalies(replace(stream, unit=unit), search, run, **given).rescaled(unit)
    axis = axis or EnergyAxis(np.arange(stream.n_channels, dtype=float))
    preparation = Preparation(stream, search, run, reference, line_width, known, masks)
    shares, progress, clock = preparation.shares, run.progress, Clock()
    setup, learnt = preparation.learn() if reference is None else preparation.apply(reference)
    clock.stop("reference model")
    spikes = np.empty((0, 4))
    with progress.enter("Scan", shares["scan"]):
        if preparation.scans:
            if reference is None:
                _warn_of_neighbours(setup, learnt.reference)
            table, spikes = scan_map(setup, learnt.reference)
        else:
            scores = score_pixels(setup, learnt.reference, search.statistic)
    clock.stop("scan")
    if preparation.scans:
        with progress.enter("Calibrate", shares["null"]):
            learnt = replace(learnt, reference=with_null(setup, learnt.reference, table, run))
            scores = pixel_scores(setup, learnt.reference, table)
        clock.stop("null distribution")
    with progress.enter("Describe regions"):
        threshold, least, words = _threshold(scores, search, stream.navigation_shape)
        shown, labels, regions = find_regions(setup, learnt.reference, scores, axis, (threshold, least), spikes)
    clock.stop("regions")
    return Anomalies(shown, scores, spikes, labels, regions, words, learnt, setup, clock.seconds)


def _warn_of_neighbours(setup: ScanSetup, reference: ReferenceModel) -> None:
    """Say in the log where residuals of neighbouring pixels correlate: their sums are then no evidence."""
    pixels, length = setup.summary.sample_pixels, setup.stream.navigation_shape[-1]
    first = np.flatnonzero((np.diff(pixels) == 1) & (pixels[1:] % length != 0))
    first = first[:: max(1, len(first) // _PAIRS)]
    here, beside = (_whitened_residuals(setup, reference, first + k) for k in (0, 1))
    power = float(np.sqrt(np.square(here).sum() * np.square(beside).sum()))
    correlation = float((here * beside).sum()) / power if power else 0.0
    if correlation > _CORRELATED:
        _logger.warning(
            "anomaly_map(): Search the raw counts instead. Residuals of neighbouring pixels correlate by %.2f, as "
            "after shifting, filtering or summing neighbours: regions may be false.",
            correlation,
        )


def _whitened_residuals(setup: ScanSetup, reference: ReferenceModel, some: np.ndarray) -> np.ndarray:
    """Return (n, E in use) residuals of some sampled spectra over their noise, clipped against rare ones."""
    summary, drift = setup.summary, setup.stream.drift
    pixels, rows = summary.sample_pixels[some], np.zeros((len(some), setup.stream.n_channels))
    rows[:, summary.channels] = summary.sample[some]
    if drift is not None:
        rows = shift_channels(rows, -drift[pixels // setup.stream.navigation_shape[-1]])
    rows = rows[:, setup.channels]
    model, coefficients = reference.scan_model(), reference.coefficients(rows)
    expected = coefficients @ model.spectra + model.offset
    variance = reference.noise.variance(expected)
    spread = np.sqrt(np.maximum(variance, _LEAST_WHITENED * variance.mean()))
    residual = np.clip((rows - expected) / np.maximum(spread, 1e-300), -_CLIPPED, _CLIPPED)
    return np.asarray(residual * setup.used[pixels][:, None])


def _unit_of(stream: SpectrumStream) -> float:
    """Return the unit in which spectra are searched: 1, or their own size where its squares leave single precision."""
    if stream.unit != 1 or stream.array.dtype.kind != "f":
        return 1.0
    middle: Any = (*(n // 2 for n in stream.navigation_shape[:-1]), slice(_SEEN))
    line = np.asarray(stream.array[middle], np.float64)
    line = line[np.isfinite(line)]
    size = float(line.std()) if line.size else 0.0
    inside = _SIZES[0] < size < _SIZES[1] or not 0 < size < np.inf
    return 1.0 if inside else float(2.0 ** np.round(np.log2(size)))


def relabel(found: Anomalies, fdr: float, axis: EnergyAxis, progress: Progress) -> Anomalies:
    """Return the regions of a searched map for another false discovery rate; only their spectra are read.

    Parameters
    ----------
    found
        The searched map.
    fdr
        Accepted fraction of false regions.
    axis
        Energies, and the lines of all elements.
    progress
        Follows the reading.

    Raises
    ------
    OptionError
        An impossible fraction.
    """
    stream = replace(found.setup.stream, progress=progress)
    setup, search = replace(found.setup, stream=stream), Search(fdr=fdr)
    threshold, least, words = _threshold(found.scanned, search, stream.navigation_shape)
    reference, spikes = found.learnt.reference, found.spikes
    scores, labels, regions = find_regions(setup, reference, found.scanned, axis, (threshold, least), spikes)
    return replace(found, scores=scores, labels=labels, regions=regions, threshold=words)


def _threshold(scores: PixelScores, search: Search, shape: tuple[int, ...]) -> tuple[float, float, str]:
    """Return the score by which regions are found, the least of a pixel that is shown, and words for both."""
    found, least = np.inf, search.threshold
    if search.statistic == "scan":
        log_p = significant_log_p(scores.log_p.reshape(shape), fdr=search.fdr, reach=scores.reach)
        found = float(equivalent_z(np.array(log_p)))
    if least is None:
        return found, -np.inf, f"false discovery rate of regions {search.fdr:g}"
    return min(found, least), least, f"score of {least:g} or more"
