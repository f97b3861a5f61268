"""Map of iron L2,3 edges of mixed valence (EELS), with thickness, drift and background."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.datasets._fields import compact_spot, scan_drift, uniform_field
from hyperspy_specml.datasets._iron_spectra import FIRST_ENERGY, WINDOW, energy_axis, mapped_spectra
from hyperspy_specml.datasets._simulated import (
    SimulatedMap,
    check_map,
    expectation,
    scaled_to_mean,
    scan_axes,
    scan_map,
    spectrum_signal,
)
from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from dask.array import Array
    from hyperspy.signals import BaseSignal
    from numpy.typing import NDArray

    from hyperspy_specml.datasets._fields import Shape

# Step of the scan in nm.
_PIXEL = 0.5
# Standard deviation of the energy drift over the map, in eV.
_DRIFT = 0.5
# Smallest and largest thickness, in inelastic mean free paths.
_THICKNESS = (0.3, 1.2)
# Fewest and most iron atoms, relative to those of the matrix that makes the background.
_IRON = (0.6, 1.4)


@dataclass(frozen=True)
class ShiftedEdge:
    """A compact group of *n_pixels* whose spectrum lies *shift* eV higher: an anomaly to plant."""

    n_pixels: int = 24
    shift: float = 1.0


def fe_l_map(
    shape: Shape = (96, 96),
    *,
    n_channels: int = 512,
    dose: float = 30.0,
    drift: bool = True,
    background: bool = True,
    rare_phase: ShiftedEdge | None = None,
    random_state: int = 0,
    lazy: bool = False,
) -> SimulatedMap:
    """Simulate an EELS map of the iron L2,3 edges with smoothly varying valence.

    Every spectrum follows from four smooth maps (see `fe_l_spectra`), so the clean data
    lie on a curved surface of at most four dimensions.

    Parameters
    ----------
    shape
        Of the scan, in array order: (ny, nx), one to three axes.
    n_channels
        Energy channels from 690 eV, 51.2 eV in all: 0.1 eV each for 512.
    dose
        Mean counts per channel over the whole map.
    drift
        Let the energy axis wander slowly and jump from line to line, 0.5 eV (standard deviation).
    background
        Put the edges on a power-law background; without it counts before the edge are nearly zero.
    rare_phase
        Plants a compact group of pixels whose spectrum is shifted; None plants nothing.
    random_state
        Seed of the maps and of the noise.
    lazy
        Make `signal` and `clean` lazy: whole spectra, chunks of whole scan lines.

    Returns
    -------
    SimulatedMap
        ``truth`` holds ``fe3_fraction`` (0 to 1), ``thickness`` (0.3 to 1.2 inelastic mean
        free paths), ``iron`` (0.6 to 1.4, relative density) and ``shift`` (eV, drift and
        planted shift together).

    Raises
    ------
    OptionError
        The shape, the number of channels, the dose or the rare phase cannot be simulated.

    Examples
    --------
    >>> from hyperspy_specml.datasets import fe_l_map
    >>> fe_l_map((8, 12), dose=30).signal
    <EELSSpectrum, title: Simulated Fe-L2,3 map, dimensions: (12, 8|512)>
    """
    check_map(shape, n_channels=n_channels, dose=dose, rare_phase=rare_phase)
    rng = np.random.default_rng(random_state)
    maps = {
        "fe3_fraction": uniform_field(rng, shape),
        "thickness": uniform_field(rng, shape, *_THICKNESS),
        "iron": uniform_field(rng, shape, *_IRON),
        "shift": scan_drift(rng, shape, _DRIFT) * drift,  # drawn in any case, as it moves the generator
    }
    spot = None
    if rare_phase:
        spot = compact_spot(rng, shape, rare_phase.n_pixels)
        maps["shift"] = maps["shift"] + rare_phase.shift * spot

    parameters = np.stack(list(maps.values()), axis=-1)  # (ny, nx, 4)
    spectra = partial(mapped_spectra, energy=energy_axis(n_channels), background=background)
    relative = expectation(parameters, spectra, n_channels=n_channels)
    clean, largest = scaled_to_mean(relative, dose, keep=not lazy)
    return SimulatedMap.from_expectation(
        _eels_signal(clean if lazy else clean.compute(), "Simulated Fe-L2,3 map, noise-free"),
        truth={name: scan_map(values, title=name, scale=_PIXEL) for name, values in maps.items()},
        dose=dose,
        largest=largest,
        rare_mask=None if spot is None else scan_map(spot, title="rare_mask", scale=_PIXEL),
        random_state=random_state,
    )


def fe_l_library(
    n_spectra: int = 4000,
    *,
    n_channels: int = 512,
    thickness: tuple[float, float] = (0.2, 1.4),
    iron: tuple[float, float] = (0.5, 1.5),
    shift: tuple[float, float] = (-2.0, 2.0),
    background: bool = True,
    random_state: int = 0,
) -> BaseSignal:
    """Compute noise-free iron L2,3 spectra of every valence, to train a denoiser on.

    Parameters
    ----------
    n_spectra
        Number of spectra; each has parameters of its own, evenly distributed.
    n_channels
        Energy channels from 690 eV, 51.2 eV in all.
    thickness, iron, shift
        Smallest and largest value, as in `fe_l_spectra`; all fractions of Fe3+ occur.
    background
        Put the edges on a power-law background.
    random_state
        Seed.

    Returns
    -------
    EELSSpectrum (n | E), of mean 1

    Raises
    ------
    OptionError
        There are no spectra or channels, or a range ends before it begins.

    Examples
    --------
    >>> from hyperspy_specml.datasets import fe_l_library
    >>> fe_l_library(100)
    <EELSSpectrum, title: Library of Fe-L2,3 spectra, dimensions: (100|512)>
    """
    check_map((n_spectra,), n_channels=n_channels, dose=1.0, rare_phase=None)
    rng = np.random.default_rng(random_state)
    columns = [rng.uniform(0, 1, n_spectra)]
    for name, (low, high) in {"thickness": thickness, "iron": iron, "shift": shift}.items():
        if not low <= high:
            raise OptionError(f"fe_l_library({name}=({low!r}, {high!r})) ends before it begins: swap the two.")
        columns.append(rng.uniform(low, high, n_spectra))
    spectra = mapped_spectra(np.stack(columns, axis=-1), energy=energy_axis(n_channels), background=background)
    return _eels_signal((spectra / spectra.mean()).astype(np.float32), "Library of Fe-L2,3 spectra")


def _eels_signal(data: NDArray[np.float32] | Array, title: str) -> BaseSignal:
    scale = WINDOW / data.shape[-1]
    detector = {"EELS": {"collection_angle": 40.0}}
    microscope = {"beam_energy": 200.0, "convergence_angle": 20.0, "Detector": detector}
    return spectrum_signal(
        data,
        signal_type="EELS",
        navigation_axes=scan_axes(data.shape[:-1], scale=_PIXEL),
        energy_axis={"name": "Energy loss", "offset": FIRST_ENERGY, "scale": scale, "units": "eV"},
        metadata={
            "General": {"title": title},
            "Acquisition_instrument": {"TEM": microscope},
            "Sample": {"elements": ["Fe"]},
        },
    )
