"""Fit an autoencoder of scores: on the training fold until the validation fold says stop, then on all counts."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose._architecture import (
    COMPARED,
    SCORED,
    Architecture,
    Fit,
    NetworkOptions,
    best_of,
    check_sizes,
    judge,
)
from hyperspy_specml.decompose._chart import straightened
from hyperspy_specml.decompose._moving import moving_model
from hyperspy_specml.decompose._normalised import NormalisedScores
from hyperspy_specml.exceptions import OptionError, TrainingDivergedError
from hyperspy_specml.lazy import torch
from hyperspy_specml.models import AUTOENCODERS, LatentModel, autoencoder_network
from hyperspy_specml.prepare import Moves
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, canonical_signs
from hyperspy_specml.train import fit, one_thread, reconstruction_error, refit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from hyperspy_specml.models import Attempt, FittedModel
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.train import History

_MORE_SEEDS = 2  # beyond those asked for, where trainings diverge or collapse
_SEED_STEP = 7919  # between the seeds of two trainings; a prime
_COUNTS = 0.5  # share of the noise variance that grows with the intensity, from which values are counts


@dataclass(frozen=True)
class DenseOptions(NetworkOptions):
    """Options of the dense autoencoder.

    Parameters
    ----------
    n_hidden, n_layers
        Width and number of the hidden layers, in encoder and in decoder.
    centre
        Subtract the mean spectrum before compression (the textbook's), not only whiten (HyperSpy's default).
    augment
        Largest shift, in channels, of copies of the spectra that the model has to hold for, too; at the ends of the
        axis a stretch moves them by as much again. A shift and a stretch are found for each spectrum, which is moved
        back by them; they are further outputs. For maps that drift, and models that travel to maps with another
        calibration. 0 leaves them out: where nothing moves, they cost as much as two latents.

    Raises
    ------
    OptionError
        A size that no network has, or a shift that is negative or not finite.
    """

    centre: bool = False
    augment: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no network has."""
        super().__post_init__()
        check_augment(self)


