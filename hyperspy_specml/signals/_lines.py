"""Lines and edges of the elements in a signal's own energy axis, from exspy's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pint

from hyperspy_specml.signals._spectra import energy_axis

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal

# Energy of Mn Ka in eV, at which the resolution of detectors is specified.
_MN_KA = 5898.7
# Increase of the squared full width of a line with its energy, in eV: 8 ln 2 times Fano factor and pair
# energy.
_FANO = 2.5
# Smallest full width of a line, in eV: at low energies the formula can give less.
_MIN_WIDTH = 30.0
# Full width of Mn Ka in eV, where the metadata have none.
_USUAL_RESOLUTION = 130.0


@dataclass(frozen=True)
class Line:
    """An X-ray line or an ionisation edge.

    Attributes
    ----------
    element, name
        Such as "Nb" and "La".
    energy
        In units of the signal's energy axis.
    weight
        Intensity within its family; of edges 1 for major and 0.5 for minor ones.
    edge
        Whether it is an edge.
    """

    element: str
    name: str
    energy: float
    weight: float
    edge: bool = False

    @property
    def family(self) -> str:
        """Family, whose lines have fixed ratios of intensity: K, L, M."""
        return self.name[:1]


def line_width(signal: BaseSignal) -> np.ndarray | None:
    """Return the (E,) full width at half maximum of an X-ray line in channels, from the metadata.

    None where the signal is not EDS or its axis is not an energy: then the width has to be estimated.

    Parameters
    ----------
    signal
        Its metadata hold the resolution at Mn Ka, or 130 eV is taken.
    """
    axis = energy_axis(signal)
    scale = _electronvolts(axis)
    if not _is(signal, "EDS") or scale is None:
        return None
    found = signal.metadata.get_item("energy_resolution_MnKa", _USUAL_RESOLUTION, full_path=False)
    resolution = float(found or _USUAL_RESOLUTION)  # some files hold 0
    energy = axis.axis * scale
    squares = resolution**2 + _FANO * (energy - _MN_KA)
    return np.sqrt(np.maximum(squares, _MIN_WIDTH**2)) / np.abs(np.gradient(energy))


def spectral_lines(signal: BaseSignal) -> tuple[Line, ...]:
    """Return the lines (EDS) or edges (EELS) of all elements on the energy axis; none for other signals.

    Parameters
    ----------
    signal
        Gives type, axis and beam energy.
    """
    axis, eds = energy_axis(signal), _is(signal, "EDS")
    scale = _electronvolts(axis)
    if scale is None or not (eds or _is(signal, "EELS")):
        return ()
    from exspy.material import elements

    beam = signal.metadata.get_item("beam_energy", None, full_path=False)
    highest = 1e3 * float(beam) if eds and beam else np.inf
    section = "Xray_lines" if eds else "Binding_energies"
    lines = []
    for element in elements.keys():
        table = elements.get_item(f"{element}.Atomic_properties.{section}", None)
        for name, line in () if table is None else table.as_dictionary().items():
            if eds:
                energy, weight = 1e3 * line["energy (keV)"], float(line["weight"])
            else:
                energy, weight = line["onset_energy (eV)"], 1.0 if line["relevance"] == "Major" else 0.5
            if energy < highest:
                lines.append(Line(element, name, energy / scale, weight, edge=not eds))
    first, last = axis.axis.min(), axis.axis.max()
    return tuple(line for line in lines if first <= line.energy <= last)


def _is(signal: BaseSignal, kind: str) -> bool:
    return str(signal.metadata.get_item("Signal.signal_type", "")).startswith(kind)


def _electronvolts(axis: BaseDataAxis) -> float | None:
    """Return how many eV the unit of an axis is; None where it is not an energy."""
    registry = pint.get_application_registry()
    try:
        return float(registry.Quantity(1.0, str(axis.units)).to("eV").magnitude)
    except Exception:  # pint raises many unrelated kinds for text that is no unit
        return None
