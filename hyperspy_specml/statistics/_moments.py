"""One-pass second moments of spectra, exact for counts and mergeable."""

from __future__ import annotations

import sys
import timeit
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Largest sum of whole numbers that is exact in float32.
_FLOAT32_EXACT = 1 << 24
# Number of panels that a symmetric integer product is computed in: 9/16 of the work of the whole matrix.
_PANELS = 8
# Number of multiplications of a whole map from which its integer products are worth loading torch: they save 10 s
# where that takes 1.5 s and half a gigabyte of memory.
_WORTH_TORCH = 1e12
# Time of a small integer product over that of floats from which integers are emulated; a large one takes seconds then.
_EMULATED = 5.0
# Number of values that are converted to float at a time.
_SLAB = 1 << 22


@dataclass(frozen=True)
class Moments:
    """Sums over spectra. N spectra, E channels.

    Attributes
    ----------
    n
        Number of spectra.
    sums
        (E,) float64, sum of the spectra.
    products
        (E, E) float64, sum of their outer products; of wide spectra only its (E,) diagonal.
    rows
        (m, E) sample of wide spectra, which second moments are computed from; None for others.
    """

    n: int
    sums: np.ndarray
    products: np.ndarray
    rows: np.ndarray | None = None

    def absorb(self, other: Moments) -> Moments:
        """Merge with the moments of other spectra, both without rows.

        The products are added to those of this object, which must not be used again.
        """
        products = np.add(self.products, other.products, out=self.products)
        return Moments(self.n + other.n, self.sums + other.sums, products)

    @property
    def mean(self) -> np.ndarray:
        """(E,) mean spectrum."""
        return self.sums / max(1, self.n)

    @property
    def squares(self) -> np.ndarray:
        """(E,) sums of squares."""
        return self.products if self.products.ndim == 1 else np.diag(self.products)

    @property
    def n_second(self) -> int:
        """Number of spectra in the second moments."""
        return self.n if self.rows is None else len(self.rows)

    def scaled(self, factor: float) -> Moments:
        """Return the moments of the spectra times a factor."""
        rows = None if self.rows is None else self.rows * np.float32(factor)
        return Moments(self.n, self.sums * factor, self.products * factor**2, rows)

    def covariance(self, *, centre: bool) -> np.ndarray:
        """Return the (E, E) mean outer product, about the mean spectrum if `centre`."""
        mean_product = self.products / max(1, self.n)
        return mean_product - np.outer(self.mean, self.mean) if centre else mean_product

    def select(self, channels: np.ndarray) -> Moments:
        """Return the moments of some of the channels, without rows.

        Parameters
        ----------
        channels
            Bool or index array.
        """
        products = self.products[channels] if self.products.ndim == 1 else self.products[np.ix_(channels, channels)]
        return Moments(self.n, self.sums[channels], products)


