"""Fitted models: arithmetic from spectra to scores and back, on arrays. No fitting here.

n spectra, E channels in use, P compressed scores, K components.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.nn import DenseNetwork
    from hyperspy_specml.statistics import PrincipalBasis


class SpectrumModel(Protocol):
    """What a fitted decomposition can do.

    Wherever scores are spoken of, the columns named by `extras` come after the K scores.
    """

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        ...

    @property
    def n_components(self) -> int:
        """Number of components K."""
        ...

    @property
    def axes(self) -> PrincipalBasis:
        """The compressing axes."""
        ...

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of further numbers per spectrum, in columns after the K scores."""
        ...

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra to (n, K) scores, float32."""
        ...

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores along the compressing axes to (n, K) scores, float32."""
        ...

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) scores to (n, E) spectra, float32."""
        ...

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores along the model's compressing axes to (n, E) spectra, float32."""
        ...

    def components(self) -> np.ndarray:
        """Return the (K, E) spectra that stand for the components, float64."""
        ...

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra recorded in other channels."""
        ...


def n_columns(model: SpectrumModel) -> int:
    """Return how many numbers per spectrum a model makes: scores and extras.

    Parameters
    ----------
    model
        Fitted.
    """
    return model.n_components + len(model.extras)


@dataclass(frozen=True)
class LinearModel:
    """Principal components: ``spectra = scores @ components + offset``.

    Attributes
    ----------
    axes
        The K principal axes.
    """

    axes: PrincipalBasis

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "pca"

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.axes.n_axes

    @property
    def extras(self) -> tuple[str, ...]:
        """No further numbers per spectrum."""
        return ()

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra to (n, K) scores, float32.

        Parameters
        ----------
        rows
            (n, E) spectra of any real dtype.
        """
        return self.axes.project(rows)

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores: they are along the K principal axes.

        Parameters
        ----------
        scores
            (n, K).
        """
        return scores

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) scores to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, K).
        """
        return self.axes.spectra(np.asarray(scores, dtype=np.float32))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores, P >= K, to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, P); the first K count.
        """
        return self.decode(scores[:, : self.n_components])

    def components(self) -> np.ndarray:
        """Return the (K, E) component spectra."""
        return self.axes.components()

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra recorded in other channels.

        Parameters
        ----------
        resample
            From (n, E) to (n, E of the other channels), counts conserved.
        """
        return replace(self, axes=self.axes.resampled(resample))


@dataclass(frozen=True)
class DenseModel:
    """A dense autoencoder on compressed scores.

    Attributes
    ----------
    axes
        The P principal axes of the compressed space.
    network
        The trained network, in normalised scores ``(score - centre) / scale``.
    centre, scale
        (P,) and a number: the normalisation.
    rotation, origin
        (K, K) and (K,): ``canonical latents = rotation @ (latents - origin)`` are uncorrelated and sorted
        by how much of the data's variance they explain; their scale is that of PCA scores.
    spread
        (K,) standard deviation of each canonical latent over the training spectra.
    """

    axes: PrincipalBasis
    network: DenseNetwork
    centre: np.ndarray
    scale: float
    rotation: np.ndarray
    origin: np.ndarray
    spread: np.ndarray

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "dense"

    @property
    def n_components(self) -> int:
        """Number of latents K."""
        return len(self.origin)

    @property
    def extras(self) -> tuple[str, ...]:
        """No further numbers per spectrum."""
        return ()

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra to (n, K) canonical latents, float32.

        Parameters
        ----------
        rows
            (n, E) spectra of any real dtype.
        """
        return self.encode_scores(self.axes.project(rows))

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) canonical latents to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, K) canonical latents.
        """
        return self.axes.spectra(self.decode_scores(scores))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, E) spectra, float32.

        Parameters
        ----------
        scores
            (n, P).
        """
        return self.decode(self.encode_scores(scores))

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) compressed scores to (n, K) canonical latents, float32.

        Parameters
        ----------
        scores
            (n, P).
        """
        with torch.inference_mode():
            latents = self.network.encode(self._tensor((scores - self.centre) / self.scale))
        return ((latents.cpu().numpy() - self.origin) @ self.rotation.T).astype(np.float32)

    def decode_scores(self, latents: np.ndarray) -> np.ndarray:
        """Map (n, K) canonical latents to (n, P) compressed scores, float32.

        Parameters
        ----------
        latents
            (n, K).
        """
        plain = latents @ np.linalg.inv(self.rotation).T + self.origin
        with torch.inference_mode():
            scores = self.network.decode(self._tensor(plain))
        return (scores.cpu().numpy() * self.scale + self.centre).astype(np.float32)

    def components(self) -> np.ndarray:
        """Return (K, E): half the change of the decoded spectrum from -1 to +1 deviation of a latent."""
        steps = np.diag(self.spread)
        change = self.decode_scores(steps).astype(np.float64) - self.decode_scores(-steps)
        return 0.5 * change @ self.axes.components()

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra recorded in other channels.

        Parameters
        ----------
        resample
            From (n, E) to (n, E of the other channels), counts conserved.
        """
        return replace(self, axes=self.axes.resampled(resample))

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        device = next(self.network.parameters()).device
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=device)
