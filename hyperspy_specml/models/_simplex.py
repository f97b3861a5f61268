"""A fitted simplex autoencoder: spectra to abundances, intensity and shift, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperspy_specml.models._base import ANY, FittedModel, Parts, basis_arrays
from hyperspy_specml.models._networks import loaded, network_arrays, tensor_for
from hyperspy_specml.nn import SimplexNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.statistics import PrincipalBasis

_ROWS = 1 << 22  # elements of the mixtures computed at a time
_ENDS = "network.ends"


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
        k = self.n_components
        out = np.empty((len(scores), len(self.basis.weights)), np.float32)
        with torch.inference_mode():
            for rows in self._slabs(len(scores)):
                table = tensor_for(self.network, scores[rows])
                shift = table[:, -1] if self.network.shifts else torch.zeros_like(table[:, 0])
                known = torch.nan_to_num(shift)  # a NaN has no channel to read from; the intensity keeps it
                intensity = table[:, k] / self.network.total
                out[rows] = self.network.decode(table[:, :k], intensity, known).cpu().numpy()
        return out

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K + outputs) abundances, intensity and, maybe, shift, float32."""
        out = np.empty((len(scores), self.n_columns), np.float32)
        with torch.inference_mode():
            for rows in self._slabs(len(scores)):
                abundances, intensity, shift = self.network.encode(tensor_for(self.network, scores[rows]))
                columns = [abundances, self.network.total * intensity[:, None], shift[:, None]]
                out[rows] = torch.cat(columns, dim=1)[:, : out.shape[1]].cpu().numpy()
        return out

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
        to_scores = basis.vectors * basis.weights[:, None]
        tensors = (tensor_for(self.network, values) for values in (endmembers, mean, to_scores))
        return replace(self, basis=basis, network=self.network.on_channels(*tensors))

    def settings(self) -> dict[str, Any]:
        """Return what makes the network anew."""
        network = self.network
        return {
            "n_hidden": network.n_hidden, "n_layers": network.n_layers, "shot": float(network.shot),
            "shifts": bool(network.shifts), "total": float(network.total),
        }  # fmt: skip

    def arrays(self) -> dict[str, np.ndarray]:
        """Return basis and weights."""
        arrays = basis_arrays(self.basis) | network_arrays(self.network)
        return arrays | {_ENDS: arrays[_ENDS].astype(np.float32)}

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays."""
        basis = parts.basis()
        n_channels, p = basis.vectors.shape
        k = len(parts.array("network.log_ratio", ANY, n_channels))
        ends, here = parts.array(_ENDS, 2, n_channels), np.arange(n_channels)
        if not ((ends[0] >= 0) & (ends[0] <= here) & (here <= ends[1]) & (ends[1] < n_channels)).all():
            raise ValueError(f"array {_ENDS!r} holds channels that do not enclose their own")
        width = len(parts.array("network.encode_mlp.0.bias", ANY))  # nothing larger is allocated
        network = loaded(
            lambda: SimplexNetwork(
                torch.ones(k, n_channels), torch.ones(n_channels, p), torch.ones(n_channels), torch.ones(2, p),
                shot=parts.setting("shot", float), ends=torch.zeros(2, n_channels),
                shifts=parts.setting("shifts", bool), n_hidden=parts.size("n_hidden", most=width),
                n_layers=parts.size("n_layers", most=100),
            ), parts, meta=False,
        )  # fmt: skip
        network.ends, network.total = network.ends.long(), parts.setting("total", float)
        return cls(basis, network)

    def _slabs(self, n_rows: int) -> list[slice]:
        step = max(1, _ROWS // len(self.basis.weights))
        return [slice(start, start + step) for start in range(0, n_rows, step)]
