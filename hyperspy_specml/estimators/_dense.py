"""Fit the dense autoencoder: on the training fold until the choosing fold says stop, then on all counts."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from hyperspy_specml.estimators._models import DenseModel
from hyperspy_specml.estimators._study import FRACTIONS, Study
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.nn import DenseNetwork
from hyperspy_specml.statistics import N_PARTS, Folds, PrincipalAxes, canonical_signs
from hyperspy_specml.train._device import one_thread
from hyperspy_specml.train._loop import History, fit, refit
from hyperspy_specml.train._pairs import DrawnPairs, SplitPairs

if TYPE_CHECKING:
    from hyperspy_specml.estimators._corruptions import Draws
    from hyperspy_specml.train.config import TrainConfig

_logger = logging.getLogger(__name__)

_SCORED_ELEMENTS = 1 << 21  # deviances per evaluation: a small part of the time of its steps
_SCORED_TO_CHOOSE = 1 << 23  # deviances per number of latents: these decide, so they are more
_REFIT_SHARE = (
    1 / 3
)  # of the chosen steps: the fold's network goes on with all counts, it does not start anew
_BRIEF = 5  # times fewer steps tell which number of latents is best
_TRIES = 3  # seeds before a divergence is final

T = TypeVar("T")
Track = Callable[[range], Iterable[int]]


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
    """

    model: DenseModel
    fold_model: DenseModel
    history: History


def fit_dense(
    study: Study, n_components: int, config: TrainConfig, *, seed: int, device: torch.device, track: Track
) -> DenseFit:
    """Train a dense autoencoder with K latents.

    Parameters
    ----------
    study
        What is known of the map.
    n_components
        Latents K.
    config, seed, device, track
        Settings, seed of weights and batches, torch device, and the progress bar around ranges of steps.

    Raises
    ------
    TrainingDivergedError
        The loss diverged with every seed tried.
    """
    return _with_other_seeds(
        lambda other: _fit_once(study, n_components, config, other, device, track), config, seed, device
    )


def score_latents(
    study: Study, n_components: int, config: TrainConfig, *, seed: int, device: torch.device, track: Track
) -> tuple[np.ndarray, bool]:
    """Train an autoencoder briefly, to compare numbers of latents.

    Returns
    -------
    (m,) choosing-fold scores, and whether the user interrupted the training

    Raises
    ------
    TrainingDivergedError
        The loss diverged with every seed tried.
    """
    fold, network, history = _with_other_seeds(
        lambda other: _train_on_fold(study, n_components, brief(config), other, device, track),
        config, seed, device,
    )  # fmt: skip
    few, few_scores = _some(study, _SCORED_TO_CHOOSE)
    model = fold.plain_model(network)
    return few.score("choose", lambda rows: model.predict(few_scores[rows])), history.interrupted


def centred_pca(study: Study, n_components: int, config: TrainConfig) -> DenseModel:
    """Return PCA about the mean spectrum, fitted on the training fold: a network that was not trained.

    Parameters
    ----------
    study
        What is known of the map.
    n_components
        Components K.
    config
        Settings.
    """
    fold = _fold(study, n_components)
    return fold.plain_model(fold.network(config, 0, torch.device("cpu")))


