"""Arrays to signals: the only place where the package makes HyperSpy signals from arrays.

`Source` is what a result keeps of its input; full-size outputs are made from it block by block.
"""

from __future__ import annotations

import copy
import json
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import DataRequiredError
from hyperspy_specml.signals._spectra import Spectra, energy_axis
from hyperspy_specml.statistics import expand_channels
from hyperspy_specml.streaming import plain_array, plan_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import dask.array as da
    from hyperspy.axes import BaseDataAxis

# Size of one block of a full-size output, in bytes of float32.
_BLOCK_BYTES = 64_000_000
# The axis along score maps and component spectra.
_COMPONENTS = {"name": "Component index", "scale": 1.0, "units": "", "navigate": True}


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
    along = {**_COMPONENTS, "size": len(maps)}
    axes = [along, *_axes(signal.axes_manager.navigation_axes, navigate=False)]
    found = _signal(maps, axes, {"General": {"title": title}})
    if len(maps) > 1:  # what HyperSpy would show, the sum of a map, says nothing of scores, which have any sign
        spread = np.nan_to_num(maps.reshape(len(maps), -1)).std(axis=1)
        found.navigator = _signal(spread, [along | {"navigate": False}], {"General": {"title": "Spread of the scores"}})
    return found


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
    axes = [{**_COMPONENTS, "size": len(components)}, *_axes(signal.axes_manager.signal_axes, navigate=False)]
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
    axes = _axes(signal.axes_manager.navigation_axes, navigate=True)
    return _signal(array, axes, {"General": {"title": title}})


def new_scan(signal: BaseSignal, array: np.ndarray, *, title: str) -> BaseSignal:
    """Make a signal of the same class, energy axis and metadata on a scan of another shape.

    Parameters
    ----------
    signal
        Gives them, and the steps of the scan.
    array
        Shape (*navigation, E) in array order; without a scan axis of *signal*, an axis counts pixels.
    title
        Of the new signal.
    """
    known, sizes = _axes(signal.axes_manager.navigation_axes, navigate=True), array.shape[:-1]
    uniform = [axis for axis in known if "scale" in axis][-len(sizes) :] if sizes else []
    plain = [{"name": f"axis {i}", "navigate": True} for i in range(len(sizes) - len(uniform))]
    scan = [axis | {"size": size} for axis, size in zip([*plain, *uniform], sizes, strict=True)]
    return _signal(array, [*scan, *_axes(signal.axes_manager.signal_axes, navigate=False)], _metadata(signal, title))


def stamp(signal: BaseSignal, provenance: Mapping[str, Any]) -> BaseSignal:
    """Write where a signal comes from under ``metadata.Specml``, in types that every file keeps.

    What is known becomes one entry, however much that is: ``report``, the bytes of a JSON text, as attributes of
    HDF5 hold 64 kB of text at most. `provenance` reads it.

    Parameters
    ----------
    signal
        One of our own results: this is the only function that writes to its argument.
    provenance
        Nested mapping of text, numbers and lists of them, with the name of the ``method``; bytes in it become entries
        of their own. Replaces an earlier stamp.

    Returns
    -------
    the same signal
    """
    apart = {name: np.frombuffer(value, np.uint8) for name, value in provenance.items() if isinstance(value, bytes)}
    text = json.dumps({name: _plain(value) for name, value in provenance.items() if name not in apart})
    entries = {"method": provenance.get("method", ""), "report": np.frombuffer(text.encode(), np.uint8)}
    signal.metadata.set_item("Specml", entries | apart)
    return signal


def provenance(signal: BaseSignal) -> dict[str, Any]:
    """Return what a result says about where it comes from: its report, without curves.

    Parameters
    ----------
    signal
        Any signal that the package made, also a copy or a part of it, saved and loaded or not.

    Returns
    -------
    nested text, numbers and lists, under the names of the report's fields, with the name of the ``method``; nothing
    for other signals

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
    >>> specml.provenance(dec.scores)["architecture"]
    'pca'
    """
    metadata = getattr(signal, "metadata", None)
    found = None if metadata is None else metadata.get_item("Specml.report", None)
    return {} if found is None else json.loads(np.asarray(found, np.uint8).tobytes())


def _signal(
    array: np.ndarray | da.Array, axes: list[dict[str, Any]], metadata: dict[str, Any], **options: Any
) -> BaseSignal:
    """Make a signal; axes are in array order, the metadata tell its class."""
    signal = BaseSignal(array, axes=axes, metadata=metadata, **options)
    if array.shape != tuple(axis.size for axis in signal.axes_manager._axes):
        raise ValueError(f"array of shape {array.shape} does not fit the axes {signal.axes_manager.shape}")
    signal._lazy = not isinstance(array, np.ndarray)
    signal._assign_subclass()  # class from signal type, dimension and laziness, as in HyperSpy
    return signal


