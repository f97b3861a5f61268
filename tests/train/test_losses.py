"""Losses: what they say of predictions whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hyperspy_specml.train import Batch, MixtureLikelihood, squared_error, squared_error_of_maps


class Same(nn.Module):
    """Predicts its input, whatever lies beside it."""

    def forward(self, x, **beside):
        return x


def test_each_sample_counts_by_its_own_weight():
    rng = torch.Generator().manual_seed(0)
    input_, target, weight = (torch.randn(shape, generator=rng) for shape in ((5, 7), (5, 7), (5,)))

    loss = squared_error(Same(), Batch(input_, target, weight.abs()), 1)

    by_hand = ((input_ - target).numpy() ** 2 * weight.abs().numpy()[:, None]).sum(axis=1).mean()
    assert loss == {"squared error": pytest.approx(by_hand, rel=1e-5)}


def test_pixels_without_a_spectrum_count_nothing():
    rng = torch.Generator().manual_seed(1)
    input_, target = (torch.randn(2, 3, 5, 7, generator=rng) for _ in range(2))
    valid = torch.zeros(2, 1, 5, 7)
    valid[0, 0, :2] = valid[1, 0, 4, 6] = 1
    beside = {"valid": valid, "centre": torch.zeros(2, 3), "spread": torch.ones(2, 3)}

    loss = squared_error_of_maps(Same(), Batch(input_, target, torch.tensor(0.5), beside=beside), 1)

    errors = ((input_ - target) ** 2).numpy()
    by_hand = np.concatenate([errors[0, :, :2].ravel(), errors[1, :, 4, 6]]).mean()
    assert loss == {"squared error": pytest.approx(0.5 * by_hand, rel=1e-5)}


class Mixture(nn.Module):
    """Two spectra in known shares, of known intensity."""

    spectra = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])

    def encode(self, x, fraction):
        assert fraction == 0.7
        return torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([100.0, 50.0]), torch.zeros(2)

    def decode(self, abundances, intensity, shift):
        return intensity[:, None] * (abundances @ self.spectra)

    def endmember_divergence(self, abundances):
        return torch.tensor(0.5)


EXPECTED = np.array([[55.0, 12.5, 15.0, 17.5], [5.0, 10.0, 15.0, 20.0]])
FRACTIONS = {"fraction": 0.3, "beside": {"fraction": 0.7}}  # of the counts in target and in input
COUNTS = np.array([[16, 4, 0, 7], [2, 3, 5, 6]])


@pytest.mark.parametrize("least", [1e-3, 14.0])
def test_the_deviance_of_counts_is_that_of_the_poisson_distribution(least):
    scipy_stats = pytest.importorskip("scipy.stats")
    loss = MixtureLikelihood(torch.full((4,), least), everything=1.0, volume_penalty=20.0)
    batch = Batch(torch.zeros(2, 3), torch.tensor(COUNTS).float(), **FRACTIONS)

    terms = loss(Mixture(), batch, 1)

    mean = 0.3 * np.maximum(EXPECTED, least)
    best = scipy_stats.poisson.logpmf(COUNTS, np.maximum(COUNTS, 1e-300))
    deviance = (best - scipy_stats.poisson.logpmf(COUNTS, mean)).sum(axis=1).mean() / 0.3
    assert terms["deviance"].item() == pytest.approx(deviance, rel=1e-5)
    assert terms["volume"].item() == 10.0


def test_the_deviance_of_other_values_is_their_squared_error_in_units_of_the_noise():
    loss = MixtureLikelihood(torch.full((4,), 1e-3), everything=0.85, volume_penalty=0.0)
    variance = np.array([[1.0, 2.0, 3.0, 4.0]])
    given = {"variance": torch.tensor(variance).float(), **FRACTIONS}
    batch = Batch(torch.zeros(2, 3), torch.tensor(COUNTS).float(), **given)

    terms = loss(Mixture(), batch, 1)

    half = (COUNTS - 0.3 * EXPECTED) ** 2 / (2 * 0.3 * variance)
    assert terms["deviance"].item() == pytest.approx(half.sum(axis=1).mean() * 0.85 / 0.3, rel=1e-5)
    assert terms["volume"].item() == 0
