"""Arrays to signals: the only place where the package makes HyperSpy signals from arrays."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dask.array as da
    from hyperspy.axes import BaseDataAxis


def like(signal: BaseSignal, array: np.ndarray | da.Array, *, title: str) -> BaseSignal:
    """Make a signal of the same class, axes and metadata from new spectra.

    Variance, markers and learning results are left out: they describe the old data.

    Parameters
    ----------
    signal
        Gives class, axes and metadata.
    array
        Shape (*navigation, E) in array order. A dask array makes the lazy class, a NumPy array the eager one,
        whatever *signal* is.
    title
        Of the new signal.
    """
    manager = signal.axes_manager
    axes = [*_axes(manager.navigation_axes, navigate=True), *_axes(manager.signal_axes, navigate=False)]
    original = copy.deepcopy(signal.original_metadata.as_dictionary())
    return _signal(array, axes, _metadata(signal, title), original_metadata=original)


def score_maps(signal: BaseSignal, scores: np.ndarray, *, title: str) -> BaseSignal:
    """Make one map per component: the component index navigates, the calibrated scan axes are signal axes.

    Parameters
    ----------
    signal
        Gives the scan axes.
    scores
        Shape (*navigation, K) in array order.
    title
        Of the new signal.

    Returns
    -------
    Signal1D, Signal2D or BaseSignal (K | scan axes) for one, two or three scan axes.
    """
    maps = np.moveaxis(scores, -1, 0).copy(order="C")  # (*navigation, K) -> (K, *navigation)
    axes = [_component_axis(len(maps)), *_axes(signal.axes_manager.navigation_axes, navigate=False)]
    return _signal(maps, axes, _titled(title))


def component_spectra(signal: BaseSignal, components: np.ndarray, *, title: str) -> BaseSignal:
    """Make one spectrum per component, in the eager class of *signal*, with its energy axis and metadata.

    Parameters
    ----------
    signal
        Gives class, energy axis and metadata (microscope, elements).
    components
        Shape (K, E).
    title
        Of the new signal.
    """
    axes = [_component_axis(len(components)), *_axes(signal.axes_manager.signal_axes, navigate=False)]
    return _signal(components, axes, _metadata(signal, title))


def navigation_map(signal: BaseSignal, array: np.ndarray, *, title: str) -> BaseSignal:
    """Make a map (nx, ny |) of one number per pixel, the shape of exspy's maps and of navigation masks.

    Parameters
    ----------
    signal
        Gives the scan axes.
    array
        Shape of the navigation space, in array order.
    title
        Of the new signal.
    """
    return _signal(array, _axes(signal.axes_manager.navigation_axes, navigate=True), _titled(title))


def stamp(signal: BaseSignal, provenance: Mapping[str, Any]) -> BaseSignal:
    """Write where a signal comes from under ``metadata.Specml``, in types that every file keeps.

    Parameters
    ----------
    signal
        One of our own results: this is the only function that writes to its argument.
    provenance
        Nested mapping of text, numbers and lists of them, and of bytes, which become an array of uint8;
        replaces an earlier stamp.

    Returns
    -------
    the same signal
    """
    signal.metadata.set_item("Specml", _plain(provenance))
    return signal


def _signal(
    array: np.ndarray | da.Array, axes: list[dict[str, Any]], metadata: dict[str, Any], **options: Any
) -> BaseSignal:
    signal = BaseSignal(array, axes=axes, metadata=metadata, **options)
    if array.shape != tuple(axis.size for axis in signal.axes_manager._axes):
        raise ValueError(f"array of shape {array.shape} does not fit the axes {signal.axes_manager.shape}")
    signal._lazy = not isinstance(array, np.ndarray)
    signal._assign_subclass()  # class from signal type, dimension and laziness, as in HyperSpy
    return signal


def _axes(axes: tuple[BaseDataAxis, ...], *, navigate: bool) -> list[dict[str, Any]]:
    """Describe axes for a new signal, in array order; copied deeply, as non-uniform axes hold arrays."""
    return [copy.deepcopy(axis.get_axis_dictionary()) | {"navigate": navigate} for axis in reversed(axes)]


def _component_axis(n_components: int) -> dict[str, Any]:
    return {"name": "Component index", "size": n_components, "scale": 1.0, "units": "", "navigate": True}


def _titled(title: str) -> dict[str, Any]:
    return {"General": {"title": title}, "Signal": {"signal_type": ""}}


def _metadata(signal: BaseSignal, title: str) -> dict[str, Any]:
    """Copy the metadata but for what describes the old data; large parts are left out before copying."""
    metadata = signal.metadata.as_dictionary()
    metadata.pop("_HyperSpy", None)  # whether the old signal was unfolded, and its navigator
    metadata.pop("Markers", None)
    metadata["Signal"].pop("Noise_properties", None)
    metadata = copy.deepcopy(metadata)
    metadata["General"]["title"] = title
    return metadata


def _plain(value: Any) -> Any:
    """Turn NumPy numbers, arrays and tuples into what .hspy files give back unchanged."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
