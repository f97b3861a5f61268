"""What a denoiser erased, found in one pass over the file, and put back where that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.denoise._removed import Erased, WindowSums, channel_windows, find_erased
from hyperspy_specml.statistics import PoissonNoise

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis
    from hyperspy_specml.streaming import SpectrumStream

_MOST_FEATURES = 64
_HALF_HEIGHT = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class Protected:
    """Denoised scores along axes, and features along shapes of their own.

    Attributes
    ----------
    basis
        The P axes.
    shapes
        (F, E) residual spectra of what was put back, of length one.
    """

    basis: PrincipalBasis
    shapes: np.ndarray

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "denoised"

    def components(self) -> np.ndarray:
        """Return the (P + F, E) spectra that a score of one stands for."""
        return np.vstack([self.basis.components(), self.shapes])

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P + F) scores to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, P + F).
        """
        n = self.basis.n_vectors
        spectra = self.basis.spectra(np.asarray(scores[:, :n], np.float32))
        return spectra + scores[:, n:] @ self.shapes if len(self.shapes) else spectra


def erased_by(
    stream: SpectrumStream, basis: PrincipalBasis, scores: np.ndarray, *, valid: np.ndarray,
    channels: np.ndarray, mean: np.ndarray, noise: NoiseModel,
) -> tuple[Erased, WindowSums]:  # fmt: skip
    """Look through data minus denoised data for what noise cannot explain; the file is read once.

    Parameters
    ----------
    stream
        The spectra.
    basis, scores
        Of the denoised spectra: P axes and (n_pixels, P).
    valid, channels
        (n_pixels,) bool, spectra that were denoised, and (E,) bool, channels in use.
    mean
        (E in use,) mean spectrum.
    noise
        Noise model.
    """
    windows = channel_windows(line_width(mean, noise), channels)
    sums = stream.map_rows(windows, n_columns=len(windows.starts), label="Check")
    valid = np.isfinite(scores).all(axis=1) & valid
    along, offset = windows.sums(basis.components()), windows.sums(basis.offset[None])
    widths = windows.stops - windows.starts
    lags = np.arange(1, len(noise.correlation))
    shared = 1 + 2 * (np.maximum(0, 1 - lags / widths[:, None]) * np.array(noise.correlation)[1:]).sum(axis=1)
    spread = widths * np.maximum(shared, 0.05)
    counts = isinstance(noise, PoissonNoise)

    def look(pixels: Any, some: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        clean = scores[pixels] @ along[:, some] + offset[:, some]
        variance = noise.variance(np.maximum(clean / widths[some], 0)) * spread[some]
        return sums[pixels, some] - clean, variance, clean if counts else None

    gain = 1.0 if counts else float(getattr(noise, "gain", 0.0))
    return find_erased(look, valid.reshape(stream.navigation_shape), windows, gain=gain), windows


def put_back(
    stream: SpectrumStream, basis: PrincipalBasis, scores: np.ndarray, erased: Erased, windows: WindowSums
) -> tuple[Protected, np.ndarray]:
    """Return denoised scores with what was erased: each pixel gets the sum of its own residual there.

    Parameters
    ----------
    stream
        The spectra; read once more.
    basis, scores
        Of the denoised spectra.
    erased, windows
        What was found, and where it was looked for.

    Returns
    -------
    the model, and (n_pixels, P + F) scores
    """
    width = int(np.max(windows.stops - windows.starts))
    n_channels = len(basis.weights)
    features = [
        (region, (max(0, a - width), min(n_channels, b + width)))  # with the tails of the lines
        for region in erased.regions
        for a, b in _merged(region.intervals, 2 * width)
    ][:_MOST_FEATURES]
    member = np.zeros(stream.n_pixels, np.int64)
    for number, region in enumerate(erased.regions, start=1):
        member[region.pixels] = number
    block = _RegionSums(member, len(erased.regions), windows.channels)
    total = stream.fold(block, np.add, label="Protect")  # (regions + 1, E)
    shapes = np.zeros((len(features), n_channels), np.float32)
    for f, (region, (a, b)) in enumerate(features):
        clean = basis.spectra(scores[region.pixels].astype(np.float64)).sum(axis=0)
        shapes[f, a:b] = (total[member[region.pixels[0]]] - clean)[a:b]
        shapes[f] /= max(float(np.linalg.norm(shapes[f])), 1e-30)
    # Along the shape of its sum a region gets back its sum, channel by channel.
    along = stream.map_rows(_Along(shapes, windows.channels), n_columns=len(features), label="Protect")
    along -= scores @ (basis.components() @ shapes.T) + basis.offset @ shapes.T
    amplitudes = np.zeros((stream.n_pixels, len(features)), np.float32)
    for f, (region, _) in enumerate(features):
        amplitudes[region.pixels, f] = along[region.pixels, f]
    return Protected(basis, shapes), np.concatenate([scores, amplitudes], axis=1)


def _merged(intervals: tuple[tuple[int, int], ...], gap: int) -> list[tuple[int, int]]:
    """Join intervals that are not farther apart than this: none may be counted twice."""
    joined = [intervals[0]]
    for a, b in intervals[1:]:
        if a - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], b
        else:
            joined.append((a, b))
    return joined


def line_width(mean: np.ndarray, noise: NoiseModel) -> float:
    """Return the width of the sharpest structure of a mean spectrum, in channels."""
    variance = np.maximum(noise.variance(mean), 1e-6 * max(float(noise.variance(mean).mean()), 1e-300))
    slope = np.gradient(mean / np.sqrt(variance))
    slope -= np.median(slope)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(slope, 2 * len(slope))) ** 2)[: len(slope) // 2 + 1]
    below = np.flatnonzero(correlation[2:] <= 0)  # of a Gaussian line: at sqrt(2) standard deviations
    lag = below[0] + 2 if len(below) else 2
    return float(np.clip(_HALF_HEIGHT * lag / np.sqrt(2), 2.0, max(2.0, len(mean) / 8)))


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
class _Along:
    """The block function of a pass: products with some shapes."""

    shapes: np.ndarray
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may be anything
            return rows[:, self.channels].astype(np.float32) @ self.shapes.T
