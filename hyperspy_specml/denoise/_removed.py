"""Removed signal that noise cannot explain, found in one pass over the file, and restored where that is wanted.

It is looked for in sums of the residual over windows of energy and squares of pixels.
The probability of any false region in a map is held by dividing it by the number of sums tested (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage
import scipy.stats

from hyperspy_specml.denoise._totals import average_totals, kept_totals
from hyperspy_specml.statistics import EMPTY, PoissonNoise, Windows, gain_of

if TYPE_CHECKING:
    from typing import Self

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis
    from hyperspy_specml.streaming import SpectrumStream

# Probability that a map without any removed signal shows a region.
_FALSE_ALARM = 0.01
# Sides of the squares of pixels that are summed, as far as the map has scan axes.
_SIDES = (1, 3, 5)
# Width of a window of energies, relative to that of the sharpest line: holds a Gaussian line but for 8 %.
_WIDTH_FACTOR = 1.5
# Windows at most; finer ones would take more memory than they gain.
_MOST_WINDOWS = 128
# Share of the threshold down to which pixels beside a region belong to it.
_GROWN = 0.7
# Expected counts of a sum from which on a Poisson variable describes it; a rarer one is treated as if it had
# these.
_LEAST_COUNTS = 0.2
# Smallest noise variance of a sum, in squared units of the data: it is divided by.
_TINY = 1e-12
# Features restored at most, the strongest ones: each is a score map of its own.
_MOST_FEATURES = 64
# Standard errors beyond which a channel of the mean spectrum is put right.
_SURE = 4.0
# Spectra summed over windows at a time: they stay in the cache.
_SLAB = 256
# Smallest variance of a window, relative to that of independent noise: an estimated correlation may make it
# less.
_LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class RemovedRegion:
    """Neighbouring pixels whose spectra held something that the denoised ones do not.

    Attributes
    ----------
    pixels
        Flat indices.
    start, stop
        Channels, among those in use, where it is strongest.
    intervals
        Ranges of channels in use where the sum over the pixels shows it, that one among them.
    z
        Of the strongest window, in standard deviations; negative where the denoised spectra hold too much.
    excess
        Sum of the residual over the pixels and these channels.
    """

    pixels: np.ndarray = field(repr=False)
    start: int
    stop: int
    intervals: tuple[tuple[int, int], ...]
    z: float
    excess: float


@dataclass(frozen=True)
class DenoisedSpectra:
    """From scores to denoised spectra: along a basis, and along spectra of what was removed.

    Attributes
    ----------
    basis
        The P vectors of the denoised scores.
    shapes
        (F, E) spectra, in signal units.
    counts
        Whether the data are counts: then no denoised value is negative.
    """

    basis: PrincipalBasis
    shapes: np.ndarray
    counts: bool

    @property
    def components(self) -> np.ndarray:
        """(P + F, E) spectra that scores of one stand for, without the offset of the basis."""
        return np.concatenate([self.basis.components(), self.shapes])

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P + F) scores to (n, E) spectra, float32."""
        spectra = scores @ self.components.astype(np.float32) + self.basis.offset.astype(np.float32)
        if not self.counts:
            return spectra
        total = np.maximum(spectra.sum(axis=1), 0)
        np.maximum(spectra, 0, out=spectra)
        spectra *= (total / np.maximum(spectra.sum(axis=1), np.float32(1e-30)))[:, None]  # the sum is kept
        return spectra


