"""The one training loop: steps, scores on held-out counts, early stopping, interrupts, divergence; and its device."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import OptionError, TrainingDivergedError
from hyperspy_specml.lazy import torch
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.statistics import falls
from hyperspy_specml.streaming import one_openmp_thread

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from hyperspy_specml.run import Run
    from hyperspy_specml.train._batches import Batch, BatchSource, Loss, LossParts

_logger = logging.getLogger(__name__)

_WARM_UP = 50  # steps
_SLOWER = 0.3  # factor of the learning rate on a plateau
_SLOWEST = 0.03  # share of the learning rate below which a plateau ends the training
_EXPLODED = 1e4  # times the first loss
_WEIGHT_DECAY = 1e-2
# Share of the chosen steps: the network of the fold goes on with all counts, it does not start anew.
_REFIT_SHARE = 1 / 3
_AVERAGED = 0.01  # share of the newest weights in their running average

Score = Callable[["nn.Module"], float]
"""Scores the network on counts it has not seen; smaller is better."""


@dataclass
class History:
    """What happened in a training.

    Attributes
    ----------
    steps, losses, scores
        At each evaluation: the step, the mean of each term of the loss since the one before, the held-out score.
    best_step
        Step of the smallest score; the network is the one of this step. 0: the start was never beaten.
    path
        (learning rate, steps) of the stretches that led to it.
    interrupted
        Whether the user stopped the training.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_step: int = 0
    path: tuple[tuple[float, int], ...] = ()
    interrupted: bool = False

    def record(self, step: int, losses: dict[str, float], score: float) -> bool:
        """Add an evaluation; return whether it is the best so far."""
        best = not self.scores or score < min(self.scores)
        self.steps.append(step)
        self.losses.append(losses)
        self.scores.append(score)
        if best:
            self.best_step = step
        return best

    def curve(self) -> dict[str, Any]:
        """Return the fields of a report that say how the training went."""
        return {"steps": tuple(self.steps), "step_scores": tuple(self.scores), "best_step": self.best_step}

    def then(self, later: History) -> History:
        """Return the history of this training up to its best step and of one that went on from there."""
        kept = self.steps.index(self.best_step) + 1
        steps = self.steps[:kept] + [self.best_step + step for step in later.steps[1:]]
        losses, scores = self.losses[:kept] + later.losses[1:], self.scores[:kept] + later.scores[1:]
        best_step, path = self.best_step + later.best_step, (*self.path, *later.path)
        return History(steps, losses, scores, best_step, path, later.interrupted)


