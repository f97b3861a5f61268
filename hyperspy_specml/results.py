"""Results as frozen objects of native HyperSpy signals."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.signals import component_spectra, like, score_maps, stamp

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.estimators import SpectrumModel
    from hyperspy_specml.report import Report
    from hyperspy_specml.signals import Spectra
    from hyperspy_specml.trained import TrainedModel

_BLOCK_BYTES = 64_000_000  # float32 bytes of one chunk of a full-size lazy output


@dataclass(frozen=True, eq=False)
class DecompositionResult:
    """What ``s.decomposition_ae()`` returns.

    HyperSpy 2 calls the maps loadings and the spectra factors; here, as in HyperSpy 3, maps are *scores* and
    spectra are *components* (chemometrics: loadings, hence the alias).

    Attributes
    ----------
    scores
        Score maps (K | scan axes), in memory, float32. NaN where a spectrum was masked or not finite, 0
        where it was empty.
    components
        Component spectra (K | E), class of the input. NaN in masked, not finite or saturated channels, 0
        in dead ones. Linear models: ``reconstruction = scores @ components``. Dense: half the change of the
        decoded spectrum from -1 to +1 standard deviation of the score, the others at their mean.
    report
        The evidence: noise model, held-out scores beside PCA, rank. Prints as a table.
    model
        The trained model: ``s2.decomposition_ae(model=result.model)`` applies it to another map.
    baseline
        PCA of the same data and size: the same kind of object; None for the baseline itself.
    """

    scores: BaseSignal
    components: BaseSignal
    report: Report
    model: TrainedModel = field(repr=False)
    baseline: DecompositionResult | None = field(repr=False)
    _source: Source = field(repr=False)

    @property
    def loadings(self) -> BaseSignal:
        """The component spectra, by their name in chemometrics."""
        return self.components

    @cached_property
    def reconstruction(self) -> BaseSignal:
        """The model of every spectrum: shape, class and laziness of the input, float32.

        NaN where scores or components are, 0 for empty spectra. A lazy one is a graph over the score maps
        and does not read the file.
        """
        array = self._source.full_size(
            partial(_decode, decoder=self._decoder()), self._flat_scores(), residual=False
        )
        return self._source.signal_of(array, "reconstructed", self.report)

    @cached_property
    def residual(self) -> BaseSignal:
        """Input minus reconstruction, float32; lazy if the input is: each chunk of the file is read once."""
        array = self._source.full_size(
            partial(_subtract, decoder=self._decoder()), self._flat_scores(), residual=True
        )
        return self._source.signal_of(array, "residual", self.report)

    def plot(self) -> Figure:
        """Plot score maps above component spectra; works for one to three scan axes and K = 1.

        Returns
        -------
        matplotlib figure
        """
        from hyperspy_specml import _figures

        return _figures.result_figure(self.scores, self.components, title=self._title())

    def __str__(self) -> str:
        """Return shapes and report as text."""
        return (
            f"{self._title()}\n  scores      {self.scores}\n  components  {self.components}\n\n{self.report}"
        )

    def __repr__(self) -> str:
        """Return the same text: it is what a notebook or terminal shows."""
        return str(self)

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(str(s)) for s in (self.scores, self.components))
        return f"<b>{html.escape(self._title())}</b><br>{lines}{self.report._repr_html_()}"

    def _title(self) -> str:
        return f"{self.report.architecture} decomposition of {self._source.title()}, K = {self.report.n_components}"

    def _flat_scores(self) -> np.ndarray:
        return np.moveaxis(np.asarray(self.scores.data), 0, -1)  # (K, *navigation) -> (*navigation, K)

    def _decoder(self) -> Decoder:
        return Decoder(self.model.spectrum_model, self.model.channel_state)


@dataclass(frozen=True, eq=False)
class Source:
    """The input of a result: what full-size outputs are made from.

    Attributes
    ----------
    signal
        The user's signal: gives class, axes and metadata; never written to.
    spectra
        Its data in array order.
    """

    signal: BaseSignal
    spectra: Spectra

    def title(self) -> str:
        """Return the input's title, or its class."""
        return self.signal.metadata.get_item("General.title", "") or type(self.signal).__name__

    def maps(self, scores: np.ndarray, report: Report) -> BaseSignal:
        """Return (n_pixels, K) scores as maps."""
        array = scores.reshape(*self.spectra.array.shape[:-1], -1)
        signal = score_maps(self.signal, array, title=f"Scores of {self.title()}")
        stamp(signal, report.to_dict())
        return signal

    def component_spectra(self, components: np.ndarray, report: Report) -> BaseSignal:
        """Return (K, E) components as spectra."""
        signal = component_spectra(self.signal, components, title=f"Components of {self.title()}")
        stamp(signal, report.to_dict())
        return signal

    def signal_of(self, array: Any, what: str, report: Report) -> BaseSignal:
        """Return a full-size array as a signal like the input."""
        signal = like(self.signal, array, title=f"{self.title()} {what} ({report.architecture})")
        stamp(signal, report.to_dict())
        return signal

    def full_size(self, function: Any, scores: np.ndarray, *, residual: bool) -> Any:
        """Apply a block function to scores, and to the data if `residual`: NumPy for eager, dask for lazy input."""
        array = self.spectra.array
        if not self.spectra.lazy:
            flat = scores.reshape(-1, scores.shape[-1])
            rows = array.reshape(-1, array.shape[-1])
            out = np.empty(rows.shape, np.float32)
            step = max(1, _BLOCK_BYTES // (4 * rows.shape[1]))
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                out[part] = function(flat[part], rows[part]) if residual else function(flat[part])
            return out.reshape(array.shape)
        import dask.array as da

        chunks = _navigation_chunks(array)
        lazy_scores = da.from_array(scores, chunks=(*chunks, scores.shape[-1]), name=False)
        inputs = (lazy_scores, array.rechunk((*chunks, array.shape[-1]))) if residual else (lazy_scores,)
        return da.map_blocks(
            function, *inputs, dtype=np.float32, chunks=(*chunks, (array.shape[-1],)),
            meta=np.empty((0,) * array.ndim, np.float32),
        )  # fmt: skip


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

    model: SpectrumModel
    channel_state: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return (..., E) float32 spectra of (..., K) scores; an empty spectrum (all scores 0) stays empty."""
        flat = scores.reshape(-1, scores.shape[-1])
        spectra = self.model.decode(flat)
        spectra[~flat.any(axis=1)] = 0  # NaN scores count as true
        return expand_channels(spectra, self.channel_state).reshape(*scores.shape[:-1], -1)


def expand_channels(spectra: np.ndarray, channel_state: np.ndarray) -> np.ndarray:
    """Put (n, E in use) spectra into all E channels: 0 in dead ones, NaN in others that were not used."""
    from hyperspy_specml.statistics import EMPTY, USED

    used = channel_state == USED
    if used.all():
        return spectra
    out = np.full((len(spectra), len(channel_state)), np.nan, spectra.dtype)
    out[:, channel_state == EMPTY] = 0
    out[:, used] = spectra
    return out


def _decode(scores: np.ndarray, *, decoder: Decoder) -> np.ndarray:
    return decoder(scores)


def _subtract(scores: np.ndarray, rows: np.ndarray, *, decoder: Decoder) -> np.ndarray:
    prediction = decoder(scores)
    return np.subtract(rows, prediction, out=prediction, dtype=np.float32, casting="unsafe")


def _navigation_chunks(array: Any) -> tuple[tuple[int, ...], ...]:
    """Return the source's chunks along the scan axes, cut where a whole-spectrum chunk would be too large."""
    chunks = list(array.chunks[:-1])
    room = max(1, _BLOCK_BYTES // (4 * array.shape[-1]))
    while np.prod([max(sizes) for sizes in chunks], dtype=np.int64) > room:
        axis = int(np.argmax([max(sizes) for sizes in chunks]))
        half = -(-max(chunks[axis]) // 2)
        chunks[axis] = tuple(
            piece for size in chunks[axis] for piece in (*(half,) * (size // half), size % half) if piece
        )
    return tuple(chunks)
