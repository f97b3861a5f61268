"""Second moments while spectra arrive: exact, at every block, in a few milliseconds.

They say all of the principal components, so these are computed when they are asked for, and do not lag behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg.blas

from hyperspy_specml.statistics import Moments, moments_of

if TYPE_CHECKING:
    from typing import Self

# Largest sum of whole numbers that is exact in float32, and spectra of other numbers that are summed in it at most.
_EXACT, _MOST_ROWS = 1 << 24, 4096


class StreamedMoments:
    """Sums and outer products of all spectra so far. E channels.

    Products of few counts are summed in float32, as long as that is exact, and half of the symmetric matrix only.

    Parameters
    ----------
    before
        Moments to begin with; they must not be used again.
    """

    def __init__(self, before: Moments) -> None:
        self._moments = before
        self._half: np.ndarray | None = None
        self._size, self._n_rows = 0.0, 0

    @classmethod
    def empty(cls, n_channels: int) -> Self:
        """Return those of no spectra."""
        return cls(Moments(0, np.zeros(n_channels), np.zeros((n_channels, n_channels))))

    def absorb(self, rows: np.ndarray) -> None:
        """Add (n, E) spectra."""
        size = 0.0  # that sums of products may have
        if rows.dtype.kind in "uib":
            size = len(rows) * float(max(int(rows.max()), -int(rows.min()))) ** 2
        if size >= _EXACT:
            self._moments = self._moments.absorb(moments_of(rows))
            return
        if self._size + size >= _EXACT or self._n_rows >= _MOST_ROWS:
            self._flush()
        if self._half is None:
            self._half = np.zeros(self._moments.products.shape, np.float32, order="F")
        values = np.asarray(rows, np.float32).T  # in Fortran's order, as the library wants it
        self._half = scipy.linalg.blas.ssyrk(1.0, values, beta=1.0, c=self._half, overwrite_c=True)
        self._size, self._n_rows = self._size + size, self._n_rows + len(rows)
        sums = self._moments.sums + rows.sum(axis=0, dtype=np.float64)
        self._moments = Moments(self._moments.n + len(rows), sums, self._moments.products)

    def _flush(self) -> None:
        if not self._n_rows:
            return
        assert self._half is not None
        upper = np.triu(self._half)
        self._moments.products[:] += upper
        self._moments.products[:] += np.triu(upper, 1).T
        self._half[:] = 0
        self._size, self._n_rows = 0.0, 0

    @property
    def moments(self) -> Moments:
        """The moments of all spectra so far, exact for counts; a copy."""
        self._flush()
        return Moments(self._moments.n, self._moments.sums, self._moments.products.copy())
