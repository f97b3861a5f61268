"""Maps of iron L2,3 edges of mixed valence (EELS), with thickness, drift and background.

The physics: white lines, continuum steps, background, plural scattering.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.signal import fftconvolve
from scipy.special import voigt_profile

from hyperspy_specml.datasets._simulated import (
    SimulatedMap,
    check_map,
    compact_spot,
    expectation,
    scan_drift,
    spectrum_signal,
    uniform_field,
)
from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from dask.array import Array
    from hyperspy.signals import BaseSignal
    from numpy.typing import ArrayLike, NDArray

    from hyperspy_specml.datasets._simulated import Shape

# Step of the scan in nm.
_PIXEL = 0.5
# Standard deviation of the energy drift over the map, in eV.
_DRIFT = 0.5
# Smallest and largest thickness, in inelastic mean free paths.
_THICKNESS = (0.3, 1.2)
# Fewest and most iron atoms, relative to those of the matrix that makes the background.
_IRON = (0.6, 1.4)

# First channel and length of the energy axis, in eV.
FIRST_ENERGY, WINDOW = 690.0, 51.2

# Full width of the zero loss at half maximum, in eV.
_RESOLUTION = 0.8
# Width of the arctangent steps of the continuum, in eV.
_STEP_WIDTH = 0.8
# Heights of the continuum steps, relative to L3: there are four p3/2 electrons and two p1/2.
_STEP_HEIGHT = {"l3": 1.0, "l2": 0.5}

# Energy between the nodes of the table, in eV: a line 1.5 eV wide is interpolated linearly with an error of
# 2e-4.
_STEP = 0.02
# Where the table starts, in eV: below the lowest energy by more than six plasmon losses.
_TABLE_START = 450.0
# Energies that spectra are computed at, in eV.
_LOWEST_ENERGY, _HIGHEST_ENERGY = 600.0, 1200.0
# Number of orders of plural scattering, 0 to 6: at 1.2 mean free paths the others have 2e-4 of the intensity.
_N_PLASMONS = 7
# Energy and full width of the plasmon of an iron oxide, in eV.
_PLASMON = (22.0, 12.0)
# Background at 690 eV, relative to the L3 continuum step, and exponent of its power law.
_BACKGROUND = 2.0
_BACKGROUND_EXPONENT = 3.0
# Number of spectra computed at a time: 25 MB of table nodes.
_BLOCK = 1024


class _Line(NamedTuple):
    """A white-line component: position, multiplet width (Gaussian FWHM) and relative area."""

    energy: float
    width: float
    area: float


class _Valence(NamedTuple):
    """White lines of one valence. Areas of L3, and of L2, are relative; `holes` sets their sum."""

    l3: tuple[_Line, ...]
    l2: tuple[_Line, ...]
    ratio: float  # area of L3 over area of L2
    holes: int  # in the 3d shell: the white lines' total area is proportional to it


# Fe2+ has its maximum first and a shoulder above; Fe3+ has a crystal-field shoulder below its maximum.
_FE2 = _Valence(
    l3=(_Line(707.8, 1.2, 0.72), _Line(710.0, 2.2, 0.28)),
    l2=(_Line(720.6, 1.8, 0.60), _Line(722.9, 2.4, 0.40)),
    ratio=4.0,
    holes=4,
)
_FE3 = _Valence(
    l3=(_Line(708.0, 1.0, 0.20), _Line(709.5, 1.3, 0.62), _Line(711.6, 2.4, 0.18)),
    l2=(_Line(721.6, 1.7, 0.42), _Line(723.2, 2.0, 0.58)),
    ratio=5.0,
    holes=5,
)
# Area of the white lines for each 3d hole, in eV times the L3 continuum step.
_AREA_PER_HOLE = 2.3
# Lorentzian full widths at half maximum in eV; L2 decays faster (Coster-Kronig).
_LIFETIME = {"l3": 0.4, "l2": 1.0}


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
    import dask

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
    fixed: dict[str, Any] = {"energy": energy_axis(n_channels), "background": background}
    relative = expectation(
        parameters,
        lambda p: fe_l_spectra(p[..., 0], p[..., 1], p[..., 3], iron=p[..., 2], **fixed),
        n_channels=n_channels,
    )
    if not lazy:
        relative = relative.persist()  # computed once
    mean, largest = dask.compute(relative.mean(dtype=np.float64), relative.max())
    clean = relative * np.float32(dose / mean)
    return SimulatedMap.from_expectation(
        _eels_signal(clean if lazy else clean.compute(), "Simulated Fe-L2,3 map, noise-free"),
        truth=maps,
        dose=dose,
        largest=float(largest * dose / mean),
        rare_mask=spot,
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
    drawn = {"fe3_fraction": rng.uniform(0, 1, n_spectra)}
    for name, (low, high) in {"thickness": thickness, "iron": iron, "shift": shift}.items():
        if not low <= high:
            raise OptionError(f"fe_l_library({name}=({low!r}, {high!r})) ends before it begins: swap the two.")
        drawn[name] = rng.uniform(low, high, n_spectra)
    spectra = fe_l_spectra(**drawn, energy=energy_axis(n_channels), background=background)
    return _eels_signal((spectra / spectra.mean()).astype(np.float32), "Library of Fe-L2,3 spectra")


def _eels_signal(data: NDArray[np.float32] | Array, title: str) -> BaseSignal:
    scale, detector = WINDOW / data.shape[-1], {"EELS": {"collection_angle": 40.0}}
    axis = {"name": "Energy loss", "offset": FIRST_ENERGY, "scale": scale, "units": "eV"}
    optics = {"beam_energy": 200.0, "convergence_angle": 20.0, "Detector": detector}
    return spectrum_signal(data, "EELS", title, pixel=_PIXEL, energy_axis=axis, microscope=optics, elements=["Fe"])


def fe_l_spectra(
    fe3_fraction: ArrayLike,
    thickness: ArrayLike = 0.6,
    shift: ArrayLike = 0.0,
    *,
    iron: ArrayLike = 1.0,
    background: bool = True,
    energy: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Compute noise-free Fe-L2,3 spectra, for instance a library to train on.

    Parameters
    ----------
    fe3_fraction
        Fraction of Fe3+ in the iron, 0 to 1; the arguments are broadcast against each other.
    thickness
        In inelastic mean free paths.
    shift
        Of the whole spectrum to higher energies, in eV.
    iron
        Iron atoms relative to the matrix that makes the background.
    background
        Add the power-law background of the matrix.
    energy
        Channels in eV, (E,); None is the axis of `fe_l_map`, 512 channels from 690 eV.

    Returns
    -------
    Expected intensities of shape (..., E) for the same incident current; divide by the mean and
    multiply by a dose to have counts

    Raises
    ------
    OptionError
        The energies reach beyond 600 to 1200 eV.

    Notes
    -----
    The shape of each valence is a sum of Voigt lines for the L3 and L2 multiplets and two arctangent
    steps for the continuum. Plural scattering convolves it with the plasmon loss; the probability of n
    losses is that of a Poisson distribution with the thickness as its mean.

    Examples
    --------
    >>> from hyperspy_specml.datasets import fe_l_spectra
    >>> fe_l_spectra([0.0, 0.5, 1.0], thickness=0.8, shift=0.2).shape
    (3, 512)
    """
    channels = energy_axis(512) if energy is None else np.asarray(energy, dtype=np.float64)
    parameters = np.stack(np.broadcast_arrays(fe3_fraction, thickness, iron, shift), axis=-1).astype(np.float64)
    flat = parameters.reshape(-1, 4)
    start = 5.0 * np.floor((channels.min() - flat[:, 3].max()) / 5.0)
    stop = 5.0 * np.ceil((channels.max() - flat[:, 3].min()) / 5.0)
    table = _scattering_table(start, stop)
    spectra = np.empty((len(flat), channels.size))
    for first in range(0, len(flat), _BLOCK):
        block = slice(first, first + _BLOCK)
        mixed = _species_weights(flat[block], background) @ table  # (B, nodes)
        position = (channels - flat[block, 3:] - start) / _STEP  # (B, E)
        node = position.astype(np.intp)
        below = np.take_along_axis(mixed, node, axis=1)
        above = np.take_along_axis(mixed, node + 1, axis=1)
        spectra[block] = below + (position - node) * (above - below)
    return spectra.reshape(*parameters.shape[:-1], channels.size)


