"""Fit a variational autoencoder: it starts as the trained dense one, then the likelihood of the counts takes over.

What is maximised is the evidence lower bound. Counts are multinomial given the total of their spectrum, which is
known: the decoder gives the shape of a spectrum alone. Other data are normal. From scratch, at few counts, the
latents collapse; a start as the trained dense autoencoder, whose posteriors and prior are fitted first, does not.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose._architecture import SCORED, Architecture, Fit, NetworkOptions, judge
from hyperspy_specml.decompose._autoencoder import Autoencoder, DenseOptions
from hyperspy_specml.decompose._normalised import NormalisedScores
from hyperspy_specml.lazy import torch
from hyperspy_specml.models import AUTOENCODERS, Attempt, LatentModel, VariationalModel, tensor_for, variational_network
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.train import Batch, History, RandomRows, Trainer, fit, one_thread, refit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run

_SLOWER = 0.4  # of the learning rate of the dense autoencoder: this one only goes on
_WARM_UP = 200  # steps that fit posteriors and prior to the dense autoencoder, which stays as it is
_ANNEALED = 300  # steps after which the divergence from the prior has its full weight
_BATCH_VALUES = 1 << 18  # in a batch at most: the steps on many channels stay short


@dataclass(frozen=True)
class VariationalOptions(NetworkOptions):
    """Options of the variational autoencoder: those of the dense one that it starts as.

    Parameters
    ----------
    n_hidden, n_layers
        Width and number of the hidden layers, in encoder and in decoder.
    centre
        Subtract the mean spectrum before compression (the textbook's), not only whiten (HyperSpy's default).

    Raises
    ------
    OptionError
        A size that no network has.
    """

    centre: bool = False


@dataclass(frozen=True)
class Variational(Architecture):
    """An autoencoder of scores that says how sure it is of every latent."""

    name: str = "vae"
    network: Callable[..., nn.Module] = variational_network
    options: VariationalOptions = field(default_factory=VariationalOptions)
    smooth = True
    more_components = 1
    _dense_models: dict[int, FittedModel] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fit(self, data: TrainingData, n_components: int, run: Run) -> Fit:
        """Train with K latents; see `Architecture.fit`."""
        run = self.completed(run, data)
        with run.progress.enter("Train dense", 0.4):
            start = self._dense.fit(data, n_components, run)
        assert isinstance(start.fold_model, LatentModel)
        self._dense_models[n_components] = start.fold_model
        training = _Training(self, data, start.fold_model, run)
        with one_thread(run.device):
            network, history = training.on_fold(interrupted=start.history.interrupted)
            fold_model = training.model(data.fold_basis, data.fold_scores, network)
        attempts = *(replace(one, name=f"dense, {one.name}") for one in start.attempts), _judged(data, fold_model)
        return Fit(fold_model, partial(training.on_all_counts, network, history), history, attempts)

    def compare(self, data: TrainingData, n_components: int, run: Run) -> tuple[np.ndarray, bool]:
        """Train the dense autoencoder briefly: it is the start, and its latents are those that the counts carry."""
        return self._dense.compare(data, n_components, run)

    def rivals(self, data: TrainingData, n_components: int) -> dict[str, FittedModel]:
        """Return the dense autoencoder that this one started as, and PCA about the mean spectrum."""
        dense = self._dense_models.get(n_components)
        beside = {f"dense ({n_components})": dense} if dense else {}
        return beside | self._dense.rivals(data, n_components)

    @property
    def _dense(self) -> Autoencoder:
        return Autoencoder("dense", AUTOENCODERS["dense"], DenseOptions(**asdict(self.options)))


def _judged(data: TrainingData, model: VariationalModel) -> Attempt:
    """Say which latent could as well be the same for all spectra."""

    def without(columns: np.ndarray, i: int) -> np.ndarray:
        constant = columns.copy()
        constant[:, i] = columns[:, i].mean()
        return constant

    own, collapsed = judge(data, model, without)
    return Attempt("vae", float(own.mean()), collapsed)


@dataclass(frozen=True)
class _Training:
    """What the trainings of one variational autoencoder share: it begins as `dense`."""

    architecture: Variational
    data: TrainingData
    dense: LatentModel
    run: Run

    def on_fold(self, *, interrupted: bool) -> tuple[nn.Module, History]:
        """Train on the training fold until the held-out score stops falling."""
        data, run = self.data, self.run
        network, folds = self._start(), data.folds
        counts = _Counts(folds.train, folds.train_share, self._variance)
        batches, loss = self._task(data.fold_scores, counts), self._bound(data.fold_basis)
        model = self._plain(data.fold_basis, network)

        def score(_: Any) -> float:
            return float(data.scores_of(model, SCORED).mean())

        with run.progress.enter("Fit posteriors", 0.2):
            stopped = interrupted or _warm_up(network, batches, loss, run)
        if stopped:  # the dense autoencoder, with the posteriors it has until now
            return network, History([0], [{}], [score(network)], interrupted=True)
        slower = replace(run.config, learning_rate=_SLOWER * (run.config.learning_rate or 1.0))
        with run.progress.enter("Train vae", 0.8):
            return network, fit(network, batches, loss, replace(run, config=slower), score=score)

    def on_all_counts(self, network: nn.Module, history: History) -> VariationalModel:
        """Go on with all counts, along the path of the training on the fold."""
        data, final = self.data, copy.deepcopy(network)
        sample, scores = data.summary.sample, data.parts.sum(axis=1)
        batches = self._task(scores, _Counts(lambda rows: sample[rows], 1.0, self._variance), annealed=0)
        loss = self._bound(data.aligned)
        with one_thread(self.run.device):
            if history.path:
                refit(final, batches, loss, history, self.run)
            _warm_up(final, batches, loss, self.run)  # the posteriors are those of more counts
            return self.model(data.aligned, scores, final)

    def model(self, basis: Any, scores: np.ndarray, network: nn.Module) -> VariationalModel:
        """Return the model with canonical latents; of counts, spectra keep their totals."""
        found = NormalisedScores(
            basis, scores[:, None], np.ones(1), np.ones(len(scores), np.float32), self.dense.centre, self.dense.scale
        )
        plain = Autoencoder("vae", variational_network, self.architecture.options)
        canonical = plain.canonical_model(found, network, self.dense.n_components)
        return VariationalModel(**vars(replace(canonical, keeps_totals=self._counted)))

    @property
    def _counted(self) -> bool:
        """Whether the data are counts, whose totals the decoder leaves to the spectra."""
        return self.data.folds.variance is None

    @property
    def _variance(self) -> np.ndarray | None:
        """Noise variance of the data; of correlated noise, of what is smooth over the correlation; None for counts."""
        variance, correlation = self.data.folds.variance, self.data.estimate.model.correlation
        return None if variance is None else variance * np.float32(max(1.0, 2 * sum(correlation) - 1))

    def _plain(self, basis: Any, network: nn.Module) -> VariationalModel:
        dense, k = self.dense, self.dense.n_components
        still = np.eye(k, dtype=np.float32), np.zeros(k, np.float32), np.ones(k, np.float32)
        names: dict[str, Any] = {
            "keeps_totals": self._counted,
            "name": "vae",
            "options": asdict(self.architecture.options),
        }
        return VariationalModel(basis, network, dense.centre, dense.scale, *still, np.zeros_like(dense.centre), **names)

    def _start(self) -> nn.Module:
        """Return the dense network with one posterior for all spectra, that of the noise, and the prior they have."""
        dense, run = self.dense, self.run
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            options = self.architecture.options
            network: Any = variational_network(
                len(dense.centre), dense.n_components, options.n_hidden, options.n_layers
            )
        network.load_state_dict(dense.network.state_dict(), strict=False)
        network.to(run.device)
        with torch.no_grad():
            scores = tensor_for(network, (self.data.fold_scores - dense.centre) / dense.scale)
            latents, along = network.encode(scores), network.encode_linear.weight
            spread, prior = latents.T.cov().reshape(2 * latents.shape[1:]), along @ along.T
            noise = prior / (self.data.folds.train_share * dense.scale**2)
            tiny = 1e-6 * (spread + noise).diagonal().mean() * torch.eye(len(noise), device=noise.device)
            roots = [torch.linalg.cholesky(one + tiny) for one in (noise, spread)]
            network.init_spread(roots[0], latents.mean(dim=0), roots[1])
        return network

    def _task(self, scores: np.ndarray, counts: _Counts, *, annealed: int = _ANNEALED) -> _Posteriors:
        dense, device = self.dense, self.run.device
        size = int(np.clip(_BATCH_VALUES // len(self.data.folds.mean), 64, self.run.config.batch_size or 512))
        rows = RandomRows(len(scores), size, torch.Generator().manual_seed(self.run.seed))
        normalised = torch.as_tensor((scores - dense.centre) / dense.scale, dtype=torch.float32, device=device)
        return _Posteriors(normalised, counts, rows, dense.n_components, annealed)

    def _bound(self, basis: Any) -> EvidenceBound:
        dense, data, device = self.dense, self.data, self.run.device
        centre = basis.components().T @ dense.centre.astype(np.float64) + basis.offset
        arrays = dense.scale * basis.components(), centre, data.folds.floor
        return EvidenceBound(*(torch.as_tensor(a, dtype=torch.float32, device=device) for a in arrays))


def _warm_up(network: nn.Module, batches: _Posteriors, loss: EvidenceBound, run: Run) -> bool:
    """Fit posteriors and prior to what the network is; return whether the user interrupted that."""
    trainer = Trainer(network, loss, run.config.learning_rate or 1.0, rates={"": 0.0, "spread_mlp": 1.0, "prior": 1.0})
    n_steps, stopped = min(_WARM_UP, run.config.max_steps or _WARM_UP), False
    try:
        for _ in run.progress.steps(range(n_steps)):
            trainer.step(batches.draw())
        trainer.mean_losses()
    except STOPPED:
        stopped = True
    network.load_state_dict(trainer.average)
    network.eval()
    batches.drawn = 0
    return stopped


@dataclass(frozen=True)
class _Counts:
    """Counts of spectra, on their own scale.

    Attributes
    ----------
    of
        From rows to (B, E) counts.
    fraction
        Of the counts of the data.
    variance
        None for counts; else the noise variance of the whole data, (E,) or (n, E).
    """

    of: Callable[[np.ndarray], np.ndarray]
    fraction: float
    variance: np.ndarray | None


@dataclass
class _Posteriors:
    """Scores of spectra as input, their own counts as target, and random numbers for the latents that are drawn.

    Attributes
    ----------
    scores
        (n, P) normalised.
    counts, rows
        The targets, and the spectra of a batch.
    n_latent
        K.
    annealed
        Batches after which the divergence has its full weight.
    drawn
        Batches until now.
    """

    scores: Tensor
    counts: _Counts
    rows: RandomRows
    n_latent: int
    annealed: int
    drawn: int = 0

    def draw(self) -> Batch:
        """Return a batch; beside it ``noise`` (B, K) and the ``weight`` of the divergence."""
        rows = self.rows.draw()
        noise = torch.randn(len(rows), self.n_latent, generator=self.rows.generator).to(self.scores)
        where, known, variance = np.asarray(rows), self.counts.variance, None
        target = self._tensor(self.counts.of(where))
        if known is not None:
            variance = self._tensor(known[where] if known.ndim == 2 else known[None])
        self.drawn += 1
        beside = {"noise": noise, "weight": min(1.0, self.drawn / max(1, self.annealed))}
        return Batch(self.scores[rows.to(self.scores.device)], target, 1.0, variance, self.counts.fraction, beside)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values.astype(np.float32), device=self.scores.device)


@dataclass(frozen=True)
class EvidenceBound:
    """Minus the evidence lower bound of spectra, one draw of the latents for each.

    Attributes
    ----------
    components
        (P, E) spectra that a normalised score of one stands for.
    centre
        (E,) spectrum of normalised scores of zero.
    floor
        (E,) smallest expectation of a spectrum of the mean total.
    """

    components: Tensor
    centre: Tensor
    floor: Tensor

    def __call__(self, network: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Return minus the log-likelihood per spectrum, and the divergence from the prior in nats; see `Loss`."""
        mean, root = network.posterior(batch.input)  # type: ignore[operator]
        drawn = mean + (root @ batch.beside["noise"][..., None])[..., 0]  # (B, K)
        spectra = network.decode(drawn) @ self.components + self.centre  # type: ignore[operator]  # (B, P) -> (B, E)
        error = self._of_counts(spectra, batch) if batch.variance is None else _of_values(spectra, batch)
        divergence = network.divergence(mean, root)  # type: ignore[operator]
        return {"likelihood": error.mean(), "divergence": batch.beside["weight"] * divergence.mean()}

    def _of_counts(self, spectra: Tensor, batch: Batch) -> Tensor:
        """Return (B,) minus log-likelihoods of multinomial counts, whose totals are known, but for a constant."""
        whole = self.centre.sum()
        total = spectra.sum(dim=1, keepdim=True).clamp_min(1e-3 * whole)
        shapes = torch.maximum(spectra * (whole / total), self.floor)
        counted = batch.target.sum(dim=1)
        return counted * shapes.sum(dim=1).log() - (batch.target * shapes.log()).sum(dim=1)


def _of_values(spectra: Tensor, batch: Batch) -> Tensor:
    """Return (B,) half squared errors in units of the noise variance."""
    error, variance = batch.target - batch.fraction * spectra, batch.variance
    assert variance is not None
    return (error.square() / (2 * batch.fraction * variance)).sum(dim=1)
