"""The fitted variational autoencoder. n spectra, E channels in use, P compressed scores, K latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.lazy import torch
from hyperspy_specml.models._networks import LatentModel, tensor_for

if TYPE_CHECKING:
    from torch import nn

_LEAST_TOTAL = 1e-3  # of the mean total: what is decoded to less has no shape


def variational_network(n_scores: int, n_latent: int, n_hidden: int, n_layers: int) -> nn.Module:
    """Return an untrained network: a function, so that torch is loaded with the first network.

    Parameters
    ----------
    n_scores, n_latent, n_hidden, n_layers
        See `nn.VariationalNetwork`.
    """
    from hyperspy_specml.nn import VariationalNetwork

    return VariationalNetwork(n_scores, n_latent, n_hidden, n_layers)


@dataclass(frozen=True)
class VariationalModel(LatentModel):
    """An autoencoder that knows how sure it is of its latents.

    Where totals are kept, as of counts, the decoder gives the shape of a spectrum, and the intensity that was found
    multiplies it. Attributes: see `LatentModel`.
    """

    kind = "variational"

    @property
    def outputs(self) -> dict[str, str]:
        """The intensity, where totals are kept, and the covariance of the latents of each spectrum."""
        pairs = {f"covariance {i},{j}": "" for i, j in zip(*self._pairs, strict=True)}
        return super().outputs | pairs

    @property
    def _pairs(self) -> tuple[np.ndarray, ...]:
        return np.tril_indices(self.n_components)

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K + outputs) means, perhaps intensity, and covariances, float32."""
        found = super().encode_scores(scores)
        with torch.inference_mode():
            normalised = tensor_for(self.network, (scores - self.centre) / self.scale)
            root = self.network.posterior(normalised)[1].cpu().numpy()  # type: ignore[operator]
        turned = self.rotation @ root
        covariance = turned @ np.swapaxes(turned, 1, 2)
        return np.column_stack([found, covariance[:, *self._pairs]]).astype(np.float32)

    def covariances(self, columns: np.ndarray) -> np.ndarray:
        """Return the (n, K, K) covariances of the latents in (n, K + outputs) columns, float64."""
        found = np.zeros((len(columns), self.n_components, self.n_components))
        low, high = self._pairs
        found[:, low, high] = found[:, high, low] = columns[:, -len(low) :]
        return found

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + outputs) means, perhaps intensity, and covariances (not used) to (n, E) spectra, float32."""
        return self.basis.spectra(self.decode_columns(scores))

    def decode_columns(self, columns: np.ndarray) -> np.ndarray:
        """Map the same to the (n, P) compressed scores of these spectra, float32."""
        k = self.n_components
        decoded = self.decode_scores(columns[:, :k])
        return self._with_totals(decoded, columns[:, k]) if self.keeps_totals and columns.shape[1] > k else decoded

    def decode_scores(self, latents: np.ndarray) -> np.ndarray:
        """Map (n, K) latents to (n, P) compressed scores: of spectra of the mean total where totals are kept."""
        decoded = super().decode_scores(latents)
        return self._with_totals(decoded, np.full(len(decoded), self._mean_total)) if self.keeps_totals else decoded

    @cached_property
    def _mean_total(self) -> np.float32:
        return self._totals(self.centre[None])[0]

    def _with_totals(self, decoded: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """Return (n, P) scores of spectra of the same shapes with these totals."""
        constant = self.basis.offset @ (self.basis.vectors * self.basis.weights[:, None])  # scores of the offset
        factor = totals / np.maximum(self._totals(decoded), np.float32(_LEAST_TOTAL) * self._mean_total)
        return (factor[:, None] * (decoded + constant) - constant).astype(np.float32)
