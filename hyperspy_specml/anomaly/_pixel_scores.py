"""Statistics of single pixels, as the literature has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import Normal


@dataclass(frozen=True)
class PixelBlock:
    """The block function of the literature's statistics: the value, then the coefficients.

    Attributes
    ----------
    normal
        Model of the normal.
    channels
        (whole axis,) bool channels in use.
    level
        Mean counts per channel.
    statistic
        "squared_error", "deviance" or "rx", whose value is made of the coefficients of all pixels later.
    """

    normal: Normal
    channels: np.ndarray
    level: float
    statistic: str

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        rows = rows[:, self.channels].astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not used may not be finite
            coefficients = self.normal.coefficients(rows)
            expected = self.normal.model.basis.spectra(coefficients)
            noise = self.normal.noise
            if self.statistic == "deviance":
                expected = np.maximum(expected, np.float32(1e-3 * max(self.level, 1e-30)))
                value = noise.deviance(rows, expected, np.maximum(noise.variance(expected), 1e-30))
            else:
                value = ((rows - expected) ** 2).sum(axis=1, dtype=np.float64)
        return np.column_stack([value, coefficients])
