"""Dense networks of compressed spectra. B spectra, P scores on a principal basis, K latents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)

_MOST_LAYERS = 100


def mlp(n_in: int, n_out: int, n_hidden: int, n_layers: int) -> nn.Sequential:
    """Return a multilayer perceptron whose output starts at zero.

    Raises
    ------
    ValueError
        No layer, or more than 100: such sizes come from damaged files only.
    """
    if not 1 <= n_layers <= _MOST_LAYERS:
        raise ValueError(f"n_layers is {n_layers}, not 1 to {_MOST_LAYERS}")
    layers: list[nn.Module] = []
    for i in range(n_layers):
        layers += [nn.Linear(n_hidden if i else n_in, n_hidden), nn.GELU()]
    return nn.Sequential(*layers, zeroed(nn.Linear(n_hidden, n_out)))


def zeroed(layer: Layer) -> Layer:
    """Return a layer whose weights and biases are zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class PrincipalNetwork(nn.Module, ABC):
    """Linear autoencoder plus corrections of encoder and decoder that start at zero.

    The linear part starts as a projection on K vectors, the first K scores unless `init_from_pca` says
    otherwise: an untrained network *is* PCA of rank K, and training is only kept where it is better.

    Parameters
    ----------
    n_scores
        Scores P per spectrum.
    n_latent
        Latents K.
    """

    def __init__(self, n_scores: int, n_latent: int) -> None:
        super().__init__()
        self.encode_linear = nn.Linear(n_scores, n_latent, bias=False)
        self.decode_linear = nn.Linear(n_latent, n_scores)
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
        return self.encode_linear(x) + self.encode_correction(x)  # (B, P) -> (B, K)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents to scores."""
        return self.decode_linear(z) + self.decode_correction(z)  # (B, K) -> (B, P)

    def forward(self, x: Tensor) -> Tensor:
        """Map scores to their reconstruction."""
        return self.decode(self.encode(x))  # (B, P) -> (B, P)

    @abstractmethod
    def encode_correction(self, x: Tensor) -> Tensor:
        """Map scores (B, P) to what is added to the latents (B, K)."""

    @abstractmethod
    def decode_correction(self, z: Tensor) -> Tensor:
        """Map latents (B, K) to what is added to the scores (B, P)."""


class DenseNetwork(PrincipalNetwork):
    """Linear autoencoder plus multilayer perceptrons.

    Parameters
    ----------
    n_scores, n_latent
        See `PrincipalNetwork`.
    n_hidden
        Width of the hidden layers.
    n_layers
        Hidden layers in encoder and in decoder.
    """

    def __init__(self, n_scores: int, n_latent: int, n_hidden: int, n_layers: int) -> None:
        super().__init__(n_scores, n_latent)
        self.encode_mlp = mlp(n_scores, n_latent, n_hidden, n_layers)
        self.decode_mlp = mlp(n_latent, n_scores, n_hidden, n_layers)

    def encode_correction(self, x: Tensor) -> Tensor:
        """Map scores to what is added to the latents."""
        return self.encode_mlp(x)

    def decode_correction(self, z: Tensor) -> Tensor:
        """Map latents to what is added to the scores."""
        return self.decode_mlp(z)


class Shrinkage(nn.Module):
    """Wiener filter of the scores plus a correction that starts at zero.

    An untrained network *is* the best linear denoiser of spectra with these variances.

    Parameters
    ----------
    n_scores
        Scores P per spectrum.
    n_hidden, n_layers
        Width and number of the hidden layers.
    """

    def __init__(self, n_scores: int, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.mlp = mlp(n_scores + 1, n_scores, n_hidden, n_layers)

    def forward(self, scores: Tensor, level: Tensor, variance: Tensor) -> Tensor:
        """Map centred noisy scores to clean ones.

        Parameters
        ----------
        scores
            (B, P), about their mean.
        level
            (B, 1) standard deviation of the noise of a score.
        variance
            (P,) of the clean scores.
        """
        kept = variance / (variance + level.square())  # (B, P)
        size = variance.sqrt()
        normalised = torch.asinh(kept.sqrt() * scores / size)  # of order 1 at any noise
        correction = self.mlp(torch.cat([normalised, level.log()], dim=1))
        # The correction vanishes with the noise.
        return kept * scores + size * (1 - kept).sqrt() * correction
