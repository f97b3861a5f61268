"""Find what a reference model does not explain: learn it, scan the map, calibrate, describe the regions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._elements import EnergyAxis
from hyperspy_specml.anomaly._preparation import Preparation, Search
from hyperspy_specml.anomaly._regions import FoundRegion, PixelScores, find_regions
from hyperspy_specml.anomaly._score import pixel_scores, scan_map, score_pixels, with_null
from hyperspy_specml.anomaly._significance import equivalent_z, significant_log_p
from hyperspy_specml.decompose import Clock
from hyperspy_specml.run import Run

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._learn import Learnt
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._setup import ScanSetup
    from hyperspy_specml.prepare import Masks
    from hyperspy_specml.streaming import SpectrumStream


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
        The spectra; read three times, once more if their drift is measured, and once more if the reference
        model is an autoencoder. With a calibrated `reference` they are read twice.
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
    axis = axis or EnergyAxis(np.arange(stream.n_channels, dtype=float))
    preparation = Preparation(stream, search, run, reference, line_width, known, masks)
    shares, progress, clock = preparation.shares, run.progress, Clock()
    setup, learnt = preparation.prepare()
    clock.stop("reference model")
    spikes = np.empty((0, 4))
    with progress.enter("Scan", shares["scan"]):
        if preparation.scans:
            table, spikes = scan_map(setup, learnt.reference)
        else:
            scores = score_pixels(setup, learnt.reference, search.statistic)
    clock.stop("scan")
    if preparation.scans:
        with progress.enter("Calibrate", shares["null"]):
            learnt = replace(learnt, reference=with_null(setup, learnt.reference, table, run))
        scores = pixel_scores(setup, learnt.reference, table)
        clock.stop("null distribution")
    threshold, words = _threshold(scores, search, stream.navigation_shape)
    with progress.enter("Describe regions"):
        labels, regions = find_regions(setup, learnt.reference, scores, axis, threshold)
    clock.stop("regions")
    return Anomalies(scores, spikes, labels, regions, words, learnt, setup, clock.seconds)


def _threshold(scores: PixelScores, search: Search, shape: tuple[int, ...]) -> tuple[float, str]:
    """Return the score that a region has at least, as a number and in words."""
    if search.threshold is not None:
        return search.threshold, f"score of {search.threshold:g} or more"
    log_p = significant_log_p(scores.log_p.reshape(shape), fdr=search.fdr, reach=scores.reach)
    return float(equivalent_z(np.array(log_p))), f"false discovery rate of regions {search.fdr:g}"
