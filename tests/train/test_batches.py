"""Batches: input and target share no counts, and every spectrum has its turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hyperspy_specml.train import DrawnCounts, DrawnInputs, RandomRows, ScoresAndCounts, SplitParts, squared_error


def rows_of(n, batch_size, seed=0):
    return RandomRows(n, batch_size, torch.Generator().manual_seed(seed))


class Scale(nn.Module):
    """Predicts the target as a multiple of the input."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def loss_of(network, batch):
    return squared_error(network, batch, 1)["squared error"]


@pytest.mark.parametrize(("n_parts", "n_target"), [(4, 1), (6, 2)])
def test_input_and_target_are_made_of_different_parts_that_are_the_whole_together(n_parts, n_target):
    # One spectrum whose part k is the k-th unit vector times its fraction: the input shows which were used.
    fractions = torch.arange(1, n_parts + 1) / sum(range(1, n_parts + 1))
    source = SplitParts(torch.diag(fractions)[None], fractions, torch.ones(1), rows_of(1, 1))
    for _ in range(20):
        batch = source.draw()
        used = batch.input[0] > 0
        share = fractions[~used].sum()
        assert int(used.sum()) == n_parts - n_target
        torch.testing.assert_close(batch.input[0, used], fractions[used] / (1 - share))
        torch.testing.assert_close(batch.target[0, ~used], fractions[~used] / share)
        assert not batch.target[0, used].any()
        # Squared target on its own scale, times its share of the counts.
        torch.testing.assert_close(loss_of(Scale(0.0), batch), (fractions[~used] / share).square().sum() * share)


def test_an_epoch_visits_every_spectrum_once():
    parts = torch.arange(12.0)[:, None, None].expand(12, 4, 1) / 4
    source = SplitParts(parts, torch.full((4,), 0.25), torch.ones(12), rows_of(12, 4))

    seen = [value for _ in range(3) for value in source.draw().input[:, 0].tolist()]

    assert sorted(seen) == pytest.approx(list(range(12)))


def test_each_epoch_has_an_order_of_its_own_and_a_batch_is_no_larger_than_the_map():
    rows = rows_of(7, 7)
    assert rows.draw().tolist() != rows.draw().tolist()
    assert len(rows_of(5, 512).draw()) == 5


def test_noise_is_not_learnt_because_the_target_has_other_noise():
    # Pure noise: the best prediction of a target from an independent input is zero, not the input.
    parts = torch.randn(2000, 4, 5, generator=torch.Generator().manual_seed(0))
    fractions, weights = torch.full((4,), 0.25), torch.ones(2000)

    losses = [
        loss_of(Scale(factor), SplitParts(parts, fractions, weights, rows_of(2000, 2000, 1)).draw())
        for factor in (0.0, 0.2, 1.0)
    ]

    assert losses[0] < losses[1] < losses[2]


def test_weights_that_follow_from_the_input_do_not_favour_too_few_counts():
    # Counts of mean 3 in each part. The best constant prediction is their mean; weights that know the target make it
    # smaller.
    parts = torch.poisson(torch.full((20000, 4, 1), 3.0), generator=torch.Generator().manual_seed(0))
    fractions = torch.full((4,), 0.25)
    source = SplitParts(parts, fractions, torch.ones(20000), rows_of(20000, 20000), lambda x: x[:, 0].clamp_min(1) / 12)
    batch = source.draw()

    best = (batch.weight * batch.target[:, 0]).sum() / batch.weight.sum()

    assert float(best) == pytest.approx(12, rel=0.01)
    assert float(batch.weight.std()) > 0.05


def test_inputs_made_before_meet_the_target_and_the_weight_of_their_own_spectrum():
    target = torch.arange(1.0, 8.0)[:, None]
    inputs = target[:, None] + torch.tensor([0.0, 0.25, 0.5])[:, None]  # (7, 3, 1): the draw shows
    source = DrawnInputs(inputs, target, 1 / target[:, 0].square(), rows_of(7, 7))
    draws = set()
    for _ in range(5):
        batch = source.draw()
        seen = batch.input[:, 0]
        assert sorted(seen.floor().tolist()) == list(range(1, 8))
        draws |= set((seen - seen.floor()).tolist())
        torch.testing.assert_close(batch.target[:, 0], seen.floor())
        # Each target squared, times its own weight.
        torch.testing.assert_close(loss_of(Scale(0.0), batch), torch.ones(()))
    assert draws == {0.0, 0.25, 0.5}


FRACTIONS = (0.5, 0.3, 0.2)


@pytest.mark.parametrize("variance", [None, "of channels", "of values"])
def test_scores_of_all_parts_but_one_meet_the_counts_of_that_one(variance):
    rng = np.random.default_rng(0)
    targets = tuple(rng.poisson(100 * f, (7, 11)).astype(np.uint16) for f in FRACTIONS)
    parts = torch.tensor(np.stack([t[:, :5] for t in targets], axis=1), dtype=torch.float32)  # (7, 3, 5)
    noise = {None: None, "of channels": rng.random(11) + 1, "of values": rng.random((7, 11)) + 1}[variance]
    source = ScoresAndCounts(parts, targets, FRACTIONS, noise, rows_of(7, 4))
    rows = torch.tensor([6, 0, 2])

    for which, fraction in enumerate(FRACTIONS):
        batch = source.batch(which, rows)
        others = sum(targets[i] for i in range(3) if i != which)[[6, 0, 2], :5]
        np.testing.assert_allclose(batch.input, others / (1 - fraction), rtol=1e-5)
        np.testing.assert_array_equal(batch.target, targets[which][[6, 0, 2]])
        assert batch.fraction == fraction
        assert batch.beside == {"fraction": pytest.approx(1 - fraction)}
        if noise is None:
            assert batch.variance is None
        else:
            own = noise[[6, 0, 2]] if noise.ndim == 2 else noise[None]
            np.testing.assert_allclose(batch.variance, own, rtol=1e-5)

    drawn = {source.draw().fraction for _ in range(40)}
    assert drawn == set(FRACTIONS)


def test_counts_are_drawn_about_their_own_clean_spectrum_at_any_number_between_the_two():
    shapes = torch.softmax(torch.randn(7, 11, generator=torch.Generator().manual_seed(0)), dim=1)
    centre, variance = torch.linspace(0, 0.1, 11), torch.ones(11)
    source = DrawnCounts(shapes, torch.eye(11), centre, variance, (1e4, 1e6), rows_of(7, 7))

    batches = [source.draw() for _ in range(30)]

    error = torch.cat([(b.input - b.target) / b.beside["level"] for b in batches])
    clean = torch.cat([b.target + centre for b in batches])
    # Poisson noise of a total N of shapes p: variance p / N, less what the known total takes away, p^2 / N.
    expected = (clean - clean.square()).mean(dim=0)
    torch.testing.assert_close(error.square().mean(dim=0), expected, rtol=0.35, atol=0)
    levels = torch.cat([b.beside["level"] for b in batches])
    assert (levels.min() < 2e-3) & (levels.max() > 5e-3)
    assert ((levels > 0.9e-3) & (levels < 1.1e-2)).all()
