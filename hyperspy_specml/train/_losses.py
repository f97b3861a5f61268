"""Losses: pure functions of a network, a batch and the step, that return named terms; their sum is minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperspy_specml.train._batches import Batch

LossParts = Mapping[str, Tensor]
"""The terms of a loss by name, each a mean over the batch."""

Loss = Callable[[nn.Module, Batch, int], LossParts]
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
    assert isinstance(valid, Tensor)
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
        abundances, intensity, shift = network.encode(batch.input, **batch.beside)  # type: ignore[operator]
        mixture = network.decode(abundances, intensity, shift)  # type: ignore[operator]
        expected = batch.fraction * torch.maximum(mixture, self.floor)  # (B, E)
        target = batch.target
        if batch.variance is None:
            error = expected - target + torch.xlogy(target, target) - torch.xlogy(target, expected)
        else:
            error = (target - expected).square() / (2 * batch.fraction * batch.variance)
        divergence = network.endmember_divergence(abundances)  # type: ignore[operator]
        return {
            "deviance": error.sum(dim=1).mean() * (self.everything / batch.fraction),
            "volume": self.volume_penalty * divergence,
        }
