"""The likelihood of mixtures: endmembers that maximise it, whatever the noise and the shifts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperspy_specml.decompose import _simplex
from hyperspy_specml.decompose._simplex import fit_endmembers
from hyperspy_specml.nn import SimplexNetwork
from hyperspy_specml.train import RandomRows, ScoresAndCounts

N_CHANNELS, K, N_SPECTRA = 23, 3, 211
SHARES = (0.3, 0.5, 0.2)


def mixtures(*, poisson, shifts):
    """Return a network whose encoder knows a little, parts of noisy counts, and their true endmembers."""
    rng = np.random.default_rng(7)
    peaks = np.exp(-0.5 * ((np.arange(N_CHANNELS) - np.array([[5], [11], [17]])) / 2.5) ** 2)
    truth = (0.1 + peaks) / (0.1 + peaks).sum(axis=1, keepdims=True)
    abundances = rng.dirichlet(np.full(K, 0.4), N_SPECTRA)
    mean = 400 * abundances @ truth
    noise = rng.poisson if poisson else lambda m: rng.normal(m, 0.5 * np.sqrt(m.mean()))
    targets = tuple(noise(share * mean).astype(np.float32) for share in SHARES)
    parts = np.array([target / share for target, share in zip(targets, SHARES, strict=True)])
    to_scores = torch.tensor(np.eye(N_CHANNELS) / np.sqrt(mean.mean()), dtype=torch.float32)
    scores = torch.tensor(parts, dtype=torch.float32).swapaxes(0, 1) * torch.tensor(SHARES)[:, None] @ to_scores
    torch.manual_seed(1)
    network = SimplexNetwork(
        torch.tensor(0.5 * truth + 0.5 * truth.mean(axis=0), dtype=torch.float32), to_scores,
        torch.tensor(mean.mean(axis=0), dtype=torch.float32), scores.sum(dim=1), shot=float(poisson),
        ends=torch.tensor([[0] * N_CHANNELS, [N_CHANNELS - 1] * N_CHANNELS]), shifts=shifts, n_hidden=8,
        n_layers=1,
    )  # fmt: skip
    seen = network.encoder_input(scores.sum(dim=1)).numpy()
    wanted = np.log(abundances + 0.05)
    linear = np.linalg.lstsq(np.column_stack([seen, np.ones(N_SPECTRA)]), wanted, rcond=1e-2)[0]
    network.init_encoder(*(torch.tensor(v.T, dtype=torch.float32) for v in (linear[:-1], linear[-1])))
    variance = None if poisson else np.full(N_CHANNELS, 0.25 * mean.mean(), np.float32)
    rows = RandomRows(N_SPECTRA, N_SPECTRA, torch.Generator().manual_seed(0))
    return network.eval(), ScoresAndCounts(scores, targets, SHARES, variance, rows), truth


FLOOR = torch.full((N_CHANNELS,), 1e-3)


def whole_loss(network, source):
    """Return the negative log-likelihood of all parts, but for what no endmember changes."""
    total = 0.0
    for i, share in enumerate(SHARES):
        batch = source.batch(i, torch.arange(N_SPECTRA))
        mixture = network.decode(*network.encode(batch.input, **batch.beside))
        spectra, target = share * torch.maximum(mixture, FLOOR), torch.as_tensor(source.targets[i])
        if source.variance is None:
            total += (spectra - torch.xlogy(target, spectra)).sum().item()
        else:
            variance = share * torch.as_tensor(source.variance)
            total += ((target - spectra).square() / (2 * variance)).sum().item()
    return total


@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize("poisson", [False, True])
@torch.no_grad()
def test_endmembers_come_to_the_maximum_of_the_likelihood(poisson, shifts):
    network, source, truth = mixtures(poisson=poisson, shifts=shifts)
    before = whole_loss(network, source)
    fit_endmembers(network, source, FLOOR)
    after = whole_loss(network, source)
    found = network.endmembers()

    assert after < before - 100
    torch.testing.assert_close(found.sum(dim=1), torch.ones(K))
    assert np.abs(found.numpy() - truth).max() < 0.02
    for seed in range(6):  # no small change is better
        change = 0.03 * torch.randn(K, N_CHANNELS, generator=torch.Generator().manual_seed(seed))
        network.set_endmembers(found * change.exp())
        assert whole_loss(network, source) > after


def test_channels_that_no_spectrum_reads_stay_as_they_are(monkeypatch):
    network, source, _ = mixtures(poisson=True, shifts=True)
    encode, before = network.encode, network.endmembers().detach()
    moved = torch.full((N_SPECTRA,), 2.0)
    monkeypatch.setattr(network, "encode", lambda *at, **beside: (*encode(*at, **beside)[:2], moved))

    fit_endmembers(network, source, FLOOR)

    after = network.endmembers().detach()
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after[:, -2] / after[:, -1], before[:, -2] / before[:, -1])
    assert not torch.allclose(after[:, 5] / after[:, -1], before[:, 5] / before[:, -1], rtol=1e-3)


def test_it_looks_at_all_spectra_in_slabs_or_at_some_of_a_large_sample(monkeypatch):
    found = []
    for values, most in ((1 << 20, 1 << 26), (50 * N_CHANNELS, 1 << 26), (1 << 20, 70 * N_CHANNELS)):
        monkeypatch.setattr(_simplex, "_MIXED_VALUES", values)
        monkeypatch.setattr(_simplex, "_MOST_VALUES", most)
        network, source, _ = mixtures(poisson=True, shifts=False)
        fit_endmembers(network, source, FLOOR)
        found.append(network.endmembers().detach())

    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[2], found[0], rtol=1e-3)
