"""Run work on several cores, each piece of it on one: tasks of dask, and threads of this machine."""

from __future__ import annotations

import itertools
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dask
import dask.threaded
from dask.callbacks import Callback
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask.delayed import Delayed

    from hyperspy_specml.progress import Progress


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
    where |= without_lost_threads()
    with progress.enter(label), _advancing(progress), one_blas_thread():
        return dask.compute(*tasks, optimize_graph=True, **where)


def without_lost_threads() -> dict[str, str]:
    """Return where a fork computes: it has not the threads of dask and OpenMP, and would wait for them for ever."""
    others = itertools.chain.from_iterable(pools.values() for pools in dask.threaded.pools.values())
    threads = [getattr(pool, "_threads", ()) for pool in (dask.threaded.default_pool, *others)]
    if not any(own and not any(thread.is_alive() for thread in own) for own in threads):
        return {}
    one_openmp_thread()  # from here on, as it is not left, unless a limit around it ends
    return {"scheduler": "synchronous"}


def _advancing(progress: Progress) -> Any:
    """Return the context in which every finished task moves the progress; a cluster reports none of them."""
    n_tasks, finished = 0, itertools.count(1)

    def start(dsk: Any, state: dict[str, Any]) -> None:
        nonlocal n_tasks
        n_tasks = sum(len(state[kind]) for kind in ("ready", "waiting"))

    def finish(*_: Any) -> None:
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
    if len(tasks) == 1:
        return (tasks[0](),)
    run = dask.delayed(_run_alone, pure=False)
    with one_blas_thread():
        return dask.compute(*map(run, tasks), **({"scheduler": "threads"} | without_lost_threads()))


def _run_alone(task: Callable[[], Any]) -> Any:
    with one_openmp_thread():
        return task()


def one_blas_thread() -> Any:
    """Return the context in which products of matrices have one thread."""
    return _threadpools(len(sys.modules)).limit(limits=1, user_api="blas")


def one_openmp_thread() -> Any:
    """Return the context in which OpenMP, which torch uses, has one thread; in the calling thread only.

    A worker that starts a team of its own keeps it, and from then on every small operation of a training
    in this process waits twice as long for its threads.
    """
    return _threadpools(len(sys.modules)).limit(limits=1, user_api="openmp")


@lru_cache(maxsize=1)
def _threadpools(_n_modules: int) -> ThreadpoolController:
    """Return the thread pools of the process, found anew once an import may have brought more of them.

    To find them takes 4 ms, which a call on a small map spent some twenty times.
    """
    return ThreadpoolController()


def active_client() -> Any:
    """Return the active distributed client, or None."""
    distributed = sys.modules.get("distributed")  # no client can exist where it was never imported
    try:
        return distributed and distributed.get_client()
    except ValueError:
        return None


def count_workers(client: Any) -> int:
    """Return the threads of the client's cluster, else the cores of this machine."""
    if client is not None:
        return max(1, sum(client.ncores().values()))
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)