@dataclass(frozen=True)
class Denoised:
    """A denoised map, as arrays.

    Attributes
    ----------
    model
        ``model.decode(scores)`` are the (n_pixels, E in use) denoised spectra.
    scores
        (n_pixels, P + F) scores; NaN for spectra not used, 0 for empty ones.
    pixel_state
        (n_pixels,) state of every spectrum.
    line_width
        Full width at half maximum of the sharpest line, in channels: see `statistics.line_width`.
    relative_intensity
        Mean counts of the map over those of the training map.
    removed
        Regions of signal that was removed and that noise cannot explain, the strongest first.
    """

    model: DenoisedSpectra
    scores: np.ndarray = field(repr=False)
    pixel_state: np.ndarray = field(repr=False)
    line_width: float
    relative_intensity: float = 1.0
    removed: tuple[RemovedRegion, ...] = ()

    @classmethod
    def of(cls, basis: PrincipalBasis, noise: NoiseModel, scores: np.ndarray, *state: Any) -> Self:
        """Return a map of (n_pixels, P) scores along a basis; `state` are the attributes after them."""
        nothing = np.zeros((0, len(basis.weights)), np.float32)
        return cls(DenoisedSpectra(basis, nothing, isinstance(noise, PoissonNoise)), scores, *state)

    @property
    def used(self) -> np.ndarray:
        """(n_pixels,) bool, the spectra that were denoised."""
        return np.isfinite(self.scores).all(axis=1) & (self.pixel_state != EMPTY)

    def totals(self) -> np.ndarray:
        """Return the (n_pixels,) sums of the denoised spectra."""
        return self.scores @ self.model.components.sum(axis=1) + self.model.basis.offset.sum()

    def with_totals(self, totals: np.ndarray) -> Self:
        """Return the map with (n_pixels,) other sums: what is missing has the shape of the mean spectrum."""
        mean = self.scores[self.used].mean(axis=0, dtype=np.float64) @ self.model.components + self.model.basis.offset
        missing = np.where(self.used, totals - self.totals(), self.scores[:, 0])  # NaN stays where nothing is used
        return self.plus(missing[:, None], mean[None] / max(mean.sum(), 1e-30))

    def plus(self, scores: np.ndarray, shapes: np.ndarray) -> Self:
        """Return the map with (n_pixels, F) more scores along (F, E) more spectra."""
        model = replace(self.model, shapes=np.concatenate([self.model.shapes, shapes.astype(np.float32)]))
        return replace(self, model=model, scores=np.concatenate([self.scores, scores.astype(np.float32)], axis=1))


def keep_counts(denoised: Denoised, counts: np.ndarray, where: np.ndarray | None = None) -> Denoised:
    """Scale denoised spectra to the counts that were measured, as far as noise lets these be known.

    At each level of intensity the spectra hold together as many counts as were measured. Where sums of single spectra
    are farther from their counts than noise explains, as beside a bright particle from which a filter spreads into
    the vacuum, each is drawn towards its own counts: sums are taken as gamma variables about the denoised ones.

    Parameters
    ----------
    denoised
        The map.
    counts
        (n_pixels,) sums of the measured spectra.
    where
        (n_pixels,) bool, spectra that may be scaled; None for all.
    """
    used = denoised.used if where is None else denoised.used & where
    measured, total = counts[used].astype(np.float64), np.maximum(denoised.totals()[used], 0)
    if not total.any():
        return denoised
    kept = kept_totals(total, measured)
    scale = np.ones(len(used), np.float32)
    scale[used] = np.divide(kept, total, out=np.ones_like(total), where=total > 0)
    scaled, offset = replace(denoised, scores=denoised.scores * scale[:, None]), denoised.model.basis.offset
    if not offset.any():
        return scaled
    return scaled.plus(np.where(denoised.used, scale - 1, scaled.scores[:, 0])[:, None], offset[None])


def keep_mean(denoised: Denoised, mean: np.ndarray, noise: NoiseModel) -> Denoised:
    """Put the channels of the mean spectrum right, in all spectra in proportion to their intensity.

    A basis that is smooth along energy lowers sharp lines in the whole map.

    Parameters
    ----------
    denoised
        The map.
    mean
        (E in use,) mean of the measured spectra.
    noise
        Noise model.
    """
    used = denoised.used
    clean = denoised.scores[used].mean(axis=0, dtype=np.float64) @ denoised.model.components
    clean += denoised.model.basis.offset
    missing, variance = mean - clean, noise.variance(np.maximum(mean, 0)) / used.sum()
    missing[np.square(missing) < _SURE**2 * variance] = 0
    if not missing.any():
        return denoised
    totals = denoised.totals() if denoised.model.counts else np.where(used, 1.0, denoised.scores[:, 0])
    totals[used] = np.maximum(totals[used] / totals[used].mean(), 0)
    return denoised.plus(totals[:, None], missing[None])


