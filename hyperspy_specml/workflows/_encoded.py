"""Spectra on their way into an encoder, block by block, and what it says of them as native maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pint
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.signals import axis_spec, below_first_line, check_spectra, energy_axis, spectra_of
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.pretraining import Inputs, SpectralGrid, SpectrumEncoder
    from hyperspy_specml.progress import Progress


def require_spectra(signal: Any, method: str) -> None:
    """Refuse what is no signal of spectra of real numbers; a single spectrum is one.

    Raises
    ------
    OptionError
        It is no signal.
    DataTypeError
        The data are complex, structured or objects.
    SpectraRequiredError
        There is not exactly one signal axis.
    """
    if not isinstance(signal, BaseSignal):
        raise OptionError(
            f"{method}() needs a signal of spectra, not {type(signal).__name__}. Load a file with hs.load(path), make "
            "an array one with hs.signals.Signal1D(array), and give it its energy axis."
        )
    check_spectra(signal, method)


def energies_of(signal: BaseSignal) -> tuple[str, np.ndarray]:
    """Return the unit and the (E,) energies of a signal, in eV where they are energies."""
    axis = energy_axis(signal)
    units, values = axis_spec(axis)["units"] or "", np.asarray(axis.axis, float)
    try:
        factor = float(pint.Quantity(1.0, units).to("eV").magnitude)
    except (pint.PintError, AttributeError, TypeError, ValueError):
        return units, values
    return "eV", values * factor


def inputs_for(
    encoder: SpectrumEncoder, units: str, centres: np.ndarray, *, among: Sequence[SpectralGrid] | None = None
) -> Inputs:
    """Return how spectra on such channels are shown to an encoder, on one of its grids or of some of them.

    Raises
    ------
    EnergyAxisMismatchError
        They lie on none, or record no patch of it.
    """
    grid = encoder.grid_for(units, centres, among=among)
    return encoder.inputs(grid, encoder.visible(grid, centres))


def of_finite(rows: np.ndarray, n: int, function: Any) -> np.ndarray:
    """Return (n_rows, n) what a function says of finite rows, NaN for others."""
    found = np.full((len(rows), n), np.nan, np.float32)
    good = np.isfinite(rows).all(axis=1) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
    if good.any():
        found[good] = function(rows[good])
    return found


def mapped(signal: BaseSignal, n: int, function: Any, progress: Progress) -> np.ndarray:
    """Return (n_pixels, n) numbers of all spectra, read block by block."""
    function = OfLines(function, below_first_line(signal))
    if not signal.axes_manager.navigation_dimension:
        rows = np.asarray(signal.data).reshape(1, -1)
        return function(rows, np.zeros(1, int))
    stream = SpectrumStream(spectra_of(signal, method="embed").array, progress=progress)
    return stream.map_rows(function, n_columns=n, label="Encode")


def rows_at(signal: BaseSignal, pixels: np.ndarray, progress: Progress) -> np.ndarray:
    """Return the (n, E) spectra of some pixels, flat indices in rising order, read block by block."""
    picked = OfLines(_Picked(pixels), below_first_line(signal))
    if not signal.axes_manager.navigation_dimension:
        parts = picked(np.asarray(signal.data).reshape(1, -1), np.zeros(1, int))
    else:
        stream = SpectrumStream(spectra_of(signal, method="fine_tune").array, progress=progress)
        parts = stream.fold(picked, list.__add__, label="Read spectra")
    order = np.argsort(np.concatenate([indices for indices, _ in parts]))
    return np.concatenate([rows for _, rows in parts])[order]


@dataclass(frozen=True, eq=False)
class OfLines:
    """A block function that sees nothing in the channels below the first line, where the zero-energy peak is.

    Simulated spectra hold nothing there: the peak of the electronics would be most of what the encoder is shown.

    Attributes
    ----------
    function
        Of (n, E) rows and (n,) flat indices.
    below
        (E,) bool, such channels; None for none.
    """

    function: Any
    below: np.ndarray | None

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> Any:
        if self.below is not None:
            rows = np.where(self.below, rows.dtype.type(0), rows)
        return self.function(rows, pixels)


@dataclass(frozen=True, eq=False)
class _Picked:
    """The block function that keeps the spectra of some pixels."""

    pixels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        kept = np.isin(pixels, self.pixels)
        return [(pixels[kept], rows[kept])]


def scan_shape(signal: BaseSignal) -> tuple[int, ...]:
    return tuple(signal.axes_manager.navigation_shape[::-1])


def title_of(signal: BaseSignal) -> str:
    return signal.metadata.get_item("General.title", "") or type(signal).__name__
