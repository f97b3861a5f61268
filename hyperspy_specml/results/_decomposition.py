"""The result of ``s.decomposition_ae()``."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.progress import Progress
from hyperspy_specml.results._explore import open_tool
from hyperspy_specml.results._figures import result_figure
from hyperspy_specml.results._files import Result
from hyperspy_specml.results._generate import check_generate, generated
from hyperspy_specml.results._interval import Interval, Uncertainty, check_interval
from hyperspy_specml.results._learning import write_learning_results
from hyperspy_specml.results._page import small_maps
from hyperspy_specml.results._view import LatentView, dose_free
from hyperspy_specml.signals import Decoder, mark_empty, navigation_map
from hyperspy_specml.statistics import expand_channels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.models import DecompositionReport, TrainedModel
    from hyperspy_specml.signals import Source


@dataclass(frozen=True, eq=False, repr=False)
class DecompositionResult(Result):
    """What ``s.decomposition_ae()`` returns.

    Here, as in HyperSpy 3, maps are *scores* and spectra are *components*. HyperSpy 2 calls the maps loadings and
    the spectra factors; in chemometrics the spectra are the loadings. So nothing here has that name.

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
    outputs
        Maps ``(scan axes |)`` of the other numbers that the model finds for every spectrum, by name. NaN and
        0 as in `scores`.
    report
        The evidence: noise model, held-out scores beside PCA, rank. Prints as a table.
    model
        The trained model: ``s2.decomposition_ae(model=result.model)`` applies it to another map.
    baseline
        PCA of the same data and size: the same kind of object; None for the baseline itself.
    """

    scores: BaseSignal
    components: BaseSignal
    outputs: dict[str, BaseSignal]
    report: DecompositionReport
    model: TrainedModel
    baseline: DecompositionResult | None
    _source: Source
    _empty: np.ndarray
    _uncertain: Uncertainty | None = None

    @classmethod
    def of(
        cls, source: Source, model: TrainedModel, scores: np.ndarray, baseline: Self | None, empty: np.ndarray
    ) -> Self:
        """Make the signals of a result.

        Parameters
        ----------
        source
            The input.
        model
            The trained model; its report becomes that of the result.
        scores
            (n_pixels, K + outputs) as the model gives them.
        baseline
            The same for PCA.
        empty
            (n_pixels,) bool, the spectra without any signal: their reconstruction is 0 whatever their scores say.
        """
        stamp, k = model.report.to_dict(), model.model.n_components
        spectra = expand_channels(model.model.components(), model.channel_state)
        maps, outputs = source.score_maps(scores[:, :k], stamp), model.model.outputs
        found = source.component_spectra(spectra, stamp), source.output_maps(outputs, scores[:, k:], stamp)
        report: Any = model.report
        return cls(maps, *found, report, model, baseline, source, empty)

    @classmethod
    def restored(cls, source: Source, model: TrainedModel, scores: BaseSignal, parts: dict[str, Any]) -> Self:
        """Put a result together that `save` took apart.

        Parameters
        ----------
        source
            The input, or what is known of it.
        model
            The trained model, with its baseline.
        scores, parts
            Score maps, and everything else by name.
        """
        found, baseline = parts.get("baseline"), None
        if found is not None and model.baseline is not None:
            baseline = cls.restored(source, model.baseline, found["scores"], found)
        outputs: dict[str, BaseSignal] = parts.get("outputs") or {}
        report: Any = model.report
        empty = np.asarray(parts["empty"], bool)
        return cls(scores, parts["components"], outputs, report, model, baseline, source, empty)

    def taken_apart(self) -> tuple[BaseSignal, dict[str, Any]]:
        """Return the score maps, and by name all else but the model; see `save`."""
        return self.scores, self._parts() | {"title": self._source.title, "lazy": self._source.lazy}

    def _parts(self) -> dict[str, Any]:
        """Return everything but scores and model, by name."""
        parts: dict[str, Any] = {"components": self.components, "empty": self._empty.astype(np.uint8)}
        if self.outputs:
            parts["outputs"] = dict(self.outputs)
        if self.baseline is not None:
            parts["baseline"] = {"scores": self.baseline.scores, **self.baseline._parts()}
        return parts

    @property
    def intensity(self) -> BaseSignal | None:
        """Map of the expected sum of each spectrum in signal units; None where the scores alone make the spectra."""
        return self.outputs.get("intensity")

    @property
    def shift(self) -> BaseSignal | None:
        """Map of how far each spectrum lies above the components, in units of the energy axis.

        Of mixtures, zero on average where the scan of the map that the model was trained on begins. None without
        ``energy_shift=True``, or ``augment`` of an autoencoder.
        """
        return self.outputs.get("shift")

    @property
    def scores_error(self) -> BaseSignal | None:
        """Standard deviations of the scores, maps like `scores`; None of models that do not know them.

        Of architecture "vae": those of the posterior of each spectrum. `interval` widens them by what the decoder adds.
        """
        model: Any = self.model.model
        if not hasattr(model, "covariances"):
            return None
        columns = self._columns().reshape(len(self._empty), -1)
        with np.errstate(invalid="ignore"):
            errors = np.sqrt(np.diagonal(model.covariances(columns), axis1=1, axis2=2))
        errors[self._empty] = 0
        found = self._source.score_maps(errors.astype(np.float32), self.model.report.to_dict())
        found.metadata.General.title = f"Errors of the scores of {self._source.title}"
        return found

    def interval(
        self, quantity: Any, level: float = 0.9, *, replicas: int = 1, progress: Progress | None = None
    ) -> Interval:
        """Return maps between which the truth of each spectrum lies, with this probability.

        Parameters
        ----------
        quantity
            A window of the energy axis, ``(700, 720)``, in its unit: the intensity of the reconstruction in it. The
            name of an X-ray line or an edge, ``"Fe_Ka"``: the window of one full width on both sides of it, or of
            50 eV from the onset. Two of these in a tuple: their ratio. A whole number: that score.
        level
            Share of the spectra whose truth should lie between the maps, 0 to 1.
        replicas
            Maps that are drawn from the model and fitted anew, as long as the first training each time, when it is
            first asked for. Their errors, whose truth is known, say how much wider the intervals have to be. 0 trusts
            the model.
        progress
            Watches the trainings, and can cancel them.

        Returns
        -------
        lower and upper ends, native maps ``(scan axes |)``, NaN where a spectrum was not used. Their provenance holds
        the ``inflation``: the factor by which the replicas widened them

        Raises
        ------
        OptionError
            An unknown quantity, or an impossible level.
        DataRequiredError
            The architecture is "dense", and the result was loaded without its signal.
        Cancelled
            A training was ended, by `progress` or Ctrl-C.

        Notes
        -----
        How sure the model is, "vae" says by the posterior of the latents, "dense" by a variational autoencoder that is
        trained and starts as it. Of every other architecture it is what the noise of a spectrum does to its scores: in
        closed form for "pca", to first order for the others. Replicas hold the error of the decoder, which none of this
        knows; nothing holds what no model of this kind could describe. Measured coverage is in the benchmarks.
        """
        check_interval(level, replicas)
        progress = progress or Progress()
        return self._sure(progress).interval(quantity, level, replicas, progress)

    def generate(self, shape: Sequence[int], intensity: float | None = None, *, random_state: int = 0) -> BaseSignal:
        """Draw a new map of spectra like those of the decomposed one, with noise; nothing is next to anything.

        The latents are drawn from a mixture of normal distributions that is fitted to draws from the posteriors of
        all spectra, the intensities too. Without noise, drawn spectra can be told from real ones; that is not promised.

        Parameters
        ----------
        shape
            Of the new scan, in array order: (ny, nx).
        intensity
            Expected sum of each spectrum, in signal units; by default they vary as those of the map.
        random_state
            Seed.

        Returns
        -------
        signal of the class, energy axis and metadata of the input, in memory: whole numbers of counts where the noise
        is that of counts. Channels that were not used are 0. Its provenance holds ``two_sample``, how well real spectra
        are told from drawn ones of the same number (area under the curve; 0.5: not at all), and ``floor``, the same
        for two drawn maps. Real ones are those of the other half of the map than the mixture was fitted to; without
        the data there is none

        Raises
        ------
        OptionError
            A shape or an intensity that is not positive, or an intensity where the model does not know it.
        """
        check_generate(shape, intensity, self.model.model)
        return generated(self._sure(Progress()), tuple(map(int, shape)), intensity, random_state)

    def _sure(self, progress: Progress) -> Uncertainty:
        """Return what all intervals share; of the dense architecture it is trained when it is first asked for."""
        if self._uncertain is None:
            columns = self._columns().reshape(len(self._empty), -1)
            object.__setattr__(self, "_uncertain", Uncertainty.of(self._source, self.model, columns, progress))
        assert self._uncertain is not None
        return self._uncertain

    @cached_property
    def reconstruction(self) -> BaseSignal:
        """The model of every spectrum: shape, class and laziness of the input, float32.

        NaN where scores or components are, 0 for empty spectra. A lazy one is a graph over the score maps
        and does not read the file.
        """
        return self._full_size("reconstructed", residual=False)

    @cached_property
    def residual(self) -> BaseSignal:
        """Input minus reconstruction, float32; lazy if the input is: each chunk of the file is read once.

        The input is not copied: an eager residual is of the data at the time it is first asked for.
        """
        return self._full_size("residual", residual=True)

    def plot(self, figure: Figure | None = None, *, components: Sequence[int] | None = None) -> Figure:
        """Plot score maps above component spectra; works for one to three scan axes and K = 1.

        Parameters
        ----------
        figure
            Empty matplotlib figure or subfigure to plot into; by default a new one of pyplot.
        components
            Indices of those that are shown; all by default.

        Returns
        -------
        the figure

        Raises
        ------
        OptionError
            There is no component of such an index.
        """
        return result_figure(self.scores, self.components, self._title, components, figure)

    def expected_spectrum(self, *indices: int) -> np.ndarray:
        """Return the (E,) spectrum that the model expects at one pixel: one of `reconstruction`, alone.

        Parameters
        ----------
        *indices
            Of the pixel, (x, y ...) as ``s.inav`` takes them.
        """
        columns = self._columns()[indices[::-1]]
        return Decoder(self.model.model, self.model.channel_state)(np.asarray(columns, np.float32))

    def explore(self, signal: BaseSignal | None = None, *, display: bool = True, toolkit: str | None = None) -> Any:
        """Open the latent explorer: a density plot of two scores beside their map, with a lasso on both.

        Parameters
        ----------
        signal
            The map that was decomposed, if its navigator is to follow the tool; by default a view of its data.
        display, toolkit
            As in ``s.decomposition_ae()``.

        Returns
        -------
        the tool, or what HyperSpy's ``gui(display=False)`` returns
        """
        return open_tool("LatentExplorer", signal, self._source, display, toolkit, scores=self.scores)

    def latent_view(self, *, method: str = "scores", random_state: int = 0, max_pixels: int = 10_000) -> LatentView:
        """Return two coordinates for each pixel, to be looked at beside the map.

        Parameters
        ----------
        method
            "scores": the first two scores; where they grow with the intensity, those of one intensity along the two
            directions in which they vary most. "umap": a picture of all scores by UMAP, with the extra
            ``hyperspy_specml[umap]``.
        random_state
            Seed of UMAP.
        max_pixels
            Pixels that UMAP is fitted to, at most; the others are placed afterwards.

        Raises
        ------
        OptionError
            Unknown method, or umap-learn is not installed.

        Notes
        -----
        Distances and densities in such a picture are not those of spectra; ``s.phase_map()`` says which phases
        there are, and its ``latent_view()`` shows where they lie.
        """
        shape, k = self.scores.data.shape[1:], len(self.scores.data)
        scores = self.scores.data.reshape(k, -1).T.astype(np.float64)
        if self.intensity is None:
            scores = dose_free(scores, scores @ np.nansum(self.components.data, axis=1))
        else:
            scores = np.where(self._empty[:, None], np.nan, scores)
        template = navigation_map(self._source.template, np.zeros(shape, np.int16), title=self._source.title)
        return LatentView.of(template, scores, method=method, seed=random_state, most=max_pixels)

    def to_learning_results(self, signal: BaseSignal) -> None:
        """Write to ``signal.learning_results`` what HyperSpy's own plots, models, BSS and clustering read.

        The only call of the package that writes to a signal. Earlier learning results are replaced. HyperSpy
        2 calls the scores loadings and the components factors.

        Linear models are written as they are; the mean that a centred one subtracts becomes one more
        component, with the same loading everywhere. Of the simplex architecture, whose scores are fractions,
        the loadings are ``intensity * scores``. Where the decoder is curved, in dense autoencoders and with
        ``energy_shift=True``, the linear components that come nearest to its reconstruction are written, with
        such a constant, whose loading is the intensity where there is one.

        Parameters
        ----------
        signal
            The one that was decomposed, or a copy of it.

        Raises
        ------
        LearningResultsError
            HyperSpy cannot hold the result: a signal of another shape, or one whose energy axis is not the last
            one in memory.

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
        write_learning_results(signal, self.model, self._columns())

    def __repr__(self) -> str:
        """Return shapes and report as text: what a notebook or terminal shows."""
        return f"{self._title}\n  scores      {self.scores}\n  components  {self.components}\n\n{self.report}"

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(str(s)) for s in (self.scores, self.components))
        maps = {f"component {k}": values for k, values in enumerate(self.scores.data)}
        pictures = small_maps(maps, self.scores.axes_manager.signal_axes)
        return f"<b>{html.escape(self._title)}</b><br>{lines}<br>{pictures}{self.report._repr_html_()}"

    @property
    def _title(self) -> str:
        report = self.report
        return f"{report.architecture} decomposition of {self._source.title}, K = {report.n_components}"

    def _columns(self) -> np.ndarray:
        columns = self._source.columns(self.scores, self.outputs, self.model.model.outputs)
        return mark_empty(columns.reshape(len(self._empty), -1), self._empty).reshape(columns.shape)

    def _full_size(self, what: str, *, residual: bool) -> BaseSignal:
        decoder = Decoder(self.model.model, self.model.channel_state)
        title, stamp = f"{what} ({self.report.architecture})", self.report.to_dict()
        return self._source.full_size(decoder, self._columns(), title, stamp, residual=residual)
