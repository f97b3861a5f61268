"""The monitor on arrays: takes spectra in any order, keeps sums and a library of phases, and tells what happened.

n pixels of the map, E channels, G groups of channels, K phases.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from hyperspy_specml.exceptions import ModelFileError
from hyperspy_specml.latent import Data, Folds, Grid, Mixture, Recipe, best_strength, classify, fit
from hyperspy_specml.live._coverage import UnseenArea, unseen_area
from hyperspy_specml.live._events import Damage, EnergyDrift, Event, IntensityChange, NewPhase
from hyperspy_specml.live._learn import Lesson, held_folds, learn
from hyperspy_specml.live._library import Found, Library
from hyperspy_specml.live._subspace import Subspace
from hyperspy_specml.live._trend import LEAST_FRAMES, Trend, limit_of, null_maxima, trend
from hyperspy_specml.statistics import (
    Moments,
    energy_windows,
    estimate_noise,
    line_width,
    noise_from_dict,
    typical_mean,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.latent import Classes
    from hyperspy_specml.statistics import NoiseModel

# Pixels that the first phases are learnt from: part of the map, within limits.
_FIRST_PART, _FIRST_LEAST, _FIRST_MOST = 32, 256, 2048
# Spectra that phases are learnt from beside the scan, at most: a second or two.
_SAMPLE = 4096
# Pixels of a map that phases are learnt from as a whole, and the side of the boxes of a larger one.
_WHOLE, _SIDE = 10_000, 32
# Part of a box that has been scanned, at least.
_SCANNED = 0.9
# Values kept of all pixels (float32, 256 MB); of larger maps those of every second, third ... pixel.
_MOST_VALUES = 1 << 26
# Probability of a false new phase in a whole scan.
_RISK = 0.05
# New phases in one block, at most.
_MOST_NEW = 8
# Spectra below which held-out counts do not choose a phase: it stays as it was found.
_FEW = 64
# Probability of a spectrum below which it does not shape the phase that it is nearest to.
_ORDINARY = 1e-2
# Standard errors and channels from which a drift, and change from which an intensity is told.
# Of the saved state: its version, the settings in it, and the arrays with a number for every pixel.
_VERSION = 1
_SETTINGS = ("shape", "n_channels", "order", "noise", "n_components", "seed", "beside")
_PER_PIXEL = ("visits", "intensity", "phase", "p_value", "deviation", "since")
_CLEAR, _LEAST_SHIFT, _LEAST_CHANGE = 5.0, 0.1, 0.05


@dataclass(frozen=True, eq=False)
class Setup:
    """What is to be scanned.

    Attributes
    ----------
    shape
        Of the map, in array order.
    n_channels
        Number of channels E.
    order
        "raster", "grid", "random" or "positions".
    noise
        See `statistics.estimate_noise`.
    widths
        (E,) full width at half maximum of a line in channels; None estimates one.
    n_components
        Of the streaming PCA.
    seed
        Of everything random.
    beside
        Whether phases are learnt in a thread of their own, while spectra arrive.
    """

    shape: tuple[int, ...]
    n_channels: int
    order: str = "raster"
    noise: str = "auto"
    widths: np.ndarray | None = field(default=None, repr=False)
    n_components: int = 8
    seed: int = 0
    beside: bool = True

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the map."""
        return int(np.prod(self.shape))

    @property
    def n_first(self) -> int:
        """Number of spectra that the first phases are learnt from."""
        return min(int(np.clip(self.n_pixels // _FIRST_PART, _FIRST_LEAST, _FIRST_MOST)), self.n_pixels)


@dataclass(frozen=True, eq=False)
class Known:
    """Where a scan begins: phases, or any model of ordinary spectra.

    Attributes
    ----------
    recipe
        From spectra to values.
    library
        Phases; those of no phase where there is an expectation.
    expectation
        From (n, E) spectra to (n, E) expected ones; None for phases.
    """

    recipe: Recipe
    library: Library | None = None
    expectation: Callable[[np.ndarray], np.ndarray] | None = None


class Monitor:
    """Takes spectra while a scan runs; see `LiveMonitor` for what it tells.

    Parameters
    ----------
    setup
        What is to be scanned.
    known
        Where to begin; None learns from the first spectra.
    """

    def __init__(self, setup: Setup, known: Known | None = None) -> None:
        n = setup.n_pixels
        self.setup, self.known = setup, known
        self.visits = np.zeros(n, np.int32)
        self.intensity = np.zeros(n, np.float32)
        self.phase = np.full(n, -1, np.int16)
        self.p_value = np.full(n, np.nan, np.float32)
        self.deviation = np.full(n, np.nan, np.float32)
        self.since = np.zeros(n, bool)
        self.n_lost = self.n_spikes = self.n_received = 0
        self.frames: list[np.ndarray] = []
        self.frame_pixels: list[int] = []
        self.subspace = Subspace.empty(setup.n_channels, setup.n_components, seed=setup.seed)
        self.recipe = None if known is None else known.recipe
        self.noise: NoiseModel | None = None if known is None else known.recipe.noise
        self.library: Library | None = None
        self.lesson: Lesson | None = None
        self.trend: Trend | None = None
        self.told: dict[str, float] = {}
        self._buffer: list[tuple[np.ndarray, np.ndarray]] = []
        self._table: np.ndarray | None = None
        self._stride = 1
        self._next_lesson = 0
        self._pending: Future[Lesson] | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._maxima: np.ndarray | None = None
        self._start = time.monotonic()
        self.lock = threading.RLock()

    # What arrives

    def update(self, rows: np.ndarray, pixels: np.ndarray, *, even: bool = True) -> list[Event]:
        """Take (n, E) spectra of (n,) different pixels; `even` says that their dwell time is that of the others."""
        with self.lock:
            finite = np.isfinite(rows).all(axis=1) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
            self.n_lost += int((~finite).sum())
            rows, pixels = rows[finite], pixels[finite]
            if not len(rows):
                return []
            self.n_received += len(rows)
            self.subspace = self.subspace.absorb(rows)
            events = self._frame(rows, pixels) if even else []
            self.since[pixels[self.visits[pixels] == 0]] = True
            self.visits[pixels] += 1
            self.intensity[pixels] += rows.sum(axis=1, dtype=np.float64)
            first, begins = range(0), self.library is None  # phases that the scan begins with
            if self.library is None:
                self._buffer.append((rows, pixels))
                if sum(len(part) for part, _ in self._buffer) < self.setup.n_first:
                    return events
                rows, pixels = (np.concatenate(parts) for parts in zip(*self._buffer, strict=True))
                self._buffer = []
                self._begin(rows)
                assert self.library is not None
                first = range(1, self.library.n_phases)
            assert self.noise is not None
            self.subspace = self.subspace.stepped(self.noise)
            events += self._adopt()
            events += self._look(rows, pixels, even=even, grow=not begins)
            if self.known is None:
                events += [self._by_held_out(phase) for phase in first]
            self._learn_later()
            return events

    def _event(self) -> dict[str, Any]:
        return {"time": time.monotonic() - self._start, "n_spectra": self.n_received}

    def _begin(self, rows: np.ndarray) -> None:
        """Learn noise and first phases, or the scatter of what is known."""
        if self.recipe is None:
            estimate = estimate_noise(rows, noise=self.setup.noise, minimum=float(rows.min()))
            self.noise = estimate.model
            mean = rows.mean(axis=0, dtype=np.float64)
            if self.setup.widths is None:
                width = float(line_width(typical_mean(rows), estimate.model, n_spectra=len(rows)))
            else:
                width = float(np.average(self.setup.widths, weights=np.maximum(mean, 0) + 1e-12))
            self.recipe = Recipe.of(mean, estimate.model, np.ones(len(mean), bool), width)
        values = self.recipe.values(rows)
        if self.known is None or self.known.library is None:
            grid = _grid((len(values),), np.ones(len(values), bool), order=False)
            one = Library(values.sum(axis=0, dtype=np.float64)[None], np.array([len(values)]), self.recipe.law)
            values, _ = one.without_spikes(values)
            self.lesson = learn(values, grid, self.recipe, before=None, seed=self.setup.seed)
            self.library = self.lesson.library
        else:
            self.library = self.known.library.with_null(values, seed=self.setup.seed)
        self._stride = max(1, -(-self.setup.n_pixels * values.shape[1] // _MOST_VALUES))
        self._table = np.zeros((-(-self.setup.n_pixels // self._stride), values.shape[1]), np.float32)
        self._next_lesson = 2 * len(rows)
        self.since[:] = False  # of these spectra the phases were made

    def _look(self, rows: np.ndarray, pixels: np.ndarray, *, even: bool, grow: bool) -> list[Event]:
        """Compare spectra with the library, and let it grow."""
        assert self.recipe is not None
        assert self.library is not None
        assert self._table is not None
        values, n_spikes = self.library.without_spikes(self.recipe.values(rows))
        self.n_spikes += n_spikes
        kept = pixels % self._stride == 0
        self._table[pixels[kept] // self._stride] += values[kept]
        again = even & (self.visits[pixels] > 1).all()  # the next frame of the same pixels is a matter of trends
        found, p, events = self._discover(values, pixels, most=0 if again else _MOST_NEW)
        best = found.shares.argmax(axis=1)
        self.phase[pixels], self.p_value[pixels], self.deviation[pixels] = best, p, found.deviate
        ordinary = p > _ORDINARY
        if grow and not again and (self.known is None or events):
            self.library = self.library.grown(values[ordinary], found.shares[ordinary])
        return events

    def _discover(
        self, values: np.ndarray, pixels: np.ndarray, *, most: int = _MOST_NEW
    ) -> tuple[Found, np.ndarray, list[Event]]:
        """Compare (n, G) values with the library, and add phases to it until it explains them."""
        events: list[Event] = []
        while True:
            assert self.library is not None
            found = self.library.look(values)
            p = self.library.p_values(found.deviate)
            new = np.flatnonzero(p < _RISK / self.setup.n_pixels)
            if not len(new) or len(events) >= most:
                return found, p, events
            events.append(self._new_phase(values, pixels, new, found, p))

    def _new_phase(
        self, values: np.ndarray, pixels: np.ndarray, new: np.ndarray, found: Found, p: np.ndarray
    ) -> NewPhase:
        """Add the phase of the strongest of the new spectra, and of those that are like it, to the library."""
        assert self.library is not None
        seed = int(new[found.deviate[new].argmax()])
        library = self.library.with_phase(values[seed : seed + 1].astype(np.float64), 1)
        others = new[new != seed]
        again = library.look(values[others])
        like = others[(library.p_values(again.deviate) > _RISK / self.setup.n_pixels) & (again.shares[:, -1] > 0.5)]
        members = np.append(like, seed)
        self.library = self.library.with_phase(values[members].sum(axis=0, dtype=np.float64)[None], len(members))
        self.since[:] = False
        return NewPhase(
            **self._event(),
            phase=self.library.n_phases - 1,
            position=self._position(int(pixels[seed])),
            p_value=min(1.0, float(p[seed]) * self.setup.n_pixels),
            energy=self._channel(found.window[seed]),
            n_pixels=len(members),
        )

    def _position(self, pixel: int) -> tuple[int, ...]:
        return tuple(int(k) for k in np.unravel_index(pixel, self.setup.shape)[::-1])

    def _channel(self, window: np.ndarray) -> float:
        """Return the centre of a window of groups, in channels."""
        assert self.recipe is not None
        return float((window[0] + window[1] + 1) / 2 * self.recipe.width - 0.5)

    # Learning beside

    def _learn_later(self) -> None:
        """Begin to learn phases from all spectra so far, at every doubling of their number."""
        if self.known is not None or self._pending is not None or self.n_received < self._next_lesson:
            return
        self._next_lesson = 2 * self.n_received
        assert self.recipe is not None
        values, _, grid = self._sample()
        task = partial(learn, values.copy(), grid, self.recipe, before=self.library, seed=self.setup.seed)
        if self.setup.beside:
            self._worker = self._worker or ThreadPoolExecutor(1, "phases of the scan")
            self._pending = self._worker.submit(task)
        else:
            self._pending = Future()
            self._pending.set_result(task())

    def _sample(self) -> tuple[np.ndarray, np.ndarray, Grid]:
        """Return (m, G) values that phases are learnt from, their pixels, and which of them are neighbours.

        All pixels of a small map, else boxes spread evenly over what has been scanned, else single pixels.
        """
        assert self._table is not None
        seen = self.visits[:: self._stride] > 0
        if self.setup.n_pixels <= _WHOLE and self._stride == 1:
            return self._table, np.arange(len(seen)), _grid(self.setup.shape, seen)
        boxes = _boxes(self.setup.shape, seen) if self._stride == 1 else np.zeros((0, 1), int)
        if len(boxes):
            pixels = boxes.reshape(-1)
            grid = Grid(boxes.shape, tuple(range(1, boxes.ndim)), seen[pixels])
            return self._table[pixels] * grid.used[:, None], pixels, grid
        pixels = np.flatnonzero(seen)
        if len(pixels) > _SAMPLE:
            pixels = np.sort(np.random.default_rng(self.setup.seed).choice(pixels, _SAMPLE, replace=False))
        return (
            self._table[pixels],
            pixels * self._stride,
            _grid((len(pixels),), np.ones(len(pixels), bool), order=False),
        )

    def wait(self) -> list[Event]:
        """Wait for what is being learnt beside, and take it over."""
        if self._pending is not None:
            self._pending.exception()
        with self.lock:
            return self._adopt()

    def _adopt(self) -> list[Event]:
        """Take over what was learnt, if held-out counts say that it is not worse."""
        if self._pending is None or not self._pending.done():
            return []
        lesson, self._pending = self._pending.result(), None
        return self._take(lesson) if lesson.accepted else []

    def _take(self, lesson: Lesson) -> list[Event]:
        """Take over what was learnt; phases of few spectra stay where it does not explain them."""
        assert self.library is not None
        assert self._table is not None
        old, new = self.library.spectra, lesson.library.spectra
        near = np.sqrt(np.maximum(old, 0)) @ np.sqrt(np.maximum(new, 0)).T if self.library.counts else old @ new.T
        mine, theirs = linear_sum_assignment(-near)
        rest = np.setdiff1d(np.arange(len(new)), theirs)
        order = np.append(theirs, rest)  # phases that are found again keep their order
        few = np.flatnonzero(np.isin(self.phase, np.flatnonzero(self.library.n_spectra < _FEW)))
        few = few[few % self._stride == 0]
        renamed = np.full(len(old) + 1, -1, np.int16)
        renamed[mine] = np.arange(len(mine))
        self.phase = renamed[self.phase]
        library = lesson.library
        self.library = replace(library, sums=library.sums[order], n_spectra=library.n_spectra[order])
        mixture = replace(lesson.mixture, spectra=lesson.mixture.spectra[order], prior=lesson.mixture.prior[order])
        self.lesson = replace(lesson, library=self.library, mixture=mixture)
        since = self.since.copy()
        if len(few):
            self._review(self._table[few // self._stride], few)  # announced before
            self.since = since
        return [self._by_held_out(len(theirs) + k) for k in range(len(rest))]

    def _by_held_out(self, phase: int) -> NewPhase:
        assert self.library is not None
        values, pixels, _ = self._sample()
        shares = self.library.look(values).shares[:, phase]
        self.since[:] = False
        return NewPhase(
            **self._event(),
            phase=phase,
            position=self._position(int(pixels[shares.argmax()])),
            p_value=float("nan"),
            energy=float("nan"),
            n_pixels=int((shares > 0.5).sum()),
        )

    def finish(self) -> list[Event]:
        """Learn once more from all that was received; the result does not depend on the order of the spectra."""
        self.wait()
        with self.lock:
            if self.library is None or self.known is not None:
                return []
            assert self.recipe is not None
            assert self._table is not None
            values, _, grid = self._sample()
            events = self._take(learn(values, grid, self.recipe, before=None, seed=self.setup.seed))
            seen = np.flatnonzero(self.visits[:: self._stride] > 0)
            for some in np.array_split(seen, max(1, len(seen) // 1024)):
                events += self._review(self._table[some], some * self._stride)
            return events

    def _review(self, values: np.ndarray, pixels: np.ndarray) -> list[Event]:
        """Compare kept values with the library once more."""
        found, p, events = self._discover(values, pixels)
        self.phase[pixels], self.p_value[pixels] = found.shares.argmax(axis=1), p
        self.deviation[pixels] = found.deviate
        return events

    # What is known

    @property
    def unseen(self) -> UnseenArea:
        """What may be unseen."""
        with self.lock:
            n_phases = 0 if self.library is None else self.library.n_phases
            return unseen_area(self.setup.order, self.since, self.setup.shape, n_phases)

    def classes(self) -> tuple[Classes, np.ndarray]:
        """Return what every kept pixel is, neighbours heard, and the indices of these pixels."""
        with self.lock:
            assert self.library is not None
            assert self.recipe is not None
            assert self._table is not None
            library, recipe, used = self.library, self.recipe, self.visits[:: self._stride] > 0
            values = self._table.copy()
        whole = self._stride == 1
        grid = _grid(self.setup.shape if whole else (len(values),), used, order=whole)
        train, validation, _ = held_folds(values, recipe, self.setup.seed)
        given = np.full(len(values), -1)
        prior = library.n_spectra / library.n_spectra.sum()
        mixture = Mixture(library.spectra, prior, 0.4 if grid.coupled else 0.0, None, library.n_phases)
        data = Data(train, recipe.fold_law, grid, given)
        mixture = replace(mixture, strength=best_strength(Folds(data, validation), mixture))
        whole_data = Data(values, recipe.law, grid, given)
        mixture, _ = fit(whole_data, mixture, steps=3)
        classes = classify(whole_data, mixture, recipe.law.evidence(values, mixture.spectra))
        return classes, np.arange(len(values)) * self._stride

    # Frames

    def _frame(self, rows: np.ndarray, pixels: np.ndarray) -> list[Event]:
        """Add spectra to the sums of the frames that they belong to; look for trends where one is complete."""
        events: list[Event] = []
        for visit in np.unique(self.visits[pixels]):
            while len(self.frames) <= visit:
                self.frames.append(np.zeros(self.setup.n_channels))
                self.frame_pixels.append(0)
            some = rows[self.visits[pixels] == visit]
            self.frames[visit] += some.sum(axis=0, dtype=np.float64)
            self.frame_pixels[visit] += len(some)
            complete = visit > 0 and self.frame_pixels[visit] == self.frame_pixels[0]
            if complete and visit + 1 >= LEAST_FRAMES:
                events += self._trend(int(visit) + 1)
        return events

    def _width(self) -> np.ndarray:
        if self.setup.widths is not None:
            return self.setup.widths
        one = 3.0 * (1 if self.recipe is None else self.recipe.width)
        return np.full(self.setup.n_channels, one)

    def _trend(self, n_frames: int) -> list[Event]:
        width = self._width()
        windows = energy_windows(width, np.ones(self.setup.n_channels, bool), factors=(1.0, 2.0))
        frames = np.array(self.frames[:n_frames])
        if self._maxima is None:
            self._maxima = null_maxima(frames.mean(axis=0), windows, seed=self.setup.seed)
        self.trend = found = trend(frames, windows, line_width=float(np.median(width)))
        strongest = int(np.abs(found.deviate).argmax())
        deviate = float(abs(found.deviate[strongest]))
        events: list[Event] = []
        if deviate > limit_of(self._maxima) and "damage" not in self.told:
            self.told["damage"] = deviate
            p = (1 + int((self._maxima >= deviate).sum())) / (1 + len(self._maxima))
            at, extent, rate = (float(v[strongest]) for v in (windows.centres, windows.widths, found.rate))
            events.append(
                Damage(**self._event(), frame=n_frames, energy=at, width=extent, rate=rate, elements=(), p_value=p)
            )
        shift, error = float(found.shift[-1]), float(found.shift_error[-1])
        if abs(shift) > max(_CLEAR * error, _LEAST_SHIFT, 2 * self.told.get("shift", 0.0)):
            self.told["shift"] = abs(shift)
            events.append(EnergyDrift(**self._event(), frame=n_frames, shift=shift, error=error))
        ratio = float(found.intensity[-1])
        change = abs(np.log(max(ratio, 1e-6)))
        noise = _CLEAR * np.sqrt(2 / max(float(frames[0].sum()), 1.0))
        if change > max(noise, _LEAST_CHANGE, 2 * self.told.get("intensity", 0.0)):
            self.told["intensity"] = change
            events.append(IntensityChange(**self._event(), frame=n_frames, ratio=ratio))
        return events

    def residuals(self) -> np.ndarray:
        """Return (n_pixels,) the mean squared residual of the kept spectra per group, NaN elsewhere."""
        with self.lock:
            found = np.full(self.setup.n_pixels, np.nan, np.float32)
            if self.library is None or self._table is None:
                return found
            pixels = np.flatnonzero(self.visits[:: self._stride] > 0)
            values = self._table[pixels]
        mean = values.mean(axis=0)
        weight = 1 / np.sqrt(np.maximum(mean, 1e-3 * mean.mean())) if self.library.counts else np.ones(len(mean))
        white = values * weight.astype(np.float32)
        k = min(self.setup.n_components, len(white), white.shape[1])
        vectors = np.linalg.eigh(white.T.astype(np.float64) @ white)[1][:, -k:].astype(np.float32)
        found[pixels * self._stride] = np.square(white - (white @ vectors) @ vectors.T).mean(axis=1)
        return found

    # State

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what JSON can hold of the state, and the rest as arrays; what is learnt beside is taken over first."""
        self.wait()
        with self.lock:
            setup = {name: getattr(self.setup, name) for name in _SETTINGS}
            plain: dict[str, Any] = {"monitor": _VERSION, "setup": setup | {"shape": list(self.setup.shape)}}
            plain |= {
                name: getattr(self, name) for name in ("n_lost", "n_spikes", "n_received", "told", "_next_lesson")
            }
            plain["frame_pixels"] = list(self.frame_pixels)
            arrays = {name: getattr(self, name) for name in _PER_PIXEL}
            moments = self.subspace.moments
            arrays |= {"sums": moments.sums, "products": moments.products, "vectors": self.subspace.vectors}
            arrays["frames"] = np.array(self.frames).reshape(-1, self.setup.n_channels)
            plain["n_moments"] = moments.n
            if self.setup.widths is not None:
                arrays["widths"] = self.setup.widths
            if self._buffer:
                rows, pixels = (np.concatenate(parts) for parts in zip(*self._buffer, strict=True))
                arrays |= {"buffer_rows": rows, "buffer_pixels": pixels}
            if self.recipe is not None:
                arrays |= {"channels": self.recipe.channels, "mean": self.recipe.mean}
                plain |= {"width": self.recipe.width, "noise": self.recipe.noise.to_dict()}
                if self.recipe.deviation is not None:
                    arrays["deviation_of_groups"] = self.recipe.deviation
            library = self.library or (None if self.known is None else self.known.library)
            if library is not None:
                plain["error"] = library.error
                arrays |= {"library_sums": library.sums, "library_n": library.n_spectra, "library_null": library.null}
            plain["known"], plain["begun"] = self.known is not None, self.library is not None
            if self._table is not None:
                arrays["table"] = self._table
            return plain, {name: np.ascontiguousarray(array).copy() for name, array in arrays.items()}

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> Monitor:
        """Return a monitor that goes on from a state.

        Raises
        ------
        ModelFileError
            The parts are not those of one.
        """
        try:
            return cls._from_state(plain, arrays)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelFileError(f"the file holds no state of a monitor that fits together ({error!r:.100})") from error

    @classmethod
    def _from_state(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> Monitor:
        if plain.get("monitor") != _VERSION:
            raise ValueError("no state of a monitor")
        setup = Setup(**plain["setup"] | {"shape": tuple(plain["setup"]["shape"]), "widths": arrays.get("widths")})
        recipe = library = None
        if "mean" in arrays:
            recipe = Recipe(
                arrays["channels"].astype(bool),
                int(plain["width"]),
                arrays.get("deviation_of_groups"),
                arrays["mean"],
                noise_from_dict(plain["noise"]),
            )
        if recipe is not None and "library_sums" in arrays:
            library = Library(
                arrays["library_sums"], arrays["library_n"], recipe.law, float(plain["error"]), arrays["library_null"]
            )
        found = cls(setup, Known(recipe, library) if plain["known"] and recipe is not None else None)
        for name in _PER_PIXEL:
            own = getattr(found, name)
            if arrays[name].shape != own.shape:
                raise ValueError(f"array {name!r} has the shape {arrays[name].shape}")
            setattr(found, name, arrays[name].astype(own.dtype))
        found.n_lost, found.n_spikes, found.n_received = (int(plain[n]) for n in ("n_lost", "n_spikes", "n_received"))
        found.told, found._next_lesson = dict(plain["told"]), int(plain["_next_lesson"])
        found.frames, found.frame_pixels = list(arrays["frames"]), list(plain["frame_pixels"])
        moments = Moments(int(plain["n_moments"]), arrays["sums"], arrays["products"])
        found.subspace = Subspace(moments, arrays["vectors"])
        if "buffer_rows" in arrays:
            found._buffer = [(arrays["buffer_rows"], arrays["buffer_pixels"])]
        found.recipe, found.noise = recipe, None if recipe is None else recipe.noise
        found.library = library if plain["begun"] else None
        found._table = arrays.get("table")
        if found._table is not None:
            found._stride = max(1, -(-setup.n_pixels * found._table.shape[1] // _MOST_VALUES))
        return found


def _grid(shape: tuple[int, ...], used: np.ndarray, *, order: bool = True) -> Grid:
    """Return pixels of which those next to each other are neighbours, if they have an order."""
    return Grid(shape, tuple(k for k, size in enumerate(shape) if size > 1) if order else (), used)


def _boxes(shape: tuple[int, ...], seen: np.ndarray) -> np.ndarray:
    """Return (n, *sides) flat indices of boxes that have been scanned, spread evenly over them."""
    sides = tuple(min(_SIDE, size) for size in shape)
    corners = np.indices([size // side for size, side in zip(shape, sides, strict=True)]).reshape(len(shape), -1).T
    inside = np.indices(sides).reshape(len(sides), -1).T
    place = (corners * sides)[:, None] + inside[None]
    flat = np.ravel_multi_index(tuple(np.moveaxis(place, -1, 0)), shape)
    flat = flat[seen[flat].mean(axis=1) >= _SCANNED]
    n = max(1, _SAMPLE // flat.shape[1])
    some = np.unique(np.linspace(0, max(0, len(flat) - 1), min(n, len(flat))).round().astype(int))
    return flat[some].reshape(-1, *sides)