def fit(
    network: nn.Module, batches: BatchSource, loss: Loss, run: Run, *, score: Score, at_once: int | None = None
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
    batches, loss
        What each step is made of, and what it makes smaller.
    run
        Settings, all set (`TrainConfig.over`); the steps make up its current stage of progress. After ``max_steps``
        the training goes on while the score `falls`, for that share of them at most that ``extension`` says.
    score
        See `Score`; called every ``config.evaluate_every`` steps and once at the start.
    at_once
        See `Trainer`.

    Returns
    -------
    History; an interrupt (Ctrl-C) or a cancel ends the training like a stop, and the history says so

    Raises
    ------
    TrainingDivergedError
        The loss is not finite or exploded.
    """
    config, history = run.config, History()
    rate, n_steps, every, patience = config.learning_rate, config.max_steps, config.evaluate_every, config.patience
    assert rate is not None and n_steps is not None and every is not None and patience is not None  # noqa: PT018
    stage, most = run.progress.stage, n_steps + int((config.extension or 0) * n_steps)
    history.record(0, {}, score(network))
    run.progress.record(stage, 0, history.scores[0])
    best, slowest, since_best, waited = copy.deepcopy(network.state_dict()), _SLOWEST * rate, 0, 0
    trainer = Trainer(network, loss, rate, at_once=at_once)
    try:
        for step in run.progress.steps(range(1, most + 1)):
            trainer.step(batches.draw())
            since_best += 1
            if step % every and step not in (n_steps, most):
                continue
            losses = trainer.mean_losses()
            with trainer.averaged():
                if better := history.record(step, losses, score(network)):
                    best = copy.deepcopy(network.state_dict())
            run.progress.record(stage, step, history.scores[-1])
            if better:
                history.path = (*history.path, (rate, since_best))
                since_best, waited = 0, 0
            elif (waited := waited + 1) >= patience:
                rate *= _SLOWER
                if rate < slowest:
                    break
                network.load_state_dict(best)
                trainer = Trainer(network, loss, rate, at_once=at_once)
                since_best, waited = 0, 0
            if step >= n_steps and not falls(history.scores):
                break
        run.progress.advance(1)  # a stop that was asked for during the last evaluation is one of this training
    except STOPPED:
        history.interrupted = True
    network.load_state_dict(best)
    network.eval()
    return history


def refit(network: nn.Module, batches: BatchSource, loss: Loss, history: History, run: Run) -> None:
    """Go on with all counts, along a third of the path of the training on the fold; nothing is scored.

    Parameters
    ----------
    network
        That of the fold; trained in place.
    batches, loss
        Of all counts.
    history
        Of the training on the fold.
    run
        Device and progress.

    Raises
    ------
    TrainingDivergedError
        The loss is not finite or exploded.
    """
    rates = [rate for rate, n_steps in history.path for _ in range(math.ceil(_REFIT_SHARE * n_steps))]
    trainer = Trainer(network, loss, rates[0])
    with one_thread(run.device), run.progress.enter("Train on all counts"):
        for step in run.progress.steps(range(len(rates))):
            trainer.step(batches.draw(), rates[step])
    trainer.mean_losses()
    network.load_state_dict(trainer.average)
    network.eval()


@cache
def without_compiler(optimizer: type[Optimizer]) -> type[Any]:
    """Return an optimiser of PyTorch without the wrappers for compiled code: they import the compiler, 2 s for nothing.

    Its ``zero_grad`` imports it all the same: set the gradients to None, or call that of the network.

    Parameters
    ----------
    optimizer
        Class, such as ``torch.optim.AdamW``.
    """
    own = {
        "add_param_group": inspect.unwrap(optimizer.add_param_group),
        "step": torch.no_grad()(inspect.unwrap(optimizer.step)),
    }
    return type(optimizer.__name__, (optimizer,), own)


class Trainer:
    """Network, loss and optimiser, taking one step at a time: for the loop above, or for data that still come.

    Parameters
    ----------
    network
        Trained in place.
    loss
        See `Loss`.
    learning_rate
        Of every step that does not name its own; the first 50 steps are smaller.
    rates
        Factor of the learning rate of the parameters whose names start with this text, the longest such text
        counts; 0 freezes them. All others have 1.
    at_once
        Samples whose gradient is computed at a time: fewer than a batch take less memory, and less time on a CPU where
        what is computed of them stays in its cache. Losses are means over samples; None takes the whole batch.

    Raises
    ------
    OptionError
        There are no parameters of such a name.

    Attributes
    ----------
    average
        Running average of the weights, by name: what is worth keeping. `averaged` tries it.
    n_steps
        Steps taken.
    """

    def __init__(
        self, network: nn.Module, loss: Loss, learning_rate: float, *, rates: Mapping[str, float] | None = None,
        at_once: int | None = None,
    ) -> None:  # fmt: skip
        self.network, self.loss, self.learning_rate, self.at_once = network, loss, learning_rate, at_once
        self.parameters, groups = _groups(network, rates or {})
        adamw = without_compiler(torch.optim.AdamW)
        self.optimizer = adamw(groups, lr=learning_rate, weight_decay=_WEIGHT_DECAY, fused=True)
        self.average = copy.deepcopy(network.state_dict())
        # Weights change in place. Asking the network for them at every step costs as much as a small network.
        weights = network.state_dict()
        self._averages = [(self.average[n], w) for n, w in weights.items() if w.is_floating_point()]
        self._losses: list[LossParts] = []
        self._first: float | None = None
        self.n_steps = 0

    def step(self, batch: Batch, learning_rate: float | None = None) -> LossParts:
        """Take one step and return the terms of the loss before it.

        Parameters
        ----------
        batch
            What the network sees.
        learning_rate
            Of this step; None takes that of the trainer.
        """
        self.n_steps += 1
        warm = min(1.0, self.n_steps / _WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = warm * (self.learning_rate if learning_rate is None else learning_rate) * group["factor"]
        if not self.network.training:  # switching takes its time too
            self.network.train()
        for weights in self.parameters:
            weights.grad = None
        parts: LossParts = {}
        for share, piece in batch.pieces(self.at_once):
            found = {name: share * value for name, value in self.loss(self.network, piece, self.n_steps).items()}
            total: Tensor = sum(found.values())  # type: ignore[assignment]  # 0 + a tensor is a tensor
            total.backward()
            parts = {name: value.detach() + parts.get(name, 0.0) for name, value in found.items()}
        self.optimizer.step()
        self._losses.append(parts)  # .item() at every step would wait for a GPU
        share = max(_AVERAGED, 9 / (9 + self.n_steps))  # the first average forgets where it started
        for average, weights in self._averages:
            average.lerp_(weights, share)
        return parts

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network its averaged weights for a while."""
        last = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(last)

    def mean_losses(self) -> dict[str, float]:
        """Return the mean of each term of the loss since the last call.

        Raises
        ------
        TrainingDivergedError
            Their sum is not finite or exploded.
        """
        means = {n: torch.stack([parts[n] for parts in self._losses]).mean().item() for n in self._losses[0]}
        self._losses.clear()
        self.network.eval()
        total = sum(means.values())
        self._first = total if self._first is None else self._first
        if not math.isfinite(total) or total > _EXPLODED * max(self._first, 1e-30):
            raise TrainingDivergedError(f"the loss became {total:g} after {self.n_steps} steps")
        return means


def _groups(network: nn.Module, rates: Mapping[str, float]) -> tuple[list[Tensor], list[dict[str, object]]]:
    """Return the trained parameters, and the optimiser's groups of those with the same factor."""
    named, rates = dict(network.named_parameters()), {"": 1.0, **rates}
    for prefix in rates:
        if not any(name.startswith(prefix) for name in named):
            raise OptionError.unknown("Trainer(rates=...)", prefix, named)
    by_factor: dict[float, list[Tensor]] = {}
    for name, weights in named.items():
        factor = rates[max(filter(name.startswith, rates), key=len)]
        if factor and weights.requires_grad:
            by_factor.setdefault(factor, []).append(weights)
    groups: list[dict[str, object]] = [{"params": w, "factor": f} for f, w in by_factor.items()]
    return [weights for group in by_factor.values() for weights in group], groups


def device_for(name: str, device: str, settings: Sequence[str], *, trained: bool) -> str:
    """Return where networks are trained; where none is, the log says that device and settings have no effect.

    Parameters
    ----------
    name
        What was called, for the message.
    device, settings
        As the user gave them: the device, and the names of the training settings.
    trained
        Whether a network may be trained.
    """
    if trained:
        return choose_device(device)
    if device != "auto" or settings:
        _logger.warning("%s(): no network is trained, so device and training settings have no effect", name)
    return "cpu"


def choose_device(name: str) -> str:
    """Return the name of a torch device that is there.

    Parameters
    ----------
    name
        "auto" (CUDA, else Apple's MPS, else the CPU) or any name that torch knows.

    Raises
    ------
    OptionError
        torch does not know the name or the device is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(name)).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise OptionError(
            f"device={name!r} cannot be used here ({str(error).splitlines()[0]}). Use device='auto' or 'cpu'."
        ) from error
    return name


def one_thread(device: str) -> AbstractContextManager[Any]:
    """Run small operations on one CPU core; no limit on other devices.

    A batch is too small to share: two threads gain a fifth on an idle machine and lose a factor on a busy
    one, waiting for each other. One thread also gives the same bits on any number of cores.
    """
    return one_openmp_thread() if torch.device(device).type == "cpu" else nullcontext()
