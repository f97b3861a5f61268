"""Denoiser of single spectra of known noise. B spectra, P scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyperspy_specml.nn._layers import mlp


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
