"""X-ray spectra of elements as a silicon drift detector counts them; lines from exspy's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Energy of the electrons, in keV.
BEAM_ENERGY = 200.0
# Full width of Mn Ka at half maximum in eV, and its energy in keV.
RESOLUTION = 130.0
_MN_KA = 5.8987

# Electrons in the shell, and the constant of its fluorescence yield Z^4 / (Z^4 + constant).
_SHELLS = {"K": (2, 1.06e6), "L": (8, 1.0e8), "M": (18, 1.4e9)}


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
        height = line["weight"] * _emission(atom.General_properties.Z, name[0], centre) * efficiency(centre)
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


def _emission(z: int, shell: str, energy: float) -> float:
    # Bethe's ionisation cross section, at the energy of the line instead of the edge, times the fluorescence
    # yield. Only the ratio of an element's families depends on it.
    n_electrons, constant = _SHELLS[shell]
    return n_electrons * np.log(BEAM_ENERGY / energy) / energy * z**4 / (z**4 + constant)
