"""What a dense autoencoder is trained on and starts as: normalised scores, and PCA of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperspy_specml.models import DenseModel
from hyperspy_specml.nn import DenseNetwork
from hyperspy_specml.statistics import PrincipalBasis, canonical_signs
from hyperspy_specml.train import DrawnPairs, Pairs, SplitPairs

if TYPE_CHECKING:
    from hyperspy_specml.prepare import Draws
    from hyperspy_specml.run import TrainConfig


def normalisation(scores: np.ndarray) -> dict[str, Any]:
    """Return the mean scores and the largest standard deviation: one number keeps their noise equal."""
    centre = scores.mean(axis=0, dtype=np.float64).astype(np.float32)
    return {"centre": centre, "scale": float(max(scores.std(axis=0).max(), 1e-30))}


@dataclass(frozen=True)
class DenseTraining:
    """Scores of parts along some axes, as a network sees them: centred and of unit size.

    Attributes
    ----------
    basis
        Compressing axes.
    parts, fractions
        (n, F, P) scores of parts of the counts and the share of each.
    weights
        (n,) inverse noise variance of the spectra.
    n_components
        Latents K.
    centre, scale
        (P,) and a number: what scores are normalised with.
    about_mean
        Whether the network starts as PCA about the mean spectrum, or as that of the axes.
    draws
        Inputs and target, where they are no splits of the parts.
    """

    basis: PrincipalBasis
    parts: np.ndarray
    fractions: np.ndarray
    weights: np.ndarray
    n_components: int
    centre: np.ndarray
    scale: float
    about_mean: bool = True
    draws: Draws | None = None

    @property
    def scores(self) -> np.ndarray:
        """(n, P) scores on the scale of the whole data."""
        return self.parts.sum(axis=1) / np.float32(self.fractions.sum())

    def network(self, config: TrainConfig, seed: int, device: torch.device) -> DenseNetwork:
        """Return the untrained network; the global random state is left alone.

        It is PCA either way. About the mean spectrum, no component is spent on the mean; where the dose
        varies and nothing else is there in all spectra, the other way needs one component less.
        """
        k = self.n_components
        if self.about_mean:
            covariance = np.cov(self.scores, rowvar=False).reshape(self.basis.n_vectors, -1)
            vectors, rest = np.linalg.eigh(covariance)[1][:, : -k - 1 : -1], np.zeros(self.basis.n_vectors)
        else:  # the first axes as they are, and nothing along the others
            vectors, rest = np.eye(self.basis.n_vectors, k), -self.centre / self.scale
            rest[:k] = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = DenseNetwork(self.basis.n_vectors, self.n_components, config.n_hidden, config.n_layers)
            network.start_as(torch.tensor(vectors.copy()), torch.tensor(rest))
        return network.to(device)

    def loss(self, config: TrainConfig, seed: int, device: torch.device) -> Pairs:
        """Return the loss on fresh batches, in units of the noise."""
        share = self.fractions.astype(np.float32)
        parts = (self.parts - share[:, None] * self.centre) / self.scale
        weights = self.weights * self.scale**2 / self.basis.n_vectors
        if self.draws:
            inputs, target = ((v - self.centre) / self.scale for v in (self.draws.inputs, self.draws.target))
            return DrawnPairs(
                *(torch.as_tensor(v, dtype=torch.float32, device=device) for v in (
                    inputs, target, self.draws.target_share * weights)),
                batch_size=config.batch_size, generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
        return SplitPairs(
            torch.as_tensor(parts, device=device), torch.as_tensor(share, device=device),
            torch.as_tensor(weights, dtype=torch.float32, device=device), batch_size=config.batch_size,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    def plain_model(self, network: DenseNetwork) -> DenseModel:
        """Return the network as a model whose latents are as they come."""
        k = self.n_components
        return DenseModel(
            self.basis, network, self.centre, self.scale, np.eye(k, dtype=np.float32),
            np.zeros(k, np.float32), np.ones(k, np.float32),
        )  # fmt: skip

    def model(self, network: DenseNetwork) -> DenseModel:
        """Return the model with canonical latents.

        The best linear map from latents to decoded scores is brought to its principal axes. That leaves
        what the network computes as it is and makes order, scale and sign of the latents those of PCA.
        """
        network.eval()
        plain = self.plain_model(network)
        latents = plain.encode_scores(self.scores).astype(np.float64)
        decoded = plain.decode_scores(latents).astype(np.float64)
        origin = latents.mean(axis=0)
        centred = latents - origin
        response = np.linalg.lstsq(centred, decoded - decoded.mean(axis=0), rcond=1e-9)[0]  # (K, P)
        covariance = centred.T @ centred / len(centred)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-12 * max(values.max(), 1e-30))  # a collapsed latent stays invertible
        whiten = (vectors / np.sqrt(values)).T  # (K, K): unit covariance
        _, spread, turn = np.linalg.svd(response.T @ np.linalg.inv(whiten), full_matrices=False)
        spread = np.maximum(spread, 1e-9 * max(spread.max(), 1e-30))
        rotation = spread[:, None] * turn @ whiten
        model = dataclasses.replace(
            plain, rotation=rotation.astype(np.float64), origin=origin, spread=spread.astype(np.float64)
        )
        spectra = model.components()
        signs = np.where(np.sum(canonical_signs(spectra) * spectra, axis=1) < 0, -1.0, 1.0)
        return dataclasses.replace(model, rotation=signs[:, None] * rotation)
