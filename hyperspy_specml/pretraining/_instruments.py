"""Recorded counts as another instrument would have counted them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Real

import numpy as np

# Counts that are moved one by one, at most; of more, spectra are interpolated.
_MOST_COUNTS = 4_000_000
# What is smaller than these: other values have no meaning.
_BELOW = {"dispersion": 0.5, "slope": 1.0}


@dataclass(frozen=True)
class Instruments:
    """How much instruments differ: what an encoder shall be indifferent to.

    Every count is moved, or lost, on its own, so that Poisson counts stay Poisson counts.

    Attributes
    ----------
    offset
        Standard deviation of the zero of the energy axis, in channels.
    dispersion
        Standard deviation of the relative dispersion, about the middle of the axis.
    resolution
        Largest standard deviation of a further blur, in channels.
    slope
        Largest part of the counts that is lost at one end of the axis: efficiency, absorption.
    """

    offset: float = 1.0
    dispersion: float = 0.003
    resolution: float = 1.0
    slope: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values that no instrument has."""
        from hyperspy_specml.exceptions import OptionError

        for setting in fields(self):
            name, value, most = setting.name, getattr(self, setting.name), _BELOW.get(setting.name, np.inf)
            if not isinstance(value, Real) or not 0 <= float(value) < most:
                below = "" if most == np.inf else f" to below {most:g}"
                raise OptionError(
                    f"Instruments({name}={value!r}) needs a number from 0{below}, e.g. {name}={setting.default}."
                )

    def applied(self, rows: np.ndarray, rng: np.random.Generator, *, counts: bool = True) -> np.ndarray:
        """Return (n, E) spectra of as many instruments, float32.

        Parameters
        ----------
        rows
            (n, E) spectra.
        rng
            Source of randomness.
        counts
            Whether they are whole numbers of counts.
        """
        n, size = rows.shape
        place = (np.arange(size) - (size - 1) / 2) / max(size - 1, 1)  # -1/2 to 1/2
        shift, stretch = rng.standard_normal((2, n)) * np.array([[self.offset], [self.dispersion * size]])
        moved_by = shift[:, None] + stretch[:, None] * place
        blur = self.resolution * rng.random((n, 1))[:, 0]
        sides = np.where(rng.random((n, 1)) < 0.5, 0.5 + place, 0.5 - place)
        kept = 1 - self.slope * rng.random((n, 1)) * sides
        if counts and rows.sum() <= _MOST_COUNTS:
            return _counts_moved(rng.binomial(rows.astype(np.int64), kept), moved_by, blur, rng)
        return _interpolated(rows * kept, moved_by, blur)


def _counts_moved(rows: np.ndarray, by: np.ndarray, blur: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move every count by its own number of channels; what leaves the axis is lost."""
    n, size = rows.shape
    owner = np.repeat(np.arange(rows.size), rows.reshape(-1))
    row, channel = owner // size, owner % size
    exact = channel + by.reshape(-1)[owner] + blur[row] * rng.standard_normal(len(owner))
    whole = np.floor(exact + rng.random(len(owner))).astype(np.int64)  # right on average
    inside = (whole >= 0) & (whole < size)
    found = np.bincount(row[inside] * size + whole[inside], minlength=n * size)
    return found.reshape(n, size).astype(np.float32)


def _interpolated(rows: np.ndarray, by: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Move spectra that are no counts, or too many."""
    from scipy.ndimage import gaussian_filter1d

    channels = np.arange(rows.shape[1])
    found = [
        gaussian_filter1d(np.interp(channels, channels + at, row), width) if width > 0 else row
        for row, at, width in zip(rows, by, blur, strict=True)
    ]
    return np.stack(found).astype(np.float32)
