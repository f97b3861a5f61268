"""The result of ``s.phase_map()``."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import as_html, as_text, new_figure
from hyperspy_specml.results._explore import open_tool
from hyperspy_specml.results._figures import checked_components, draw_phase_map, draw_phase_spectra
from hyperspy_specml.results._files import Result
from hyperspy_specml.results._view import LatentView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure, SubFigure

    from hyperspy_specml.models import PhaseReport, TrainedModel
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.signals import Source

_HEAD = ("", "phase", "pixels", "share", "area")


@dataclass(frozen=True)
class PhaseShare:
    """How much of a map a phase is.

    Attributes
    ----------
    name
        Of the phase.
    pixels
        Number of pixels that carry its label.
    share, share_error
        Part of the used pixels, mixtures counted by their parts, and its standard error.
    area, area_error, area_units
        The same as a calibrated length, area or volume.
    """

    name: str
    pixels: int
    share: float
    share_error: float
    area: float
    area_error: float
    area_units: str


@dataclass(frozen=True, eq=False, repr=False)
class PhaseResult(Result):
    """What ``s.phase_map()`` returns. All maps are in memory.

    Attributes
    ----------
    labels
        Int map ``(nx, ny |)``: the phase with the largest share of a pixel; -1 where a pixel was not used, -2 where
        it is none of the known phases.
    probability
        Maps (phases | scan axes): the probability that a phase has the largest share. NaN where a pixel was not used.
    mixed
        Map: the expected share of the second phase in a pixel, 0 to 0.5.
    spectra
        Summed spectra (phases | E) of the pixels of each phase that are hardly mixed, class of the signal: of counts
        they are counts.
    n_spectra
        Of how many pixels each of these is the sum.
    shares
        One `PhaseShare` for each phase; prints as a table.
    p_value
        Map: the probability of so strong a deviation from all phases and their mixtures; of known phases only, else
        None.
    report
        How phases were found; prints as a table.
    model
        The phases: ``s2.phase_map(model=phases.model)`` recognises them in another map. ``phases.model.save(path)``
        keeps them.
    names
        Of the phases.
    alternatives
        Numbers of phases that were fitted on the way: ``phases.at_number(k)`` gives the phases of each.
    """

    labels: BaseSignal
    probability: BaseSignal
    mixed: BaseSignal
    spectra: BaseSignal
    n_spectra: tuple[int, ...]
    shares: PhaseShares
    p_value: BaseSignal | None
    report: PhaseReport
    model: TrainedModel
    names: tuple[str, ...]
    _coordinates: np.ndarray = field(repr=False)
    alternatives: tuple[int, ...] = ()
    _source: Source | None = field(default=None, repr=False)
    _with_number: Callable[..., PhaseResult] | None = field(default=None, repr=False)

    def at_number(self, n_phases: int, *, show_progressbar: bool | Progress | None = None) -> PhaseResult:
        """Return the phases of another number that was fitted on the way; the search is not done again.

        Parameters
        ----------
        n_phases
            One of the `alternatives`.
        show_progressbar
            As in ``s.phase_map()``.

        Returns
        -------
        what ``s.phase_map(n_phases)`` returns, with the scores of all numbers in its report

        Raises
        ------
        OptionError
            This number was not fitted, or nothing was: the phases are known ones, or from a file.
        Cancelled
            The `Progress` was cancelled.
        """
        if self._with_number is None or n_phases not in self.alternatives:
            fitted = f"{', '.join(map(str, self.alternatives))} were" if self.alternatives else "none was"
            raise OptionError(
                f"at_number({n_phases!r}): of the numbers of phases {fitted} fitted. Find them anew, "
                f"s.phase_map({n_phases!r})."
            )
        return self._with_number(n_phases, show_progressbar)

    def explore(self, signal: BaseSignal | None = None, *, display: bool = True, toolkit: str | None = None) -> Any:
        """Open the result in the tool of ``s.phase_map(interactive=True)``.

        Parameters
        ----------
        signal
            The map whose phases these are, if its navigator is to follow the tool; by default a view of its data.
        display, toolkit
            As in ``s.phase_map()``.

        Returns
        -------
        the tool, or what HyperSpy's ``gui(display=False)`` returns

        Raises
        ------
        OptionError
            The result has no map, such as one of a file, and no signal is given.
        """
        return open_tool("PhaseMap", signal, self._source, display, toolkit, result=self)

    @classmethod
    def restored(cls, model: TrainedModel, labels: BaseSignal, parts: dict[str, Any]) -> Self:
        """Put a result together that `save` took apart.

        Parameters
        ----------
        model
            The phases, with their report.
        labels, parts
            The map of labels, and everything else by name.
        """
        shares = json.loads(np.asarray(parts["shares"], np.uint8).tobytes())
        fitted: Any = model.model
        report: Any = model.report
        own: dict[str, Any] = {name: parts[name] for name in ("probability", "mixed", "spectra")}
        own |= {"n_spectra": tuple(int(n) for n in np.atleast_1d(parts["n_spectra"])), "names": fitted.names}
        own |= {"shares": PhaseShares(PhaseShare(**row) for row in shares), "p_value": parts.get("p_value")}
        return cls(labels, report=report, model=model, _coordinates=np.asarray(parts["coordinates"]), **own)

    def taken_apart(self) -> tuple[BaseSignal, dict[str, Any]]:
        """Return the map of labels, and by name all else but the model; see `save`."""
        names = ("probability", "mixed", "spectra", "p_value")
        parts: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        rows = np.frombuffer(json.dumps([asdict(row) for row in self.shares]).encode(), np.uint8)
        own = {"shares": rows, "n_spectra": np.array(self.n_spectra), "coordinates": self._coordinates}
        return self.labels, parts | own

    def rename(self, names: Mapping[int, str]) -> PhaseResult:
        """Return the result with other names of phases, also in its model.

        Parameters
        ----------
        names
            New names by number of the phase, ``{0: "ferrite"}``.

        Raises
        ------
        OptionError
            There is no such phase, or a name is no text.
        """
        wrong = [k for k in names if k not in range(len(self.names))]
        if wrong or not all(isinstance(name, str) for name in names.values()):
            raise OptionError(
                f"rename({names!r}): phases are 0 to {len(self.names) - 1}, and names are text, e.g. "
                "phases.rename({0: 'ferrite'})."
            )
        called = tuple(names.get(k, name) for k, name in enumerate(self.names))
        table = PhaseShares(replace(row, name=name) for row, name in zip(self.shares, called, strict=True))
        fitted: Any = self.model.model
        model = replace(self.model, model=replace(fitted, names=called))
        return replace(self, names=called, shares=table, model=model)

    def plot(
        self, figure: Figure | SubFigure | None = None, *, components: Sequence[int] | None = None
    ) -> Figure | SubFigure:
        """Plot the map of phases with legend and scale bar, and the mean spectra with the strongest lines labelled.

        Parameters
        ----------
        figure
            Empty matplotlib figure or subfigure to plot into; by default a new one of pyplot.
        components
            Numbers of the phases whose spectra are shown; all by default.

        Returns
        -------
        the figure

        Raises
        ------
        OptionError
            There is no phase of such a number.
        """
        shown = checked_components(components, len(self.names))
        figure = figure or new_figure(10.5, 4.4)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
        draw_phase_map(left, self.labels, self.names)
        draw_phase_spectra(right, self.mean_spectra(), shown)
        figure.suptitle(self.labels.metadata.General.title, fontsize="medium", wrap=True)
        return figure

    def mean_spectra(self) -> BaseSignal:
        """Return the mean spectra of the phases, (phases | E): `spectra` over the number of pixels of each."""
        means = self.spectra.deepcopy()
        means.data = self.spectra.data / np.maximum(1, np.array(self.n_spectra))[:, None]
        means.metadata.General.title = self.spectra.metadata.General.title.replace("Summed", "Mean")
        return means

    def latent_view(self, *, method: str = "scores", random_state: int = 0, max_pixels: int = 10_000) -> LatentView:
        """Return two coordinates for each pixel, to be looked at beside the map.

        Parameters
        ----------
        method
            "scores": the two directions in which spectra of one intensity differ most. "umap": a picture of eight
            such scores by UMAP, with the extra ``hyperspy_specml[umap]``.
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
        Distances and densities in such a picture are not those of spectra: gaps need not be borders of phases, and
        rare phases need not lie apart. Mixed and foreign pixels are marked from their probabilities, not from
        where they lie.
        """
        how: Any = {"method": method, "seed": random_state, "most": max_pixels}
        return LatentView.of(self.labels, self._coordinates, names=self.names, mixed=self.mixed, **how)

    def to_learning_results(self, signal: BaseSignal) -> None:
        """Write the phases to a signal as HyperSpy's clusters: its cluster plots then work on it.

        Parameters
        ----------
        signal
            The signal, or one of the same shape; this is the only call that writes to it.

        Raises
        ------
        OptionError
            The signal has other axes.
        """
        shape = self.labels.data.shape
        manager = signal.axes_manager
        if tuple(manager._navigation_shape_in_array) != shape or manager.signal_size != self.spectra.data.shape[-1]:
            raise OptionError(
                f"to_learning_results({signal!r}): the phases are of a map of shape {shape} with "
                f"{self.spectra.data.shape[-1]} channels. Pass the signal that phase_map was called on."
            )
        k, labels = len(self.names), self.labels.data.reshape(-1)
        member = labels == np.arange(k)[:, None]
        sums, n = np.nan_to_num(self.spectra.data), np.maximum(1, np.array(self.n_spectra))[:, None]
        results = signal.learning_results
        results.cluster_labels = member
        results.cluster_membership = labels
        results.cluster_sum_signals, results.cluster_centroid_signals = sums, sums / n
        results.cluster_centers = sums / n
        results.number_of_clusters = results.estimated_number_of_clusters = k
        results.cluster_algorithm = "hyperspy_specml.phase_map"

    def __repr__(self) -> str:
        """Return the table of shares as text."""
        return "\n".join([self._summary(), str(self.shares), self.report.verdict()])

    def _repr_html_(self) -> str:
        words = html.escape(self.report.verdict())
        return f"<p>{html.escape(self._summary())}</p>{self.shares._repr_html_()}<p>{words}</p>"

    def _summary(self) -> str:
        return f"{self.labels.metadata.General.title}: {len(self.names)} phase{'s' * (len(self.names) != 1)}"


class PhaseShares(tuple["PhaseShare", ...]):
    """Shares of all phases, by their number; prints as a table.

    Parameters
    ----------
    iterable
        One `PhaseShare` for each phase.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the table as text."""
        return as_text(_HEAD, self._rows())

    def _repr_html_(self) -> str:
        return as_html(_HEAD, self._rows())

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for k, one in enumerate(self):
            error = float(f"{one.area_error:.2g}")  # 130, not 1.3e+02
            area = f"{one.area:.4g} ± {error:g} {one.area_units}".rstrip()
            rows.append((str(k), one.name, str(one.pixels), f"{one.share:.2%} ± {one.share_error:.2%}", area))
        return rows
