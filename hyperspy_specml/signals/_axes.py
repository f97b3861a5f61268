"""Axes of HyperSpy signals as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal


def energy_axis(signal: BaseSignal) -> BaseDataAxis:
    """Return the signal axis of spectra: energy loss, X-ray energy, wavelength, shift."""
    return signal.axes_manager.signal_axes[0]


def axis_spec(axis: BaseDataAxis) -> dict[str, Any]:
    """Describe an axis in text and numbers that JSON can hold.

    Always name and units (None where undefined) and size; then scale and offset of a uniform axis, the values
    of any other.

    Parameters
    ----------
    axis
        Of any of HyperSpy's kinds.
    """
    described = axis.get_axis_dictionary()  # None, not Undefined, where there is no name or unit
    spec = {"name": described["name"], "units": described["units"], "size": int(axis.size)}
    if axis.is_uniform:
        return spec | {"scale": float(axis.scale), "offset": float(axis.offset)}
    return spec | {"values": [float(value) for value in axis.axis]}
