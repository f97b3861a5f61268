"""Energy axes as plain data: what model files hold, compared in physical units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pint

_MOST_SHIFTED = 0.05  # channel widths: less than calibrations of one instrument repeat to


def check_axis_spec(spec: dict[str, Any], *, size: int) -> None:
    """Refuse what `axis_spec` did not make: it comes from a file.

    Parameters
    ----------
    spec
        Perhaps a described axis.
    size
        Number of channels that it must have.

    Raises
    ------
    ValueError
        It is not one.
    """
    numbers = spec.get("values", [spec.get("scale"), spec.get("offset")])
    texts = [spec.get("name"), spec.get("units")]
    if not (
        spec.get("size") == size
        and len(spec.get("values", range(size))) == size
        and all(isinstance(number, int | float) and np.isfinite(number) for number in numbers)
        and all(text is None or isinstance(text, str) for text in texts)
    ):
        raise ValueError(f"energy_axis is {spec!r:.200}, no axis of {size} channels")


def in_words(spec: dict[str, Any]) -> str:
    """Return a described axis as text for a message, however many values it has.

    Parameters
    ----------
    spec
        As `axis_spec` describes it.
    """
    first, last = _positions(spec)[[0, -1]]
    return f"{spec['size']} channels from {first:.8g} to {last:.8g} {spec['units'] or '(no unit)'}"


def channels_in(spec: dict[str, Any], units: str | None) -> np.ndarray:
    """Return the (size,) positions of a described axis in some unit; NaN where it cannot be converted.

    Parameters
    ----------
    spec
        As `axis_spec` describes it.
    units
        Wanted (eV and keV are the same axis). No unit, and what is no unit, can only be converted to itself.
    """
    here = _positions(spec)
    return here if spec["units"] == units else _converted(here, spec["units"], units)


def same_channels(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two axes have every channel at the same place, whatever their names and units.

    Parameters
    ----------
    one, other
        As `axis_spec` describes them.
    """
    if one["size"] != other["size"]:
        return False
    here, there = channels_in(one, other["units"]), _positions(other)
    width = np.abs(np.gradient(there)) if len(there) > 1 else 1.0
    return bool(np.all(np.abs(here - there) <= _MOST_SHIFTED * width))


def _positions(spec: dict[str, Any]) -> np.ndarray:
    """Return the (size,) values of a described axis."""
    if "values" in spec:
        return np.array(spec["values"])
    return spec["offset"] + spec["scale"] * np.arange(spec["size"])


def _converted(values: np.ndarray, units: str | None, wanted: str | None) -> np.ndarray:
    """Return values in other units; NaN where one cannot become the other or either is not a unit."""
    registry = pint.get_application_registry()  # HyperSpy's own: quantities of two registries do not mix
    try:
        return registry.Quantity(values, registry.Unit(units)).to(registry.Unit(wanted)).magnitude
    except Exception:  # pint raises many unrelated kinds for texts that are no units, and axes hold any text
        return np.full_like(values, np.nan)
