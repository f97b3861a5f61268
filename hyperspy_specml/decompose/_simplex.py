"""Fit the simplex autoencoder: several starts, the best one trained to the end, then on all counts.

Which endmembers a mixture has is not decided by its fit alone: larger simplices hold the same data. The
smallest one is meant, and a penalty on its volume finds it: so many times the information that one count holds
about the endmember it comes from, per spectrum. That is about what as many further counts of the mean spectrum
in each spectrum would do. The penalty is the largest of `_PENALTIES` that the held-out counts allow: the next
smaller one is taken where it makes the score better by more than two standard errors.
In the end, given the abundances, the endmembers are those under which all counts are the most likely.

References
----------
M. Berman et al., "ICE: a statistical approach to identifying endmembers in hyperspectral images",
IEEE Trans. Geosci. Remote Sens. 42 (2004) 2085, doi:10.1109/TGRS.2004.835299.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose._architecture import COMPARED, SCORED, Architecture, Fit, best_of, judge
from hyperspy_specml.decompose._endmembers import SimplexOptions, first_endmembers, least_mean, start_network, to_scores
from hyperspy_specml.decompose._factors import N_TURNS, fit_factors, on_all_counts, prefer_factors
from hyperspy_specml.lazy import torch
from hyperspy_specml.models import CLEAR, Attempt, SimplexModel, tensor_for
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.statistics import FRACTIONS, N_PARTS, TRAIN, VALIDATION, paired
from hyperspy_specml.train import History, MixtureLikelihood, RandomRows, ScoresAndCounts, fit, one_thread, refit

if TYPE_CHECKING:
    from hyperspy_specml.nn import SimplexNetwork
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run

_PENALTIES = (20.0, 5.0, 1.25)  # on the volume, in counts per spectrum
_BATCH_VALUES = 1 << 18  # in a batch by default at most: the steps on many channels stay short
_MOST_REGRESSED = 4096  # spectra from which the encoder's start is found
# Share of the spectra, and how many at least, that the scan begins with.
_FIRST, _LEAST_FIRST = 64, 32
_ROUNDS = 5  # of updates of the endmembers in closed form; more change the third digit
_MIXED_VALUES = 1 << 20  # of the mixtures computed at a time
_LEAST_CHANGE = 1e-3  # factor of a channel in an update: what noise makes negative comes near zero, not below
_MOST_VALUES = 1 << 26  # of a part that decides about the endmembers; of larger samples, some of the spectra
_SMALLEST = "the smallest simplex that holds the counts: phases need be pure nowhere"
_FACTORS = "non-negative factors, by the likelihood alone: each phase is pure, or nearly, somewhere"
_STARTS_SHARE = 0.3  # of the time of a fit that the brief trainings from all starts take


@dataclass(frozen=True)
class Simplex(Architecture):
    """Abundances that sum to one of non-negative endmember spectra, and an intensity for each pixel."""

    name: str = "simplex"
    options: SimplexOptions = field(default_factory=SimplexOptions)
    more_components = 1
    mixes = True
    defaults = replace(Architecture.defaults, extension=0.0, comparison_share=0.1)  # it has five trainings

    def completed(self, run: Run, data: TrainingData) -> Run:
        """Return the run with all settings set: by default, batches of many channels are smaller."""
        size = np.clip(_BATCH_VALUES // len(data.folds.mean), 1, self.defaults.batch_size)
        return run.over(replace(self.defaults, batch_size=int(size)))

    def fit(self, data: TrainingData, n_components: int, run: Run) -> Fit:
        """Train with K endmembers; see `Architecture.fit`."""
        training = _Training(data, n_components, self.completed(run, data), self.options)
        with one_thread(run.device):
            (network, history), attempts = training.start(_STARTS_SHARE)
            penalty = _PENALTIES[-1]
            if not history.interrupted:
                network.shifts = self.options.energy_shift
                network, history, penalty = training.descend(network)
            training.sort(network)
            smallest = SimplexModel(data.fold_basis, network)
            finish = partial(training.on_all_counts, network, history, penalty)
            fit = Fit(smallest, finish, history, attempts, assumption=_SMALLEST)
            if history.interrupted or not training.has_factors():
                return fit
            return training.beside_factors(fit)

    def compare(self, data: TrainingData, n_components: int, run: Run) -> tuple[np.ndarray, bool]:
        """Train briefly from all starts; see `Architecture.compare`."""
        training = _Training(data, n_components, self.completed(run, data), self.options)
        with one_thread(run.device):
            (network, history), _ = training.start(1.0)
        return data.scores_of(SimplexModel(data.fold_basis, network), COMPARED), history.interrupted


@dataclass(frozen=True)
class _Training:
    """What all trainings of one number of endmembers share."""

    data: TrainingData
    n_components: int
    run: Run
    options: SimplexOptions

    def start(self, share: float) -> tuple[tuple[SimplexNetwork, History], tuple[Attempt, ...]]:
        """Train briefly from every start and return the best network, its history, and all attempts."""
        data, run = self.data, self.run.brief()
        few = slice(None, None, -(-len(data.fold_scores) // _MOST_REGRESSED))
        parts = [part[few].astype(np.float32) for part in data.folds.parts]
        spectra, scores = np.sum(parts, axis=0) / np.float32(TRAIN), data.fold_scores[few]
        guesses = first_endmembers(spectra, scores, self.n_components, seed=run.seed)
        if self.n_components == 1:
            guesses = {"mean": guesses["random"]}

        histories: list[History] = []

        def train(endmembers: np.ndarray) -> tuple[SimplexNetwork, History]:
            network = start_network(data, endmembers, spectra, scores, run, self.options)
            with run.progress.enter("Try starts", share / len(guesses)):
                histories.append(self.fit(network, run, _PENALTIES[-1]))
            return network, histories[-1]

        starts = [(name, partial(train, endmembers)) for name, endmembers in guesses.items()]
        best, attempts = best_of(starts, self._judge, enough=lambda *_: histories[-1].interrupted)
        best[1].interrupted = histories[-1].interrupted  # whichever of them is the best
        return best, attempts

    def _judge(self, trained: tuple[SimplexNetwork, History]) -> tuple[float, str]:
        network, history = trained
        with torch.inference_mode():
            roots = network.endmembers().sqrt()
            nearest = torch.cdist(roots, roots).fill_diagonal_(torch.inf).argmin(dim=1).tolist()

        def without(columns: np.ndarray, i: int) -> np.ndarray:
            merged = columns.copy()
            merged[:, nearest[i]] += merged[:, i]
            merged[:, i] = 0
            return merged

        _, collapsed = judge(self.data, SimplexModel(self.data.fold_basis, network), without)
        return history.scores[history.steps.index(history.best_step)], collapsed

    def descend(self, start: SimplexNetwork) -> tuple[SimplexNetwork, History, float]:
        """Train under smaller and smaller penalties while that clearly matters to the held-out counts.

        From the simplex that a larger penalty has made small, which a training hardly leaves any more, and
        from the start, which knows nothing of it.
        """
        network = copy.deepcopy(start)
        share = 0.8 / (2 * len(_PENALTIES) - 1)  # of what is left; the rest is for all counts
        with self.run.progress.enter("Train simplex", share):
            history, chosen = self.fit(network, self.run, _PENALTIES[0]), _PENALTIES[0]
        scores = self._compared(network)
        for penalty in _PENALTIES[1:] if self.n_components > 1 else ():
            for begin in (network, start):
                if history.interrupted:
                    return network, history, chosen
                freer = copy.deepcopy(begin)
                with self.run.progress.enter("Train simplex", share):
                    later = self.fit(freer, self.run, penalty)
                own = self._compared(freer)
                pair = paired(own, scores)
                if pair.difference < -CLEAR * pair.standard_error:
                    network, history, scores, chosen = freer, later, own, penalty
                history.interrupted = later.interrupted
            if chosen != penalty:
                break
        return network, history, chosen

    def has_factors(self) -> bool:
        """Return whether factors without a volume penalty are a candidate: of counts that do not move."""
        counts = self.data.shot == 1 and self.data.hold_out != "none"
        return counts and self.n_components > 1 and not self.options.energy_shift

    def beside_factors(self, fit: Fit) -> Fit:
        """Return this fit or that of factors, whichever is preferred, with the other one to be scored beside it."""
        data, seed, name = self.data, self.run.seed, f"simplex ({self.n_components})"

        def brief(other: TrainingData) -> SimplexModel:
            (network, history), _ = replace(self, data=other).start(1 / N_TURNS)
            fit.history.interrupted |= history.interrupted
            return SimplexModel(other.fold_basis, network)

        try:
            with self.run.progress.enter("Compare with factors", 0.5):
                factors = fit_factors(data, self.n_components, seed=seed)
                preferred = prefer_factors(data, factors, fit.fold_model, brief, seed)
        except STOPPED:
            fit.history.interrupted = True
            return fit
        if not preferred:
            return replace(fit, others={f"{name}, factors": factors})
        finish, others = partial(on_all_counts, data, factors), {f"{name}, smallest": fit.fold_model}
        return Fit(factors, finish, fit.history, fit.attempts, others=others, assumption=_FACTORS)

    def fit(self, network: SimplexNetwork, run: Run, penalty: float) -> History:
        """Train a network on the training fold until the held-out score stops falling."""
        folds, scores = self.data.few(SCORED)
        model = SimplexModel(self.data.fold_basis, network)
        # From the loss, in nats of the training fold, to deviances of the validation fold.
        counts = 2 * VALIDATION / TRAIN

        def score(_: torch.nn.Module) -> float:
            columns = model.encode_scores(scores)
            deviance = folds.score("validation", lambda rows: model.decode(columns[rows])).mean()
            abundances = torch.as_tensor(columns[:, : self.n_components], device=run.device)
            with torch.inference_mode():
                return float(deviance + counts * penalty * network.endmember_divergence(abundances))

        return fit(network, *self._task(network, penalty), run, score=score)

    def on_all_counts(self, network: SimplexNetwork, history: History, penalty: float) -> SimplexModel:
        """Go on with all counts, along the path of the training on the fold."""
        data, final = self.data, copy.deepcopy(network)
        final.to_scores.copy_(final.total * tensor_for(final, to_scores(data.aligned)))
        if history.path:
            source, loss = self._task(final, penalty, whole=True)
            refit(final, source, loss, history, self.run)
            with one_thread(self.run.device):
                fit_endmembers(final, source, loss.floor)
        if final.shifts:
            first = data.parts.sum(axis=1)[: max(_LEAST_FIRST, len(data.parts) // _FIRST)]
            final.set_origin(tensor_for(final, first))
        return SimplexModel(data.aligned, final)

    def sort(self, network: SimplexNetwork) -> None:
        """Bring the endmembers into the order of their use."""
        usage = SimplexModel(self.data.fold_basis, network).encode_scores(self.data.fold_scores).mean(axis=0)
        order = np.argsort(-usage[: self.n_components], kind="stable")
        network.reorder(torch.as_tensor(order, device=self.run.device))

    def _compared(self, network: SimplexNetwork) -> np.ndarray:
        return self.data.scores_of(SimplexModel(self.data.fold_basis, network), COMPARED)

    def _task(
        self, network: SimplexNetwork, penalty: float, *, whole: bool = False
    ) -> tuple[ScoresAndCounts, MixtureLikelihood]:
        """Return the batches of the training fold, or of all counts, and the loss."""
        folds, fractions = self.data.folds, FRACTIONS if whole else FRACTIONS[:N_PARTS]
        parts, targets = self.data.fold_parts, folds.parts
        if whole:
            parts, targets = self.data.parts, (*folds.parts, folds.validation, folds.test)
        rows = RandomRows(len(parts), self.run.config.batch_size, torch.Generator().manual_seed(self.run.seed))
        source = ScoresAndCounts(tensor_for(network, parts), targets, fractions, folds.variance, rows)
        return source, MixtureLikelihood(tensor_for(network, least_mean(self.data)), sum(fractions), penalty)


def fit_endmembers(network: SimplexNetwork, source: ScoresAndCounts, floor: torch.Tensor) -> None:
    """Bring the endmembers to the maximum of the likelihood, given the rest of the network.

    Given the abundances, which the other parts say of each part, the likelihood is concave in the endmembers,
    and few multiplicative updates find its maximum (D. D. Lee, H. S. Seung, NIPS 13 (2001)): the spectra that all
    counts support, without the penalty and without the noise of the counts that they were trained on first.

    Parameters
    ----------
    network
        Trained; changed in place.
    source
        All counts.
    floor
        (E,) smallest prediction on the scale of the whole data.
    """
    n_spectra, n_channels = source.targets[0].shape
    some = torch.arange(0, n_spectra, max(1, n_spectra * n_channels // _MOST_VALUES))
    slabs = some.split(max(1, _MIXED_VALUES // n_channels))
    with torch.no_grad():
        for _ in range(_ROUNDS):
            endmembers = network.endmembers()
            wanted, given = torch.zeros_like(endmembers), torch.zeros_like(endmembers)
            for i, rows in itertools.product(range(len(source.targets)), slabs):
                batch = source.batch(i, rows)
                mixture = network.encode(batch.input, **batch.beside)
                expected = batch.fraction * torch.maximum(network.decode(*mixture), floor)
                noise = expected if batch.variance is None else batch.fraction * batch.variance
                wanted += batch.fraction * network.decode_transposed(batch.target / noise, *mixture)
                given += batch.fraction * network.decode_transposed(expected / noise, *mixture)
            change = torch.where(given > 0, wanted / given, 1)  # 0: no spectrum is moved here
            network.set_endmembers(endmembers * change.clamp_min(_LEAST_CHANGE))
