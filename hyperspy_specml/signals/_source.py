"""What a result keeps of its input, and full-size outputs made from it block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.signals._axes import energy_axis
from hyperspy_specml.signals._build import component_spectra, like, navigation_map, score_maps, stamp
from hyperspy_specml.statistics import expand_channels
from hyperspy_specml.streaming import plan_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dask.array as da
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.denoise import Protected
    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.signals._spectra import Spectra

_BLOCK_BYTES = 64_000_000  # float32 bytes of a block of a full-size output


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

    def maps(self, scores: np.ndarray, provenance: Mapping[str, Any]) -> BaseSignal:
        """Return (n_pixels, K) scores as stamped maps."""
        array = scores.reshape(*self.spectra.array.shape[:-1], -1)
        signal = score_maps(self.template, array, title=f"Scores of {self.title}")
        stamp(signal, provenance)
        return signal

    def component_spectra(self, components: np.ndarray, provenance: Mapping[str, Any]) -> BaseSignal:
        """Return (K, E) components as stamped spectra."""
        signal = component_spectra(self.template, components, title=f"Components of {self.title}")
        stamp(signal, provenance)
        return signal

    def extra_maps(
        self, names: tuple[str, ...], columns: np.ndarray, provenance: Mapping[str, Any]
    ) -> dict[str, BaseSignal]:
        """Return (n_pixels, n) numbers beside the scores as stamped maps; shifts in units of the axis."""
        found = {}
        for name, column in zip(names, columns.T, strict=True):
            array = (column * self._unit(name)).astype(np.float32).reshape(self.spectra.array.shape[:-1])
            found[name] = navigation_map(self.template, array, title=f"{name.capitalize()} of {self.title}")
            stamp(found[name], provenance)
        return found

    def reconstruction(
        self, decoder: Decoder, maps: BaseSignal, provenance: Mapping[str, Any], **extras: BaseSignal
    ) -> BaseSignal:
        """Return the stamped spectra that a decoder makes of score maps and the maps beside them."""
        array = self._by_block(decoder, self.columns(maps, extras))
        return self._full_size(
            array, f"{self.title} reconstructed ({decoder.model.architecture})", provenance
        )

    def residual(
        self, decoder: Decoder, maps: BaseSignal, provenance: Mapping[str, Any], **extras: BaseSignal
    ) -> BaseSignal:
        """Return the stamped difference of the input and its reconstruction."""
        array = self._by_block(Residual(decoder), self.columns(maps, extras), self.spectra.array)
        return self._full_size(array, f"{self.title} residual ({decoder.model.architecture})", provenance)

    def columns(self, maps: BaseSignal, extras: Mapping[str, BaseSignal]) -> np.ndarray:
        """Return (*navigation, K + n) numbers that a decoder takes: score maps and the maps beside them."""
        scores = np.moveaxis(np.asarray(maps.data), 0, -1)  # (K, *navigation) -> (*navigation, K)
        beside = [(map_.data / self._unit(name))[..., None] for name, map_ in extras.items()]
        return np.concatenate([scores, *beside], axis=-1, dtype=np.float32)

    def _unit(self, name: str) -> float:
        """Return what one stands for: shifts are in channels below and in energy above."""
        return float(energy_axis(self.template).scale) if name == "shift" else 1.0

    def denoised(self, decoder: Decoder, scores: np.ndarray, provenance: Mapping[str, Any]) -> BaseSignal:
        """Return the stamped spectra that a decoder makes of (n_pixels, P) denoised scores."""
        array = self._by_block(decoder, scores.reshape(*self.spectra.array.shape[:-1], -1))
        return self._full_size(array, f"{self.title} denoised", provenance)

    def _full_size(
        self, array: np.ndarray | da.Array, title: str, provenance: Mapping[str, Any]
    ) -> BaseSignal:
        signal = like(self.template, array, title=title)
        stamp(signal, provenance)
        return signal

    def _by_block(
        self, function: Callable[..., np.ndarray], *inputs: np.ndarray | da.Array
    ) -> np.ndarray | da.Array:
        """Map (*navigation, n) arrays to (*navigation, E): at once for eager input, as a graph for lazy."""
        source = self.spectra.array
        n_channels = source.shape[-1]
        n_rows = max(1, _BLOCK_BYTES // (4 * n_channels))
        if isinstance(source, np.ndarray):
            out = np.empty(source.shape, np.float32)
            for block in plan_blocks(source, n_rows=n_rows):
                out[block.region] = function(*(array[block.region] for array in inputs))
            return out
        import dask
        import dask.array as da

        chunks = _navigation_chunks(source.chunks[:-1], n_rows)
        parts = [
            da.from_array(array, chunks=(*chunks, -1), name=False)  # not hashed
            if isinstance(array, np.ndarray)
            else array.rechunk((*chunks, -1))
            for array in inputs
        ]
        meta = np.empty((0,) * source.ndim, np.float32)
        # As a task of its own the model goes to a cluster once, not with every block.
        once = dask.delayed(function, pure=False, traverse=False)
        return da.map_blocks(
            _call, *parts, function=once, chunks=(*chunks, (n_channels,)), dtype=np.float32, meta=meta
        )


def _call(*blocks: np.ndarray, function: Callable[..., np.ndarray]) -> np.ndarray:
    return function(*blocks)


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

    model: Any
    channel_state: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return (..., E) float32 spectra of (..., K) scores; all scores 0 stand for an empty spectrum."""
        rows = scores.reshape(-1, scores.shape[-1])
        spectra = self.model.decode(rows)
        spectra[~rows.any(axis=1)] = 0  # NaN scores count as true
        return self.expand(spectra).reshape(*scores.shape[:-1], -1)

    def components(self) -> np.ndarray:
        """Return the (K, E) component spectra."""
        return self.expand(self.model.components())

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
    """Return the file's chunks along the scan axes, halved until whole spectra of one fit into a block."""
    cut = list(chunks)
    while np.prod([max(sizes) for sizes in cut], dtype=np.int64) > n_rows:
        longest = max(range(len(cut)), key=lambda axis: max(cut[axis]))
        half = -(-max(cut[longest]) // 2)
        cut[longest] = tuple(
            piece for size in cut[longest] for piece in (min(size, half), max(0, size - half)) if piece
        )
    return tuple(cut)
