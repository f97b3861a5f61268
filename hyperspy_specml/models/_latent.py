"""Autoencoders of compressed scores. n spectra, E channels in use, P compressed scores, K latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperspy_specml.models._base import FittedModel, Parts, basis_arrays
from hyperspy_specml.models._networks import AUTOENCODERS, autoencoder_network, loaded, network_arrays, tensor_for
from hyperspy_specml.models._plain import to_plain

if TYPE_CHECKING:
    from typing import Self

    from torch import nn

    from hyperspy_specml.statistics import PrincipalBasis


@dataclass(frozen=True)
class LatentModel(FittedModel):
    """An autoencoder of the scores on a basis.

    Attributes
    ----------
    basis
        The P vectors of the compressed space.
    network
        The trained network, in normalised scores ``(score - centre) / scale``.
    centre, scale
        (P,) and a number: the normalisation.
    rotation, origin
        (K, K) and (K,): ``canonical latents = rotation @ (latents - origin)`` are uncorrelated and sorted
        by how much of the data's variance they explain; their scale is that of PCA scores.
    deviation
        (K,) standard deviation of each canonical latent over the training spectra.
    name, options
        Of the architecture: they make the network anew from a file.
    """

    basis: PrincipalBasis
    network: nn.Module
    centre: np.ndarray
    scale: float
    rotation: np.ndarray
    origin: np.ndarray
    deviation: np.ndarray
    name: str = "dense"
    options: dict[str, Any] = field(default_factory=dict)
    kind = "autoencoder"

    @property
    def architecture(self) -> str:
        """Name of the architecture, as users give it."""
        return self.name

    @property
    def n_components(self) -> int:
        """Number of latents K."""
        return len(self.origin)

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) canonical latents to (n, E) spectra, float32."""
        return self.basis.spectra(self.decode_scores(scores))

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K) canonical latents, float32."""
        with torch.inference_mode():
            latents = self.network.encode(tensor_for(self.network, (scores - self.centre) / self.scale))  # type: ignore[operator]
        return ((latents.cpu().numpy() - self.origin) @ self.rotation.T).astype(np.float32)

    def decode_scores(self, latents: np.ndarray) -> np.ndarray:
        """Map (n, K) canonical latents to (n, P) compressed scores, float32."""
        plain = latents @ np.linalg.inv(self.rotation).T + self.origin
        with torch.inference_mode():
            scores = self.network.decode(tensor_for(self.network, plain))  # type: ignore[operator]
        return (scores.cpu().numpy() * self.scale + self.centre).astype(np.float32)

    def components(self) -> np.ndarray:
        """Return (K, E): half the change of the decoded spectrum from -1 to +1 deviation of a latent."""
        steps = np.diag(self.deviation)
        change = self.decode_scores(steps).astype(np.float64) - self.decode_scores(-steps)
        return 0.5 * change @ self.basis.components()

    def settings(self) -> dict[str, Any]:
        """Return name and options of the architecture, and the scale."""
        return {"architecture": self.name, "options": to_plain(self.options), "scale": self.scale}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return basis, weights and normalisation."""
        own = {name: getattr(self, name) for name in ("centre", "rotation", "origin", "deviation")}
        return basis_arrays(self.basis) | network_arrays(self.network) | own

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays."""
        basis, name, options = (parts.basis(), parts.setting("architecture", str), parts.setting("options", dict))
        if name not in AUTOENCODERS:
            raise ValueError(
                f"architecture {name!r} is not one of {', '.join(map(repr, AUTOENCODERS))}; import the package "
                "that registers it first"
            )
        origin = parts.array("origin", -1)
        p, k = basis.n_vectors, len(origin)
        try:
            network = loaded(lambda: autoencoder_network(AUTOENCODERS[name], p, k, options), parts)
        except (TypeError, RuntimeError) as error:  # an option of the wrong type, or a size below zero
            raise ValueError(f"options {options!r:.200} of architecture {name!r}: {error}") from error
        return cls(
            basis, network, parts.array("centre", p), parts.setting("scale", float), parts.array("rotation", k, k),
            origin, parts.array("deviation", k), name, options,
        )  # fmt: skip
