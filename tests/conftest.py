"""Fixtures that the tests of all modules share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyperspy.signal import BaseSignal

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MPLBACKEND", "Agg")

# Array order: slowest first, energy last. All sizes differ, so that no swapped pair of axes fits by chance.
SHAPES = {1: (7, 11), 2: (7, 5, 11), 3: (3, 7, 5, 11)}
SCAN = [
    {"name": "time", "units": "s", "scale": 0.5, "offset": 2.0},
    {"name": "y", "units": "nm", "scale": 0.2, "offset": -3.0},
    {"name": "x", "units": "µm", "scale": 0.1, "offset": 4.0},
]
ENERGY = {"name": "Energy loss", "units": "eV", "scale": 0.25, "offset": 700.0}


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

    def count(graph: Any, keys: object, **options: object) -> object:
        # newer versions of dask hand over an expression, older ones a mapping of tasks
        tasks = dict(graph.__dask_graph__() if hasattr(graph, "__dask_graph__") else graph)
        sizes.append(len(tasks))
        return dask.get(tasks, keys, **options)

    with dask.config.set(scheduler=count):
        yield sizes


class CountedFile:
    """An array that counts how often each of its values is read, as a file on disk would be."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._lock = array, threading.Lock()
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.reads = np.zeros(array.shape, int)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        with self._lock:
            self.reads[region] += 1
        return self._array[region]

    def dask(self, chunks: tuple[Any, ...]) -> da.Array:
        """Return the file as a dask array."""
        return da.from_array(self, chunks=chunks, name=False)


@pytest.fixture
def counted() -> type[CountedFile]:
    return CountedFile


def make_map(
    n_navigation: int = 2,
    *,
    data: np.ndarray | da.Array | None = None,
    energy: dict[str, Any] = ENERGY,
    signal_type: str = "EELS",
    order: tuple[int, ...] | None = None,
) -> BaseSignal:
    """Counts with calibrated axes; *order* transposes the data under the axes, as energy-first files do."""
    from hyperspy.signal import BaseSignal

    if data is None:
        data = np.random.default_rng(0).poisson(4, SHAPES[n_navigation]).astype(np.uint8)
    axes = [axis | {"navigate": True} for axis in SCAN[1 - data.ndim :]] + [energy | {"navigate": False}]
    axes = [axis if "axis" in axis else axis | {"size": n} for axis, n in zip(axes, data.shape, strict=True)]
    order = order or tuple(range(data.ndim))
    metadata = {
        "General": {"title": "steel", "authors": "A. Nonymous"},
        "Signal": {"signal_type": signal_type},
        "Acquisition_instrument": {"TEM": {"beam_energy": 200.0}},
        "Sample": {"elements": ["Cr", "Fe"]},
    }
    signal = BaseSignal(
        data.transpose(order),
        axes=[dict(axes[i]) for i in order],
        metadata=metadata,
        original_metadata={"File": {"version": 3, "table": [1, 2, 3]}},
    )
    signal._lazy = not isinstance(data, np.ndarray)
    signal.set_signal_type(signal_type)
    return signal


@pytest.fixture(name="make_map", scope="session")
def _make_map() -> Callable[..., BaseSignal]:
    return make_map


def fingerprint(signal: BaseSignal) -> tuple[object, ...]:
    """Return all that a method could have changed in a signal."""
    data = signal.data
    return (
        *((data.name, data.chunks) if signal._lazy else (data.strides, data.tobytes())),
        *(type(signal), data.dtype, data.shape),
        *(repr(part.as_dictionary()) for part in (signal.axes_manager, signal.metadata)),
        repr(signal.original_metadata.as_dictionary()),
        repr(vars(signal.learning_results)),
    )


@pytest.fixture
def unchanged() -> Iterator[Callable[[BaseSignal], BaseSignal]]:
    """Watch signals: at the end of the test they must be bit-identical to what they were."""
    watched = []

    def watch(signal: BaseSignal) -> BaseSignal:
        watched.append((signal, fingerprint(signal)))
        return signal

    yield watch
    for signal, before in watched:
        assert fingerprint(signal) == before


def shorten_training(patch: pytest.MonkeyPatch, most: int) -> None:
    """Train every network for so many steps at most, and look at its score every 20 steps."""
    import hyperspy_specml as specml

    over = specml.TrainConfig.over  # where a network's defaults come in

    def brief(own: specml.TrainConfig, defaults: specml.TrainConfig) -> specml.TrainConfig:
        config = over(own, defaults)
        assert config.max_steps is not None
        return replace(config, max_steps=min(most, config.max_steps), extension=0.0, evaluate_every=20)

    patch.setattr(specml.TrainConfig, "over", brief)


@pytest.fixture
def brief_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train every network briefly, for tests of what is around the training."""
    shorten_training(monkeypatch, 60)


@pytest.fixture
def early_plateaus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look five times as often whether the score still falls, so that a training ends where it stops falling."""
    shorten_training(monkeypatch, 600)


@pytest.fixture(scope="module")
def few_drawn_pixels() -> Iterator[None]:
    """Draw an eighth of the pixels that scores are compared with, for tests to which no precise p-value matters."""
    from hyperspy_specml.anomaly import _score

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_score, "_NULL_PIXELS", _score._PIECE)
        yield


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


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
