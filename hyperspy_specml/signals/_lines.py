"""Lines and edges of the elements in a signal's own energy axis, from exspy's tables."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pint

from hyperspy_specml.signals._spectra import energy_axis

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal

_logger = logging.getLogger(__name__)

# Energy of Mn Ka in eV, at which the resolution of detectors is specified.
_MN_KA = 5898.7
# Increase of the squared full width of a line with its energy, in eV: 8 ln 2 times Fano factor and pair
# energy.
_FANO = 2.5
# Smallest full width of a line, in eV: at low energies the formula can give less.
_MIN_WIDTH = 30.0
# Full width of Mn Ka in eV, where the metadata have none; and values in eV that a detector can have.
_USUAL_RESOLUTION = 130.0
_RESOLUTIONS = 20.0, 1000.0
# Energies of electrons that a microscope can have, in eV.
_BEAM_ENERGIES = 100.0, 5e6
# eV in the units that files write behind numbers; volts of the electrons' acceleration are taken for eV.
_UNITS = {"ev": 1.0, "v": 1.0, "kev": 1e3, "kv": 1e3}
_NUMBER = re.compile(r"\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)
# Elements that many specimens are made of, and those that are radioactive, noble or have no line of their own: they
# decide between lines that explain a residual about equally well.
_COMMON = frozenset(
    "Li B C N O F Na Mg Al Si P S Cl K Ca Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Sr Y Zr Nb Mo Pd Ag Cd In Sn Sb Te Ba "
    "La Ce Nd Hf Ta W Pt Au Pb Bi".split()
)
_UNLIKELY = frozenset("H He Ne Ar Kr Xe Rn Tc Pm".split())
_HEAVIEST_STABLE = 83
# First line that windows of detectors let pass, B Ka, in eV; lighter elements only where the metadata list them.
_FIRST_LINE, _LIGHTER = 183.3, ("Li", "Be")


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
    rank
        0 of elements that ``metadata.Sample.elements`` lists, 1 of common, 2 of other, 3 of radioactive and
        noble ones.
    """

    element: str
    name: str
    energy: float
    weight: float
    edge: bool = False
    rank: int = 1

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
    energy = _x_ray_energies(signal)
    return None if energy is None else _full_width(signal, energy) / np.abs(np.gradient(energy))


def below_first_line(signal: BaseSignal) -> np.ndarray | None:
    """Return (E,) bool, the channels of an EDS map below the first line that the detector passes; None for none.

    No X-rays are recorded there, but in many files the zero-energy peak of the electronics, which has no
    signal and may hold most of the counts. The first line is B Ka, that of Li or Be where
    ``metadata.Sample.elements`` lists them; channels from one full width below it are kept.

    Parameters
    ----------
    signal
        Its metadata hold type, elements and resolution.
    """
    energy = _x_ray_energies(signal)
    if energy is None:
        return None
    from exspy.material import elements

    lines = (elements[e].Atomic_properties.Xray_lines.Ka["energy (keV)"] for e in _LIGHTER if e in listed(signal))
    first = np.array(min((1e3 * line for line in lines), default=_FIRST_LINE))
    below = energy < first - _full_width(signal, first)
    return below if below.any() and not below.all() else None


def listed(signal: BaseSignal) -> tuple[str, ...]:
    """Return the elements of ``metadata.Sample.elements``."""
    found = signal.metadata.get_item("Sample.elements", None)
    return () if found is None else tuple(map(str, np.atleast_1d(np.asarray(found))))


def _x_ray_energies(signal: BaseSignal) -> np.ndarray | None:
    """Return the (E,) energies of the channels in eV; None where the signal is not EDS or its axis is no energy."""
    axis = energy_axis(signal)
    scale = _electronvolts(axis)
    return axis.axis * scale if _is(signal, "EDS") and scale is not None else None


