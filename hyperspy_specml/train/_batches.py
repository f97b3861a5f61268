"""Batches, the sources that draw them, and the losses that they are given to.

Input and target of a batch hold independent noise, or the target holds none. Losses are pure functions of a network,
a batch and the step, that return named terms; their sum is minimised.

References
----------
J. Lehtinen et al., "Noise2Noise: Learning image restoration without clean data", ICML 2018;
J. Batson, L. Royer, "Noise2Self: Blind denoising by self-supervision", ICML 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hyperspy_specml.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_CROPS = {1: 256, 2: 32, 3: 12}  # pixels along each side of a crop, by the number of scan axes
_MOST_CROPS = 8
_BATCH_VALUES = 1_500_000  # filtered scores in a batch: a step then takes tens of milliseconds


@dataclass(frozen=True)
class Batch:
    """What one step of a training is made of. B samples.

    Attributes
    ----------
    input
        (B, ...) what the network is given.
    target
        (B, ...) what its prediction is compared with.
    weight
        Weight of the squared error of each sample: about the inverse noise variance of its target.
    variance
        Noise variance of each value on the scale of the whole data, for likelihoods; None for counts, whose noise
        follows from the prediction.
    fraction
        Share of the counts that the target holds.
    beside
        What else the network is given, by the name of its argument.
    """

    input: Tensor
    target: Tensor
    weight: Tensor | float = 1.0
    variance: Tensor | None = None
    fraction: float = 1.0
    beside: Mapping[str, Any] = field(default_factory=dict)

    def pieces(self, at_once: int | None) -> Iterator[tuple[float, Batch]]:
        """Yield this batch in pieces, each with its share of the samples: what is computed of few stays in the cache.

        Parameters
        ----------
        at_once
            Samples in a piece; None does not cut the batch.
        """
        size = len(self.input)
        if at_once is None or at_once >= size:
            yield 1.0, self
            return
        for start in range(0, size, at_once):
            some = slice(start, min(start + at_once, size))

            def cut(value: Any, some: slice = some) -> Any:  # what all samples have in common stays whole
                return value[some] if isinstance(value, torch.Tensor) and value.shape[:1] == (size,) else value

            parts = {name: cut(getattr(self, name)) for name in ("input", "target", "weight", "variance")}
            beside = {name: cut(value) for name, value in self.beside.items()}
            yield (some.stop - some.start) / size, replace(self, **parts, beside=beside)


class BatchSource(Protocol):
    """Draws batches, each time another one."""

    def draw(self) -> Batch:
        """Return the next batch."""
        ...


class RandomRows:
    """Rows of one batch after another, in a new random order after all were drawn.

    Parameters
    ----------
    n_rows, batch_size
        Rows in all and per batch; None takes all.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(self, n_rows: int, batch_size: int | None, generator: torch.Generator) -> None:
        self.n_rows, self.batch_size, self.generator = n_rows, min(batch_size or n_rows, n_rows), generator
        self._order = torch.empty(0, dtype=torch.long)

    def draw(self) -> Tensor:
        """Return the rows of the next batch, on the CPU."""
        if len(self._order) < self.batch_size:
            self._order = torch.randperm(self.n_rows, generator=self.generator)
        rows, self._order = self._order[: self.batch_size], self._order[self.batch_size :]
        return rows


@dataclass(frozen=True)
class SplitParts:
    """Some parts of the counts of each spectrum as input, the others as target.

    Every draw gives each spectrum another choice of parts, so the network never sees the noise that it is
    scored against, and cannot learn to repeat it.

    Attributes
    ----------
    parts
        (n, F, P) normalised scores of F independent parts, each on the scale of its own counts.
    fractions
        (F,) share of the counts in each part.
    weights
        (n,) inverse noise variance of each spectrum, about 1, known without its counts.
    rows
        Draws the spectra of a batch.
    variance
        From an input (B, P) to the (B,) noise variances of these spectra, relative to that of the mean spectrum.
        Never from the target: weights that know its noise favour what is too small.
    """

    parts: Tensor
    fractions: Tensor
    weights: Tensor
    rows: RandomRows
    variance: Callable[[Tensor], Tensor | float] = lambda _: 1.0

    def draw(self) -> Batch:
        """Return sums of some parts and of the others, each on the scale of the whole."""
        rows = self.rows.draw()
        random = torch.rand(len(rows), len(self.fractions), generator=self.rows.generator)
        # One quarter of the parts as target: fewer make the target, and so the gradient, noisier; more
        # make the input noisier than the data that the network will be used on.
        n_target = max(1, round(len(self.fractions) / 4))
        is_target = (random.argsort(dim=1) < n_target).to(self.parts)  # (B, F)
        rows = rows.to(self.parts.device)
        parts = self.parts[rows]  # (B, F, P)
        target_share = is_target @ self.fractions  # (B,)
        input_share = self.fractions.sum() - target_share
        target = (parts * is_target[..., None]).sum(dim=1) / target_share[:, None]  # (B, F, P) -> (B, P)
        input_ = (parts * (1 - is_target)[..., None]).sum(dim=1) / input_share[:, None]
        return Batch(input_, target, self.weights[rows] * target_share / self.variance(input_))


