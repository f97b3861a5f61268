"""Spectra moved along energy, each by its own shift, as a signal like the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import CubicSpline

from hyperspy_specml.signals._source import like
from hyperspy_specml.streaming import plain_array, plan_blocks, shift_channels

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.signals._source import Source

# Spectra of an array in memory that are moved at a time.
_ROWS = 4096


def move_spectra(source: Source, by: np.ndarray, *, title: str) -> BaseSignal:
    r"""Return a signal like the input whose spectra are moved to higher energy; lazy if the input is.

    Parameters
    ----------
    source
        The input.
    by
        (\*navigation,) channels; whole numbers move whole channels, whatever the dtype of the data.
    title
        Of the signal.
    """
    array: Any = source.spectra.array
    move = _Move()
    if isinstance(array, np.ndarray):
        moved: Any = np.empty(array.shape, array.dtype.newbyteorder("="))
        for block in plan_blocks(array, n_rows=_ROWS):
            moved[block.region] = move(array[block.region], by[block.region][..., None])
    else:
        import dask.array as da

        whole = array.rechunk({array.ndim - 1: -1})
        shifts = da.from_array(by[..., None], chunks=(*whole.chunks[:-1], (1,)), name=False)
        meta = np.empty((0,) * array.ndim, array.dtype)
        moved = da.map_blocks(move, whole, shifts, chunks=whole.chunks, dtype=array.dtype, meta=meta)
    return like(source.template, moved, title=title)


@dataclass(frozen=True)
class _Move:
    """From a block of spectra and its shifts to the moved block: an object, so that it travels to other processes."""

    def __call__(self, values: Any, by: np.ndarray) -> np.ndarray:
        rows = plain_array(values).reshape(-1, values.shape[-1])
        moved = (_whole if by.dtype.kind == "i" else _between)(rows, by.reshape(-1))
        return moved.reshape(values.shape)


def _whole(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Move by whole channels; what nothing was recorded for is 0 in counts, else NaN."""
    moved = shift_channels(rows, np.clip(by, 1 - rows.shape[1], rows.shape[1] - 1))
    if rows.dtype.kind == "f":
        channel = np.arange(rows.shape[1]) - by[:, None]
        moved[(channel < 0) | (channel >= rows.shape[1])] = np.nan
    return moved


def _between(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Move by parts of a channel, along cubic splines; NaN where nothing was recorded."""
    channels = np.arange(rows.shape[1])
    places = channels - by[:, None]
    moved = np.array([CubicSpline(channels, row)(at) for row, at in zip(rows, places, strict=True)])
    moved[(places < 0) | (places > channels[-1])] = np.nan
    return moved.astype(rows.dtype)
