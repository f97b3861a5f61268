"""The training loop: what it keeps, when it slows down and stops, and how it fails."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from hyperspy_specml.exceptions import Cancelled, TrainingDivergedError
from hyperspy_specml.progress import Progress
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.train import Batch, History, fit, refit

CONFIG = TrainConfig(learning_rate=0.1, max_steps=120, evaluate_every=5, patience=2)
RUN = Run(CONFIG)


class Parabola(nn.Module):
    """One number, whose loss is its squared distance to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(()))


class Ones:
    """Batches of the one target that there is."""

    def draw(self) -> Batch:
        return Batch(torch.zeros(1), torch.ones(1))


def loss(network, batch, step):
    return {"distance": (network.x - batch.target).square().mean()}


def distance(network):
    return (network.x.item() - 1) ** 2


def test_the_network_of_the_best_score_is_kept_and_not_the_last_one():
    network = Parabola()
    # Held-out counts prefer 0.5: training goes past it, as an overfitting network does.
    history = fit(network, Ones(), loss, RUN, score=lambda n: abs(n.x.item() - 0.5))

    assert abs(network.x.item() - 0.5) == pytest.approx(min(history.scores))
    assert history.scores[history.steps.index(history.best_step)] == min(history.scores)
    assert history.steps[-1] > history.best_step


def test_the_start_is_kept_where_training_only_harms():
    network = Parabola()
    history = fit(network, Ones(), loss, RUN, score=lambda n: n.x.item())

    assert history.best_step == 0
    assert history.path == ()
    assert network.x.item() == 0


def test_plateaus_lower_the_learning_rate_and_then_end_the_training():
    scores = iter([5.0, 4.0, *[4.5] * 100])
    history = fit(Parabola(), Ones(), loss, RUN, score=lambda _: next(scores))

    # Four rates (1, .3, .09, .027 is too slow), two scores each after the first, best, one.
    assert len(history.scores) == 2 + 2 * 3
    assert history.path == ((0.1, 5),)


@pytest.mark.parametrize(("extension", "last"), [(0.0, 120), (0.5, 180), (1.0, 240)])
def test_a_training_whose_score_still_falls_goes_on_as_far_as_it_may(extension, last):
    counted = itertools.count()
    run = Run(replace(CONFIG, extension=extension))
    history = fit(Parabola(), Ones(), loss, run, score=lambda _: -next(counted))

    assert history.steps[-1] == history.best_step == last


def test_a_training_goes_on_until_its_score_falls_no_more():
    scores = iter([*range(30, 0, -1), *[0.5, 0.6] * 100])  # better up to step 150, then only scatter
    run = Run(replace(CONFIG, extension=9.0, patience=100))
    history = fit(Parabola(), Ones(), loss, run, score=lambda _: next(scores))

    assert history.best_step == 150
    assert 150 < history.steps[-1] < 200


def test_the_best_score_at_the_last_step_by_chance_is_no_reason_to_go_on():
    scores = iter([9.0, *[5.0, 4.9] * 11, 5.0, 4.8])
    run = Run(replace(CONFIG, extension=1.0, patience=100))
    history = fit(Parabola(), Ones(), loss, run, score=lambda _: next(scores))

    assert history.best_step == history.steps[-1] == 120


def test_the_path_tells_the_rates_and_steps_that_led_to_the_best_network():
    scores = iter([5.0, 4.0, 4.5, 4.5, 3.0, 2.0, *[9.0] * 100])
    history = fit(Parabola(), Ones(), loss, RUN, score=lambda _: next(scores))

    assert history.path == ((0.1, 5), (pytest.approx(0.03), 5), (pytest.approx(0.03), 5))
    assert history.best_step == 25  # with the ten steps that were taken back


def test_every_evaluation_has_the_mean_of_each_term_since_the_one_before():
    def terms(network, batch, step):
        return {"step": 0 * network.x + step, "distance": 0 * network.x + 100.0}

    history = fit(Parabola(), Ones(), terms, RUN, score=lambda _: 1.0)

    assert history.losses[:3] == [{}, {"step": 3.0, "distance": 100.0}, {"step": 8.0, "distance": 100.0}]


def test_a_training_that_goes_on_from_the_best_step_is_one_history():
    first = History([0, 5, 10], [{}, {"a": 3.0}, {"a": 2.0}], [9.0, 8.0, 8.5], 5, ((0.1, 5),))
    later = History([0, 5], [{}, {"a": 1.0}], [8.0, 7.0], 5, ((0.1, 5),), interrupted=True)

    both = first.then(later)

    assert both.steps == [0, 5, 10]
    assert both.scores == [9.0, 8.0, 7.0]
    assert both.losses == [{}, {"a": 3.0}, {"a": 1.0}]
    assert (both.best_step, both.path, both.interrupted) == (10, ((0.1, 5), (0.1, 5)), True)


