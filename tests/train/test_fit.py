"""The training loop: what it keeps, when it slows down and stops, and how it fails."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hyperspy_specml.exceptions import OptionError, TrainingDivergedError
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.train._device import choose_device, one_thread
from hyperspy_specml.train._trainer import History, fit, refit

CONFIG = TrainConfig(learning_rate=0.1, max_steps=120, evaluate_every=5, patience=2)


def everything(steps):
    return steps


class Parabola(nn.Module):
    """One number, whose loss is its squared distance to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(()))


def distance(network: Parabola) -> torch.Tensor:
    return (network.x - 1).square()


def test_the_network_of_the_best_score_is_kept_and_not_the_last_one():
    network = Parabola()
    # Held-out counts prefer 0.5: training goes past it, as an overfitting network does.
    history = fit(network, distance, CONFIG, score=lambda n: abs(n.x.item() - 0.5), track=everything)

    assert abs(network.x.item() - 0.5) == pytest.approx(min(history.scores))
    assert history.scores[history.steps.index(history.best_step)] == min(history.scores)
    assert history.steps[-1] > history.best_step


def test_the_start_is_kept_where_training_only_harms():
    network = Parabola()
    history = fit(network, distance, CONFIG, score=lambda n: n.x.item(), track=everything)

    assert history.best_step == 0
    assert history.path == ()
    assert network.x.item() == 0


def test_plateaus_lower_the_learning_rate_and_then_end_the_training():
    scores = iter([5.0, 4.0, *[4.5] * 100])
    history = fit(Parabola(), distance, CONFIG, score=lambda _: next(scores), track=everything)

    # Four rates (1, .3, .09, .027 is too slow), two scores each after the first, best, one.
    assert len(history.scores) == 2 + 2 * 3
    assert history.path == ((0.1, 5),)


def test_the_path_tells_the_rates_and_steps_that_led_to_the_best_network():
    scores = iter([5.0, 4.0, 4.5, 4.5, 3.0, 2.0, *[9.0] * 100])
    history = fit(Parabola(), distance, CONFIG, score=lambda _: next(scores), track=everything)

    assert history.path == ((0.1, 5), (pytest.approx(0.03), 5), (pytest.approx(0.03), 5))
    assert history.best_step == 25  # with the ten steps that were taken back


def test_a_training_that_goes_on_from_the_best_step_is_one_history():
    first = History([0, 5, 10], [math.nan, 3.0, 2.0], [9.0, 8.0, 8.5], 5, ((0.1, 5),))
    later = History([0, 5], [math.nan, 1.0], [8.0, 7.0], 5, ((0.1, 5),), interrupted=True)

    both = first.then(later)

    assert both.steps == [0, 5, 10]
    assert both.scores == [9.0, 8.0, 7.0]
    assert both.losses[1:] == [3.0, 1.0]
    assert (both.best_step, both.path, both.interrupted) == (10, ((0.1, 5), (0.1, 5)), True)


def test_an_interrupt_keeps_the_best_network_and_says_so():
    def interrupted(steps):
        for step in steps:
            if step == 42:
                raise KeyboardInterrupt
            yield step

    network = Parabola()
    history = fit(network, distance, CONFIG, score=lambda n: distance(n).item(), track=interrupted)

    assert history.interrupted
    assert history.steps[-1] == 40
    assert distance(network).item() == pytest.approx(min(history.scores))


def test_an_interrupt_while_refitting_is_the_users_second_and_raises():
    def interrupted(steps):
        raise KeyboardInterrupt
        yield from steps

    with pytest.raises(KeyboardInterrupt):
        refit(Parabola(), distance, [(0.1, 5)], track=interrupted)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_divergence(bad):
    with pytest.raises(TrainingDivergedError, match="the loss became"):
        fit(Parabola(), lambda n: distance(n) * bad, CONFIG, score=lambda _: 0.0, track=everything)


def test_a_loss_that_explodes_is_a_divergence():
    calls = iter(range(1000))
    with pytest.raises(TrainingDivergedError, match="after 10 steps"):
        fit(
            Parabola(),
            lambda n: distance(n) * 10.0 ** next(calls),
            CONFIG,
            score=lambda _: 0.0,
            track=everything,
        )


def test_refitting_takes_the_steps_of_the_path():
    seen = []
    network = Parabola()
    refit(network, distance, [(0.1, 3), (0.01, 4)], track=lambda steps: seen.append(len(steps)) or steps)

    assert seen == [7]
    assert network.x.item() > 0


def test_the_configuration_refuses_what_cannot_work():
    with pytest.raises(OptionError, match="max_steps=0"):
        TrainConfig(max_steps=0)
    with pytest.raises(OptionError, match="float32"):
        TrainConfig(kernel="float16")


def test_an_impossible_device_is_refused_with_the_way_out():
    with pytest.raises(OptionError, match="device='auto' or 'cpu'"):
        choose_device("abacus")


def test_training_on_one_thread_leaves_the_users_threads_as_they_were():
    before = torch.get_num_threads()
    with one_thread(torch.device("cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


class Moody(Parabola):
    """Remembers whether it was in training mode, and counts the steps it took in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.modes: list[bool] = []


def test_a_network_knows_when_it_is_trained_and_when_it_is_scored():
    network, scored = Moody(), []

    def loss(n: Moody) -> torch.Tensor:
        n.modes.append(n.training)
        return distance(n)

    def score(n: Moody) -> float:
        scored.append(n.training)
        return distance(n).item()

    fit(network, loss, CONFIG, score=score, track=everything)

    assert all(network.modes)  # after an evaluation too
    assert len(network.modes) > 2 * CONFIG.evaluate_every
    assert not any(scored[1:])


def test_what_is_kept_is_the_average_of_weights_and_buffers_over_the_steps():
    network, seen = Moody(), []

    def loss(n: Moody) -> torch.Tensor:
        seen.append(n.x.item())
        n.steps.add_(1)
        return distance(n)

    refit(network, loss, [(0.1, 8)], track=everything)

    # The first steps weigh alike: after n of them the start has 9 / (9 + n) of what it had before.
    average, steps = 0.0, 0.0
    for n, x in enumerate([*seen[1:], None], start=1):
        share = 9 / (9 + n)
        steps += share * (n - steps)
        average = average + share * (x - average) if x is not None else average
    assert network.steps.item() == pytest.approx(steps)
    assert 0 < average < network.x.item() < 1  # the last step, which nobody saw, adds a little
