"""Maps without anomalies, drawn from a model of the normal and scanned like the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.anomaly._null import NullFit, draw, fit_null
from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.anomaly._shift_scan import ShiftScan

if TYPE_CHECKING:
    from dask.delayed import Delayed

    from hyperspy_specml.anomaly._reference import Normal

_NULL_PIXELS = 1 << 15  # drawn from the model of the normal
_NULL_VALUES = 1 << 25
_TILE = 64**2  # pixels of a piece of the map that is drawn
_STREAM = 77  # of random numbers: others are used for folds
_SMOOTHED = 5  # pixels: drawn maps come from smoothed coefficients, whose noise is not drawn again


def scan_rows(
    scan: Scan, shift: ShiftScan | None, rows: np.ndarray, coefficients: np.ndarray, used: np.ndarray
) -> np.ndarray:
    """Scan the (n, E) spectra of the used pixels of a box; NaN where not used.

    Returns
    -------
    (*box, 6 + D): signed maximum, window, size, expected counts, z and size of the shift, coefficients
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
    nothing = np.zeros(used.shape)
    columns += shift.strongest(values, maps, used, scan.halves) if shift else [nothing, nothing]
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
) -> tuple[NullFit, NullFit | None]:
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
    the fit to the maxima of windows, and to those of shifts
    """
    import dask
    from threadpoolctl import threadpool_limits

    # What is drawn has no misfit, and the model did not learn from it.
    scan = replace(scan, misfit=None, model=replace(scan.model, leverage=None))
    normal = replace(normal, shift=normal.shift and replace(normal.shift, misfit=0.0))
    rng = np.random.default_rng([seed & 0xFFFFFFFF, _STREAM])
    maps = np.where(used[:, None], coefficients, 0).reshape(*shape, -1)
    used = used.reshape(shape)
    maps = smooth(maps, used, _SMOOTHED)
    side = max(1, round(_TILE ** (1 / len(shape))))
    most = min(_NULL_PIXELS, max(_TILE, _NULL_VALUES // scan.model.spectra.shape[1]))
    draw_and_scan = dask.delayed(_DrawAndScan(scan, normal), pure=False, traverse=False)
    tasks: list[Delayed] = []
    n = 0
    while n < most:
        first = (int(rng.integers(0, max(1, size - side + 1))) for size in shape)
        box = tuple(slice(start, start + side) for start in first)
        if used[box].any():
            tasks.append(draw_and_scan(maps[box], used[box], len(tasks), seed))
        n += used[box].size
    with threadpool_limits(limits=1, user_api="blas"):
        tables = dask.compute(*tasks)
    everything = np.concatenate([table[~np.isnan(table[..., 0])] for table in tables])
    maxima, dose, shifts = np.abs(everything[:, [0, 3, 4]]).T
    return fit_null(maxima, dose), fit_null(shifts, dose) if normal.shift else None


@dataclass(frozen=True)
class _DrawAndScan:
    """Draws one piece of a map and scans it: an object, so that it travels to other processes."""

    scan: Scan
    normal: Normal

    def __call__(self, maps: np.ndarray, used: np.ndarray, piece: int, seed: int) -> np.ndarray:
        model = self.scan.model
        rng = np.random.default_rng([seed & 0xFFFFFFFF, _STREAM, piece])
        expected = maps[used] @ model.spectra.astype(np.float32) + model.offset.astype(np.float32)
        rows = draw(model.noise, expected, rng)
        return scan_rows(self.scan, self.normal.shift, rows, self.normal.coefficients(rows), used)


def smooth(maps: np.ndarray, used: np.ndarray, width: int) -> np.ndarray:
    """Return (*navigation, D) maps averaged over squares of used pixels."""
    size = (width,) * used.ndim
    weight = scipy.ndimage.uniform_filter(used.astype(np.float32), size, mode="constant")
    total = scipy.ndimage.uniform_filter(maps, (*size, 1), mode="constant")
    return np.where(used[..., None], total / np.maximum(weight, 1e-6)[..., None], 0).astype(np.float32)
