"""Layers that several networks share."""

from __future__ import annotations

import itertools

from torch import nn

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
    widths = [n_in] + [n_hidden] * n_layers
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.GELU()]
    last = nn.Linear(n_hidden, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
