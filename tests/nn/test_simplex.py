"""The simplex network: mixtures on the simplex, intensities, shifts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperspy_specml.nn import SimplexNetwork

N_CHANNELS, K, N_SPECTRA = 11, 3, 7


@pytest.fixture
def network():
    rng = np.random.default_rng(3)
    endmembers = torch.tensor(rng.dirichlet(np.full(N_CHANNELS, 3.0), K), dtype=torch.float32)
    mean = 40 * endmembers.mean(dim=0)
    to_scores = torch.diag(mean.rsqrt())  # as many vectors as channels: scores are whitened spectra
    counts = torch.tensor(rng.poisson(mean, (N_SPECTRA, N_CHANNELS)), dtype=torch.float32)
    torch.manual_seed(1)
    return SimplexNetwork(
        endmembers, to_scores, mean, counts @ to_scores, shot=1.0, shifts=False, n_hidden=8, n_layers=2,
        ends=torch.tensor([[0] * N_CHANNELS, [N_CHANNELS - 1] * N_CHANNELS]),
    )  # fmt: skip


def test_abundances_sum_to_one_and_the_intensity_of_counts_is_their_sum(network):
    counts = torch.tensor(np.random.default_rng(4).poisson(5, (N_SPECTRA, N_CHANNELS)), dtype=torch.float32)

    abundances, intensity, shift = network.encode(counts @ network.to_scores / network.total)

    assert (abundances >= 0).all()
    torch.testing.assert_close(abundances.sum(dim=1), torch.ones(N_SPECTRA))
    torch.testing.assert_close(intensity * network.total, counts.sum(dim=1), rtol=1e-4, atol=1e-4)
    assert not shift.any()
    torch.testing.assert_close(network.endmembers().sum(dim=1), torch.ones(K))


def test_without_counts_alone_the_intensity_is_that_of_least_squares(network):
    network.shot = 0.0
    x = torch.randn(N_SPECTRA, N_CHANNELS, generator=torch.Generator().manual_seed(2)) + 3

    abundances, intensity, _ = network.encode(x)

    for row, shares, found in zip(x, abundances, intensity, strict=True):
        seen = (shares @ network.endmembers()) @ network.to_scores
        best = np.linalg.lstsq(seen.detach()[:, None].numpy(), row.numpy(), rcond=None)[0]
        assert found.item() == pytest.approx(best.item(), rel=1e-4)


@pytest.mark.parametrize("shifts", [False, True])
def test_sums_over_spectra_are_the_transpose_of_mixing(network, shifts):
    network.shifts = shifts
    network.ends = torch.tensor([[0] * 4 + [4] * 7, [3] * 4 + [10] * 7])  # channels 0-3 and 4-10
    rng = torch.Generator().manual_seed(6)
    abundances, intensity = (torch.rand(shape, generator=rng) for shape in ((N_SPECTRA, K), (N_SPECTRA,)))
    shift = torch.tensor([0.0, 0.3, -0.3, 2.0, -1.75, 30.0, -30.0])
    weights = torch.randn(N_SPECTRA, N_CHANNELS, generator=rng)

    forward = (network.decode(abundances, intensity, shift) * weights).sum()
    transposed = (network.endmembers() * network.decode_transposed(weights, abundances, intensity, shift)).sum()

    torch.testing.assert_close(forward, transposed, rtol=1e-4, atol=1e-4)


def test_shifting_is_linear_interpolation_that_holds_the_ends(network):
    spectra = torch.rand(4, N_CHANNELS, generator=torch.Generator().manual_seed(5))
    shift = torch.tensor([0.0, 2.0, -1.25, 30.0])
    channels = np.arange(N_CHANNELS)

    shifted = network.shifted(spectra, shift)

    for row, by, found in zip(spectra.numpy(), shift.numpy(), shifted.numpy(), strict=True):
        np.testing.assert_allclose(found, np.interp(channels - by, channels, row), rtol=1e-5)


def test_nothing_is_shifted_across_a_gap_in_the_channels(network):
    network.ends = torch.tensor([[0] * 4 + [4] * 7, [3] * 4 + [10] * 7])
    spectra = torch.cat([torch.zeros(1, 4), torch.ones(1, 7)], dim=1)

    for by in (-2.5, 0.5, 3.0):
        torch.testing.assert_close(network.shifted(spectra, torch.tensor([by])), spectra)


def test_reordering_endmembers_changes_no_spectrum(network):
    x = torch.randn(N_SPECTRA, N_CHANNELS, generator=torch.Generator().manual_seed(6)) + 3
    mixture = network.encode(x)
    before = network.decode(*mixture)

    network.reorder(torch.tensor([2, 0, 1]))

    again = network.encode(x)
    torch.testing.assert_close(network.decode(*again), before)
    torch.testing.assert_close(again[0], mixture[0][:, [2, 0, 1]])


def test_equal_endmembers_do_not_diverge_from_their_mean_and_disjoint_ones_do_by_all_of_it(network):
    even = torch.full((N_SPECTRA, K), 1 / K)
    with torch.no_grad():
        network.log_ratio.zero_()
        assert network.endmember_divergence(even).item() == pytest.approx(0, abs=1e-6)
        network.log_ratio.fill_(-9)
        for k in range(K):
            network.log_ratio[k, k] = 9
        assert network.endmember_divergence(even).item() == pytest.approx(np.log(K), rel=1e-3)
