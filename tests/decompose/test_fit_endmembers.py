"""The likelihood of mixtures: endmembers that maximise it, whatever the noise and the shifts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperspy_specml.nn import SimplexNetwork
from hyperspy_specml.train import _mixtures
from hyperspy_specml.train._mixtures import SplitMixtures

N_CHANNELS, K, N_SPECTRA = 23, 3, 211
SHARES = (0.3, 0.5, 0.2)


def mixtures(*, poisson, shifts, pull=0.0):
    """Return a network whose encoder knows a little, and the likelihood of parts of noisy counts."""
    rng = np.random.default_rng(7)
    peaks = np.exp(-0.5 * ((np.arange(N_CHANNELS) - np.array([[5], [11], [17]])) / 2.5) ** 2)
    truth = (0.1 + peaks) / (0.1 + peaks).sum(axis=1, keepdims=True)
    abundances = rng.dirichlet(np.full(K, 0.4), N_SPECTRA)
    mean = 400 * abundances @ truth
    noise = rng.poisson if poisson else lambda m: rng.normal(m, 0.5 * np.sqrt(m.mean()))
    targets = tuple(noise(share * mean).astype(np.float32) for share in SHARES)
    parts = np.array([target / share for target, share in zip(targets, SHARES, strict=True)])
    to_scores = torch.tensor(np.eye(N_CHANNELS) / np.sqrt(mean.mean()), dtype=torch.float32)
    scores = (
        torch.tensor(parts, dtype=torch.float32).swapaxes(0, 1) * torch.tensor(SHARES)[:, None] @ to_scores
    )
    torch.manual_seed(1)
    network = SimplexNetwork(
        torch.tensor(0.5 * truth + 0.5 * truth.mean(axis=0), dtype=torch.float32), to_scores,
        torch.tensor(mean.mean(axis=0), dtype=torch.float32), scores.sum(dim=1), shot=float(poisson),
        ends=torch.tensor([[0] * N_CHANNELS, [N_CHANNELS - 1] * N_CHANNELS]), shifts=shifts, n_hidden=8,
        n_layers=1,
    )  # fmt: skip
    seen = network.look(scores.sum(dim=1)).numpy()
    wanted = np.log(abundances + 0.05)
    linear = np.linalg.lstsq(np.column_stack([seen, np.ones(N_SPECTRA)]), wanted, rcond=1e-2)[0]
    network.start_as(*(torch.tensor(v.T, dtype=torch.float32) for v in (linear[:-1], linear[-1])))
    variance = None if poisson else np.full(N_CHANNELS, 0.25 * mean.mean(), np.float32)
    loss = SplitMixtures(
        scores, targets, SHARES, variance, torch.full((N_CHANNELS,), 1e-3), pull=pull, batch_size=N_SPECTRA,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return network.eval(), loss, truth


def whole_loss(network, loss):
    """Return the loss of all parts, without the pull."""
    rows, total = torch.arange(N_SPECTRA), 0.0
    for i, share in enumerate(SHARES):
        spectra = share * torch.maximum(network.decode(*loss._mixed(network, i, rows)), loss.floor)
        target = torch.as_tensor(loss.targets[i])
        if loss.variance is None:
            total += (spectra - torch.xlogy(target, spectra)).sum().item()
        else:
            total += ((target - spectra).square() / (2 * share * loss._variance_of(rows))).sum().item()
    return total


@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize("poisson", [False, True])
@torch.no_grad()
def test_endmembers_come_to_the_maximum_of_the_likelihood(poisson, shifts, monkeypatch):
    network, loss, truth = mixtures(poisson=poisson, shifts=shifts, pull=50.0)
    before = whole_loss(network, loss)
    loss.fit_endmembers(network)
    after = whole_loss(network, loss)
    found = network.endmembers()

    assert after < before - 100
    torch.testing.assert_close(found.sum(dim=1), torch.ones(K))
    assert np.abs(found.numpy() - truth).max() < 0.02
    for seed in range(6):  # no small change is better
        change = 0.03 * torch.randn(K, N_CHANNELS, generator=torch.Generator().manual_seed(seed))
        network.set_endmembers(found * change.exp())
        assert whole_loss(network, loss) > after


def test_channels_that_no_spectrum_reads_stay_as_they_are(monkeypatch):
    network, loss, _ = mixtures(poisson=True, shifts=True)
    mixed, before = loss._mixed, network.endmembers().detach()
    monkeypatch.setattr(loss, "_mixed", lambda *at: [*mixed(*at)[:2], torch.full((N_SPECTRA,), 2.0)])

    loss.fit_endmembers(network)

    after = network.endmembers().detach()
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after[:, -2] / after[:, -1], before[:, -2] / before[:, -1])
    assert not torch.allclose(after[:, 5] / after[:, -1], before[:, 5] / before[:, -1], rtol=1e-3)


def test_it_looks_at_all_spectra_in_slabs_or_at_some_of_a_large_sample(monkeypatch):
    found = []
    for elements, most in ((1 << 20, 1 << 26), (50 * N_CHANNELS, 1 << 26), (1 << 20, 70 * N_CHANNELS)):
        monkeypatch.setattr(_mixtures, "_ELEMENTS", elements)
        monkeypatch.setattr(_mixtures, "_MOST_ELEMENTS", most)
        network, loss, _ = mixtures(poisson=True, shifts=False)
        loss.fit_endmembers(network)
        found.append(network.endmembers().detach())

    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[2], found[0], rtol=1e-3)
