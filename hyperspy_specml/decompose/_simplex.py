"""Fit the simplex autoencoder: several starts, the best one trained to the end, then on all counts.

Which endmembers a mixture has is not decided by its fit alone: larger simplices hold the same data. The
smallest one is meant, and a pull of the endmembers towards their mean finds it: so many times the information
that one count holds about the endmember it comes from, per spectrum. That is about what as many further
counts of the mean spectrum in each spectrum would do. The pull is the strongest of `_PULLS` that the held-out
counts allow: the next weaker one is taken where it makes the score better by more than two standard errors.
In the end, given the abundances, the endmembers are those under which all counts are the most likely.

References
----------
M. Berman et al., "ICE: a statistical approach to identifying endmembers in hyperspectral images",
IEEE Trans. Geosci. Remote Sens. 42 (2004) 2085, doi:10.1109/TGRS.2004.835299.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperspy_specml.decompose._endmembers import first_endmembers
from hyperspy_specml.decompose._restarts import Attempt, best_of, collapse
from hyperspy_specml.decompose._simplex_start import least_mean, start_network, to_scores
from hyperspy_specml.models import SimplexModel
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, TRAIN, VALIDATION, Folds, paired
from hyperspy_specml.train import History, SplitMixtures, fit, one_thread, refit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hyperspy_specml.nn import SimplexNetwork
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import TrainConfig

_PULLS = (20.0, 5.0, 1.25)  # counts per spectrum
_CLEARLY = 2  # standard errors
_SCORED_ELEMENTS = 1 << 21  # deviances per evaluation
_SCORED_TO_CHOOSE = 1 << 23  # deviances per number of endmembers: these decide, so they are more
_BATCH_ELEMENTS = 1 << 18  # values in a batch at most: the steps on many channels stay short
_MOST_REGRESSED = 4096  # spectra from which the encoder's start is found
_BRIEF = 10  # times fewer steps tell which start is best
_FIRST, _LEAST_FIRST = 64, 32  # share of the spectra, and how many at least, that the scan begins with
_REFIT_SHARE = 1 / 3  # of the chosen steps: the network goes on with all counts, it does not start anew


@dataclass(frozen=True)
class SimplexFit:
    """A trained simplex autoencoder.

    Attributes
    ----------
    model, fold_model
        Fitted on all counts; fitted on the training fold, to which the held-out scores belong.
    history
        Of the training on the fold.
    attempts
        The starts that were tried.
    """

    model: SimplexModel
    fold_model: SimplexModel
    history: History
    attempts: tuple[Attempt, ...]


def fit_simplex(
    prepared: TrainingData,
    n_components: int,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    track: Callable[[range], Iterable[int]],
    energy_shift: bool = False,
) -> SimplexFit:
    """Train a simplex autoencoder with K endmembers.

    Parameters
    ----------
    prepared
        What is known of the map.
    n_components
        Endmembers K.
    config, seed, device, track
        Settings, seed of starts and batches, torch device, and the progress bar around ranges of steps.
    energy_shift
        Whether each spectrum is shifted along energy.

    Raises
    ------
    TrainingDivergedError
        The loss diverged from every start.
    """
    training = _Training(prepared, n_components, config, seed, device, track)
    with one_thread(device):
        network, history, attempts = training.start()
        pull = _PULLS[-1]
        if not history.interrupted:
            network.shifts = energy_shift
            network, history, pull = training.descend(network)
        training.sort(network)
        fold_model = SimplexModel(prepared.fold_basis, network)
        if history.interrupted:  # what was learnt is kept; the rest is what Ctrl-C asks to skip
            return SimplexFit(fold_model, fold_model, history, attempts)
        return SimplexFit(training.on_all_counts(network, history, pull), fold_model, history, attempts)


def score_simplex(
    prepared: TrainingData,
    n_components: int,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    track: Callable[[range], Iterable[int]],
) -> tuple[np.ndarray, bool]:
    """Train briefly from all starts, to compare numbers of endmembers.

    Returns
    -------
    (m,) validation-fold scores of the best, and whether the user interrupted the training

    Raises
    ------
    TrainingDivergedError
        The loss diverged from every start.
    """
    training = _Training(prepared, n_components, config, seed, device, track)
    with one_thread(device):
        network, history, _ = training.start()
    return training.scores(network, _SCORED_TO_CHOOSE), history.interrupted


@dataclass(frozen=True)
class _Training:
    """What all trainings of one number of endmembers share."""

    prepared: TrainingData
    n_components: int
    config: TrainConfig
    seed: int
    device: torch.device
    track: Callable[[range], Iterable[int]]

    def start(self) -> tuple[SimplexNetwork, History, tuple[Attempt, ...]]:
        """Train briefly from every start and return the best network."""
        (network, history), attempts = best_of(self._starts(), self._judge)
        return network, history, attempts

    def _starts(self) -> Iterator[tuple[str, Callable[[], tuple[SimplexNetwork, History]]]]:
        config = dataclasses.replace(self.config, max_steps=max(1, self.config.max_steps // _BRIEF))
        few = slice(None, None, -(-len(self.prepared.fold_scores) // _MOST_REGRESSED))
        parts = [part[few].astype(np.float32) for part in self.prepared.folds.parts]
        spectra, scores = np.sum(parts, axis=0) / np.float32(TRAIN), self.prepared.fold_scores[few]
        guesses = first_endmembers(spectra, scores, self.n_components, seed=self.seed)
        if self.n_components == 1:
            guesses = {"mean": guesses["random"]}
        interrupted: list[bool] = []

        def train(endmembers: np.ndarray) -> tuple[SimplexNetwork, History]:
            network = start_network(
                self.prepared, endmembers, spectra, scores, self.config, seed=self.seed, device=self.device
            )
            history = self.fit(network, config, _PULLS[-1])
            interrupted.append(history.interrupted)
            return network, history

        for name, endmembers in guesses.items():
            if any(interrupted):
                return
            yield name, partial(train, endmembers)

    def _judge(self, trained: tuple[SimplexNetwork, History]) -> tuple[float, str]:
        network, history = trained
        k, (folds, scores) = self.n_components, self._some(_SCORED_ELEMENTS)
        model = SimplexModel(self.prepared.fold_basis, network)
        columns = model.encode_scores(scores)
        own = folds.score("validation", lambda rows: model.decode(columns[rows]))
        without = {}
        for i, other in enumerate(nearest(network) if k > 1 else []):
            merged = columns.copy()
            merged[:, other] += merged[:, i]
            merged[:, i] = 0
            without[f"component {i}"] = folds.score(
                "validation", lambda rows, m=merged: model.decode(m[rows])
            )  # type: ignore[misc]
        basis = self.prepared.fold_basis.first(max(1, k - 1))
        smaller = (
            folds.score("validation", lambda rows: basis.spectra(scores[rows, : basis.n_vectors]))
            if k > 1
            else None
        )
        return history.scores[history.steps.index(history.best_step)], collapse(own, without, smaller)

    def descend(self, start: SimplexNetwork) -> tuple[SimplexNetwork, History, float]:
        """Train under weaker and weaker pulls while that clearly matters to the held-out counts.

        From the simplex that a stronger pull has made small, which a training hardly leaves any more, and
        from the start, which knows nothing of it.
        """
        network = copy.deepcopy(start)
        history, chosen = self.fit(network, self.config, _PULLS[0]), _PULLS[0]
        scores = self.scores(network, _SCORED_TO_CHOOSE)
        for pull in _PULLS[1:] if self.n_components > 1 else ():
            for begin in (network, start):
                if history.interrupted:
                    return network, history, chosen
                freer = copy.deepcopy(begin)
                later = self.fit(freer, self.config, pull)
                own = self.scores(freer, _SCORED_TO_CHOOSE)
                pair = paired(own, scores)
                if pair.difference < -_CLEARLY * pair.standard_error:
                    network, history, scores, chosen = freer, later, own, pull
                history.interrupted = later.interrupted
            if chosen != pull:
                break
        return network, history, chosen

    def fit(self, network: SimplexNetwork, config: TrainConfig, pull: float) -> History:
        """Train a network on the training fold until the held-out score stops falling."""
        folds, scores = self._some(_SCORED_ELEMENTS)
        model = SimplexModel(self.prepared.fold_basis, network)
        counts = (
            2 * VALIDATION / TRAIN
        )  # from the loss, in nats of the training fold, to deviances of the other

        def score(_: torch.nn.Module) -> float:
            columns = model.encode_scores(scores)
            deviance = folds.score("validation", lambda rows: model.decode(columns[rows])).mean()
            abundances = torch.as_tensor(columns[:, : self.n_components], device=self.device)
            with torch.inference_mode():
                return float(deviance + counts * pull * network.spread(abundances))

        prepared = self.prepared
        loss = self._loss(prepared.fold_parts, prepared.folds.parts, FRACTIONS[:N_PARTS], pull)
        return fit(network, loss, config, score=score, track=self.track)

    def on_all_counts(self, network: SimplexNetwork, history: History, pull: float) -> SimplexModel:
        """Go on with all counts, along the path of the training on the fold."""
        prepared = self.prepared
        final = copy.deepcopy(network)
        final.see(self._tensor(to_scores(prepared.aligned)))
        path = [(rate, math.ceil(_REFIT_SHARE * n_steps)) for rate, n_steps in history.path]
        if path:
            folds = prepared.folds
            loss = self._loss(prepared.parts, (*folds.parts, folds.validation, folds.test), FRACTIONS, pull)
            refit(final, loss, path, track=self.track)
            loss.fit_endmembers(final)
        model = SimplexModel(prepared.aligned, final)
        if final.shifts:
            first = prepared.parts.sum(axis=1)[: max(_LEAST_FIRST, len(prepared.parts) // _FIRST)]
            final.set_origin(self._tensor(first))
        return model

    def sort(self, network: SimplexNetwork) -> None:
        """Bring the endmembers into the order of their use."""
        usage = (
            SimplexModel(self.prepared.fold_basis, network)
            .encode_scores(self.prepared.fold_scores)
            .mean(axis=0)
        )
        network.reorder(
            torch.as_tensor(np.argsort(-usage[: self.n_components], kind="stable"), device=self.device)
        )

    def scores(self, network: SimplexNetwork, n_elements: int) -> np.ndarray:
        """Return the validation-fold scores of about as many spectra as make up `n_elements` values."""
        folds, scores = self._some(n_elements)
        model = SimplexModel(self.prepared.fold_basis, network)
        return folds.score("validation", lambda rows: model.predict(scores[rows]))

    def _loss(
        self, parts: np.ndarray, targets: tuple[np.ndarray, ...], fractions: tuple[float, ...], pull: float
    ) -> SplitMixtures:
        floor = self._tensor(least_mean(self.prepared))
        batch_size = min(self.config.batch_size, max(1, _BATCH_ELEMENTS // len(self.prepared.folds.mean)))
        return SplitMixtures(
            self._tensor(parts), targets, fractions, self.prepared.folds.variance, floor,
            pull=pull, batch_size=batch_size,
            generator=torch.Generator().manual_seed(self.seed),
        )  # fmt: skip

    def _some(self, n_elements: int) -> tuple[Folds, np.ndarray]:
        """Return folds and training-fold scores of about as many spectra as make up `n_elements` values."""
        step = max(1, self.prepared.folds.validation.size // n_elements)
        return self.prepared.folds.every(step), self.prepared.fold_scores[::step]

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=self.device)


def nearest(network: SimplexNetwork) -> list[int]:
    """Return for each endmember the one that is most like it."""
    with torch.inference_mode():
        roots = network.endmembers().sqrt()
        return torch.cdist(roots, roots).fill_diagonal_(torch.inf).argmin(dim=1).tolist()
