"""Batches of input and target that are independent parts of the same counts.

References
----------
J. Lehtinen et al., "Noise2Noise: Learning image restoration without clean data", ICML 2018;
J. Batson, L. Royer, "Noise2Self: Blind denoising by self-supervision", ICML 2019.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Pairs(ABC):
    """Draws batches of input and target and returns the weighted squared error.

    Parameters
    ----------
    n_spectra, batch_size
        Spectra in all and per batch.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(self, n_spectra: int, batch_size: int, generator: torch.Generator) -> None:
        self.batches, self.generator = Batches(n_spectra, batch_size, generator), generator

    def __call__(self, network: nn.Module) -> Tensor:
        """Return the loss of the network on the next batch."""
        input_, target, weights = self.draw(self.batches.next_rows())
        return ((network(input_) - target).square().sum(dim=1) * weights).mean()  # (B, P) -> (B,) -> ()

    @abstractmethod
    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return input and target (B, P) of these spectra, and the weights (B,) of their errors."""


class SplitPairs(Pairs):
    """Makes pairs of the parts of each spectrum's counts.

    Every draw gives each spectrum another choice of parts as input and the rest as target, so the
    network never sees the noise that it is scored against, and cannot learn to repeat it.

    Parameters
    ----------
    parts
        (n, F, P) normalised scores of F independent parts, each on the scale of its own counts.
    fractions
        (F,) share of the counts in each part.
    weights
        (n,) inverse noise variance of each spectrum, about 1.
    batch_size, generator
        See `Pairs`.
    """

    def __init__(
        self, parts: Tensor, fractions: Tensor, weights: Tensor, *, batch_size: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__(len(parts), batch_size, generator)
        self.parts, self.fractions, self.weights = parts, fractions, weights
        # One quarter of the parts as target: fewer make the target, and so the gradient, noisier; more
        # make the input noisier than the data that the network will be used on.
        self.n_target = max(1, round(len(fractions) / 4))

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of some parts and of the others, each on the scale of the whole."""
        random = torch.rand(len(rows), len(self.fractions), generator=self.generator)
        is_target = (random.argsort(dim=1) < self.n_target).to(self.parts)  # (B, F)
        rows = rows.to(self.parts.device)
        parts = self.parts[rows]  # (B, F, P)
        target_share = is_target @ self.fractions  # (B,)
        input_share = self.fractions.sum() - target_share
        target = (parts * is_target[..., None]).sum(dim=1) / target_share[:, None]  # (B, F, P) -> (B, P)
        input_ = (parts * (1 - is_target)[..., None]).sum(dim=1) / input_share[:, None]
        return input_, target, self.weights[rows] * target_share


class DrawnPairs(Pairs):
    """Pairs that were made before: another input of each spectrum every time.

    Parameters
    ----------
    inputs
        (n, D, P) normalised scores, D draws of each spectrum.
    target
        (n, P) normalised scores.
    weights
        (n,) inverse noise variance of each target, about 1.
    batch_size, generator
        See `Pairs`.
    """

    def __init__(
        self, inputs: Tensor, target: Tensor, weights: Tensor, *, batch_size: int, generator: torch.Generator
    ) -> None:
        super().__init__(len(inputs), batch_size, generator)
        self.inputs, self.target, self.weights = inputs, target, weights

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return one of the inputs of each spectrum, and its target."""
        which = torch.randint(self.inputs.shape[1], (len(rows),), generator=self.generator)
        rows, which = rows.to(self.inputs.device), which.to(self.inputs.device)
        return self.inputs[rows, which], self.target[rows], self.weights[rows]


class Batches:
    """Rows of one batch after another, in a new random order after all were drawn.

    Parameters
    ----------
    n_rows, batch_size
        Rows in all and per batch.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(self, n_rows: int, batch_size: int, generator: torch.Generator) -> None:
        self.n_rows, self.batch_size, self.generator = n_rows, min(batch_size, n_rows), generator
        self._order = torch.empty(0, dtype=torch.long)

    def next_rows(self) -> Tensor:
        """Return the rows of the next batch, on the CPU."""
        if len(self._order) < self.batch_size:
            self._order = torch.randperm(self.n_rows, generator=self.generator)
        rows, self._order = self._order[: self.batch_size], self._order[self.batch_size :]
        return rows
