"""Passes over all spectra of a map, block by block; blocks are whole spectra and follow the file's chunks."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import scipy.sparse

from hyperspy_specml.progress import Progress
from hyperspy_specml.streaming._parallel import active_client, compute, count_workers, one_openmp_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array as da
    from dask.delayed import Delayed

# Number of blocks that the memory budget has room for: those in flight, one per core, and their results.
_BLOCKS_PER_BUDGET = 16
# Number of spectra in a block: enough for an efficient (E, E) product, and more than enough.
_ROWS_FOR_PRODUCT = 2048, 16384
# Number of blocks of a map with enough spectra for that, at least: work for as many cores.
_MIN_BLOCKS = 4


@dataclass(frozen=True)
class Block:
    """A box of pixels: one slice per navigation axis, in array order."""

    region: tuple[slice, ...]

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
    # The last axis is the fastest one in the file: it is merged first, as far as no chunk is cut along the others.
    for axis, sizes in reversed([*enumerate(chunks[:-1])]):
        others = math.prod(max(of, default=1) for of in chunks[:axis])
        n_merged = min(n_rows, most_rows // max(1, others))
        bounds.append(_merge_or_cut(sizes, max(1, n_merged), max(1, most_rows)))
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


@dataclass(frozen=True)
class SpectrumStream:
    r"""The spectra of a map as blocks of rows, read within a memory budget.

    Parameters
    ----------
    array
        Spectra of shape (\*navigation, E), energy last; NumPy or dask. Never modified.
    memory_budget
        Bytes that the blocks in flight may take together. Default 1 GB.
    progress
        Every pass is a stage of it.
    drift
        (n_lines,) channels by which the spectra of each scan line lie too high in energy. All passes see them
        shifted back, and 0 where nothing was recorded.
    unit
        All passes see the spectra in this unit of theirs, divided by it.
    """

    array: np.ndarray | da.Array
    memory_budget: int = 1_000_000_000
    progress: Progress = field(default_factory=Progress, repr=False, compare=False)
    drift: np.ndarray | None = field(default=None, repr=False)
    unit: float = 1.0
    blocks: tuple[Block, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Plan the blocks once: every pass sees the same ones."""
        bytes_per_row = max(1, self.n_channels * self.array.dtype.itemsize)
        most_rows = max(1, self.memory_budget // _BLOCKS_PER_BUDGET // bytes_per_row)
        n_rows = min(most_rows, int(np.clip(self.n_pixels // _MIN_BLOCKS, *_ROWS_FOR_PRODUCT)))
        blocks = plan_blocks(self.array, n_rows=n_rows, most_rows=most_rows)
        object.__setattr__(self, "blocks", blocks)

    @property
    def navigation_shape(self) -> tuple[int, ...]:
        """Shape of the map in array order."""
        return tuple(self.array.shape[:-1])

    @property
    def n_pixels(self) -> int:
        """Number of spectra."""
        return int(np.prod(self.navigation_shape, dtype=np.int64))

    @property
    def n_channels(self) -> int:
        """Number of energy channels E."""
        return int(self.array.shape[-1])

    def fold(self, function: Callable[..., Any], combine: Callable[[Any, Any], Any], *, label: str) -> Any:
        """Reduce the map to one state.

        Parameters
        ----------
        function
            Called as ``function(rows, pixels)`` with the (n, E) spectra of a block in their own
            dtype and their flat indices; returns the block's state.
        combine
            Adds two states; associative. The order is fixed, so results repeat bit for bit.
        label
            Name of the stage, for people.

        Returns
        -------
        the state of the whole map
        """
        add = dask.delayed(combine, pure=False)
        # A block is folded apart from being added: a step that needed the state before it would leave the
        # other workers nothing to do but to read blocks ahead, as many as the file has.
        states = self._tasks(self.blocks, function)
        # As many chains as workers: each holds one state, whatever the number of blocks.
        n_workers = count_workers(None if self._where() else active_client())
        bounds = np.linspace(0, len(states), min(n_workers, len(states)) + 1).astype(int)
        chains = [functools.reduce(add, states[a:b]) for a, b in itertools.pairwise(bounds)]
        return functools.reduce(combine, self._compute(chains, label))

    def map_rows(self, function: Callable[..., np.ndarray], *, n_columns: int, label: str) -> np.ndarray:
        """Map every spectrum to `n_columns` numbers, held in memory.

        Parameters
        ----------
        function
            Called as ``function(rows, pixels)``; returns an (n, n_columns) array.
        n_columns
            Numbers per spectrum.
        label
            Name of the stage, for people.

        Returns
        -------
        float32 array of shape (n_pixels, n_columns), pixels in C order
        """
        result = np.empty((self.n_pixels, n_columns), dtype=np.float32)
        parts = self.map_blocks(self.blocks, _FillRows(function, result), label=label)
        for block, part in zip(self.blocks, parts, strict=True):
            if part is not None:
                result[block.pixels(self.navigation_shape)] = part
        return result

    def map_blocks(
        self, blocks: Sequence[Block], function: Callable[..., Any], *, label: str, more: Sequence[tuple[Any, ...]] = ()
    ) -> tuple[Any, ...]:
        """Call a function on boxes of the map, which may overlap; nothing else is read.

        Parameters
        ----------
        blocks
            The boxes.
        function
            Called as ``function(rows, pixels)`` with the (n, E) spectra and their flat indices.
        label
            Name of the stage, for people.
        more
            Further arguments of the function, one tuple for each box.

        Returns
        -------
        what the function returned for each box
        """
        return self._compute(self._tasks(blocks, function, more), label) if blocks else ()

    def _tasks(
        self, blocks: Sequence[Block], function: Callable[..., Any], more: Sequence[tuple[Any, ...]] = ()
    ) -> list[Delayed]:
        """Return the tasks that call a function on blocks, of which all share one copy."""
        run = dask.delayed(functools.partial(_run_block, self.drift, self.unit, self.navigation_shape[-1]), pure=False)
        as_one, tasks = functools.partial(dask.delayed, pure=False, traverse=False), []
        function = as_one(function)
        for block, arguments in zip(blocks, more or [()] * len(blocks), strict=True):
            part: Any = self.array[block.region]
            if not isinstance(part, np.ndarray):  # chunks that cut the energy axis are merged here and only here
                part = part.rechunk(part.shape).to_delayed().reshape(-1)[0]
            tasks.append(run(as_one(part), block.pixels(self.navigation_shape), function, *arguments))
        return tasks

    def _compute(self, tasks: list[Delayed], label: str) -> tuple[Any, ...]:
        return compute(*tasks, progress=self.progress, label=label, **self._where())

    def _where(self) -> dict[str, str]:
        """Return where to compute: an array in memory is not worth sending to a cluster."""
        return {"scheduler": "threads"} if isinstance(self.array, np.ndarray) and active_client() else {}


def plain_array(values: Any) -> np.ndarray:
    """Return values as kernels take them: dense, in native byte order, in C order in memory.

    Parameters
    ----------
    values
        Any array: turned, big-endian, mapped from a file, or sparse (of the library ``sparse``). Copied only where it
        is not plain.
    """
    dense = values.todense() if hasattr(values, "todense") else np.asarray(values)
    return np.ascontiguousarray(dense, dense.dtype.newbyteorder("="))


def shift_channels(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return spectra shifted to higher energy by whole channels, which leaves their noise as it is.

    Parameters
    ----------
    rows
        (n, E) spectra.
    by
        (n,) whole numbers of channels, smaller than E; negative ones shift to lower energy.

    Returns
    -------
    (n, E) spectra, 0 in channels that nothing was recorded for
    """
    shifted = np.zeros_like(rows)
    n_channels = rows.shape[1]
    for shift in np.unique(by):
        at, up, down = by == shift, max(0, shift), max(0, -shift)
        shifted[at, up : n_channels - down] = rows[at, down : n_channels - up]
    return shifted


@dataclass(frozen=True)
class _FillRows:
    """Writes the numbers of a block where they belong, or returns them where that is out of reach.

    Parts that wait for the last block would be as large as the table itself. Threads of this process fill the
    table; a copy of this object in another process has none.
    """

    function: Callable[..., np.ndarray]
    table: np.ndarray | None

    def __reduce__(self) -> tuple[Any, ...]:
        return _FillRows, (self.function, None)

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray | None:
        values = self.function(rows, pixels)
        if self.table is None:
            return values
        self.table[pixels] = values
        return None


def _run_block(
    drift: np.ndarray | None, unit: float, line_length: int, part: Any, pixels: np.ndarray, function: Any, *more: Any
) -> Any:
    """Call a function on the rows of a block, in their unit and with the drift of their scan lines taken back."""
    rows = plain_array(part).reshape(len(pixels), -1)
    if unit != 1:
        rows = rows / np.float64(unit)
    if drift is not None:
        rows = shift_channels(rows, -drift[pixels // line_length])
    with one_openmp_thread():
        return function(rows, pixels, *more)


def map_with_halo(
    stream: SpectrumStream, function: Callable[..., Any], *, halo: int, label: str
) -> list[tuple[np.ndarray, Any]]:
    r"""Call a function on every block of a map together with the pixels around it.

    Parameters
    ----------
    stream
        The spectra.
    function
        Called as ``function(values, pixels, inner)``: the (\*grown, E) spectra of a block with its halo,
        their (\*grown,) flat indices, and the slices of the block itself in them.
    halo
        Pixels around each block; fewer at the borders of the map.
    label
        Name of the stage, for people.

    Returns
    -------
    for each block the flat indices of its pixels, and what the function returned
    """
    shape = stream.navigation_shape
    grown, more = [], []
    for block in stream.blocks:
        starts, stops = np.array([(s.start, s.stop) for s in block.region]).T
        low, high = np.maximum(starts - halo, 0), np.minimum(stops + halo, shape)
        grown.append(Block(tuple(map(slice, low, high))))
        more.append((tuple(high - low), tuple(map(slice, starts - low, stops - low))))

    def shaped(rows: np.ndarray, pixels: np.ndarray, sizes: tuple[int, ...], inner: tuple[slice, ...]) -> Any:
        return function(rows.reshape(*sizes, -1), pixels.reshape(sizes), inner)

    found = stream.map_blocks(grown, shaped, label=label, more=more)
    return [(block.pixels(shape), part) for block, part in zip(stream.blocks, found, strict=True)]


def patch_sums(
    stream: SpectrumStream,
    used: np.ndarray,
    channels: np.ndarray,
    *,
    sides: tuple[int, ...],
    label: str,
    beside: Callable[[np.ndarray], np.ndarray] | None = None,
    n_beside: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Sum the spectra of patches of pixels, in one pass.

    Parameters
    ----------
    stream
        The spectra.
    used
        (n_pixels,) bool; others do not count.
    channels
        (E,) bool, the channels to keep.
    sides
        Pixels along each side of a patch, in array order.
    label
        Name of the stage, for people.
    beside, n_beside
        Function from (n, E kept) spectra to (n, n_beside) further numbers, which are summed too.

    Returns
    -------
    (\*patches, E kept + n_beside) float32 sums, and the (\*patches,) number of pixels in each
    """
    shape = stream.navigation_shape
    grid = tuple(-(-n // side) for n, side in zip(shape, sides, strict=True))

    def sum_block(rows: np.ndarray, pixels: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        use = used[pixels]
        rows = rows[:, channels] if not channels.all() else rows
        rows = (rows if use.all() else rows[use]).astype(np.float32)
        if beside:
            rows = np.concatenate([rows, beside(rows)], axis=1)
        place = tuple(index // side for index, side in zip(np.unravel_index(pixels[use], shape), sides, strict=True))
        patches, member = np.unique(np.ravel_multi_index(place, grid), return_inverse=True)
        ones = np.ones(len(member), np.float32)
        members = scipy.sparse.csr_array((ones, (member, np.arange(len(member)))), (len(patches), len(member)))
        return [(patches, members @ rows, np.bincount(member, minlength=len(patches)))]

    parts = stream.fold(sum_block, operator.add, label=label)
    sums = np.zeros((int(np.prod(grid)), int(channels.sum()) + n_beside), np.float32)
    counts = np.zeros(len(sums), np.int64)
    for patches, part, n in parts:
        sums[patches] += part
        counts[patches] += n
    return sums.reshape(*grid, -1), counts.reshape(grid)
