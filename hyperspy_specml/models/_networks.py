"""Models that are networks: on devices while they are used, as arrays in files."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperspy_specml.nn import DenseNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from hyperspy_specml.models._base import Parts

AUTOENCODERS: dict[str, Callable[..., nn.Module]] = {"dense": DenseNetwork}
"""Networks from scores (B, P) through latents (B, K) back to scores, by the name of their architecture.

Called with P and K and the options of the architecture that they take; they have ``encode`` and ``decode``.
"""


def autoencoder_network(
    make: Callable[..., nn.Module], n_scores: int, n_latent: int, options: dict[str, Any]
) -> nn.Module:
    """Return an untrained network.

    Parameters
    ----------
    make
        Called with P and K and those of the options that it takes.
    n_scores, n_latent
        P and K.
    options
        All options of the architecture.
    """
    known = inspect.signature(make).parameters
    return make(n_scores, n_latent, **{name: value for name, value in options.items() if name in known})


def tensor_for(network: nn.Module, values: np.ndarray) -> torch.Tensor:
    """Return values as single-precision numbers where a network is."""
    device = next(network.parameters()).device
    return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=device)


def network_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of a network, on whatever device, as named arrays."""
    return {f"network.{name}": tensor.cpu().numpy() for name, tensor in network.state_dict().items()}


def loaded(make: Callable[[], nn.Module], parts: Parts, *, meta: bool = True) -> Any:
    """Return a network with the weights of a file, on the CPU, ready to be used.

    Parameters
    ----------
    make
        Makes the network.
    parts
        Of its model.
    meta
        Allocate nothing before the shapes are known to be those of the weights.

    Raises
    ------
    ValueError
        The weights are not those of this network.
    """
    with torch.device("meta" if meta else "cpu"), torch.random.fork_rng(devices=[]):
        network = make()
    weights = {
        name.removeprefix("network."): torch.tensor(parts.array(name, *array.shape), dtype=torch.float32)
        for name, array in parts.arrays.items() if name.startswith("network.")
    }  # fmt: skip
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:  # torch names the weights that are missing or of another shape
        raise ValueError(str(error).replace("\n\t", " ")) from error
    return network.eval()
