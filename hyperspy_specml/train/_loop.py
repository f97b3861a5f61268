"""The one training loop: steps, scores on held-out counts, early stopping, interrupts, divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.train.config import TrainConfig

_WARM_UP = 0.1  # share of the steps
_EXPLODED = 1e4  # times the first loss

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
    interrupted
        Whether the user stopped the training.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_step: int = 0
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

    def waited(self) -> int:
        """Return the number of evaluations since the best one."""
        return len(self.scores) - 1 - self.scores.index(min(self.scores))


def fit(
    network: nn.Module,
    loss: Loss,
    config: TrainConfig,
    *,
    score: Score,
    track: Callable[[range], Iterable[int]],
) -> History:
    """Train until the held-out score stops falling; leave the network at its best step.

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
    try:
        for step, mean_loss in _steps(network, loss, config, config.max_steps, track):
            if history.record(step, mean_loss, score(network)):
                best = copy.deepcopy(network.state_dict())
            elif history.waited() >= config.patience:
                break
    except KeyboardInterrupt:
        history.interrupted = True
    network.load_state_dict(best)
    return history


def refit(
    network: nn.Module,
    loss: Loss,
    config: TrainConfig,
    *,
    n_steps: int,
    track: Callable[[range], Iterable[int]],
) -> None:
    """Train for a number of steps that was chosen before, with the whole schedule in them and no scoring."""
    for _ in _steps(network, loss, config, n_steps, track):
        pass


def _steps(
    network: nn.Module, loss: Loss, config: TrainConfig, n_steps: int, track: Callable[[range], Iterable[int]]
) -> Iterable[tuple[int, float]]:
    """Take steps; yield (step, mean loss) every ``config.evaluate_every`` of them and after the last."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps))
    losses: list[Tensor] = []
    first: float | None = None
    for step in track(range(1, n_steps + 1)):
        network.train()
        value = loss(network)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(value.detach())  # .item() at every step would wait for a GPU
        if step % config.evaluate_every == 0 or step == n_steps:
            mean = torch.stack(losses).mean().item()
            first = mean if first is None else first
            if not math.isfinite(mean) or mean > _EXPLODED * max(first, 1e-30):
                raise TrainingDivergedError(f"the loss became {mean:g} at step {step}")
            losses.clear()
            network.eval()
            yield step, mean


def _rate(step: int, n_steps: int) -> float:
    """Return the share of the learning rate: a linear rise, then half a cosine down to 1 %."""
    progress = step / n_steps
    if progress < _WARM_UP:
        return (step + 1) / (_WARM_UP * n_steps + 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - _WARM_UP) / (1 - _WARM_UP))))
