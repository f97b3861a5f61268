"""Find what a model of the normal does not explain: learn, scan, calibrate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.analysis import (
    NullFit,
    Scan,
    SpikeFinder,
    Windows,
    draw,
    energy_windows,
    equivalent_z,
    estimate_line_width,
    fit_null,
    peaks_per_pixel,
)
from hyperspy_specml.estimators._normal import Normal, learn_normal, patch_side
from hyperspy_specml.statistics import EMPTY, USED, Survey, estimate_noise, survey_spectra
from hyperspy_specml.streaming import Block, map_boxes, map_with_halo, patch_sums

if TYPE_CHECKING:
    from hyperspy_specml.streaming import SpectrumStream
    from hyperspy_specml.train.config import TrainConfig

WIDTHS = (1.0, 2.0, 4.0)  # of the energy windows, in line widths
HALVES = (0, 1, 2)  # half sizes of the squares of pixels
_NULL_PIXELS = 1 << 15  # drawn from the model of the normal
_NULL_VALUES = 1 << 25
_TILE = 64  # pixels along the side of a piece of the map that is drawn
_SMOOTHED = 5  # pixels: drawn maps come from smoothed coefficients, whose noise is not drawn again


@dataclass(frozen=True)
class Anomalies:
    """A scanned map, as arrays over its n pixels.

    Attributes
    ----------
    z
        (n,) scan maximum, negative for a deficit of counts; NaN where a pixel is not used.
    log_p, score
        (n,) logarithm of the p-value, corrected for all windows searched, and the normal deviate of it.
    window, half
        (n,) index of the strongest window of energy, and half the size of the square of pixels.
    dose
        (n,) expected counts in the square.
    coefficients
        (n, D) of the model of the normal.
    spikes
        (m, 4) pixel, channel (of the whole axis), value and prediction.
    windows, line_width, normal, null, peaks_per_pixel, survey, statistic
        What it was made with.
    """

    z: np.ndarray = field(repr=False)
    log_p: np.ndarray = field(repr=False)
    score: np.ndarray = field(repr=False)
    window: np.ndarray = field(repr=False)
    half: np.ndarray = field(repr=False)
    dose: np.ndarray = field(repr=False)
    coefficients: np.ndarray = field(repr=False)
    spikes: np.ndarray = field(repr=False)
    windows: Windows = field(repr=False)
    line_width: np.ndarray = field(repr=False)
    normal: Normal
    null: NullFit
    peaks_per_pixel: float
    survey: Survey = field(repr=False)
    statistic: str
    seconds: dict[str, float] = field(default_factory=dict)


def find_anomalies(
    stream: SpectrumStream,
    line_width: np.ndarray | None,
    *,
    statistic: str = "scan",
    normal: Normal | None = None,
    n_components: int | None = None,
    noise: str = "auto",
    masks: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    config: TrainConfig,
    seed: int = 0,
) -> Anomalies:
    """Scan a map for what is not normal in it.

    Parameters
    ----------
    stream
        The spectra; read three times.
    line_width
        (E,) full width at half maximum of a line in each channel, in channels; None estimates one width.
    statistic
        "scan", or per pixel "squared_error", "deviance" or "rx" (not calibrated).
    normal
        Learnt elsewhere, on the channels in use; by default learnt from the map.
    n_components
        Of the model of the normal; None chooses by held-out score.
    noise, masks, config, seed
        As in `decompose`.
    """
    start = time.perf_counter()
    survey = survey_spectra(
        stream, navigation_mask=masks[0], signal_mask=masks[1], seed=seed, kernel=config.kernel
    )
    estimate = estimate_noise(survey.sample, noise=noise, minimum=survey.minimum)
    channels = survey.channels
    if line_width is None:
        mean = survey.moments.mean
        width = estimate_line_width(mean, estimate.model.variance(mean))
        line_width = np.full(stream.n_channels, width)
    windows = energy_windows(line_width, channels, factors=WIDTHS)
    used = survey.pixel_state == USED
    if normal is None:
        side = patch_side(stream.navigation_shape, int(channels.sum()))
        sums, counts = patch_sums(stream, used, channels, side=side, label="Sum patches")
        normal = learn_normal(
            sums, counts, estimate.model, windows, side=side, n_components=n_components, seed=seed
        )
        del sums
    normal = replace(normal, noise=normal.noise or estimate.model)
    scan = Scan(normal.scan_model(), windows, HALVES)
    learnt = time.perf_counter()
    finder = SpikeFinder(scan.model, line_width[channels], int(used.sum()) * int(channels.sum()))
    parts = map_with_halo(
        stream, _ScanBlock(scan, normal, finder, channels, used), halo=scan.halo, label="Scan"
    )
    table = np.full((stream.n_pixels, 4 + scan.model.spectra.shape[0]), np.nan, np.float32)
    for pixels, (values, _) in parts:
        table[pixels] = values
    spikes = np.concatenate([spikes for _, (_, spikes) in parts])
    scanned = time.perf_counter()
    z, window, size, dose = table[:, :4].T
    coefficients = table[:, 4:]
    null, peaks = calibrate(scan, normal, coefficients, used, stream.navigation_shape, seed=seed)
    known = np.nan_to_num(np.abs(z)), np.nan_to_num(dose)
    log_p = np.where(used, null.log_p(*known), np.nan)
    log_p[survey.pixel_state == EMPTY] = 0.0
    seconds = {"normal": learnt - start, "scan": scanned - learnt, "null": time.perf_counter() - scanned}
    score = equivalent_z(np.minimum(log_p, -1e-12))
    window, half = np.nan_to_num(window).astype(int), np.array(HALVES)[np.nan_to_num(size).astype(int)]
    return Anomalies(
        z, log_p, score, window, half, dose, coefficients, spikes[np.argsort(spikes[:, 0])],
        windows, line_width, normal, null, peaks, survey, statistic, seconds,
    )  # fmt: skip


@dataclass(frozen=True)
class _ScanBlock:
    """The block function of the scan: an object, so that it travels to other processes."""

    scan: Scan
    normal: Normal
    finder: SpikeFinder
    channels: np.ndarray
    used: np.ndarray

    def __call__(
        self, values: np.ndarray, pixels: np.ndarray, inner: tuple[slice, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        used = self.used[pixels]
        values = values if self.channels.all() else values[..., self.channels]
        rows = values[used].astype(np.float32)
        coefficients = self.normal.coefficients(rows)
        row, channel, expected = self.finder.find(rows, coefficients)
        spikes = (
            np.stack(
                [pixels[used][row], np.flatnonzero(self.channels)[channel], rows[row, channel], expected],
                axis=1,
            )
            if len(row)
            else np.empty((0, 4))
        )
        if len(row):  # the scan must not see them, nor the model take part of them
            rows[row, channel] = expected
            coefficients[row] = self.normal.coefficients(rows[row])
        table = scan_rows(self.scan, rows, coefficients, used)
        mine = np.zeros(used.shape, bool)
        mine[inner] = True
        return table[inner].reshape(-1, table.shape[-1]), spikes[np.isin(spikes[:, 0], pixels[mine])]


def scan_rows(scan: Scan, rows: np.ndarray, coefficients: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Scan the (n, E) spectra of the used pixels of a box; NaN where not used.

    Returns
    -------
    (*box, 4 + D): signed maximum, window, size, expected counts, coefficients
    """
    values, maps = rows, coefficients
    if not used.all():
        values = np.zeros((*used.shape, rows.shape[1]), np.float32)
        values[used] = rows
        maps = np.zeros((*used.shape, coefficients.shape[1]), np.float32)
        maps[used] = coefficients
    values, maps = values.reshape(*used.shape, -1), maps.reshape(*used.shape, -1)
    found = scan.strongest(values, maps, used)
    columns = [found.z, found.window, found.size, scan.expected_counts(maps, used)]
    table = np.concatenate([np.stack(columns, axis=-1), maps], axis=-1, dtype=np.float32)
    table[~used] = np.nan
    return table


