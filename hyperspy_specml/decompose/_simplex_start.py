"""The untrained simplex autoencoder: given endmembers, and an encoder close to their abundances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperspy_specml.decompose._endmembers import find_abundances
from hyperspy_specml.nn import SimplexNetwork
from hyperspy_specml.statistics import USED, PrincipalBasis

if TYPE_CHECKING:
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run

_LEAST_ABUNDANCE = 0.03  # the encoder starts with; smaller ones would ask for extreme weights
_DAMPING = 1e-3  # of the regression, in units of what the encoder sees


def start_network(
    data: TrainingData, endmembers: np.ndarray, spectra: np.ndarray, scores: np.ndarray, run: Run, *,
    n_hidden: int, n_layers: int,
) -> SimplexNetwork:  # fmt: skip
    """Return a network whose encoder is linear in the logarithms of abundances, by regression.

    Parameters
    ----------
    data
        Training data.
    endmembers
        (K, E), positive, of sum one.
    spectra, scores
        (n, E) and (n, P) of some spectra of the training fold.
    run
        Seed and place of the network; the global random state is left alone.
    n_hidden, n_layers
        Size of the encoder.
    """

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = SimplexNetwork(
            tensor(endmembers), tensor(to_scores(data.fold_basis)),
            tensor(np.maximum(data.folds.mean, least_mean(data))), tensor(data.fold_scores),
            shot=_shot(data), ends=_ends(data), shifts=False, n_hidden=n_hidden, n_layers=n_layers,
        )  # fmt: skip
    inputs = network.encoder_input(tensor(scores)).numpy().astype(np.float64)
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    wanted = np.log(np.maximum(find_abundances(spectra, endmembers), _LEAST_ABUNDANCE))
    wanted -= wanted.mean(axis=1, keepdims=True)
    normal = inputs.T @ inputs + _DAMPING * len(inputs) * np.eye(inputs.shape[1])
    linear = np.linalg.solve(normal, inputs.T @ wanted)
    network.init_encoder(tensor(linear[:-1].T), tensor(linear[-1]))
    return network.to(run.device)


def least_mean(data: TrainingData) -> np.ndarray:
    """Return the (E,) smallest prediction: that of the score, and positive."""
    return np.maximum(data.folds.floor, 1e-6 * np.abs(data.folds.mean).mean())


def to_scores(basis: PrincipalBasis) -> np.ndarray:
    """Return (E, P): whitened scores of spectra are ``spectra @ to_scores``."""
    return basis.vectors * basis.weights[:, None]


def _shot(data: TrainingData) -> float:
    """Return the share of the noise variance at the mean spectrum that is proportional to the intensity."""
    noise, mean = data.estimate.model, np.maximum(data.folds.mean, 0)
    variance, still = noise.variance(mean).mean(), noise.variance(np.zeros_like(mean)).mean()
    return float(1 - still / max(variance, np.finfo(float).tiny))


def _ends(data: TrainingData) -> torch.Tensor:
    """Return first and last channel in use, counted among those, of the stretch that each one is in."""
    used = np.flatnonzero(data.summary.channel_state == USED)
    bounds = np.array([0, *(np.flatnonzero(np.diff(used) > 1) + 1), len(used)])
    lengths = np.diff(bounds)
    return torch.as_tensor(np.array([np.repeat(bounds[:-1], lengths), np.repeat(bounds[1:], lengths) - 1]))