def overlapping_windows(n_channels: int, line_width: float) -> Windows:
    """Cover the channels in use with windows of one width that overlap by half.

    Parameters
    ----------
    n_channels
        Number of them.
    line_width
        Full width at half maximum of the sharpest line, in channels.
    """
    width = max(1.0, _WIDTH_FACTOR * line_width, 2 * n_channels / _MOST_WINDOWS)
    starts = np.unique(np.arange(0, max(1, n_channels - width / 2), max(1.0, width / 2)).astype(int))
    stops = np.minimum(starts + max(1, round(width)), n_channels)
    return Windows(starts, stops, (starts + stops - 1) / 2, stops - starts)


WindowSums = Callable[[Any, slice], tuple[np.ndarray, ...]]
"""From n of the flat pixels and m of the windows to two or three (n, m) sums over the windows.

Of data minus denoised data, of their noise variance and, for counts, of the denoised data: where these are
negative, that is an error of the denoiser, and no counts were removed. Held for all windows at once they would
take more memory than all else.
"""


def find_removed(
    sums: WindowSums, valid: np.ndarray, windows: Windows, *, gain: float, progress: Progress
) -> tuple[RemovedRegion, ...]:
    r"""Find regions of the residual that noise cannot explain, the strongest first.

    Parameters
    ----------
    sums
        See `WindowSums`.
    valid
        (\*navigation,) bool, pixels that were denoised.
    windows
        The windows.
    gain
        Signal units per count; 0 for noise that is not from counting.
    progress
        The windows make up its current stage.
    """
    from skimage.filters import apply_hysteresis_threshold

    n_tests = max(1, int(valid.sum())) * len(windows) * len(_SIDES)
    threshold = float(scipy.stats.norm.isf(_FALSE_ALARM / 2 / n_tests))
    strongest, window = _strongest(sums, valid, progress.steps(range(len(windows))), _GROWN * threshold, gain)
    beyond = apply_hysteresis_threshold(np.abs(strongest), _GROWN * threshold, threshold)
    labels, n_regions = scipy.ndimage.label(beyond, np.ones((3,) * valid.ndim))
    places = scipy.ndimage.value_indices(labels, ignore_value=0)
    spans = list(zip(windows.starts.tolist(), windows.stops.tolist(), strict=True))
    regions = []
    for number in range(1, n_regions + 1):
        inside = strongest[places[number]]
        peak = np.argmax(np.abs(inside))
        j = int(window[places[number]][peak])
        pixels = np.ravel_multi_index(places[number], valid.shape)
        if len(pixels) == valid.sum():
            continue  # what is everywhere is no feature
        excess, variance = _excess(values.sum(axis=0) for values in sums(pixels, slice(None)))
        beyond = np.abs(_deviate(excess, variance, gain)) > threshold
        beyond[j] = True
        runs = scipy.ndimage.find_objects(scipy.ndimage.label(beyond)[0])
        intervals = tuple((spans[run.start][0], spans[run.stop - 1][1]) for (run,) in runs)
        regions.append(RemovedRegion(pixels, *spans[j], intervals, float(inside[peak]), float(excess[j])))
    return tuple(sorted(regions, key=lambda region: -abs(region.z)))