@dataclass(frozen=True)
class ConvOptions:
    """Options of the convolutional autoencoder.

    Parameters
    ----------
    n_filters
        Filters along energy before the first pooling; twice as many before the second.
    n_hidden
        Width of the dense layer between filters and latents.
    centre, augment
        See `DenseOptions`.

    Raises
    ------
    OptionError
        A size that no network has, or a shift that is negative or not finite.
    """

    n_filters: int = 8
    n_hidden: int = 64
    centre: bool = False
    augment: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no network has."""
        check_sizes(self)
        check_augment(self)


def check_augment(options: Any) -> None:
    """Refuse shifts that cannot be.

    Parameters
    ----------
    options
        With ``augment``.

    Raises
    ------
    OptionError
        It is no number, negative or not finite.
    """
    value = options.augment
    if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise OptionError(
            f"{type(options).__name__}(augment={value!r}) must be a number of channels, e.g. augment=2.0, or 0."
        )


@dataclass(frozen=True)
class Autoencoder(Architecture):
    """An architecture whose network encodes and decodes the scores of single spectra.

    Parameters
    ----------
    name
        As users give it.
    network
        Called with the number of scores P, that of latents K, and those options that it takes. Has ``encode``
        (B, P) -> (B, K), ``decode`` (B, K) -> (B, P), and ``init_from_pca(basis, offset)``, which makes it PCA:
        vectors (P, K) and a constant (P,). Then training is only kept where it is better. One that has
        ``look_at(vectors, mean)`` is told first what scores stand for: whitened spectra (P, E), and (E,) for zeros.
    options
        A frozen dataclass; ``centre`` among its fields is a choice of the compression, ``augment`` one of the model.

    Examples
    --------
    >>> from hyperspy_specml import nn
    >>> from hyperspy_specml.decompose import Autoencoder, DenseOptions, register_architecture
    >>> register_architecture(Autoencoder("wide", nn.DenseNetwork, DenseOptions(n_hidden=128)))
    """

    name: str
    network: Callable[..., nn.Module]
    options: Any = field(default_factory=DenseOptions)
    smooth = True
    more_components = 1

    def fit(self, data: TrainingData, n_components: int, run: Run) -> Fit:
        """Train with K latents; see `Architecture.fit`."""
        self.moves(data)  # refused before the training
        run = self.completed(run, data)
        with one_thread(run.device):
            trained, attempts = _Seeds(self, data, n_components, run, run.config.restarts or 1).best()
            fold_model = self.final_model(trained.scores, trained.network, n_components)
        finish = partial(self._on_all_counts, data, trained, n_components, run)
        return Fit(fold_model, finish, trained.history, attempts)

    def compare(self, data: TrainingData, n_components: int, run: Run) -> tuple[np.ndarray, bool]:
        """Train briefly; see `Architecture.compare`."""
        self.moves(data)
        run = self.completed(run, data).brief()
        with one_thread(run.device):
            trained, _ = _Seeds(self, data, n_components, run, 1, comparing=True).best()
        model = self.plain_model(trained.scores, trained.network, n_components)
        return data.scores_of(model, COMPARED), trained.history.interrupted

    def applied(self, model: FittedModel, data: TrainingData, *, fold: bool) -> FittedModel:
        """Return the model for spectra that may be moved, where that was asked for; see `Architecture.applied`."""
        moves = self.moves(data)
        if moves is None:
            return model
        scores = data.fold_scores if fold else model.basis.project(data.summary.sample)
        known: dict[str, Any] = {"n_signal": max(data.rank.chosen, model.n_components)}
        known |= {"fraction": data.fraction if fold else 1.0}
        return moving_model(model, moves, scores, data.estimate.model, **known)

    def moves(self, data: TrainingData) -> Moves | None:
        """Return how spectra may be moved; None where they stay.

        Raises
        ------
        OptionError
            They would be moved by more than a quarter of the axis.
        """
        largest, channels = float(getattr(self.options, "augment", 0.0)), np.flatnonzero(data.summary.channels)
        if largest > (most := (channels[-1] - channels[0]) / 4):
            raise OptionError(
                f"options={type(self.options).__name__}(augment={largest:g}) moves spectra by more than a quarter of "
                f"their axis, {most:g} channels: augment is the largest shift in channels."
            )
        return Moves(channels, largest) if largest else None

    def rivals(self, data: TrainingData, n_components: int) -> dict[str, FittedModel]:
        """Return PCA about the mean spectrum: a network must not be praised for the mean that it may subtract."""
        if data.centre:
            return {}
        scores, pca = _fold_scores(data), Autoencoder("dense", AUTOENCODERS["dense"])  # untrained, it is PCA
        network = pca.start(scores, n_components, Run())
        return {f"centred pca ({n_components})": pca.final_model(scores, network, n_components)}

    def start(self, scores: NormalisedScores, n_components: int, run: Run) -> nn.Module:
        """Return the untrained network, which is PCA; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            network = autoencoder_network(self.network, scores.basis.n_vectors, n_components, asdict(self.options))
            if hasattr(network, "look_at"):
                network.look_at(*scores.white())  # type: ignore[operator]
            if hasattr(network, "init_from_pca"):
                network.init_from_pca(*scores.pca(n_components))  # type: ignore[operator]
        return network.to(run.device)

    def plain_model(self, scores: NormalisedScores, network: nn.Module, k: int) -> LatentModel:
        """Return the network as a model whose latents are as they come."""
        ones, p = np.ones(k, np.float32), scores.basis.n_vectors
        normalised = scores.centre, scores.scale, np.diag(ones), 0 * ones, ones
        shift, options = np.zeros(p, np.float32), asdict(self.options)
        return LatentModel(scores.basis, network, *normalised, shift, name=self.name, options=options)

    def canonical_model(self, scores: NormalisedScores, network: nn.Module, k: int) -> LatentModel:
        """Return the model with canonical latents.

        The best linear map from latents to decoded scores is brought to its principal axes. That leaves
        what the network computes as it is and makes order, scale and sign of the latents those of PCA.
        """
        network.eval()
        return canonical(self.plain_model(scores, network, k), scores.scores)

    def shown(self, model: FittedModel, data: TrainingData, run: Run) -> FittedModel:
        """Return the model in its straightest chart, with canonical latents; see `straightened`."""
        if not isinstance(model, LatentModel):
            return model
        with run.progress.enter("Straighten the latents"):
            scores = model.basis.project(data.summary.sample)
            chart = straightened(model, scores, data.shot, run.progress)
            return model if chart is model else canonical(chart, scores)

    def final_model(self, scores: NormalisedScores, network: nn.Module, k: int) -> LatentModel:
        """Return the model with canonical latents that keeps the counts.

        What predicts best at few counts is shrunk to the mean: bright spectra come out too dark, dim ones too
        bright. So counts have the total that was counted, and the mean of all channels is that of the data.
        """
        model = self.canonical_model(scores, network, k)
        if scores.shot < _COUNTS:
            return model
        model = replace(model, keeps_totals=True)
        change = scores.scores.mean(axis=0, dtype=np.float64) - model.denoise_scores(scores.scores).mean(axis=0)
        return replace(model, shift=change.astype(np.float32))

    def _on_all_counts(self, data: TrainingData, trained: _Trained, k: int, run: Run) -> LatentModel:
        scores, run = trained.scores, replace(run, seed=trained.seed)
        if trained.history.best_step == 0:  # nothing beat PCA: all counts' own PCA is what the network starts as
            parts = data.basis.project(data.summary.sample)[:, None]
            whole = NormalisedScores.of(data.basis, parts, np.ones(1), scores.weights, about_mean=scores.about_mean)
            return self.final_model(whole, self.start(whole, k, run), k)
        if data.draws:  # they are of the training fold: there are none of all counts
            return self.final_model(scores, trained.network, k)
        whole = replace(scores, basis=data.aligned, parts=data.parts, fractions=np.array(FRACTIONS))
        final = copy.deepcopy(trained.network)
        refit(final, whole.batches(run), reconstruction_error, trained.history, run)
        return self.final_model(whole, final, k)


