"""Maps whose truth is known: simulated here, or read from the folder of measured maps ($SPECML_DATA)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml import datasets
from hyperspy_specml.statistics import PoissonNoise

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

    from hyperspy_specml.datasets import SimulatedMap

FOLDER = Path(os.environ.get("SPECML_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))
_FILES = {
    "eels-unmix": "eels-unmix/oxide_interface_d1000.hspy",
    "espm": "espm-generated/dev_particles_N200_seed91.hspy",
}
# Doses: counts per channel for Fe-L, per pixel for the others; None is what the file holds.
DOSES: dict[str, tuple[float | None, ...]] = {
    "Fe-L": (30.0,),
    "alloy": (200.0,),
    "grains": (200.0,),
    "eels-unmix": (1000.0, 200.0, 50.0),
    "espm": (None,),
}
# The free numbers behind each spectrum: what a curved model needs. A grain is one of four kinds, which a
# model with continuous latents can place in one to three dimensions, beside the thickness.
FIELDS = {"Fe-L": (4, 4), "alloy": (3, 3), "grains": (2, 4), "eels-unmix": (3, 3), "espm": (2, 2)}  # from, to
SHIFTED = ("Fe-L", "eels-unmix")
# Of the random numbers: decompositions split the counts with streams 0, 1, ... of the same seed, and counts
# that were thinned by the same numbers would all fall into one fold.
_STREAM = 1000


@dataclass(frozen=True)
class KnownMap:
    """Counts and what they were drawn from.

    Attributes
    ----------
    signal
        The counts, (pixels | E).
    clean
        Their expectation (n, E).
    amounts
        Expected counts of each endmember (n, K); None where the map is no mixture.
    endmembers
        Their spectra (K, E).
    drift
        How far a spectrum lies above the endmembers on average, in channels.
    n_components
        What unmixing and the autoencoder are asked for.
    """

    signal: BaseSignal
    clean: np.ndarray
    amounts: np.ndarray | None
    endmembers: np.ndarray | None
    drift: float
    n_components: int

    @property
    def counts(self) -> np.ndarray:
        """The counts as (n, E) float64."""
        return self.signal.data.reshape(self.clean.shape).astype(np.float64)


def missing(name: str) -> str:
    """Say why a map cannot be had, or nothing."""
    if name not in _FILES or (FOLDER / _FILES[name]).is_file():
        return ""
    return f"{name} is left out: the folder of measured maps has no {_FILES[name]} (set SPECML_DATA to it)"


def known_map(name: str, *, dose: float | None = None, size: int = 64, channels: int = 512, seed: int = 0) -> KnownMap:
    """Make a map.

    Parameters
    ----------
    name
        A key of `DOSES`, or "moving peak": one asymmetric emission line, whose place and height vary.
    dose
        Mean counts; files are thinned to it. None keeps what there is.
    size, channels
        Of a simulated map; of files every n-th pixel is taken, so that `size` is not exceeded.
    seed
        Of the simulation, or of the thinning.
    """
    if name in _FILES:
        known = _eels_unmix() if name == "eels-unmix" else _espm()
        return _thinned(_every(known, size), dose, seed)
    options: dict[str, Any] = {"n_channels": channels, "random_state": seed} | ({"dose": dose} if dose else {})
    if name == "Fe-L":
        return _of_simulated(datasets.fe_l_map((size, size), **options), n_components=4)
    if name == "moving peak":
        return _moving_peak((size, size), channels, dose or 30.0, seed)
    texture = "smooth" if name == "alloy" else "grains"
    simulated = datasets.fe_cr_ni_map((size, size), texture=texture, **options)  # type: ignore[arg-type]
    return _of_simulated(simulated, n_components=len(simulated.names))


def denoising_map(name: str, *, dose: float, size: int, channels: int, seed: int) -> tuple[SimulatedMap, np.ndarray]:
    """Simulate a map to be denoised; return it and its noise-free spectra in single precision.

    Parameters
    ----------
    name
        "fe_l", which has 512 channels, or a texture of the alloy.
    dose
        Counts per channel of "fe_l", per pixel of the others.
    size, channels, seed
        Pixels along each side, channels of the alloy, seed of the simulation.
    """
    if name == "fe_l":
        simulated = datasets.fe_l_map((size, size), dose=dose, random_state=seed)
    else:
        texture: Any = name
        simulated = datasets.fe_cr_ni_map(
            (size, size), dose=dose, texture=texture, n_channels=channels, random_state=seed
        )
    return simulated, simulated.clean.data.astype(np.float32)


def _of_simulated(simulated: SimulatedMap, *, n_components: int) -> KnownMap:
    clean = simulated.clean.data.reshape(-1, simulated.clean.data.shape[-1]).astype(np.float64)
    amounts = endmembers = None
    if simulated.endmembers is not None:
        shares = simulated.truth["abundances"].data.reshape(len(simulated.names), -1).T
        amounts, endmembers = shares * clean.sum(axis=1, keepdims=True), simulated.endmembers.data
    return KnownMap(simulated.signal, clean, amounts, endmembers, 0.0, n_components)


def _moving_peak(shape: tuple[int, int], channels: int, dose: float, seed: int) -> KnownMap:
    """Simulate a line that falls slower than it rises: its place moves by a third of the axis, its height threefold."""
    import hyperspy.api as hs
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    smooth = (gaussian_filter(rng.standard_normal(shape), 0.08 * shape[0], mode="wrap").ravel() for _ in range(2))
    place, height = (field.argsort().argsort() / field.size for field in smooth)  # each value as often, 0 to 1
    x = np.linspace(0, 1, channels)[None] - (1 / 3 + place / 3)[:, None]  # parts of the axis
    clean = (1 + 2 * height)[:, None] * np.exp(-0.5 * (x / np.where(x < 0, 0.04, 0.08)) ** 2) + 0.02
    clean *= dose / clean.mean()
    counts = rng.poisson(clean).reshape(*shape, channels).astype(np.uint16)
    return KnownMap(hs.signals.Signal1D(counts), clean, None, None, 0.0, 2)


def _eels_unmix() -> KnownMap:
    """Read core-loss edges that drift: the expectation is the mixture, moved along energy, in each pixel."""
    signal, truth = _read("eels-unmix")
    endmembers = truth["endmembers"].astype(np.float64)
    shares = truth["abundances"].reshape(len(endmembers), -1).T.astype(np.float64)
    drift = truth["drift_channels"].ravel()
    channels = np.arange(endmembers.shape[1])
    clean = np.array(
        [np.interp(channels - d, channels, spectrum) for d, spectrum in zip(drift, shares @ endmembers, strict=True)]
    )
    scale = signal.data.sum(dtype=np.float64) / clean.sum()
    amounts = scale * shares * endmembers.sum(axis=1)
    return KnownMap(signal, scale * clean, amounts, endmembers, float(drift.mean()), len(endmembers))


def _espm() -> KnownMap:
    signal, truth = _read("espm")
    endmembers = truth["spectra"].astype(np.float64)
    weights = truth["weights"].reshape(-1, len(endmembers)).astype(np.float64)
    amounts = weights * endmembers.sum(axis=1)
    return KnownMap(signal, weights @ endmembers, amounts, endmembers, 0.0, len(endmembers))


def _read(name: str) -> tuple[BaseSignal, Any]:
    import hyperspy.api as hs

    path = FOLDER / _FILES[name]
    truth = next(path.parent.glob(f"{path.stem}*.npz"))
    return hs.load(path), np.load(truth, allow_pickle=False)


def _every(known: KnownMap, size: int) -> KnownMap:
    ny, nx = known.signal.data.shape[:2]
    step = max(1, -(-max(ny, nx) // size))
    rows = np.arange(ny * nx).reshape(ny, nx)[::step, ::step].ravel()
    some = known.signal if step == 1 else _strided(known.signal, step)
    return KnownMap(
        some, known.clean[rows], None if known.amounts is None else known.amounts[rows], known.endmembers,
        known.drift, known.n_components,
    )  # fmt: skip


def _strided(signal: BaseSignal, step: int) -> BaseSignal:
    data = np.ascontiguousarray(signal.data[::step, ::step])
    some = signal.inav[: data.shape[1], : data.shape[0]]
    some.data = data
    return some


def _thinned(known: KnownMap, dose: float | None, seed: int) -> KnownMap:
    mean = known.clean.sum() / len(known.clean)
    if dose is None or dose > 0.99 * mean:
        return known
    share = dose / mean
    counts = known.signal.data.reshape(known.clean.shape)
    thin = PoissonNoise().split(counts, np.arange(len(counts)), (share, 1 - share), seed=seed, stream=_STREAM)[0]
    signal = known.signal
    signal.data = thin.reshape(signal.data.shape)
    amounts = None if known.amounts is None else share * known.amounts
    return KnownMap(signal, share * known.clean, amounts, known.endmembers, known.drift, known.n_components)
