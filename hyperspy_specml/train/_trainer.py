"""The one training loop: steps, scores on held-out counts, early stopping, interrupts, divergence."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hyperspy_specml.exceptions import TrainingDivergedError

if TYPE_CHECKING:
    from hyperspy_specml.run import TrainConfig

_WARM_UP = 50  # steps
_SLOWER = 0.3  # factor of the learning rate on a plateau
_SLOWEST = 0.03  # share of the learning rate below which a plateau ends the training
_EXPLODED = 1e4  # times the first loss
_WEIGHT_DECAY = 1e-2
_AVERAGED = 0.01  # share of the newest weights in their running average

Loss = Callable[[nn.Module], Tensor]
"""Draws a batch, runs the network on it and returns the mean loss."""

Score = Callable[[nn.Module], float]
"""Scores the network on counts it has not seen; smaller is better."""


@dataclass
class History:
    """What happened: data, not prints.

    Attributes
    ----------
    steps, losses, scores
        At each evaluation: the step, the mean training loss since the one before, the held-out score.
    best_step
        Step of the smallest score; the network is the one of this step. 0: the start was never beaten.
    path
        (learning rate, steps) of the stretches that led to it.
    interrupted
        Whether the user stopped the training.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_step: int = 0
    path: tuple[tuple[float, int], ...] = ()
    interrupted: bool = False

    def record(self, step: int, loss: float, score: float) -> bool:
        """Add an evaluation; return whether it is the best so far."""
        best = not self.scores or score < min(self.scores)
        self.steps.append(step)
        self.losses.append(loss)
        self.scores.append(score)
        if best:
            self.best_step = step
        return best

    def then(self, later: History) -> History:
        """Return the history of this training up to its best step and of one that went on from there."""
        kept = self.steps.index(self.best_step) + 1
        return History(
            self.steps[:kept] + [self.best_step + step for step in later.steps[1:]],
            self.losses[:kept] + later.losses[1:], self.scores[:kept] + later.scores[1:],
            self.best_step + later.best_step, (*self.path, *later.path), later.interrupted,
        )  # fmt: skip


def fit(
    network: nn.Module,
    loss: Loss,
    config: TrainConfig,
    *,
    score: Score,
    track: Callable[[range], Iterable[int]],
) -> History:
    """Train until the held-out score stops falling; leave the network at its best step.

    What is scored and kept is the running average of the weights: single steps follow the noise of their
    batch (B. T. Polyak, A. B. Juditsky, SIAM J. Control Optim. 30 (1992) 838). On a plateau the training goes
    back to the best average and on from there in smaller steps: noisy data, which large steps spoil at once,
    and clear data, which need many of them, find their own rate.

    Parameters
    ----------
    network
        Trained in place.
    loss
        See `Loss`.
    config
        Learning rate, steps, patience.
    score
        See `Score`; called every ``config.evaluate_every`` steps and once at the start.
    track
        Wraps the range of steps, e.g. in a progress bar.

    Returns
    -------
    History; an interrupt (Ctrl-C) ends the training like a stop, and the history says so

    Raises
    ------
    TrainingDivergedError
        The loss is not finite or exploded.
    """
    history = History()
    history.record(0, math.nan, score(network))
    best = copy.deepcopy(network.state_dict())
    rate, since_best, waited = config.learning_rate, 0, 0
    trainer = _Trainer(network, loss, rate)
    try:
        for step in track(range(1, config.max_steps + 1)):
            trainer.step()
            since_best += 1
            if step % config.evaluate_every and step != config.max_steps:
                continue
            loss_since = trainer.mean_loss()
            with trainer.averaged():
                if better := history.record(step, loss_since, score(network)):
                    best = copy.deepcopy(network.state_dict())
            if better:
                history.path = (*history.path, (rate, since_best))
                since_best, waited = 0, 0
            elif (waited := waited + 1) >= config.patience:
                rate *= _SLOWER
                if rate < _SLOWEST * config.learning_rate:
                    break
                network.load_state_dict(best)
                trainer = _Trainer(network, loss, rate)
                since_best, waited = 0, 0
    except KeyboardInterrupt:
        history.interrupted = True
    network.load_state_dict(best)
    network.eval()
    return history


def refit(
    network: nn.Module,
    loss: Loss,
    path: Iterable[tuple[float, int]],
    *,
    track: Callable[[range], Iterable[int]],
) -> None:
    """Train along a path of (learning rate, steps) that was found before; nothing is scored."""
    rates = [rate for rate, n_steps in path for _ in range(n_steps)]
    trainer = _Trainer(network, loss, rates[0])
    for step in track(range(len(rates))):
        trainer.step(rates[step])
    trainer.mean_loss()
    network.load_state_dict(trainer.average)
    network.eval()


class _AdamW(torch.optim.AdamW):
    """PyTorch's AdamW without the wrappers for compiled code: they import the compiler, 2 s for nothing."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class _Trainer:
    """Network, loss and optimiser, taking one step at a time."""

    def __init__(self, network: nn.Module, loss: Loss, rate: float) -> None:
        self.network, self.loss, self.rate = network, loss, rate
        self.optimizer = _AdamW(network.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY, fused=True)
        self.average = copy.deepcopy(network.state_dict())
        # Weights change in place. Asking the network for them at every step costs as much as a small network.
        self.averages = [
            (self.average[name], weights)
            for name, weights in network.state_dict().items() if weights.is_floating_point()
        ]  # fmt: skip
        self.parameters = list(network.parameters())
        self.losses: list[Tensor] = []
        self.n_steps = 0
        self.first: float | None = None

    def step(self, rate: float | None = None) -> None:
        """Take one step, at the given learning rate or the one of the start; the first steps are smaller."""
        self.n_steps += 1
        warm = min(1.0, self.n_steps / _WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = warm * (self.rate if rate is None else rate)
        if not self.network.training:  # switching takes its time too
            self.network.train()
        value = self.loss(self.network)
        for weights in self.parameters:
            weights.grad = None
        value.backward()
        self.optimizer.step()
        self.losses.append(value.detach())  # .item() at every step would wait for a GPU
        share = max(_AVERAGED, 9 / (9 + self.n_steps))  # the first average forgets where it started
        for average, weights in self.averages:
            average.lerp_(weights, share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network its averaged weights for a while."""
        last = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.average)
        yield
        self.network.load_state_dict(last)

    def mean_loss(self) -> float:
        """Return the mean loss since the last call.

        Raises
        ------
        TrainingDivergedError
            It is not finite or exploded.
        """
        mean = torch.stack(self.losses).mean().item()
        self.losses.clear()
        self.network.eval()
        self.first = mean if self.first is None else self.first
        if not math.isfinite(mean) or mean > _EXPLODED * max(self.first, 1e-30):
            raise TrainingDivergedError(f"the loss became {mean:g} after {self.n_steps} steps")
        return mean
