"""The variational network: distributions of latents, and its start."""

from __future__ import annotations

import torch
from torch.distributions import MultivariateNormal, kl_divergence

from hyperspy_specml.decompose import EvidenceBound
from hyperspy_specml.nn import DenseNetwork, VariationalNetwork
from hyperspy_specml.train import Batch

N_SCORES, K = 7, 3


def network():
    torch.manual_seed(1)
    made = VariationalNetwork(N_SCORES, K, n_hidden=5, n_layers=1)
    roots = [torch.linalg.cholesky(torch.cov(torch.randn(K, 40)) + 0.1 * torch.eye(K)) for _ in range(2)]
    made.init_spread(roots[0], torch.randn(K), roots[1])
    return made, roots


def test_untrained_all_posteriors_and_the_prior_are_those_it_was_given():
    made, (posterior, prior) = network()

    x = torch.randn(11, N_SCORES)
    mean, root = made.posterior(x)

    torch.testing.assert_close(mean, x[:, :K])  # PCA
    torch.testing.assert_close(root, posterior.expand(11, K, K))
    torch.testing.assert_close(made.prior()[1], prior)


def test_the_divergence_is_that_of_normal_distributions():
    made, _ = network()
    torch.nn.init.normal_(made.spread_mlp[-1].weight)
    mean, root = made.posterior(torch.randn(11, N_SCORES))

    here, there = (
        MultivariateNormal(mean, scale_tril=root),
        MultivariateNormal(made.prior_mean, scale_tril=made.prior()[1]),
    )

    torch.testing.assert_close(made.divergence(mean, root), kl_divergence(here, there), rtol=1e-4, atol=1e-4)


def test_it_takes_the_weights_of_a_dense_network():
    made, dense = network()[0], DenseNetwork(N_SCORES, K, n_hidden=5, n_layers=1)
    torch.nn.init.normal_(dense.decode_mlp[-1].weight)

    missing = made.load_state_dict(dense.state_dict(), strict=False).missing_keys

    assert all(name.startswith(("spread", "prior")) for name in missing)
    x = torch.randn(11, N_SCORES)
    torch.testing.assert_close(made(x), dense(x))


def test_the_bound_is_the_likelihood_of_multinomial_counts_and_of_normal_values():
    made, _ = network()
    components, centre = torch.rand(N_SCORES, 13), 5 + torch.rand(13)
    bound = EvidenceBound(components, centre, torch.full((13,), 1e-6))
    x, noise = 0.1 * torch.randn(11, N_SCORES), torch.randn(11, K)
    counts = torch.poisson(20 * torch.rand(11, 13))
    mean, root = made.posterior(x)
    spectra = made.decode(mean + torch.einsum("bij,bj->bi", root, noise)) @ components + centre
    spectra = spectra.clamp_min(1e-6)
    beside = {"noise": noise, "weight": 0.25}

    parts = bound(made, Batch(x, counts, beside=beside), 1)

    shares = spectra / spectra.sum(dim=1, keepdim=True)
    expected = -torch.xlogy(counts, shares).sum(dim=1).mean()
    torch.testing.assert_close(parts["likelihood"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parts["divergence"], 0.25 * made.divergence(mean, root).mean())

    parts = bound(made, Batch(x, counts, variance=torch.full((1, 13), 3.0), fraction=0.7, beside=beside), 1)
    raw = made.decode(mean + torch.einsum("bij,bj->bi", root, noise)) @ components + centre
    expected = ((counts - 0.7 * raw) ** 2 / (2 * 0.7 * 3)).sum(dim=1).mean()
    torch.testing.assert_close(parts["likelihood"], expected, rtol=1e-4, atol=1e-4)
