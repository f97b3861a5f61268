"""Layers that several networks share."""

from __future__ import annotations

import itertools

from torch import nn


def mlp(n_in: int, n_out: int, n_hidden: int, n_layers: int) -> nn.Sequential:
    """Return a multilayer perceptron whose output starts at zero."""
    widths = [n_in] + [n_hidden] * n_layers
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.GELU()]
    last = nn.Linear(n_hidden, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
