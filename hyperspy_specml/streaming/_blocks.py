"""Cut a map into blocks of whole spectra that follow the file's chunks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np


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


def plan_blocks(array, *, n_rows: int) -> tuple[Block, ...]:
    """Cut the navigation axes of an array into blocks of about `n_rows` spectra.

    Neighbouring chunks are merged until a block is worth a matrix product; a chunk that is larger
    than the request is cut. The energy axis is never cut.

    Parameters
    ----------
    array
        NumPy or dask array of shape (\\*navigation, E).
    n_rows
        The largest number of spectra in a block.

    Returns
    -------
    blocks that cover every pixel once, in C order of their corners
    """
    shape = array.shape[:-1]
    chunks = getattr(array, "chunks", None)
    chunks = chunks[:-1] if chunks is not None else tuple((n,) for n in shape)
    largest = [max(sizes, default=1) for sizes in chunks]
    edges: list[list[int]] = []
    room = n_rows
    # The last axis is the fastest one in the file: it is merged first, but only as far as the chunks of the
    # other axes still fit. A chunk that is cut would be read once per piece.
    for axis in reversed(range(len(chunks))):
        slower = math.prod(largest[:axis])
        bounds = _merge_or_cut(chunks[axis], max(1, room // slower, min(room, largest[axis])))
        edges.append(bounds)
        room //= max(1, int(np.diff(bounds).max(initial=1)))
    edges.reverse()
    intervals = [[slice(a, b) for a, b in itertools.pairwise(bounds)] for bounds in edges]
    return tuple(Block(region) for region in itertools.product(*intervals))


def _merge_or_cut(sizes: tuple[int, ...], room: int) -> list[int]:
    bounds = [0]
    start = 0
    for size in sizes:
        stop = start + size
        if size > room:
            bounds.extend(min(start + k, stop) for k in range(room, size + room, room))
        elif len(bounds) > 1 and stop - bounds[-2] <= room and bounds[-1] == start:
            bounds[-1] = stop
        else:
            bounds.append(stop)
        start = stop
    return bounds
