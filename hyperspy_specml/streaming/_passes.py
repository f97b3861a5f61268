"""Passes over all spectra: fold blocks into one state, or map every spectrum to a few numbers."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.progress import Progress
from hyperspy_specml.streaming._blocks import Block, plan_blocks
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
    """

    array: np.ndarray | da.Array
    memory_budget: int = 1_000_000_000
    progress: Progress = field(default_factory=Progress, repr=False, compare=False)
    drift: np.ndarray | None = field(default=None, repr=False)
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
        import dask

        add = dask.delayed(combine, pure=False)
        # A block is folded apart from being added: a step that needed the state before it would leave the
        # other workers nothing to do but to read blocks ahead, as many as the file has.
        states = self._tasks(self.blocks, function)
        # As many chains as workers: each holds one state, whatever the number of blocks.
        n_workers = count_workers(None if self._where() else active_client())
        chains = [functools.reduce(add, group) for group in _contiguous_groups(states, n_workers)]
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
        parts = self.map_blocks(self.blocks, _FillRows(function, _Table(result)), label=label)
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
        import dask

        run = dask.delayed(_RunBlock(self.drift, self.navigation_shape[-1]), pure=False, traverse=False)
        function = dask.delayed(function, pure=False, traverse=False)
        return [
            run(self._read(block), block.pixels(self.navigation_shape), function, *arguments)
            for block, arguments in zip(blocks, more or [()] * len(blocks), strict=True)
        ]

    def _read(self, block: Block) -> Delayed:
        import dask

        part = self.array[block.region]
        if isinstance(part, np.ndarray):
            return dask.delayed(_Rows(part), pure=False, traverse=False)
        # One task per block: chunks that cut the energy axis are merged here and only here.
        return part.rechunk(part.shape).to_delayed().reshape(-1)[0]

    def _compute(self, tasks: list[Delayed], label: str) -> tuple[Any, ...]:
        return compute(*tasks, progress=self.progress, label=label, **self._where())

    def _where(self) -> dict[str, str]:
        """Return where to compute: an array in memory is not worth sending to a cluster."""
        return {"scheduler": "threads"} if isinstance(self.array, np.ndarray) and active_client() else {}


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
class _Rows:
    """A view of the user's array that dask neither hashes nor copies."""

    array: np.ndarray


@dataclass(frozen=True)
class _Table:
    """The array that threads of this process fill; a copy in another process has none."""

    array: np.ndarray | None

    def __reduce__(self) -> tuple[type[_Table], tuple[None]]:
        return _Table, (None,)


@dataclass(frozen=True)
class _FillRows:
    """Writes the numbers of a block where they belong, or returns them where that is out of reach.

    Parts that wait for the last block would be as large as the table itself.
    """

    function: Callable[..., np.ndarray]
    table: _Table

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray | None:
        values = self.function(rows, pixels)
        if self.table.array is None:
            return values
        self.table.array[pixels] = values
        return None


@dataclass(frozen=True)
class _RunBlock:
    """Calls a function on the rows of a block: an object, so that it travels to other processes."""

    drift: np.ndarray | None
    line_length: int

    def __call__(self, part: Any, pixels: np.ndarray, function: Callable[..., Any], *more: Any) -> Any:
        rows = np.asarray(part.array if isinstance(part, _Rows) else part).reshape(len(pixels), -1)
        if self.drift is not None:
            rows = shift_channels(rows, -self.drift[pixels // self.line_length])
        with one_openmp_thread():
            return function(rows, pixels, *more)


def _contiguous_groups(tasks: list[Delayed], n_groups: int) -> list[list[Delayed]]:
    bounds = np.linspace(0, len(tasks), min(n_groups, len(tasks)) + 1).astype(int)
    return [tasks[a:b] for a, b in itertools.pairwise(bounds)]
