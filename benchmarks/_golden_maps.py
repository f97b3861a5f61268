"""Small fixed maps for `golden`: simulated ones, one made here, and parts of measured ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._maps import FOLDER
from hyperspy_specml import datasets

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy.signals import BaseSignal

    Pair = tuple[BaseSignal, BaseSignal]  # a map, and another one to which its models are applied

SHAPE = (20, 24)
N_CHANNELS = 160
# file, and the parts of it that are used: two areas (x, y) and the channels
_FILES: dict[str, tuple[str, tuple[Any, Any], Any]] = {
    "88_ES-LP": (
        "espm/88_ES-LP_G8_selection2_cropped2.hspy",
        (np.s_[10:34, 20:40], np.s_[40:64, 50:70]),
        np.s_[40:200],
    ),
    "BTO": ("pangroup/Example_BTO_deleted.dm4", (np.s_[:24, :20], np.s_[10:34, 14:34]), np.s_[:200]),
}


def maps() -> dict[str, Callable[[], Pair]]:
    """Return what makes each map; measured ones only where their file is."""
    rare = datasets.RarePhase(n_pixels=9)
    shifted = datasets.ShiftedEdge(n_pixels=12, shift=2.0)
    found: dict[str, Callable[[], Pair]] = {
        "Fe-L": partial(_simulated, datasets.fe_l_map, dose=60.0, rare_phase=shifted),
        "alloy": partial(_simulated, datasets.fe_cr_ni_map, dose=300.0, rare_phase=rare),
        "grains": partial(_simulated, datasets.fe_cr_ni_map, dose=300.0, rare_phase=rare, texture="grains"),
        "CL": lambda: (_luminescence(0), _luminescence(1)),
    }
    return found | {name: partial(_measured, name) for name in _FILES if not missing(name)}


def missing(name: str) -> str:
    """Say why a measured map cannot be had, or nothing."""
    if (FOLDER / _FILES[name][0]).is_file():
        return ""
    return f"{name} is left out: the folder of measured maps has no {_FILES[name][0]} (set SPECML_DATA to it)"


def measured_maps() -> list[str]:
    """Return the names of the maps that are read from files."""
    return [*_FILES]


def lazily(signal: BaseSignal) -> BaseSignal:
    """Return a map as dask array in two uneven chunks along each axis, that of energy too."""
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk(tuple((2 * n // 5, n - 2 * n // 5) for n in lazy.data.shape))
    return lazy


def _simulated(simulate: Callable[..., Any], **options: Any) -> Pair:
    one, other = (simulate(SHAPE, n_channels=N_CHANNELS, random_state=seed, **options).signal for seed in (0, 1))
    one.data[3, 5, 70] += 60  # a spike
    one.data[17, 2] = 0  # an empty spectrum
    return one, other


def _luminescence(seed: int) -> BaseSignal:
    """Make a float map with Gaussian noise: two bands, one of them moving, a rare third one, and defects."""
    from hyperspy.signals import Signal1D

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[1]
    wavelength = np.linspace(350, 750, N_CHANNELS)  # nm

    def band(centre: Any, width: float) -> np.ndarray:
        return np.exp(-(((wavelength - np.asarray(centre)[..., None]) / width) ** 2) / 2)

    clean = 40 * (1 + np.sin(5 * x))[..., None] * band(450 + 15 * np.cos(4 * y + seed), 18)
    clean = clean + 25 * (1 + np.cos(3 * x * y))[..., None] * band(np.full(SHAPE, 620.0), 30)
    clean[9:12, 14:17] += 20 * band(540.0, 10)
    data = (clean + rng.normal(5, 3, clean.shape)).astype(np.float32)
    data[4, 20, 33] += 300  # a spike
    data[15, 3] = np.nan
    axes = [
        {"name": name, "size": n, "scale": 0.1, "units": "µm", "navigate": True}
        for name, n in zip("yx", SHAPE, strict=True)
    ]
    step = wavelength[1] - wavelength[0]
    spectral = {"name": "Wavelength", "size": N_CHANNELS, "offset": 350.0, "scale": step, "units": "nm"}
    signal = Signal1D(data, axes=[*axes, spectral | {"navigate": False}])
    signal.metadata.General.title = "CL-like map"
    return signal


def _measured(name: str) -> Pair:
    import hyperspy.api as hs

    file, areas, channels = _FILES[name]
    loaded = hs.load(FOLDER / file)
    signals = loaded if isinstance(loaded, list) else [loaded]
    signal = next(s for s in signals if s.axes_manager.signal_dimension == 1)
    one, other = (signal.inav[area].isig[channels].deepcopy() for area in areas)
    return one, other
