"""Iron-chromium-nickel alloy (EDS): smooth mixtures or sharp grains, and a rare phase if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import softmax

from hyperspy_specml.datasets._fields import compact_spot, grains, smooth_field, uniform_field
from hyperspy_specml.datasets._simulated import (
    SimulatedMap,
    check_map,
    component_maps,
    expectation,
    scan_axes,
    scan_map,
    spectrum_signal,
)
from hyperspy_specml.datasets._xray import BEAM_ENERGY, RESOLUTION, bremsstrahlung, characteristic
from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from dask.array import Array
    from hyperspy.signals import BaseSignal
    from numpy.typing import NDArray

    from hyperspy_specml.datasets._fields import Shape

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
    names, spectra, spot = tuple(phases), _phase_spectra(phases, energy), None
    if rare_phase:
        spot = compact_spot(rng, shape, rare_phase.n_pixels)  # last: the rest is the same without it
        abundances = _plant(abundances, rare_phase.fraction * spot.astype(np.float64))
        names = (*names, "+".join(rare_phase.elements))
        lines = np.mean([characteristic(element, energy) for element in rare_phase.elements], axis=0)
        spectra = np.vstack([spectra, lines])

    weights = dose * thickness[..., None] * abundances  # (ny, nx, K)
    clean = expectation(weights, partial(_mix, spectra=spectra), n_channels=n_channels)
    present = [*phases.values(), dict.fromkeys(rare_phase.elements if rare_phase else (), 1.0)]
    wrap = partial(_eds_signal, elements=sorted({element for phase in present for element in phase}))
    return SimulatedMap.from_expectation(
        wrap(clean if lazy else clean.compute(), scan_axes(shape, scale=_PIXEL), "Simulated Fe-Cr-Ni map, noise-free"),
        truth={
            "abundances": component_maps(abundances, title="abundances", scale=_PIXEL),
            "thickness": scan_map(thickness, title="thickness", scale=_PIXEL),
        },
        dose=dose,
        largest=float((weights @ spectra.max(axis=1)).max()),
        names=names,
        endmembers=wrap(spectra, [{"size": len(names), "name": "Endmember", "navigate": True}], "Endmembers"),
        rare_mask=None if spot is None else scan_map(spot, title="rare_mask", scale=_PIXEL),
        random_state=random_state,
    )


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
        return np.eye(n_phases)[grains(rng, shape, n_grains, n_phases)]
    fields = [smooth_field(rng, shape) for _ in range(n_phases)]
    return softmax(_CONTRAST * np.stack(fields, axis=-1), axis=-1)


def _phase_spectra(phases: Phases, energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the spectrum of each phase, lines on bremsstrahlung, (K, E), each of sum 1."""
    lines = [
        sum(fraction * characteristic(element, energy) for element, fraction in phase.items())
        for phase in phases.values()
    ]
    return (1 - _BACKGROUND) * np.stack(lines) + _BACKGROUND * bremsstrahlung(energy)


def _plant(abundances: NDArray[np.float64], rare: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the rare phase as last endmember with fractions *rare* (ny, nx), taken from the others."""
    return np.concatenate([abundances * (1 - rare[..., None]), rare[..., None]], axis=-1)


def _mix(weights: NDArray[np.float64], spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    return weights @ spectra  # (..., K) @ (K, E) -> (..., E); at module level, so that dask can send it


def _eds_signal(
    data: NDArray[np.floating] | Array, axes: list[dict[str, Any]], title: str, *, elements: list[str]
) -> BaseSignal:
    detector = {"EDS": {"energy_resolution_MnKa": RESOLUTION, "elevation_angle": 18.0, "azimuth_angle": 0.0}}
    microscope = {"beam_energy": BEAM_ENERGY, "Stage": {"tilt_alpha": 0.0}, "Detector": detector}
    return spectrum_signal(
        data,
        signal_type="EDS_TEM",
        navigation_axes=axes,
        energy_axis={"name": "Energy", "offset": 0.0, "scale": _LAST_ENERGY / data.shape[-1], "units": "keV"},
        metadata={
            "General": {"title": title},
            "Acquisition_instrument": {"TEM": microscope},
            "Sample": {"elements": elements},
        },
    )
