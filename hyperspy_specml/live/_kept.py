"""Spectra of a scan that are kept, in groups of channels: phases are learnt from them again and again.

n pixels of the map, G groups of channels.
"""

from __future__ import annotations

import numpy as np

from hyperspy_specml.latent import Grid
from hyperspy_specml.live._spectra import Spectra

# Values kept of all pixels (float32, 256 MB); of larger maps those of every second, third ... pixel.
_MOST_VALUES = 1 << 26
# Spectra that phases are learnt from beside the scan, at most: a second or two.
_SAMPLE = 4096
# Pixels of a map that phases are learnt from as a whole, and the side of the boxes of a larger one.
_WHOLE, _SIDE = 10_000, 32
# Part of a box that has been scanned, at least.
_SCANNED = 0.9


class Kept:
    """Sums of the spectra of every pixel, or of every second, third ... one.

    Parameters
    ----------
    shape
        Of the map, in array order.
    n_groups
        Number of groups G.
    of_model
        Whether what a model expects of them is kept, too.
    """

    def __init__(self, shape: tuple[int, ...], n_groups: int, *, of_model: bool = False) -> None:
        self.shape = shape
        n_pixels = int(np.prod(shape))
        self.stride = max(1, -(-n_pixels * n_groups // _MOST_VALUES))
        self.values = np.zeros((-(-n_pixels // self.stride), n_groups), np.float32)
        self.expected = np.zeros_like(self.values) if of_model else None
        self.seen = np.zeros(len(self.values), bool)

    @property
    def pixels(self) -> np.ndarray:
        """Flat indices of the pixels that are kept and have been seen."""
        return np.flatnonzero(self.seen) * self.stride

    def add(self, spectra: Spectra, pixels: np.ndarray) -> None:
        """Add the spectra of m different pixels."""
        if self.stride > 1:
            own = pixels % self.stride == 0
            spectra, pixels = spectra[own], pixels[own] // self.stride
        self.values[pixels] += spectra.values
        if self.expected is not None:
            assert spectra.expected is not None
            self.expected[pixels] += spectra.expected
        self.seen[pixels] = True

    def of(self, pixels: np.ndarray) -> Spectra:
        """Return the spectra of kept pixels."""
        index = pixels // self.stride
        return Spectra(self.values[index], None if self.expected is None else self.expected[index])

    def some(self, n: int, *, without: np.ndarray, seed: int) -> Spectra:
        """Return the spectra of at most n pixels spread over what has been seen.

        Parameters
        ----------
        n
            Number of pixels.
        without
            Flat indices of pixels that are left out.
        seed
            Of the choice.
        """
        pixels = np.setdiff1d(self.pixels, without)
        if len(pixels) > n:
            pixels = np.sort(np.random.default_rng(seed).choice(pixels, n, replace=False))
        return self.of(pixels)

    def sample(self, seed: int) -> tuple[np.ndarray, np.ndarray, Grid]:
        """Return (m, G) values that phases are learnt from, their pixels, and which of them are neighbours.

        Of a small map the part that has been scanned, else boxes spread evenly over that, else single pixels.
        """
        if len(self.seen) <= _WHOLE and self.stride == 1:
            pixels = self._scanned()
            flat = pixels.reshape(-1)
            return self.values[flat], flat, grid_of(pixels.shape, self.seen[flat])
        boxes = _boxes(self.shape, self.seen) if self.stride == 1 else np.zeros((0, 1), int)
        if len(boxes):
            pixels = boxes.reshape(-1)
            grid = Grid(boxes.shape, tuple(range(1, boxes.ndim)), self.seen[pixels])
            return self.values[pixels] * grid.used[:, None], pixels, grid
        pixels = self.pixels
        if len(pixels) > _SAMPLE:
            pixels = np.sort(np.random.default_rng(seed).choice(pixels, _SAMPLE, replace=False))
        return self.of(pixels).values, pixels, grid_of((len(pixels),), np.ones(len(pixels), bool), ordered=False)

    def _scanned(self) -> np.ndarray:
        """Return flat indices of the smallest box of pixels that holds all that has been seen."""
        seen = self.seen.reshape(self.shape)
        sides = []
        for axis in range(seen.ndim):
            where = np.flatnonzero(seen.any(axis=tuple(k for k in range(seen.ndim) if k != axis)))
            sides.append(slice(where[0], where[-1] + 1))
        return np.arange(seen.size).reshape(self.shape)[tuple(sides)]

    def whole(self) -> tuple[np.ndarray, Grid]:
        """Return a copy of all values, and which pixels are neighbours."""
        whole = self.stride == 1
        return self.values.copy(), grid_of(self.shape if whole else (len(self.seen),), self.seen, ordered=whole)


def grid_of(shape: tuple[int, ...], used: np.ndarray, *, ordered: bool = True) -> Grid:
    """Return pixels of which those next to each other are neighbours, if they have an order.

    Parameters
    ----------
    shape
        Of the pixels, in array order.
    used
        (n,) bool.
    ordered
        Whether they have one.
    """
    return Grid(shape, tuple(k for k, size in enumerate(shape) if size > 1) if ordered else (), used.copy())


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