@dataclass(frozen=True)
class DrawnInputs:
    """One of several inputs of each spectrum that were made before, with its target.

    Attributes
    ----------
    inputs
        (n, D, P) normalised scores, D draws of each spectrum.
    target
        (n, P) normalised scores.
    weights
        (n,) inverse noise variance of each target, about 1.
    rows
        Draws the spectra of a batch.
    """

    inputs: Tensor
    target: Tensor
    weights: Tensor
    rows: RandomRows

    def draw(self) -> Batch:
        """Return one of the inputs of each spectrum, and its target."""
        rows = self.rows.draw()
        which = torch.randint(self.inputs.shape[1], (len(rows),), generator=self.rows.generator)
        rows, which = rows.to(self.inputs.device), which.to(self.inputs.device)
        return Batch(self.inputs[rows, which], self.target[rows], self.weights[rows])


@dataclass(frozen=True)
class ScoresAndCounts:
    """Scores of all parts of the counts but one as input, the counts of that part as target.

    Attributes
    ----------
    parts
        (n, F, P) scores of F independent parts, each on the scale of its own counts.
    targets
        F arrays (n, E): the parts themselves.
    fractions
        Share of the counts in each.
    variance
        None for counts; else the noise variance of the whole data, (E,) or (n, E).
    rows
        Draws the spectra of a batch.
    """

    parts: Tensor
    targets: Sequence[np.ndarray]
    fractions: Sequence[float]
    variance: np.ndarray | None
    rows: RandomRows

    def draw(self) -> Batch:
        """Return a batch whose target is one of the parts."""
        rows = self.rows.draw()
        return self.batch(int(torch.randint(len(self.fractions), (1,), generator=self.rows.generator)), rows)

    def batch(self, which: int, rows: Tensor) -> Batch:
        """Return the batch of these spectra whose target is this part."""
        share = sum(self.fractions) - self.fractions[which]
        parts = self.parts[rows.to(self.parts.device)]  # (B, F, P)
        scores = (parts.sum(dim=1) - parts[:, which]) / share  # (B, F, P) -> (B, P)
        target, variance = self._tensor(self.targets[which][np.asarray(rows)]), None
        if self.variance is not None:
            variance = self._tensor(self.variance[np.asarray(rows)] if self.variance.ndim == 2 else self.variance[None])
        return Batch(scores, target, 1.0, variance, self.fractions[which], {"fraction": share})

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values.astype(np.float32), device=self.parts.device)


@dataclass(frozen=True)
class DrawnCounts:
    """Counts drawn from noise-free spectra, at a random number of counts each, with these spectra as target.

    Attributes
    ----------
    shapes
        (n, E) noise-free spectra of total 1.
    projector
        (E, P) to scores on a basis with noise of variance 1 over the total counts.
    centre, variance
        (P,) mean and variances of the clean scores.
    totals
        Smallest and largest number of counts in a spectrum; all sizes between are as likely.
    rows
        Draws the spectra of a batch.
    """

    shapes: Tensor
    projector: Tensor
    centre: Tensor
    variance: Tensor
    totals: tuple[float, float]
    rows: RandomRows

    def draw(self) -> Batch:
        """Return noisy and clean scores (B, P), weighted by one over the error of the best linear denoiser.

        So spectra of few and of many counts matter the same.
        """
        shapes = self.shapes[self.rows.draw().to(self.shapes.device)]
        low, high = map(math.log, self.totals)
        random = torch.rand(len(shapes), 1, generator=self.rows.generator)
        total = (low + (high - low) * random).exp()
        counts = torch.poisson(total * shapes.cpu(), generator=self.rows.generator).to(shapes.device)
        found = counts.sum(dim=1, keepdim=True).clamp(min=1)  # what is known of the total later on
        noisy, clean = (values @ self.projector - self.centre for values in (counts / found, shapes))  # (B, P)
        level = found.rsqrt()
        noise = level.square()
        linear = (self.variance * noise / (self.variance + noise)).sum(dim=1)  # (B,)
        return Batch(noisy, clean, 1 / linear, beside={"level": level, "variance": self.variance})


@dataclass(frozen=True)
class TilePair:
    r"""One split of the counts of tiles of a scan. T tiles, S filters, P components.

    Attributes
    ----------
    stack
        (T, S, P, \*tile) filtered scores of the input, with noise of variance 1.
    target
        (T, P, \*tile) scores of the other counts, in the same unit.
    weight
        Inverse noise variance of the target.
    centre, spread
        (P,) mean and standard deviation of the components, in the same unit.
    """

    stack: Tensor
    target: Tensor
    weight: float
    centre: Tensor
    spread: Tensor


