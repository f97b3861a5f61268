"""The trainer: one step at a time, with parts that are frozen or slower, terms that add up, and averages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hyperspy_specml.exceptions import OptionError, TrainingDivergedError
from hyperspy_specml.train import Batch, Trainer

TARGET = torch.tensor([1.0, -2.0, 0.5])
BATCH = Batch(torch.zeros(3), TARGET)
RATE = 0.1
FIRST_STEP = RATE / 50  # the rate rises over the first fifty steps, and Adam's first step is as long as the rate


class Two(nn.Module):
    """Two layers of three numbers each that start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 1), nn.Linear(3, 1)
        for weights in self.parameters():
            nn.init.zeros_(weights)


def quadratic(network, batch, step):
    """Return a bowl for each layer, of which the lowest points are planted."""
    return {
        "encode": (network.encode.weight[0] - batch.target).square().sum() + network.encode.bias.add(3)[0] ** 2,
        "decode": 5 * (network.decode.weight[0] + batch.target).square().sum() + (network.decode.bias[0] - 1) ** 2,
    }


def trained(n_steps, **options):
    network = Two()
    trainer = Trainer(network, quadratic, RATE, **options)
    for _ in range(n_steps):
        trainer.step(BATCH)
    return network, trainer


def test_steps_lead_to_the_planted_minimum_of_the_sum_of_all_terms():
    network, trainer = trained(1500)

    torch.testing.assert_close(network.encode.weight[0].detach(), TARGET, rtol=0, atol=0.02)
    torch.testing.assert_close(network.decode.weight[0].detach(), -TARGET, rtol=0, atol=0.02)
    assert network.encode.bias.item() == pytest.approx(-3, abs=0.05)  # the weight decay pulls a little
    assert network.decode.bias.item() == pytest.approx(1, abs=0.02)
    assert trainer.n_steps == 1500


def test_a_step_returns_the_terms_before_it_without_their_graph():
    trainer = Trainer(Two(), quadratic, RATE)

    first, second = trainer.step(BATCH), trainer.step(BATCH)

    squares = TARGET.square().sum().item()
    assert first["encode"].item() == pytest.approx(squares + 9)
    assert first["decode"].item() == pytest.approx(5 * squares + 1)
    assert all(second[name] < first[name] for name in first)
    assert not any(term.requires_grad for term in first.values())


def test_means_name_every_term_and_begin_anew_after_they_were_asked_for():
    trainer = Trainer(Two(), quadratic, RATE)

    for n_steps in (7, 2):
        steps = [trainer.step(BATCH) for _ in range(n_steps)]
        assert trainer.mean_losses() == {
            name: pytest.approx(sum(step[name].item() for step in steps) / n_steps) for name in ("encode", "decode")
        }


def test_frozen_parameters_stay_bit_for_bit_and_the_others_learn():
    frozen = Two()
    with torch.no_grad():
        frozen.encode.weight.fill_(0.3)  # the weight decay must leave it alone too
    trainer = Trainer(frozen, quadratic, RATE, rates={"encode": 0})
    for _ in range(60):
        trainer.step(BATCH)

    torch.testing.assert_close(frozen.encode.weight.detach(), torch.full((1, 3), 0.3), rtol=0, atol=0)
    assert frozen.encode.bias.item() == 0
    free, _ = trained(60)
    torch.testing.assert_close(frozen.decode.weight, free.decode.weight, rtol=0, atol=0)
    assert (frozen.decode.weight != 0).all()


def test_parameters_that_take_no_gradient_are_frozen_too():
    network = Two()
    network.decode.requires_grad_(False)
    trainer = Trainer(network, quadratic, RATE)
    trainer.step(BATCH)

    assert not network.decode.weight.any()
    assert network.encode.weight.all()


def test_a_factor_of_one_half_halves_the_first_step():
    network, _ = trained(1, rates={"encode": 0.5})

    torch.testing.assert_close(network.encode.weight[0].detach(), 0.5 * FIRST_STEP * TARGET.sign())
    torch.testing.assert_close(network.decode.weight[0].detach(), -FIRST_STEP * TARGET.sign())


