"""Simulated maps: seeded random fields, spectra expected of them, counts and the truth, as native signals."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from dask.array import Array
    from hyperspy.signals import BaseSignal
    from numpy.typing import NDArray

Shape = tuple[int, ...]

# Size of a dask chunk, in bytes of float32 spectra.
_BLOCK_BYTES = 2**25
_ENDMEMBERS = {"name": "Endmember", "navigate": True}
# Standard deviation of the jumps between scan lines, relative to that of the whole drift; the rest is slow
# wander.
_JUMPS = 0.6


@dataclass(frozen=True, eq=False)
class SimulatedMap:
    """A spectrum image drawn from a known truth.

    Attributes
    ----------
    signal
        Poisson counts in the smallest unsigned integer type that holds them.
    clean
        The expectation of `signal`, float32, the same class, axes and laziness.
    truth
        Named maps behind the data: navigation signals (nx, ny|), in memory; ``abundances``
        is (K|nx, ny).
    dose
        Mean counts that `signal` was drawn with: per pixel for EDS, per channel for EELS.
    largest
        Upper bound of `clean`, which sets the integer type without a pass over lazy data.
    names
        Of the K endmembers, if the map is a mixture.
    endmembers
        Their spectra (K|E), each of sum 1; None if the map is no linear mixture.
    rare_mask
        True where something rare was planted, bool (nx, ny|); None if nothing was.
    random_state
        Seed of the truth and of the counts in `signal`.
    """

    signal: BaseSignal
    clean: BaseSignal
    truth: Mapping[str, BaseSignal]
    dose: float
    largest: float = field(repr=False)
    names: tuple[str, ...] = ()
    endmembers: BaseSignal | None = None
    rare_mask: BaseSignal | None = None
    random_state: int = field(default=0, repr=False)

    @classmethod
    def from_expectation(
        cls, clean: BaseSignal, *, truth: Mapping[str, Any], endmembers: Any = None, rare_mask: Any = None, **known: Any
    ) -> Self:
        """Draw the counts of *clean* and wrap the arrays of its truth; *known* are the other fields."""
        signal = _draw(clean, known["largest"], random_state=known["random_state"])
        maps = {name: _truth_map(clean, values, name) for name, values in truth.items()}
        if endmembers is not None:
            axes = [_ENDMEMBERS | {"size": len(endmembers)}, clean.axes_manager.signal_axes[0].get_axis_dictionary()]
            metadata = copy.deepcopy(clean.metadata.as_dictionary()) | {"General": {"title": "Endmembers"}}
            known["endmembers"] = _new_signal(endmembers, axes, metadata)
        if rare_mask is not None:
            known["rare_mask"] = _truth_map(clean, rare_mask, "rare_mask")
        return cls(signal=signal, clean=clean, truth=MappingProxyType(maps), **known)

    def counts(self, *, dose: float | None = None, random_state: int | None = None) -> BaseSignal:
        """Draw Poisson counts of the same truth again.

        Parameters
        ----------
        dose
            Mean counts, in the unit of `dose`; None keeps the dose of the map.
        random_state
            Seed of the noise; None repeats the map's own, another value is independent of it.

        Returns
        -------
        Signal of the class, axes and laziness of `signal`

        Raises
        ------
        OptionError
            The dose is not positive.
        """
        dose = self.dose if dose is None else check_dose(dose)
        seed = self.random_state if random_state is None else random_state
        factor = dose / self.dose
        return _draw(self.clean, factor * self.largest, factor=factor, random_state=seed)

    def __repr__(self) -> str:
        """Name the signal, its dose and the truth that comes with it."""
        known = ", ".join([*self.truth, *(["rare_mask"] if self.rare_mask is not None else [])])
        mixture = f", endmembers: {', '.join(self.names)}" if self.names else ""
        return f"<SimulatedMap of {self.signal!r}, dose: {self.dose:g}{mixture}, truth: {known}>"


def check_map(shape: Shape, *, n_channels: int, dose: float, rare_phase: Any) -> None:
    """Refuse sizes and doses that cannot be simulated."""
    if not 1 <= len(shape) <= 3 or min(shape) < 1 or n_channels < 2:
        raise OptionError(
            f"shape={shape!r} with n_channels={n_channels!r} is no spectrum image: give one to three "
            "positive scan sizes in array order, e.g. shape=(64, 48), and at least 2 channels."
        )
    if rare_phase and not 1 <= rare_phase.n_pixels < np.prod(shape):
        raise OptionError(
            f"{rare_phase!r} does not fit shape={shape!r}, which has {np.prod(shape)} pixels: "
            "give n_pixels from 1 to one less than that."
        )
    check_dose(dose)


def check_dose(dose: float) -> float:
    """Return *dose* if counts can be drawn with it."""
    if not (np.isfinite(dose) and dose > 0):
        raise OptionError(f"dose={dose!r} draws nothing: give a positive number of mean counts.")
    return dose


def expectation(
    parameters: NDArray[np.float64], spectra: Callable[[NDArray[np.float64]], NDArray[np.floating]], *, n_channels: int
) -> Array:
    """Turn parameters (ny, nx, P) into a lazy array of expected spectra (ny, nx, E), float32."""
    import dask.array as da

    blocks = _scan_lines(parameters, n_channels)
    return da.map_blocks(
        lambda block: spectra(block).astype(np.float32, copy=False),
        blocks,
        chunks=(*blocks.chunks[:-1], (n_channels,)),
        dtype=np.float32,
        meta=np.empty((0,) * parameters.ndim, dtype=np.float32),
    )


def spectrum_signal(
    data: Any, signal_type: str, title: str, *, pixel: float, energy_axis: dict, microscope: dict, elements: list
) -> BaseSignal:
    """Wrap spectra (..., E) in exspy's class of *signal_type*, lazy for a dask array; pixels are *pixel* nm wide."""
    axes = [
        {"size": size, "name": name, "scale": pixel, "units": "nm", "navigate": True}
        for size, name in zip(data.shape[:-1], "zyx"[1 - data.ndim :], strict=True)
    ]
    metadata = {
        "General": {"title": title},
        "Acquisition_instrument": {"TEM": microscope},
        "Sample": {"elements": elements},
        "Signal": {"signal_type": signal_type, "quantity": "Counts"},
    }
    return _new_signal(data, [*axes, {"size": data.shape[-1], "navigate": False, **energy_axis}], metadata)


