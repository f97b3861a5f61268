"""Score the pixels of a map: by the scan with p-values, or by a statistic of the literature.

Scanned are boxes of pixels, of the map and of maps that are drawn from the reference model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.anomaly._significance import LARGEST_LOG_P, NullFit, equivalent_z, fit_null
from hyperspy_specml.anomaly._spikes import PartialChannelSpikes, SpikeFinder
from hyperspy_specml.statistics import EMPTY, draw_noise, gain_of
from hyperspy_specml.streaming import compute, map_with_halo

if TYPE_CHECKING:
    from dask.delayed import Delayed

    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._scan import ShiftScan
    from hyperspy_specml.anomaly._setup import ScanSetup
    from hyperspy_specml.run import Run

# Columns of the table of `scan_rows` before the coefficients.
_N_FOUND = 6
# Values that are scanned at a time: some float32 copies of them are held.
_STRIP_VALUES = 1 << 22
# Pixels and values of drawn maps, at most.
_NULL_PIXELS = 1 << 15
_NULL_VALUES = 1 << 25
# Drawn pixels for each pixel of a small map: the p-value that decides there is some 1 % over their number.
_DRAWN_PER_PIXEL = 200
# Pixels of one piece of the map that is drawn.
_PIECE = 64**2
# Pixels over which coefficients are averaged before maps are drawn from them: their noise must not be drawn
# again.
_AVERAGED = 5
# Stream of random numbers; folds use others.
_STREAM = 77
# |z| above which a pixel is not drawn from: the model does not describe it, and may even expect negative
# counts.
_NOT_DESCRIBED = 10.0


@dataclass(frozen=True)
class PixelScores:
    """Scores of the n pixels of a map.

    Attributes
    ----------
    z
        (n,) maximum of the scan, negative for a deficit of counts; NaN where a pixel is not used or not
        scanned.
    log_p, score
        (n,) logarithm of the p-value, corrected for all windows searched, and its normal deviate. Of other
        statistics than the scan the score is the plain value, and p is NaN.
    window, radius
        (n,) index of the strongest window of energy, and the radius of the square of pixels.
    coefficients
        (n, D) coefficients of the reference model.
    """

    z: np.ndarray = field(repr=False)
    log_p: np.ndarray = field(repr=False)
    score: np.ndarray = field(repr=False)
    window: np.ndarray = field(repr=False)
    radius: np.ndarray = field(repr=False)
    coefficients: np.ndarray = field(repr=False)

    @property
    def reach(self) -> int:
        """Side in pixels of the largest square, which blurs what is found."""
        return 2 * int(self.radius.max(initial=0)) + 1


def scan_map(setup: ScanSetup, reference: ReferenceModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n_pixels, 6 + D) table of `scan_rows`, and the (m, 4) spikes."""
    stream, used, channels = setup.stream, setup.used, setup.channels
    scan = Scan(reference.scan_model(), setup.windows, model_error=reference.model_error)
    n_values, partial_spikes = int(used.sum()) * int(channels.sum()), None
    line_width = setup.spike_line_width(reference.noise)
    finder = SpikeFinder(scan.model, line_width[channels], n_values)
    if stream.drift is not None:
        recorded, mean = setup.summary.channels, np.zeros(stream.n_channels)
        mean[recorded] = setup.summary.moments.mean
        noise = reference.noise
        partial_spikes = PartialChannelSpikes(noise, line_width, stream.drift, recorded, mean, channels, n_values)
    block = ScanBlock(scan, reference, finder, partial_spikes, channels, used)
    parts = map_with_halo(stream, block, halo=block.halo, label="Scan")
    table = np.full((stream.n_pixels, _N_FOUND + len(scan.model.spectra)), np.nan, np.float32)
    for pixels, (values, _) in parts:
        table[pixels] = values
    spikes = np.concatenate([spikes for _, (_, spikes) in parts])
    if stream.drift is not None:
        spikes[:, 1] += stream.drift[spikes[:, 0].astype(int) // stream.navigation_shape[-1]]
    return table, spikes[np.lexsort(spikes.T[1::-1])]


def with_null(setup: ScanSetup, reference: ReferenceModel, table: np.ndarray, run: Run) -> ReferenceModel:
    """Return the model with its null distribution, from drawn maps and adapted to the ordinary pixels."""
    if reference.null is not None:
        return reference
    used, shape = setup.used, setup.stream.navigation_shape
    z, _, _, expected, shift, _ = np.nan_to_num(table[:, :_N_FOUND]).T
    described = used & (np.maximum(np.abs(z), np.abs(shift)) < _NOT_DESCRIBED)
    if 2 * described.sum() < used.sum():
        described = used
    scan = Scan(reference.scan_model(), setup.windows)
    nulls = draw_null(scan, reference, table[:, _N_FOUND:].reshape(*shape, -1), described.reshape(shape), run=run)
    maps, reach = (expected.reshape(shape), used.reshape(shape)), 2 * scan.halo + 1
    null, shift_null = (
        one and one.adapted_to(np.abs(values).reshape(shape), *maps, reach)
        for one, values in zip(nulls, (z, shift), strict=True)
    )
    return replace(reference, null=null, shift_null=shift_null)


def pixel_scores(setup: ScanSetup, reference: ReferenceModel, table: np.ndarray) -> PixelScores:
    """Return the p-values of the scan: those of windows, and of shifts where they are smaller."""
    assert reference.null is not None
    z, window, radius, expected, shift, shift_radius = np.nan_to_num(table[:, :_N_FOUND]).T
    log_p = reference.null.log_p(np.abs(z), expected)
    if reference.shift_null is not None:
        log_p_shift = reference.shift_null.log_p(np.abs(shift), expected)
        radius = np.where(log_p_shift < log_p, shift_radius, radius)
        log_p = np.minimum(log_p, log_p_shift)
        log_p += np.log(2 - np.exp(log_p))  # of the smaller one of two
    log_p = np.where(setup.used, log_p, np.nan)
    log_p[setup.summary.pixel_state == EMPTY] = 0.0
    score = equivalent_z(np.minimum(log_p, LARGEST_LOG_P))
    return PixelScores(table[:, 0], log_p, score, window.astype(int), radius.astype(int), table[:, _N_FOUND:])


def score_pixels(setup: ScanSetup, reference: ReferenceModel, statistic: str) -> PixelScores:
    """Score every pixel by itself, as the literature does."""
    block = partial(_value_and_coefficients, reference, setup.channels, setup.summary.moments.mean.mean(), statistic)
    table = setup.stream.map_rows(block, n_columns=1 + reference.basis.n_vectors, label="Score pixels")
    table[~setup.used] = np.nan
    score, coefficients = table[:, 0].astype(np.float64), table[:, 1:]
    if statistic == "rx":
        centred = coefficients - coefficients[setup.used].mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(centred[setup.used].T)), hermitian=True)
        score = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    nothing, zeros = np.full(len(score), np.nan, np.float32), np.zeros(len(score), int)
    return PixelScores(nothing, nothing, score, zeros, zeros, coefficients)


