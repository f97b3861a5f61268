"""What a denoiser removed, looked for in one pass over the file, and restored where that is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.denoise._removed import RemovedRegion, find_removed, overlapping_windows
from hyperspy_specml.statistics import SATURATED, USED, PoissonNoise, gain_of

if TYPE_CHECKING:
    from hyperspy_specml.denoise._removed import WindowSums
    from hyperspy_specml.models import FittedDenoiser
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis, Windows
    from hyperspy_specml.streaming import SpectrumStream

# Features restored at most, the strongest ones: each is a score map of its own.
_MOST_FEATURES = 64
# Spectra summed over windows at a time: they stay in the cache.
_SLAB = 256
# Smallest variance of a window, relative to that of independent noise: an estimated correlation may make it
# less.
_LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class RestoredSpectra:
    """Denoised scores along a basis, and scores of removed signal along spectra of its own.

    Attributes
    ----------
    basis
        The P vectors of the denoised scores.
    shapes
        (F, E) residual spectra of what was removed, of length one.
    """

    basis: PrincipalBasis
    shapes: np.ndarray

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P + F) scores to (n, E) spectra, float32."""
        n = self.basis.n_vectors
        return self.basis.spectra(np.asarray(scores[:, :n], np.float32)) + scores[:, n:] @ self.shapes


@dataclass(frozen=True)
class Denoised:
    """A denoised map, as arrays.

    Attributes
    ----------
    model
        ``model.decode(scores)`` are the (n_pixels, E in use) denoised spectra.
    scores
        (n_pixels, P) denoised scores, with F more of restored signal; NaN for spectra not used, 0 for empty
        ones.
    pixel_state
        (n_pixels,) state of every spectrum.
    line_width
        Full width at half maximum of the sharpest line, in channels: see `statistics.line_width`.
    relative_intensity
        Mean counts of the map over those of the training map.
    removed
        Regions of signal that was removed and that noise cannot explain, the strongest first.
    """

    model: FittedDenoiser | RestoredSpectra
    scores: np.ndarray = field(repr=False)
    pixel_state: np.ndarray = field(repr=False)
    line_width: float
    relative_intensity: float = 1.0
    removed: tuple[RemovedRegion, ...] = ()


def is_used(pixel_state: np.ndarray) -> np.ndarray:
    """Return (n_pixels,) bool: spectra in this state are denoised."""
    return np.isin(pixel_state, (USED, SATURATED))


def check_removed(
    stream: SpectrumStream, denoised: Denoised, noise: NoiseModel, channels: np.ndarray, *, protect: bool
) -> Denoised:
    """Look for removed signal that noise cannot explain, and restore it on demand.

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
    """
    progress, basis = stream.progress, denoised.model.basis
    windows = overlapping_windows(int(channels.sum()), denoised.line_width)
    with progress.enter("Look for removed signal", 0.5 if protect else 1.0):
        with progress.enter("Sum windows", 0.5):
            sums = _window_sums(stream, denoised, noise, windows, channels)
        valid = (np.isfinite(denoised.scores).all(axis=1) & is_used(denoised.pixel_state)).reshape(
            stream.navigation_shape
        )
        removed = find_removed(sums, valid, windows, gain=gain_of(noise), progress=progress)
    denoised = replace(denoised, removed=removed)
    if not (protect and removed):
        return denoised
    with progress.enter("Restore removed signal"):
        model, scores = _restore(stream, basis, denoised, windows, channels)
    return replace(denoised, model=model, scores=scores)


