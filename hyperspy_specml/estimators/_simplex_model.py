"""A fitted simplex autoencoder: spectra to abundances, dose and shift, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from hyperspy_specml.nn import SimplexNetwork
    from hyperspy_specml.statistics import PrincipalAxes

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

    axes: PrincipalAxes
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

    def _slabs(self, n_rows: int) -> list[slice]:
        step = max(1, _ROWS // len(self.axes.weights))
        return [slice(start, start + step) for start in range(0, n_rows, step)]

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        device = next(self.network.parameters()).device
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=device)
