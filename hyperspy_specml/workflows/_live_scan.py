"""What a scan is given: its shape and order, its energy axis, a model to begin with, files that grow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.axes import BaseDataAxis
from hyperspy.signal import BaseSignal
from scipy.optimize import nnls

from hyperspy_specml.anomaly import ReferenceModel
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.latent import PhaseModel
from hyperspy_specml.live import ORDERS, Damage, EnergyDrift, Known, Library, NewPhase, scan_order
from hyperspy_specml.models import FittedDenoiser
from hyperspy_specml.signals import axis_spec, energy_axis, in_array_order, line_width, spectral_lines

if TYPE_CHECKING:
    from pathlib import Path

    from hyperspy_specml.live import Event, Trend
    from hyperspy_specml.models import FittedModel, TrainedModel

# Full width at half maximum of a Gaussian, in standard deviations.
_FULL_WIDTH = 2.355
# Elements named with a window that decays, and standard deviations that their lines must show.
_MOST_NAMES, _LEAST_DEVIATE = 5, 3.0
# Knots of the background that lines stand on, straight between them.
_KNOTS = 8


@dataclass(frozen=True, eq=False)
class _Expectation:
    """What a model expects of (n, E) spectra; 0 in channels that it does not know."""

    model: FittedModel
    channels: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        found = np.zeros(rows.shape, np.float32)
        own = self.model.model if isinstance(self.model, ReferenceModel) else self.model
        found[:, self.channels] = own.expect(np.ascontiguousarray(rows[:, self.channels]))
        return found


def known_of(reference: TrainedModel, template: BaseSignal) -> Known:
    """Return a model as what is known when a scan begins.

    Parameters
    ----------
    reference
        Phases, or any model of spectra.
    template
        Has the energy axis of the scan.

    Raises
    ------
    OptionError
        It is a denoiser.
    EnergyAxisMismatchError
        It does not fit the energy axis.
    """
    trained = reference.on_axis(axis_spec(energy_axis(template)), method="LiveMonitor")
    model, channels = trained.model, trained.channels
    if isinstance(model, PhaseModel):
        recipe = model.recipe(channels)
        return Known(recipe, Library(recipe.phases(model.spectra), model.n_spectra, recipe.law, model.error))
    if isinstance(model, FittedDenoiser):
        raise OptionError(
            f"LiveMonitor(reference=...) needs a model of ordinary spectra, but got a denoiser, {trained!r}. Use "
            "the model of s.decomposition_ae(), s.anomaly_map() or s.phase_map()."
        )
    return Known(expectation=_Expectation(model, channels), channels=channels)


def calibrated(event: Event, template: BaseSignal, trend: Trend | None) -> Event:
    """Return the event with energies in units of the axis and with elements.

    Parameters
    ----------
    event
        In channels.
    template
        Has the energy axis and the elements.
    trend
        Over the frames so far.
    """
    axis = energy_axis(template)
    step = float(np.gradient(axis.axis).mean()) if axis.size > 1 else 1.0
    units = axis_spec(axis)["units"] or ""

    def at(channel: float) -> float:
        return float(np.interp(channel, np.arange(axis.size), axis.axis))

    if isinstance(event, NewPhase):
        energy = at(event.energy) if np.isfinite(event.energy) else event.energy
        return replace(event, energy=energy, units=units)
    if isinstance(event, EnergyDrift):
        return replace(event, shift=event.shift * step, error=event.error * step, units=units)
    if isinstance(event, Damage):
        centre, width = at(event.energy), event.width * step
        names = _changing(template, trend, event.rate)
        return replace(event, energy=centre, width=width, elements=names, units=units)
    return event


def _changing(template: BaseSignal, trend: Trend | None, rate: float) -> tuple[str, ...]:
    """Return the elements whose lines change most with the dose, in the direction of `rate`."""
    axis = energy_axis(template)
    widths = line_width(template)
    if trend is None or widths is None:
        return ()
    lines = spectral_lines(template)
    best = min((line.rank for line in lines), default=0)
    shapes: dict[tuple[str, str], np.ndarray] = {}
    channels = np.arange(axis.size)
    for line in lines:
        if line.rank > max(best, 0):
            continue  # where the sample's elements are listed, others are not asked for
        at = float(np.interp(line.energy, axis.axis, channels))
        one = line.weight * np.exp(-0.5 * ((channels - at) / (widths[int(at)] / _FULL_WIDTH)) ** 2)
        shapes[line.element, line.family] = shapes.get((line.element, line.family), 0) + one
    of_element: dict[str, np.ndarray] = {}
    for (element, family), amount in _amounts(shapes, trend.variance).items():
        # All lines of an element change by the same factor: one that is strong and stays speaks for another element.
        of_element[element] = of_element.get(element, 0) + amount * shapes[element, family]
    strength = {name: float(np.sign(rate)) * trend.of_shape(shape) for name, shape in of_element.items()}
    clear = [name for name, found in strength.items() if found > _LEAST_DEVIATE]
    return tuple(sorted(clear, key=lambda name: -strength[name])[:_MOST_NAMES])


def _amounts(shapes: dict[tuple[str, str], np.ndarray], spectrum: np.ndarray) -> dict[tuple[str, str], float]:
    """Return how much of each family of lines is in the (E,) spectrum, beside a smooth background; none is negative."""
    channels, knots = np.arange(len(spectrum)), np.linspace(0, len(spectrum) - 1, _KNOTS)
    background = [np.interp(channels, knots, one) for one in np.eye(_KNOTS)]
    weight = 1 / np.sqrt(spectrum)
    found, _ = nnls(np.stack([*shapes.values(), *background], axis=1) * weight[:, None], spectrum * weight)
    return dict(zip(shapes, found, strict=False))


def scan_shape(navigation_shape: Any) -> tuple[int, ...]:
    """Return the pixels along the scan axes.

    Parameters
    ----------
    navigation_shape
        As users give it.

    Raises
    ------
    OptionError
        It is none.
    """
    try:
        shape = tuple(int(n) for n in navigation_shape)
        right = bool(shape) and all(n >= 1 and n == m for n, m in zip(shape, navigation_shape, strict=True))
    except (TypeError, ValueError):
        right = False
    if not right:
        raise OptionError(
            f"LiveMonitor(navigation_shape={navigation_shape!r}) needs the pixels along the scan axes, e.g. (64, 64)."
        )
    return shape


def template_of(shape: tuple[int, ...], energy: Any) -> BaseSignal:
    """Return a signal without data of the scan's shape, with the energy axis and metadata that were given.

    Parameters
    ----------
    shape
        Pixels along the scan axes.
    energy
        Axis, its dictionary or values, or a signal.

    Raises
    ------
    OptionError
        It is none of these.
    """
    if isinstance(energy, BaseSignal):
        if energy.axes_manager.signal_dimension != 1:
            raise OptionError(f"LiveMonitor(energy_axis={energy!r}) needs a signal of spectra.")
        metadata, axis = energy.metadata.as_dictionary(), energy_axis(energy).get_axis_dictionary()
        scan = [a.get_axis_dictionary() for a in energy.axes_manager.navigation_axes]
    else:
        metadata, scan = {}, []
        if isinstance(energy, BaseDataAxis):
            axis = energy.get_axis_dictionary()
        elif isinstance(energy, dict):
            axis = dict(energy)
        else:
            values = np.asarray(energy, float)
            if values.ndim != 1 or len(values) < 1 or not np.isfinite(values).all():
                raise OptionError(f"LiveMonitor(energy_axis={energy!r}) needs an axis of HyperSpy, or its values.")
            axis = (
                {"axis": values, "name": "Energy"}
                if not _uniform(values)
                else {
                    "size": len(values),
                    "offset": values[0],
                    "scale": float(np.diff(values).mean()) if len(values) > 1 else 1.0,
                    "name": "Energy",
                }
            )
    axis["navigate"] = False
    if len(scan) != len(shape):
        scan = [{"name": name} for name in ("x", "y", "z")[: len(shape)]] if len(shape) < 4 else [{} for _ in shape]
    axes = [spec | {"size": size, "navigate": True} for spec, size in zip(scan, shape, strict=True)][::-1]
    for spec in axes:
        spec.pop("axis", None)
    size = int(axis.get("size") or len(axis["axis"]))
    for key in ("_HyperSpy", "Markers", "Specml"):
        metadata.pop(key, None)
    found = BaseSignal(np.broadcast_to(np.float32(0), (*shape[::-1], size)), axes=[*axes, axis], metadata=metadata)
    found._assign_subclass()
    return found


def _uniform(values: np.ndarray) -> bool:
    steps = np.diff(values)
    return bool(len(steps) == 0 or np.allclose(steps, steps.mean(), rtol=1e-6))


def positions_of(order: Any, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the (n_pixels, d) positions in the order of the scan.

    Parameters
    ----------
    order
        Its name, or positions.
    shape
        Pixels along the scan axes.
    seed
        Of a random order.

    Raises
    ------
    OptionError
        There is no such order, or positions do not name every pixel once.
    """
    if isinstance(order, str):
        if order not in ORDERS:
            raise OptionError.unknown("order", order, ORDERS)
        return scan_order(shape, order, random_state=seed)
    positions = np.asarray(order)
    n = int(np.prod(shape))
    if positions.dtype.kind not in "ui" or positions.shape != (n, len(shape)):
        raise OptionError(
            f"LiveMonitor(order of shape {positions.shape}) needs a name ({', '.join(ORDERS)}), or the position (x, y) "
            f"of every pixel in turn, whole numbers of shape {(n, len(shape))}."
        )
    inside = ((positions >= 0) & (positions < shape)).all()
    if not inside or len(np.unique(positions, axis=0)) != n:
        raise OptionError(f"LiveMonitor(order=...): positions must name every pixel of {shape} once.")
    return positions.astype(np.int64)


def lines_of(path: Path, start: int) -> np.ndarray | None:
    """Return the lines of a growing file from `start` on; None where there is no file yet.

    Parameters
    ----------
    path
        Of the file.
    start
        First line.
    """
    if not path.exists():
        return None
    if path.suffix == ".npy":
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        new = array[start:]
        empty = np.flatnonzero(~new.reshape(len(new), -1).any(axis=1))
        return np.array(new[: empty[0] if len(empty) else len(new)])
    import hyperspy.api as hs

    lazy = hs.load(path, lazy=True)
    array = in_array_order(lazy)
    found = np.asarray(array[start:]) if array.shape[0] > start else array[:0].compute()
    lazy.close_file() if path.suffix == ".hspy" else None
    return found
