"""Scan boxes of pixels, of the map and of maps that are drawn from the reference model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.anomaly._significance import NullFit, fit_null
from hyperspy_specml.statistics import correlation_kernel
from hyperspy_specml.streaming import compute

if TYPE_CHECKING:
    from dask.delayed import Delayed

    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._scan import Scan
    from hyperspy_specml.anomaly._shift_scan import ShiftScan
    from hyperspy_specml.anomaly._spikes import PartialChannelSpikes, SpikeFinder
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel

# Columns of the table of `scan_rows` before the coefficients.
N_FOUND = 6
# Values that are scanned at a time: some float32 copies of them are held.
_STRIP_VALUES = 1 << 22
# Pixels and values of drawn maps, at most.
_NULL_PIXELS = 1 << 15
_NULL_VALUES = 1 << 25
# Pixels of one piece of the map that is drawn.
_PIECE = 64**2
# Pixels over which coefficients are averaged before maps are drawn from them: their noise must not be drawn
# again.
_AVERAGED = 5
# Stream of random numbers; folds use others.
_STREAM = 77


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

    def __call__(
        self, values: np.ndarray, pixels: np.ndarray, inner: tuple[slice, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        first, halo = inner[0], self.scan.halo
        step = max(4 * halo, _STRIP_VALUES * len(pixels) // max(1, values.size), 1)
        tables, spikes = [], []
        for start in range(first.start, first.stop, step):
            stop = min(start + step, first.stop)
            below = max(0, start - halo)
            strip = slice(below, min(len(pixels), stop + halo))
            part = self._scan(values[strip], pixels[strip], (slice(start - below, stop - below), *inner[1:]))
            tables.append(part[0])
            spikes.append(part[1])
        return np.concatenate(tables), np.concatenate(spikes)

    def _scan(self, values: np.ndarray, pixels: np.ndarray, inner: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        used = self.used[pixels]
        beyond = self._partial_spikes(values[used], pixels[used])
        values = values if self.channels.all() else values[..., self.channels]
        rows = values[used].astype(np.float32)
        coefficients = self.reference.coefficients(rows)
        # Spikes must not be scanned, nor change the coefficients.
        encode = self.reference.coefficients
        row, channel, value, expected = self.spikes.replace_spikes(rows, coefficients, encode)
        place = pixels[used][row], np.flatnonzero(self.channels)[channel]
        spikes = np.concatenate([np.stack([*place, value, expected], axis=1), beyond])
        table = scan_rows(self.scan, self.reference.shift_scan, rows, coefficients, used)
        mine = np.zeros(used.shape, bool)
        mine[inner] = True
        return table[inner].reshape(-1, table.shape[-1]), spikes[np.isin(spikes[:, 0], pixels[mine])]

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
    values, maps = rows, coefficients
    if not used.all():
        values = np.zeros((*used.shape, rows.shape[1]), np.float32)
        values[used] = rows
        maps = np.zeros((*used.shape, coefficients.shape[1]), np.float32)
        maps[used] = coefficients
    values, maps = values.reshape(*used.shape, -1), maps.reshape(*used.shape, -1)
    found = scan.strongest(values, maps, used)
    columns = [found.z, found.window, found.radius, scan.expected_counts(maps, used)]
    nothing = np.zeros(used.shape)
    columns += shift_scan.strongest(values, maps, used, scan.radii) if shift_scan else [nothing, nothing]
    table = np.concatenate([np.stack(columns, axis=-1), maps], axis=-1, dtype=np.float32)
    table[~used] = np.nan
    return table


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
    reference = reference.without_errors()
    seed, shape = run.seed & 0xFFFFFFFF, used.shape
    rng = np.random.default_rng([seed, _STREAM])
    maps = averaged(np.where(used[..., None], coefficients, 0), used, _AVERAGED)
    side = max(1, round(_PIECE ** (1 / len(shape))))
    most = min(_NULL_PIXELS, max(_PIECE, _NULL_VALUES // scan.model.spectra.shape[1]))
    draw_and_scan = dask.delayed(_DrawAndScan(scan, reference, seed), pure=False, traverse=False)
    tasks: list[Delayed] = []
    n = 0
    while n < most:
        first = (int(rng.integers(0, max(1, size - side + 1))) for size in shape)
        box = tuple(slice(start, start + side) for start in first)
        if used[box].any():
            tasks.append(draw_and_scan(maps[box], used[box], len(tasks)))
        n += used[box].size
    tables = compute(*tasks, progress=run.progress, label="Draw null maps")
    everything = np.concatenate([table[~np.isnan(table[..., 0])] for table in tables])
    maxima, expected, shifts = np.abs(everything[:, [0, 3, 4]]).T
    return fit_null(maxima, expected), fit_null(shifts, expected) if reference.shift_scan else None


@dataclass(frozen=True)
class _DrawAndScan:
    """Draws one piece of a map and scans it: an object, so that it travels to other processes."""

    scan: Scan
    reference: ReferenceModel
    seed: int

    def __call__(self, maps: np.ndarray, used: np.ndarray, piece: int) -> np.ndarray:
        model = self.scan.model
        rng = np.random.default_rng([self.seed, _STREAM, piece])
        expected = maps[used] @ model.spectra.astype(np.float32) + model.offset.astype(np.float32)
        rows = draw_values(model.noise, expected, rng)
        return scan_rows(self.scan, self.reference.shift_scan, rows, self.reference.coefficients(rows), used)


def draw_values(noise: NoiseModel, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw (..., E) values with this mean, float32."""
    mean = np.maximum(mean, 0)
    if noise.name == "poisson":
        return rng.poisson(mean).astype(np.float32)
    values = rng.standard_normal(mean.shape, dtype=np.float32)
    values = scipy.ndimage.convolve1d(values, correlation_kernel(np.array(noise.correlation)), axis=-1)
    return (mean + values * np.sqrt(noise.variance(mean))).astype(np.float32)


def averaged(maps: np.ndarray, used: np.ndarray, side: int) -> np.ndarray:
    r"""Return (\*navigation, D) maps averaged over squares of used pixels."""
    size = (side,) * used.ndim
    weight = scipy.ndimage.uniform_filter(used.astype(np.float32), size, mode="constant")
    total = scipy.ndimage.uniform_filter(maps, (*size, 1), mode="constant")
    return np.where(used[..., None], total / np.maximum(weight, 1e-6)[..., None], 0).astype(np.float32)


@dataclass(frozen=True)
class PixelBlock:
    """The block function of the literature's statistics: the value, then the coefficients.

    Attributes
    ----------
    reference
        What is expected.
    channels
        (whole axis,) bool channels in use.
    level
        Mean counts per channel.
    statistic
        "squared_error", "deviance" or "rx", whose value is computed from the coefficients of all pixels
        later.
    """

    reference: ReferenceModel
    channels: np.ndarray
    level: float
    statistic: str

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        rows = rows[:, self.channels].astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may not be finite
            coefficients = self.reference.coefficients(rows)
            expected = self.reference.basis.spectra(coefficients)
            noise = self.reference.noise
            if self.statistic == "deviance":
                expected = np.maximum(expected, np.float32(1e-3 * max(self.level, 1e-30)))
                value = noise.deviance(rows, expected, np.maximum(noise.variance(expected), 1e-30))
            else:
                value = ((rows - expected) ** 2).sum(axis=1, dtype=np.float64)
        return np.column_stack([value, coefficients])
