"""The settings of an analysis that few users change, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass

from hyperspy_specml.exceptions import OptionError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of training and computation.

    Parameters
    ----------
    learning_rate
        Step size of the optimiser (AdamW) at the start; a plateau of the held-out score makes it smaller.
    batch_size
        Spectra per step.
    max_steps
        Steps at most.
    evaluate_every
        Steps between two scores on the validation fold.
    patience
        Scores in a row without a better one that make a plateau; the fourth plateau ends the training.
    restarts
        Seeds of the dense autoencoder that are trained for a fifth of the steps, of which the one with the
        best score goes on; with 1 the training starts once. The simplex architecture has starts of its own.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    centre
        Subtract the mean spectrum before PCA (the textbook's), not only whiten (HyperSpy's default).
    memory_budget
        Bytes that the passes over the file may use at a time.
    kernel
        "auto" computes exact second moments with the fastest kernel of the machine, "float32" in plain
        single precision (for comparison).

    Raises
    ------
    OptionError
        A number is not positive or the kernel is unknown.
    """

    learning_rate: float = 5e-3
    batch_size: int = 512
    max_steps: int = 3000
    evaluate_every: int = 100
    patience: int = 4
    restarts: int = 1
    n_hidden: int = 64
    n_layers: int = 2
    centre: bool = False
    memory_budget: int = 1_000_000_000
    kernel: str = "auto"

    def __post_init__(self) -> None:
        """Refuse settings that would fail later, with a message that says which."""
        for name in (
            "learning_rate", "batch_size", "max_steps", "evaluate_every", "patience", "restarts", "n_hidden",
            "n_layers", "memory_budget",
        ):  # fmt: skip
            value = getattr(self, name)
            if not value > 0:
                raise OptionError(
                    f"TrainConfig({name}={value!r}) must be positive, e.g. TrainConfig({name}=1)."
                )
        if self.kernel not in ("auto", "float32"):
            raise OptionError.unknown("TrainConfig(kernel=...)", self.kernel, ("auto", "float32"))
