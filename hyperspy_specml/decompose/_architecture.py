"""What every architecture of a decomposition is: a name, options, and a fit to training data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import LinearModel
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.train import History

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from hyperspy_specml.models import Attempt, FittedModel
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run

_SIZES = {"n_hidden": 1 << 16, "n_layers": 100}  # the largest that are meant


@dataclass(frozen=True)
class Fit:
    """A fitted architecture.

    Attributes
    ----------
    fold_model
        Fitted on the training fold: the one that held-out scores belong to.
    history
        Of the training on the fold.
    attempts
        The starts or seeds that were tried.
    finish
        Fits it on all counts; called when `model` is first asked for.
    """

    fold_model: FittedModel
    finish: Callable[[], FittedModel] = field(repr=False)
    history: History = field(default_factory=History)
    attempts: tuple[Attempt, ...] = ()

    @cached_property
    def model(self) -> FittedModel:
        """The model fitted on all counts; that of the fold where the user stopped a training."""
        if self.history.interrupted:  # what was learnt is kept; the rest is what Ctrl-C asks to skip
            return self.fold_model
        try:
            return self.finish()
        except STOPPED:
            self.history.interrupted = True
            return self.fold_model


class Architecture(ABC):
    """One way to decompose spectra; `register_architecture` makes it known by its name.

    Attributes
    ----------
    name
        As users give it.
    options
        Frozen dataclass of its options.
    trained
        Whether a network is trained: then device and training settings mean something.
    smooth
        Whether its basis may be smooth along energy, as smooth as held-out counts allow.
    more_components
        Components that it may carry beyond those that PCA carries, with the noise as it is.
    defaults
        Of its training settings.
    """

    name: str
    options: Any
    trained: bool = True
    smooth: bool = False
    more_components: int = 0
    defaults: ClassVar[TrainConfig] = TrainConfig()

    def completed(self, run: Run, data: TrainingData) -> Run:
        """Return the run with the defaults of the architecture where its settings say nothing."""
        return run.over(self.defaults)

    @abstractmethod
    def fit(self, data: TrainingData, n_components: int, run: Run) -> Fit:
        """Fit a model with K components.

        Raises
        ------
        TrainingDivergedError
            The loss diverged with every start.
        """

    @abstractmethod
    def compare(self, data: TrainingData, n_components: int, run: Run) -> tuple[np.ndarray, bool]:
        """Train briefly, to compare numbers of components.

        Returns
        -------
        (m,) scores on the validation fold, and whether the user interrupted the training

        Raises
        ------
        TrainingDivergedError
            The loss diverged with every start.
        """

    def rivals(self, data: TrainingData, n_components: int) -> dict[str, FittedModel]:
        """Return further models of the training fold that the fitted one is scored beside, by name."""
        return {}


@dataclass(frozen=True)
class PCAOptions:
    """Options of principal component analysis.

    Parameters
    ----------
    centre
        Subtract the mean spectrum before PCA (the textbook's), not only whiten (HyperSpy's default).
    """

    centre: bool = False


@dataclass(frozen=True)
class PCA(Architecture):
    """Noise-weighted principal components."""

    name: str = "pca"
    options: PCAOptions = field(default_factory=PCAOptions)
    trained = False

    def fit(self, data: TrainingData, n_components: int, run: Run) -> Fit:
        """Return the first K principal components."""
        return Fit(
            LinearModel(data.fold_basis.first(n_components)), lambda: LinearModel(data.basis.first(n_components))
        )

    def compare(self, data: TrainingData, n_components: int, run: Run) -> tuple[np.ndarray, bool]:
        """Score K components on the validation fold."""
        return data.scores_of(LinearModel(data.fold_basis.first(n_components))), False


def check_sizes(options: Any) -> None:
    """Refuse sizes that no network has.

    Parameters
    ----------
    options
        With `n_hidden` and `n_layers`.

    Raises
    ------
    OptionError
        One of them is not a whole number, not positive, or beyond all reason.
    """
    for name, most in _SIZES.items():
        value, kind = getattr(options, name), type(options).__name__
        if not isinstance(value, Integral) or not 1 <= int(value) <= most:
            raise OptionError(f"{kind}({name}={value!r}) must be a whole number from 1 to {most}.")
