"""`LiveMonitor`: spectra in while the scan runs, native maps and events out."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import ArrayShapeError, DataRequiredError, DataTypeError, ModelFileError, OptionError
from hyperspy_specml.live import Known, Library, Monitor, Setup, dwell_times, monitor_of, state_of
from hyperspy_specml.models import TrainedModel
from hyperspy_specml.results import draw_live
from hyperspy_specml.signals import axis_spec, component_spectra, in_array_order, line_width, navigation_map, score_maps
from hyperspy_specml.signals import energy_axis as energy_axis_of_signal
from hyperspy_specml.streaming import plain_array
from hyperspy_specml.workflows._call import load_model
from hyperspy_specml.workflows._live_scan import calibrated, known_of, lines_of, positions_of, scan_shape, template_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from hyperspy.axes import BaseDataAxis
    from matplotlib.figure import Figure

    from hyperspy_specml.live import Event, UnseenArea

# Seconds between two looks at a growing file.
_POLL = 0.5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LivePhases:
    """The phases of the part of a map that has been scanned.

    Attributes
    ----------
    labels
        Int map ``(scan axes |)``: the most probable phase, -1 where nothing was scanned yet.
    probability
        Maps (phases | scan axes), NaN where nothing was scanned.
    spectra
        Summed spectra (phases | E) of the pixels of each phase.
    n_spectra
        Of how many pixels each of these is the sum.
    """

    labels: BaseSignal
    probability: BaseSignal
    spectra: BaseSignal
    n_spectra: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of phases."""
        return len(self.n_spectra)