def _full_width(signal: BaseSignal, energy: np.ndarray) -> np.ndarray:
    """Return the full width at half maximum of lines at these energies, in eV."""
    resolution = _in_electronvolts(signal, "energy_resolution_MnKa", 1.0, _RESOLUTIONS) or _USUAL_RESOLUTION
    return np.sqrt(np.maximum(resolution**2 + _FANO * (energy - _MN_KA), _MIN_WIDTH**2))


def _in_electronvolts(signal: BaseSignal, name: str, unit: float, limits: tuple[float, float]) -> float | None:
    """Return an energy of the metadata in eV, also of text such as "200 kV"; None where there is none.

    Parameters
    ----------
    signal
        Has the metadata.
    name
        Of the item, anywhere in them.
    unit
        eV in the unit of a number without one.
    limits
        Smallest and largest energy that is believed; others are logged and left out.
    """
    found = signal.metadata.get_item(name, None, full_path=False)
    if not found:  # some files hold 0
        return None
    match = _NUMBER.fullmatch(str(found))
    try:
        energy = float(match[1]) * _UNITS[match[2].lower()] if match and match[2] else float(found) * unit
    except (KeyError, TypeError, ValueError):
        energy = np.nan
    if limits[0] <= energy <= limits[1]:
        return energy
    example = {"beam_energy": "beam_energy=200", "energy_resolution_MnKa": "energy_resolution_MnKa=130"}[name]
    text = "metadata have %s = %r, which is no such energy and not used: s.set_microscope_parameters(%s) sets it, in %s"
    _logger.warning(text, name, found, example, "keV" if unit > 1 else "eV")
    return None


def spectral_lines(signal: BaseSignal) -> tuple[Line, ...]:
    """Return the lines (EDS) or edges (EELS) of all elements on the energy axis; none for other signals.

    Lines below the first one that an X-ray detector passes are left out.

    Parameters
    ----------
    signal
        Gives type, axis, beam energy and the elements of the sample.
    """
    axis, eds = energy_axis(signal), _is(signal, "EDS")
    if not (eds or _is(signal, "EELS")):
        return ()
    scale = _electronvolts(axis)
    if scale is None:
        text = "the energy axis has units %r, which are no energy: no elements are named. %s = %r sets them"
        _logger.warning(text, str(axis.units), "s.axes_manager[-1].units", "keV" if eds else "eV")
        return ()
    from exspy.material import elements

    beam = _in_electronvolts(signal, "beam_energy", 1e3, _BEAM_ENERGIES) if eds else None
    highest, section, ours = beam or np.inf, "Xray_lines" if eds else "Binding_energies", listed(signal)
    below, lines = below_first_line(signal), []
    for element in elements.keys():
        rank = 0 if element in ours else _rank(element, elements[element].General_properties.Z)
        table = elements.get_item(f"{element}.Atomic_properties.{section}", None)
        for name, line in () if table is None else table.as_dictionary().items():
            if eds:
                energy, weight = 1e3 * line["energy (keV)"], float(line["weight"])
            else:
                energy, weight = line["onset_energy (eV)"], 1.0 if line["relevance"] == "Major" else 0.5
            if energy < highest:
                lines.append(Line(element, name, energy / scale, weight, not eds, rank))
    used = axis.axis if below is None else axis.axis[~below]
    first, last = used.min(), used.max()
    return tuple(line for line in lines if first <= line.energy <= last)


def _rank(element: str, number: int) -> int:
    """Return the rank of an element that is not listed; see `Line`."""
    return 3 if element in _UNLIKELY or number > _HEAVIEST_STABLE else 1 if element in _COMMON else 2


def _is(signal: BaseSignal, kind: str) -> bool:
    return str(signal.metadata.get_item("Signal.signal_type", "")).startswith(kind)


def _electronvolts(axis: BaseDataAxis) -> float | None:
    """Return how many eV the unit of an axis is; None where it is not an energy. "KeV" is taken for keV."""
    registry = pint.get_application_registry()
    try:
        return float(registry.Quantity(1.0, str(axis.units)).to("eV").magnitude)
    except Exception:  # pint raises many unrelated kinds for text that is no unit
        return {"ev": 1.0, "kev": 1e3}.get(str(axis.units).strip().lower())
