"""A fitted simplex autoencoder: spectra to abundances, dose and shift, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.nn import SimplexNetwork
    from hyperspy_specml.statistics import PrincipalBasis

_ROWS = 1 << 22  # elements of the mixtures computed at a time


@dataclass(frozen=True)
class SimplexModel:
    """Mixtures of endmembers: ``spectra = dose * abundances @ endmembers``, shifted where that was asked for.

    Scores come with one or two more columns, named by `extras`.

    Attributes
    ----------
    axes
        The P principal axes of the compressed space that the encoder looks at.
    network
        The trained network.
    """

    axes: PrincipalBasis
    network: SimplexNetwork

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "simplex"

    @property
    def n_components(self) -> int:
        """Number of endmembers K."""
        return len(self.network.log_ratio)

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of the columns after the K abundances: the dose in signal units, the shift in channels."""
        return ("dose", "shift") if self.network.shifts else ("dose",)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra to (n, K + extras) abundances, dose and, maybe, shift, float32.

        Parameters
        ----------
        rows
            (n, E) spectra of any real dtype.
        """
        return self.encode_scores(self.axes.project(rows))

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + extras) abundances, dose and, maybe, shift to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, K + extras).
        """
        k = self.n_components
        out = np.empty((len(scores), len(self.axes.weights)), np.float32)
        with torch.inference_mode():
            for rows in self._slabs(len(scores)):
                table = self._tensor(scores[rows])
                shift = table[:, -1] if self.network.shifts else torch.zeros_like(table[:, 0])
                known = torch.nan_to_num(shift)  # a NaN has no channel to read from; the dose keeps it
                dose = table[:, k] / self.network.total
                out[rows] = self.network.decode(table[:, :k], dose, known).cpu().numpy()
        return out

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, P).
        """
        return self.decode(self.encode_scores(scores))

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K + extras) abundances, dose and, maybe, shift, float32.

        Parameters
        ----------
        scores
            (n, P).
        """
        k = self.n_components
        out = np.empty((len(scores), k + len(self.extras)), np.float32)
        with torch.inference_mode():
            for rows in self._slabs(len(scores)):
                abundances, dose, shift = self.network.encode(self._tensor(scores[rows]))
                columns = [abundances, self.network.total * dose[:, None], shift[:, None]]
                out[rows] = torch.cat(columns, dim=1)[:, : out.shape[1]].cpu().numpy()
        return out

    def components(self) -> np.ndarray:
        """Return the (K, E) endmembers; each sums to one."""
        with torch.inference_mode():
            return self.network.endmembers().cpu().numpy().astype(np.float64)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra recorded in other channels.

        Parameters
        ----------
        resample
            From (n, E) to (n, E of the other channels), counts conserved.

        Raises
        ------
        ValueError
            The model shifts spectra: it has learnt by how many of its own channels.
        """
        if self.network.shifts:
            raise ValueError("a model with energy_shift=True only fits the channels that it was trained on")
        axes = self.axes.resampled(resample)
        mean = self.network.total * np.exp(self.network.prior.cpu().numpy()[None].astype(np.float64))
        spectra = [np.maximum(resample(s), 1e-12 * s.sum()) for s in (self.components(), mean)]
        endmembers, mean = spectra[0] / spectra[0].sum(axis=1, keepdims=True), spectra[1][0]
        to_scores = axes.vectors * axes.weights[:, None]
        network = self.network.on_channels(*map(self._tensor, (endmembers, mean, to_scores)))
        return replace(self, axes=axes, network=network)

    def _slabs(self, n_rows: int) -> list[slice]:
        step = max(1, _ROWS // len(self.axes.weights))
        return [slice(start, start + step) for start in range(0, n_rows, step)]

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        device = next(self.network.parameters()).device
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=device)