def test_of_two_factors_that_fit_the_more_special_one_counts():
    network, _ = trained(1, rates={"encode.bias": 2, "encode": 0})

    assert not network.encode.weight.any()
    assert network.encode.bias.item() == pytest.approx(-2 * FIRST_STEP)
    assert network.decode.bias.item() == pytest.approx(FIRST_STEP)


def test_a_factor_of_parameters_that_are_not_there_is_refused():
    with pytest.raises(OptionError, match=r"rates=\.\.\.\)='encoder' is unknown.*'encode\.weight'.*mean 'encode"):
        Trainer(Two(), quadratic, RATE, rates={"encoder": 0})


def test_a_step_may_have_a_learning_rate_of_its_own():
    network = Two()
    Trainer(network, quadratic, RATE).step(BATCH, 0.01)

    torch.testing.assert_close(network.encode.weight[0].detach(), 0.01 / 50 * TARGET.sign())


def test_the_average_is_kept_beside_the_weights_and_given_back():
    network, trainer = trained(1)
    path = [network.decode.bias.item()]
    average = 0.9 * path[0]  # after the first step the start counts a tenth
    for n in range(2, 30):
        trainer.step(BATCH)
        path.append(network.decode.bias.item())
        average += max(0.01, 9 / (9 + n)) * (path[-1] - average)

    assert trainer.average["decode.bias"].item() == pytest.approx(average, rel=1e-5)
    with trainer.averaged():
        assert network.decode.bias.item() == pytest.approx(average, rel=1e-5)
    assert network.decode.bias.item() == path[-1]


def test_the_weights_come_back_also_where_the_average_is_of_no_use():
    network, trainer = trained(5)
    last = network.decode.bias.item()

    with pytest.raises(ZeroDivisionError), trainer.averaged():
        raise ZeroDivisionError

    assert network.decode.bias.item() == last
    trainer.step(BATCH)


def test_a_loss_may_be_annealed_by_the_number_of_the_step():
    seen = []

    def annealed(network, batch, step):
        seen.append(step)
        weight = max(0.0, 1 - step / 20)  # of the first term: all of it at the beginning, none after 20 steps
        return {
            "early": weight * network.encode.weight.sub(1).square().sum(),
            "late": (1 - weight) * network.encode.weight.add(1).square().sum(),
        }

    network = Two()
    trainer = Trainer(network, annealed, RATE)
    positions = []
    for _ in range(400):
        trainer.step(BATCH)
        positions.append(network.encode.weight[0, 0].item())

    assert seen == list(range(1, 401))
    assert positions[5] > 0
    assert positions[-1] == pytest.approx(-1, abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e6])
def test_one_term_that_diverges_ends_the_training(bad):
    def spoilt(network, batch, step):
        terms = quadratic(network, batch, step)
        return terms | {"decode": terms["decode"] * (bad if step > 3 else 1)}

    trainer = Trainer(Two(), spoilt, RATE)
    for _ in range(3):
        trainer.step(BATCH)
    trainer.mean_losses()
    trainer.step(BATCH)

    with pytest.raises(TrainingDivergedError, match=r"the loss became .* after 4 steps"):
        trainer.mean_losses()


@pytest.mark.parametrize("at_once", [1, 3, 6, 20])
def test_the_gradient_of_a_batch_is_the_same_in_pieces_of_any_size(at_once):
    # 7 samples: the last piece is smaller than the others and must weigh less; the constant is of all samples.
    torch.manual_seed(0)
    values, target = torch.randn(7, 3), torch.randn(7, 1)
    batch = Batch(values, target, torch.rand(7, 1), beside={"constant": torch.randn(1, 3), "name": "of all"})

    def weighted(network, batch, step):
        assert batch.beside["name"] == "of all"
        found = network.encode(batch.input + batch.beside["constant"])
        return {"error": (batch.weight * (found - batch.target).square()).mean()}

    gradients, losses = [], []
    for size in (None, at_once):
        network = Two()
        nn.init.ones_(network.encode.weight)
        trainer = Trainer(network, weighted, RATE, rates={"decode": 0.0}, at_once=size)
        losses.append(trainer.step(batch)["error"])
        gradients.append(network.encode.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(losses[1], losses[0])
    assert len(list(batch.pieces(at_once))) == max(1, math.ceil(7 / at_once))