def row_slabs(shape: tuple[int, ...], n_values: int) -> list[slice]:
    """Return slices of (n, E) spectra with about so many values each; one slice if there are none.

    Parameters
    ----------
    shape
        Shape (n, E).
    n_values
        Values in a slab, about; it has at least one spectrum.
    """
    step = max(1, n_values // max(1, shape[1]))
    return [slice(start, min(start + step, shape[0])) for start in range(0, max(1, shape[0]), step)]


def are_whole(rows: np.ndarray) -> bool:
    """Return whether all values are whole numbers.

    Parameters
    ----------
    rows
        (n, E) values of any real dtype.
    """
    slabs = row_slabs(rows.shape, _SLAB)
    return rows.dtype.kind != "f" or all(bool((rows[some] == np.floor(rows[some])).all()) for some in slabs)


def wide_moments(rows: np.ndarray) -> Moments:
    """Return the moments of (N, E) spectra without their products.

    Parameters
    ----------
    rows
        Finite real values of any dtype.
    """
    squares = np.zeros(rows.shape[1])
    for some in row_slabs(rows.shape, _SLAB):
        slab = rows[some].astype(np.float64)
        squares += np.einsum("ij,ij->j", slab, slab)
    return Moments(len(rows), sum_exactly(rows, axis=0), squares)


def moments_of(rows: np.ndarray, *, kernel: str = "auto", n_spectra: int = 0) -> Moments:
    """Return the moments of (N, E) spectra.

    Parameters
    ----------
    rows
        Finite real values of any dtype.
    kernel
        "auto": exact integer products where they are fast, else float32 where it is exact, else
        float64. "float32" forces float32 products (for comparison; sums below 2**24 stay exact).
    n_spectra
        Of the whole map, if there are more than these: it decides whether loading torch pays.

    Returns
    -------
    Moments that agree with float64 arithmetic to about 1e-7 or better (exactly for small counts)
    """
    products = _products(rows, np.float32) if kernel == "float32" else _exact_products(rows, n_spectra)
    return Moments(len(rows), sum_exactly(rows, axis=0), products)


def sum_exactly(rows: np.ndarray, *, axis: int) -> np.ndarray:
    """Return the sums of (N, E) values along an axis, float64.

    Bytes are added as whole numbers, in half the time.

    Parameters
    ----------
    rows
        Values of any real dtype.
    axis
        0: over spectra, 1: over channels.
    """
    few = rows.dtype == np.uint8 and rows.shape[axis] < 1 << 24
    return rows.sum(axis=axis, dtype=np.uint32 if few else np.float64).astype(np.float64, copy=False)


def _exact_products(rows: np.ndarray, n_spectra: int) -> np.ndarray:
    if rows.size and rows.dtype.kind in "ui":
        low, high = int(rows.min()), int(rows.max())
        offset = 128 if high > 127 else 0
        if -128 <= low - offset and high - offset <= 127 and _integer_kernel_pays(rows, n_spectra):
            return _int8_products(rows, offset)
        n_exact = _FLOAT32_EXACT // max(abs(low), abs(high), 1) ** 2
        if n_exact >= 512:  # with fewer spectra in a product float64 is faster
            return _products(rows, np.float32, n_exact)
    return _products(rows, np.float64)


def _products(rows: np.ndarray, dtype: type, n_slab: int = _SLAB) -> np.ndarray:
    """Return the (E, E) sum of outer products, computed in this precision over `n_slab` rows at most."""
    n_channels = rows.shape[1]
    total = np.zeros((n_channels, n_channels))
    step = min(n_slab, max(512, _SLAB // max(1, n_channels)))
    for start in range(0, len(rows), step):
        slab: np.ndarray = rows[start : start + step].astype(dtype)
        total += slab.T @ slab  # NumPy computes A.T @ A as a symmetric product, half the work
    return total


def _int8_products(rows: np.ndarray, offset: int) -> np.ndarray:
    import torch

    # The offset brings counts above 127 into int8; it is taken out again below. Sums of 2**16 products of
    # magnitude 2**14 fit into int32.
    n_channels = rows.shape[1]
    total = np.zeros((n_channels, n_channels))
    panel = -(-n_channels // _PANELS // 32) * 32
    for start in range(0, len(rows), 1 << 16):
        slab = rows[start : start + (1 << 16)]
        shifted = (slab.astype(np.int16) - offset).astype(np.int8) if offset else slab.astype(np.int8)
        tensor = torch.from_numpy(shifted)
        for i in range(0, n_channels, panel):  # panels on and right of the diagonal: the rest is their mirror
            total[i : i + panel, i:] += torch._int_mm(tensor[:, i : i + panel].T, tensor[:, i:]).numpy()
        if offset:
            sums = shifted.sum(axis=0, dtype=np.float64)
            total += offset * (sums[:, None] + sums[None]) + float(offset) ** 2 * len(slab)
    for i in range(0, n_channels, panel):
        total[i:, i : i + panel] = total[i : i + panel, i:].T
    return total


def _integer_kernel_pays(rows: np.ndarray, n_spectra: int) -> bool:
    work = max(n_spectra, len(rows)) * rows.shape[1] ** 2
    if work < _WORTH_TORCH and "torch" not in sys.modules:
        return False
    return rows.shape[1] >= 128 and len(rows) >= 128 and _integer_kernel_is_fast()


@lru_cache(maxsize=1)
def _integer_kernel_is_fast() -> bool:
    """Time both kernels on products: CPUs without 8-bit dot products emulate them, for seconds where others need ms."""
    try:
        integer, single = _kernel_seconds(256, 128)
        if integer > _EMULATED * single:
            return False
        integer, single = _kernel_seconds(2048, 512)
    except (ImportError, AttributeError, RuntimeError):  # a private function of torch, which may disappear
        return False
    return integer < single


def _kernel_seconds(n: int, n_channels: int) -> tuple[float, float]:
    """Return the times of an integer and of a float32 product of (n, n_channels) values with themselves."""
    import torch

    values, tensor = np.ones((n, n_channels), np.float32), torch.ones((n, n_channels), dtype=torch.int8)
    # The shortest of a few runs: the first one warms up, others may share the CPU.
    integer, single = (
        min(timeit.repeat(product, number=1))
        for product in (lambda: torch._int_mm(tensor.T, tensor), lambda: values.T @ values)
    )
    return integer, single
