"""Passes that need neighbouring pixels: blocks with a halo, and sums over patches of pixels."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from hyperspy_specml.streaming._blocks import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyperspy_specml.streaming._passes import SpectrumStream


def map_with_halo(
    stream: SpectrumStream, function: Callable[..., Any], *, halo: int, label: str
) -> list[tuple[np.ndarray, Any]]:
    r"""Call a function on every block of a map together with the pixels around it.

    Parameters
    ----------
    stream
        The spectra.
    function
        Called as ``function(values, pixels, inner)``: the (\*grown, E) spectra of a block with its halo,
        their (\*grown,) flat indices, and the slices of the block itself in them.
    halo
        Pixels around each block; fewer at the borders of the map.
    label
        Name of the stage, for people.

    Returns
    -------
    for each block the flat indices of its pixels, and what the function returned
    """
    shape = stream.navigation_shape
    grown, more = [], []
    for block in stream.blocks:
        region = tuple(
            slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(block.region, shape, strict=True)
        )
        inner = (slice(s.start - g.start, s.stop - g.start) for s, g in zip(block.region, region, strict=True))
        grown.append(Block(region))
        more.append((tuple(g.stop - g.start for g in region), tuple(inner)))
    found = stream.map_blocks(grown, _Shaped(function), label=label, more=more)
    return [(block.pixels(shape), part) for block, part in zip(stream.blocks, found, strict=True)]


def map_boxes(
    stream: SpectrumStream, blocks: Sequence[Block], function: Callable[..., Any], *, label: str
) -> list[Any]:
    """Call ``function(rows, pixels)`` on boxes of the map that may overlap, and read nothing else.

    Parameters
    ----------
    stream
        The spectra.
    blocks
        The boxes.
    function
        Called with the (n, E) spectra and their flat indices.
    label
        Name of the stage, for people.
    """
    return list(stream.map_blocks(blocks, function, label=label))


def patch_sums(
    stream: SpectrumStream,
    used: np.ndarray,
    channels: np.ndarray,
    *,
    sides: tuple[int, ...],
    label: str,
    beside: Callable[[np.ndarray], np.ndarray] | None = None,
    n_beside: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Sum the spectra of patches of pixels, in one pass.

    Parameters
    ----------
    stream
        The spectra.
    used
        (n_pixels,) bool; others do not count.
    channels
        (E,) bool, the channels to keep.
    sides
        Pixels along each side of a patch, in array order.
    label
        Name of the stage, for people.
    beside, n_beside
        Function from (n, E kept) spectra to (n, n_beside) further numbers, which are summed too.

    Returns
    -------
    (\*patches, E kept + n_beside) float32 sums, and the (\*patches,) number of pixels in each
    """
    shape = stream.navigation_shape
    grid = tuple(-(-n // side) for n, side in zip(shape, sides, strict=True))
    parts = stream.fold(_SumPatches(shape, grid, sides, used, channels, beside), operator.add, label=label)
    sums = np.zeros((int(np.prod(grid)), int(channels.sum()) + n_beside), np.float32)
    counts = np.zeros(len(sums), np.int64)
    for patches, part, n in parts:
        sums[patches] += part
        counts[patches] += n
    return sums.reshape(*grid, -1), counts.reshape(grid)


@dataclass(frozen=True)
class _Shaped:
    """Calls a function on the rows of a block in the shape that they have in the map."""

    function: Callable[..., Any]

    def __call__(self, rows: np.ndarray, pixels: np.ndarray, sizes: tuple[int, ...], inner: Any) -> Any:
        return self.function(rows.reshape(*sizes, -1), pixels.reshape(sizes), inner)


@dataclass(frozen=True)
class _SumPatches:
    """The block function of `patch_sums`: an object, so that it travels to other processes."""

    shape: tuple[int, ...]
    grid: tuple[int, ...]
    sides: tuple[int, ...]
    used: np.ndarray
    channels: np.ndarray
    beside: Callable[[np.ndarray], np.ndarray] | None

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        use = self.used[pixels]
        rows = rows[:, self.channels] if not self.channels.all() else rows
        rows = (rows if use.all() else rows[use]).astype(np.float32)
        if self.beside:
            rows = np.concatenate([rows, self.beside(rows)], axis=1)
        place = tuple(
            index // side for index, side in zip(np.unravel_index(pixels[use], self.shape), self.sides, strict=True)
        )
        patches, member = np.unique(np.ravel_multi_index(place, self.grid), return_inverse=True)
        ones = np.ones(len(member), np.float32)
        members = scipy.sparse.csr_array((ones, (member, np.arange(len(member)))), (len(patches), len(member)))
        return [(patches, members @ rows, np.bincount(member, minlength=len(patches)))]
