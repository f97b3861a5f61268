"""How much of a map may hold a phase that no spectrum has shown yet, and orders of scanning that allow to say so.

A raster scan sees one end of the map first: what it has not shown may fill the other end, so nothing can be said.
After n pixels spread evenly over the map without a new phase, a phase that covers more than the bound would have
been met with the stated confidence.

References
----------
B. D. Jovanovic, P. S. Levy, Am. Stat. 51 (1997) 137 (the rule of three: no event in n trials).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperspy_specml.exceptions import OptionError

ORDERS = ("raster", "grid", "random")
# Probability that a phase above the bound stays unseen.
_RISK = 0.05
# Tiles along each axis in which scanned pixels are counted, at most, and pixels in a tile, at least on average.
_TILES, _PER_TILE = 4, 8
# Part of the mean number of pixels that every tile must have: what is scanned is spread evenly then.
_LEAST_OF_MEAN = 0.5


@dataclass(frozen=True)
class UnseenArea:
    """What the scan so far says of phases that it has not met.

    Attributes
    ----------
    bound
        Part of the map, 0 to 1, that a phase not yet seen covers at most; None where nothing can be said.
    confidence
        Of the bound.
    n_pixels
        Scanned since the last new phase.
    n_phases
        Met so far.
    statement
        The same in words.
    """

    bound: float | None
    confidence: float
    n_pixels: int
    n_phases: int
    statement: str

    def __str__(self) -> str:
        """Return the statement."""
        return self.statement


def scan_order(shape: tuple[int, ...], kind: str = "grid", *, random_state: int = 0) -> np.ndarray:
    """Return the order in which to scan a map.

    Parameters
    ----------
    shape
        Pixels along the scan axes, (nx, ny) as in HyperSpy.
    kind
        "raster": line by line. "grid": coarse to fine, every pixel once: first every 2^k-th pixel of every 2^k-th
        line, then the pixels between. "random": in random order.
    random_state
        Seed of the random order.

    Returns
    -------
    (n_pixels, number of scan axes) int positions (x, y), as `LiveMonitor.update` takes them

    Raises
    ------
    OptionError
        The shape holds no pixels, or the kind is unknown.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> specml.scan_order((4, 2), kind="grid").tolist()
    [[0, 0], [2, 0], [1, 0], [3, 0], [0, 1], [1, 1], [2, 1], [3, 1]]
    """
    if kind not in ORDERS:
        raise OptionError.unknown("kind", kind, ORDERS)
    if not shape or any(int(n) != n or n < 1 for n in shape):
        raise OptionError(f"scan_order(shape={shape!r}) needs the pixels along each scan axis, e.g. (64, 64).")
    n = int(np.prod(shape))
    flat = np.arange(n)
    if kind == "random":
        flat = np.random.default_rng(random_state).permutation(n)
    positions = np.stack(np.unravel_index(flat, shape[::-1])[::-1], axis=1)
    if kind == "grid":
        positions = positions[np.argsort(-_step(positions, shape), kind="stable")]
    return positions


def _step(positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return (n,) the largest power of two that divides all indices of a position; the coarsest grid for 0."""
    coarsest = 1 << max(0, int(np.log2(max(1, min(n for n in shape if n > 1) if max(shape) > 1 else 1))))
    together = np.bitwise_or.reduce(positions.astype(np.int64), axis=1) | coarsest
    return together & -together


def is_even(visited: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Return whether scanned pixels are spread evenly over the map.

    Parameters
    ----------
    visited
        (n_pixels,) bool.
    shape
        Of the map, in array order.
    """
    per_axis = (int(visited.sum()) / _PER_TILE) ** (1 / len(shape))
    tiles = [int(np.clip(per_axis, 1, min(_TILES, size))) for size in shape]
    place = np.indices(shape).reshape(len(shape), -1)
    tile = np.zeros(len(visited), int)
    for index, size, n in zip(place, shape, tiles, strict=True):
        tile = tile * n + index * n // size
    part = np.bincount(tile, visited) / np.bincount(tile)
    return bool(part.min() >= _LEAST_OF_MEAN * part.mean())


def unseen_area(order: str, since: np.ndarray, shape: tuple[int, ...], n_phases: int) -> UnseenArea:
    """Return what may be unseen.

    Parameters
    ----------
    order
        "raster" or any other.
    since
        (n_pixels,) bool, the pixels scanned since the last new phase.
    shape
        Of the map, in array order.
    n_phases
        Number of phases met so far.
    """
    n, confidence = int(since.sum()), 1 - _RISK
    if order == "raster":
        text = (
            "no statement in raster order: what lies below the last line has not been looked at. Scan coarse to fine, "
            "specml.scan_order(shape, kind='grid'), to have one"
        )
        return UnseenArea(None, confidence, n, n_phases, text)
    if not n_phases or not n or not is_even(since, shape):
        text = "no statement yet: the pixels since the last new phase are not spread evenly over the map"
        return UnseenArea(None, confidence, n, n_phases, text)
    bound = min(1.0, float(np.log((n_phases + 1) / _RISK) / n))
    text = (
        f"{100 * confidence:.0f} % sure: no phase not yet met covers more than {100 * bound:.2g} % of the map "
        f"({n} pixels since the last new one)"
    )
    return UnseenArea(bound, confidence, n, n_phases, text)
