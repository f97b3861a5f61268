"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of measured maps: $SPECML_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("SPECML_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no measured maps here: set SPECML_DATA to their folder")
    return folder


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Make every dask computation an error, to prove that building a graph computes nothing."""

    def refuse(graph: object, keys: object, **options: object) -> None:
        raise AssertionError("dask computed something where only a graph should have been built")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def computations() -> Iterator[list[int]]:
    """Collect the number of tasks of each dask computation, in the order in which they run."""
    sizes: list[int] = []

    def count(graph: dict, keys: object, **options: object) -> object:
        sizes.append(len(graph))
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=count):
        yield sizes


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh interpreter, away from the source tree, and return all that it printed."""

    def run(code: str, *options: str, folder: Path = tmp_path, search: Path | None = None) -> str:
        environment = {**os.environ, **({"PYTHONPATH": str(search)} if search else {})}
        done = subprocess.run(
            [sys.executable, *options, "-c", code],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run
