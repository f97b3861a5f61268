"""Labels of pixels from areas that have a name, and from tables of positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import MaskError, OptionError
from hyperspy_specml.signals import navigation_map

if TYPE_CHECKING:
    from collections.abc import Mapping


def labels_of_areas(
    template: BaseSignal, areas: Mapping[str, Any], shape: tuple[int, ...], method: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels of named areas: masks, or regions of interest of HyperSpy."""
    found: np.ndarray = np.full(shape, -1)
    indices = navigation_map(template, np.arange(found.size).reshape(shape), title="indices")
    for k, (name, area) in enumerate(areas.items()):
        if callable(area):  # a region of interest cuts the signal that it is called with
            inside = np.isin(indices.data, np.asarray(area(indices).data).astype(np.int64))
        else:
            inside = np.asarray(area.data if isinstance(area, BaseSignal) else area)
        if inside.dtype != bool or inside.shape != shape or not inside.any():
            raise MaskError(
                f"{method}(labels={{{name!r}: ...}}) needs a region of interest, or booleans of shape {shape} "
                f"(array order) of which some are True, but got {inside.dtype} of shape {inside.shape}."
            )
        found[inside] = k
    return found.reshape(-1), tuple(map(str, areas))


def is_table(labels: Any) -> bool:
    """Return whether labels are a table: something with named columns."""
    return hasattr(labels, "columns") or (isinstance(labels, np.ndarray) and labels.dtype.names is not None)


def labels_of_table(template: BaseSignal, table: Any, shape: tuple[int, ...], method: str) -> np.ndarray:
    """Return the label of every pixel: a number, -1 or NaN where there is none, or a text, "" where there is none.

    Parameters
    ----------
    template, shape
        The data, and the shape of their scan.
    table
        With a column for each scan axis and one of labels.
    method
        What the user called.

    Raises
    ------
    OptionError
        Columns are missing or too many, a position lies outside of the scan, or a pixel has two labels.
    """
    columns = [str(one) for one in (table.dtype.names if isinstance(table, np.ndarray) else table.columns)]
    axes = template.axes_manager.navigation_axes
    others = [name for name in columns if name not in {axis.name for axis in axes}]
    if len(columns) != len(axes) + 1 or len(others) != 1:
        wanted = ", ".join(repr(str(axis.name)) for axis in axes)
        raise OptionError(
            f"{method}(labels=table) needs a column for each scan axis, {wanted}, and one of labels, but got "
            f"{', '.join(map(repr, columns))}. Name the axes, s.axes_manager[0].name = 'x', or leave columns out."
        )
    given = np.asarray(table[others[0]])
    pixels = np.zeros(len(given), np.int64)
    for axis, size in zip(reversed(axes), shape, strict=True):  # array order
        pixels = pixels * size + _indices(axis, np.asarray(table[axis.name]), method)
    none, kind = {"f": (np.nan, float), "i": (-1, int), "u": (-1, int), "b": (-1, int)}.get(
        given.dtype.kind, ("", object)
    )
    found: np.ndarray = np.full(int(np.prod(shape)), none, kind)
    given = given.astype(kind)
    found[pixels] = given
    if (found[pixels] != given).any():
        raise OptionError(f"{method}(labels=table): a pixel has two labels. Leave one of them out.")
    return found.astype(str) if found.dtype == object else found


def _indices(axis: Any, values: np.ndarray, method: str) -> np.ndarray:
    """Return indices along an axis, of indices or of positions in its units, as HyperSpy takes them."""
    if values.dtype.kind == "f":
        inside = np.isfinite(values) & (values >= axis.low_value - abs(axis.scale) / 2)
        inside &= values <= axis.high_value + abs(axis.scale) / 2
        found = np.array([axis.value2index(v) if ok else -1 for v, ok in zip(values, inside, strict=True)], np.int64)
    else:
        found = values.astype(np.int64)
    wrong = np.flatnonzero((found < 0) | (found >= axis.size))
    if wrong.size:
        raise OptionError(
            f"{method}(labels=table): {axis.name} = {values[wrong[0]]} lies outside of the scan, {axis.size} pixels "
            f"from {axis.low_value:g} to {axis.high_value:g} {axis.units}. Whole numbers are indices, others are in "
            "units of the axis."
        )
    return found
