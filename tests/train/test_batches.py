"""Inputs and targets share no counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hyperspy_specml.train._pairs import DrawnPairs, SplitPairs


class Recorder(nn.Module):
    """Predicts zero and remembers what it was shown."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return torch.zeros_like(x)


@pytest.mark.parametrize(("n_parts", "n_target"), [(4, 1), (6, 2)])
def test_input_and_target_are_made_of_different_parts_that_are_the_whole_together(n_parts, n_target):
    # One spectrum whose part k is the k-th unit vector times its fraction: the input shows which were used.
    fractions = torch.arange(1, n_parts + 1) / sum(range(1, n_parts + 1))
    parts = torch.diag(fractions)[None]
    pairs = SplitPairs(
        parts, fractions, torch.ones(1), batch_size=1, generator=torch.Generator().manual_seed(0)
    )
    network = Recorder()
    for _ in range(20):
        loss = pairs(network)
        used = network.seen[0] > 0
        share = fractions[~used].sum()
        assert int(used.sum()) == n_parts - n_target
        torch.testing.assert_close(network.seen[0, used], fractions[used] / (1 - share))
        # Squared target on its own scale, times its share of the counts.
        torch.testing.assert_close(loss, (fractions[~used] / share).square().sum() * share)


def test_an_epoch_visits_every_spectrum_once():
    parts = torch.arange(12.0)[:, None, None].expand(12, 4, 1) / 4
    pairs = SplitPairs(
        parts,
        torch.full((4,), 0.25),
        torch.ones(12),
        batch_size=4,
        generator=torch.Generator().manual_seed(0),
    )
    network = Recorder()
    seen = []
    for _ in range(3):
        pairs(network)
        seen += network.seen[:, 0].tolist()
    assert sorted(seen) == pytest.approx(list(range(12)))


def test_noise_is_not_learnt_because_the_target_has_other_noise():
    # Pure noise: the best prediction of a target from an independent input is zero, not the input.
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(2000, 4, 5, generator=generator)
    pairs = SplitPairs(
        parts,
        torch.full((4,), 0.25),
        torch.ones(2000),
        batch_size=2000,
        generator=torch.Generator().manual_seed(1),
    )

    class Scale(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.factor * x

    assert pairs(Scale(0.0)) < pairs(Scale(0.2)) < pairs(Scale(1.0))


def test_inputs_made_before_meet_the_target_and_the_weight_of_their_own_spectrum():
    target = torch.arange(1.0, 8.0)[:, None]
    inputs = target[:, None] + torch.tensor([0.0, 0.25, 0.5])[:, None]  # (7, 3, 1): the draw shows
    weights = 1 / target[:, 0].square()
    pairs = DrawnPairs(inputs, target, weights, batch_size=7, generator=torch.Generator().manual_seed(0))
    network = Recorder()
    draws = set()
    for _ in range(5):
        loss = pairs(network)
        seen = network.seen[:, 0]
        assert sorted(seen.floor().tolist()) == list(range(1, 8))
        draws |= set((seen - seen.floor()).tolist())
        torch.testing.assert_close(loss, torch.ones(()))  # each target squared, times its own weight
    assert draws == {0.0, 0.25, 0.5}
