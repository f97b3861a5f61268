"""Labels of pixels: from arrays, from areas that have a name, and from tables of positions."""

from __future__ import annotations

import logging
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import MaskError, OptionError
from hyperspy_specml.signals import in_array_order, navigation_map

if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = logging.getLogger(__name__)

# What stands for no label among objects: None, NaN, and NA and NaT of pandas.
_NO_LABEL = ("None", "nan", "NaN", "<NA>", "NaT")
# Labelled spectra of each class, and of values, that are needed: by a cross-validation, and without one.
_CROSSED, _ALONE = {True: 2, False: 6}, {True: 1, False: 2}
# All of them, which are values.
_VALUES = (("values", slice(None)),)


def labels_of(
    template: BaseSignal, labels: Any, shape: tuple[int, ...], method: str
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Return labels of all spectra, names of the classes (none: values), and which spectra have one.

    Parameters
    ----------
    template, shape
        The data, and the shape of their scan.
    labels
        An array of that shape or a flat one of all spectra, a signal, areas by name, or a table.
    method
        What the user called.

    Raises
    ------
    OptionError
        Labels of another shape or kind, or a table that does not fit.
    MaskError
        An area that is no area of the scan, or two that have pixels in common.
    """
    if is_table(labels):
        labels = labels_of_table(template, labels, shape, method)
    elif hasattr(labels, "items") and not hasattr(labels, "dtype"):  # a Series is a list of labels
        values, names = labels_of_areas(template, labels, shape, method)
        return values, names, values >= 0
    array, known = _with_label(in_array_order(labels) if isinstance(labels, BaseSignal) else labels, method)
    if array.shape not in (shape, (int(np.prod(shape)),)):
        turned = " Its axes are in x, y order: pass labels.T." if array.shape == shape[::-1] else ""
        raise OptionError(
            f"{method}(labels of shape {array.shape}) needs one label for each spectrum, shape {shape} in array order "
            f"or a flat list of them; -1, '' or NaN where there is none.{turned}"
        )
    array, known = array.reshape(-1), known.reshape(-1)
    if array.dtype.kind == "f":
        return array.astype(float), (), known
    every, places = np.unique(array[known], return_inverse=True)
    found: np.ndarray = np.full(array.shape, -1)
    found[known] = places
    return found, tuple(map(str, every)), known


def _with_label(labels: Any, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as numbers or text, and which of them are any: not masked, negative, empty, None or NaN."""
    given = np.ma.asarray(labels)
    nullable = not isinstance(getattr(labels, "dtype", given.dtype), np.dtype)
    if nullable or (given.dtype.kind == "U" and isinstance(labels, list | tuple)):
        # NaN among texts is not the text "nan", and whole numbers beside NA of pandas are classes still.
        given = np.ma.asarray(np.asarray(labels, object))
    array, known = np.asarray(given.data), ~np.ma.getmaskarray(given)
    if array.dtype.kind == "O":
        known &= np.array([not _is_none(one) for one in array.flat], bool).reshape(array.shape)
        some = array[known].tolist()
        if all(isinstance(one, str | Number | np.generic) for one in some):
            plain = np.array(some)
            array = np.zeros(array.shape, plain.dtype)
            array[known] = plain
    elif array.dtype.kind == "S":
        array = np.char.decode(array)
    if array.dtype.kind not in "fUiub":
        raise OptionError(f"{method}(labels of {array.dtype}) needs numbers, text, or areas by name.")
    if array.dtype.kind == "f":
        return array, known & np.isfinite(array)
    return array, known & (array != "" if array.dtype.kind == "U" else array >= 0)


def _is_none(one: Any) -> bool:
    return one == "" if isinstance(one, str) else str(one) in _NO_LABEL


def check_labels(
    truth: np.ndarray, names: tuple[str, ...], method: str, finite: np.ndarray | None = None,
    empty: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Refuse labels that teach nothing, and say how many are left out.

    Parameters
    ----------
    truth, names
        (n,) labels of the labelled spectra, and names of the classes; none of values.
    method
        That is to learn.
    finite, empty
        (n,) which labelled spectra are finite, and which hold no counts at all, where that is known.

    Raises
    ------
    OptionError
        There are too few of all, or of one class, or they are all the same.
    """
    if len(truth) < 2:
        raise OptionError(f"fine_tune(labels=...): {len(truth)} spectra have a label. Two at least are needed.")
    if len(names) == 1:
        raise OptionError(
            f"fine_tune(labels=...): all labels are of one class, {names[0]!r}. Label spectra of another class, too, "
            "or find strangers with s.anomaly_map()."
        )
    finite = np.ones(len(truth), bool) if finite is None else finite
    says = finite if empty is None else finite & ~empty
    needed = (_CROSSED if method == "auto" else _ALONE)[bool(names)]
    for what, own in {f"class {name!r}": truth == k for k, name in enumerate(names)}.items() or _VALUES:
        left = int(says[own].sum())
        if left >= needed:
            continue
        number, lost = len(truth[own]), int((~finite[own]).sum())
        why = f" {lost} of its {number} labelled spectra hold NaN or infinity, and {number - lost - left} no counts."
        other = ", or say the method, method='linear'" if left >= _ALONE[bool(names)] else ""
        raise OptionError(
            f"fine_tune(method={method!r}, labels=...): {left} labelled spectra of {what} are there to learn from, and "
            f"{needed} or more are needed.{why if left < number else ''} Label more{other}."
        )
    if not names and np.ptp(truth[says]) == 0:
        raise OptionError(
            f"fine_tune(labels=...): all {says.sum()} values are {truth[says][0]:g}, so there is nothing to learn. "
            "Label spectra of other values, too; classes are whole numbers or text."
        )
    if not says.all():
        lost, number = int((~says).sum()), len(says)
        _logger.warning("fine_tune(): %d of %d labelled spectra hold NaN or no counts: left out", lost, number)


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
            given = area.data if isinstance(area, BaseSignal) else area
            inside = np.asarray(np.ma.filled(given, False) if isinstance(given, np.ma.MaskedArray) else given)
        if inside.dtype != bool or inside.shape != shape or not inside.any():
            raise MaskError(
                f"{method}(labels={{{name!r}: ...}}) needs a region of interest, or booleans of shape {shape} "
                f"(array order) of which some are True, but got {inside.dtype} of shape {inside.shape}."
            )
        if (found[inside] >= 0).any():
            other = int(found[inside].max())
            raise MaskError(
                f"{method}(labels=...): the areas {list(areas)[other]!r} and {name!r} have "
                f"{(found[inside] == other).sum()} pixels in common. Take these out of one of them."
            )
        found[inside] = k
    return found.reshape(-1), tuple(map(str, areas))


def is_table(labels: Any) -> bool:
    """Return whether labels are a table: something with named columns."""
    return hasattr(labels, "columns") or (isinstance(labels, np.ndarray) and labels.dtype.names is not None)


def labels_of_table(template: BaseSignal, table: Any, shape: tuple[int, ...], method: str) -> np.ma.MaskedArray:
    """Return the label of every pixel, masked where there is none.

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
    given, known = _with_label(table[others[0]], method)
    given = given[known]  # rows without a label say nothing
    pixels = np.zeros(len(given), np.int64)
    for axis, size in zip(reversed(axes), shape, strict=True):  # array order
        pixels = pixels * size + _indices(axis, np.asarray(table[axis.name])[known], method)
    found: np.ma.MaskedArray = np.ma.masked_all(int(np.prod(shape)), given.dtype)
    found[pixels] = given
    two = np.flatnonzero(found.data[pixels] != given)
    if two.size:
        place = tuple(int(i) for i in np.unravel_index(pixels[two[0]], shape))
        raise OptionError(
            f"{method}(labels=table): a pixel has two labels, {str(given[two[0]])!r} and "
            f"{str(found.data[pixels[two[0]]])!r} at {place} (array order). Leave one of them out."
        )
    return found


def _indices(axis: Any, values: np.ndarray, method: str) -> np.ndarray:
    """Return indices along an axis, of indices or of positions in its units, as HyperSpy takes them."""
    values = np.array(values.tolist()) if values.dtype.kind == "O" else values
    if values.dtype.kind not in "iuf":
        raise OptionError(f"{method}(labels=table): positions along {axis.name} must be numbers, not {values.dtype}.")
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
