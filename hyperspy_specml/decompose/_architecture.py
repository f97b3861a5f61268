"""What every architecture of a decomposition is, and what trained ones share: the best of several starts."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hyperspy_specml.exceptions import OptionError, TrainingDivergedError
from hyperspy_specml.models import CLEAR, Attempt, FittedModel, LinearModel
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.statistics import paired
from hyperspy_specml.train import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from hyperspy_specml.prepare import TrainingData

_logger = logging.getLogger(__name__)

_TIMES: dict[str, Any] = {"max_steps": 3000, "extension": 1.0, "evaluate_every": 100, "patience": 4, "restarts": 1}
_DEFAULTS = TrainConfig(learning_rate=5e-3, batch_size=512, comparison_share=0.2, **_TIMES)
SCORED = 1 << 21  # deviances per evaluation: a small part of the time of its steps
COMPARED = 1 << 23  # deviances per number of components: these decide, so they are more
_SIZES = {"n_hidden": 1 << 16, "n_layers": 100, "n_filters": 1 << 10}  # the largest that are meant

T = TypeVar("T")


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
    others
        Further models of the training fold that were candidates, by name.
    assumption
        What the model supposes of the data that its rivals do not, for people.
    """

    fold_model: FittedModel
    finish: Callable[[], FittedModel] = field(repr=False)
    history: History = field(default_factory=History)
    attempts: tuple[Attempt, ...] = ()
    others: dict[str, FittedModel] = field(default_factory=dict)
    assumption: str = ""

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
    mixes
        Whether its components are spectra of phases that mix. What such a model leaves over large areas is then as
        likely a drift or the like as another phase.
    defaults
        Of its training settings.
    """

    name: str
    options: Any
    trained: bool = True
    smooth: bool = False
    more_components: int = 0
    mixes: bool = False
    defaults: ClassVar[TrainConfig] = _DEFAULTS

    @property
    def stage(self) -> str:
        """What the progress calls its fit."""
        return f"{'Train' if self.trained else 'Fit'} {self.name}"

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

    def compare(self, data: TrainingData, n_components: int, run: Run) -> tuple[np.ndarray, bool]:
        """Train briefly, to compare numbers of components; what is not trained is fitted.

        Returns
        -------
        (m,) scores on the validation fold, and whether the user interrupted the training

        Raises
        ------
        TrainingDivergedError
            The loss diverged with every start.
        """
        return data.scores_of(self.fit(data, n_components, run).fold_model), False

    def shown(self, model: FittedModel, data: TrainingData, run: Run) -> FittedModel:
        """Return the same model with the scores that users see; by default as it is."""
        return model

    def applied(self, model: FittedModel, data: TrainingData, *, fold: bool) -> FittedModel:
        """Return the model that is applied to spectra, scored and stored; by default the fitted one as it is.

        Parameters
        ----------
        model
            A fitted model.
        data
            That it was fitted to.
        fold
            Whether to the training fold alone.
        """
        return model

    def rivals(self, data: TrainingData, n_components: int) -> dict[str, FittedModel]:
        """Return further models of the training fold that the fitted one is scored beside, by name."""
        return {}


def best_of(
    starts: Iterable[tuple[str, Callable[[], T]]],
    judge: Callable[[T], tuple[float, str]],
    *,
    enough: Callable[[T, list[Attempt]], bool] = lambda *_: False,
) -> tuple[T, tuple[Attempt, ...]]:
    """Train from several starts and keep the best that did not collapse.

    Parameters
    ----------
    starts
        Names, and functions that train.
    judge
        Returns the score of what was trained, and why it collapsed or "".
    enough
        Asked after each training with what was trained and all attempts so far: whether no more are tried.

    Returns
    -------
    the best one, and all attempts in order. Where all collapsed, the best of these: the log says so.

    Raises
    ------
    TrainingDivergedError
        Every training diverged.
    """
    trained: list[tuple[T, Attempt]] = []
    attempts: list[Attempt] = []
    for name, train in starts:
        try:
            result = train()
        except TrainingDivergedError as error:
            _logger.warning("Training from %s diverged (%s); trying another start.", name, error)
            attempts.append(Attempt(name, float("nan"), f"diverged: {error}"))
            continue
        attempts.append(Attempt(name, *judge(result)))
        trained.append((result, attempts[-1]))
        if enough(result, attempts):
            break
    if not trained:
        raise TrainingDivergedError(f"all {len(attempts)} trainings diverged ({attempts[-1].collapsed})")
    best, attempt = min(trained, key=lambda one: (bool(one[1].collapsed), one[1].score))
    if attempt.collapsed:
        which = f"All {len(attempts)} trainings" if len(attempts) > 1 else "The training"
        _logger.warning("%s collapsed (%s): fewer components are enough for these spectra.", which, attempt.collapsed)
    return best, tuple(attempts)


def judge(
    data: TrainingData, model: FittedModel, without: Callable[[np.ndarray, int], np.ndarray]
) -> tuple[np.ndarray, str]:
    """Score a model of the training fold, and say why it collapsed, if it did.

    Parameters
    ----------
    data
        Training data.
    model
        Of their training fold.
    without
        Returns the scores without one of the components.

    Returns
    -------
    (m,) validation scores, and why K components are worth no more than fewer, or ""
    """
    k, (folds, scores) = model.n_components, data.few(SCORED)
    encoded = model.encode_scores(scores)

    def score(columns: np.ndarray) -> np.ndarray:
        return folds.score("validation", lambda rows: model.decode(columns[rows]))

    own = score(encoded)
    reduced = {f"component {i}": score(without(encoded, i)) for i in range(k)} if k > 1 else {}
    smaller = data.scores_of(LinearModel(data.fold_basis.first(k - 1)), SCORED) if k > 1 else None
    return own, collapse(own, reduced, smaller)


def collapse(scores: np.ndarray, without: dict[str, np.ndarray], smaller: np.ndarray | None) -> str:
    """Say why a model with K components is worth no more than one with fewer; "" if it is worth it.

    Parameters
    ----------
    scores
        (m,) held-out scores of the model.
    without
        (m,) scores of the model without one component, by what to call this component.
    smaller
        (m,) scores of PCA with one component less; None for K = 1.
    """
    for name, other in without.items():
        pair = paired(other, scores)
        if pair.difference <= pair.standard_error:
            return f"{name} explains nothing"
    if smaller is not None:
        pair = paired(scores, smaller)
        if pair.difference > CLEAR * pair.standard_error:
            return "worse than PCA with one component less"
    return ""


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
        fold_model = LinearModel(data.fold_basis.first(n_components))
        return Fit(fold_model, lambda: LinearModel(data.basis.first(n_components)))


@dataclass(frozen=True)
class NetworkOptions:
    """Options of an architecture with hidden layers.

    Parameters
    ----------
    n_hidden, n_layers
        Width and number of the hidden layers.

    Raises
    ------
    OptionError
        One of them is not a whole number, not positive, or beyond all reason.
    """

    n_hidden: int = 64
    n_layers: int = 2

    def __post_init__(self) -> None:
        """Refuse sizes that no network has."""
        check_sizes(self)


def check_sizes(options: Any) -> None:
    """Refuse sizes that no network has.

    Parameters
    ----------
    options
        Of an architecture: those of its fields are looked at that are sizes.

    Raises
    ------
    OptionError
        One is not a whole number, not positive, or beyond all reason.
    """
    kind = type(options).__name__
    for name, most in _SIZES.items():
        value = getattr(options, name, 1)
        if not isinstance(value, Integral) or not 1 <= int(value) <= most:
            raise OptionError(f"{kind}({name}={value!r}) must be a whole number from 1 to {most}.")
