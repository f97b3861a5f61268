"""What a result keeps of its input, and full-size outputs made from it block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hyperspy_specml.signals._axes import energy_axis
from hyperspy_specml.signals._build import component_spectra, like, navigation_map, score_maps, stamp
from hyperspy_specml.statistics import expand_channels
from hyperspy_specml.streaming import plan_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import dask.array as da
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.signals._spectra import Spectra

# Size of one block of a full-size output, in bytes of float32.
_BLOCK_BYTES = 64_000_000


@dataclass(frozen=True, eq=False)
class Source:
    """The input of a result: gives class, axes and metadata to outputs, and data to residuals.

    Attributes
    ----------
    template
        Class, axes and metadata of the input as they were when the method was called, without data: what the
        user renames, crops or calibrates later does not reach into the result.
    spectra
        The data in array order. Not copied.
    """

    template: BaseSignal
    spectra: Spectra

    @classmethod
    def of(cls, signal: BaseSignal, spectra: Spectra) -> Source:
        """Remember a signal and its spectra."""
        title = signal.metadata.get_item("General.title", "") or type(signal).__name__
        no_data = np.broadcast_to(np.float32(0), spectra.array.shape)
        return cls(like(signal, no_data, title=title), spectra)

    @property
    def title(self) -> str:
        """The input's title, or its class where it has none."""
        return self.template.metadata.General.title

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
            map_ = navigation_map(self.template, array, title=f"{name.capitalize()} of {self.title}")
            found[name] = stamp(map_, provenance)
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
        """
        source: Any = self.spectra.array
        inputs = [scores.reshape(*source.shape[:-1], -1)]
        if residual:
            inputs.append(source)
        apply = _blocks_now if isinstance(source, np.ndarray) else _blocks_later
        array = apply(Residual(decoder) if residual else decoder, inputs, source)
        return stamp(like(self.template, array, title=f"{self.title} {title}"), provenance)

    def _per(self, unit: str) -> float:
        """Return what one unit of a model's output is in the units of its map."""
        return float(energy_axis(self.template).scale) if unit == "channels" else 1.0


def _blocks_now(function: Callable[..., np.ndarray], inputs: Sequence[np.ndarray], source: np.ndarray) -> np.ndarray:
    """Map (*navigation, n) arrays to (*navigation, E) in memory."""
    out = np.empty(source.shape, np.float32)
    for block in plan_blocks(source, n_rows=_rows_of_a_block(source)):
        out[block.region] = function(*(array[block.region] for array in inputs))
    return out


def _blocks_later(
    function: Callable[..., np.ndarray], inputs: Sequence[np.ndarray | da.Array], source: da.Array
) -> da.Array:
    """Map (*navigation, n) arrays to (*navigation, E) as a graph, in the file's navigation chunks."""
    import dask
    import dask.array as da

    chunks = _navigation_chunks(source.chunks[:-1], _rows_of_a_block(source))
    parts = [
        array.rechunk((*chunks, -1))
        if isinstance(array, da.Array)
        else da.from_array(array, chunks=(*chunks, -1), name=False)  # not hashed
        for array in inputs
    ]
    # As a task of its own the function is sent to a cluster once, not with every block.
    once = dask.delayed(function, pure=False, traverse=False)
    options = {"dtype": np.float32, "meta": np.empty((0,) * source.ndim, np.float32)}
    return da.map_blocks(_call, *parts, function=once, chunks=(*chunks, source.shape[-1:]), **options)


def _call(*blocks: np.ndarray, function: Callable[..., np.ndarray]) -> np.ndarray:
    return function(*blocks)


def _rows_of_a_block(source: np.ndarray | da.Array) -> int:
    return max(1, _BLOCK_BYTES // (4 * source.shape[-1]))


class CanDecode(Protocol):
    """Anything that makes spectra of scores."""

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) scores to (n, E in use) float32 spectra, an array of its own."""


@dataclass(frozen=True, eq=False)
class Decoder:
    """Scores to whole spectra, unused channels included: an object, so that it travels to other processes.

    Attributes
    ----------
    model
        Fitted on the channels in use.
    channel_state
        (E,) state of every channel.
    """

    model: CanDecode
    channel_state: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return (..., E) float32 spectra of (..., K) scores; all scores 0 stand for an empty spectrum."""
        rows = scores.reshape(-1, scores.shape[-1])
        spectra = self.model.decode(rows)
        spectra[~rows.any(axis=1)] = 0  # NaN scores count as true
        return self.expand(spectra).reshape(*scores.shape[:-1], -1)

    def expand(self, spectra: np.ndarray) -> np.ndarray:
        """Put (n, E in use) spectra into all E channels: 0 in dead ones, NaN in others that were not used."""
        return expand_channels(spectra, self.channel_state)


@dataclass(frozen=True, eq=False)
class Residual:
    """Data minus what a decoder makes of their scores."""

    decoder: Decoder

    def __call__(self, scores: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return (..., E) float32 residuals of (..., E) values."""
        prediction = self.decoder(scores)
        return np.subtract(values, prediction, out=prediction, dtype=np.float32, casting="unsafe")


def _navigation_chunks(chunks: tuple[tuple[int, ...], ...], n_rows: int) -> tuple[tuple[int, ...], ...]:
    """Return the file's chunks along the scan axes, halved until one of whole spectra fits into a block."""
    cut = list(chunks)
    while np.prod([max(sizes) for sizes in cut], dtype=np.int64) > n_rows:
        longest = max(range(len(cut)), key=lambda axis: max(cut[axis]))
        half = -(-max(cut[longest]) // 2)
        cut[longest] = tuple(
            piece for size in cut[longest] for piece in (min(size, half), max(0, size - half)) if piece
        )
    return tuple(cut)
