"""Fitted models as named arrays, checked on their way back: what model files hold.

A new architecture adds one line to `STORED`. n spectra, E channels in use, P compressed scores, K components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hyperspy_specml.models._latent import DenseModel, LinearModel
from hyperspy_specml.models._simplex import SimplexModel
from hyperspy_specml.nn import DenseNetwork, SimplexNetwork
from hyperspy_specml.statistics import PrincipalBasis

if TYPE_CHECKING:
    from torch import nn

    from hyperspy_specml.models._latent import SpectrumModel

Arrays = Mapping[str, np.ndarray]

ANY = -1  # in a shape: whatever it is
_ENDS = "network.ends"


class Stored(NamedTuple):
    """How the models of one architecture, or the denoisers of one kind, are taken apart and put together.

    Attributes
    ----------
    to_arrays
        To arrays by name.
    from_arrays
        Back; raises ValueError where the arrays do not make up one.
    """

    to_arrays: Callable[[Any], dict[str, np.ndarray]]
    from_arrays: Callable[[Arrays], Any]


def model_to_arrays(model: SpectrumModel) -> dict[str, np.ndarray]:
    """Return all that a model is made of, as named arrays.

    Parameters
    ----------
    model
        Of any architecture in `STORED`.
    """
    return STORED[model.architecture].to_arrays(model)


def model_from_arrays(architecture: str, arrays: Arrays) -> SpectrumModel:
    """Return the model that `model_to_arrays` took apart, on the CPU.

    Parameters
    ----------
    architecture
        Its name.
    arrays
        By name.

    Raises
    ------
    ValueError
        The architecture is unknown, or the arrays do not make up a model of it.
    """
    return stored("architecture", architecture, STORED).from_arrays(arrays)


def stored(what: str, name: str, table: Mapping[str, Stored]) -> Stored:
    """Look up how something that a file names is put together.

    Raises
    ------
    ValueError
        It is unknown.
    """
    if name not in table:
        raise ValueError(f"{what} {name!r} is not one of {', '.join(map(repr, table))}")
    return table[name]


def shaped(arrays: Arrays, name: str, *shape: int) -> np.ndarray:
    """Return one of the arrays: single or double precision, finite, of this shape (-1: any size).

    Raises
    ------
    ValueError
        It is not there or not so.
    """
    if name not in arrays:
        raise ValueError(f"array {name!r} is missing")
    array = arrays[name]
    if array.ndim != len(shape) or any(n not in (ANY, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"array {name!r} has shape {array.shape}, not {shape} (-1: any)")
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"array {name!r} has dtype {array.dtype}, not float32 or float64")
    if not np.isfinite(array).all():
        raise ValueError(f"array {name!r} holds values that are not finite")
    return array


def basis_to_arrays(axes: PrincipalBasis) -> dict[str, np.ndarray]:
    """Return principal axes as named arrays."""
    return {f"axes.{name}": getattr(axes, name) for name in ("weights", "offset", "vectors", "eigenvalues")}


def basis_from_arrays(arrays: Arrays) -> PrincipalBasis:
    """Return the principal axes that `basis_to_arrays` took apart.

    Raises
    ------
    ValueError
        See `shaped`; weights that are not positive.
    """
    vectors = shaped(arrays, "axes.vectors", ANY, ANY)
    weights = shaped(arrays, "axes.weights", len(vectors))
    if not (weights > 0).all():
        raise ValueError("array 'axes.weights' holds values that are not positive")
    offset, eigenvalues = (
        shaped(arrays, "axes.offset", len(vectors)),
        shaped(arrays, "axes.eigenvalues", ANY),
    )
    return PrincipalBasis(weights, offset, vectors, eigenvalues)


def network_to_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of a network, on whatever device, as named arrays."""
    return {f"network.{name}": tensor.cpu().numpy() for name, tensor in network.state_dict().items()}


def load_network(make: Callable[[], nn.Module], arrays: Arrays) -> nn.Module:
    """Return a network with these weights, on the CPU.

    Parameters
    ----------
    make
        Makes the network. Nothing is allocated before its shapes are known to be those of the weights.
    arrays
        By name; those of `network_to_arrays` among them.

    Raises
    ------
    ValueError
        The weights are not those of this network.
    """
    with torch.device("meta"):
        network = make()
    return fill_network(network, arrays)


