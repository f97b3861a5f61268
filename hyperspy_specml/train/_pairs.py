"""Batches of input and target that are independent parts of the same counts.

References
----------
J. Lehtinen et al., "Noise2Noise: Learning image restoration without clean data", ICML 2018;
J. Batson, L. Royer, "Noise2Self: Blind denoising by self-supervision", ICML 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SplitPairs:
    """Draws batches from the parts of each spectrum's counts and returns the weighted squared error.

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
    batch_size
        Spectra per batch.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(
        self,
        parts: Tensor,
        fractions: Tensor,
        weights: Tensor,
        *,
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        self.parts, self.fractions, self.weights = parts, fractions, weights
        self.batch_size = min(batch_size, len(parts))
        self.generator = generator
        # One quarter of the parts as target: fewer make the target, and so the gradient, noisier; more
        # make the input noisier than the data that the network will be used on.
        self.n_target = max(1, round(len(fractions) / 4))
        self._order = torch.empty(0, dtype=torch.long)

    def __call__(self, network: nn.Module) -> Tensor:
        """Return the loss of the network on the next batch."""
        rows = self._next_rows()
        n_parts = len(self.fractions)
        draw = torch.rand(len(rows), n_parts, generator=self.generator)
        is_target = (draw.argsort(dim=1) < self.n_target).to(self.parts)  # (B, F)
        parts = self.parts[rows]  # (B, F, P)
        target_share = is_target @ self.fractions  # (B,)
        input_share = self.fractions.sum() - target_share
        target = (parts * is_target[..., None]).sum(dim=1) / target_share[:, None]  # (B, F, P) -> (B, P)
        input_ = (parts * (1 - is_target)[..., None]).sum(dim=1) / input_share[:, None]
        error = (network(input_) - target).square().sum(dim=1)  # (B, P) -> (B,)
        return (error * self.weights[rows] * target_share).mean()

    def _next_rows(self) -> Tensor:
        if len(self._order) < self.batch_size:
            self._order = torch.randperm(len(self.parts), generator=self.generator)
        rows, self._order = self._order[: self.batch_size], self._order[self.batch_size :]
        return rows.to(self.parts.device)
