"""Simulated maps: counts, their expectation and the truth, as native signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from dask.array import Array
    from hyperspy.signals import BaseSignal
    from numpy.typing import NDArray

    from hyperspy_specml.datasets._fields import Shape

_AXIS_NAMES = ("z", "y", "x")
# Size of a dask chunk, in bytes of float32 spectra.
_BLOCK_BYTES = 2**25


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
    def from_expectation(cls, clean: BaseSignal, *, truth: Mapping[str, BaseSignal], **known: Any) -> Self:
        """Draw the counts of *clean*; *known* are the other fields."""
        signal = _draw(clean, known["largest"], random_state=known["random_state"])
        return cls(signal=signal, clean=clean, truth=MappingProxyType(dict(truth)), **known)

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


class RareSpot(Protocol):
    """Anything planted in a compact group of pixels."""

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""


def check_map(shape: Shape, *, n_channels: int, dose: float, rare_phase: RareSpot | None) -> None:
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

    blocks = _as_dask(parameters, _row_chunks((*parameters.shape[:-1], n_channels)))
    return da.map_blocks(
        _expected_block,
        blocks,
        spectra,
        chunks=(*blocks.chunks[:-1], (n_channels,)),
        dtype=np.float32,
        meta=np.empty((0,) * parameters.ndim, dtype=np.float32),
    )


def scaled_to_mean(relative: Array, dose: float, *, keep: bool) -> tuple[Array, float]:
    """Scale to a mean of *dose*, and return the largest value too; *keep* computes *relative* only once."""
    import dask

    if keep:
        relative = relative.persist()
    mean, largest = dask.compute(relative.mean(dtype=np.float64), relative.max())
    return relative * np.float32(dose / mean), float(largest * dose / mean)


def spectrum_signal(
    data: NDArray[np.generic] | Array,
    *,
    signal_type: str,
    navigation_axes: list[dict[str, Any]],
    energy_axis: dict[str, Any],
    metadata: dict[str, Any],
) -> BaseSignal:
    """Wrap spectra (..., E) in exspy's class of *signal_type*, lazy for a dask array."""
    import hyperspy.api as hs

    axes = [*navigation_axes, {"size": data.shape[-1], "navigate": False, **energy_axis}]
    metadata = {**metadata, "Signal": {"signal_type": signal_type, "quantity": "Counts"}}
    signal = hs.signals.Signal1D(data, axes=axes, metadata=metadata)
    if not isinstance(data, np.ndarray):
        signal = signal.as_lazy()
    signal.set_signal_type(signal_type)
    return signal


def scan_axes(shape: Shape, *, scale: float, navigate: bool = True) -> list[dict[str, Any]]:
    """Describe the axes of a scan of *shape* with pixels of *scale* nm, last axis x."""
    names = _AXIS_NAMES[-len(shape) :]
    return [
        {"size": size, "name": name, "scale": scale, "units": "nm", "navigate": navigate}
        for size, name in zip(shape, names, strict=True)
    ]


def scan_map(values: NDArray[np.generic], *, title: str, scale: float) -> BaseSignal:
    """Wrap one value per pixel as a navigation signal (nx, ny|)."""
    from hyperspy.signals import BaseSignal

    return BaseSignal(values, axes=scan_axes(values.shape, scale=scale), metadata={"General": {"title": title}})


def component_maps(values: NDArray[np.float64], *, title: str, scale: float) -> BaseSignal:
    """Wrap K values per pixel (ny, nx, K) as maps (K|nx, ny)."""
    from hyperspy.signals import BaseSignal

    maps = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    axes = [
        {"size": len(maps), "name": "Endmember", "navigate": True},
        *scan_axes(maps.shape[1:], scale=scale, navigate=False),
    ]
    signal = BaseSignal(maps, axes=axes, metadata={"General": {"title": title}})
    signal._assign_subclass()  # Signal1D or Signal2D, as the scan has axes
    return signal


def _draw(clean: BaseSignal, largest: float, *, factor: float = 1.0, random_state: int) -> BaseSignal:
    import dask.array as da

    expected, dtype = clean.data, _count_dtype(largest)
    counts = da.map_blocks(
        _counts_block,
        _as_dask(expected, _row_chunks(expected.shape)),
        counts_as=dtype,  # `dtype` itself stays with map_blocks
        factor=factor,
        random_state=random_state,
        dtype=dtype,
        meta=np.empty((0,) * expected.ndim, dtype),
    )
    signal = clean._deepcopy_with_new_data(counts if clean._lazy else counts.compute())
    signal.metadata.General.title = clean.metadata.General.title.removesuffix(", noise-free")
    return signal


def _count_dtype(largest: float) -> np.dtype[np.unsignedinteger]:
    # Ten standard deviations and a margin, which a Poisson count exceeds with a probability below 1e-20. The
    # type depends on the expectation alone, so a lazy map has the same one as an eager map.
    return np.min_scalar_type(int(largest + 10 * np.sqrt(largest) + 20))


def _expected_block(
    parameters: NDArray[np.float64], spectra: Callable[[NDArray[np.float64]], NDArray[np.floating]]
) -> NDArray[np.float32]:
    return spectra(parameters).astype(np.float32, copy=False)


def _counts_block(
    expected: NDArray[np.float32],
    *,
    factor: float,
    random_state: int,
    counts_as: np.dtype[np.unsignedinteger],
    block_info: dict[Any, Any],
) -> NDArray[np.unsignedinteger]:
    first_row = block_info[0]["array-location"][0][0]
    counts = np.empty(expected.shape, dtype=counts_as)
    for index, row in enumerate(expected):
        # Every scan line has a random stream of its own: counts do not depend on the chunks. The spawn key
        # makes them independent of the truth, which is drawn from the seed alone.
        stream = np.random.SeedSequence(random_state, spawn_key=(first_row + index,))
        counts[index] = np.random.default_rng(stream).poisson(row * np.float64(factor))
    return counts


def _as_dask(data: NDArray[np.generic] | Array, chunks: tuple[int, ...]) -> Array:
    import dask.array as da

    return data if isinstance(data, da.Array) else da.from_array(data, chunks=(*chunks[:-1], -1))


def _row_chunks(shape: Shape) -> Shape:
    rows = max(1, _BLOCK_BYTES // (4 * int(np.prod(shape[1:]))))
    return (min(rows, shape[0]), *shape[1:])
