"""The dense network: PCA at the start, and able to leave it."""

from __future__ import annotations

import pytest
import torch

from hyperspy_specml.nn import DenseNetwork


@pytest.mark.parametrize("n_latent", [1, 3, 7])
def test_an_untrained_network_keeps_the_first_scores_and_drops_the_others(n_latent):
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    network = DenseNetwork(7, n_latent, n_hidden=11, n_layers=2)

    torch.testing.assert_close(network.encode(x), x[:, :n_latent])
    expected = torch.cat([x[:, :n_latent], torch.zeros(5, 7 - n_latent)], dim=1)
    torch.testing.assert_close(network(x), expected)


def test_every_parameter_can_learn_once_the_last_layers_have_moved():
    network = DenseNetwork(7, 3, n_hidden=11, n_layers=2)
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):  # the first step moves the layers that start at zero, and opens the way to the others
        optimizer.zero_grad()
        (network(x) - x.square()).square().sum().backward()
        optimizer.step()

    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_network_started_as_pca_projects_on_its_vectors_and_adds_its_offset():
    rng = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(7, 3, generator=rng))
    offset, x = torch.randn(7, generator=rng), torch.randn(5, 7, generator=rng)
    network = DenseNetwork(7, 3, n_hidden=11, n_layers=2)

    network.init_from_pca(basis, offset)

    torch.testing.assert_close(network.encode(x), x @ basis)
    torch.testing.assert_close(network(x), x @ basis @ basis.T + offset)
