"""The denoiser of single spectra: the Wiener filter for the noise of each spectrum, before training."""

from __future__ import annotations

import torch

from hyperspy_specml.nn import Shrinkage


def test_an_untrained_network_is_wieners_filter_of_each_spectrum_at_its_own_noise():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 7, generator=generator)
    variance = torch.rand(7, generator=generator) + 0.1
    level = torch.tensor([0.01, 0.1, 1.0, 3.0, 30.0])[:, None]

    clean = Shrinkage(7, n_hidden=11, n_layers=2)(scores, level, variance)

    torch.testing.assert_close(clean, scores * variance / (variance + level**2))


def test_where_the_noise_is_small_a_trained_correction_changes_nothing():
    network = Shrinkage(7, n_hidden=11, n_layers=2)
    with torch.no_grad():
        network.mlp[-1].bias.fill_(1.0)
    scores, variance = torch.randn(5, 7, generator=torch.Generator().manual_seed(2)), torch.ones(7)

    quiet, noisy = (network(scores, torch.full((5, 1), level), variance) for level in (1e-4, 1.0))

    torch.testing.assert_close(quiet, scores, rtol=1e-3, atol=1e-3)
    assert (noisy - scores / 2).abs().min() > 0.5