def fill_network(network: nn.Module, arrays: Arrays) -> nn.Module:
    """Give a network its weights and return it.

    Raises
    ------
    ValueError
        The weights are not those of this network.
    """
    weights = {
        name.removeprefix("network."): torch.tensor(shaped(arrays, name, *array.shape), dtype=torch.float32)
        for name, array in arrays.items()
        if name.startswith("network.")
    }
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:  # torch names the weights that are missing or of another shape
        raise ValueError(str(error).replace("\n\t", " ")) from error
    return network.eval()


def _linear_from_arrays(arrays: Arrays) -> LinearModel:
    return LinearModel(basis_from_arrays(arrays))


def _dense_to_arrays(model: DenseModel) -> dict[str, np.ndarray]:
    own = {name: getattr(model, name) for name in ("centre", "rotation", "origin", "spread")}
    scale = {"scale": np.array([model.scale])}
    return basis_to_arrays(model.axes) | network_to_arrays(model.network) | own | scale


def _dense_from_arrays(arrays: Arrays) -> DenseModel:
    axes = basis_from_arrays(arrays)
    p, k = axes.n_axes, len(shaped(arrays, "origin", ANY))
    n_hidden = len(shaped(arrays, "network.encode_bend.0.weight", ANY, p))
    n_layers = sum(n.startswith("network.encode_bend.") and n.endswith(".weight") for n in arrays) - 1
    network = load_network(lambda: DenseNetwork(p, k, n_hidden, n_layers), arrays)
    assert isinstance(network, DenseNetwork)
    return DenseModel(
        axes, network, shaped(arrays, "centre", p), float(shaped(arrays, "scale", 1)[0]),
        shaped(arrays, "rotation", k, k), arrays["origin"], shaped(arrays, "spread", k),
    )  # fmt: skip


def _simplex_to_arrays(model: SimplexModel) -> dict[str, np.ndarray]:
    network = model.network
    arrays = basis_to_arrays(model.axes) | network_to_arrays(network)
    settings = np.array([network.shot, network.shifts, network.total], dtype=np.float64)
    return arrays | {"settings": settings, _ENDS: arrays[_ENDS].astype(np.float32)}


def _simplex_from_arrays(arrays: Arrays) -> SimplexModel:
    axes = basis_from_arrays(arrays)
    n_channels, p = axes.vectors.shape
    k = len(shaped(arrays, "network.log_ratio", ANY, n_channels))
    n_hidden = len(shaped(arrays, "network.encode_bend.0.weight", ANY, p))
    n_layers = sum(n.startswith("network.encode_bend.") and n.endswith(".weight") for n in arrays) - 1
    ends = shaped(arrays, _ENDS, 2, n_channels)
    if not ((ends[0] <= np.arange(n_channels)) & (np.arange(n_channels) <= ends[1]) & (ends[0] >= 0)).all():
        raise ValueError(f"array {_ENDS!r} holds channels that do not enclose their own")
    if (ends[1] >= n_channels).any():
        raise ValueError(f"array {_ENDS!r} holds channels beyond the last one")
    shot, shifts, total = shaped(arrays, "settings", 3)
    with torch.random.fork_rng(devices=[]):
        network = SimplexNetwork(
            torch.ones(k, n_channels), torch.ones(n_channels, p), torch.ones(n_channels), torch.ones(2, p),
            shot=float(shot), ends=torch.zeros(2, n_channels), shifts=bool(shifts), n_hidden=n_hidden,
            n_layers=n_layers,
        )  # fmt: skip
    fill_network(network, arrays)
    network.ends, network.total = network.ends.long(), float(total)
    return SimplexModel(axes, network)


STORED = {
    "pca": Stored(lambda model: basis_to_arrays(model.axes), _linear_from_arrays),
    "dense": Stored(_dense_to_arrays, _dense_from_arrays),
    "simplex": Stored(_simplex_to_arrays, _simplex_from_arrays),
}