def _strongest(
    sums: WindowSums, valid: np.ndarray, windows: Iterator[int], threshold: float, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the (\*navigation,) largest deviate about each pixel, in size, and the window that has it."""
    strongest, window = np.zeros(valid.shape, np.float32), np.zeros(valid.shape, np.int32)
    for j in windows:
        maps = [np.where(valid, values.reshape(valid.shape), 0) for values in sums(slice(None), slice(j, j + 1))]
        for side in _SIDES:
            excess, variance = _excess(_square_sum(values, side) for values in maps)
            candidates = valid & _may_exceed(excess, variance, threshold, gain)
            z = np.zeros(valid.shape, np.float32)
            z[candidates] = _deviate(excess[candidates], variance[candidates], gain)
            better = np.abs(z) > np.abs(strongest)
            strongest[better], window[better] = z[better], j
    return strongest, window


def _excess(sums: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return what is missing in the denoised data, and its noise variance, of sums as in `WindowSums`."""
    residual, variance, *clean = sums
    return residual + np.minimum(clean[0], 0) if clean else residual, variance


def _square_sum(values: np.ndarray, side: int) -> np.ndarray:
    """Return sums over squares of pixels about each; outside of the map is 0."""
    size = [min(side, n) for n in values.shape]
    mean = scipy.ndimage.uniform_filter(values, size, mode="constant", output=np.float64)
    return mean * np.prod(size)


def _may_exceed(residual: np.ndarray, variance: np.ndarray, threshold: float, gain: float) -> np.ndarray:
    """Return where `_deviate` may be beyond the threshold, in a tenth of its time.

    The root of a Poisson deviance is at most the square root of two times the plain deviate.
    """
    least = max(_LEAST_COUNTS * gain**2, _TINY)
    return 2 * np.square(residual) >= threshold**2 * np.maximum(variance, least)


def _deviate(residual: np.ndarray, variance: np.ndarray, gain: float) -> np.ndarray:
    """Return the signed root of the Poisson deviance of the counts that have this variance."""
    variance = np.maximum(variance, _TINY)
    if gain <= 0:
        return residual / np.sqrt(variance)
    expected = np.maximum(variance / gain**2, _LEAST_COUNTS)
    counts = np.maximum(expected + residual / gain, 0)
    deviance = counts * np.log(np.maximum(counts, 1e-30) / expected) - (counts - expected)
    return np.sign(counts - expected) * np.sqrt(2 * np.maximum(deviance, 0))


def check_removed(
    stream: SpectrumStream, denoised: Denoised, noise: NoiseModel, channels: np.ndarray, *, protect: bool,
    mean: np.ndarray | None = None, width: float | None = None,
) -> Denoised:  # fmt: skip
    """Keep the sums of counts; look for removed signal that noise cannot explain, and restore it on demand.

    The file is read once, and twice more where something is restored.

    Parameters
    ----------
    stream
        The spectra.
    denoised
        The map, nothing restored.
    noise
        Noise model.
    channels
        (all channels,) bool, those in use.
    protect
        Whether what is found is restored: each pixel gets the sum of its own residual there.
    mean
        (E in use,) mean of the measured spectra, where it is known: it is kept.
    width
        Of the average of counts, in pixels, that spectra get as totals; None keeps those that they have.
    """
    progress, windows = stream.progress, overlapping_windows(int(channels.sum()), denoised.line_width)
    with progress.enter("Look for removed signal", 0.5 if protect else 1.0):
        with progress.enter("Sum windows", 0.5):
            block = partial(_over_windows, windows, channels)
            counted = stream.map_rows(block, n_columns=len(windows) + 1, label="Sum windows")
        valid, gain = denoised.used.reshape(stream.navigation_shape), gain_of(noise)
        if width is not None:
            totals = average_totals(counted[:, -1].reshape(valid.shape), valid, width)
            denoised = denoised.with_totals(totals.reshape(-1))
        denoised = keep_counts(denoised, counted[:, -1]) if denoised.model.counts else denoised
        denoised = denoised if mean is None else keep_mean(denoised, mean, noise)
        sums = _window_sums(counted[:, :-1], denoised, noise, windows)
        denoised = replace(denoised, removed=find_removed(sums, valid, windows, gain=gain, progress=progress))
    if protect and denoised.removed:
        with progress.enter("Restore removed signal"):
            denoised = _restored(stream, denoised, windows, channels)
        if denoised.model.counts:  # regions have their own ones again
            elsewhere = np.ones(stream.n_pixels, bool)
            elsewhere[np.concatenate([region.pixels for region in denoised.removed])] = False
            denoised = keep_counts(denoised, counted[:, -1], elsewhere)
    return denoised


def _window_sums(counted: np.ndarray, denoised: Denoised, noise: NoiseModel, windows: Windows) -> WindowSums:
    """Compare sums of the spectra over the windows with those of the denoised ones, computed on demand."""
    model, widths, scores = denoised.model, windows.widths, denoised.scores
    along, offset = (windows.sums(of, slice(None)) for of in (model.components, model.basis.offset[None]))
    spread = widths * np.maximum(windows.variance_ratio(noise), _LEAST_VARIANCE)

    def sums(pixels: Any, some: slice) -> tuple[np.ndarray, ...]:
        clean = scores[pixels] @ along[:, some] + offset[:, some]
        variance = noise.variance(np.maximum(clean / widths[some], 0)) * spread[some]
        found = counted[pixels, some] - clean, variance
        return (*found, clean) if isinstance(noise, PoissonNoise) else found

    return sums


def _restored(stream: SpectrumStream, denoised: Denoised, windows: Windows, channels: np.ndarray) -> Denoised:
    """Return the map with what was removed; two more passes."""
    regions, scores, components = denoised.removed, denoised.scores, denoised.model.components
    width, n_channels, offset = int(np.max(windows.widths)), int(channels.sum()), denoised.model.basis.offset
    features = [
        (number, (max(0, a - width), min(n_channels, b + width)))  # with the tails of the lines
        for number, region in enumerate(regions, start=1)
        for a, b in _merged(region.intervals, 2 * width)
    ][:_MOST_FEATURES]
    member = np.zeros(stream.n_pixels, np.int64)
    for number, region in enumerate(regions, start=1):
        member[region.pixels] = number
    block = partial(_over_regions, member, channels)
    with stream.progress.enter("Sum regions", 0.5):
        total = stream.fold(block, np.add, label="Sum regions")  # (regions + 1, E)
    shapes = np.zeros((len(features), n_channels), np.float32)
    for f, (number, (a, b)) in enumerate(features):
        pixels = regions[number - 1].pixels
        clean = scores[pixels].sum(axis=0, dtype=np.float64) @ components + len(pixels) * offset
        shapes[f, a:b] = (total[number] - clean)[a:b]
        shapes[f] /= max(float(np.linalg.norm(shapes[f])), 1e-30)
    # Along the shape of its sum a region gets back its sum, channel by channel.
    block = partial(_along_shapes, shapes, channels)
    along = stream.map_rows(block, n_columns=len(features), label="Project on regions")
    along -= scores @ (components @ shapes.T) + offset @ shapes.T
    along[member[:, None] != [number for number, _ in features]] = 0
    along[np.isnan(scores[:, 0])] = np.nan
    return denoised.plus(along, shapes)


def _merged(intervals: tuple[tuple[int, int], ...], gap: int) -> list[tuple[int, int]]:
    """Join intervals that are not farther apart than this: with their tails they would overlap."""
    starts, stops = np.array(intervals).T
    apart = np.flatnonzero(starts[1:] - stops[:-1] > gap)
    return list(zip(starts[[0, *apart + 1]].tolist(), stops[[*apart, -1]].tolist(), strict=True))


def _over_windows(windows: Windows, channels: np.ndarray, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sum the spectra of a block over windows."""
    sums = np.empty((len(rows), len(windows) + 1), np.float32)  # and the sum of all channels
    with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may be anything
        for start in range(0, len(rows), _SLAB):
            several = slice(start, start + _SLAB)
            values = rows[several, channels]
            sums[several, :-1] = windows.sums(values, slice(None))
            sums[several, -1] = values.sum(axis=1, dtype=np.float64)
    return sums


def _over_regions(member: np.ndarray, channels: np.ndarray, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sum the spectra of a block over the pixels of each region."""
    number = member[pixels]
    sums = np.zeros((int(member.max()) + 1, int(channels.sum())))
    inside = number > 0
    np.add.at(sums, number[inside], rows[inside][:, channels].astype(np.float64))
    return sums


def _along_shapes(shapes: np.ndarray, channels: np.ndarray, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return products of the spectra of a block with some shapes."""
    with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may be anything
        return rows[:, channels].astype(np.float32) @ shapes.T
