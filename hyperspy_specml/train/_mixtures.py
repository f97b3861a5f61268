"""Batches whose input are scores of some parts of the counts, and whose target is another part itself.

References
----------
D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 13 (2001).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hyperspy_specml.train._pairs import Batches

if TYPE_CHECKING:
    from hyperspy_specml.nn import SimplexNetwork


_ROUNDS = 5  # of updates of the endmembers; more change the third digit
_ELEMENTS = 1 << 20  # values of the mixtures computed at a time
_LEAST_CHANGE = 1e-3  # of a channel in an update: what noise makes negative comes near zero, not below
_MOST_ELEMENTS = 1 << 26  # values of a part that tell the endmembers; of larger samples, some of the spectra


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
        abundances, dose, shift = self._mixed(simplex, which, rows)
        expected = share * torch.maximum(simplex.decode(abundances, dose, shift), self.floor)  # (B, E)
        target = self._tensor(self.targets[which], rows)
        if self.variance is None:
            error = expected - target + torch.xlogy(target, target) - torch.xlogy(target, expected)
        else:
            error = (target - expected).square() / (2 * share * self._variance_of(rows))
        return error.sum(dim=1).mean() * (everything / share) + self.pull * simplex.spread(abundances)

    @torch.no_grad()
    def fit_endmembers(self, network: SimplexNetwork) -> None:
        """Bring the endmembers to the maximum of the likelihood, given the rest of the network.

        Given the abundances, which the other parts tell of each part, the likelihood is concave in the
        endmembers, and few multiplicative updates find its maximum: the spectra that all counts tell, without
        the pull and without the noise of the counts that they were trained on first.

        Parameters
        ----------
        network
            Trained; changed in place.
        """
        n_spectra, n_channels = self.targets[0].shape
        some = torch.arange(0, n_spectra, max(1, n_spectra * n_channels // _MOST_ELEMENTS))
        slabs = some.split(max(1, _ELEMENTS // n_channels))
        for _ in range(_ROUNDS):
            endmembers = network.endmembers()
            wanted, given = torch.zeros_like(endmembers), torch.zeros_like(endmembers)
            for i, rows in itertools.product(range(len(self.targets)), slabs):
                mixture = self._mixed(network, i, rows)
                expected = self.fractions[i] * torch.maximum(network.decode(*mixture), self.floor)
                noise = expected if self.variance is None else self.fractions[i] * self._variance_of(rows)
                target = self._tensor(self.targets[i], rows)
                wanted += self.fractions[i] * network.gather(target / noise, *mixture)
                given += self.fractions[i] * network.gather(expected / noise, *mixture)
            change = torch.where(given > 0, wanted / given, 1)  # 0: no spectrum is moved here
            network.set_endmembers(endmembers * change.clamp_min(_LEAST_CHANGE))

    def _mixed(self, network: SimplexNetwork, which: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return abundances, doses and shifts of some spectra, as all parts but one tell them."""
        share = sum(self.fractions) - self.fractions[which]
        parts = self.parts[rows.to(self.parts.device)]  # (B, F, P)
        return network.encode((parts.sum(dim=1) - parts[:, which]) / share, share)  # (B, F, P) -> (B, P)

    def _variance_of(self, rows: Tensor) -> Tensor:
        """Return the noise variance of the whole data, (B, E) or (1, E); not for counts."""
        assert self.variance is not None
        return self._tensor(*(self.variance, rows) if self.variance.ndim == 2 else (self.variance[None], [0]))

    def _tensor(self, array: np.ndarray, rows: Tensor | list[int]) -> Tensor:
        picked = array[np.asarray(rows)].astype(np.float32)
        return torch.as_tensor(picked, device=self.parts.device)
