"""Fitted denoisers of single spectra: networks of their scores. n spectra, P components."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperspy_specml.models._base import Parts, basis_arrays, parts_of, prefixed
from hyperspy_specml.models._denoisers import FittedDenoiser
from hyperspy_specml.models._latent import LatentModel
from hyperspy_specml.models._networks import loaded, network_arrays, tensor_for
from hyperspy_specml.nn import Shrinkage

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.statistics import PrincipalBasis

# Smallest total of a spectrum, relative to the mean total, by which its scores are divided: below, noise
# alone would set its shape.
_LEAST_TOTAL = 1e-3


@dataclass(frozen=True)
class SpectralDenoiser(FittedDenoiser):
    """An autoencoder that sees one spectrum at a time.

    Attributes
    ----------
    autoencoder
        Trained on the noise of its map.
    """

    autoencoder: LatentModel
    kind = "spectral"
    n_scan_axes = 0

    @property
    def basis(self) -> PrincipalBasis:  # type: ignore[override]  # read only here as everywhere
        """The P vectors of the scores."""
        return self.autoencoder.basis

    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        """Return denoised score maps; see `FittedDenoiser`."""
        out = np.zeros(maps.shape, np.float32)
        out[valid] = self.denoise_rows(maps[valid])
        return out

    def denoise_rows(self, scores: np.ndarray) -> np.ndarray:
        """Return (n, P) denoised scores."""
        return self.autoencoder.decode_scores(self.autoencoder.encode_scores(scores))

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * (4 * self.basis.n_vectors + 512)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the denoiser of spectra in other channels; see `FittedModel`."""
        return replace(self, autoencoder=self.autoencoder.resampled(resample))

    def settings(self) -> dict[str, Any]:
        """Return those of the autoencoder."""
        return {"autoencoder": parts_of(self.autoencoder).settings}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return those of the autoencoder."""
        return prefixed("autoencoder", self.autoencoder.arrays())

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the denoiser with these settings and arrays."""
        model = parts.within("autoencoder").model()
        if not isinstance(model, LatentModel):
            raise ValueError(f"kind of model {model.kind!r} is no autoencoder")
        return cls(model)


@dataclass(frozen=True)
class LibraryDenoiser(FittedDenoiser):
    """A network that knows the shapes of a library, and is told the noise of every spectrum.

    Scores are those of spectra whose total is 1 on average.

    Attributes
    ----------
    basis
        The P principal vectors of the library.
    noise
        (P,) standard deviation of the noise along them in a spectrum of total 1.
    centre, variance
        (P,) mean and variances of the clean scores of spectra of total 1.
    levels
        (2,) smallest and largest noise of the training.
    network
        From noisy to clean scores.
    """

    basis: PrincipalBasis
    noise: np.ndarray
    centre: np.ndarray
    variance: np.ndarray
    levels: np.ndarray
    network: Shrinkage
    kind = "library"
    n_scan_axes = 0

    def denoise(self, maps: np.ndarray, valid: np.ndarray, fraction: float) -> np.ndarray:
        """Return denoised score maps; see `FittedDenoiser`."""
        out = np.zeros(maps.shape, np.float32)
        out[valid] = self.denoise_rows(maps[valid], fraction=fraction)
        return out

    def denoise_rows(self, scores: np.ndarray, *, fraction: float = 1.0) -> np.ndarray:
        """Return (n, P) denoised scores of (n, P) scores.

        Parameters
        ----------
        scores
            Of spectra with a total of about 1.
        fraction
            Counts of the spectra over what `noise` belongs to.
        """
        total = self.totals(scores)
        level = np.sqrt(np.mean(self.noise**2) / (fraction * total))
        values = (scores / total - self.centre, np.clip(level, *self.levels), self.variance)
        with torch.inference_mode():
            clean = self.network(*(tensor_for(self.network, value) for value in values)).cpu().numpy()
        return ((clean + self.centre) * total).astype(np.float32)

    def totals(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n, 1) totals of spectra with (n, P) scores."""
        return np.maximum(scores @ self.basis.components().sum(axis=1), _LEAST_TOTAL)[:, None]

    def bytes_per_pixel(self) -> int:
        """Return the memory that `denoise` needs for each pixel."""
        return 4 * (6 * self.basis.n_vectors + 1024)

    def with_noise(self, noise: np.ndarray) -> Self:
        """Return the denoiser for maps with this noise along the basis; see `FittedDenoiser`."""
        return replace(self, noise=noise)

    def settings(self) -> dict[str, Any]:
        """Return width and number of the hidden layers."""
        linear = [layer for layer in self.network.mlp if isinstance(layer, torch.nn.Linear)]
        return {"n_hidden": linear[0].out_features, "n_layers": len(linear) - 1}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return basis, moments of noise and scores, and the weights of the network."""
        own = {name: getattr(self, name) for name in ("noise", "centre", "variance", "levels")}
        return basis_arrays(self.basis) | own | network_arrays(self.network)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the denoiser with these settings and arrays."""
        basis, levels = parts.basis(), parts.positive("levels", 2)
        if levels[0] > levels[1]:
            raise ValueError("array 'levels' does not rise")
        p, sizes = basis.n_vectors, (parts.size("n_hidden", most=1 << 12), parts.size("n_layers", most=64))
        moments = parts.positive("noise", p), parts.array("centre", p), parts.positive("variance", p)
        return cls(basis, *moments, levels, loaded(lambda: Shrinkage(p, *sizes), parts))