def canonical(model: LatentModel, scores: np.ndarray) -> LatentModel:
    """Return the model with canonical latents; see `Autoencoder.canonical_model`.

    Parameters
    ----------
    model
        Of any latents.
    scores
        (n, P) compressed scores of the spectra that order and scale are those of.
    """
    k = model.n_components
    plain = replace(model, rotation=np.eye(k, dtype=np.float32), origin=np.zeros(k, np.float32))
    latents = plain.encode_scores(scores)[:, :k].astype(np.float64)
    decoded = plain.decode_scores(latents).astype(np.float64)
    origin = latents.mean(axis=0)
    centred = latents - origin
    response = np.linalg.lstsq(centred, decoded - decoded.mean(axis=0), rcond=1e-9)[0]  # (K, P)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    values = np.maximum(values, 1e-12 * max(values.max(), 1e-30))  # a collapsed latent stays invertible
    whiten = (vectors / np.sqrt(values)).T  # (K, K): unit covariance
    _, deviation, turn = np.linalg.svd(response.T @ np.linalg.inv(whiten), full_matrices=False)
    deviation = np.maximum(deviation, 1e-9 * max(deviation.max(), 1e-30))
    rotation = deviation[:, None] * turn @ whiten
    model = replace(plain, rotation=rotation, origin=origin, deviation=deviation.astype(np.float64))
    spectra = model.components()
    signs = np.where(np.sum(canonical_signs(spectra) * spectra, axis=1) < 0, -1.0, 1.0)
    return replace(model, rotation=signs[:, None] * rotation)


@dataclass(frozen=True)
class _Trained:
    """A network and how it came about on the training fold."""

    scores: NormalisedScores
    network: nn.Module
    history: History
    seed: int


