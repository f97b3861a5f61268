"""Spatial denoiser that mixes fixed filters. B tiles, S filters, P components, one to three scan axes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class FilterMixture(nn.Module):
    """Weights of the filters for each pixel and component, and a correction that starts at zero.

    Inputs are all components and the differences between filters, which are large at edges of the map. An
    untrained network *is* a mixture of the filters that is the same everywhere, and training is only kept
    where it is better.

    Parameters
    ----------
    n_scan_axes
        One to three.
    n_filters, n_components
        S and P.
    n_hidden
        Channels of the hidden layers.
    """

    def __init__(self, n_scan_axes: int, n_filters: int, n_components: int, n_hidden: int) -> None:
        super().__init__()
        convolution = _CONVOLUTIONS[n_scan_axes]
        n_inputs = n_filters * n_components
        self.conv1 = convolution(n_inputs, n_hidden, 1)
        self.conv2 = convolution(n_hidden, n_hidden, 3, padding=1)
        self.conv3 = convolution(n_hidden, n_hidden, 3, padding=1)
        self.logits = convolution(n_hidden, n_inputs, 1)
        self.correction = convolution(n_hidden, n_components, 1)
        for layer in (self.logits, self.correction):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
        self.start_logits = nn.Parameter(torch.zeros(n_filters, n_components))

    @torch.no_grad()
    def init_from_weights(self, weights: Tensor) -> None:
        """Start as a mixture of filters: weights (S, P), not negative, that sum to one over the filters."""
        self.start_logits.copy_(torch.log(torch.clamp(weights, min=1e-3)))

    def forward(self, stack: Tensor, valid: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
        """Map filtered scores with noise of variance 1 to denoised ones.

        Parameters
        ----------
        stack
            (B, S, P, *tile), 0 where not valid.
        valid
            (B, 1, *tile), 1 where there is a spectrum, else 0.
        centre, spread
            (B, P): mean and standard deviation of the components, in the same unit.
        """
        n_batch, n_filters, n_components, *tile = stack.shape
        spatial = (...,) + (None,) * len(tile)  # (..., P) -> (..., P, 1, 1)
        simple = (stack * self.start_logits.softmax(dim=0)[spatial]).sum(dim=1)  # (B, P, *tile)
        differences = _asinh(stack[:, 1:] - stack[:, :1])  # (B, S - 1, P, *tile)
        normalised = ((simple - centre[spatial]) / spread[spatial])[:, None]
        inputs = torch.cat([normalised, differences], dim=1).reshape(n_batch, -1, *tile)  # (B, S P, *tile)
        hidden = nn.functional.gelu(self.conv1(inputs)) * valid
        hidden = (hidden + nn.functional.gelu(self.conv2(hidden))) * valid
        hidden = hidden + nn.functional.gelu(self.conv3(hidden))
        logits = self.logits(hidden).reshape(n_batch, n_filters, n_components, *tile)
        weights = (logits + self.start_logits[spatial]).softmax(dim=1)
        return ((weights * stack).sum(dim=1) + self.correction(hidden)) * valid


def _asinh(x: Tensor) -> Tensor:
    """Return asinh(x) to 1e-6. PyTorch's own takes ten times as long, half of the time of the training."""
    size = x.abs()
    return torch.log(size + (size.square() + 1).sqrt()).copysign(x)
