"""Passes over all spectra: fold blocks into one state, or map every spectrum to a few numbers."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.progress import Progress
from hyperspy_specml.streaming._blocks import Block, plan_blocks
from hyperspy_specml.streaming._shift import shift_channels

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array as da
    from dask.delayed import Delayed
    from threadpoolctl import ThreadpoolController

_BLOCKS_PER_BUDGET = 16  # the blocks in flight, one per core, and what is made of them
_ROWS_FOR_PRODUCT = 2048, 16384  # enough for an efficient (E x E) product, and more than enough
_LEAST_BLOCKS = 4  # of a map with enough rows for that: for as many cores


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
        (n_lines,) channels by which the spectra of each scan line lie too high. All passes see them moved
        back, and 0 where nothing was recorded.
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
        n_rows = min(most_rows, int(np.clip(self.n_pixels // _LEAST_BLOCKS, *_ROWS_FOR_PRODUCT)))
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

        task = self._task()
        add = dask.delayed(combine, pure=False)
        function = dask.delayed(function, pure=False, traverse=False)  # one copy for all blocks
        chains: list[Delayed] = []
        # As many chains as workers: each holds one state, whatever the number of blocks.
        for blocks in _contiguous_groups(self.blocks, _n_workers(None if self._where() else _client())):
            # A block is folded apart from being added: a step that needed the state before it would leave the
            # other workers nothing to do but to read blocks ahead, as many as the file has.
            states = [
                task(self._read(block), block.pixels(self.navigation_shape), function) for block in blocks
            ]
            chains.append(functools.reduce(add, states))
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
        import dask

        result = np.empty((self.n_pixels, n_columns), dtype=np.float32)
        task = self._task()
        function = dask.delayed(_FillRows(function, _Table(result)), pure=False, traverse=False)
        parts = [
            task(self._read(block), block.pixels(self.navigation_shape), function) for block in self.blocks
        ]
        for block, part in zip(self.blocks, self._compute(parts, label), strict=True):
            if part is not None:
                result[block.pixels(self.navigation_shape)] = part
        return result

    def _task(self) -> Delayed:
        """Return the task that calls a function on a block."""
        import dask

        run = _RunBlock(self.drift, self.navigation_shape[-1])
        return dask.delayed(run, pure=False, traverse=False)

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
        return {"scheduler": "threads"} if isinstance(self.array, np.ndarray) and _client() else {}


def compute(*tasks: Delayed, progress: Progress, label: str, **where: str) -> tuple[Any, ...]:
    """Compute tasks, each on one core: products that use all cores as well would only wait for each other.

    Parameters
    ----------
    tasks
        Delayed pieces of work.
    progress, label
        The tasks make up a stage of this name.
    where
        Keywords of ``dask.compute``.

    Raises
    ------
    Cancelled
        The progress was asked to end the call.
    """
    import dask
    from threadpoolctl import threadpool_limits

    with progress.enter(label), _advancing(progress), threadpool_limits(limits=1, user_api="blas"):
        return dask.compute(*tasks, optimize_graph=True, **where)


def _advancing(progress: Progress) -> Any:
    """Return the context in which every finished task moves the progress; a cluster reports none of them."""
    from dask.callbacks import Callback

    n_tasks, finished = 0, itertools.count(1)

    def start(dsk: Any, state: dict[str, Any]) -> None:
        nonlocal n_tasks
        n_tasks = sum(len(state[kind]) for kind in ("ready", "waiting"))

    def finish(key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        progress.advance(next(finished) / max(1, n_tasks))

    return Callback(start_state=start, posttask=finish)


def side_by_side(*tasks: Callable[[], Any]) -> tuple[Any, ...]:
    """Run independent pieces of work in threads of this machine, each on one core.

    Two products that share the cores finish together; two threads that share one product wait for each other
    whenever anything else runs on the machine.

    Parameters
    ----------
    tasks
        Functions without arguments that spend their time in NumPy, SciPy or torch.

    Returns
    -------
    what they return, in their order
    """
    import dask
    from threadpoolctl import threadpool_limits

    if len(tasks) == 1:
        return (tasks[0](),)
    run = dask.delayed(_run_alone, pure=False)
    with threadpool_limits(limits=1, user_api="blas"):
        return dask.compute(*(run(_Task(task)) for task in tasks), scheduler="threads")


@dataclass(frozen=True)
class _Task:
    """A function that dask does not look into."""

    function: Callable[[], Any]


def _run_alone(task: _Task) -> Any:
    with _openmp().limit(limits=1, user_api="openmp"):
        return task.function()


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

    def __call__(self, part: Any, pixels: np.ndarray, function: Callable[..., Any]) -> Any:
        rows = np.asarray(part.array if isinstance(part, _Rows) else part).reshape(len(pixels), -1)
        if self.drift is not None:
            rows = shift_channels(rows, -self.drift[pixels // self.line_length])
        with _openmp().limit(limits=1, user_api="openmp"):
            return function(rows, pixels)


@lru_cache(maxsize=1)
def _openmp() -> ThreadpoolController:
    """Return the control of OpenMP threads, which torch uses.

    A worker that starts a team of its own keeps it, and from then on every small operation of a training
    in this process waits twice as long for its threads. The limit holds for the calling thread only.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _contiguous_groups(blocks: tuple[Block, ...], n_groups: int) -> list[tuple[Block, ...]]:
    bounds = np.linspace(0, len(blocks), min(n_groups, len(blocks)) + 1).astype(int)
    return [blocks[a:b] for a, b in itertools.pairwise(bounds)]


def _client() -> Any:
    """Return the active distributed client, or None."""
    import sys

    distributed = sys.modules.get("distributed")  # no client can exist where it was never imported
    if distributed is None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None


def _n_workers(client: Any) -> int:
    """Return the threads of the client's cluster, else the cores of this machine."""
    import dask

    if client is not None:
        return max(1, sum(client.ncores().values()))
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)