def brief(config: TrainConfig) -> TrainConfig:
    """Return the settings of a training that only compares, or that the user does not want to wait for.

    Parameters
    ----------
    config
        The settings of the full training.
    """
    return dataclasses.replace(config, max_steps=max(1, config.max_steps // _BRIEF))


def _with_other_seeds(train: Callable[[int], T], config: TrainConfig, seed: int, device: torch.device) -> T:
    """Train, with other seeds where it diverges."""
    for attempt in range(_TRIES):
        try:
            with one_thread(device):
                return train(seed + 7919 * attempt)
        except TrainingDivergedError as error:
            _logger.warning("Training diverged (%s); trying another seed.", error)
            reason = error
    raise TrainingDivergedError(
        f"decomposition_ae(architecture='dense') diverged with {_TRIES} seeds ({reason}). Train more gently, "
        f"config=specml.TrainConfig(learning_rate={config.learning_rate / 10:g}); the baseline does not "
        "train: decomposition_ae(architecture='pca')."
    )


def _fit_once(
    study: Study, n_components: int, config: TrainConfig, seed: int, device: torch.device, track: Track
) -> DenseFit:
    fold, network, history = _train_on_fold(study, n_components, config, seed, device, track)
    fold_model = fold.model(network)
    # What was learnt is kept; the second training is what Ctrl-C asks to skip, and draws are not made for it.
    if history.interrupted or (study.draws and history.best_step):
        return DenseFit(fold_model, fold_model, history)
    if history.best_step == 0:  # nothing beat PCA: all counts' own PCA is what the network starts as
        scores = study.axes.project(study.survey.sample)
        whole = dataclasses.replace(
            fold, axes=study.axes, parts=scores[:, None], fractions=np.ones(1), **_normalisation(scores)
        )
        return DenseFit(whole.model(whole.network(config, seed, device)), fold_model, history)
    whole = dataclasses.replace(fold, axes=study.aligned, parts=study.parts, fractions=FRACTIONS)
    final = copy.deepcopy(network)
    path = [(rate, math.ceil(_REFIT_SHARE * n_steps)) for rate, n_steps in history.path]
    refit(final, whole.loss(config, seed, device), path, track=track)
    return DenseFit(whole.model(final), fold_model, history)


def _train_on_fold(
    study: Study, n_components: int, config: TrainConfig, seed: int, device: torch.device, track: Track
) -> tuple[_Training, DenseNetwork, History]:
    fold = _fold(study, n_components)
    few, few_scores = _some(study, _SCORED_ELEMENTS)
    network = fold.network(config, seed, device)
    if not config.centre:
        other = dataclasses.replace(fold, about_mean=False)
        start, rival = (
            few.score("choose", lambda rows, m=m: m.predict(few_scores[rows])).mean()  # type: ignore[misc]
            for m in (fold.plain_model(network), other.plain_model(other.network(config, seed, device)))
        )
        if rival < start:
            fold, network = other, other.network(config, seed, device)
    model = fold.plain_model(network)

    def score(_: torch.nn.Module) -> float:
        return float(few.score("choose", lambda rows: model.predict(few_scores[rows])).mean())

    return fold, network, fit(network, fold.loss(config, seed, device), config, score=score, track=track)


def _fold(study: Study, n_components: int) -> _Training:
    return _Training(
        study.fold_axes, study.fold_parts, FRACTIONS[:N_PARTS], study.spectrum_weights, n_components,
        **_normalisation(study.fold_scores), draws=study.draws,
    )  # fmt: skip


def _some(study: Study, n_elements: int) -> tuple[Folds, np.ndarray]:
    """Return folds and training-fold scores of about as many spectra as make up `n_elements` values."""
    step = max(1, study.folds.choose.size // n_elements)
    return study.folds.every(step), study.fold_scores[::step]


def _normalisation(scores: np.ndarray) -> dict[str, Any]:
    """Return the mean scores and the largest standard deviation: one number keeps their noise equal."""
    centre = scores.mean(axis=0, dtype=np.float64).astype(np.float32)
    return {"centre": centre, "scale": float(max(scores.std(axis=0).max(), 1e-30))}


@dataclass(frozen=True)
class _Training:
    """Scores of parts along some axes, as a network sees them: centred and of unit size.

    Attributes
    ----------
    axes
        Compressing axes.
    parts, fractions
        (n, F, P) scores of parts of the counts and the share of each.
    weights
        (n,) inverse noise variance of the spectra.
    n_components
        Latents K.
    centre, scale
        (P,) and a number: what scores are normalised with.
    about_mean
        Whether the network starts as PCA about the mean spectrum, or as that of the axes.
    draws
        Inputs and target, where they are no splits of the parts.
    """

    axes: PrincipalAxes
    parts: np.ndarray
    fractions: np.ndarray
    weights: np.ndarray
    n_components: int
    centre: np.ndarray
    scale: float
    about_mean: bool = True
    draws: Draws | None = None

    @property
    def scores(self) -> np.ndarray:
        """(n, P) scores on the scale of the whole data."""
        return self.parts.sum(axis=1) / np.float32(self.fractions.sum())

    def network(self, config: TrainConfig, seed: int, device: torch.device) -> DenseNetwork:
        """Return the untrained network; the global random state is left alone.

        It is PCA either way. About the mean spectrum, no component is spent on the mean; where the dose
        varies and nothing else is there in all spectra, the other way needs one component less.
        """
        k = self.n_components
        if self.about_mean:
            covariance = np.cov(self.scores, rowvar=False).reshape(self.axes.n_axes, -1)
            vectors, rest = np.linalg.eigh(covariance)[1][:, : -k - 1 : -1], np.zeros(self.axes.n_axes)
        else:  # the first axes as they are, and nothing along the others
            vectors, rest = np.eye(self.axes.n_axes, k), -self.centre / self.scale
            rest[:k] = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = DenseNetwork(self.axes.n_axes, self.n_components, config.n_hidden, config.n_layers)
            network.start_as(torch.tensor(vectors.copy()), torch.tensor(rest))
        return network.to(device)

    def loss(self, config: TrainConfig, seed: int, device: torch.device) -> SplitPairs | DrawnPairs:
        """Return the loss on fresh batches, in units of the noise."""
        share = self.fractions.astype(np.float32)
        parts = (self.parts - share[:, None] * self.centre) / self.scale
        weights = self.weights * self.scale**2 / self.axes.n_axes
        if self.draws:
            inputs, target = ((v - self.centre) / self.scale for v in (self.draws.inputs, self.draws.target))
            return DrawnPairs(
                *(torch.as_tensor(v, dtype=torch.float32, device=device) for v in (
                    inputs, target, self.draws.target_share * weights)),
                batch_size=config.batch_size, generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
        return SplitPairs(
            torch.as_tensor(parts, device=device), torch.as_tensor(share, device=device),
            torch.as_tensor(weights, dtype=torch.float32, device=device), batch_size=config.batch_size,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    def plain_model(self, network: DenseNetwork) -> DenseModel:
        """Return the network as a model whose latents are as they come."""
        k = self.n_components
        return DenseModel(
            self.axes, network, self.centre, self.scale, np.eye(k, dtype=np.float32),
            np.zeros(k, np.float32), np.ones(k, np.float32),
        )  # fmt: skip

    def model(self, network: DenseNetwork) -> DenseModel:
        """Return the model with canonical latents.

        The best linear map from latents to decoded scores is brought to its principal axes. That leaves
        what the network computes as it is and makes order, scale and sign of the latents those of PCA.
        """
        network.eval()
        plain = self.plain_model(network)
        latents = plain.encode_scores(self.scores).astype(np.float64)
        decoded = plain.decode_scores(latents).astype(np.float64)
        origin = latents.mean(axis=0)
        centred = latents - origin
        response = np.linalg.lstsq(centred, decoded - decoded.mean(axis=0), rcond=1e-9)[0]  # (K, P)
        covariance = centred.T @ centred / len(centred)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-12 * max(values.max(), 1e-30))  # a collapsed latent stays invertible
        whiten = (vectors / np.sqrt(values)).T  # (K, K): unit covariance
        _, spread, turn = np.linalg.svd(response.T @ np.linalg.inv(whiten), full_matrices=False)
        spread = np.maximum(spread, 1e-9 * max(spread.max(), 1e-30))
        rotation = spread[:, None] * turn @ whiten
        model = dataclasses.replace(
            plain, rotation=rotation.astype(np.float64), origin=origin, spread=spread.astype(np.float64)
        )
        spectra = model.components()
        signs = np.where(np.sum(canonical_signs(spectra) * spectra, axis=1) < 0, -1.0, 1.0)
        return dataclasses.replace(model, rotation=signs[:, None] * rotation)
