"""What a computation is given beside its data: settings, seed, device and progress."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Self

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.progress import Progress

KERNELS = ("auto", "float32")


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How a map is read and its moments are computed.

    Parameters
    ----------
    memory_budget
        Bytes that the passes over the file may use at a time. Default 1 GB.
    kernel
        "auto" computes exact second moments with the fastest kernel of the machine, "float32" in plain
        single precision (for comparison).

    Raises
    ------
    OptionError
        A number is not positive or the kernel is unknown.
    """

    memory_budget: int = 1_000_000_000
    kernel: str = "auto"

    def __post_init__(self) -> None:
        """Refuse settings that would fail later, with a message that says which."""
        name = type(self).__name__
        for setting in fields(self):
            value = getattr(self, setting.name)
            least = "no negative" if setting.name == "extension" else "a positive"
            number = isinstance(value, Real) and (float(value) > 0 or (value == 0 and least == "no negative"))
            if not (number or value is None or setting.name == "kernel"):
                raise OptionError(
                    f"{name}({setting.name}={value!r}) must be {least} number, e.g. {name}({setting.name}=1)."
                )
        if self.kernel not in KERNELS:
            raise OptionError.unknown(f"{name}(kernel=...)", self.kernel, KERNELS)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ComputeConfig):
    """How networks are trained, and (from `ComputeConfig`) how the map is read.

    What is None takes the default of the network that is trained: a dense autoencoder, say, takes larger steps
    and more of them than a network of score maps. What is set holds for every network of the call as it stands.

    Parameters
    ----------
    learning_rate
        Step size of the optimiser (AdamW) at the start; a plateau of the held-out score makes it smaller.
    batch_size
        Spectra per step.
    max_steps
        Steps at most; see `extension`.
    extension
        Share of `max_steps` that a training goes on for beyond them, at most, while its held-out score falls by more
        than the scatter of the last scores explains. By default 1 for most networks, and 0 where you set `max_steps`.
    evaluate_every
        Steps between two scores on the validation fold.
    patience
        Scores in a row without a better one that make a plateau; the fourth plateau ends the training.
    restarts
        Seeds of the dense autoencoder that are trained for `comparison_share` of the steps, of which the one with
        the best score goes on; with 1 the training starts once. The simplex architecture has starts of its own.
    comparison_share
        Share of `max_steps` that trainings take which only compare: numbers of components, seeds, starts.
    memory_budget, kernel
        See `ComputeConfig`.

    Raises
    ------
    OptionError
        A number is not positive or the kernel is unknown.
    """

    learning_rate: float | None = None
    batch_size: int | None = None
    max_steps: int | None = None
    extension: float | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    restarts: int | None = None
    comparison_share: float | None = None

    def of_training(self) -> list[str]:
        """Return the names of the settings of training that were set."""
        return [f.name for f in fields(self) if f.default is None and getattr(self, f.name) is not None]

    def over(self, defaults: TrainConfig) -> TrainConfig:
        """Return the settings with a network's defaults in place of None.

        Parameters
        ----------
        defaults
            Of the network.
        """
        missing = {f.name: getattr(defaults, f.name) for f in fields(self) if getattr(self, f.name) is None}
        if self.max_steps is not None and self.extension is None:
            missing["extension"] = 0.0  # a bound that was asked for holds
        return replace(self, **missing)


@dataclass(frozen=True)
class Run:
    """One computation: everything but its data and what is asked of them.

    Attributes
    ----------
    config
        Settings.
    seed
        Of splits, samples, weights and batches: the same one repeats the result.
    device
        Where networks are trained, as torch names it.
    progress
        How far the computation has come, and the way to end it.
    """

    config: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    device: str = "cpu"
    progress: Progress = field(default_factory=Progress, compare=False)

    def over(self, defaults: TrainConfig) -> Self:
        """Return the run with a network's defaults where the settings say nothing."""
        return replace(self, config=self.config.over(defaults))

    def brief(self) -> Self:
        """Return the run of a training that only compares, or that the user does not want to wait for."""
        n_steps, share = self.config.max_steps, self.config.comparison_share
        assert n_steps is not None and share is not None  # noqa: PT018
        return replace(self, config=replace(self.config, max_steps=max(1, int(n_steps * share)), extension=0.0))


class Clock:
    """Seconds between stops, by the name of the stage that ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def stop(self, stage: str) -> None:
        """End a stage."""
        before, self.last = self.last, time.perf_counter()
        self.seconds[stage] = self.last - before