def _axes(axes: tuple[BaseDataAxis, ...], *, navigate: bool) -> list[dict[str, Any]]:
    """Describe axes for a new signal, in array order; copied deeply, as non-uniform axes hold arrays."""
    return [copy.deepcopy(axis.get_axis_dictionary()) | {"navigate": navigate} for axis in reversed(axes)]


def _metadata(signal: BaseSignal, title: str) -> dict[str, Any]:
    """Copy the metadata but for what describes the old data; large parts are left out before copying."""
    metadata = signal.metadata.as_dictionary()
    for key in ("_HyperSpy", "Markers"):  # the first holds whether it was unfolded, and its navigator
        metadata.pop(key, None)
    metadata["Signal"].pop("Noise_properties", None)
    metadata = copy.deepcopy(metadata)
    metadata["General"]["title"] = title
    return metadata


def _plain(value: Any) -> Any:
    """Turn NumPy numbers, arrays and mappings into what JSON holds."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, eq=False)
class Source:
    """The input of a result: gives class, axes and metadata to outputs, and data to residuals.

    Attributes
    ----------
    template
        Class, axes and metadata of the input as they were when the method was called, without data: what the
        user renames, crops or calibrates later does not reach into the result.
    spectra
        The data in array order. Not copied. Of a result from a file, zeros in their place.
    known
        Whether the data are there.
    """

    template: BaseSignal
    spectra: Spectra
    known: bool = True

    @classmethod
    def of(cls, signal: BaseSignal, spectra: Spectra) -> Source:
        """Remember a signal and its spectra."""
        title = signal.metadata.get_item("General.title", "") or type(signal).__name__
        no_data = np.broadcast_to(np.float32(0), spectra.array.shape)
        return cls(like(signal, no_data, title=title), spectra)

    @classmethod
    def rebuilt(cls, components: BaseSignal, scores: BaseSignal, *, title: str, lazy: bool) -> Source:
        """Describe an input that is not there, by its components and score maps.

        Parameters
        ----------
        components, scores
            Of a result: class and energy axis, and scan axes.
        title, lazy
            Of the input.
        """
        scan = _axes(scores.axes_manager.signal_axes, navigate=True)
        axes = [*scan, *_axes(components.axes_manager.signal_axes, navigate=False)]
        metadata = _metadata(components, title)
        metadata.pop("Specml", None)
        nothing = np.broadcast_to(np.float32(0), [axis["size"] for axis in axes])
        array: Any = nothing
        if lazy:
            import dask.array as da

            array = da.from_array(nothing, chunks=(*["auto"] * len(scan), -1), name=False)
        return cls(_signal(nothing, axes, metadata), Spectra(array, None, None), known=False)

    @property
    def lazy(self) -> bool:
        """Whether full-size outputs are lazy."""
        return not isinstance(self.spectra.array, np.ndarray)

    @property
    def title(self) -> str:
        """The input's title, or its class where it has none."""
        return self.template.metadata.General.title

    def signal(self) -> BaseSignal:
        """Return the input as a signal of its own, without a copy of the data.

        Raises
        ------
        DataRequiredError
            The data are not there.
        """
        self._need_data("This")
        return like(self.template, self.spectra.array, title=self.title)

    def score_maps(self, scores: np.ndarray, provenance: Mapping[str, Any]) -> BaseSignal:
        """Return (n_pixels, K) scores as stamped maps (K | scan axes)."""
        array = scores.reshape(*self.spectra.array.shape[:-1], -1)
        return stamp(score_maps(self.template, array, title=f"Scores of {self.title}"), provenance)

    def component_spectra(self, components: np.ndarray, provenance: Mapping[str, Any]) -> BaseSignal:
        """Return (K, E) components as stamped spectra (K | E)."""
        title = f"Components of {self.title}"
        return stamp(component_spectra(self.template, components, title=title), provenance)

    def output_maps(
        self, units: Mapping[str, str], columns: np.ndarray, provenance: Mapping[str, Any]
    ) -> dict[str, BaseSignal]:
        """Return the outputs of a model beside its scores as stamped maps (scan axes |), by name.

        Parameters
        ----------
        units
            Of each output; see `FittedModel.outputs`. Channels become units of the energy axis.
        columns
            (n_pixels, n) outputs.
        provenance
            See `stamp`.
        """
        found = {}
        for (name, unit), column in zip(units.items(), columns.T, strict=True):
            array = (column * self._per(unit)).astype(np.float32).reshape(self.spectra.array.shape[:-1])
            found[name] = navigation_map(self.template, array, title=f"{name.capitalize()} of {self.title}")
            stamp(found[name], provenance)
        return found

    def columns(self, scores: BaseSignal, outputs: Mapping[str, BaseSignal], units: Mapping[str, str]) -> np.ndarray:
        """Return the (*navigation, K + n) numbers of score and output maps, as a model decodes them."""
        maps = np.moveaxis(np.asarray(scores.data), 0, -1)  # (K, *navigation) -> (*navigation, K)
        beside = [(outputs[name].data / self._per(unit))[..., None] for name, unit in units.items()]
        return np.concatenate([maps, *beside], axis=-1, dtype=np.float32)

    def full_size(
        self, decoder: Decoder, scores: np.ndarray, title: str, provenance: Mapping[str, Any], *, residual: bool = False
    ) -> BaseSignal:
        """Decode scores into a stamped signal like the input, block by block; lazy if the input is lazy.

        Parameters
        ----------
        decoder
            From scores to spectra.
        scores
            (n_pixels, n) or (*navigation, n) numbers that it takes.
        title
            What the signal is; follows the title of the input.
        provenance
            See `stamp`.
        residual
            Return the input minus the decoded spectra.

        Raises
        ------
        DataRequiredError
            The residual is asked for, but the data are not there.
        """
        if residual:
            self._need_data("dec.residual")
        source: Any = self.spectra.array
        inputs: list[Any] = [scores.reshape(*source.shape[:-1], -1), *[source] * residual]
        n_rows = max(1, _BLOCK_BYTES // (4 * source.shape[-1]))
        if isinstance(source, np.ndarray):
            array: Any = np.empty(source.shape, np.float32)
            for block in plan_blocks(source, n_rows=n_rows):
                array[block.region] = decoder(*(values[block.region] for values in inputs))
        else:
            array = _blocks_later(decoder, inputs, source, n_rows)
        return stamp(like(self.template, array, title=f"{self.title} {title}"), provenance)

    def _need_data(self, what: str) -> None:
        if not self.known:
            raise DataRequiredError(
                f"{what} needs the data, which the file of a result does not hold: specml.load_result(path, signal=s)."
            )

    def _per(self, unit: str) -> float:
        """Return what one unit of a model's output is in the units of its map."""
        return float(energy_axis(self.template).scale) if unit == "channels" else 1.0


def _blocks_later(
    function: Callable[..., np.ndarray], inputs: Sequence[np.ndarray | da.Array], source: da.Array, n_rows: int
) -> da.Array:
    """Map (*navigation, n) arrays to (*navigation, E) as a graph, in the file's navigation chunks."""
    import dask
    import dask.array as da

    chunks = _navigation_chunks(source.chunks[:-1], n_rows)
    parts = [
        array.rechunk((*chunks, -1))
        if isinstance(array, da.Array)
        else da.from_array(array, chunks=(*chunks, -1), name=False)  # not hashed
        for array in inputs
    ]
    # As a task of its own the function is sent to a cluster once, not with every block.
    once = dask.delayed(function, pure=False, traverse=False)
    options = {"dtype": np.float32, "meta": np.empty((0,) * source.ndim, np.float32)}
    return da.map_blocks(operator.call, once, *parts, chunks=(*chunks, source.shape[-1:]), **options)


def mark_empty(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Return (n, K) scores that are infinite where a spectrum is empty: no spectrum that is used has such scores.

    Parameters
    ----------
    scores
        Of all spectra.
    empty
        (n,) bool.
    """
    return np.where(empty[:, None], np.float32(np.inf), scores)


def marked_empty(scores: np.ndarray) -> np.ndarray:
    """Return (n,) bool: which of (n, K) scores `mark_empty` marked."""
    return (scores == np.inf).all(axis=1)


@dataclass(frozen=True, eq=False)
class Decoder:
    """Scores to whole spectra, unused channels included: an object, so that it travels to other processes.

    Attributes
    ----------
    model
        Fitted on the channels in use: ``model.decode(scores)`` makes new (n, E in use) float32 spectra of (n, K).
    channel_state
        (E,) state of every channel.
    """

    model: Any
    channel_state: np.ndarray

    def __call__(self, scores: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Return (..., E) float32 spectra of (..., K) scores, or the residuals of *values* (..., E).

        Spectra that `mark_empty` marked are 0. Unused channels are 0 where they are dead, else NaN.
        """
        rows = scores.reshape(-1, scores.shape[-1])
        empty = marked_empty(rows)
        spectra = self.model.decode(np.where(empty[:, None], np.float32(0), rows))
        spectra[empty] = 0
        whole = expand_channels(spectra, self.channel_state).reshape(*scores.shape[:-1], -1)
        if values is None:
            return whole
        return np.subtract(plain_array(values), whole, out=whole, dtype=np.float32, casting="unsafe")


def _navigation_chunks(chunks: tuple[tuple[int, ...], ...], n_rows: int) -> tuple[tuple[int, ...], ...]:
    """Return the file's chunks along the scan axes, halved until one of whole spectra fits into a block."""
    cut = list(chunks)
    while np.prod([max(sizes) for sizes in cut], dtype=np.int64) > n_rows:
        longest = max(range(len(cut)), key=lambda axis: max(cut[axis]))
        half = -(-max(cut[longest]) // 2)
        cut[longest] = tuple(n for size in cut[longest] for n in (min(size, half), max(0, size - half)) if n)
    return tuple(cut)