@dataclass(frozen=True)
class ScanBlock:
    """The block function of the scan: an object, so that it travels to other processes.

    Attributes
    ----------
    scan, reference
        The scan, and the reference model that gives the coefficients.
    spikes, partial_spikes
        Finders of spikes: in the channels of the model, and in channels that only some scan lines have.
    channels, used
        (whole axis,) and (n_pixels,) bool, channels and pixels in use.
    """

    scan: Scan
    reference: ReferenceModel
    spikes: SpikeFinder
    partial_spikes: PartialChannelSpikes | None
    channels: np.ndarray
    used: np.ndarray

    @property
    def halo(self) -> int:
        """Pixels that a block needs around it: pixels beside those that are summed tell whether these have spikes."""
        return self.scan.halo + 1

    def __call__(self, values: np.ndarray, pixels: np.ndarray, own: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        first, halo = own[0], self.halo
        step = max(4 * halo, _STRIP_VALUES * len(pixels) // max(1, values.size), 1)
        parts = []
        for start in range(first.start, first.stop, step):
            stop = min(start + step, first.stop)
            below = max(0, start - halo)
            strip = slice(below, min(len(pixels), stop + halo))
            rows = slice(start - below, stop - below)
            parts.append(self._scan(values[strip], pixels[strip], (rows, *own[1:])))
        tables, spikes = zip(*parts, strict=True)
        return np.concatenate(tables), np.concatenate(spikes)

    def _scan(self, values: np.ndarray, pixels: np.ndarray, own: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        used = self.used[pixels]
        beyond = self._partial_spikes(values[used], pixels[used])
        values = values if self.channels.all() else values[..., self.channels]
        rows = values[used].astype(np.float32)
        coefficients = self.reference.coefficients(rows)
        # Spikes must not be scanned, nor change the coefficients.
        encode = self.reference.coefficients
        row, channel, value, expected = self.spikes.replace_spikes(rows, coefficients, encode, used)
        place = pixels[used][row], np.flatnonzero(self.channels)[channel]
        spikes = np.concatenate([np.stack([*place, value, expected], axis=1), beyond])
        table = scan_rows(self.scan, self.reference.shift_scan, rows, coefficients, used)
        mine = np.zeros(used.shape, bool)
        mine[own] = True
        return table[own].reshape(-1, table.shape[-1]), spikes[np.isin(spikes[:, 0], pixels[mine])]

    def _partial_spikes(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Return (m, 4) spikes in channels that only some scan lines have: nothing else is searched there."""
        if self.partial_spikes is None:
            return np.empty((0, 4))
        length = self.used.size // len(self.partial_spikes.drift)
        row, channel, expected = self.partial_spikes.find(rows, pixels // length)
        return np.stack([pixels[row], channel, rows[row, channel], expected], axis=1)


def scan_rows(
    scan: Scan, shift_scan: ShiftScan | None, rows: np.ndarray, coefficients: np.ndarray, used: np.ndarray
) -> np.ndarray:
    r"""Scan the (n, E) spectra of the used pixels of a box; NaN where not used.

    Returns
    -------
    (\*box, 6 + D): signed maximum, window, radius, expected counts, z and radius of the shift, coefficients
    """
    values, maps = _in_box(rows, used), _in_box(coefficients, used)
    found = scan.strongest(values, maps, used)
    columns = [found.z, found.window, found.radius, scan.expected_counts(maps, used)]
    nothing = np.zeros(used.shape)
    columns += shift_scan.strongest(values, maps, used, scan.radii) if shift_scan else [nothing, nothing]
    table = np.concatenate([np.stack(columns, axis=-1), maps], axis=-1, dtype=np.float32)
    table[~used] = np.nan
    return table


def _in_box(rows: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the rows of the used pixels in the shape of their box, 0 elsewhere."""
    if used.all():
        return rows.reshape(*used.shape, -1)
    values = np.zeros((*used.shape, rows.shape[1]), np.float32)
    values[used] = rows
    return values


def draw_null(
    scan: Scan, reference: ReferenceModel, coefficients: np.ndarray, used: np.ndarray, *, run: Run
) -> tuple[NullFit, NullFit | None]:
    r"""Draw maps without anomalies from the reference model, scan them, and fit their maxima.

    Parameters
    ----------
    scan, reference
        As they were used on the map.
    coefficients, used
        (\*navigation, D) and (\*navigation,) of the map.
    run
        Its seed is that of the draws.

    Returns
    -------
    the fit to the maxima of windows, and to those of shifts

    Raises
    ------
    Cancelled
        The user asked for it.
    """
    import dask

    # Drawn maps contain no errors of the model, and the model was not learnt from them.
    scan = replace(scan, model_error=None, model=replace(scan.model, leverage=None))
    shift_scan = reference.shift_scan and replace(reference.shift_scan, model_error=0.0)
    reference = replace(reference, shift_scan=shift_scan)
    seed, shape = run.seed & 0xFFFFFFFF, used.shape
    rng = np.random.default_rng([seed, _STREAM])
    maps = _averaged(np.where(used[..., None], coefficients, 0), used)
    side = max(1, round(_PIECE ** (1 / len(shape))))
    most = max(_PIECE, min(_NULL_VALUES // scan.model.spectra.shape[1], _DRAWN_PER_PIXEL * int(used.sum())))
    most = min(most, _NULL_PIXELS)
    draw_and_scan = dask.delayed(partial(_draw_and_scan, scan, reference, seed), pure=False, traverse=False)
    tasks: list[Delayed] = []
    n = 0
    while n < most:
        first = (int(rng.integers(0, max(1, size - side + 1))) for size in shape)
        box = tuple(slice(start, start + side) for start in first)
        times = max(1, min(_PIECE, most - n) // used[box].size)
        if used[box].any():
            piece, inside = (_repeated(values[box], times, scan.halo) for values in (maps, used))
            tasks.append(draw_and_scan(piece, inside, len(tasks)))
        n += times * used[box].size
    tables = compute(*tasks, progress=run.progress, label="Draw null maps")
    everything = np.concatenate([table[~np.isnan(table[..., 0])] for table in tables])
    maxima, expected, shifts = np.abs(everything[:, [0, 3, 4]]).T
    return fit_null(maxima, expected), fit_null(shifts, expected) if shift_scan else None


def _repeated(values: np.ndarray, times: int, gap: int) -> np.ndarray:
    """Return copies of a box one behind the other, with zeros between them that no square of pixels bridges.

    A piece of a few pixels costs nearly as much as one of thousands.
    """
    if times == 1:
        return values
    copies = np.pad(values, [(0, gap)] + [(0, 0)] * (values.ndim - 1))
    return np.concatenate([copies] * times)[: -gap or None]


def _draw_and_scan(
    scan: Scan, reference: ReferenceModel, seed: int, maps: np.ndarray, used: np.ndarray, piece: int
) -> np.ndarray:
    """Draw one piece of a map and scan it."""
    model = scan.model
    expected = maps[used] @ model.spectra.astype(np.float32) + model.offset.astype(np.float32)
    rows = draw_noise(expected, model.noise, np.random.default_rng([seed, _STREAM, piece])).astype(np.float32)
    return scan_rows(scan, reference.shift_scan, rows, reference.coefficients(rows), used)


def _averaged(maps: np.ndarray, used: np.ndarray) -> np.ndarray:
    r"""Return (\*navigation, D) maps averaged over squares of used pixels."""
    size = (_AVERAGED,) * used.ndim
    weight = scipy.ndimage.uniform_filter(used.astype(np.float32), size, mode="constant")
    total = scipy.ndimage.uniform_filter(maps, (*size, 1), mode="constant")
    return np.where(used[..., None], total / np.maximum(weight, 1e-6)[..., None], 0).astype(np.float32)


def _value_and_coefficients(
    reference: ReferenceModel, channels: np.ndarray, level: float, statistic: str, rows: np.ndarray, _: np.ndarray
) -> np.ndarray:
    """Return the value of "squared_error" or "deviance" of each spectrum, then its coefficients.

    The value of "rx" is computed from the coefficients of all pixels later. The level is the mean number of
    counts per channel.
    """
    rows, noise = rows[:, channels].astype(np.float32), reference.noise
    with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may not be finite
        coefficients = reference.coefficients(rows)
        expected = reference.basis.spectra(coefficients)
        if statistic == "deviance":
            if gain_of(noise):
                expected = np.maximum(expected, np.float32(1e-3 * max(level, 1e-30)))
            value = noise.deviance(rows, expected, np.maximum(noise.variance(expected), 1e-30))
        else:
            value = ((rows - expected) ** 2).sum(axis=1, dtype=np.float64)
    return np.column_stack([value, coefficients])
