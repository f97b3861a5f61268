"""The result of ``s.decomposition_ae()``."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hyperspy_specml.results._learning import write_learning_results
from hyperspy_specml.signals import Decoder

if TYPE_CHECKING:
    import numpy as np
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.models import DecompositionReport, TrainedModel
    from hyperspy_specml.signals import Source


@dataclass(frozen=True, eq=False, repr=False)
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
        decoded spectrum from -1 to +1 standard deviation of the score, the others at their mean. Simplex:
        endmembers, each of sum one; ``reconstruction = intensity * scores @ components``, and then the shift.
    intensity
        Expected sum of each spectrum, ``(scan axes |)``, of the simplex architecture; else None. NaN and 0
        as in `scores`.
    shift
        How far each spectrum lies above the components, ``(scan axes |)``, in units of the energy axis; zero
        on average where the scan of the map that the model was trained on begins. None without
        ``energy_shift=True``.
    report
        The evidence: noise model, held-out scores beside PCA, rank. Prints as a table.
    model
        The trained model: ``s2.decomposition_ae(model=result.model)`` applies it to another map.
    baseline
        PCA of the same data and size: the same kind of object; None for the baseline itself.
    """

    scores: BaseSignal
    components: BaseSignal
    intensity: BaseSignal | None
    shift: BaseSignal | None
    report: DecompositionReport
    model: TrainedModel
    baseline: DecompositionResult | None
    _source: Source

    @classmethod
    def of(
        cls, source: Source, model: TrainedModel, scores: np.ndarray, baseline: DecompositionResult | None
    ) -> DecompositionResult:
        """Make the signals of a result.

        Parameters
        ----------
        source
            The input.
        model
            The trained model; its report becomes that of the result.
        scores
            (n_pixels, K) and the model's extra columns.
        baseline
            The same for PCA.
        """
        decoder = Decoder(model.model, model.channel_state)
        stamp = model.report.to_dict()
        k, names = model.model.n_components, tuple(model.model.outputs)
        maps = source.maps(scores[:, :k], stamp)
        spectra = source.component_spectra(decoder.components(), stamp)
        extras = source.extra_maps(names, scores[:, k:], stamp)
        return cls(
            maps, spectra, extras.get("intensity"), extras.get("shift"), model.report, model, baseline, source
        )

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
        return self._source.reconstruction(self._decoder, self.scores, self.report.to_dict(), **self._extras)

    @cached_property
    def residual(self) -> BaseSignal:
        """Input minus reconstruction, float32; lazy if the input is: each chunk of the file is read once.

        The input is not copied: an eager residual is of the data at the time it is first asked for.
        """
        return self._source.residual(self._decoder, self.scores, self.report.to_dict(), **self._extras)

    def plot(self) -> Figure:
        """Plot score maps above component spectra; works for one to three scan axes and K = 1.

        Returns
        -------
        matplotlib figure
        """
        from hyperspy_specml.results import _figures

        return _figures.result_figure(self.scores, self.components, title=self._title)

    def to_learning_results(self, signal: BaseSignal) -> None:
        """Write to ``signal.learning_results`` what HyperSpy's own plots, models, BSS and clustering read.

        The only call of the package that writes to a signal. Earlier learning results are replaced. HyperSpy
        2 calls the scores loadings and the components factors.

        Linear models are written as they are; the mean that a centred one subtracts becomes one more
        component, with the same loading everywhere. Of the simplex architecture, whose scores are shares,
        the loadings are ``intensity * scores``. Where the decoder is curved, in dense autoencoders and with
        ``energy_shift=True``, the linear components that come nearest to its reconstruction are written, with
        such a constant.

        Parameters
        ----------
        signal
            The one that was decomposed, or a copy of it.

        Raises
        ------
        LearningResultsError
            HyperSpy cannot hold the result: one component, a signal of another shape, or one whose energy
            axis is not the last one in memory.

        Warns
        -----
        LinearApproximationWarning
            The decoder is curved; the linear components do not give all of the reconstruction.

        Notes
        -----
        Masked pixels and channels are NaN, as in HyperSpy. Clustering then needs ``navigation_mask=``, source
        separation ``mask=``; a log line says how. With three scan axes HyperSpy plots results, but neither
        loadings nor clusters side by side.
        """
        write_learning_results(self, signal)

    def __repr__(self) -> str:
        """Return shapes and report as text: what a notebook or terminal shows."""
        return f"{self._title}\n  scores      {self.scores}\n  components  {self.components}\n\n{self.report}"

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(str(s)) for s in (self.scores, self.components))
        return f"<b>{html.escape(self._title)}</b><br>{lines}{self.report._repr_html_()}"

    @property
    def _title(self) -> str:
        report = self.report
        return f"{report.architecture} decomposition of {self._source.title}, K = {report.n_components}"

    @property
    def _extras(self) -> dict[str, BaseSignal]:
        return {name: getattr(self, name) for name in self.model.model.outputs}

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.model.model, self.model.channel_state)
