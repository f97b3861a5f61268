"""The monitor on arrays: takes spectra in any order, keeps sums and a library of phases, and tells what happened.

n pixels of the map, E channels, G groups of channels, K phases.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from hyperspy_specml.latent import Data, Folds, Mixture, Recipe, best_strength, classify, fit
from hyperspy_specml.live._autoencoder import OnlineAutoencoder
from hyperspy_specml.live._coverage import UnseenArea, unseen_area
from hyperspy_specml.live._events import Event, NewPhase
from hyperspy_specml.live._frames import Frames
from hyperspy_specml.live._kept import Kept
from hyperspy_specml.live._learn import Lesson, begin_with, held_folds, learn
from hyperspy_specml.live._library import Library
from hyperspy_specml.live._moments import StreamedMoments
from hyperspy_specml.live._novelty import find_new, superseded
from hyperspy_specml.live._setup import MOST_FIRST, Block, Known, Setup
from hyperspy_specml.live._spectra import Spectra
from hyperspy_specml.live._spikes import without_spikes
from hyperspy_specml.statistics import estimate_noise, line_width, principal_basis, typical_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.latent import Classes
    from hyperspy_specml.live._library import Found
    from hyperspy_specml.statistics import PrincipalBasis

# Probability of a false new phase in a whole scan.
_RISK = 0.05
# New phases in one block, spectra that wait for a second one like them, and phases, at most. Where spectra vary all
# over a scan every one of them is new, and comparing them with each other would take ever longer.
_MOST_NEW, _MOST_ALONE, _MOST_PHASES = 8, 64, 32
# Spectra that errors of windows are measured on, and growth of the scan after which that is done again.
_ERROR_SAMPLE, _GROWTH = 1024, 1.25
# Spectra below which held-out counts do not choose a phase: it stays as it was found.
_FEW = 64
# Probability of a spectrum below which it does not shape the phase that it is nearest to.
_ORDINARY = 1e-2
# Blocks compared beyond one with each that comes, where some came while the first phases were learnt, and values that
# may wait before `update` waits for the phases.
_CATCH_UP, _MOST_WAITING = 2, 1 << 24
# Channels of which principal components are computed to rounding: 2 s for that many.
_MOST_EXACT = 2048
# Spectra compared at a time when all are compared once more.
_BLOCK = 1024


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
        self.since = np.zeros(n, bool)  # scanned since the last new phase
        self.told = np.zeros(n, bool)  # pixels of new phases that were told of
        self.n_lost = self.n_spikes = self.n_received = self.n_seen = 0
        self.frames = Frames(setup.n_channels, seed=setup.seed)
        self.moments = StreamedMoments.empty(setup.n_channels)
        self.recipe = None if known is None else known.recipe
        self.library: Library | None = None
        self.kept: Kept | None = None
        self.autoencoder: OnlineAutoencoder | None = None
        self.buffer: list[tuple[np.ndarray, np.ndarray, bool]] = []  # until there are enough to begin with
        self.alone = np.zeros(0, np.intp)  # pixels of no phase that wait for others like them
        self.next_lesson = setup.n_first
        self.full = False  # whether there were new spectra, and too many phases already
        self.certain = True  # whether held-out counts say that there is not one phase more
        self.n_certain = 0  # phases that were learnt, the first ones
        self.errors_at = 0  # spectra received when the errors of windows were measured
        self.lock = threading.RLock()
        self._waiting: list[Block] = []
        self._pending: Future[Lesson] | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._start = time.monotonic()

    # What arrives

    def update(self, rows: np.ndarray, pixels: np.ndarray, *, even: bool = True) -> list[Event]:
        """Take (n, E) spectra of (n,) different pixels; `even` says that their dwell time is that of the others."""
        with self.lock:
            finite = np.isfinite(rows).all(axis=1) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
            self.n_lost += int((~finite).sum())
            if not finite.all():
                rows, pixels = rows[finite], pixels[finite]
            if not len(rows):
                return []
            before = self.visits[pixels]
            self.n_received += len(rows)
            self.moments.absorb(rows)
            events = self._frames(rows, before) if even else []
            self.since[pixels[before == 0]] = True
            self.n_seen += int((before == 0).sum())
            self.visits[pixels] += 1
            self.intensity[pixels] += rows.sum(axis=1, dtype=np.float64)
            self._take_in(rows, pixels, again=even and bool((before > 0).all()))
            events += self._adopt() + self._catch_up()
            self._learn_later()
            if self.library is None:
                events += self._adopt() + self._catch_up()
            if self.setup.training_seconds > 0 and self.kept is not None:
                self._train()
            return events

    def _frames(self, rows: np.ndarray, before: np.ndarray) -> list[Event]:
        events: list[Event] = []
        for n_frames in self.frames.absorb(rows, before):
            width = self.setup.widths
            if width is None:
                width = np.full(self.setup.n_channels, 3.0 * (1 if self.recipe is None else self.recipe.width))
            events += self.frames.look(n_frames, width, *self._now())
        return events

    def _now(self) -> tuple[float, int]:
        return time.monotonic() - self._start, self.n_received

    def _take_in(self, rows: np.ndarray, pixels: np.ndarray, *, again: bool) -> None:
        """Keep spectra as values of the law; the first ones until there are enough to say what these are."""
        blocks = [(rows, pixels, again)]
        if self.kept is None:
            self.buffer += blocks
            if sum(len(part) for part, _, _ in self.buffer) < self.setup.n_first:
                return
            blocks, self.buffer = self.buffer, []
            self._begin(np.concatenate([part for part, _, _ in blocks]))
        assert self.recipe is not None
        assert self.kept is not None
        for part, where, later in blocks:
            values, n_spikes = without_spikes(self._rough(), self.recipe.values(part))
            self.n_spikes += n_spikes
            spectra = Spectra(values, self._expectation(part))
            self.kept.add(spectra, where)
            self._waiting.append(Block(spectra, where, later, taught=self.library is None and self._pending is None))

    def _expectation(self, rows: np.ndarray) -> np.ndarray | None:
        if self.known is None or self.known.expectation is None:
            return None
        assert self.recipe is not None
        return self.recipe.values(self.known.expectation(rows))

    def _rough(self) -> Library:
        """Return the phases, or the mean spectrum as one, until there are any."""
        assert self.recipe is not None
        known = self.library or (None if self.known is None else self.known.library)
        if known is not None:
            return replace(known, of_model=False) if known.of_model else known
        mean = self.recipe.mean if self.recipe.deviation is None else self.recipe.mean / self.recipe.deviation
        return Library(self.setup.n_first * mean[None], np.array([self.setup.n_first]), self.recipe.law)

    def _begin(self, rows: np.ndarray) -> None:
        """Learn the noise and how wide lines are."""
        if self.recipe is None:
            estimate = estimate_noise(rows, noise=self.setup.noise, minimum=float(rows.min()))
            mean = rows.mean(axis=0, dtype=np.float64)
            if self.setup.widths is None:
                width = float(line_width(typical_mean(rows), estimate.model, n_spectra=len(rows)))
            else:
                width = float(np.average(self.setup.widths, weights=np.maximum(mean, 0) + 1e-12))
            channels = None if self.known is None else self.known.channels
            channels = np.ones(len(mean), bool) if channels is None else channels
            self.recipe = Recipe.of(mean[channels], estimate.model, channels, width)
        of_model = self.known is not None and self.known.expectation is not None
        self.kept = Kept(self.setup.shape, len(self.recipe.mean), of_model=of_model)

    def _catch_up(self, *, everything: bool = False) -> list[Event]:
        """Compare blocks that wait with the phases, oldest first."""
        if self.library is None:
            if sum(block.spectra.values.size for block in self._waiting) < _MOST_WAITING or self._pending is None:
                return []
            self._pending.exception()
            return self._adopt() + self._catch_up()
        n = 1 + _CATCH_UP if self.setup.beside and not everything else len(self._waiting)
        blocks, self._waiting = self._waiting[:n], self._waiting[n:]
        return [event for block in blocks for event in self._look(block)]

    def _look(self, block: Block) -> list[Event]:
        """Compare spectra with the library, and let it grow."""
        found, p, events = self._discover(block.spectra, block.pixels, most=0 if block.again else _MOST_NEW)
        assert self.library is not None
        ordinary = p > _ORDINARY
        if not (block.taught or block.again) and (self.known is None or events):
            self.library = self.library.grown(block.spectra.values[ordinary], found.shares[ordinary])
        return events

    def _discover(self, spectra: Spectra, pixels: np.ndarray, *, most: int) -> tuple[Found, np.ndarray, list[Event]]:
        """Compare spectra with the library, and add phases to it until it explains them."""
        events: list[Event] = []
        level = _RISK / self.setup.n_pixels
        for n_new in range(most + 1):
            assert self.library is not None
            found = self.library.look(spectra)
            p = self.library.p_values(found.deviate)
            new = p < level
            if new.any() and self._measure_errors(pixels[new]):
                found = self.library.look(spectra)
                p = self.library.p_values(found.deviate)
                new = p < level
            full = bool(most and new.any() and self.library.n_phases >= _MOST_PHASES)
            self.full |= full
            if n_new == most or not new.any() or full or not self._new_phase(spectra[new], pixels[new], level, events):
                break
        self.phase[pixels], self.p_value[pixels], self.deviation[pixels] = found.shares.argmax(axis=1), p, found.deviate
        return found, p, events

    def _measure_errors(self, without: np.ndarray) -> bool:
        """Measure how much phases vary within, if the scan has grown since; return whether that was done."""
        assert self.library is not None
        assert self.kept is not None
        if self.n_received < _GROWTH * self.errors_at:
            return False
        values = self.kept.some(_ERROR_SAMPLE, without=without, seed=self.setup.seed)
        self.errors_at = self.n_received
        if not len(values):
            return False
        self.library = self.library.with_errors(values)
        return True

    def _new_phase(self, spectra: Spectra, pixels: np.ndarray, level: float, events: list[Event]) -> bool:
        """Add the clearest phase of new spectra and of those that wait to the library; return whether there is one."""
        assert self.library is not None
        assert self.kept is not None
        waiting = np.setdiff1d(self.alone, pixels)
        spectra, pixels = spectra + self.kept.of(waiting), np.append(pixels, waiting)
        found = self.library.look(spectra)
        one = find_new(self.library, spectra, found, level)
        if one is None:
            alone = self.library.p_values(found.deviate) < level
            alone &= pixels % self.kept.stride == 0
            strongest = np.argsort(-np.where(alone, found.deviate, -1))[: min(_MOST_ALONE, int(alone.sum()))]
            self.alone = pixels[strongest]
            return False
        before, self.library, members = self.library, one.library, pixels[one.members]
        self.alone = np.setdiff1d(self.alone, members)
        self.phase[members] = self.library.n_phases - 1
        known, self.told[members] = self.told[pixels[one.seed]], True
        before_it = superseded(self.library, self.n_certain, level) if self.known is None else []
        for phase in before_it[::-1]:
            self.phase[self.phase == phase] = self.library.n_phases - 1
            self.phase[self.phase > phase] -= 1
            self.library = self.library.without(phase)
        if not known and not before_it:
            self.since[:] = False
            p = float(before.p_values(found.deviate[[one.seed]])[0])
            window = before.excess(spectra[one.members].together())
            events.append(self._event(int(pixels[one.seed]), p, window, len(members)))
        return True

    def _event(self, pixel: int, p: float, window: np.ndarray, n_pixels: int, phase: int | None = None) -> NewPhase:
        assert self.recipe is not None
        assert self.library is not None
        return NewPhase(
            *self._now(),
            phase=self.library.n_phases - 1 if phase is None else phase,
            position=tuple(int(k) for k in np.unravel_index(pixel, self.setup.shape)[::-1]),
            p_value=float(np.minimum(1.0, p * self.setup.n_pixels)),
            energy=float((window[0] + window[1] + 1) / 2 * self.recipe.width - 0.5),
            n_pixels=n_pixels,
        )

    # Learning beside

    def _learn_later(self) -> None:
        """Begin to learn phases from all spectra so far, whenever the number of pixels seen has doubled."""
        if self._pending is not None or self.kept is None:
            return
        if self.library is not None and self.n_seen < self.next_lesson:
            return
        assert self.recipe is not None
        seed = self.setup.seed
        task: Callable[[], Lesson]
        if self.known is None:
            values, _, grid = self.kept.sample(seed)
            task = partial(learn, values, grid, self.recipe, before=self.library, seed=seed)
        elif self.library is None:
            library = self.known.library or replace(self._rough(), of_model=True)
            task = partial(begin_with, library, self.kept.of(self.kept.pixels), seed=seed)
        else:
            return
        self.next_lesson = 2 * self.n_seen
        self.errors_at = self.n_received
        self._pending = Future()
        if self.setup.beside:
            self._worker = self._worker or ThreadPoolExecutor(1, "phases of the scan")
            self._pending = self._worker.submit(task)
        else:
            self._pending.set_result(task())

    def _train(self) -> None:
        """Train the autoencoder a little; it begins with the spectra that there are."""
        assert self.kept is not None
        assert self.recipe is not None
        if self.autoencoder is None:
            values = self.kept.some(MOST_FIRST, without=np.zeros(0, int), seed=self.setup.seed).values
            counts, k = self.recipe.deviation is None, self.setup.n_components
            self.autoencoder = OnlineAutoencoder(values, counts=counts, n_latent=k, seed=self.setup.seed)
        self.autoencoder.train(self.kept.values, self.kept.seen, self.setup.training_seconds)

    def wait(self) -> list[Event]:
        """Wait for what is being learnt beside, take it over, and compare all spectra that wait with it."""
        if self._pending is not None:
            self._pending.exception()
        with self.lock:
            return self._adopt() + self._catch_up(everything=True)

    def _adopt(self) -> list[Event]:
        """Take over what was learnt, if held-out counts say that it is not worse."""
        if self._pending is None or not self._pending.done():
            return []
        pending, self._pending = self._pending, None
        lesson = pending.result()
        if self.library is not None:
            return self._take(lesson) if lesson.accepted else []
        self.library, self.n_certain, self.certain = lesson.library, lesson.library.n_phases, lesson.certain
        self.since[:] = False  # of these spectra the phases were made
        if self.known is not None:
            return []
        return [self._by_held_out(phase) for phase in range(1, self.library.n_phases)]

    def _take(self, lesson: Lesson, *, review: bool = True) -> list[Event]:
        """Take over what was learnt; phases found since stay where it does not explain them."""
        assert self.library is not None
        assert self.kept is not None
        old, new = self.library.spectra, lesson.library.spectra
        near = np.sqrt(np.maximum(old, 0)) @ np.sqrt(np.maximum(new, 0)).T if self.library.counts else old @ new.T
        mine, theirs = linear_sum_assignment(-near)
        rest = np.setdiff1d(np.arange(len(new)), theirs)
        order = np.append(theirs, rest)  # phases that are found again keep their order
        renamed = np.full(len(old) + 1, -1, np.int16)
        renamed[mine] = np.arange(len(mine))
        self.phase = renamed[self.phase]
        library = lesson.library
        self.library = replace(library, sums=library.sums[order], n_spectra=library.n_spectra[order])
        self.n_certain, self.certain = len(new), lesson.certain
        events: list[Event] = [self._by_held_out(len(theirs) + k) for k in range(len(rest))]
        again = np.intersect1d(np.flatnonzero(self.told), self.kept.pixels)
        self.alone = np.zeros(0, np.intp) if not review else self.alone
        for pixels in np.split(again, range(_BLOCK, len(again), _BLOCK)) if review and len(again) else ():
            events += self._discover(self.kept.of(pixels), pixels, most=_MOST_NEW)[2]
        return events

    def _by_held_out(self, phase: int) -> NewPhase:
        """Return the event of a phase that was learnt: where it is, and where it differs from the others."""
        assert self.library is not None
        assert self.kept is not None
        values, pixels, grid = self.kept.sample(self.setup.seed)
        values, pixels = values[grid.used], pixels[grid.used]
        evidence = self.library.law.evidence(values, self.library.spectra)
        clear = evidence[phase] - np.delete(evidence, phase, axis=0).max(axis=0)
        self.since[:] = False
        window = self.library.without(phase).excess(self.library.sums[[phase]].astype(np.float32))
        return self._event(int(pixels[clear.argmax()]), np.nan, window, int((clear > 0).sum()), phase)

    def finish(self) -> list[Event]:
        """Learn once more from all that was received; the result does not depend on the order of the spectra."""
        events = self.wait()
        with self.lock:
            if self.library is None or self.known is not None:
                return events
            assert self.recipe is not None
            assert self.kept is not None
            values, _, grid = self.kept.sample(self.setup.seed)
            lesson = learn(values, grid, self.recipe, before=None, seed=self.setup.seed)
            events += self._take(lesson, review=False)
            self.errors_at = self.n_received
            seen = self.kept.pixels
            for pixels in np.array_split(seen, max(1, len(seen) // _BLOCK)):
                events += self._discover(self.kept.of(pixels), pixels, most=_MOST_NEW)[2]
            return events

    # What is known

    @property
    def unseen(self) -> UnseenArea:
        """What may be unseen."""
        with self.lock:
            n_phases = 0 if self.library is None else self.library.n_phases
            return unseen_area(self.setup.order, self.since, self.setup.shape, n_phases)

    @property
    def basis(self) -> PrincipalBasis:
        """The leading principal components of all spectra so far."""
        with self.lock:
            moments = self.moments.moments
        assert self.recipe is not None
        # Vectors of so many channels are exact where more than an eighth of them are asked for; else they are iterated,
        # which leaves those that are hardly above the noise far from settled.
        k, size = self.setup.n_components, self.setup.n_channels
        n = max(k, size // 8 + 1) if size <= _MOST_EXACT else k
        return principal_basis(moments, self.recipe.noise, n_vectors=n).first(min(k, size))

    def classes(self) -> tuple[Classes, np.ndarray]:
        """Return what every kept pixel is, neighbours heard, and the indices of these pixels."""
        with self.lock:
            assert self.library is not None
            assert self.recipe is not None
            assert self.kept is not None
            library, recipe, stride = self.library, self.recipe, self.kept.stride
            values, grid = self.kept.whole()
        train, validation, _ = held_folds(values, recipe, self.setup.seed)
        given = np.full(len(values), -1)
        prior = library.n_spectra / library.n_spectra.sum()
        spectra = replace(library, of_model=False).spectra  # the mean one, in place of what a model expects
        mixture = Mixture(spectra, prior, 0.4 if grid.coupled else 0.0, None, library.n_phases)
        data = Data(train, recipe.fold_law, grid, given)
        mixture = replace(mixture, strength=best_strength(Folds(data, validation), mixture))
        whole_data = Data(values, recipe.law, grid, given)
        mixture, _ = fit(whole_data, mixture, steps=3)
        classes = classify(whole_data, mixture, recipe.law.evidence(values, mixture.spectra))
        return classes, np.arange(len(values)) * stride

    def residuals(self) -> np.ndarray:
        """Return (n_pixels,) the mean squared residual of the kept spectra per group, NaN elsewhere.

        Of the autoencoder, or of as many principal components.
        """
        found = np.full(self.setup.n_pixels, np.nan, np.float32)
        with self.lock:
            if self.library is None or self.kept is None:
                return found
            if self.autoencoder is not None:
                for pixels in np.array_split(self.kept.pixels, max(1, len(self.kept.pixels) // _BLOCK)):
                    found[pixels] = self.autoencoder.residuals(self.kept.of(pixels).values)
                return found
            pixels, counts = self.kept.pixels, self.library.counts
            values = self.kept.of(pixels).values
        mean = values.mean(axis=0)
        weight = 1 / np.sqrt(np.maximum(mean, 1e-3 * mean.mean())) if counts else np.ones(len(mean))
        white = values * weight.astype(np.float32)
        k = min(self.setup.n_components, len(white), white.shape[1])
        vectors = np.linalg.eigh(white.T.astype(np.float64) @ white)[1][:, -k:].astype(np.float32)
        found[pixels] = np.square(white - (white @ vectors) @ vectors.T).mean(axis=1)
        return found