class LiveMonitor:
    """Look at a scan while it runs: new phases, what may be unseen, damage and drift, where to look longer.

    Spectra come in blocks, in any order, from this process or another thread. The first of them (a 32nd of the map,
    256 to 2048) give the noise and the first phases; from then on every spectrum is compared with the phases known so
    far and their mixtures (windows of energy under the noise model, at a level of one false new phase in 20 scans whose
    spectra vary by noise alone), and what fits none of them becomes a new phase. On measured maps, whose spectra vary
    within phases, single pixels are told of, too; beyond 32 phases a warning takes their place. Phases are learnt
    again, beside the scan, whenever the number of spectra has doubled, and taken over if held-out counts are described
    no worse. All sums are exact and in bounded memory.

    Parameters
    ----------
    navigation_shape : tuple of int
        Pixels along the scan axes, (nx, ny) as ``s.axes_manager.navigation_shape``.
    energy_axis : HyperSpy axis, dict, array or signal
        The energy axis of the spectra; of an array its values. A signal also gives class, metadata (elements, detector)
        and calibrated scan axes.
    order : str or array
        "raster", "grid" or "random" as in `scan_order`, or positions (n_pixels, number of scan axes). In raster order
        `unseen` makes no statement.
    reference : TrainedModel, optional
        What is ordinary: the phases of another map, ``phases.model``, or a model of its spectra: of a decomposition,
        ``dec.model``, or of an anomaly map, ``found.model``. What a model does not expect are new phases then; phase 0
        is all that it expects. None learns from the first spectra.
    noise : str
        "auto", "poisson", "gaussian" or "poisson-gaussian".
    n_components : int
        Of the streaming PCA.
    random_state : int
        Seed of everything random.
    beside : bool
        Learn in a thread of its own while spectra arrive. False learns within `update`: events repeat from run to run.
    training_seconds : float
        Time in each `update` that an autoencoder (the dense one, of `n_components` latents) is trained for, on all that
        came so far: `residual_map` is its residual then. It is taken over only where pixels that it never trains on
        are described better. 0 for none.

    Raises
    ------
    OptionError
        An argument has no possible value.
    EnergyAxisMismatchError, ModelFileError
        The reference does not fit the energy axis, or is no model.

    Notes
    -----
    The largest squared deviate of windows one, two and four lines wide is compared with spectra drawn from the phases,
    whose own noise is drawn, too; the level is that of the whole scan (Bonferroni).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((24, 24), n_channels=256, dose=100).signal
    >>> monitor = specml.LiveMonitor((24, 24), s, order="grid", beside=False)
    >>> events = list(monitor.replay(s))
    >>> monitor.n_spectra
    576
    """

    def __init__(
        self,
        navigation_shape: tuple[int, ...],
        energy_axis: BaseDataAxis | dict[str, Any] | np.ndarray | BaseSignal,
        order: str | np.ndarray | Sequence[Sequence[int]] = "raster",
        reference: TrainedModel | str | os.PathLike[str] | None = None,
        *,
        noise: str = "auto",
        n_components: int = 8,
        random_state: int = 0,
        beside: bool = True,
        training_seconds: float = 0.0,
    ) -> None:
        shape = scan_shape(navigation_shape)
        self._template = template_of(shape, energy_axis)
        self._positions = positions_of(order, shape, random_state)
        n_channels, name = self._template.data.shape[-1], order if isinstance(order, str) else "positions"
        width = line_width(self._template)
        if not (np.isfinite(training_seconds) and training_seconds >= 0):
            raise OptionError(f"LiveMonitor(training_seconds={training_seconds!r}) needs seconds, e.g. 0.005, or 0.")
        setup = Setup(
            shape[::-1], n_channels, name, noise, width, n_components, random_state, beside, float(training_seconds)
        )
        self._reference = _trained(reference)
        self._monitor = Monitor(setup, self._known())
        self.events: list[Event] = []

    def _known(self) -> Known | None:
        return None if self._reference is None else known_of(self._reference, self._template)

    # What arrives

    def update(
        self,
        block: np.ndarray | BaseSignal,
        positions: np.ndarray | Sequence[Sequence[int]] | None = None,
        *,
        even: bool = True,
    ) -> tuple[Event, ...]:
        """Take spectra of the scan.

        Parameters
        ----------
        block : array or signal
            Spectra (..., E) of any real dtype. Spectra with values that are not finite are counted and left out.
        positions : array, optional
            (n, number of scan axes) int pixels (x, y) of these spectra. None: the next ones in the order of the scan.
            Pixels that come again are added up, and belong to the next frame.
        even : bool
            Whether all pixels of this pass get the same dwell time. Passes with another (see `next_dwell`) do not enter
            the trends over frames.

        Returns
        -------
        tuple of Event
            What happened since the last call; all of them are in ``monitor.events``.

        Raises
        ------
        DataTypeError, ArrayShapeError
            No real numbers, or a wrong number of channels; nothing is lost, the monitor goes on.
        OptionError
            Positions outside of the map, of another number than the spectra, or a scan that is over.
        """
        rows = plain_array(block.data if isinstance(block, BaseSignal) else block)
        n_channels = self._monitor.setup.n_channels
        if rows.dtype.kind not in "uifb":
            raise DataTypeError(f"update(block of {rows.dtype}) needs real numbers, e.g. monitor.update(block.real).")
        if rows.ndim == 0 or rows.shape[-1] != n_channels:
            raise ArrayShapeError(
                f"update(block of shape {rows.shape}) needs spectra of {n_channels} channels, (..., {n_channels}): the "
                "energy axis was given when the monitor was made."
            )
        rows = rows.reshape(-1, n_channels)
        pixels, was_full = self._pixels(positions, len(rows)), self._monitor.full
        found: list[Event] = []
        while len(pixels):  # a pixel that comes twice in a block is of two frames
            _, first = np.unique(pixels, return_index=True)
            if len(first) == len(pixels):
                found += self._monitor.update(rows, pixels, even=even)
                break
            first.sort()
            found += self._monitor.update(rows[first], pixels[first], even=even)
            rest = np.setdiff1d(np.arange(len(pixels)), first)
            rows, pixels = rows[rest], pixels[rest]
        if self._monitor.full and not was_full:
            _logger.warning(
                "LiveMonitor: %d phases are as many as are told of, and there are more spectra of none of them. Where "
                "spectra vary all over the map, begin with a model of ordinary ones, reference=dec.model.",
                self.n_phases,
            )
        return self._tell(found)

    def _tell(self, found: list[Event]) -> tuple[Event, ...]:
        told = tuple(calibrated(event, self._template, self._monitor.frames.trend) for event in found)
        self.events += told
        return told

    def _pixels(self, positions: Any, n: int) -> np.ndarray:
        shape = self._monitor.setup.shape
        if positions is None:
            start = int(self._monitor.n_received + self._monitor.n_lost) % len(self._positions)
            order = np.take(self._positions, np.arange(start, start + n), axis=0, mode="wrap")
            return np.ravel_multi_index(tuple(order.T[::-1]), shape)
        where = np.atleast_2d(np.asarray(positions))
        if where.dtype.kind not in "ui" or where.shape != (n, len(shape)):
            raise OptionError(
                f"update(positions of {where.dtype} and shape {where.shape}): {n} spectra need whole numbers of shape "
                f"({n}, {len(shape)}), the pixels (x, y) of each."
            )
        if len(where) and ((where < 0) | (where >= shape[::-1])).any():
            worst = where[((where < 0) | (where >= shape[::-1])).any(axis=1)][0]
            raise OptionError(f"update(positions=...): pixel {tuple(worst.tolist())} lies outside of {shape[::-1]}.")
        return np.ravel_multi_index(tuple(where.T[::-1]), shape)

    def replay(self, signal: BaseSignal, *, block: int | None = None, seconds: float = 0.0) -> Iterator[Event]:
        """Take the spectra of a map that is there already, in the order of the scan: for tests and teaching.

        Parameters
        ----------
        signal : Signal1D
            The map, lazy or not, of the shape of the scan.
        block : int, optional
            Spectra at a time; by default those of a line.
        seconds : float
            That a block takes at least.

        Yields
        ------
        Event
            As they happen.

        Raises
        ------
        ArrayShapeError
            The map has another shape.
        """
        shape = self._monitor.setup.shape
        array = in_array_order(signal)
        if array.shape != (*shape, self._monitor.setup.n_channels):
            raise ArrayShapeError(
                f"replay(map of shape {array.shape}) needs (array order) {(*shape, self._monitor.setup.n_channels)}."
            )
        step = block or shape[-1]
        for start in range(0, len(self._positions), step):
            begun, where = time.monotonic(), self._positions[start : start + step]
            index = tuple(where.T[::-1])
            rows = array[index] if isinstance(array, np.ndarray) else array.vindex[index].compute()
            yield from self.update(rows, where)
            time.sleep(max(0.0, seconds - (time.monotonic() - begun)))

    def watch(self, path: str | os.PathLike[str], *, timeout: float = 60.0) -> Iterator[Event]:
        """Follow a file that grows line by line, or a memory-mapped array that is filled.

        Parameters
        ----------
        path : path
            A .zspy or .hspy file whose first axis grows, or a .npy file of the whole shape, (..., E) in array order,
            that holds zeros where nothing was written yet.
        timeout : float
            Seconds without a new line after which the scan is over.

        Yields
        ------
        Event
            As they happen.

        Raises
        ------
        ArrayShapeError
            The file holds spectra of another shape.
        """
        path, shape, done, last = Path(path), self._monitor.setup.shape, 0, time.monotonic()
        while done < shape[0] and time.monotonic() - last < timeout:
            lines = lines_of(path, done)
            if lines is not None and lines.shape[1:] != (*shape[1:], self._monitor.setup.n_channels):
                raise ArrayShapeError(
                    f"watch({str(path)!r}): lines of shape {lines.shape[1:]}, but the monitor needs "
                    f"{(*shape[1:], self._monitor.setup.n_channels)}."
                )
            if lines is None or not len(lines):
                time.sleep(min(_POLL, timeout))
                continue
            last = time.monotonic()
            for line in lines:
                index = np.indices(shape[1:]).reshape(len(shape) - 1, -1)[::-1]
                where = np.stack([*index, np.full(index.shape[1] if len(index) else 1, done)], axis=1)
                yield from self.update(line, where)
                done += 1

    def finish(self) -> tuple[Event, ...]:
        """Learn the phases once more from the whole scan.

        The result does not depend on the order in which spectra came.

        Returns
        -------
        tuple of Event
            New phases that this shows.
        """
        return self._tell(self._monitor.finish())

    # What is known

    @property
    def n_phases(self) -> int:
        """Number of phases met so far; 0 until there are enough spectra to begin with."""
        library = self._monitor.library
        return 0 if library is None else library.n_phases

    @property
    def n_spectra(self) -> int:
        """Number of spectra received."""
        return self._monitor.n_received

    @property
    def n_lost(self) -> int:
        """Number of spectra with values that were not finite."""
        return self._monitor.n_lost

    @property
    def unseen(self) -> UnseenArea:
        """How large a phase not yet met may be; prints as a sentence."""
        return self._monitor.unseen

    @property
    def phases(self) -> LivePhases:
        """The phases so far, as native signals."""
        monitor = self._monitor
        library = self._need_library()
        classes, pixels = monitor.classes()
        probability = np.full((library.n_phases, monitor.setup.n_pixels), np.nan, np.float32)
        probability[:, pixels] = classes.phase_probability
        probability[:, monitor.visits == 0] = np.nan
        labels = np.full(monitor.setup.n_pixels, -1, np.int16)
        labels[pixels] = classes.phase_probability.argmax(axis=0)
        labels[monitor.visits == 0] = -1
        shape = monitor.setup.shape
        maps = score_maps(self._template, probability.T.reshape(*shape, -1), title="Phase probabilities")
        sums = self._ungrouped(library.sums)
        named = navigation_map(self._template, labels.reshape(shape), title="Phases")
        spectra = component_spectra(self._template, sums, title="Summed spectra of the phases")
        return LivePhases(named, maps, spectra, tuple(int(n) for n in library.n_spectra))

    @property
    def novelty(self) -> BaseSignal:
        """Map of p-values: how likely so large a deviation from the phases known so far is; NaN where not scanned."""
        return self._map(self._monitor.p_value, "Novelty")

    @property
    def score(self) -> BaseSignal:
        """Map of the largest deviation of any window from the phases, in standard deviations; NaN where not scanned."""
        return self._map(np.sqrt(self._monitor.deviation), "Largest deviation from the phases")

    @property
    def intensity(self) -> BaseSignal:
        """Map of the counts received."""
        return self._map(self._monitor.intensity, "Counts")

    @property
    def residual_map(self) -> BaseSignal:
        """Map of the mean squared residual of the spectra, in units of the noise: of PCA, or of the autoencoder."""
        return self._map(self._monitor.residuals(), "Residual of the principal components")

    @property
    def components(self) -> BaseSignal:
        """Spectra (K | E) of the leading principal components of all spectra so far."""
        self._need_library()
        return component_spectra(self._template, self._monitor.basis.components(), title="Principal components")

    def _map(self, values: np.ndarray, title: str) -> BaseSignal:
        with self._monitor.lock:
            return navigation_map(self._template, values.reshape(self._monitor.setup.shape).copy(), title=title)

    def _ungrouped(self, sums: np.ndarray) -> np.ndarray:
        """Return (K, E) spectra of sums over groups of channels."""
        recipe = self._monitor.recipe
        assert recipe is not None
        deviation = 1.0 if recipe.deviation is None else recipe.deviation
        found = np.zeros((len(sums), len(recipe.channels)))
        wide = np.repeat(sums * deviation / recipe.width, recipe.width, axis=1)
        found[:, recipe.channels] = wide[:, : int(recipe.channels.sum())]
        return found

    def _need_library(self) -> Library:
        library = self._monitor.library
        if library is None:
            raise DataRequiredError(
                f"the phases need {self._monitor.setup.n_first} spectra to begin with, but {self.n_spectra} have come. "
                "Go on with monitor.update(block, positions)."
            )
        return library

    def next_dwell(self, total: float, max_ratio: float = 4.0) -> BaseSignal:
        """Return how long to stay at each pixel in a second pass, so that it tells most about the phases.

        In proportion to the root of the entropy of the phase probabilities: pixels whose phase is certain get little.

        Parameters
        ----------
        total : float
            Sum of the dwell times over the map, in any unit.
        max_ratio : float
            Largest dwell time over the mean one.

        Returns
        -------
        BaseSignal
            Map ``(scan axes |)`` of dwell times in the unit of `total`.

        Raises
        ------
        OptionError
            `total` is not positive or `max_ratio` is below 1.
        DataRequiredError
            The map has not been scanned once, or its counts do not tell the phases apart: dwell times by them would
            follow errors.
        """
        if not (np.isfinite(total) and total > 0 and max_ratio >= 1):
            raise OptionError(f"next_dwell(total={total!r}, max_ratio={max_ratio!r}) needs total > 0, max_ratio >= 1.")
        self._need_library()
        monitor = self._monitor
        missing = int((monitor.visits == 0).sum())
        if missing:
            raise DataRequiredError(f"next_dwell(): {missing} pixels have not been scanned yet; finish the first pass.")
        if not monitor.certain or self.n_phases < 2:
            raise DataRequiredError(
                f"next_dwell(): held-out counts do not tell whether there are more phases than {self.n_phases}: dwell "
                "times would follow errors. Learn from the whole pass, monitor.finish(), or scan evenly once more."
            )
        classes, pixels = monitor.classes()
        if len(pixels) != monitor.setup.n_pixels:
            raise DataRequiredError("next_dwell(): the map is too large to be kept; ask for parts of it.")
        dwell = dwell_times(classes.phase_probability, total, max_ratio)
        return self._map(dwell, "Dwell time")

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the map so far, the spectra of the phases, what happened, and what may be unseen.

        Parameters
        ----------
        figure : matplotlib figure, optional
            That is drawn anew; None makes one.

        Returns
        -------
        matplotlib figure
        """
        return draw_live(self, figure)

    # Files

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save the state in a .specml file; `LiveMonitor.load` goes on from it.

        Parameters
        ----------
        path : path
            Without a suffix it gets ".specml".
        overwrite : bool, optional
            What to do with a file that is there: True replaces it, False leaves it, None is an error.

        Returns
        -------
        where the file is

        Raises
        ------
        ModelFileExistsError
            There is a file, and `overwrite` was not said.
        """
        from hyperspy_specml.models import pack, write_model_file

        description, arrays = state_of(self._monitor)
        scan = [axis_spec(axis) for axis in self._template.axes_manager.navigation_axes]
        description |= {"axis": axis_spec(energy_axis_of_signal(self._template)), "scan": scan}
        description["metadata"] = {"signal_type": self._template.metadata.Signal.signal_type}
        arrays["positions"] = self._positions
        if self._reference is not None:
            arrays["reference"] = np.frombuffer(self._reference.to_bytes(), np.uint8)
        return write_model_file(path, pack(description, arrays), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], signal: BaseSignal | None = None) -> LiveMonitor:
        """Go on from a saved state.

        Parameters
        ----------
        path : path
            Of the file.
        signal : BaseSignal, optional
            Gives class and metadata again, which the file does not hold.

        Returns
        -------
        LiveMonitor

        Raises
        ------
        ModelFileError
            The file holds no state of a monitor, or is damaged.
        """
        from hyperspy_specml.models import read_model_file, unpack

        description, arrays = unpack(read_model_file(path), str(path))
        if "monitor" not in description or "positions" not in arrays:
            raise ModelFileError(
                f"LiveMonitor.load({str(path)!r}): the file holds no state of a monitor, which monitor.save(path) "
                "writes. A model is passed as LiveMonitor(..., reference=path)."
            )
        monitor = cls.__new__(cls)
        monitor._positions = arrays.pop("positions").astype(np.int64)
        shape = tuple(description["setup"]["shape"])[::-1]
        monitor._template = template_of(shape, signal if signal is not None else description["axis"])
        if signal is None:
            for axis, spec in zip(monitor._template.axes_manager.navigation_axes, description["scan"], strict=True):
                axis.name, axis.units = spec["name"], spec["units"]
                axis.scale, axis.offset = spec.get("scale", 1.0), spec.get("offset", 0.0)
        reference = arrays.pop("reference", None)
        monitor._reference = None if reference is None else TrainedModel.from_bytes(reference.tobytes(), name=str(path))
        monitor._monitor = monitor_of(description, arrays, monitor._known())
        monitor.events = []
        return monitor

    def __repr__(self) -> str:
        """Say how far the scan is."""
        done = int((self._monitor.visits > 0).sum())
        return (
            f"<LiveMonitor: {done} of {self._monitor.setup.n_pixels} pixels, {self.n_phases} phases, "
            f"{len(self.events)} events>"
        )


def _trained(reference: TrainedModel | str | os.PathLike[str] | None) -> TrainedModel | None:
    return reference if reference is None or isinstance(reference, TrainedModel) else load_model(reference)
