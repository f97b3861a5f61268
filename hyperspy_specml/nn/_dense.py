"""Dense autoencoder of compressed spectra. B spectra, P scores on a principal basis, K latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyperspy_specml.nn._layers import mlp


class DenseNetwork(nn.Module):
    """Linear autoencoder plus nonlinear corrections of encoder and decoder that start at zero.

    The linear part starts as a projection on K vectors, the first K scores unless `init_from_pca` says
    otherwise: an untrained network *is* PCA of rank K, and training is only kept where it is better.

    Parameters
    ----------
    n_scores
        Scores P per spectrum.
    n_latent
        Latents K.
    n_hidden
        Width of the hidden layers.
    n_layers
        Hidden layers in encoder and in decoder.
    """

    def __init__(self, n_scores: int, n_latent: int, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.encode_linear = nn.Linear(n_scores, n_latent, bias=False)
        self.decode_linear = nn.Linear(n_latent, n_scores)
        self.encode_mlp = mlp(n_scores, n_latent, n_hidden, n_layers)
        self.decode_mlp = mlp(n_latent, n_scores, n_hidden, n_layers)
        nn.init.eye_(self.encode_linear.weight)
        nn.init.eye_(self.decode_linear.weight)
        nn.init.zeros_(self.decode_linear.bias)

    @torch.no_grad()
    def init_from_pca(self, basis: Tensor, offset: Tensor) -> None:
        """Make the linear part the projection on an orthonormal basis (P, K), plus a constant (P,)."""
        self.encode_linear.weight.copy_(basis.T)
        self.decode_linear.weight.copy_(basis)
        self.decode_linear.bias.copy_(offset)

    def encode(self, x: Tensor) -> Tensor:
        """Map scores to latents."""
        return self.encode_linear(x) + self.encode_mlp(x)  # (B, P) -> (B, K)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents to scores."""
        return self.decode_linear(z) + self.decode_mlp(z)  # (B, K) -> (B, P)

    def forward(self, x: Tensor) -> Tensor:
        """Map scores to their reconstruction."""
        return self.decode(self.encode(x))  # (B, P) -> (B, P)
