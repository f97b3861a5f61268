"""Score maps laid out as tiles of the scan, and simple spatial filters of them.

A map that fits into the sample is one tile. The sample of a larger one is several tiles from all over it, so
pixels keep their neighbours and a fit still needs only a bounded number of spectra.

The filters are as strong as the noise: what every other denoiser is compared with. Maps come with noise of variance
1, whatever the dose, so one set of strengths serves all doses. Pixels without a spectrum do not contribute: averages
are normalised by the weight of the pixels that do.

References
----------
H. Knutsson, C.-F. Westin, CVPR 1993, 515 (normalised convolution);
A. Chambolle, J. Math. Imaging Vis. 20 (2004) 89 (total variation);
A. Buades, B. Coll, J.-M. Morel, CVPR 2005, 60 (non-local means).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Standard deviations of the Gaussian filters, in pixels: each half again as wide as the one before, up to
# where only broad gradients are left.
_WIDTHS = (0.5, 0.8, 1.2, 1.8, 2.7, 4.0, 6.0)
# Standard deviations, in pixels, of those along the fastest scan axis only: scans drift and jump between
# lines.
_ALONG = (1.0, 3.0)
# Strengths of total variation filters, in standard deviations of the noise.
_VARIATION = (0.5, 1.0, 2.0, 3.0)
# Patch size in pixels and strength in standard deviations of the noise of non-local means.
_PATCHES = ((3, 0.6), (3, 0.8), (5, 0.8))
# Pixels to each side that non-local means search, by the number of scan axes: about as many in all.
_SEARCHED = {1: 31, 2: 7, 3: 3}
# Similarity of patches below which they are not averaged at all: that of scikit-image.
_LEAST_ALIKE = math.exp(-5)
# Weight, in the similarity of patches, of components that are mostly noise; others have 1.
_FAINT = 0.05
# Standard deviation, in pixels, of the average that stands for missing pixels where a filter needs all.
_FILL = 2.0
# Iterations of total variation filters: enough to converge to a hundredth of the noise.
_ITERATIONS = 100
# Pixels beyond which no filter reaches noticeably: four standard deviations of the widest one.
HALO = 24

# Scan axes of a tile; every position along slower ones makes a tile of its own.
MOST_SCAN_AXES = 3
# Tiles of a sample: enough for parts of the map that differ, few enough to be wider than the filters.
_TILES = 9
# Smallest side of a tile in pixels: the reach of the filters to one side.
_LEAST_SIDE = 24

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Filter:
    r"""One filter.

    Attributes
    ----------
    name
        For reports.
    function
        From `Maps` to (\*tile, P) filtered maps.
    """

    name: str
    function: Callable[[Maps], np.ndarray]


@dataclass(frozen=True)
class Maps:
    r"""Score maps of one tile with noise of variance 1.

    Attributes
    ----------
    values
        (\*tile, P) float32, 0 where not valid.
    valid
        (\*tile,) bool.
    centre
        (P,) mean of the map, for pixels without any spectrum nearby.
    n_strong
        Number of components, the first ones, that stand out of the noise.
    """

    values: np.ndarray
    valid: np.ndarray
    centre: np.ndarray
    n_strong: int

    def average(self, widths: Sequence[float]) -> np.ndarray:
        """Return Gaussian averages over the valid pixels, with one standard deviation per scan axis."""
        smooth = gaussian_filter(self.values, (*widths, 0))
        if self.valid.all():
            return smooth
        cover = gaussian_filter(self.valid.astype(np.float32), widths)[..., None]
        return np.where(cover > 1e-6, smooth / np.maximum(cover, 1e-6), self.centre).astype(np.float32)

    def filled(self) -> np.ndarray:
        """Return the maps with averages of their neighbours in place of missing pixels."""
        if self.valid.all():
            return self.values
        return np.where(self.valid[..., None], self.values, self.average((_FILL,) * self.valid.ndim))


def filters(n_axes: int, *, cheap: bool = False) -> tuple[Filter, ...]:
    """Return the filters for maps of so many scan axes: no filter first, the mean of the map second.

    Parameters
    ----------
    n_axes
        One to three.
    cheap
        Only those that take milliseconds.
    """
    gaussians = {f"gaussian {width:g}": (width,) * n_axes for width in _WIDTHS}
    if n_axes > 1:
        gaussians |= {f"gaussian {width:g} along lines": (*[0.0] * (n_axes - 1), width) for width in _ALONG}
    found = [Filter("unfiltered", lambda maps: maps.values), Filter("mean", _constant)]
    found += [Filter(name, partial(Maps.average, widths=widths)) for name, widths in gaussians.items()]
    if not cheap:
        found += [Filter(f"total variation {w:g}", partial(_total_variation, strength=w)) for w in _VARIATION]
        found += [Filter(f"non-local means {p}, {h:g}", partial(_non_local, patch=p, strength=h)) for p, h in _PATCHES]
    return tuple(found)


def _constant(maps: Maps) -> np.ndarray:
    return np.broadcast_to(maps.centre, maps.values.shape)


def _total_variation(maps: Maps, strength: float) -> np.ndarray:
    from skimage.restoration import denoise_tv_chambolle

    planes = np.moveaxis(maps.filled(), -1, 0)
    clean = [denoise_tv_chambolle(plane, strength, eps=1e-3, max_num_iter=_ITERATIONS) for plane in planes]
    return np.stack(clean, axis=-1)


def _non_local(maps: Maps, patch: int, strength: float) -> np.ndarray:
    """Joint over the components: patches are similar where all strong components are."""
    from skimage.restoration import denoise_nl_means

    whole = maps.filled()
    n_axes = whole.ndim - 1
    weight = np.full(whole.shape[-1], _FAINT)
    weight[: maps.n_strong] = 1.0
    sigma = float(np.sqrt(np.mean(weight**2)))
    if n_axes == 1:
        return _non_local_line(whole * weight, patch, strength * sigma, sigma) / weight
    known = {"sigma": sigma, "patch_size": patch, "patch_distance": _SEARCHED[n_axes], "channel_axis": -1}
    found = denoise_nl_means(whole * weight, h=strength * sigma, fast_mode=True, **known)
    return found.reshape(whole.shape) / weight  # a single map comes back without its last axis


def _non_local_line(line: np.ndarray, patch: int, strength: float, sigma: float) -> np.ndarray:
    """Return non-local means of an (n, P) line.

    The same as those of scikit-image for an image of equal rows, up to its rounded exponential. That takes thousands of
    times as long, and makes the mean of an image of one row.
    """
    n, n_maps = line.shape
    half, most = patch // 2, _SEARCHED[1]
    margin = half + most
    padded = np.pad(line.astype(np.float64), ((margin, margin), (0, 0)), mode="reflect")
    total, weights = padded.copy(), np.ones(len(padded))
    for shift in range(1, most + 1):
        squares = np.square(padded[:-shift] - padded[shift:]).sum(axis=1) - 2 * sigma**2 * n_maps
        below = np.concatenate([[0.0], np.cumsum(squares)])
        here = np.arange(half, len(squares) - half)  # first pixels of the pairs with whole patches
        distance = 2 * half * (below[here + half + 1] - below[here - half + 1])
        alike = np.exp(-np.maximum(distance, 0) / (n_maps * (strength * patch) ** 2))
        alike[alike < _LEAST_ALIKE] = 0
        for one, other in ((here, here + shift), (here + shift, here)):
            weights[one] += alike
            total[one] += alike[:, None] * padded[other]
    return (total / weights[:, None])[margin : margin + n]


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


def tiles_of(pixels: np.ndarray, navigation_shape: tuple[int, ...], boxes: tuple[Box, ...]) -> Tiles:
    """Lay spectra out as tiles.

    Parameters
    ----------
    pixels
        (n,) flat indices of the spectra; all of them lie in the boxes.
    navigation_shape
        Of the map.
    boxes
        Boxes of one shape that do not overlap.
    """
    rows = np.full(math.prod(navigation_shape), -1, np.int64)
    rows[pixels] = np.arange(len(pixels))
    rows = rows.reshape(navigation_shape)
    tiles = np.stack([rows[box] for box in boxes])
    return Tiles(tiles.reshape(-1, *tiles.shape[1:][-MOST_SCAN_AXES:]))


def plan_sample(
    navigation_shape: tuple[int, ...], n_pixels: int, *, masked: np.ndarray | None = None, seed: int = 0
) -> tuple[Box, ...]:
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
    if math.prod(navigation_shape) <= n_pixels:
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
    n_boxes = max(1, n_pixels // math.prod(sides))
    return tuple(boxes[i] for i in sorted(order[:n_boxes]))


def plan_halos(shape: tuple[int, ...], n_pixels: int) -> list[tuple[Box, Box, Box]]:
    """Cut a map into boxes of about `n_pixels` that are seen with their surroundings, `HALO` pixels wide.

    Parameters
    ----------
    shape
        Of the map.
    n_pixels
        Pixels of a box with its halo, about.

    Returns
    -------
    for each box its region in the map, the larger one that is seen, and the first within the second
    """
    width = max(2 * HALO, int(n_pixels ** (1 / len(shape))) - 2 * HALO)
    steps = shape if math.prod(shape) <= n_pixels else (width,) * len(shape)
    edges = [[slice(a, min(a + step, n)) for a in range(0, n, step)] for n, step in zip(shape, steps, strict=True)]
    plan = []
    for box in itertools.product(*edges):
        seen = tuple(slice(max(0, s.start - HALO), min(n, s.stop + HALO)) for s, n in zip(box, shape, strict=True))
        inner = tuple(slice(r.start - s.start, r.stop - s.start) for r, s in zip(box, seen, strict=True))
        plan.append((box, seen, inner))
    return plan
