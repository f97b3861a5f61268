"""A pretrained encoder: latents of spectra as native maps, predictors from labels, and its file."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.models import Stored
from hyperspy_specml.pretraining import (
    METHODS,
    Blend,
    LatentDensity,
    LoraOptions,
    SpectrumEncoder,
    Task,
    Unlabelled,
    are_counts,
    contest,
    errors_of,
    tune,
    with_fewer_counts,
)
from hyperspy_specml.signals import navigation_map, score_maps
from hyperspy_specml.workflows._call import watching, whole_number
from hyperspy_specml.workflows._encoded import (
    energies_of,
    inputs_for,
    mapped,
    of_finite,
    require_spectra,
    rows_at,
    scan_shape,
    title_of,
)
from hyperspy_specml.workflows._labels import check_labels, labels_of
from hyperspy_specml.workflows._predictor import Predictor

if TYPE_CHECKING:
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.workflows._call import Shown

# Ordinary spectra that p-values can be made of.
_LEAST_ORDINARY = 20
# Spectra without labels that principal components and the like are made of, at most.
_POOL = 4000


@dataclass(frozen=True, eq=False)
class Novelty:
    """How strange the spectra of a map are.

    Attributes
    ----------
    p_value
        Map ``(scan axes |)``, 0 to 1, at least one over the number of calibrating spectra plus one; NaN where a
        spectrum is not finite.
    distance
        Map of Mahalanobis distances of the latents.
    """

    p_value: BaseSignal
    distance: BaseSignal


@dataclass(frozen=True, eq=False)
class Encoder(Stored):
    """A pretrained encoder.

    Attributes
    ----------
    encoder
        The network and the grids that spectra are laid on.
    """

    encoder: SpectrumEncoder = field(repr=False)

    @property
    def report(self) -> dict[str, Any]:
        """How it was trained: objective, held-out scores by step, fingerprint of the corpus."""
        return copy.deepcopy(self.encoder.about)

    def embed(self, signal: BaseSignal, *, show_progressbar: Shown = None) -> BaseSignal:
        """Return the latents of spectra.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not; read block by block.
        show_progressbar : bool or Progress, optional
            By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.

        Returns
        -------
        BaseSignal
            Maps (latents | scan axes), in memory; NaN where a spectrum is not finite.

        Raises
        ------
        OptionError
            It is no signal.
        DataTypeError, SpectraRequiredError
            The data are not real numbers; not exactly one signal axis.
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        require_spectra(signal, "embed")
        with watching("embed", show_progressbar) as progress:
            values = self._latents(signal, progress)
        shape = scan_shape(signal)
        if not signal.axes_manager.navigation_dimension:
            return BaseSignal(values[0])
        return score_maps(signal, values.reshape(*shape, -1), title=f"Latents of {title_of(signal)}")

    def novelty(
        self, signal: BaseSignal, ordinary: BaseSignal, *, random_state: int = 0, show_progressbar: Shown = None
    ) -> Novelty:
        """Say how strange spectra are beside ordinary ones, by their latents; no labels are needed.

        Half of the ordinary spectra make the density, the others say how far ordinary ones lie from it: p-values are
        right for spectra that are as the ordinary ones, and recorded at their dose, whatever the encoder has learnt.
        `anomaly_map` compares counts with what a model of the map expects, sums neighbouring pixels and names elements:
        on a map, use it, and for lines that no ordinary spectrum has, of which latents hold little. This is for spectra
        without neighbours that are strange in what the encoder knows.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not.
        ordinary : Signal1D
            Ordinary spectra, twenty at least.
        random_state : int
            Seed of the halves.
        show_progressbar : bool or Progress, optional
            By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.

        Returns
        -------
        Novelty

        Raises
        ------
        TooFewSpectraError
            Fewer than twenty ordinary spectra are finite.
        OptionError
            There is no signal, or the seed is no whole number.
        DataTypeError, SpectraRequiredError
            The data are not real numbers; not exactly one signal axis.
        EnergyAxisMismatchError
            The encoder knows no such energies.

        References
        ----------
        R. Laxhammar, G. Falkman, Ann. Math. Artif. Intell. 74 (2015) 67.
        """
        require_spectra(signal, "novelty")
        require_spectra(ordinary, "novelty(ordinary=...): novelty")
        seed = whole_number("random_state", random_state, least=0)
        with watching("novelty", show_progressbar) as progress:
            with progress.enter("", 0.5):
                known = self._latents(ordinary, progress)
            found = self._latents(signal, progress)
        known = known[np.isfinite(known).all(axis=1)]
        if len(known) < _LEAST_ORDINARY:
            raise TooFewSpectraError(
                f"novelty(ordinary={ordinary!r}): {len(known)} spectra are finite, {_LEAST_ORDINARY} at least are "
                "needed. Pass more spectra that are ordinary, or use s.anomaly_map()."
            )
        density = LatentDensity.of(known, seed=seed)
        distance = density.distance(found)
        shape, title = scan_shape(signal), title_of(signal)
        return Novelty(
            navigation_map(signal, density.p_value(distance).reshape(shape), title=f"p-values of latents of {title}"),
            navigation_map(signal, distance.reshape(shape), title=f"Distances of latents of {title}"),
        )

    def _latents(self, signal: BaseSignal, progress: Progress) -> np.ndarray:
        return mapped(signal, self.encoder.shape.width, _Embedded(self.encoder, *energies_of(signal)), progress)

    def fine_tune(
        self, signal: BaseSignal, labels: Any, method: str = "auto", *, lora: LoraOptions | None = None,
        random_state: int = 0, show_progressbar: Shown = None,
    ) -> Predictor:  # fmt: skip
        """Learn classes or values from labelled spectra.

        Parameters
        ----------
        signal : Signal1D
            The spectra, of which some are labelled; of a lazy one only these are read, and some others.
        labels : array, signal, dict or table
            For every spectrum, in the shape of the scan (array order) or a flat list, a class as a whole number (-1: no
            label) or text ("" or None: none), or a value (NaN: none), and none where an array is masked; or areas of
            named classes, ``{"ferrite": roi or mask}``; or a table (a DataFrame, say, or a structured array) with a
            column for each scan axis, of its name, and one of labels: positions are indices where they are whole
            numbers, else in the units of the axis. Floats are values, never
            classes. Classes are numbered anew: `Classified.labels` holds indices into its `names`.
        method : str
            "raw" and "pca": spectra or their principal components, "aligned": these of aligned spectra, and the shift;
            "likelihood" (classes only): the class whose spectrum, a mixture of those that the encoder was trained to
            simulate, makes the counts most likely; "linear": on the latents; "parameters": on what an encoder of
            simulated spectra reads off them (composition, shift); "lora": low-rank adapters of the attention are
            trained; "full": the whole network is. "auto" cross-validates all but the last on the labels, and blends
            them so that the labels that were left out are predicted best.
        lora : LoraOptions, optional
            Of the adapters.
        random_state : int
            Seed of folds and trainings.
        show_progressbar : bool or Progress, optional
            By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.

        Returns
        -------
        Predictor

        Raises
        ------
        OptionError
            No signal, an unknown method, or options or a seed that are none; labels of another shape or kind, no
            labels, one class, values that are all the same, or too few labels, where spectra that are not finite or
            hold no counts at all teach nothing; or a method that needs simulated spectra, of an encoder that was not
            trained on any, or classes, of values.
        MaskError
            An area is no area of the scan, or two have pixels in common.
        DataTypeError, SpectraRequiredError
            The data are not real numbers; not exactly one signal axis.
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        if method not in METHODS:
            raise OptionError.unknown("fine_tune(method=...)", method, METHODS)
        require_spectra(signal, "fine_tune")
        units, centres = energies_of(signal)
        encoder, inputs = self.encoder, inputs_for(self.encoder, units, centres)
        seed = whole_number("random_state", random_state, least=0)
        if lora is not None and not isinstance(lora, LoraOptions):
            raise OptionError(f"fine_tune(lora={lora!r}) needs options, e.g. lora=specml.LoraOptions(rank=4).")
        if lora is not None and method not in ("auto", "lora"):
            raise OptionError(f"fine_tune(method={method!r}, lora=...): only 'lora' and 'auto' train adapters.")
        truth, names, known = labels_of(signal, labels, scan_shape(signal) or (1,), "fine_tune")
        check_labels(truth[known], names, method)  # before anything is read
        unlabelled = np.arange(len(known)) % -(-len(known) // _POOL) == 0
        read = np.flatnonzero(known | unlabelled)
        with watching("fine_tune", show_progressbar) as progress:
            with progress.enter("Read spectra", 0.2):
                rows, matrix = rows_at(signal, read, progress), inputs.grid.matrix(centres)
            laid = rows.astype(np.float32) @ matrix
            finite, empty, labelled = np.isfinite(laid).all(axis=1), ~laid.any(axis=1), known[read]
            check_labels(truth[known], names, method, finite[labelled], empty[labelled])
            says = finite & ~empty
            some, pool = laid[labelled & says], laid[unlabelled[read] & says]
            own = truth[read][labelled & says]
            fewer = [] if names else with_fewer_counts(rows[labelled & says], seed)
            every = Unlabelled(pool, inputs, encoder, are_counts(rows[says]))
            fainter = tuple(one @ matrix for one in fewer)
            task = Task(some, own, every, len(names), seed, lora or LoraOptions(), fewer=fainter)
            if method == "auto":
                table, blend, errors = contest(task, progress)
                return Predictor(blend, encoder, names, errors, table, inputs.grid)
            with progress.enter("Learn"):
                blend = Blend((tune(method, task),))
                return Predictor(blend, encoder, names, errors_of(method, task), (), inputs.grid)

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        return self.encoder.to_bytes()

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "from_bytes(...)") -> Encoder:
        """Return the encoder that `to_bytes` wrote."""
        return cls(SpectrumEncoder.from_bytes(content, name))

    def __repr__(self) -> str:
        """Say what it knows."""
        known = "; ".join(f"{g.first:g} to {g.centres[-1]:g} {g.units}" for g in self.encoder.grids)
        return f"<Encoder: {self.encoder.about.get('objective', 'untrained')}, {known}>"


@dataclass(frozen=True, eq=False)
class _Embedded:
    """The block function of `embed`."""

    encoder: SpectrumEncoder
    units: str
    centres: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        return of_finite(
            rows, self.encoder.shape.width, lambda some: self.encoder.encode(some, self.units, self.centres)
        )
