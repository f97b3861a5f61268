"""What an autoencoder is trained on: normalised scores of parts of the counts, and PCA of them, its start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.lazy import torch
from hyperspy_specml.train import DrawnInputs, RandomRows, SplitParts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.prepare import Draws
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import PrincipalBasis
    from hyperspy_specml.train import BatchSource


_FAINTEST = 0.05  # of the mean intensity: the noise of weaker spectra is not taken as smaller still


@dataclass(frozen=True)
class NormalisedScores:
    """Scores of parts of the counts on a basis, as a network sees them: centred and of unit size.

    Attributes
    ----------
    basis
        Compressing basis.
    parts, fractions
        (n, F, P) scores of parts of the counts and the share of each.
    weights
        (n,) inverse noise variance of the spectra, as far as it does not follow from the scores.
    centre, scale
        (P,) and a number: what scores are normalised with. One number for all keeps their noise equal.
    about_mean
        Whether the network starts as PCA about the mean spectrum, or as that of the basis.
    draws
        Inputs and target, where they are no splits of the parts.
    shot
        Share of the noise variance that is proportional to the intensity of a spectrum.
    """

    basis: PrincipalBasis
    parts: np.ndarray
    fractions: np.ndarray
    weights: np.ndarray
    centre: np.ndarray
    scale: float
    about_mean: bool = True
    draws: Draws | None = None
    shot: float = 0.0

    @classmethod
    def of(
        cls, basis: PrincipalBasis, parts: np.ndarray, fractions: np.ndarray, weights: np.ndarray, **more: Any
    ) -> Self:
        """Normalise by the mean of the scores and their largest standard deviation; `more` are further attributes."""
        plain = cls(basis, parts, fractions, weights, np.zeros(1), 1.0, **more)
        centre = plain.scores.mean(axis=0, dtype=np.float64).astype(np.float32)
        return replace(plain, centre=centre, scale=float(max(plain.scores.std(axis=0).max(), 1e-30)))

    @property
    def scores(self) -> np.ndarray:
        """(n, P) scores on the scale of the whole data."""
        return self.parts.sum(axis=1) / np.float32(self.fractions.sum())

    def pca(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K vectors (P, K) and an offset (P,) that a network starts as; it is PCA either way.

        About the mean spectrum, no component is spent on the mean; where the intensity varies and nothing else
        is there in all spectra, the other way needs one component less.
        """
        p = self.basis.n_vectors
        if self.about_mean:
            covariance = np.cov(self.scores, rowvar=False).reshape(p, -1)
            vectors, offset = np.linalg.eigh(covariance)[1][:, : -k - 1 : -1], np.zeros(p)
        else:  # the first vectors as they are, and nothing along the others
            vectors, offset = np.eye(p, k), -self.centre / self.scale
            offset[:k] = 0
        return torch.tensor(vectors.copy()), torch.tensor(offset)

    def white(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the whitened spectra (P, E) that normalised scores stand for, and the one (E,) of scores of zero."""
        mean = self.basis.vectors @ self.centre + self.basis.offset * self.basis.weights
        return torch.tensor(self.basis.vectors.T.copy()), torch.tensor(mean)

    def batches(self, run: Run) -> BatchSource:
        """Return a source of fresh batches, with errors in units of the noise."""
        rows = RandomRows(len(self.weights), run.config.batch_size, torch.Generator().manual_seed(run.seed))
        fractions = self.fractions.astype(np.float32)
        weights = self.weights * self.scale**2 / self.basis.n_vectors

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.float32, device=run.device)

        if self.draws:
            inputs, target = ((v - self.centre) / self.scale for v in (self.draws.inputs, self.draws.target))
            return DrawnInputs(tensor(inputs), tensor(target), tensor(self.draws.target_fraction * weights), rows)
        parts = (self.parts - fractions[:, None] * self.centre) / self.scale
        return SplitParts(tensor(parts), tensor(fractions), tensor(weights), rows, self._variance(run))

    def _variance(self, run: Run) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the function from normalised scores (B, P) to the (B,) noise relative to the mean spectrum's."""
        along = torch.as_tensor(self.shot * self._intensity(), dtype=torch.float32, device=run.device)
        least = 1 - self.shot * (1 - _FAINTEST)
        # Normalised scores are 0 at the mean spectrum.
        return lambda scores: (1 + scores @ along).clamp_min(least)

    def _intensity(self) -> np.ndarray:
        """Return (P,) by how much the intensity of a spectrum, relative to the mean, grows with normalised scores.

        Shrunk by the share of its variance that is noise: two independent halves of the counts tell it.
        """
        total = self.basis.components().sum(axis=1)
        mean = self.centre @ total + self.basis.offset.sum()
        if not self.shot or mean <= 0:
            return np.zeros_like(total)
        along = total * self.scale / mean
        one, other = (self.parts[:, some].sum(axis=1) @ total for some in (slice(0, None, 2), slice(1, None, 2)))
        shared = np.cov(one, other)
        return along * np.clip(shared[0, 1] / max(np.sqrt(shared[0, 0] * shared[1, 1]), 1e-300), 0, 1)