@dataclass(frozen=True)
class _Seeds:
    """Trainings on the fold that differ in their seed.

    All start as the same PCA and end close to each other, so one is enough if it is sound. Another one is
    tried where it diverged, and where it collapsed on counts that carry so many components.

    Attributes
    ----------
    architecture, data, n_components, run
        What is trained.
    n_seeds
        Sound trainings that are asked for.
    comparing
        Whether it is compared with other numbers of latents, of which some are too many.
    """

    architecture: Autoencoder
    data: TrainingData
    n_components: int
    run: Run
    n_seeds: int
    comparing: bool = False

    def best(self) -> tuple[_Trained, tuple[Attempt, ...]]:
        """Train from one seed, or briefly from several, of which the best goes on."""
        rate = self.run.config.learning_rate
        assert rate is not None
        stopped: list[bool] = []

        def enough(trained: _Trained, attempts: list[Attempt]) -> bool:
            stopped.append(trained.history.interrupted)
            too_many = self.n_components > self.data.rank.chosen  # a collapse is no accident: no seed mends it
            fine = [a for a in attempts if math.isfinite(a.score) and (too_many or not a.collapsed)]
            return stopped[-1] or len(fine) >= self.n_seeds

        try:
            trained, attempts = best_of(self._starts(), self._judge, enough=enough)
        except TrainingDivergedError as error:
            raise TrainingDivergedError(
                f"architecture={self.architecture.name!r}: {error}. Train more gently, config=specml.TrainConfig("
                f"learning_rate={rate / 10:g}); PCA does not train: architecture='pca'."
            ) from error
        trained.history.interrupted = any(stopped)  # whichever of them is the best
        in_full = self.n_seeds == 1 and trained.seed == self.run.seed
        if not (in_full or trained.history.interrupted):
            later = self._fit(trained.scores, trained.network, replace(self.run, seed=trained.seed))
            trained = replace(trained, history=trained.history.then(later))
        return trained, attempts

    def _starts(self) -> Iterator[tuple[str, Callable[[], _Trained]]]:
        for i in range(self.n_seeds + _MORE_SEEDS):
            run = self.run if i == 0 and self.n_seeds == 1 else self.run.brief()
            run = replace(run, seed=self.run.seed + _SEED_STEP * i)
            yield f"seed {run.seed}", partial(self._train, run)

    def _train(self, run: Run) -> _Trained:
        scores, k = _fold_scores(self.data), self.n_components
        network = self.architecture.start(scores, k, run)
        if not self.data.centre:
            other = replace(scores, about_mean=False)
            rival = self.architecture.start(other, k, run)
            if self._scored(other)(rival) < self._scored(scores)(network):
                scores, network = other, rival
        return _Trained(scores, network, self._fit(scores, network, run), run.seed)

    def _fit(self, scores: NormalisedScores, network: nn.Module, run: Run) -> History:
        name = f"Try {self.n_components} components" if self.comparing else self.architecture.stage
        with run.progress.enter(name, 1.0 if self.comparing else 0.75):  # the rest is for all counts
            batches = scores.batches(run)
            return fit(network, batches, reconstruction_error, run, score=self._scored(scores))

    def _scored(self, scores: NormalisedScores) -> Callable[[nn.Module], float]:
        """Return what a network is scored by: held-out counts."""

        def score(network: nn.Module) -> float:
            model = self.architecture.plain_model(scores, network, self.n_components)
            return float(self.data.scores_of(model, SCORED).mean())

        return score

    def _judge(self, trained: _Trained) -> tuple[float, str]:
        """Return the score of the best step, and whether a latent could as well be constant."""
        if self.comparing:
            return min(trained.history.scores), ""

        def without(latents: np.ndarray, i: int) -> np.ndarray:
            constant = latents.copy()
            constant[:, i] = latents[:, i].mean()
            return constant

        model = self.architecture.canonical_model(trained.scores, trained.network, self.n_components)
        own, collapsed = judge(self.data, model, without)
        return float(own.mean()), collapsed


def _fold_scores(data: TrainingData) -> NormalisedScores:
    """Return the scores of the training fold, normalised."""
    fractions = np.array(data.folds.fractions[:N_PARTS])
    ones = np.ones(len(data.fold_parts), np.float32)
    more: dict[str, Any] = {"draws": data.draws, "shot": data.shot}
    return NormalisedScores.of(data.fold_basis, data.fold_parts, fractions, ones, **more)
