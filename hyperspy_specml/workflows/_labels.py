"""Labels of pixels from areas that have a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import MaskError
from hyperspy_specml.signals import navigation_map

if TYPE_CHECKING:
    from collections.abc import Mapping


def labels_of_areas(
    template: BaseSignal, areas: Mapping[str, Any], shape: tuple[int, ...], method: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels of named areas: masks, or regions of interest of HyperSpy."""
    found = np.full(shape, -1)
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
