"""From a hundred labels to a predictor: features of spectra or outputs of the encoder, and a head.

n labelled spectra, E channels, C classes (or one value).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.lazy import torch
from hyperspy_specml.pretraining._features import AS_RECORDED, Features, one_scale
from hyperspy_specml.pretraining._heads import Head, fit_head
from hyperspy_specml.pretraining._likelihood import Mixtures
from hyperspy_specml.pretraining._options import LoraOptions
from hyperspy_specml.train import one_thread, without_compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hyperspy_specml.pretraining._encoder import Inputs, SpectrumEncoder

METHODS = ("auto", "raw", "pca", "aligned", "likelihood", "linear", "parameters", "lora", "full")
# Methods that know nothing of the encoder.
CHEAP = ("raw", "pca", "aligned")
# Numbers of principal components that are tried; the first where labels are too few to tell.
_COMPONENTS = (8, 4, 16)
# Steps and learning rates of adapters and of the whole network.
_STEPS, _RATES = 150, {"lora": 2e-3, "full": 3e-4}
# Spectra that principal components are made of, and that outputs of the encoder are standardised with, at most.
_POOL, _STANDARD = 4000, 1000


@dataclass(frozen=True, eq=False)
class Tuned:
    """What predicts: features or an encoder, and a head.

    Attributes
    ----------
    method
        One of `METHODS` but "auto".
    head
        On the features.
    features
        Of "raw", "pca", "aligned" and "likelihood"; else how the outputs of the encoder are standardised.
    encoder
        Of the others.
    adapters
        Of "lora": the narrow matrices that were added to layers of the encoder it began with, see `nn.products`.
    """

    method: str
    head: Head
    features: Features
    encoder: SpectrumEncoder | None = None
    adapters: Mapping[str, np.ndarray] | None = field(default=None, repr=False)

    def __call__(self, laid: np.ndarray, inputs: Inputs) -> np.ndarray:
        """Return (n, C) logits or (n, 1) values of (n, E) spectra on the grid."""
        if self.encoder is None:
            return self.head(self.features(laid))
        return self.on_latents(self.encoder.latents(laid, inputs))

    def on_latents(self, latents: np.ndarray) -> np.ndarray:
        """Return (n, C) logits or (n, 1) values of (n, D) outputs of the encoder."""
        assert self.encoder is not None
        outputs = _outputs(self.method, self.encoder, latents)
        return self.head((outputs - self.features.mean) / self.features.scale)


def _outputs(method: str, encoder: SpectrumEncoder, latents: np.ndarray) -> np.ndarray:
    """Return (n, D) latents, or (n, P) parameters that the encoder reads off them."""
    if method != "parameters":
        return latents
    if encoder.readout is None:
        raise OptionError(
            "fine_tune(method='parameters') takes the parameters that an encoder learnt to read, and this one was not "
            "trained with objective='simulated'. Take method='linear'."
        )
    return encoder.readout(latents)


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Spectra without labels, and what is learnt of them once for all methods and folds.

    Attributes
    ----------
    pool
        (m, E) spectra on the grid.
    inputs, encoder
        How spectra are shown to the encoder.
    counts
        Whether spectra are counts: what tells classes apart must then not depend on how long was counted.
    """

    pool: np.ndarray
    inputs: Inputs
    encoder: SpectrumEncoder
    counts: bool = True
    _known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def features(self, kind: str) -> Features:
        """Return the features of a kind."""
        return self._once(kind, lambda: Features.of(kind, self.pool[:_POOL]))

    def standard(self, method: str) -> Features:
        """Return how outputs of the encoder are standardised."""
        return self._once(method, lambda: _standard(_outputs(method, self.encoder, self._latents())))

    def mixtures(self) -> list[Mixtures]:
        """Return those of the pure spectra of the encoder, of which one is chosen."""
        return self._once("mixtures", self._mixtures)

    def _mixtures(self) -> list[Mixtures]:
        if not len(pure := self.encoder.pure_on(self.inputs.grid).astype(float)):
            raise OptionError(
                "fine_tune(method='likelihood') compares counts with mixtures of spectra that an encoder was trained "
                "on, and this one was not trained with objective='simulated' on such spectra. Take method='pca'."
            )
        channels = np.repeat(self.inputs.visible, self.inputs.patch)[: pure.shape[1]]
        return Mixtures.tried(pure, channels, np.maximum(self.pool, 0).mean(axis=0).astype(float))

    def _latents(self) -> np.ndarray:
        return self._once("latents", lambda: self.encoder.latents(self.pool[:_STANDARD], self.inputs))

    def _once(self, name: Any, make: Callable[[], Any]) -> Any:
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]


