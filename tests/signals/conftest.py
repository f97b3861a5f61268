from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hyperspy.signal import BaseSignal

if TYPE_CHECKING:
    from collections.abc import Callable

# Array order: slowest first, energy last. All sizes differ, so that no swapped pair of axes fits by chance.
SHAPES = {1: (7, 11), 2: (7, 5, 11), 3: (3, 7, 5, 11)}
SCAN = [
    {"name": "time", "units": "s", "scale": 0.5, "offset": 2.0},
    {"name": "y", "units": "nm", "scale": 0.2, "offset": -3.0},
    {"name": "x", "units": "µm", "scale": 0.1, "offset": 4.0},
]
ENERGY = {"name": "Energy loss", "units": "eV", "scale": 0.25, "offset": 700.0}
NON_UNIFORM_ENERGY = {"name": "Wavelength", "units": "nm", "axis": 1239.8 / np.linspace(3.0, 1.5, 11)}


def make_map(
    n_navigation: int = 2,
    *,
    energy: dict[str, Any] = ENERGY,
    signal_type: str = "EELS",
    order: tuple[int, ...] | None = None,
    data: np.ndarray | None = None,
) -> BaseSignal:
    """Counts with calibrated axes; *order* transposes the data under the axes, as energy-first files do."""
    shape = SHAPES[n_navigation]
    if data is None:
        data = np.random.default_rng(0).poisson(4, shape).astype(np.uint8)
    axes = [axis | {"navigate": True} for axis in SCAN[-n_navigation:]] + [energy | {"navigate": False}]
    axes = [axis if "axis" in axis else axis | {"size": n} for axis, n in zip(axes, shape, strict=True)]
    order = order or tuple(range(len(shape)))
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
    signal.set_signal_type(signal_type)
    return signal


def fingerprint(signal: BaseSignal) -> tuple[Any, ...]:
    data = np.asarray(signal.data)
    return (
        type(signal),
        getattr(signal.data, "name", None),
        getattr(signal.data, "chunks", None),
        data.dtype,
        data.shape,
        data.strides,
        data.tobytes(),
        repr(signal.axes_manager.as_dictionary()),
        repr(signal.metadata.as_dictionary()),
        repr(signal.original_metadata.as_dictionary()),
        repr(vars(signal.learning_results)),
    )


@pytest.fixture(name="make_map")
def _make_map() -> Callable[..., BaseSignal]:
    return make_map


@pytest.fixture
def unchanged():
    """Watch signals: at the end of the test they must be bit-identical to what they were."""
    watched = []

    def watch(signal: BaseSignal) -> BaseSignal:
        watched.append((signal, fingerprint(signal)))
        return signal

    yield watch
    for signal, before in watched:
        assert fingerprint(signal) == before
