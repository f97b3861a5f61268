"""Models that are networks, on devices while they are used, as arrays in files: autoencoders and mixtures.

n spectra, E channels in use, P compressed scores, K latents or endmembers.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.lazy import torch
from hyperspy_specml.models._base import ANY, FittedModel, Parts
from hyperspy_specml.models._file import to_plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from torch import nn

    from hyperspy_specml.nn import SimplexNetwork
    from hyperspy_specml.statistics import PrincipalBasis

_ROWS = 1 << 22  # elements of the mixtures computed at a time
_ENDS = "network.ends"
_SETTINGS = {"n_hidden": int, "n_layers": int, "shot": float, "shifts": bool, "total": float}  # of mixtures


def dense_network(n_scores: int, n_latent: int, n_hidden: int, n_layers: int) -> nn.Module:
    """Return an untrained dense network: a function, so that torch is loaded with the first network.

    Parameters
    ----------
    n_scores, n_latent, n_hidden, n_layers
        See `nn.DenseNetwork`.
    """
    from hyperspy_specml.nn import DenseNetwork

    return DenseNetwork(n_scores, n_latent, n_hidden, n_layers)


def conv_network(n_scores: int, n_latent: int, n_filters: int, n_hidden: int) -> nn.Module:
    """Return an untrained network of convolutions.

    Parameters
    ----------
    n_scores, n_latent, n_filters, n_hidden
        See `nn.ConvNetwork`.
    """
    from hyperspy_specml.nn import ConvNetwork

    return ConvNetwork(n_scores, n_latent, n_filters, n_hidden)


# Networks from scores (B, P) through latents (B, K) back to scores, by the name of their architecture. Called with P
# and K and the options of the architecture that they take; they have ``encode`` and ``decode``.
AUTOENCODERS: dict[str, Callable[..., nn.Module]] = {"dense": dense_network, "conv": conv_network}


def autoencoder_network(make: Callable[..., nn.Module], n_scores: int, n_latent: int, options: dict) -> nn.Module:
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
    arrays = {name: parts.array(name, *a.shape) for name, a in parts.arrays.items() if name.startswith("network.")}
    weights = {name.removeprefix("network."): torch.tensor(a, dtype=torch.float32) for name, a in arrays.items()}
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:  # torch names the weights that are missing or of another shape
        raise ValueError(str(error).replace("\n\t", " ")) from error
    return network.eval()


@dataclass(frozen=True)
class LatentModel(FittedModel):
    """An autoencoder of the scores on a basis.

    Attributes
    ----------
    basis
        The P vectors of the compressed space.
    network
        The trained network, in normalised scores ``(score - centre) / scale``.
    centre, scale
        (P,) and a number: the normalisation.
    rotation, origin
        (K, K) and (K,): ``canonical latents = rotation @ (latents - origin)`` are uncorrelated and sorted
        by how much of the data's variance they explain; their scale is that of PCA scores.
    deviation
        (K,) standard deviation of each canonical latent over the training spectra.
    shift
        (P,) what is added to decoded scores, so that every channel keeps its mean counts.
    keeps_totals
        Whether a spectrum is decoded to the total that was found for it, which is then an output, the intensity.
    name, options
        Of the architecture: they make the network anew from a file.
    """

    basis: PrincipalBasis
    network: nn.Module
    centre: np.ndarray
    scale: float
    rotation: np.ndarray
    origin: np.ndarray
    deviation: np.ndarray
    shift: np.ndarray
    keeps_totals: bool = False
    name: str = "dense"
    options: dict[str, Any] = field(default_factory=dict)
    kind = "autoencoder"
    stored = ("centre", "rotation", "origin", "deviation", "shift")

    @property
    def architecture(self) -> str:
        """Name of the architecture, as users give it."""
        return self.name

    @property
    def n_components(self) -> int:
        """Number of latents K."""
        return len(self.origin)

    @property
    def outputs(self) -> dict[str, str]:
        """The intensity (expected sum of a spectrum) in signal units, where totals are kept."""
        return {"intensity": "signal"} if self.keeps_totals else {}

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) canonical latents, and perhaps the intensity, to (n, E) spectra, float32.

        Without the intensity, spectra have the one that usually goes with their latents.
        """
        latents, intensity = np.split(scores, [self.n_components], axis=1)
        decoded = self.decode_scores(latents)
        return self.basis.spectra(self._with_totals(decoded, intensity[:, 0]) if intensity.size else decoded)

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K) canonical latents, and perhaps the intensity, float32."""
        latents = self._latents(scores)
        return np.column_stack([latents, self._totals(scores)]) if self.keeps_totals else latents

    def denoise_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to those of the decoded spectra, float32."""
        decoded = self.decode_scores(self._latents(scores))
        return self._with_totals(decoded, self._totals(scores)) if self.keeps_totals else decoded

    def _with_totals(self, decoded: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """Return (n, P) scores of spectra with these totals: what is missing has the shape of the mean spectrum."""
        mean = self.basis.spectra(self.centre[None].astype(np.float64))[0]
        along = mean @ self.basis.projector()  # its scores, without the offset
        along /= along @ self.basis.components().sum(axis=1)
        return decoded + np.outer(totals - self._totals(decoded), along).astype(np.float32)

    def _totals(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n,) sums of spectra with (n, P) scores, float32."""
        total, constant = self.basis.components().sum(axis=1), self.basis.offset.sum()
        return scores @ total.astype(np.float32) + np.float32(constant)

    def _latents(self, scores: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            latents = self.network.encode(tensor_for(self.network, (scores - self.centre) / self.scale))  # type: ignore[operator]
        return ((latents.cpu().numpy() - self.origin) @ self.rotation.T).astype(np.float32)

    def decode_scores(self, latents: np.ndarray) -> np.ndarray:
        """Map (n, K) canonical latents to (n, P) compressed scores, float32."""
        plain = latents @ np.linalg.inv(self.rotation).T + self.origin
        with torch.inference_mode():
            scores = self.network.decode(tensor_for(self.network, plain))  # type: ignore[operator]
        return ((scores.cpu().numpy() * self.scale + self.centre) + self.shift).astype(np.float32)

    def components(self) -> np.ndarray:
        """Return (K, E): half the change of the decoded spectrum from -1 to +1 deviation of a latent."""
        steps = np.diag(self.deviation)
        change = self.decode_scores(steps).astype(np.float64) - self.decode_scores(-steps)
        return 0.5 * change @ self.basis.components()

    def settings(self) -> dict[str, Any]:
        """Return name and options of the architecture, and the scale."""
        own = {"scale": self.scale, "keeps_totals": self.keeps_totals}
        return {"architecture": self.name, "options": to_plain(self.options)} | own

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays."""
        basis, options = parts.basis(), parts.setting("options", dict)
        name, make = parts.setting("architecture", str), parts.named("architecture", AUTOENCODERS)
        p, k = basis.n_vectors, len(parts.array("origin", ANY))

        def network_of_file() -> nn.Module:
            from hyperspy_specml.nn import Chart, Charted

            network = autoencoder_network(make, p, k, options)
            return Charted(network, Chart(k)) if "network.chart.coefficients" in parts.arrays else network

        try:
            network = loaded(network_of_file, parts)
        except (TypeError, RuntimeError) as error:  # an option of the wrong type, or a size below zero
            raise ValueError(f"options {options!r:.200} of architecture {name!r}: {error}") from error
        shapes = {"centre": (p,), "rotation": (k, k), "origin": (k,), "deviation": (k,), "shift": (p,)}
        own: dict[str, Any] = {of: parts.array(of, *shape) for of, shape in shapes.items()}
        own |= {"scale": parts.setting("scale", float), "keeps_totals": parts.setting("keeps_totals", bool)}
        return cls(basis, network, **own, name=name, options=options)


@dataclass(frozen=True)
class SimplexModel(FittedModel):
    """Mixtures of endmembers: ``spectra = intensity * abundances @ endmembers``, shifted where that was asked for.

    Attributes
    ----------
    basis
        The P vectors of the compressed space that the encoder looks at.
    network
        The trained network.
    """

    basis: PrincipalBasis
    network: SimplexNetwork
    kind = "simplex"
    score_range = (0.0, 1.0)

    @property
    def n_components(self) -> int:
        """Number of endmembers K."""
        return len(self.network.log_ratio)

    @property
    def outputs(self) -> dict[str, str]:
        """The intensity (expected sum of a spectrum) in signal units, and the shift in channels."""
        return {"intensity": "signal"} | ({"shift": "channels"} if self.network.shifts else {})

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + outputs) abundances, intensity and, maybe, shift to (n, E) spectra, float32."""

        def spectra(table: torch.Tensor) -> torch.Tensor:
            shift = table[:, -1] if self.network.shifts else torch.zeros_like(table[:, 0])
            known = torch.nan_to_num(shift)  # a NaN has no channel to read from; the intensity keeps it
            return self.network.decode(table[:, :k], table[:, k] / self.network.total, known)

        k = self.n_components
        return self._in_slabs(spectra, scores, len(self.basis.weights))

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K + outputs) abundances, intensity and, maybe, shift, float32."""

        def table(scores: torch.Tensor) -> torch.Tensor:
            abundances, intensity, shift = self.network.encode(scores)
            columns = [abundances, self.network.total * intensity[:, None], shift[:, None]]
            return torch.cat(columns, dim=1)[:, : self.n_columns]

        return self._in_slabs(table, scores, self.n_columns)

    def components(self) -> np.ndarray:
        """Return the (K, E) endmembers; each sums to one."""
        with torch.inference_mode():
            return self.network.endmembers().cpu().numpy().astype(np.float64)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra in other channels; see `FittedModel.resampled`.

        Raises
        ------
        ValueError
            The model shifts spectra: it has learnt by how many of its own channels.
        """
        if self.network.shifts:
            raise ValueError("a model with energy_shift=True only fits the channels that it was trained on")
        basis = self.basis.resampled(resample)
        mean = self.network.total * np.exp(self.network.prior.cpu().numpy()[None].astype(np.float64))
        spectra = [np.maximum(resample(s), 1e-12 * s.sum()) for s in (self.components(), mean)]
        endmembers, mean = spectra[0] / spectra[0].sum(axis=1, keepdims=True), spectra[1][0]
        to_scores = basis.projector()
        tensors = (tensor_for(self.network, values) for values in (endmembers, mean, to_scores))
        return replace(self, basis=basis, network=self.network.on_channels(*tensors))

    def settings(self) -> dict[str, Any]:
        """Return what makes the network anew."""
        return {name: kind(getattr(self.network, name)) for name, kind in _SETTINGS.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return basis and weights."""
        arrays = super().arrays()
        return arrays | {_ENDS: arrays[_ENDS].astype(np.float32)}

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays."""
        from hyperspy_specml.nn import SimplexNetwork

        basis = parts.basis()
        n_channels, p = basis.vectors.shape
        k = len(parts.array("network.log_ratio", ANY, n_channels))
        (first, last), here = parts.array(_ENDS, 2, n_channels), np.arange(n_channels)
        if not ((first >= 0) & (first <= here) & (here <= last) & (last < n_channels)).all():
            raise ValueError(f"array {_ENDS!r} holds channels that do not enclose their own")
        sizes = (k, n_channels), (n_channels, p), (n_channels,), (2, p)
        known = {"shot": parts.setting("shot", float), "shifts": parts.setting("shifts", bool)}
        width = len(parts.array("network.encode_mlp.0.bias", ANY))  # nothing larger is allocated
        known |= {"n_hidden": parts.size("n_hidden", most=width), "n_layers": parts.size("n_layers", most=100)}
        known["ends"] = torch.zeros(2, n_channels)
        network = loaded(lambda: SimplexNetwork(*map(torch.ones, sizes), **known), parts, meta=False)
        network.ends, network.total = network.ends.long(), parts.setting("total", float)
        return cls(basis, network)

    def _in_slabs(self, compute: Callable[[Any], Any], values: np.ndarray, n_columns: int) -> np.ndarray:
        """Return the (n, columns) that some rows at a time are computed into."""
        out, step = np.empty((len(values), n_columns), np.float32), max(1, _ROWS // len(self.basis.weights))
        with torch.inference_mode():
            for start in range(0, len(values), step):
                rows = slice(start, start + step)
                out[rows] = compute(tensor_for(self.network, values[rows])).cpu().numpy()
        return out