def calibrate(
    scan: Scan,
    normal: Normal,
    coefficients: np.ndarray,
    used: np.ndarray,
    shape: tuple[int, ...],
    *,
    seed: int,
) -> tuple[NullFit, float]:
    """Draw maps from the model of the normal, scan them, and fit their maxima.

    Parameters
    ----------
    scan, normal
        As they were used on the map.
    coefficients, used, shape
        (n, D), (n,) of the map and its shape.
    seed
        Of the draws.

    Returns
    -------
    the fit, and the number of separate peaks per pixel among strong maxima
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 77])
    spectra, offset = (a.astype(np.float32) for a in (scan.model.spectra, scan.model.offset))
    maps = np.where(used[:, None], coefficients, 0).reshape(*shape, -1)
    used = used.reshape(shape)
    maps = smooth(maps, used, _SMOOTHED)
    most = min(_NULL_PIXELS, max(_TILE**2, _NULL_VALUES // spectra.shape[1]))
    found: list[np.ndarray] = []
    n = 0
    while n < most:
        box = tuple(
            slice(first, first + _TILE)
            for first in (rng.integers(0, max(1, size - _TILE + 1)) for size in shape)
        )
        inside = used[box]
        if inside.any():
            rows = draw(scan.model.noise, maps[box][inside] @ spectra + offset, rng)
            table = scan_rows(scan, rows, normal.coefficients(rows), inside)
            found.append(table)
        n += inside.size
    everything = np.concatenate([table[~np.isnan(table[..., 0])] for table in found])
    null = fit_null(np.abs(everything[:, 0]), everything[:, 3])
    return null, peaks_per_pixel(null, found, reach=2 * scan.halo + 1)


def smooth(maps: np.ndarray, used: np.ndarray, width: int) -> np.ndarray:
    """Return (*navigation, D) maps averaged over squares of used pixels."""
    size = (width,) * used.ndim
    weight = scipy.ndimage.uniform_filter(used.astype(np.float32), size, mode="constant")
    total = scipy.ndimage.uniform_filter(maps, (*size, 1), mode="constant")
    return np.where(used[..., None], total / np.maximum(weight, 1e-6)[..., None], 0).astype(np.float32)


@dataclass(frozen=True)
class RegionSums:
    """Sums over the pixels of regions. R regions, E channels in use.

    Attributes
    ----------
    labels, n_pixels
        (R,) label in the map, and number of pixels.
    pixels
        Flat indices of the pixels of each region.
    spectra, residuals, variances
        (R, E) sums of the spectra, of their difference to the model, and of the noise variance.
    """

    labels: np.ndarray
    n_pixels: np.ndarray
    pixels: tuple[np.ndarray, ...]
    spectra: np.ndarray
    residuals: np.ndarray
    variances: np.ndarray


def sum_regions(
    stream: SpectrumStream, found: Anomalies, labels: np.ndarray, wanted: np.ndarray
) -> RegionSums:
    """Read the spectra of regions and sum them.

    Parameters
    ----------
    stream
        The spectra.
    found
        The scanned map.
    labels
        Map of labels.
    wanted
        (R,) labels.
    """
    boxes = scipy.ndimage.find_objects(labels)
    flat = labels.reshape(-1)
    model = found.normal.scan_model()
    blocks = [Block(boxes[label - 1]) for label in wanted]
    shape = stream.navigation_shape
    pixels = tuple(
        p[flat[p] == label] for p, label in zip((b.pixels(shape) for b in blocks), wanted, strict=True)
    )
    sums = map_boxes(stream, blocks, _SumChosen(flat, found.survey.channels), label="Regions")
    chosen = [parts[label] for parts, label in zip(sums, wanted, strict=True)]
    spectra = np.array(chosen).reshape(len(wanted), -1)
    coefficients = np.array([found.coefficients[p].sum(axis=0, dtype=np.float64) for p in pixels])
    n_pixels = np.array([len(p) for p in pixels], int)
    expected = np.zeros_like(spectra)
    if len(wanted):
        expected = coefficients @ model.spectra + n_pixels[:, None] * model.offset
    mean = np.maximum(expected, 0) / np.maximum(n_pixels, 1)[:, None]
    variances = found.normal.noise.variance(mean) * n_pixels[:, None]
    return RegionSums(wanted, n_pixels, pixels, spectra, spectra - expected, variances)


@dataclass(frozen=True)
class _SumChosen:
    """The block function of `sum_regions`: sums of spectra by label."""

    labels: np.ndarray
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> dict[int, np.ndarray]:
        label = self.labels[pixels]
        rows = rows[:, self.channels]
        return {int(k): rows[label == k].sum(axis=0, dtype=np.float64) for k in np.unique(label[label > 0])}