@dataclass(frozen=True)
class TileCrops:
    r"""Crops of tiles, turned at random.

    The pairs differ in the share of the counts that is input, so one network serves all noise levels.

    Attributes
    ----------
    pairs
        Splits of the counts.
    valid
        (T, 1, \*tile), 1 where there is a spectrum, else 0.
    generator
        Source of randomness, on the CPU.
    """

    pairs: Sequence[TilePair]
    valid: Tensor
    generator: torch.Generator

    def draw(self) -> Batch:
        """Return crops (B, S, P, *crop) of one of the pairs."""
        pair = self.pairs[self._below(len(self.pairs))]
        crop = [min(n, _CROPS[self.valid.ndim - 2]) for n in self.valid.shape[2:]]
        values = math.prod(pair.stack.shape[1:3]) * math.prod(crop)
        n_crops = int(min(max(1, _BATCH_VALUES // values), _MOST_CROPS))
        crops = []
        for _ in range(n_crops):
            tile = self._below(len(self.valid))
            starts = [self._below(n - c + 1) for n, c in zip(self.valid.shape[2:], crop, strict=True)]
            box = tuple(slice(start, start + c) for start, c in zip(starts, crop, strict=True))
            turned = [-1 - axis for axis in range(len(box)) if self._below(2)]
            crops.append([maps[tile][(...,) + box].flip(turned) for maps in (pair.stack, pair.target, self.valid)])  # noqa: RUF005
        stack, target, valid = (torch.stack(maps) for maps in zip(*crops, strict=True))
        centre, spread = pair.centre.expand(n_crops, -1), pair.spread.expand(n_crops, -1)
        beside = {"valid": valid, "centre": centre, "spread": spread}
        return Batch(stack, target, torch.tensor(pair.weight), beside=beside)

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.generator))


LossParts = Mapping[str, "Tensor"]
"""The terms of a loss by name, each a mean over the batch."""

Loss = Callable[["nn.Module", Batch, int], LossParts]
"""From a network, a batch and the number of the step (from 1; weights may be annealed by it) to the terms."""


def squared_error(network: Callable[..., Tensor], batch: Batch, step: int) -> LossParts:
    """Return the squared error of each sample, weighted and averaged.

    Parameters
    ----------
    network
        From the input of a batch, and what is beside it, to a prediction (B, P) of the target.
    batch
        With weights (B,).
    step
        Not used.
    """
    error = (network(batch.input, **batch.beside) - batch.target).square().sum(dim=1)  # (B, P) -> (B,)
    return {"squared error": (error * batch.weight).mean()}


def reconstruction_error(network: Any, batch: Batch, step: int) -> LossParts:
    """Return the squared error of decoded latents: all that a network needs is to encode and to decode.

    Parameters
    ----------
    network
        Encodes the input of a batch, and decodes that to a prediction (B, P) of the target.
    batch, step
        See `squared_error`.
    """
    return squared_error(lambda scores: network.decode(network.encode(scores)), batch, step)


def squared_error_of_maps(network: nn.Module, batch: Batch, step: int) -> LossParts:
    r"""Return the squared error for each valid pixel and component.

    Parameters
    ----------
    network
        From filtered maps to a prediction (B, P, \*tile) of the target.
    batch
        With one weight, and (B, 1, \*tile) ``valid`` beside its input.
    step
        Not used.
    """
    prediction, valid = network(batch.input, **batch.beside), batch.beside["valid"]
    error = (prediction - batch.target).square() * valid
    return {"squared error": batch.weight * error.sum() / valid.sum().clamp(min=1) / prediction.shape[1]}


@dataclass(frozen=True)
class MixtureLikelihood:
    """Negative log-likelihood of counts under a mixture of endmembers, and the volume that they enclose.

    Attributes
    ----------
    floor
        (E,) smallest prediction on the scale of the whole data.
    everything
        Share of the counts in all parts together.
    volume_penalty
        Counts per spectrum whose information about the endmembers the penalty on their divergence equals, see
        `SimplexNetwork.endmember_divergence`.
    """

    floor: Tensor
    everything: float
    volume_penalty: float

    def __call__(self, network: nn.Module, batch: Batch, step: int) -> LossParts:
        """Return half the deviance per spectrum, and the penalty; see `Loss`."""
        mixture = network.encode(batch.input, **batch.beside)  # type: ignore[operator]
        expected = batch.fraction * torch.maximum(network.decode(*mixture), self.floor)  # type: ignore[operator]
        target = batch.target  # (B, E)
        if batch.variance is None:
            error = expected - target + torch.xlogy(target, target) - torch.xlogy(target, expected)
        else:
            error = (target - expected).square() / (2 * batch.fraction * batch.variance)
        volume = self.volume_penalty * network.endmember_divergence(mixture[0])  # type: ignore[operator]
        return {"deviance": error.sum(dim=1).mean() * (self.everything / batch.fraction), "volume": volume}