def _window_sums(
    stream: SpectrumStream, denoised: Denoised, noise: NoiseModel, windows: Windows, channels: np.ndarray
) -> WindowSums:
    """Sum the spectra over the windows, in one pass; what they are compared with is computed on demand."""
    block = _WindowSums(windows, channels)
    counted = stream.map_rows(block, n_columns=len(windows), label="Sum windows")
    basis, widths, scores = denoised.model.basis, windows.widths, denoised.scores
    along, offset = (windows.sums(of, slice(None)) for of in (basis.components(), basis.offset[None]))
    lags = np.arange(1, len(noise.correlation))
    shared = 1 + 2 * (np.maximum(0, 1 - lags / widths[:, None]) * np.array(noise.correlation)[1:]).sum(axis=1)
    spread = widths * np.maximum(shared, _LEAST_VARIANCE)
    counts = isinstance(noise, PoissonNoise)

    def sums(pixels: Any, some: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        clean = scores[pixels] @ along[:, some] + offset[:, some]
        variance = noise.variance(np.maximum(clean / widths[some], 0)) * spread[some]
        return counted[pixels, some] - clean, variance, clean if counts else None

    return sums


def _restore(
    stream: SpectrumStream, basis: PrincipalBasis, denoised: Denoised, windows: Windows, channels: np.ndarray
) -> tuple[RestoredSpectra, np.ndarray]:
    """Return the model, and (n_pixels, P + F) scores with those of the restored signal; two more passes."""
    regions, scores = denoised.removed, denoised.scores
    width, n_channels = int(np.max(windows.widths)), len(basis.weights)
    features = [
        (region, (max(0, a - width), min(n_channels, b + width)))  # with the tails of the lines
        for region in regions
        for a, b in _merged(region.intervals, 2 * width)
    ][:_MOST_FEATURES]
    member = np.zeros(stream.n_pixels, np.int64)
    for number, region in enumerate(regions, start=1):
        member[region.pixels] = number
    block = _RegionSums(member, len(regions), channels)
    with stream.progress.enter("Sum regions", 0.5):
        total = stream.fold(block, np.add, label="Sum regions")  # (regions + 1, E)
    shapes = np.zeros((len(features), n_channels), np.float32)
    for f, (region, (a, b)) in enumerate(features):
        clean = basis.spectra(scores[region.pixels].astype(np.float64)).sum(axis=0)
        shapes[f, a:b] = (total[member[region.pixels[0]]] - clean)[a:b]
        shapes[f] /= max(float(np.linalg.norm(shapes[f])), 1e-30)
    # Along the shape of its sum a region gets back its sum, channel by channel.
    product = _Products(shapes, channels)
    along = stream.map_rows(product, n_columns=len(features), label="Project on regions")
    along -= scores @ (basis.components() @ shapes.T) + basis.offset @ shapes.T
    amplitudes = np.zeros((stream.n_pixels, len(features)), np.float32)
    for f, (region, _) in enumerate(features):
        amplitudes[region.pixels, f] = along[region.pixels, f]
    return RestoredSpectra(basis, shapes), np.concatenate([scores, amplitudes], axis=1)


def _merged(intervals: tuple[tuple[int, int], ...], gap: int) -> list[tuple[int, int]]:
    """Join intervals that are not farther apart than this: with their tails they would overlap."""
    joined = [intervals[0]]
    for a, b in intervals[1:]:
        if a - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], b
        else:
            joined.append((a, b))
    return joined


@dataclass(frozen=True)
class _WindowSums:
    """The block function of a pass: sums of the spectra over windows."""

    windows: Windows
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        sums = np.empty((len(rows), len(self.windows)), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may be anything
            for start in range(0, len(rows), _SLAB):
                slab = np.asarray(rows[start : start + _SLAB, self.channels])
                sums[start : start + _SLAB] = self.windows.sums(slab, slice(None))
        return sums


@dataclass(frozen=True)
class _RegionSums:
    """The block function of a pass: sums of the spectra of each region."""

    member: np.ndarray
    n_regions: int
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        number = self.member[pixels]
        sums = np.zeros((self.n_regions + 1, int(self.channels.sum())))
        inside = number > 0
        np.add.at(sums, number[inside], rows[inside][:, self.channels].astype(np.float64))
        return sums


@dataclass(frozen=True)
class _Products:
    """The block function of a pass: products with some spectra."""

    shapes: np.ndarray
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may be anything
            return rows[:, self.channels].astype(np.float32) @ self.shapes.T
