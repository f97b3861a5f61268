"""Batches of noisy inputs and clean targets, drawn from noise-free spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hyperspy_specml.train._pairs import Batches


class LibraryPairs:
    """Draws counts of library spectra, at a random dose each, and returns the error of a network on them.

    Parameters
    ----------
    shapes
        (n, E) noise-free spectra of total 1.
    projector
        (E, P) to scores along axes with noise of variance 1 over the total counts.
    centre, variance
        (P,) mean and variances of the clean scores.
    totals
        Smallest and largest number of counts in a spectrum; all sizes between are as likely.
    batch_size
        Spectra per batch.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(
        self, shapes: Tensor, projector: Tensor, centre: Tensor, variance: Tensor, *,
        totals: tuple[float, float], batch_size: int, generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.shapes, self.projector, self.centre, self.variance = shapes, projector, centre, variance
        self.totals, self.generator = totals, generator
        self.batches = Batches(len(shapes), batch_size, generator)

    def __call__(self, network: nn.Module) -> Tensor:
        """Return the loss of the network on the next batch."""
        return self.error(network, *self.draw())

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy and clean scores (B, P) and the noise level (B, 1) of the next batch."""
        shapes = self.shapes[self.batches.next_rows().to(self.shapes.device)]
        low, high = map(math.log, self.totals)
        random = torch.rand(len(shapes), 1, generator=self.generator)
        total = (low + (high - low) * random).exp()
        counts = torch.poisson(total * shapes.cpu(), generator=self.generator).to(shapes.device)
        total = total.to(shapes.device)
        found = counts.sum(dim=1, keepdim=True).clamp(min=1)  # what is known of the total later on
        noisy, clean = (
            values @ self.projector - self.centre for values in (counts / found, shapes)
        )  # (B, E) -> (B, P)
        return noisy, clean, found.rsqrt()

    def error(self, network: nn.Module, noisy: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """Return the mean error over that of the best linear denoiser: all doses count the same."""
        noise = level.square()
        linear = (self.variance * noise / (self.variance + noise)).sum(dim=1)  # (B,)
        error = (network(noisy, level, self.variance) - clean).square().sum(dim=1)
        return (error / linear).mean()
