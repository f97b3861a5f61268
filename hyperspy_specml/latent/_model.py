"""Phases that a map was found to consist of: recognised again in the next one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from hyperspy_specml.latent._mixture import Mixture
from hyperspy_specml.latent._table import Recipe
from hyperspy_specml.latent._view import DIRECTIONS
from hyperspy_specml.models import FittedModel
from hyperspy_specml.statistics import PrincipalBasis, Resampling, noise_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.models import Parts
    from hyperspy_specml.statistics import NoiseModel

_LEAST_VARIANCE = 1e-6  # of a channel, relative to the mean: dead channels have no infinite weight


@dataclass(frozen=True)
class PhaseModel(FittedModel):
    """Spectra of phases and how they lie together. K phases, E channels in use.

    Attributes
    ----------
    spectra
        (K, E) sums over the spectra of each phase.
    n_spectra
        (K,) of how many.
    prior
        (K,) shares of the phases.
    strength
        Of the agreement of neighbours.
    mixed
        Part of the border pixels that are mixtures of two phases, before neighbours speak; negative without mixtures.
    width
        Channels in a group.
    error
        Relative error of the spectra in windows as wide as a line.
    names
        Of the phases.
    noise
        Noise model of a pixel.
    view
        (P, E) differences of spectra along which pixels differ most, for pictures.
    """

    spectra: np.ndarray = field(repr=False)
    n_spectra: np.ndarray = field(repr=False)
    prior: np.ndarray
    strength: float
    mixed: float
    width: int
    error: float
    names: tuple[str, ...]
    noise: NoiseModel
    view: np.ndarray = field(repr=False)
    kind = "phases"
    stored = ("spectra", "n_spectra", "prior", "view")

    @property
    def n_components(self) -> int:
        """Number of phases K."""
        return len(self.spectra)

    @property
    def basis(self) -> PrincipalBasis:  # type: ignore[override]  # made of the spectra, and not stored
        """The space that the spectra of the phases span."""
        mean = np.abs(self.mean)
        weights = 1 / np.sqrt(np.maximum(self.noise.variance(mean), _LEAST_VARIANCE * max(mean.mean(), 1e-300)))
        vectors, sizes, _ = np.linalg.svd(((self.spectra / self.n_spectra[:, None]) * weights).T, full_matrices=False)
        return PrincipalBasis(weights, np.zeros(len(mean)), vectors, sizes**2)

    @property
    def mean(self) -> np.ndarray:
        """(E,) mean spectrum of a pixel."""
        return np.asarray(self.prior @ (self.spectra / self.n_spectra[:, None]))

    def recipe(self, channels: np.ndarray) -> Recipe:
        """Return how spectra become values of the law.

        Parameters
        ----------
        channels
            (whole axis,) bool, the E channels of the model.
        """
        return Recipe.with_width(self.mean, self.noise, channels, self.width)

    def mixture(self, recipe: Recipe) -> Mixture:
        """Return the mixture that classifies pixels."""
        mixed = None if self.mixed < 0 else self.mixed
        return Mixture(recipe.phases(self.spectra), self.prior, self.strength, mixed, len(self.spectra))

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra to (n, K) log likelihoods of the phases, float32; the largest is 0."""
        recipe = self.recipe(np.ones(self.spectra.shape[1], bool))
        found = recipe.law.evidence(recipe.values(rows), recipe.phases(self.spectra))
        return np.ascontiguousarray((found - found.max(axis=0)).T, np.float32)

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) counts of the phases to (n, E) spectra, float32."""
        return np.asarray(scores @ self.components(), np.float32)

    def expect(self, rows: np.ndarray) -> np.ndarray:
        """Return the spectra of the phases, by their probability, with the counts of (n, E) spectra; float32."""
        probability = softmax(self.encode(rows).astype(np.float64) + np.log(np.maximum(self.prior, 1e-30)), axis=1)
        return self.decode(probability * rows.sum(axis=1, dtype=np.float64)[:, None])

    def components(self) -> np.ndarray:
        """Return the (K, E) spectra of the phases, each of sum one."""
        return self.spectra / self.spectra.sum(axis=1, keepdims=True)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same phases in other channels.

        Raises
        ------
        ValueError
            The noise is not that of counts, so that the noise of other channels is not known.
        """
        if self.noise.name != "poisson":
            raise ValueError(f"the noise model {self.noise.name!r} was measured for the channels of the model")
        assert isinstance(resample, Resampling)
        per_channel = float(np.median(resample(np.ones((1, self.spectra.shape[1])))))
        width = max(1, round(self.width / max(per_channel, 1e-6)))
        spectra, view = (np.ascontiguousarray(resample(of)) for of in (self.spectra, self.view))
        return replace(self, spectra=np.maximum(spectra, 0), view=view, width=width)

    def settings(self) -> dict[str, Any]:
        """Return what JSON can hold of the model."""
        numbers = {name: getattr(self, name) for name in ("strength", "mixed", "width", "error")}
        return numbers | {"names": list(self.names), "noise": self.noise.to_dict()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the rest of the model, as arrays by name."""
        return {name: getattr(self, name) for name in self.stored}

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays.

        Raises
        ------
        ValueError
            They do not make up one.
        """
        spectra = parts.array("spectra", -1, -1)
        k = len(spectra)
        view = parts.array("view", -1, spectra.shape[1])
        if len(view) > DIRECTIONS:
            raise ValueError(f"array 'view' has {len(view)} directions, but there are {DIRECTIONS} at most")
        n_spectra, prior = parts.array("n_spectra", k, positive=True), parts.array("prior", k)
        names = parts.setting("names", list)
        if len(names) != k or any(type(name) is not str for name in names) or (prior < 0).any():
            raise ValueError(f"settings and arrays are not those of {k} phases")
        try:
            noise = noise_from_dict(parts.setting("noise", dict))
        except (KeyError, TypeError) as error:
            raise ValueError(f"setting 'noise' describes no noise model ({error!r})") from error
        numbers = {name: parts.setting(name, float) for name in ("strength", "mixed", "error")}
        own: dict[str, Any] = {"width": parts.size("width"), "names": tuple(names), "noise": noise, "view": view}
        return cls(spectra, n_spectra, prior, **numbers, **own)
