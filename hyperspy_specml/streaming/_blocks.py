"""Cut a map into blocks of whole spectra that follow the file's chunks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import dask.array as da


@dataclass(frozen=True)
class Block:
    """A box of pixels: one slice per navigation axis, in array order."""

    region: tuple[slice, ...]

    def n_pixels(self) -> int:
        """Return the number of spectra in the block."""
        return math.prod(s.stop - s.start for s in self.region)

    def pixels(self, navigation_shape: tuple[int, ...]) -> np.ndarray:
        """Return the flat (C order) indices of the block's spectra in the whole map, int64."""
        axes = np.ix_(*(np.arange(s.start, s.stop) for s in self.region))
        return np.ravel_multi_index(axes, navigation_shape).reshape(-1)


def plan_blocks(array: np.ndarray | da.Array, *, n_rows: int, most_rows: int | None = None) -> tuple[Block, ...]:
    r"""Cut the navigation axes of an array into blocks of spectra.

    Neighbouring chunks are merged until a block is worth a matrix product. A chunk is cut only where it
    is too large: every part of it may cost reading, or computing, all of it. The energy axis is never cut.

    Parameters
    ----------
    array
        NumPy or dask array of shape (\*navigation, E).
    n_rows
        Spectra up to which chunks are merged; the size of blocks of a NumPy array.
    most_rows
        The largest number of spectra in a block; `n_rows` if not given.

    Returns
    -------
    blocks that cover every pixel once, in C order of their corners
    """
    chunks = getattr(array, "chunks", None)
    if chunks is None:
        chunks, most_rows = tuple((n,) for n in array.shape), None
    most_rows = most_rows or n_rows
    bounds: list[list[int]] = []
    # The last axis is the fastest one in the file: it is merged first.
    for sizes in reversed(chunks[:-1]):
        bounds.append(_merge_or_cut(sizes, max(1, n_rows), max(1, most_rows)))
        widest = max(1, int(np.diff(bounds[-1]).max(initial=1)))
        n_rows, most_rows = n_rows // widest, most_rows // widest
    intervals = [[slice(a, b) for a, b in itertools.pairwise(edges)] for edges in reversed(bounds)]
    return tuple(Block(region) for region in itertools.product(*intervals))


def _merge_or_cut(sizes: tuple[int, ...], n_merged: int, most: int) -> list[int]:
    """Return the bounds of intervals: chunks of these sizes merged to `n_merged` pixels, or cut at `most`."""
    bounds, start = [0], 0
    for size in sizes:
        stop = start + size
        if len(bounds) > 1 and stop - bounds[-2] <= min(n_merged, most):
            bounds[-1] = stop
        else:
            bounds.extend(range(start + most, stop, most))
            bounds.append(stop)
        start = stop
    return bounds
