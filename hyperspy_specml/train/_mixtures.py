"""Batches whose input are scores of some parts of the counts, and whose target is another part itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hyperspy_specml.train._pairs import Batches

if TYPE_CHECKING:
    from hyperspy_specml.nn import SimplexNetwork


class SplitMixtures:
    """Draws batches and returns the negative log-likelihood of unseen counts under a simplex network.

    Parameters
    ----------
    parts
        (n, F, P) scores of F independent parts, each on the scale of its own counts.
    targets
        F arrays (n, E): the parts themselves.
    fractions
        Share of the counts in each.
    variance
        None for counts, whose likelihood is that of Poisson; else the noise variance of the whole data, (E,)
        or (n, E).
    floor
        (E,) smallest prediction on the scale of the whole data.
    pull
        Strength of the pull of the endmembers towards each other, see `SimplexNetwork.spread`.
    batch_size
        Spectra per batch.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(
        self,
        parts: Tensor,
        targets: tuple[np.ndarray, ...],
        fractions: tuple[float, ...],
        variance: np.ndarray | None,
        floor: Tensor,
        *,
        pull: float,
        batch_size: int,
        generator: torch.Generator,
    ) -> None:
        self.parts, self.targets, self.fractions = parts, targets, fractions
        self.variance, self.floor, self.pull = variance, floor, pull
        self.batches = Batches(len(parts), batch_size, generator)
        self.generator = generator

    def __call__(self, network: nn.Module) -> Tensor:
        """Return the loss of the network on the next batch: deviance / 2 per spectrum, and the pull."""
        simplex: SimplexNetwork = network  # type: ignore[assignment]
        rows = self.batches.next_rows()
        which = int(torch.randint(len(self.fractions), (1,), generator=self.generator))
        share, everything = self.fractions[which], sum(self.fractions)
        parts = self.parts[rows.to(self.parts.device)]  # (B, F, P)
        input_ = (parts.sum(dim=1) - parts[:, which]) / (everything - share)  # (B, F, P) -> (B, P)
        abundances, dose, shift = simplex.encode(input_, everything - share)
        expected = share * torch.maximum(simplex.decode(abundances, dose, shift), self.floor)  # (B, E)
        target = self._tensor(self.targets[which], rows)
        if self.variance is None:
            error = expected - target + torch.xlogy(target, target) - torch.xlogy(target, expected)
        else:
            several = self.variance.ndim == 2
            variance = self._tensor(
                self.variance if several else self.variance[None], rows if several else [0]
            )
            error = (target - expected).square() / (2 * share * variance)
        return error.sum(dim=1).mean() * (everything / share) + self.pull * simplex.spread(abundances)

    def _tensor(self, array: np.ndarray, rows: Tensor | list[int]) -> Tensor:
        picked = array[np.asarray(rows)].astype(np.float32)
        return torch.as_tensor(picked, device=self.parts.device)
