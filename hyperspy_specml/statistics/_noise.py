"""Noise models: how values vary about their mean, how to split them, how to score a prediction.

All models have the same methods, so that nothing else in the package asks which noise it deals with. A fold
of fraction f has mean f * mu and variance f * variance(mu), and is independent of the other folds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.statistics._thinning import split_gaussian, thin_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

# Smallest prediction that is scored, relative to the mean of the channel: one count where a candidate
# predicted none must not decide a comparison. The same floor serves all candidates.
PREDICTION_FLOOR = 1e-3
# Fraction of values above zero up to which only these are visited, which is faster then.
_SPARSE = 0.15


@dataclass(frozen=True)
class PoissonNoise:
    """Independent counts: the variance is the mean.

    Attributes
    ----------
    name
        As users give it.
    correlation
        Correlation of the noise of channels 0, 1, 2, ... apart.
    """

    name: str = "poisson"
    correlation: tuple[float, ...] = (1.0,)

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """Return the mean itself, negative values as 0."""
        return np.maximum(mean, 0)

    def split(
        self,
        values: np.ndarray,
        pixels: np.ndarray,
        fractions: Sequence[float],
        *,
        seed: int,
        stream: int,
        mean: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Split (n, E) counts into independent folds that sum to them; see `thin_counts`."""
        return thin_counts(values, pixels, fractions, seed=seed, stream=stream)

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return the (n,) float64 deviances of (n, E) values of a fold from its predicted mean.

        The prediction must be positive where counts are.
        """
        prediction = prediction.astype(np.float32, copy=False)
        if np.count_nonzero(fold) > _SPARSE * fold.size:
            # The terms of the sum are large and cancel: they are combined channel by channel.
            ratio = np.divide(fold, prediction, dtype=np.float32)
            terms = np.log(np.maximum(ratio, np.finfo(np.float32).tiny, out=ratio), out=ratio)
            terms *= fold
            terms += prediction - fold
            return 2 * terms.sum(axis=1, dtype=np.float64)
        # Without counts y log(y / mu) is 0. NumPy finds what is true in a flat array 15 times faster than
        # what is not zero in a table.
        where = np.flatnonzero(fold != 0)
        y = fold.reshape(-1)[where].astype(np.float32)
        terms = y * np.log(y / prediction.reshape(-1)[where]) - y
        counted = np.bincount(where // fold.shape[1], weights=terms, minlength=len(fold))
        return 2 * (counted + prediction.sum(axis=1))

    def to_dict(self) -> dict:
        """Return the name, for reports and model files: there are no parameters."""
        return {"name": self.name}


@dataclass(frozen=True)
class PoissonGaussianNoise:
    """Variance = gain * (mean - offset) + readout**2, correlated along energy.

    Attributes
    ----------
    gain
        Signal units per primary count, >= 0; 0 makes the noise the same everywhere ("gaussian").
    readout
        Standard deviation of the part that does not depend on the signal, in signal units, >= 0.
    correlation
        Correlation of the noise of channels 0, 1, 2, ... apart; starts with 1.
    offset
        Signal without any counts (a dark level that was not subtracted), in signal units; 0 where the
        data do not show one.
    """

    gain: float
    readout: float
    correlation: tuple[float, ...] = (1.0,)
    offset: float = 0.0
    name: str = "poisson-gaussian"

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """Return gain * (mean - offset) + readout**2, means below the offset taken as the offset."""
        return np.asarray(self.gain * np.maximum(mean - self.offset, 0) + self.readout**2)

    def split(
        self,
        values: np.ndarray,
        pixels: np.ndarray,
        fractions: Sequence[float],
        *,
        seed: int,
        stream: int,
        mean: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Split (n, E) values into independent folds that sum to them; see `split_gaussian`.

        The variance is that at `mean`, (n, E), which is needed if gain > 0.
        """
        variance = self.variance(np.zeros(1) if mean is None else mean)
        correlation = np.array(self.correlation)
        return split_gaussian(
            values, pixels, fractions, variance=variance, correlation=correlation, seed=seed, stream=stream
        )

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return the (n,) float64 squared errors over `variance` (of the fold), summed over channels."""
        return np.asarray(np.sum((fold - prediction) ** 2 / variance, axis=1, dtype=np.float64))

    def to_dict(self) -> dict:
        """Return name and parameters as plain numbers, for reports and model files."""
        return {"name": self.name} | asdict(self) | {"correlation": list(self.correlation)}


NoiseModel = PoissonNoise | PoissonGaussianNoise
"""Any noise model."""


def gaussian_noise(readout: float, correlation: tuple[float, ...] = (1.0,)) -> PoissonGaussianNoise:
    """Return noise of the same variance everywhere."""
    return PoissonGaussianNoise(0.0, readout, correlation, name="gaussian")


def noise_from_dict(parameters: dict) -> NoiseModel:
    """Return the noise model that its `to_dict` described."""
    if parameters["name"] == "poisson":
        return PoissonNoise()
    numbers = {key: float(parameters[key]) for key in ("gain", "readout", "offset")}
    return PoissonGaussianNoise(**numbers, correlation=tuple(parameters["correlation"]), name=parameters["name"])
