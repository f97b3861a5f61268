"""Fitted denoisers as named arrays, checked on their way back: what model files hold.

A new kind adds one line to `STORED`. P axes, S filters.
"""

from __future__ import annotations

import numpy as np

from hyperspy_specml.models._denoisers import (
    DenoisedSpectra,
    Denoiser,
    FilteredScores,
    LibraryDenoiser,
    Unchanged,
)
from hyperspy_specml.models._filters import filters
from hyperspy_specml.models._latent import DenseModel
from hyperspy_specml.models._model_parts import (
    ANY,
    Arrays,
    Stored,
    basis_from_arrays,
    basis_to_arrays,
    load_network,
    model_from_arrays,
    model_to_arrays,
    network_to_arrays,
    shaped,
    stored,
)
from hyperspy_specml.models._tiles import MOST_SCAN_AXES
from hyperspy_specml.nn import FilterMixture, Shrinkage


def denoiser_to_arrays(denoiser: Denoiser) -> dict[str, np.ndarray]:
    """Return all that a denoiser is made of, as named arrays.

    Parameters
    ----------
    denoiser
        Of any kind in `STORED`.
    """
    return STORED[denoiser.kind].to_arrays(denoiser)


def denoiser_from_arrays(kind: str, arrays: Arrays) -> Denoiser:
    """Return the denoiser that `denoiser_to_arrays` took apart, on the CPU.

    Parameters
    ----------
    kind
        Its name.
    arrays
        By name.

    Raises
    ------
    ValueError
        The kind is unknown, or the arrays do not make up a denoiser of it.
    """
    return stored("kind of denoiser", kind, STORED).from_arrays(arrays)


def filter_names(denoiser: Denoiser) -> tuple[str, ...]:
    """Return the names of the filters that a denoiser relies on: files hold them, for filters may change.

    Parameters
    ----------
    denoiser
        Of any kind.
    """
    if not isinstance(denoiser, FilteredScores):
        return ()
    return tuple(one.name for one in filters(denoiser.n_scan_axes))


def _filtered_to_arrays(denoiser: FilteredScores) -> dict[str, np.ndarray]:
    own = {name: getattr(denoiser, name) for name in ("noise", "centre", "spread", "weights")}
    sizes = {"sizes": np.array([denoiser.n_strong, denoiser.n_scan_axes], np.float64)}
    network = network_to_arrays(denoiser.network) if denoiser.network else {}
    return basis_to_arrays(denoiser.basis) | own | sizes | network


def _filtered_from_arrays(arrays: Arrays) -> FilteredScores:
    axes = basis_from_arrays(arrays)
    p = axes.n_vectors
    n_strong, n_scan_axes = (int(size) for size in shaped(arrays, "sizes", 2))
    if not (0 <= n_strong <= p and 1 <= n_scan_axes <= MOST_SCAN_AXES):
        raise ValueError("array 'sizes' holds no number of components and scan axes")
    noise, spread = shaped(arrays, "noise", p), shaped(arrays, "spread", p)
    if not ((noise > 0).all() and (spread > 0).all()):
        raise ValueError("array 'noise' or 'spread' holds values that are not positive")
    n_filters = len(filters(n_scan_axes))
    network: FilterMixture | None = None
    if any(name.startswith("network.") for name in arrays):
        n_hidden = arrays["network.see.bias"].size if "network.see.bias" in arrays else 0
        loaded = load_network(lambda: FilterMixture(n_scan_axes, n_filters, p, n_hidden), arrays)
        assert isinstance(loaded, FilterMixture)
        network = loaded
    return FilteredScores(
        axes, noise, shaped(arrays, "centre", p), spread, shaped(arrays, "weights", n_filters, p), n_strong,
        n_scan_axes, network,
    )  # fmt: skip


def _spectral_from_arrays(arrays: Arrays) -> DenoisedSpectra:
    model = model_from_arrays("dense", arrays)
    assert isinstance(model, DenseModel)
    return DenoisedSpectra(model)


def _library_to_arrays(denoiser: LibraryDenoiser) -> dict[str, np.ndarray]:
    own = {name: getattr(denoiser, name) for name in ("noise", "centre", "variance", "levels")}
    return basis_to_arrays(denoiser.basis) | own | network_to_arrays(denoiser.network)


def _library_from_arrays(arrays: Arrays) -> LibraryDenoiser:
    axes = basis_from_arrays(arrays)
    p, n_hidden = axes.n_vectors, len(shaped(arrays, "network.bend.0.weight", ANY, axes.n_vectors + 1))
    n_layers = sum(n.startswith("network.bend.") and n.endswith(".weight") for n in arrays) - 1
    network = load_network(lambda: Shrinkage(p, n_hidden, n_layers), arrays)
    assert isinstance(network, Shrinkage)
    variance, levels = shaped(arrays, "variance", p), shaped(arrays, "levels", 2)
    if not ((variance > 0).all() and 0 < levels[0] <= levels[1]):
        raise ValueError("array 'variance' or 'levels' holds values that are not positive")
    return LibraryDenoiser(
        axes, shaped(arrays, "noise", p), shaped(arrays, "centre", p), variance, levels, network
    )


STORED = {
    "pca": Stored(lambda d: basis_to_arrays(d.basis), lambda arrays: Unchanged(basis_from_arrays(arrays))),
    "filtered": Stored(_filtered_to_arrays, _filtered_from_arrays),
    "spectral": Stored(lambda d: model_to_arrays(d.model), _spectral_from_arrays),
    "library": Stored(_library_to_arrays, _library_from_arrays),
}
