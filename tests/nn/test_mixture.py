"""The mixture of filters: a fixed one before training, and the transform of their differences."""

from __future__ import annotations

import pytest
import torch

from hyperspy_specml.nn import FilterMixture
from hyperspy_specml.nn._mixture import _asinh


@pytest.mark.parametrize("tile", [(5,), (4, 5), (2, 4, 3)])
def test_an_untrained_network_is_the_mixture_it_starts_as_and_nothing_where_there_is_no_spectrum(tile):
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn(2, 3, 4, *tile, generator=generator)
    valid = (torch.rand(2, 1, *tile, generator=generator) < 0.7).float()
    weights = torch.rand(3, 4, generator=generator) + 0.1
    weights /= weights.sum(dim=0)
    network = FilterMixture(len(tile), 3, 4, n_hidden=7)
    network.init_from_weights(weights)

    clean = network(stack, valid, torch.zeros(2, 4), torch.ones(2, 4))

    expected = torch.einsum("bsp...,sp->bp...", stack, weights) * valid
    torch.testing.assert_close(clean, expected)


def test_the_fast_asinh_is_asinh_at_every_size_and_sign():
    x = torch.cat([torch.zeros(1), torch.logspace(-8, 8, 400)])
    x = torch.cat([x, -x])

    torch.testing.assert_close(_asinh(x), torch.asinh(x.double()).float(), rtol=1e-6, atol=1e-6)
