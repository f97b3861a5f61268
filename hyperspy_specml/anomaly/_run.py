"""Find what a model of the normal does not explain: learn, scan, calibrate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._calibrate import calibrate
from hyperspy_specml.anomaly._learn import learn_normal
from hyperspy_specml.anomaly._null import NullFit, equivalent_z
from hyperspy_specml.anomaly._pixel_scores import PixelBlock
from hyperspy_specml.anomaly._reference import Normal, adapt_normal
from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.anomaly._scan_block import ScanBlock
from hyperspy_specml.anomaly._setup import Given
from hyperspy_specml.anomaly._spikes import SpikeFinder
from hyperspy_specml.anomaly._windows import Windows
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.prepare import check_enough
from hyperspy_specml.statistics import (
    EMPTY,
    NOISE_NAMES,
    NOT_FINITE,
    MapSummary,
    NoiseModel,
    estimate_noise,
    summarise_map,
)
from hyperspy_specml.streaming import map_with_halo

if TYPE_CHECKING:
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.streaming import SpectrumStream

NORMALS = ("pca", "dense", "auto")
STATISTICS = ("scan", "squared_error", "deviance", "rx")
HALVES = (0, 1, 2)  # half sizes of the squares of pixels
_N_FOUND = 6  # columns before the coefficients, see `scan_rows`
_SPARE = 2  # components, where lines may have drifted
_STRANGE = 10.0  # |z|: there the model says nothing that could be drawn; it may even expect less than nothing


@dataclass(frozen=True)
class Anomalies:
    """A scanned map, as arrays over its n pixels; E channels in use.

    Attributes
    ----------
    z
        (n,) scan maximum, negative for a deficit of counts; NaN where a pixel is not used.
    log_p, score
        (n,) logarithm of the p-value, corrected for all windows searched, and the normal deviate of it. Of
        other statistics than the scan the score is the plain value, and p is NaN.
    window, half
        (n,) index of the strongest window of energy, and half the size of the square of pixels.
    coefficients
        (n, D) of the model of the normal.
    spikes
        (m, 4) pixel, channel (of the whole axis), value and prediction.
    channels, line_width
        (whole axis,) bool channels in use, and the width of a line there in channels.
    windows, normal, summary, statistic
        What it was made with.
    drift
        (lines,) channels by which each scan line was moved back before all this; None where none was. All
        channels are those of moved spectra, but for those of `spikes`.
    null
        Distribution of maxima without anomalies.
    seconds
        Time of each stage.
    """

    z: np.ndarray = field(repr=False)
    log_p: np.ndarray = field(repr=False)
    score: np.ndarray = field(repr=False)
    window: np.ndarray = field(repr=False)
    half: np.ndarray = field(repr=False)
    coefficients: np.ndarray = field(repr=False)
    spikes: np.ndarray = field(repr=False)
    channels: np.ndarray = field(repr=False)
    line_width: np.ndarray = field(repr=False)
    windows: Windows = field(repr=False)
    normal: Normal
    summary: MapSummary = field(repr=False)
    statistic: str
    null: NullFit | None
    drift: np.ndarray | None = field(repr=False, default=None)
    seconds: dict[str, float] = field(default_factory=dict)


def find_anomalies(
    stream: SpectrumStream,
    line_width: np.ndarray | None,
    *,
    statistic: str = "scan",
    normal: Normal | None = None,
    n_components: int | None = None,
    architecture: str = "pca",
    known: np.ndarray | None = None,
    drift: bool = True,
    noise: str = "auto",
    masks: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    config: TrainConfig,
    seed: int = 0,
) -> Anomalies:
    """Scan a map for what is not normal in it.

    Parameters
    ----------
    stream
        The spectra; read three times, and once more if their drift is measured, and if the model of the
        normal is an autoencoder.
    line_width
        (whole axis,) full width at half maximum of a line, in channels; None estimates one width.
    statistic
        "scan", or per pixel "squared_error", "deviance" or "rx" (not calibrated).
    normal
        Learnt elsewhere, on the channels that the signal mask leaves; by default learnt from the map.
    n_components
        Of the model of the normal; None chooses by held-out score.
    architecture
        Of the model of the normal: "pca", "dense", or "auto", which takes the one that describes patches
        better.
    known
        (N, whole axis) spectra that count as normal; NaN in channels that are not known.
    drift
        Take a drift of scan lines back, if `line_width` is None, `normal` too, and the statistic is the scan.
    noise, masks, config, seed
        As in `decompose`.

    Raises
    ------
    OptionError
        Unknown statistic, architecture or noise; known spectra that lack channels of the map, or beside an
        autoencoder.
    TooFewSpectraError, NegativeCountsError, NotCountsError
        See `prepare`.
    """
    if statistic not in STATISTICS:
        raise OptionError.unknown("statistic", statistic, STATISTICS)
    if noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    if architecture not in NORMALS:
        raise OptionError.unknown("architecture", architecture, NORMALS)
    if architecture == "dense" and known is not None:
        raise OptionError(
            "anomaly_map(known=..., architecture='dense'): known spectra can be added to a linear model, not "
            "to a network. Use architecture='pca'."
        )
    start = time.perf_counter()
    summary = summarise_map(
        stream, navigation_mask=masks[0], signal_mask=masks[1], seed=seed, kernel=config.kernel
    )
    channels = summary.channels
    if normal is not None:  # a channel that is dead here was not dead there
        channels = np.ones(stream.n_channels, bool) if masks[1] is None else ~masks[1]
    _check(summary, channels, n_components or 1)
    model = (
        normal.noise if normal else estimate_noise(summary.sample, noise=noise, minimum=summary.minimum).model
    )
    given = Given.of(stream, summary, channels, line_width, model)
    if drift and line_width is None and normal is None and statistic == "scan":
        given = given.steady(model, known)
    phases = None if known is None else given.phases(known)
    if normal is None:
        normal = _learnt(
            given, model, n_components=n_components, known=phases, seed=seed, config=config,
            architecture=architecture if known is None else "pca",
        )  # fmt: skip
    elif phases is not None:
        normal = normal.knowing(phases)
    if statistic == "scan" and normal.misfit is None:  # no other statistic allows for errors of the model
        normal = _adapted(given, normal)
    begun = {"normal": time.perf_counter() - start}
    if statistic != "scan":
        return _score_pixels(given, normal, statistic, begun)
    return _scan_map(given, normal, begun, seed=seed)


def _anomalies(given: Given, **found: Any) -> Anomalies:
    """Return the result with these arrays; what is not given does not exist for the statistic."""
    nothing = np.full(given.stream.n_pixels, np.nan, np.float32)
    zeros = np.zeros(given.stream.n_pixels, int)
    missing = {
        "z": nothing, "log_p": nothing, "window": zeros, "half": zeros, "spikes": np.empty((0, 4)),
        "null": None,
    }  # fmt: skip
    return Anomalies(
        **missing | found, channels=given.channels, line_width=given.line_width, windows=given.windows,
        summary=given.summary, drift=given.stream.drift,
    )  # fmt: skip


def _learnt(given: Given, noise: NoiseModel, **options: Any) -> Normal:
    sums, counts = given.patches()
    # What only one scan line shows, that drifted far, all patches together do not tell.
    spare = _SPARE if given.stream.drift is None else 0
    return learn_normal(
        sums, counts, noise, given.windows, side=given.side, spare=spare, width=given.width, **options
    )


def _adapted(given: Given, normal: Normal) -> Normal:
    sums, counts = given.patches(beside=normal.coefficients, n_beside=normal.model.basis.n_vectors)
    return adapt_normal(normal, sums, counts, given.windows, side=given.side, width=given.width)


def _scan_map(given: Given, normal: Normal, seconds: dict[str, float], *, seed: int) -> Anomalies:
    start = time.perf_counter()
    stream, used, channels = given.stream, given.used, given.channels
    scan = Scan(normal.scan_model(), given.windows, HALVES, normal.misfit)
    n_values = int(used.sum()) * int(channels.sum())
    finder = SpikeFinder(scan.model, given.line_width[channels], n_values)
    block = ScanBlock(scan, normal, finder, given.rims(normal.noise, n_values), channels, used)
    parts = map_with_halo(stream, block, halo=scan.halo, label="Scan")
    table = np.full((stream.n_pixels, _N_FOUND + len(scan.model.spectra)), np.nan, np.float32)
    for pixels, (values, _) in parts:
        table[pixels] = values
    spikes = np.concatenate([spikes for _, (_, spikes) in parts])
    if stream.drift is not None:
        spikes[:, 1] += stream.drift[spikes[:, 0].astype(int) // stream.navigation_shape[-1]]
    scanned = time.perf_counter()
    z, window, size, dose, shift, shift_size = np.nan_to_num(table[:, :_N_FOUND]).T
    calm = used & (np.maximum(np.abs(z), np.abs(shift)) < _STRANGE)
    if 2 * calm.sum() < used.sum():
        calm = used
    shape = stream.navigation_shape
    nulls = calibrate(scan, normal, table[:, _N_FOUND:], calm, shape, seed=seed)
    dose_map, used_map, reach = dose.reshape(shape), used.reshape(shape), 2 * scan.halo + 1
    null, shift_null = (
        one and one.adapted_to(np.abs(values).reshape(shape), dose_map, used_map, reach)
        for one, values in zip(nulls, (z, shift), strict=True)
    )
    assert null is not None
    log_p = null.log_p(np.abs(z), dose)
    if shift_null is not None:
        log_p_shift = shift_null.log_p(np.abs(shift), dose)
        size = np.where(log_p_shift < log_p, shift_size, size)
        log_p = np.minimum(log_p, log_p_shift)
        log_p += np.log(2 - np.exp(log_p))  # the smaller one of two
    log_p = np.where(used, log_p, np.nan)
    log_p[given.summary.pixel_state == EMPTY] = 0.0
    seconds = seconds | {"scan": scanned - start, "null": time.perf_counter() - scanned}
    return _anomalies(
        given, z=table[:, 0], log_p=log_p, score=equivalent_z(np.minimum(log_p, -1e-12)),
        window=window.astype(int), half=np.array(HALVES)[size.astype(int)],
        coefficients=table[:, _N_FOUND:], spikes=spikes[np.lexsort(spikes.T[1::-1])], statistic="scan",
        normal=normal, null=null, seconds=seconds,
    )  # fmt: skip


def _score_pixels(given: Given, normal: Normal, statistic: str, seconds: dict[str, float]) -> Anomalies:
    """Score every pixel by itself, as the literature does."""
    start = time.perf_counter()
    block = PixelBlock(normal, given.channels, given.summary.moments.mean.mean(), statistic)
    n_columns = 1 + normal.model.basis.n_vectors
    table = given.stream.map_rows(block, n_columns=n_columns, label="Score")
    table[~given.used] = np.nan
    score, coefficients = table[:, 0].astype(np.float64), table[:, 1:]
    if statistic == "rx":
        centred = coefficients - coefficients[given.used].mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(centred[given.used].T)), hermitian=True)
        score = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    seconds = seconds | {"score": time.perf_counter() - start}
    return _anomalies(
        given, score=score, coefficients=coefficients, statistic=statistic, normal=normal, seconds=seconds
    )


def _check(summary: MapSummary, channels: np.ndarray, n_needed: int) -> None:
    check_enough(summary, n_needed)
    if (summary.channel_state[channels] == NOT_FINITE).any():
        raise TooFewSpectraError(
            "anomaly_map(model=...): no spectrum can be used, as channels of the model are not finite. Train "
            "without such channels, signal_mask=..., or mend them."
        )