def _standard(outputs: np.ndarray) -> Features:
    """Return the outputs in one unit: a network writes large what it tells, and what it cannot tell near zero."""
    return Features("outputs", outputs.mean(axis=0), one_scale(outputs), np.zeros((0, 0)), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt. n labelled spectra, E channels of the grid.

    Attributes
    ----------
    laid, truth
        (n, E) spectra on the grid and (n,) labels.
    unlabelled
        Spectra of the same kind, and the encoder.
    n_classes
        0 for values.
    seed
        Of folds and trainings.
    lora
        Of adapters.
    latents
        (n, D) outputs of the encoder for the labelled spectra, where they are known.
    fewer
        (n, E) each, the same spectra on the grid with parts of their counts.
    """

    laid: np.ndarray
    truth: np.ndarray
    unlabelled: Unlabelled
    n_classes: int
    seed: int = 0
    lora: LoraOptions = field(default_factory=LoraOptions)
    latents: np.ndarray | None = field(default=None, repr=False)
    fewer: tuple[np.ndarray, ...] = field(default=(), repr=False)

    def of(self, some: np.ndarray) -> Task:
        """Return the task with some of the labelled spectra."""
        latents = None if self.latents is None else self.latents[some]
        fewer = tuple(rows[some] for rows in self.fewer)
        return replace(self, laid=self.laid[some], truth=self.truth[some], latents=latents, fewer=fewer)

    def encoded(self) -> Task:
        """Return the task with the outputs of the encoder: they are the same in all folds."""
        return replace(self, latents=self.unlabelled.encoder.latents(self.laid, self.unlabelled.inputs))

    def predicted(self, tuned: Tuned) -> np.ndarray:
        """Return what a method says of the labelled spectra, and of them with fewer counts: (1 + L, n, C or 1)."""
        if self.latents is not None and tuned.encoder is self.unlabelled.encoder:
            own = tuned.on_latents(self.latents)
        else:
            own = tuned(self.laid, self.unlabelled.inputs)
        return np.stack([own, *(tuned(rows, self.unlabelled.inputs) for rows in self.fewer)])

    @property
    def counts(self) -> list[float]:
        """Usual counts in a labelled spectrum, and in the same with fewer."""
        return [max(float(np.median(rows.sum(axis=1))), 1e-30) for rows in (self.laid, *self.fewer)]


def tune(method: str, task: Task) -> Tuned:
    """Fit one method to labelled spectra.

    Parameters
    ----------
    method
        One of `METHODS` but "auto".
    task
        The spectra and their labels.

    Raises
    ------
    OptionError
        The encoder has learnt no parameters, or knows no spectra, and "parameters" or "likelihood" were asked for; or
        "likelihood" was asked for values.
    """
    if method in CHEAP:
        return _cheap(method, task)
    if method == "likelihood":
        return _by_likelihood(task)
    known, encoder, latents, adapters = task.unlabelled, task.unlabelled.encoder, task.latents, None
    if method in _RATES:
        encoder, adapters = _trained(method, task)
        standard = _standard(encoder.latents(known.pool[:_STANDARD], known.inputs))
    else:
        standard = known.standard(method)
    if method in _RATES or latents is None:
        latents = encoder.latents(task.laid, known.inputs)
    outputs, tried = _outputs(method, encoder, latents), [standard]
    if method == "parameters" and encoder.readout is not None:  # or composition alone
        tried.append(replace(standard, scale=np.where(encoder.readout.composition, standard.scale, np.inf)))
    head, best = _best(tried, [(outputs - one.mean) / one.scale for one in tried], task, kernel=method == "parameters")
    return Tuned(method, head, best, encoder, adapters)


def _cheap(kind: str, task: Task) -> Tuned:
    """Fit a head to those features, roots or as recorded, or as many components, that predict left-out labels best."""
    features, counts = task.unlabelled.features, task.unlabelled.counts
    if kind == "raw":
        tried = [features(kind)] if counts else [features(kind), features(kind + AS_RECORDED)]
    else:
        signed = kind == "pca" and not counts and bool((task.unlabelled.pool < 0).any())
        tried = [features(kind + AS_RECORDED if signed else kind).first(n) for n in _COMPONENTS]
    if task.n_classes and kind != "raw":  # weights of classes shrink, and so do those of small components
        tried = [one.in_one_unit() for one in tried]
    return Tuned(kind, *_best(tried, [one(task.laid) for one in tried], task, kernel=kind != "raw"))


def _by_likelihood(task: Task) -> Tuned:
    if not task.n_classes:
        raise OptionError(
            "fine_tune(method='likelihood') says which class makes counts most likely, but the labels are values. Take "
            "method='parameters', or 'auto'."
        )
    heads = [one.fit(task.laid, task.truth, task.n_classes) for one in task.unlabelled.mixtures()]
    return Tuned("likelihood", min(heads, key=lambda head: head.error), Features.counts(task.laid.shape[1]))


def _best(tried: list[Features], values: list[np.ndarray], task: Task, *, kernel: bool) -> tuple[Head, Features]:
    """Return the head of the smallest error of left-out labels, and the features that it is of."""
    heads = [fit_head(one, task.truth, n_classes=task.n_classes, kernel=kernel) for one in values]
    best = int(np.argmin([head.error for head in heads]))
    return heads[best], tried[best]


def _trained(method: str, task: Task) -> tuple[SpectrumEncoder, dict[str, np.ndarray] | None]:
    """Return the encoder with adapters, or as a whole, trained on the labels in few steps; and its adapters."""
    import copy

    from hyperspy_specml.nn import WithHead, adapt, products

    torch.manual_seed(task.seed)
    truth, n_classes, network = task.truth, task.n_classes, copy.deepcopy(task.unlabelled.encoder.network)
    if method == "lora":
        adapt(network, rank=task.lora.rank, alpha=task.lora.alpha, targets=task.lora.target_modules)
    whole = WithHead(network, n_classes or 1)
    spread = 1.0 if n_classes else max(float(truth.std()), 1e-12)
    target = torch.from_numpy(truth if n_classes else ((truth - truth.mean()) / spread).astype(np.float32)[:, None])
    parameters = [p for p in whole.parameters() if p.requires_grad]
    optimiser = without_compiler(torch.optim.AdamW)(parameters, _RATES[method], weight_decay=0.01)
    losses, rng, inputs = torch.nn.functional, np.random.default_rng(task.seed), task.unlabelled.inputs
    loss: Any = losses.cross_entropy if n_classes else losses.mse_loss
    with one_thread("cpu"):
        for _ in range(_STEPS):
            some = rng.integers(len(truth), size=min(64, len(truth)))
            thin = rng.uniform(0.5, 1.0)
            counts = task.laid[some] * thin  # of another dose
            whole.zero_grad()
            loss(whole(*inputs(torch.from_numpy(counts.astype(np.float32)))), target[some]).backward()
            optimiser.step()
    if method != "lora":
        return replace(task.unlabelled.encoder, network=network.eval()), None
    adapters = {name: value.numpy() for name, value in products(network).items()}
    return adapted(task.unlabelled.encoder, adapters), adapters


def adapted(encoder: SpectrumEncoder, adapters: Mapping[str, np.ndarray]) -> SpectrumEncoder:
    """Return an encoder with the products of adapters added to its layers; the given one stays as it is."""
    import copy

    from hyperspy_specml.nn import with_products

    added = {name: torch.from_numpy(value) for name, value in adapters.items()}
    return replace(encoder, network=with_products(copy.deepcopy(encoder.network), added).eval())
