"""Signals to arrays: checks, masks, the array order that all arrays of the package have, and axes as plain data."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import (
    DataTypeError,
    MaskError,
    MaskOrderWarning,
    NavigationRequiredError,
    SpectraRequiredError,
)

if TYPE_CHECKING:
    import dask.array as da
    from hyperspy.axes import BaseDataAxis

    Mask: TypeAlias = BaseSignal | np.ndarray | None

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Spectra:
    """The spectra of a signal, in array order: scan axes slowest first, energy last.

    Parameters
    ----------
    array
        Shape (*navigation, E), in the signal's own dtype (bool becomes uint8); a view where that is possible.
    navigation_mask
        Shape (*navigation,), True = masked, or None.
    signal_mask
        Shape (E,), True = masked, or None.
    """

    array: np.ndarray | da.Array
    navigation_mask: np.ndarray | None
    signal_mask: np.ndarray | None


def spectra_of(signal: BaseSignal, *, method: str, navigation_mask: Mask = None, signal_mask: Mask = None) -> Spectra:
    """Check that a signal holds spectra and return them in array order, without touching the signal.

    Parameters
    ----------
    signal
        Exactly one signal axis, at least one navigation axis, real numbers.
    method
        Name of the method that asks, for the messages.
    navigation_mask
        True = masked. A signal of the navigation shape, its axes all navigation or all signal axes, or an
        array of shape ``signal.data.shape[:-1]`` (array order, not HyperSpy's x, y).
    signal_mask
        True = masked. A signal or an array of shape (E,).

    Raises
    ------
    DataTypeError
        The data are complex, structured or objects.
    SpectraRequiredError
        The signal does not have exactly one signal axis, or spectra of one channel.
    NavigationRequiredError
        The signal is a single spectrum.
    MaskError
        A mask is not boolean, has the wrong shape or masks everything.

    Warns
    -----
    MaskOrderWarning
        A navigation mask is an array that fits as it is and turned.
    """
    check_spectra(signal, method)
    if signal.axes_manager.navigation_dimension == 0:
        raise NavigationRequiredError(
            f"{method}() compares spectra, but {signal!r} is a single one: it has no navigation axis. "
            "Stack several first: hs.stack([s1, s2, s3])."
        )
    array = in_array_order(signal)
    if isinstance(array, np.ma.MaskedArray):  # a masked value was not measured
        array = np.ma.filled(array.astype(np.result_type(array.dtype, np.float32)), np.nan)
    elif array.dtype == bool:
        array = array.view(np.uint8) if isinstance(array, np.ndarray) else array.astype(np.uint8)
    return Spectra(
        array=array,
        navigation_mask=_read_mask(navigation_mask, array.shape[:-1], f"{method}(navigation_mask=...)"),
        signal_mask=_read_mask(signal_mask, array.shape[-1:], f"{method}(signal_mask=...)"),
    )


def check_spectra(signal: BaseSignal, method: str) -> None:
    """Check that a signal holds spectra, or one.

    Parameters
    ----------
    signal
        Exactly one signal axis, real numbers.
    method
        Name of the method that asks, for the messages.

    Raises
    ------
    DataTypeError
        The data are complex, structured or objects.
    SpectraRequiredError
        The signal does not have exactly one signal axis, or spectra of one channel.
    """
    manager, dtype = signal.axes_manager, signal.data.dtype
    if dtype.kind not in "biuf":
        repair = {
            "c": "Choose a real part first: s.real, s.imag, s.amplitude or s.phase.",
            "V": "Separate the colours first: s.change_dtype('uint8') makes them an axis.",
            "O": "Give all spectra the same length first, then s.ragged = False or s.change_dtype('float32').",
        }.get(dtype.kind, "Convert them first: s.change_dtype('float32').")
        raise DataTypeError(f"{method}() needs real numbers, but the data of {signal!r} are {dtype}. {repair}")
    if manager.signal_size == 1:  # HyperSpy then counts no signal axis
        raise SpectraRequiredError(
            f"{method}() compares the shapes of spectra, but those of {signal!r} have one channel. Keep the energy "
            "axis, s.isig[a:b] instead of a sum or a single channel; if energy is among the scan axes, "
            "s.transpose(signal_axes=['Energy'])."
        )
    if manager.signal_dimension != 1:
        names = [str(axis.name) for axis in manager.navigation_axes + manager.signal_axes]
        raise SpectraRequiredError(
            f"{method}() needs spectra, but {signal!r} has {manager.signal_dimension} signal axes. Make the "
            f"energy axis the only one first, s.transpose(signal_axes=['Energy']); its axes are {names}."
        )


def in_array_order(signal: BaseSignal) -> np.ndarray | da.Array:
    """View the data with scan axes first and energy last, wherever the energy axis is in memory."""
    manager = signal.axes_manager
    axes = manager.navigation_axes[::-1] + manager.signal_axes[::-1]
    return signal.data.transpose([axis.index_in_array for axis in axes])


def _read_mask(mask: Mask, shape: tuple[int, ...], call: str) -> np.ndarray | None:
    """Read a mask given in any of the usual forms as a bool array of *shape*."""
    if mask is None:
        return None
    if isinstance(mask, BaseSignal):
        array, swapped = np.asarray(in_array_order(mask)), "mask.data.T"  # a lazy mask is computed, it is small
    else:
        array, swapped = np.asarray(mask), "mask.T"
        if array.ndim > 1:
            _logger.info("%s: the array is read in array order, %s = s.data.shape[:-1]", call, shape)
            if array.shape == array.shape[::-1] == shape and not np.array_equal(array, array.T):
                warnings.warn(
                    f"Pass a signal, hs.signals.BaseSignal(mask).T, to say which axis is which: the map is square, so "
                    f"mask and mask.T both fit {call}. The array is read in array order, (y, x) as s.data.",
                    MaskOrderWarning,
                    stacklevel=6,  # the user's line
                )
    if array.dtype != bool:
        raise MaskError(f"{call} needs booleans, True = masked, but got {array.dtype}. Compare first, e.g. mask > 0.")
    if array.shape != shape:
        turned = f" Its axes are in x, y order: pass {swapped}." if array.shape[::-1] == shape else ""
        raise MaskError(f"{call} has shape {array.shape}, but {shape} (array order) is needed.{turned}")
    if array.all():
        raise MaskError(f"{call} masks everything; True means masked, so perhaps ~mask is meant.")
    return array.copy()  # a lazy result must not follow when the user changes the mask later


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
