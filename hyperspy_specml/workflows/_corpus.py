"""What `specml.pretrain` learns from: an even part of all spectra, and a fingerprint of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import TooFewSpectraError
from hyperspy_specml.pretraining import Source
from hyperspy_specml.signals import below_first_line, spectra_of
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.workflows._encoded import OfLines, energies_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.pretraining import SpectralGrid

# Spectra kept of the whole corpus, and their bytes, at most.
_CORPUS, _MOST_BYTES = 200_000, 500_000_000
# Spectra kept of a signal, at least; only of 100,000 signals and more that is more than their part.
_LEAST = 2
# Single precision in the byte order of files: bytes that are the same on every machine.
_SINGLE = np.dtype("<f4")


def read(
    signals: Sequence[BaseSignal], grids: Sequence[SpectralGrid], patch: int
) -> tuple[list[Source], list[np.ndarray]]:
    """Read a part of every signal, block by block.

    Parameters
    ----------
    signals, grids
        Signals, and the grid that each is laid on.
    patch
        Channels in a patch.

    Returns
    -------
    the spectra, and of each signal the (n, 32) uint8 digests of its spectra as they were read

    Raises
    ------
    TooFewSpectraError
        Fewer than two spectra of a signal are finite.
    """
    numbers = [max(1, signal.axes_manager.navigation_size) for signal in signals]
    sources, digests = [], []
    for signal, grid, most in zip(signals, grids, parts(numbers, [grid.size for grid in grids]), strict=True):
        _, centres = energies_of(signal)
        spectra = spectra_of(signal, method="pretrain").array if signal.axes_manager.navigation_dimension else None
        array = signal.data.reshape(1, -1) if spectra is None else spectra
        rows, digest, counts = _some(array, most, grid, centres, below_first_line(signal))
        if len(rows) < 2:
            raise TooFewSpectraError(f"pretrain([{signal!r}]): fewer than two spectra hold finite values.")
        sources.append(Source(grid, grid.covered(centres, patch), rows, counts))
        digests.append(digest)
    return sources, digests


def parts(numbers: Sequence[int], channels: Sequence[int]) -> list[int]:
    """Return how many spectra to keep of each source: of all an even part, and what small ones leave for the others.

    Parameters
    ----------
    numbers
        Of the spectra of each source.
    channels
        Of a spectrum of each on its grid.
    """
    # What a spectrum takes of the whole: of the number of spectra, or of the bytes, whichever ends first.
    costs = [max(_MOST_BYTES, 4 * size * _CORPUS) for size in channels]
    left, kept = _CORPUS * _MOST_BYTES, [0] * len(numbers)
    by_need = sorted(range(len(numbers)), key=lambda k: numbers[k] * costs[k])
    for rank, k in enumerate(by_need):
        kept[k] = min(numbers[k], max(_LEAST, left // (len(numbers) - rank) // costs[k]))
        left -= kept[k] * costs[k]
    return kept


@dataclass(frozen=True, eq=False)
class _Part:
    """Spectra of a block: flat indices, spectra on the grid, digests, and whether they are whole and not negative."""

    pixels: np.ndarray
    rows: np.ndarray
    digests: np.ndarray
    counts: bool


@dataclass(frozen=True)
class _Laid:
    """The block function that lays every `step`-th spectrum on a grid."""

    step: int
    matrix: Any

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> list[_Part]:
        kept = pixels % self.step == 0
        some, pixels = rows[kept].astype(_SINGLE, copy=False), pixels[kept]
        finite = np.isfinite(some).all(axis=1)
        some, pixels = some[finite], pixels[finite]
        whole = rows.dtype.kind in "ui" or all((row == np.floor(row)).all() for row in some)
        digests = np.frombuffer(b"".join(hashlib.sha256(row).digest() for row in some), np.uint8).reshape(-1, 32)
        return [
            _Part(pixels, (some @ self.matrix).astype(np.float32), digests, whole and bool(some.min(initial=0) >= 0))
        ]


def _some(
    array: Any, most: int, grid: SpectralGrid, centres: np.ndarray, below: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return every n-th spectrum in the order of the pixels, whatever the blocks, its digest, and whether of counts."""
    stream = SpectrumStream(array)
    laid = OfLines(_Laid(-(-stream.n_pixels // most), grid.matrix(centres)), below)
    blocks = stream.fold(laid, list.__add__, label="Read spectra")
    order = np.sort(np.concatenate([block.pixels for block in blocks]))
    rows, digests = np.empty((len(order), grid.size), np.float32), np.empty((len(order), 32), np.uint8)
    counts = all(block.counts for block in blocks)
    while blocks:
        block = blocks.pop()  # let go: all spectra are never there twice
        at = np.searchsorted(order, block.pixels)
        rows[at], digests[at] = block.rows, block.digests
    return rows, digests, counts


def fingerprint(signals: Sequence[BaseSignal], learnt: Iterable[str | np.ndarray]) -> str:
    """Return a fingerprint of a corpus, the same on every machine and for every unit, type and chunks of the data.

    Parameters
    ----------
    signals
        Whose energies are known.
    learnt
        What is learnt from: digests of spectra, names of elements with their lines or edges, a library.
    """
    digest = hashlib.sha256()
    for signal in signals:
        units, energies = energies_of(signal)
        _add(digest, units)
        _add(digest, energies)
    for part in learnt:
        _add(digest, part)
    return digest.hexdigest()[:16]


def _add(digest: Any, part: str | np.ndarray) -> None:
    """Add a text, or an array in single precision: the last digits of computed energies differ between machines."""
    content = part.encode() if isinstance(part, str) else part.astype(_SINGLE).tobytes()
    digest.update(repr(np.shape(part)).encode() + content)
