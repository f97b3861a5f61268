"""The network of convolutions: PCA at the start, and its grid of positions."""

from __future__ import annotations

import pytest
import torch

from hyperspy_specml.nn import ConvNetwork, _conv
from hyperspy_specml.nn._conv import N_POSITIONS, onto_positions

N_SCORES, K = 7, 3


def network(n_channels=61):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ConvNetwork(N_SCORES, K, n_filters=3, n_hidden=5)
        vectors = torch.linalg.qr(torch.randn(n_channels, N_SCORES))[0].T
        made.look_at(vectors, torch.rand(n_channels))
    return made


def test_untrained_it_keeps_the_first_scores_and_drops_the_others():
    x = torch.randn(5, N_SCORES)

    made = network()

    torch.testing.assert_close(made.encode(x), x[:, :K])
    torch.testing.assert_close(made(x), torch.cat([x[:, :K], torch.zeros(5, N_SCORES - K)], dim=1))


def test_every_parameter_can_learn_once_the_last_layers_have_moved():
    made, x = network(), torch.randn(11, N_SCORES)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (made(x) - x.square()).square().sum().backward()
        optimizer.step()

    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())


@pytest.mark.parametrize("n_channels", [2, 61, 256, 1000, 2048])
def test_positions_share_all_channels_and_keep_the_size_of_noise(n_channels):
    onto = onto_positions(n_channels)

    width = n_channels / N_POSITIONS
    torch.testing.assert_close(onto.sum(dim=1) * width**0.5, torch.ones(n_channels).double())  # each channel, once
    torch.testing.assert_close(onto.sum(dim=0) * width**-0.5, torch.ones(N_POSITIONS).double())
    if n_channels >= N_POSITIONS and n_channels % N_POSITIONS == 0:
        torch.testing.assert_close(onto.T @ onto, torch.eye(N_POSITIONS).double())  # sums of channels, noise of one


def test_its_first_filters_see_the_spectrum_that_scores_stand_for():
    # They pass over the vectors of the basis, not over each spectrum: by hand, over the spectrum.
    made, x = network(), torch.randn(4, N_SCORES)
    torch.nn.init.normal_(made.encode_conv.last.weight)
    spectra = N_POSITIONS**0.5 * x @ made.vectors

    conv = made.encode_conv
    seen = conv.bend(conv.wide(spectra[:, None]) + conv.of_mean(made.mean[None]))
    for layer in (lambda v: v, lambda v: conv.bend(conv.narrow(v))):
        seen = torch.nn.functional.avg_pool1d(layer(seen), 2)
    expected = conv.last(conv.bend(conv.hidden(seen.flatten(1))))

    torch.testing.assert_close(made.encode_correction(x), expected, rtol=1e-4, atol=1e-5)


def test_many_spectra_pass_in_slabs(monkeypatch):
    made, x = network(), torch.randn(11, N_SCORES)
    for last in (made.encode_conv.last, made.decode_conv.wide):
        torch.nn.init.normal_(last.weight)
    expected = made(x).detach()

    monkeypatch.setattr(_conv, "_ROWS", 3)
    with torch.inference_mode():
        torch.testing.assert_close(made(x), expected, rtol=1e-4, atol=1e-5)
