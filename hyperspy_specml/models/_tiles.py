"""Spectra as tiles of the scan: what filters and networks with spatial context see.

A map that fits into the sample is one tile. The sample of a larger one is several tiles from all over it, so
pixels keep their neighbours and a fit still needs only a bounded number of spectra.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

# Scan axes of a tile; every position along slower ones makes a tile of its own.
MOST_SCAN_AXES = 3
# Tiles of a sample: enough for parts of the map that differ, few enough to be wider than the filters.
_TILES = 9
# Smallest side of a tile in pixels: the reach of the filters to one side.
_LEAST_SIDE = 24

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Tiles:
    r"""T tiles of one shape, filled with n spectra.

    Attributes
    ----------
    rows
        (T, \*tile) index of the spectrum of each pixel; -1 where none was measured, or none that can be used.
    """

    rows: np.ndarray = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a tile, one to three axes."""
        return self.rows.shape[1:]

    @property
    def valid(self) -> np.ndarray:
        r"""(T, \*tile) bool: there is a spectrum."""
        return self.rows >= 0

    def maps(self, values: np.ndarray) -> np.ndarray:
        r"""Lay (n, ...) values of the spectra out as (T, \*tile, ...), 0 where there is none."""
        maps = values[self.rows]  # -1 takes the last one
        maps[~self.valid] = 0
        return maps

    def flat(self, maps: np.ndarray) -> np.ndarray:
        r"""Collect the (n, ...) values of the spectra from (T, \*tile, ...): the inverse of `maps`."""
        valid = self.valid
        values = np.empty((int(valid.sum()), *maps.shape[self.rows.ndim :]), maps.dtype)
        values[self.rows[valid]] = maps[valid]
        return values


def tiles_of(pixels: np.ndarray, navigation_shape: tuple[int, ...], regions: tuple[Region, ...]) -> Tiles:
    """Lay spectra out as tiles.

    Parameters
    ----------
    pixels
        (n,) flat indices of the spectra; all of them lie in the regions.
    navigation_shape
        Of the map.
    regions
        Boxes of one shape that do not overlap.
    """
    rows = np.full(int(np.prod(navigation_shape, dtype=np.int64)), -1, np.int64)
    rows[pixels] = np.arange(len(pixels))
    rows = rows.reshape(navigation_shape)
    tiles = np.stack([rows[region] for region in regions])
    return Tiles(tiles.reshape(-1, *tiles.shape[1:][-MOST_SCAN_AXES:]))


def plan_sample(
    navigation_shape: tuple[int, ...], n_pixels: int, *, masked: np.ndarray | None = None, seed: int = 0
) -> tuple[Region, ...]:
    """Choose the boxes of a map that make up its sample.

    Parameters
    ----------
    navigation_shape
        Of the map.
    n_pixels
        Spectra wanted, about.
    masked
        (n_pixels of the map,) bool, pixels that the user left out; boxes with fewer of them come first.
    seed
        Picks among boxes that are equally good.

    Returns
    -------
    the whole map where it is not larger, else boxes of one shape that do not overlap
    """
    total = int(np.prod(navigation_shape, dtype=np.int64))
    if total <= n_pixels:
        return (tuple(slice(0, n) for n in navigation_shape),)
    side = (n_pixels / _TILES) ** (1 / min(len(navigation_shape), MOST_SCAN_AXES))
    sides = [min(n, max(_LEAST_SIDE, int(side))) for n in navigation_shape[-MOST_SCAN_AXES:]]
    sides = [1] * (len(navigation_shape) - len(sides)) + sides
    starts = [range(0, n - width + 1, width) for n, width in zip(navigation_shape, sides, strict=True)]
    corners = list(itertools.product(*starts))
    boxes = [tuple(slice(a, a + w) for a, w in zip(corner, sides, strict=True)) for corner in corners]
    order = np.random.default_rng(seed).permutation(len(boxes))
    if masked is not None:
        share = masked.reshape(navigation_shape)
        order = order[np.argsort([share[boxes[i]].mean() for i in order], kind="stable")]
    n_boxes = max(1, n_pixels // int(np.prod(sides)))
    return tuple(boxes[i] for i in sorted(order[:n_boxes]))


def plan_halos(shape: tuple[int, ...], n_pixels: int, halo: int) -> list[tuple[Region, Region, Region]]:
    """Cut a map into boxes of about `n_pixels` that are seen with their surroundings.

    Parameters
    ----------
    shape
        Of the map.
    n_pixels
        Pixels of a box with its halo, about.
    halo
        Pixels seen on every side, where the map has them.

    Returns
    -------
    for each box its region in the map, the larger one that is seen, and the first within the second
    """
    width = max(2 * halo, int(n_pixels ** (1 / len(shape))) - 2 * halo)
    whole = int(np.prod(shape, dtype=np.int64)) <= n_pixels
    steps = [n if whole else width for n in shape]
    edges = [[slice(a, min(a + step, n)) for a in range(0, n, step)] for n, step in zip(shape, steps, strict=True)]
    plan = []
    for region in itertools.product(*edges):
        seen = tuple(slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(region, shape, strict=True))
        inner = tuple(slice(r.start - s.start, r.stop - s.start) for r, s in zip(region, seen, strict=True))
        plan.append((region, seen, inner))
    return plan
