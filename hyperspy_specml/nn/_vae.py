"""A variational autoencoder of compressed spectra. B spectra, P scores on a principal basis, K latents.

References
----------
D. P. Kingma, M. Welling, "Auto-encoding variational Bayes", ICLR 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperspy_specml.nn._dense import DenseNetwork, mlp


class VariationalNetwork(DenseNetwork):
    """Dense autoencoder whose encoder says how sure it is, and a normal distribution of the latents.

    The encoder gives each spectrum a normal distribution of its latents, with a full covariance; the prior is normal
    too, with a covariance that is learnt. ``encode`` and ``decode`` are those of the dense network.

    Parameters
    ----------
    n_scores, n_latent, n_hidden, n_layers
        See `DenseNetwork`.
    """

    def __init__(self, n_scores: int, n_latent: int, n_hidden: int, n_layers: int) -> None:
        super().__init__(n_scores, n_latent, n_hidden, n_layers)
        # Lists, not tensors: these would be weights without values while a file is checked.
        self.rows, self.columns = (index.tolist() for index in np.tril_indices(n_latent))
        self.spread_mlp = mlp(n_scores, len(self.rows), n_hidden, n_layers)
        self.prior_mean = nn.Parameter(torch.zeros(n_latent))
        self.prior_root = nn.Parameter(torch.zeros(len(self.rows)))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map scores (B, P) to the means (B, K) and the Cholesky factors (B, K, K) of their latents' covariances."""
        return self.encode(x), self._root(self.spread_mlp(x))

    def prior(self) -> tuple[Tensor, Tensor]:
        """Return mean (K,) and Cholesky factor (K, K) of the covariance of all latents."""
        return self.prior_mean, self._root(self.prior_root)

    def divergence(self, mean: Tensor, root: Tensor) -> Tensor:
        """Return the (B,) Kullback-Leibler divergences of posteriors from the prior, in nats."""
        centre, outer = self.prior()
        apart = torch.linalg.solve_triangular(outer, (mean - centre).T, upper=False)  # (K, B)
        wide = torch.linalg.solve_triangular(outer, root, upper=False)  # (B, K, K)
        logs = outer.diagonal().log().sum() - root.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return 0.5 * (wide.square().sum(dim=(1, 2)) + apart.square().sum(dim=0) - mean.shape[1]) + logs

    @torch.no_grad()
    def init_spread(self, posterior: Tensor, mean: Tensor, prior: Tensor) -> None:
        """Start from one posterior for all spectra and a prior.

        Parameters
        ----------
        posterior, prior
            (K, K) Cholesky factors of the covariances.
        mean
            (K,) of the prior.
        """
        last: Any = self.spread_mlp[-1]
        last.bias.copy_(self._flat(posterior))
        self.prior_root.copy_(self._flat(prior))
        self.prior_mean.copy_(mean)

    def _root(self, flat: Tensor) -> Tensor:
        """Return lower triangular (..., K, K) factors whose diagonals are exponentials."""
        k = len(self.prior_mean)
        root = flat.new_zeros(*flat.shape[:-1], k, k)
        root[..., self.rows, self.columns] = flat
        diagonal = root.diagonal(dim1=-2, dim2=-1)
        return root.tril(-1) + diagonal.exp().diag_embed()

    def _flat(self, root: Tensor) -> Tensor:
        """Return what `_root` makes a factor of."""
        return (root.tril(-1) + root.diagonal().log().diag_embed())[self.rows, self.columns]
