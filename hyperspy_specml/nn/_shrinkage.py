"""Denoiser of single spectra that is told how noisy they are. B spectra, P scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyperspy_specml.nn._dense import perceptron


class Shrinkage(nn.Module):
    """Wiener's filter of the scores plus a correction that starts at zero.

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
        self.bend = perceptron(n_scores + 1, n_scores, n_hidden, n_layers)

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
        share = variance / (variance + level.square())  # (B, P)
        size = variance.sqrt()
        seen = torch.asinh(share.sqrt() * scores / size)  # about 1 at any noise
        bent = self.bend(torch.cat([seen, level.log()], dim=1))
        # Where the noise is small there is nothing to correct.
        return share * scores + size * (1 - share).sqrt() * bent
