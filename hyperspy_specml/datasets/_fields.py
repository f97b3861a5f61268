"""Seeded random maps: smooth fields, grains, compact spots and the energy drift of a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]

# Standard deviation of the jumps between scan lines, relative to that of the whole drift; the rest is slow
# wander.
_JUMPS = 0.6


def smooth_field(rng: np.random.Generator, shape: Shape, length: float = 0.08) -> NDArray[np.float64]:
    """Draw a Gaussian random field of mean 0 and variance 1, smooth over *length* times the map's size."""
    noise = rng.standard_normal(shape)
    return standardise(ndimage.gaussian_filter(noise, length * max(shape), mode="wrap"))


def uniform_field(rng: np.random.Generator, shape: Shape, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
    """Draw a smooth field whose values are spread evenly over [low, high], both ends reached."""
    ranks = smooth_field(rng, shape).ravel().argsort().argsort()
    return low + (high - low) * ranks.reshape(shape) / max(1, ranks.size - 1)


def grains(rng: np.random.Generator, shape: Shape, n_grains: int, n_phases: int) -> NDArray[np.intp]:
    """Cut the map into Voronoi cells and give each the index of one of *n_phases*, all in use."""
    from scipy.spatial import KDTree

    seeds = rng.uniform(0, shape, (n_grains, len(shape)))
    phases = rng.permutation(np.arange(n_grains) % n_phases)
    pixels = np.moveaxis(np.indices(shape), 0, -1)
    return phases[KDTree(seeds).query(pixels)[1]]


def compact_spot(rng: np.random.Generator, shape: Shape, n_pixels: int) -> NDArray[np.bool_]:
    """Mark the *n_pixels* nearest to a random point that is not near the border of the map."""
    centre = rng.uniform(0.2, 0.8, len(shape)) * (np.asarray(shape) - 1)
    distance = np.square(np.moveaxis(np.indices(shape), 0, -1) - centre).sum(axis=-1)
    spot = np.zeros(shape, dtype=bool)
    spot.flat[distance.ravel().argsort(kind="stable")[:n_pixels]] = True
    return spot


def scan_drift(rng: np.random.Generator, shape: Shape, deviation: float) -> NDArray[np.float64]:
    """Draw the drift of a line-by-line scan: a slow wander in acquisition order plus a jump per line."""
    n_pixels = int(np.prod(shape))
    wander = ndimage.gaussian_filter1d(rng.standard_normal(n_pixels), 0.05 * n_pixels, mode="reflect")
    lines = rng.standard_normal((*shape[:-1], 1))
    drift = np.sqrt(1 - _JUMPS**2) * standardise(wander).reshape(shape) + _JUMPS * standardise(lines)
    return deviation * standardise(drift)


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale to mean 0 and standard deviation 1; constant values become 0."""
    centred = values - values.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else np.zeros_like(centred)
