"""Noise models: how values vary about their mean, how to split them, how to score a prediction.

All models keep one protocol, so that nothing else in the package asks which noise it deals with. A fold
of fraction f has mean f * mu and variance f * variance(mu), and is independent of the other folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hyperspy_specml.statistics._thinning import split_gaussian, thin_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

# A prediction below this share of the channel's mean is scored as if it were there: one count where a
# candidate promised none must not decide a comparison. The same floor serves all candidates.
PREDICTION_FLOOR = 1e-3

_SPARSE = 0.15  # share of channels with counts below which only those are visited


class NoiseModel(Protocol):
    """What the rest of the package needs to know about noise."""

    @property
    def name(self) -> str:
        """Name, as users give it."""
        ...

    @property
    def correlation(self) -> tuple[float, ...]:
        """Correlation of the noise of channels 0, 1, 2, ... apart."""
        ...

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """Return the noise variance where the mean is `mean`; same shape, never negative."""
        ...

    def split(
        self, values: np.ndarray, pixels: np.ndarray, fractions: Sequence[float], *, seed: int, stream: int,
        mean: np.ndarray | None = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """Split (n, E) values into independent folds that sum to them."""
        ...

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return (n,) deviances of (n, E) values of a fold from its predicted mean, float64."""
        ...

    def to_dict(self) -> dict:
        """Return name and parameters as plain numbers (for reports and model files)."""
        ...


@dataclass(frozen=True)
class PoissonNoise:
    """Independent counts: the variance is the mean."""

    name: str = "poisson"
    correlation: tuple[float, ...] = (1.0,)

    def variance(self, mean: np.ndarray) -> np.ndarray:
        """Return the mean itself, negative values as 0."""
        return np.maximum(mean, 0)

    def split(
        self, values: np.ndarray, pixels: np.ndarray, fractions: Sequence[float], *, seed: int, stream: int,
        mean: np.ndarray | None = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """Thin the counts binomially: exactly independent folds."""
        return thin_counts(values, pixels, fractions, seed=seed, stream=stream)

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return the Poisson deviance of each spectrum; `prediction` must be positive where counts are."""
        prediction = prediction.astype(np.float32, copy=False)
        if np.count_nonzero(fold) > _SPARSE * fold.size:
            # The three terms are combined before summing: their sum is small where each is large.
            ratio = np.divide(fold, prediction, dtype=np.float32)
            terms = np.log(np.maximum(ratio, np.finfo(np.float32).tiny, out=ratio), out=ratio)
            terms *= fold
            terms += prediction - fold
            return 2 * terms.sum(axis=1, dtype=np.float64)
        # y log(y / mu) vanishes elsewhere. NumPy finds what is true in a flat array 15 times faster than what
        # is not zero in a table.
        where = np.flatnonzero(fold != 0)
        y = fold.reshape(-1)[where].astype(np.float32)
        terms = y * np.log(y / prediction.reshape(-1)[where]) - y
        counted = np.bincount(where // fold.shape[1], weights=terms, minlength=len(fold))
        return 2 * (counted + prediction.sum(axis=1))

    def to_dict(self) -> dict:
        """Return the name; a Poisson model has no parameters."""
        return {"name": self.name}


@dataclass(frozen=True)
class PoissonGaussianNoise:
    """Variance = gain * (mean - offset) + readout**2, correlated along energy.

    Attributes
    ----------
    gain
        Signal units per primary count, >= 0; 0 makes the noise the same everywhere ("gaussian").
    readout
        Standard deviation of the signal-independent part, in signal units, >= 0.
    correlation
        Correlation of the noise of channels 0, 1, 2, ... apart; starts with 1.
    offset
        Signal without any counts (a dark level that was not subtracted), in signal units; 0 where the
        data do not show it.
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
        self, values: np.ndarray, pixels: np.ndarray, fractions: Sequence[float], *, seed: int, stream: int,
        mean: np.ndarray | None = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """Split with synthetic noise of the model's covariance at `mean` (needed if gain > 0)."""
        variance = self.variance(np.zeros(1) if mean is None else mean)
        return split_gaussian(
            values, pixels, fractions, variance=variance, correlation=np.array(self.correlation),
            seed=seed, stream=stream,
        )  # fmt: skip

    def deviance(self, fold: np.ndarray, prediction: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
        """Return the squared errors over `variance` (of the fold, fixed before), summed over channels."""
        return np.asarray(np.sum((fold - prediction) ** 2 / variance, axis=1, dtype=np.float64))

    def to_dict(self) -> dict:
        """Return name, gain, readout, lag correlation and offset."""
        return {
            "name": self.name,
            "gain": self.gain,
            "readout": self.readout,
            "correlation": list(self.correlation),
            "offset": self.offset,
        }


def gaussian_noise(readout: float, correlation: tuple[float, ...] = (1.0,)) -> PoissonGaussianNoise:
    """Return noise of the same variance everywhere."""
    return PoissonGaussianNoise(0.0, readout, correlation, name="gaussian")


def noise_from_dict(parameters: dict) -> NoiseModel:
    """Return the noise model that `NoiseModel.to_dict` described."""
    if parameters["name"] == "poisson":
        return PoissonNoise()
    return PoissonGaussianNoise(
        gain=float(parameters["gain"]),
        readout=float(parameters["readout"]),
        correlation=tuple(parameters["correlation"]),
        offset=float(parameters["offset"]),
        name=parameters["name"],
    )
