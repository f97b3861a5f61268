"""An autoencoder that is trained while spectra arrive: a little with each block, on all that are kept.

It begins as PCA of the first spectra. What it has learnt is taken over only where pixels that it never trains on are
described better, counts of one half of each spectrum from the other half.

n spectra, G groups of channels, P scores, K latents.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.lazy import torch
from hyperspy_specml.train import Batch, Trainer, one_thread, reconstruction_error

if TYPE_CHECKING:
    from torch import Tensor, nn

# Scores beside those of the latents, and hidden layers of encoder and decoder: their width and number.
_MORE_SCORES, _HIDDEN, _LAYERS = 12, 64, 2
# Spectra in a batch; one pixel in so many is never trained on, and so many of these are compared at most.
_BATCH, _HELD, _MOST_HELD = 256, 16, 512
# Learning rate, its factor where nothing was gained, and the smallest one.
_RATE, _SLOWER, _SLOWEST = 1e-3, 0.3, 3e-5
# Steps from one comparison to the next.
_EVERY = 50


class OnlineAutoencoder:
    """The dense network on the principal components of the first spectra.

    Parameters
    ----------
    values
        (n, G) first spectra, values of the law.
    counts
        Whether these are counts; else white noise of variance one.
    n_latent
        Latents K.
    seed
        Of weights and batches.
    """

    def __init__(self, values: np.ndarray, *, counts: bool, n_latent: int, seed: int) -> None:
        self.counts, self.rng = counts, np.random.default_rng(seed)
        self.n_accepted = 0
        mean = values.mean(axis=0, dtype=np.float64)
        weight = 1 / np.sqrt(np.maximum(mean, 1e-3 * mean.mean())) if counts else np.ones(len(mean))
        white = values * weight.astype(np.float32)
        n_scores = min(n_latent + _MORE_SCORES, len(mean))
        vectors = np.linalg.eigh(white.T.astype(np.float64) @ white)[1][:, : -n_scores - 1 : -1]
        self.weight, self.vectors = weight.astype(np.float32), vectors.astype(np.float32)
        scores = white @ self.vectors
        self.centre, self.scale = scores.mean(axis=0), float(np.sqrt(scores.var(axis=0).sum()) + 1e-12)
        self.network = _network(n_scores, min(n_latent, n_scores), seed)
        self.accepted = copy.deepcopy(self.network).eval()
        self._rate = _RATE
        self._trainer = Trainer(self.network, reconstruction_error, self._rate)

    def train(self, values: np.ndarray, seen: np.ndarray, seconds: float) -> None:
        """Train for so many seconds, or one step.

        Parameters
        ----------
        values
            (n, G) spectra of the map.
        seen
            (n,) bool, which of them are there.
        seconds
            Of the wall clock.
        """
        end, index = time.perf_counter() + seconds, np.flatnonzero(seen)
        held = index % _HELD == 0
        if held.all() or self._rate < _SLOWEST:
            return
        with one_thread("cpu"):
            while True:
                rows = self.rng.choice(index[~held], min(_BATCH, int((~held).sum())), replace=False)
                one, other = (torch.from_numpy(self._normalised(part)) for part in self._halves(values[rows], self.rng))
                self._trainer.step(Batch(one, other))
                if self._trainer.n_steps % _EVERY == 0 and held.any():
                    self._compare(values[index[held][:: -(-int(held.sum()) // _MOST_HELD)]])
                if time.perf_counter() >= end:
                    return

    def _compare(self, values: np.ndarray) -> None:
        """Take over what was learnt where spectra that it has not seen are described better; else go back."""
        self._trainer.mean_losses()
        one, other = self._halves(values, np.random.default_rng(0))
        new = copy.deepcopy(self.network)
        new.load_state_dict(self._trainer.average)
        before, after = (
            self._deviance(other, self._predicted(network, one)) for network in (self.accepted, new.eval())
        )
        if after.mean() < before.mean():
            self.accepted = new
            self.n_accepted += 1
            return
        self._rate *= _SLOWER
        self.network.load_state_dict(self.accepted.state_dict())
        self._trainer = Trainer(self.network, reconstruction_error, self._rate)

    def _halves(self, values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return two independent halves of (n, G) spectra, each on the scale of the whole."""
        if self.counts:
            half = rng.binomial(np.round(np.maximum(values, 0)).astype(np.int64), 0.5).astype(np.float32)
            return 2 * half, 2 * (values - half)
        noise = rng.standard_normal(values.shape, np.float32)
        return values + noise, values - noise

    def _normalised(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(((values * self.weight) @ self.vectors - self.centre) / np.float32(self.scale), np.float32)

    def _predicted(self, network: nn.Module, values: np.ndarray) -> np.ndarray:
        """Return (n, G) spectra that the network decodes."""
        with torch.inference_mode():
            found: Tensor = network(torch.from_numpy(self._normalised(values)))
        scores = found.numpy() * np.float32(self.scale) + self.centre
        return np.asarray((scores @ self.vectors.T) / self.weight, np.float32)

    def _deviance(self, values: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return (n,) deviances of spectra, up to what does not depend on the mean."""
        if not self.counts:
            return np.square(values - mean).sum(axis=1)
        mean = np.maximum(mean, np.float32(1e-3))
        return 2 * (mean - values * np.log(mean)).sum(axis=1)

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Return (n,) mean squared residuals of spectra per group, in units of the noise of the mean spectrum."""
        with one_thread("cpu"):
            rest = (values - self._predicted(self.accepted, values)) * self.weight
        return np.einsum("ij,ij->i", rest, rest) / np.float32(rest.shape[1])


def _network(n_scores: int, n_latent: int, seed: int) -> nn.Module:
    from hyperspy_specml.nn import DenseNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DenseNetwork(n_scores, n_latent, _HIDDEN, _LAYERS)