class Stopped(Progress):
    """Stops the call after so many steps: as Ctrl-C does, or as another thread that cancels."""

    def __init__(self, after: int, how: str) -> None:
        super().__init__()
        self.after, self.how = after, how

    def show(self) -> None:
        self.after -= 1
        if self.after == 0 and self.how == "Ctrl-C":
            raise KeyboardInterrupt
        if self.after == 0:
            self.cancel()


@pytest.mark.parametrize("how", ["Ctrl-C", "cancel"])
def test_a_stopped_training_keeps_the_best_network_and_says_so(how):
    network = Parabola()
    history = fit(network, Ones(), loss, Run(CONFIG, progress=Stopped(42, how)), score=distance)

    assert history.interrupted
    assert history.steps[-1] == 40
    assert distance(network) == pytest.approx(min(history.scores))
    assert not network.training


def test_a_cancel_during_the_evaluation_that_ends_a_training_is_one_of_this_training():
    progress, scores = Progress(), iter([5.0, 4.0, *[4.5] * 100])
    counted = []

    def score(network):
        counted.append(1)
        if len(counted) == 8:  # the last one, see the plateaus above
            progress.cancel()
        return next(scores)

    with progress.enter("Train"):
        history = fit(Parabola(), Ones(), loss, Run(CONFIG, progress=progress), score=score)

    assert len(counted) == 8
    assert history.interrupted
    assert history.best_step == 5
    assert progress.fraction == 1


@pytest.mark.parametrize(("how", "error"), [("Ctrl-C", KeyboardInterrupt), ("cancel", Cancelled)])
def test_a_stop_while_training_on_all_counts_is_for_the_caller_to_answer(how, error):
    with pytest.raises(error):
        refit(Parabola(), Ones(), loss, History(path=((0.1, 15),)), Run(CONFIG, progress=Stopped(2, how)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_divergence(bad):
    def spoilt(network, batch, step):
        return {"distance": loss(network, batch, step)["distance"] * bad}

    with pytest.raises(TrainingDivergedError, match="the loss became"):
        fit(Parabola(), Ones(), spoilt, RUN, score=lambda _: 0.0)
    with pytest.raises(TrainingDivergedError, match="the loss became"):
        refit(Parabola(), Ones(), spoilt, History(path=((0.1, 15),)), RUN)


def test_a_loss_that_explodes_is_a_divergence():
    def exploding(network, batch, step):
        return {"distance": loss(network, batch, step)["distance"] * 10.0**step}

    with pytest.raises(TrainingDivergedError, match="after 10 steps"):
        fit(Parabola(), Ones(), exploding, RUN, score=lambda _: 0.0)


def test_refitting_takes_a_third_of_the_steps_of_the_path():
    steps, network = [], Parabola()

    def counted(network, batch, step):
        steps.append(step)
        return loss(network, batch, step)

    refit(network, Ones(), counted, History(path=((0.1, 9), (0.01, 12))), RUN)

    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert network.x.item() > 0


def test_the_steps_of_a_training_make_up_its_stage():
    progress = Progress()
    with progress.enter("Train", 0.5):
        fit(Parabola(), Ones(), loss, Run(CONFIG, progress=progress), score=distance)
    assert progress.fraction == 0.5

    with progress.enter("Train on all counts"):
        refit(Parabola(), Ones(), loss, History(path=((0.1, 15),)), Run(CONFIG, progress=progress))
    assert progress.fraction == 1


class Moody(Parabola):
    """Remembers whether it was in training mode, and counts the steps it took in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.modes: list[bool] = []


def test_a_network_knows_when_it_is_trained_and_when_it_is_scored():
    network, scored = Moody(), []

    def watched(network, batch, step):
        network.modes.append(network.training)
        return loss(network, batch, step)

    def score(network):
        scored.append(network.training)
        return distance(network)

    fit(network, Ones(), watched, RUN, score=score)

    assert all(network.modes)  # after an evaluation too
    assert len(network.modes) > 2 * CONFIG.evaluate_every
    assert not any(scored[1:])


def test_what_is_kept_is_the_average_of_weights_and_buffers_over_the_steps():
    network, seen = Moody(), []

    def watched(network, batch, step):
        seen.append(network.x.item())
        network.steps.add_(1)
        return loss(network, batch, step)

    refit(network, Ones(), watched, History(path=((0.1, 24),)), RUN)

    # The first steps weigh alike: after n of them the start has 9 / (9 + n) of what it had before.
    average, steps = 0.0, 0.0
    for n, x in enumerate([*seen[1:], None], start=1):
        share = 9 / (9 + n)
        steps += share * (n - steps)
        average = average + share * (x - average) if x is not None else average
    assert network.steps.item() == pytest.approx(steps)
    assert 0 < average < network.x.item() < 1  # the last step, which nobody saw, adds a little
