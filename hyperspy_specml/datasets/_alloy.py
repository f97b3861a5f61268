"""Iron-chromium-nickel alloy (EDS): smooth mixtures or sharp grains, and a rare phase if wanted.

X-ray spectra are as a silicon drift detector counts them, with the lines of exspy's tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial import KDTree
from scipy.special import erf, softmax

from hyperspy_specml.datasets._simulated import (
    SimulatedMap,
    check_map,
    compact_spot,
    expectation,
    smooth_field,
    spectrum_signal,
    uniform_field,
)
from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from dask.array import Array
    from hyperspy.signals import BaseSignal
    from numpy.typing import NDArray

    from hyperspy_specml.datasets._simulated import Shape

Phases = dict[str, dict[str, float]]

# Fractions of the characteristic counts that belong to each element, by phase.
_PURE: Phases = {"Fe": {"Fe": 1.0}, "Cr": {"Cr": 1.0}, "Ni": {"Ni": 1.0}, "oxide": {"Cr": 0.7, "O": 0.3}}
_GRAINS: Phases = {
    "ferrite": {"Fe": 0.85, "Cr": 0.15},
    "austenite": {"Fe": 0.55, "Cr": 0.20, "Ni": 0.25},
    "nickel alloy": {"Ni": 0.75, "Cr": 0.25},
    "oxide": {"Cr": 0.7, "O": 0.3},
}
# Phases of a texture, and how many of them there are by default.
_TEXTURES = {"smooth": (_PURE, 3), "grains": (_GRAINS, 4)}
# Energy where the axis ends, in keV: 2048 channels of 10 eV.
_LAST_ENERGY = 20.48
# Step of the scan in nm.
_PIXEL = 2.0
# Standard deviation of the smooth fields before the softmax: pixels of 99 % purity, yet wide gradients.
_CONTRAST = 2.5
# Fraction of the counts that are bremsstrahlung.
_BACKGROUND = 0.25
# Smallest and largest thickness, relative to the mean, which is 1: the mean dose is the one asked for.
_THICKNESS = (0.8, 1.2)
# Mean number of pixels in a grain.
_PIXELS_PER_GRAIN = 200

# Energy of the electrons, in keV.
BEAM_ENERGY = 200.0
# Full width of Mn Ka at half maximum in eV, and its energy in keV.
RESOLUTION = 130.0
_MN_KA = 5.8987

# Electrons in the shell, and the constant of its fluorescence yield Z^4 / (Z^4 + constant).
_SHELLS = {"K": (2, 1.06e6), "L": (8, 1.0e8), "M": (18, 1.4e9)}


@dataclass(frozen=True)
class RarePhase:
    """A compact group of *n_pixels* where *fraction* of the counts are lines of *elements*."""

    n_pixels: int = 24
    fraction: float = 0.4
    elements: tuple[str, ...] = ("Nb",)

    def __post_init__(self) -> None:
        """Refuse what is no fraction, or no element."""
        if not (0 < self.fraction <= 1 and self.elements):
            raise OptionError(f"{self!r} is no phase: give a fraction above 0 up to 1 and at least one element.")


def fe_cr_ni_map(
    shape: Shape = (64, 64),
    *,
    n_channels: int = 2048,
    dose: float = 200.0,
    texture: Literal["smooth", "grains"] = "smooth",
    n_phases: int | None = None,
    rare_phase: RarePhase | None = None,
    random_state: int = 0,
    lazy: bool = False,
) -> SimulatedMap:
    """Simulate an EDS map of an iron-chromium-nickel alloy.

    Parameters
    ----------
    shape
        Of the scan, in array order: (ny, nx), one to three axes.
    n_channels
        Energy channels from 0 to 20.48 keV: 10 eV each for 2048.
    dose
        Mean counts per pixel over the whole map.
    texture
        ``"smooth"`` mixes pure Fe, Cr and Ni: compositions fill the triangle, corners included.
        ``"grains"`` gives each Voronoi cell one of four phases, with sharp borders.
    n_phases
        2 to 4 endmembers; None makes 3 smooth ones or 4 kinds of grains. The fourth is an oxide.
    rare_phase
        Plants a few pixels with lines of their own; None plants nothing.
    random_state
        Seed of the maps and of the noise.
    lazy
        Make `signal` and `clean` lazy: whole spectra, chunks of whole scan lines.

    Returns
    -------
    SimulatedMap
        ``truth`` holds ``abundances`` (K|nx, ny), fractions of a pixel's counts that sum to 1,
        and ``thickness``, relative with mean 1. The rare phase's lines are the last endmember.
        With a = abundances as (ny, nx, K), ``clean = dose * thickness * (a @ endmembers)``.

    Raises
    ------
    OptionError
        The shape, number of channels, dose, texture or rare phase cannot be simulated.

    Examples
    --------
    >>> from hyperspy_specml.datasets import RarePhase, fe_cr_ni_map
    >>> fe_cr_ni_map((16, 24), rare_phase=RarePhase(n_pixels=5)).signal
    <EDSTEMSpectrum, title: Simulated Fe-Cr-Ni map, dimensions: (24, 16|2048)>
    """
    phases = _phases(texture, n_phases)
    check_map(shape, n_channels=n_channels, dose=dose, rare_phase=rare_phase)
    rng = np.random.default_rng(random_state)
    thickness = uniform_field(rng, shape, *_THICKNESS)
    abundances = _abundances(rng, shape, len(phases), texture)
    energy = _LAST_ENERGY / n_channels * np.arange(n_channels, dtype=np.float64)
    lines = [
        sum(fraction * characteristic(element, energy) for element, fraction in phase.items())
        for phase in phases.values()
    ]
    spectra = (1 - _BACKGROUND) * np.stack(lines) + _BACKGROUND * bremsstrahlung(energy)  # (K, E), each of sum 1
    names, spot, rare_elements = tuple(phases), None, rare_phase.elements if rare_phase else ()
    if rare_phase:
        spot = compact_spot(rng, shape, rare_phase.n_pixels)  # last: the rest is the same without it
        rare = rare_phase.fraction * spot[..., None]
        abundances = np.concatenate([abundances * (1 - rare), rare], axis=-1)
        names = (*names, "+".join(rare_elements))
        spectra = np.vstack([spectra, np.mean([characteristic(element, energy) for element in rare_elements], axis=0)])

    weights = dose * thickness[..., None] * abundances  # (ny, nx, K)
    clean = expectation(weights, lambda block: block @ spectra, n_channels=n_channels)
    elements = sorted({*rare_elements}.union(*phases.values()))
    return SimulatedMap.from_expectation(
        _eds_signal(clean if lazy else clean.compute(), elements),
        truth={"abundances": abundances, "thickness": thickness},
        dose=dose,
        largest=float((weights @ spectra.max(axis=1)).max()),
        names=names,
        endmembers=spectra,
        rare_mask=spot,
        random_state=random_state,
    )


def _eds_signal(data: NDArray[np.float32] | Array, elements: list[str]) -> BaseSignal:
    detector = {"EDS": {"energy_resolution_MnKa": RESOLUTION, "elevation_angle": 18.0, "azimuth_angle": 0.0}}
    axis = {"name": "Energy", "offset": 0.0, "scale": _LAST_ENERGY / data.shape[-1], "units": "keV"}
    optics = {"beam_energy": BEAM_ENERGY, "Stage": {"tilt_alpha": 0.0}, "Detector": detector}
    title = "Simulated Fe-Cr-Ni map, noise-free"
    return spectrum_signal(data, "EDS_TEM", title, pixel=_PIXEL, energy_axis=axis, microscope=optics, elements=elements)


def _phases(texture: str, n_phases: int | None) -> Phases:
    if texture not in _TEXTURES:
        raise OptionError.unknown("texture", texture, _TEXTURES)
    phases, usual = _TEXTURES[texture]
    n_phases = usual if n_phases is None else n_phases
    if not 2 <= n_phases <= len(phases):
        raise OptionError(f"n_phases={n_phases!r} is not available: use 2 to {len(phases)} of {[*phases]}.")
    return dict(list(phases.items())[:n_phases])


def _abundances(rng: np.random.Generator, shape: Shape, n_phases: int, texture: str) -> NDArray[np.float64]:
    """Draw each pixel's fractions of the phases, (ny, nx, K), in total 1."""
    if texture == "grains":
        n_grains = max(2 * n_phases, int(np.prod(shape)) // _PIXELS_PER_GRAIN)
        seeds = rng.uniform(0, shape, (n_grains, len(shape)))
        phases = rng.permutation(np.arange(n_grains) % n_phases)  # of the Voronoi cells, all in use
        pixels = np.moveaxis(np.indices(shape), 0, -1)
        return np.eye(n_phases)[phases[KDTree(seeds).query(pixels)[1]]]
    fields = [smooth_field(rng, shape) for _ in range(n_phases)]
    return softmax(_CONTRAST * np.stack(fields, axis=-1), axis=-1)


def characteristic(element: str, energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the counts of all lines of *element* per channel (E,), in total 1; energies in keV."""
    from exspy.material import elements

    if element not in elements:
        raise OptionError(f"{element!r} is no element: give its symbol, e.g. 'Nb'.")
    atom = elements[element]
    edges = np.append(energy, 2 * energy[-1] - energy[-2]) - (energy[1] - energy[0]) / 2  # (E + 1,)
    spectrum = np.zeros_like(energy)
    for name, line in atom.Atomic_properties.Xray_lines.as_dictionary().items():
        centre = line["energy (keV)"]
        if name[0] not in _SHELLS or centre > BEAM_ENERGY:
            continue
        # Bethe's ionisation cross section, at the energy of the line instead of the edge, times the fluorescence
        # yield. Only the ratio of an element's families depends on it.
        (n_electrons, constant), z = _SHELLS[name[0]], atom.General_properties.Z
        emission = n_electrons * np.log(BEAM_ENERGY / centre) / centre * z**4 / (z**4 + constant)
        height = line["weight"] * emission * efficiency(centre)
        # Integrated over each channel: a coarse axis keeps the counts of a narrow line.
        spectrum += height * np.diff(erf((edges - centre) / (np.sqrt(2) * line_width(centre)))) / 2
    if not spectrum.sum() > 0:
        raise OptionError(f"{element!r} has no line up to {energy[-1]:g} keV: choose another element.")
    return spectrum / spectrum.sum()


def bremsstrahlung(energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute Kramers' background per channel (E,), in total 1; energies in keV."""
    positive = np.maximum(energy, (energy[1] - energy[0]) / 2)
    spectrum = (BEAM_ENERGY - positive) / positive * efficiency(positive)
    return spectrum / spectrum.sum()


def line_width(energy: float) -> float:
    """Give the standard deviation of a line in keV (Fiori and Newbury: noise plus Fano broadening)."""
    fwhm = np.sqrt(RESOLUTION**2 + 2.5e3 * (energy - _MN_KA))  # eV
    return 1e-3 * fwhm / np.sqrt(8 * np.log(2))


def efficiency(energy: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
    """Give the fraction of photons counted: a polymer window below, 0.45 mm of silicon above."""
    return np.exp(-((0.5 / energy) ** 2)) * -np.expm1(-3.5 * (10 / energy) ** 3)