def _truth_map(clean: BaseSignal, values: NDArray[np.generic], title: str) -> BaseSignal:
    """Wrap one value per pixel of *clean* as a signal (nx, ny|), K values (ny, nx, K) as maps (K|nx, ny)."""
    axes = [axis.get_axis_dictionary() for axis in clean.axes_manager.navigation_axes[::-1]]
    if values.ndim > len(axes):
        values = np.ascontiguousarray(np.moveaxis(values, -1, 0))
        axes = [_ENDMEMBERS | {"size": len(values)}, *(axis | {"navigate": False} for axis in axes)]
    return _new_signal(values, axes, {"General": {"title": title}})


def _new_signal(data: NDArray[np.generic] | Array, axes: list[dict[str, Any]], metadata: dict[str, Any]) -> BaseSignal:
    from hyperspy.signals import BaseSignal

    signal = BaseSignal(data, axes=axes, metadata=metadata)
    signal._lazy = not isinstance(data, np.ndarray)
    signal._assign_subclass()  # class from signal type, dimension and laziness
    return signal


def _draw(clean: BaseSignal, largest: float, *, factor: float = 1.0, random_state: int) -> BaseSignal:
    import dask.array as da

    # Ten standard deviations and a margin, which a Poisson count exceeds with a probability below 1e-20. The
    # type depends on the expectation alone, so a lazy map has the same one as an eager map.
    dtype = np.min_scalar_type(int(largest + 10 * np.sqrt(largest) + 20))

    def draw(expected: NDArray[np.float32], block_info: dict[Any, Any]) -> NDArray[np.unsignedinteger]:
        first_row = block_info[0]["array-location"][0][0]
        counts = np.empty(expected.shape, dtype)
        for index, row in enumerate(expected):
            # Every scan line has a random stream of its own: counts do not depend on the chunks. The spawn key
            # makes them independent of the truth, which is drawn from the seed alone.
            stream = np.random.SeedSequence(random_state, spawn_key=(first_row + index,))
            counts[index] = np.random.default_rng(stream).poisson(row * np.float64(factor))
        return counts

    expected = _scan_lines(clean.data, clean.data.shape[-1])
    counts = da.map_blocks(draw, expected, dtype=dtype, meta=np.empty((0,) * expected.ndim, dtype))
    signal = clean._deepcopy_with_new_data(counts if clean._lazy else counts.compute())
    signal.metadata.General.title = clean.metadata.General.title.removesuffix(", noise-free")
    return signal


def _scan_lines(data: NDArray[np.generic] | Array, n_channels: int) -> Array:
    """Return data (ny, nx, ...) as a dask array in chunks of whole scan lines, as large as spectra of them may be."""
    import dask.array as da

    n_rows = max(1, _BLOCK_BYTES // (4 * int(np.prod(data.shape[1:-1])) * n_channels))
    return data if isinstance(data, da.Array) else da.from_array(data, chunks=(n_rows, *data.shape[1:]))


def smooth_field(rng: np.random.Generator, shape: Shape, length: float = 0.08) -> NDArray[np.float64]:
    """Draw a Gaussian random field of mean 0 and variance 1, smooth over *length* times the map's size."""
    noise = rng.standard_normal(shape)
    return standardise(ndimage.gaussian_filter(noise, length * max(shape), mode="wrap"))


def uniform_field(rng: np.random.Generator, shape: Shape, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
    """Draw a smooth field whose values are spread evenly over [low, high], both ends reached."""
    ranks = smooth_field(rng, shape).ravel().argsort().argsort()
    return low + (high - low) * ranks.reshape(shape) / max(1, ranks.size - 1)


def compact_spot(rng: np.random.Generator, shape: Shape, n_pixels: int) -> NDArray[np.bool_]:
    """Mark the *n_pixels* nearest to a random point that is not near the border of the map."""
    centre = rng.uniform(0.2, 0.8, len(shape)) * (np.asarray(shape) - 1)
    distance = np.square(np.moveaxis(np.indices(shape), 0, -1) - centre).sum(axis=-1)
    spot = np.zeros(shape, dtype=bool)
    spot.flat[distance.ravel().argsort(kind="stable")[:n_pixels]] = True
    return spot


def scan_drift(rng: np.random.Generator, shape: Shape, deviation: float) -> NDArray[np.float64]:
    """Draw the drift of a line-by-line scan: a slow wander in acquisition order plus a jump per line."""
    n_pixels = int(np.prod(shape))
    wander = ndimage.gaussian_filter1d(rng.standard_normal(n_pixels), 0.05 * n_pixels, mode="reflect")
    lines = rng.standard_normal((*shape[:-1], 1))
    drift = np.sqrt(1 - _JUMPS**2) * standardise(wander).reshape(shape) + _JUMPS * standardise(lines)
    return deviation * standardise(drift)


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale to mean 0 and standard deviation 1; constant values become 0."""
    centred = values - values.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else np.zeros_like(centred)
