"""Prepare a search: read the map, plan the scan, and learn the reference model or take a given one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._learn import Learnt, learn_reference, measure_errors
from hyperspy_specml.anomaly._setup import ScanSetup, recorded_channels
from hyperspy_specml.anomaly._trimming import LearningTask
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.prepare import Masks, check_enough
from hyperspy_specml.statistics import NOISE_NAMES, NOT_FINITE, estimate_noise, summarise_map

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

STATISTICS = ("scan", "squared_error", "deviance", "rx")
# Components that are added where they cost little and scan lines may have drifted.
_N_SPARE = 2
# Relative difference of the sums of all counts up to which two maps are the same: rounding of other blocks.
_SAME = 1e-9
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

    def prepare(self) -> tuple[ScanSetup, Learnt]:
        """Read the map, and return how it is scanned and the reference model.

        Raises
        ------
        OptionError, TooFewSpectraError, NegativeCountsError, NotCountsError, TrainingDivergedError, Cancelled
            See `find_anomalies`.
        """
        return self._learn() if self.reference is None else self._apply(self.reference)

    def _learn(self) -> tuple[ScanSetup, Learnt]:
        search, progress = self.search, self.run.progress
        summary = self._read(self.masks[1])
        check_enough(summary, search.n_components or 1)
        noise = estimate_noise(summary.sample, noise=search.noise, minimum=summary.minimum).model
        setup = ScanSetup.of(self.stream, summary, summary.channels, self.line_width, noise)
        if self.aligns:
            with progress.enter("Align scan lines", self.shares["align"]):
                setup = setup.align_scan_lines(noise, self.known)
        task = replace(
            _task(setup, noise),
            n_components=search.n_components,
            # What only a scan line that drifted far shows, all patches together do not carry as a component.
            n_spare=_N_SPARE if setup.stream.drift is None else 0,
            known=None if self.known is None else setup.known_spectra(self.known),
            autoencoder=search.autoencoder,
            only_if_better=search.only_if_better,
        )
        with progress.enter("Sum patches", self.shares["patches"]):
            patches = setup.patches()
        with progress.enter("Learn the reference model", self.shares["learn"] + self.shares["train"]):
            learnt = learn_reference(patches, task, self.run)
        reference = replace(self._with_errors(setup, learnt.reference), total=float(summary.moments.sums.sum()))
        if (drift := setup.stream.drift) is not None:
            reference = replace(reference, drift_range=(int(drift.min()), int(drift.max())))
        return setup, replace(learnt, reference=reference)

    def _apply(self, reference: ReferenceModel) -> tuple[ScanSetup, Learnt]:
        # A channel that is dead here was not dead there.
        channels = np.ones(self.stream.n_channels, bool) if self.masks[1] is None else ~self.masks[1]
        recorded = recorded_channels(channels, reference.drift_range)
        summary = self._read(~recorded)
        check_enough(summary, 1)
        total = float(summary.moments.sums.sum())
        reference = replace(reference, applied=abs(total - reference.total) > _SAME * abs(total))
        if (summary.channel_state[channels] == NOT_FINITE).any():
            raise TooFewSpectraError(
                "anomaly_map(model=...): no spectrum can be used, as channels of the model are not finite. "
                "Train without such channels, signal_mask=..., or mend them."
            )
        if reference.null is None:
            setup = ScanSetup.of(self.stream, summary, channels, self.line_width, reference.noise)
        else:
            setup = ScanSetup.like_reference(self.stream, summary, channels, reference)
        if self.aligns:
            with self.run.progress.enter("Align scan lines", self.shares["align"]):
                setup = setup.align_to_reference(reference, recorded)
        if self.known is not None:
            reference = reference.with_reference_spectra(setup.known_spectra(self.known))
        return setup, Learnt(self._with_errors(setup, reference))

    def _read(self, signal_mask: np.ndarray | None) -> MapSummary:
        """Pass over the map once."""
        run = self.run
        with run.progress.enter("Read spectra", self.shares["read"]):
            return summarise_map(
                self.stream,
                navigation_mask=self.masks[0],
                signal_mask=signal_mask,
                seed=run.seed,
                kernel=run.config.kernel,
            )

    def _with_errors(self, setup: ScanSetup, reference: ReferenceModel) -> ReferenceModel:
        """Measure the errors of a model on this map, in one more pass, where the scan needs them."""
        if not self.scans or reference.model_error is not None:
            return reference
        with self.run.progress.enter("Measure errors", self.shares["errors"]):
            patches = setup.patches(beside=reference.coefficients, n_beside=reference.basis.n_vectors)
        return measure_errors(reference, patches, _task(setup, reference.noise))


def _task(setup: ScanSetup, noise: NoiseModel) -> LearningTask:
    width = setup.line_width[setup.channels]
    return LearningTask(noise, setup.windows, width, shift_smoothing=setup.shift_smoothing)
