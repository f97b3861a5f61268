"""Dense autoencoder of compressed spectra. B spectra, P compressed scores, K latents."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class DenseNetwork(nn.Module):
    """Linear autoencoder plus nonlinear corrections of encoder and decoder that start at zero.

    The linear part starts as a projection on K axes, the first K scores unless `start_as` says otherwise:
    an untrained network *is* PCA of rank K, and training is only kept where it is better.

    Parameters
    ----------
    n_scores
        Compressed scores P per spectrum.
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
        self.encode_bend = perceptron(n_scores, n_latent, n_hidden, n_layers)
        self.decode_bend = perceptron(n_latent, n_scores, n_hidden, n_layers)
        nn.init.eye_(self.encode_linear.weight)
        nn.init.eye_(self.decode_linear.weight)
        nn.init.zeros_(self.decode_linear.bias)

    @torch.no_grad()
    def start_as(self, axes: Tensor, rest: Tensor) -> None:
        """Make the linear part the projection on orthonormal axes (P, K), plus a constant (P,)."""
        self.encode_linear.weight.copy_(axes.T)
        self.decode_linear.weight.copy_(axes)
        self.decode_linear.bias.copy_(rest)

    def encode(self, x: Tensor) -> Tensor:
        """Map scores to latents."""
        return self.encode_linear(x) + self.encode_bend(x)  # (B, P) -> (B, K)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents to scores."""
        return self.decode_linear(z) + self.decode_bend(z)  # (B, K) -> (B, P)

    def forward(self, x: Tensor) -> Tensor:
        """Map scores to their reconstruction."""
        return self.decode(self.encode(x))  # (B, P) -> (B, P)


def perceptron(n_in: int, n_out: int, n_hidden: int, n_layers: int) -> nn.Sequential:
    """Return hidden layers and a last one whose output starts at zero."""
    widths = [n_in] + [n_hidden] * n_layers
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.GELU()]
    last = nn.Linear(n_hidden, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