def energy_axis(n_channels: int) -> NDArray[np.float64]:
    return FIRST_ENERGY + WINDOW / n_channels * np.arange(n_channels, dtype=np.float64)


def _species_weights(parameters: NDArray[np.float64], background: bool) -> NDArray[np.float64]:
    """Weight each species and number of plasmon losses, (B, 3 * orders), as the table's rows."""
    fe3_fraction, thickness, iron, _ = parameters.T
    orders = np.arange(_N_PLASMONS)
    losses = thickness[:, None] ** orders * np.exp(-thickness)[:, None] / [factorial(n) for n in orders]
    atoms = np.stack([iron * (1 - fe3_fraction), iron * fe3_fraction, np.full_like(iron, background)])
    # Core losses are proportional to the thickness, before plural scattering.
    return np.concatenate([(species * thickness)[:, None] * losses for species in atoms], axis=1)


@lru_cache(maxsize=8)
def _scattering_table(start: float, stop: float) -> NDArray[np.float64]:
    """Convolve Fe2+, Fe3+, background with 0, 1, .. plasmons: (3 * orders, nodes), *start* to *stop* eV."""
    if not _LOWEST_ENERGY <= start < stop <= _HIGHEST_ENERGY:
        raise OptionError(
            f"fe_l_spectra() knows energies from {_LOWEST_ENERGY:g} to {_HIGHEST_ENERGY:g} eV, but energy "
            f"minus shift reaches from {start:g} to {stop:g}: give energy in eV and a smaller shift."
        )
    nodes = np.arange(_TABLE_START, stop + 2 * _STEP, _STEP)
    # Free-electron form. Index 0 is a loss of one step: an error of 0.02 eV, of no importance beside the width.
    (peak, width), loss = _PLASMON, np.arange(_STEP, 6 * _PLASMON[0], _STEP)
    plasmon = loss * width / ((loss**2 - peak**2) ** 2 + (loss * width) ** 2)
    plasmon /= plasmon.sum()
    rows = []
    power_law = _BACKGROUND * (nodes / FIRST_ENERGY) ** -_BACKGROUND_EXPONENT
    for single in (_edge(nodes, _FE2), _edge(nodes, _FE3), power_law):
        rows.append(single)
        for _ in range(1, _N_PLASMONS):
            rows.append(fftconvolve(rows[-1], plasmon)[: nodes.size])
    return np.stack(rows)[:, round((start - _TABLE_START) / _STEP) :]


def _edge(energy: NDArray[np.float64], valence: _Valence) -> NDArray[np.float64]:
    """Add the white lines and continuum steps of one valence, the L3 step being 1."""
    total = valence.holes * _AREA_PER_HOLE
    area = {"l3": total * valence.ratio / (1 + valence.ratio), "l2": total / (1 + valence.ratio)}
    edge = np.zeros_like(energy)
    for name, lines in (("l3", valence.l3), ("l2", valence.l2)):
        onset = max(lines, key=lambda line: line.area).energy
        step = 0.5 + np.arctan((energy - onset) / _STEP_WIDTH) / np.pi
        edge += _STEP_HEIGHT[name] * step * (energy / onset) ** -_BACKGROUND_EXPONENT
        for line in lines:
            sigma = np.hypot(line.width, _RESOLUTION) / np.sqrt(8 * np.log(2))
            edge += area[name] * line.area * voigt_profile(energy - line.energy, sigma, _LIFETIME[name] / 2)
    return edge
