"""Fit the dense autoencoder: on the training fold until the validation fold says stop, then on all counts."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperspy_specml.decompose._network_data import DenseTraining, normalisation
from hyperspy_specml.decompose._restarts import Attempt, best_of, collapse
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.models import DenseModel
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, Folds
from hyperspy_specml.train import History, fit, one_thread, refit

if TYPE_CHECKING:
    from hyperspy_specml.nn import DenseNetwork
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import TrainConfig

_SCORED_ELEMENTS = 1 << 21  # deviances per evaluation: a small part of the time of its steps
_SCORED_TO_CHOOSE = 1 << 23  # deviances per number of latents: these decide, so they are more
_REFIT_SHARE = (
    1 / 3
)  # of the chosen steps: the fold's network goes on with all counts, it does not start anew
_BRIEF = 5  # times fewer steps tell which number of latents, or which seed, is best
_MORE = 2  # seeds beyond those asked for, where trainings diverge or collapse

Track = Callable[[range], Iterable[int]]
Watch = Callable[[DenseModel], object]


@dataclass(frozen=True)
class DenseFit:
    """A trained autoencoder.

    Attributes
    ----------
    model
        Fitted on all counts.
    fold_model
        Fitted on the training fold: the one that held-out scores belong to.
    history
        Of the training on the fold.
    attempts
        The seeds that were tried.
    """

    model: DenseModel
    fold_model: DenseModel
    history: History
    attempts: tuple[Attempt, ...]


def fit_dense(
    prepared: TrainingData,
    n_components: int,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    track: Track,
    watch: Watch | None = None,
) -> DenseFit:
    """Train a dense autoencoder with K latents.

    Parameters
    ----------
    prepared
        What is known of the map.
    n_components
        Latents K.
    config, seed, device, track
        Settings, seed of weights and batches, torch device, and the progress bar around ranges of steps.
    watch
        Called with the model of the training fold at every step that is scored.

    Raises
    ------
    TrainingDivergedError
        The loss diverged with every seed tried.
    """
    with one_thread(device):
        trained, attempts = _Restarts(prepared, n_components, config, seed, device, track, watch).best()
        fold_model = trained.fold.model(trained.network)
        # What was learnt is kept; the rest is what Ctrl-C asks to skip, and draws are not made for it.
        if trained.history.interrupted or (prepared.draws and trained.history.best_step):
            return DenseFit(fold_model, fold_model, trained.history, attempts)
        model = _on_all_counts(prepared, trained, config, device, track)
    return DenseFit(model, fold_model, trained.history, attempts)


def score_latents(
    prepared: TrainingData,
    n_components: int,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    track: Track,
) -> tuple[np.ndarray, bool]:
    """Train an autoencoder briefly, to compare numbers of latents.

    Returns
    -------
    (m,) validation-fold scores, and whether the user interrupted the training

    Raises
    ------
    TrainingDivergedError
        The loss diverged with every seed tried.
    """
    short = dataclasses.replace(brief(config), restarts=1)
    with one_thread(device):
        trained, _ = _Restarts(prepared, n_components, short, seed, device, track, comparing=True).best()
    few, few_scores = _some(prepared, _SCORED_TO_CHOOSE)
    model = trained.fold.plain_model(trained.network)
    return few.score("validation", lambda rows: model.predict(few_scores[rows])), trained.history.interrupted


def centred_pca(prepared: TrainingData, n_components: int, config: TrainConfig) -> DenseModel:
    """Return PCA about the mean spectrum, fitted on the training fold: a network that was not trained.

    Parameters
    ----------
    prepared
        What is known of the map.
    n_components
        Components K.
    config
        Settings.
    """
    fold = _fold(prepared, n_components)
    return fold.plain_model(fold.network(config, 0, torch.device("cpu")))


def brief(config: TrainConfig) -> TrainConfig:
    """Return the settings of a training that only compares, or that the user does not want to wait for.

    Parameters
    ----------
    config
        The settings of the full training.
    """
    return dataclasses.replace(config, max_steps=max(1, config.max_steps // _BRIEF))


@dataclass(frozen=True)
class _Trained:
    """A network and how it came about on the training fold."""

    fold: DenseTraining
    network: DenseNetwork
    history: History
    seed: int


@dataclass(frozen=True)
class _Restarts:
    """Trainings on the fold that differ in their seed.

    All start as the same PCA and end close to each other, so one is enough if it is sound. Another one is
    tried where it diverged, and where it collapsed on counts that carry so many components.
    """

    prepared: TrainingData
    n_components: int
    config: TrainConfig
    seed: int
    device: torch.device
    track: Track
    watch: Watch | None = None
    comparing: bool = False  # with other numbers of latents, of which some are too many

    def best(self) -> tuple[_Trained, tuple[Attempt, ...]]:
        """Train from one seed, or briefly from several, of which the best goes on."""
        try:
            trained, attempts = best_of(self._starts(), self._judge, enough=self._enough)
        except TrainingDivergedError as error:
            raise TrainingDivergedError(
                f"decomposition_ae(architecture='dense'): {error}. Train more gently, config="
                f"specml.TrainConfig(learning_rate={self.config.learning_rate / 10:g}); the baseline does "
                "not train: decomposition_ae(architecture='pca')."
            ) from error
        in_full = self.config.restarts == 1 and trained.seed == self.seed
        if not (in_full or trained.history.interrupted):
            later = self._fit(trained.fold, trained.network, self.config, trained.seed)
            trained = dataclasses.replace(trained, history=trained.history.then(later))
        return trained, attempts

    def _starts(self) -> Iterator[tuple[str, Callable[[], _Trained]]]:
        for i in range(self.config.restarts + _MORE):
            config = self.config if i == 0 and self.config.restarts == 1 else brief(self.config)
            seed = self.seed + 7919 * i
            yield f"seed {seed}", partial(self._train, config, seed)

    def _train(self, config: TrainConfig, seed: int) -> _Trained:
        fold = _fold(self.prepared, self.n_components)
        network = fold.network(config, seed, self.device)
        if not config.centre:
            other = dataclasses.replace(fold, about_mean=False)
            rival = other.network(config, seed, self.device)
            if self._score(other.plain_model(rival)) < self._score(fold.plain_model(network)):
                fold, network = other, rival
        return _Trained(fold, network, self._fit(fold, network, config, seed), seed)

    def _fit(self, fold: DenseTraining, network: DenseNetwork, config: TrainConfig, seed: int) -> History:
        model = fold.plain_model(network)

        def score(_: torch.nn.Module) -> float:
            if self.watch:
                self.watch(model)
            return self._score(model)

        return fit(network, fold.loss(config, seed, self.device), config, score=score, track=self.track)

    def _score(self, model: DenseModel) -> float:
        few, scores = _some(self.prepared, _SCORED_ELEMENTS)
        return float(few.score("validation", lambda rows: model.predict(scores[rows])).mean())

    def _judge(self, trained: _Trained) -> tuple[float, str]:
        """Return the score of the best step, and whether a latent could as well be constant."""
        if self.comparing:
            return min(trained.history.scores), ""
        k, (folds, scores) = self.n_components, _some(self.prepared, _SCORED_ELEMENTS)
        model = trained.fold.model(trained.network)
        latents = model.encode_scores(scores)
        own = folds.score("validation", lambda rows: model.decode(latents[rows]))
        without = {}
        for i in range(k if k > 1 else 0):
            constant = latents.copy()
            constant[:, i] = latents[:, i].mean()
            without[f"component {i}"] = folds.score(
                "validation", lambda rows, z=constant: model.decode(z[rows])
            )  # type: ignore[misc]
        basis = self.prepared.fold_basis.first(max(1, k - 1))
        smaller = (
            folds.score("validation", lambda rows: basis.spectra(scores[rows, : basis.n_vectors]))
            if k > 1
            else None
        )
        return float(own.mean()), collapse(own, without, smaller)

    def _enough(self, trained: _Trained, attempts: list[Attempt]) -> bool:
        too_many = (
            self.n_components > self.prepared.rank.chosen
        )  # a collapse is no accident: no seed mends it
        fine = [a for a in attempts if math.isfinite(a.score) and (too_many or not a.collapsed)]
        return trained.history.interrupted or len(fine) >= self.config.restarts


def _on_all_counts(
    prepared: TrainingData, trained: _Trained, config: TrainConfig, device: torch.device, track: Track
) -> DenseModel:
    fold, history = trained.fold, trained.history
    if history.best_step == 0:  # nothing beat PCA: all counts' own PCA is what the network starts as
        scores = prepared.basis.project(prepared.summary.sample)
        whole = dataclasses.replace(
            fold, basis=prepared.basis, parts=scores[:, None], fractions=np.ones(1), **normalisation(scores)
        )
        return whole.model(whole.network(config, trained.seed, device))
    whole = dataclasses.replace(
        fold, basis=prepared.aligned, parts=prepared.parts, fractions=np.array(FRACTIONS)
    )
    final = copy.deepcopy(trained.network)
    path = [(rate, math.ceil(_REFIT_SHARE * n_steps)) for rate, n_steps in history.path]
    refit(final, whole.loss(config, trained.seed, device), path, track=track)
    return whole.model(final)


def _fold(prepared: TrainingData, n_components: int) -> DenseTraining:
    return DenseTraining(
        prepared.fold_basis, prepared.fold_parts, np.array(prepared.folds.fractions[:N_PARTS]), prepared.spectrum_weights,
        n_components, **normalisation(prepared.fold_scores), draws=prepared.draws,
    )  # fmt: skip


def _some(prepared: TrainingData, n_elements: int) -> tuple[Folds, np.ndarray]:
    """Return folds and training-fold scores of about as many spectra as make up `n_elements` values."""
    step = max(1, prepared.folds.validation.size // n_elements)
    return prepared.folds.every(step), prepared.fold_scores[::step]
