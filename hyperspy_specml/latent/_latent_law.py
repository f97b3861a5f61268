"""Phases in the latents of a fitted decomposition: normal distributions, each with a variation of its own.

Where spectra bend, as with lines that move or with plural scattering, a phase is no single spectrum times an intensity,
but its latents still lie together. n spectra, P latents, K phases.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

_TINY = 1e-30
# Variation within two phases, relative to the square of half their distance and in the direction that tells them
# apart best, from which they are one: 1 / 3 of an even gradient cut in two, .05 with a seventh of the pixels on
# blurred borders.
_LEAST_WITHIN = 0.24
# Variance within a phase that may be an error of the errors, relative to those.
_LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class LatentLaw:
    """Latents in units of their errors: values are (n, P + 1), the last one the variance of the error.

    Phases are (K, P + P * P): their means, and the covariances of what varies within them.
    """

    n_latents: int

    def evidence(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        latents, error = values[:, :-1], values[:, -1:]
        found = np.empty((len(phases), len(values)), np.float32)
        for k, (mean, variances, axes) in enumerate(map(self._axes, phases)):
            variance = variances + error
            squares = ((latents - mean) @ axes) ** 2 / variance
            found[k] = -0.5 * (squares + np.log(variance)).sum(axis=1)
        return found

    def update(self, values: np.ndarray, weights: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`; a phase of few spectra varies as all others do."""
        p = self.n_latents
        latents, error = values[:, :-1].astype(np.float64), values[:, -1].astype(np.float64)
        means, covariances, sizes = np.empty((len(weights), p)), np.empty((len(weights), p, p)), np.empty(len(weights))
        for k, weight in enumerate(weights):
            within = 0.0
            if phases.shape[1] == p + p * p:
                within = float(np.trace(phases[min(k, len(phases) - 1), p:].reshape(p, p))) / p
            weight = weight / (within + np.maximum(error, _TINY))
            weight /= max(float(weight.sum()), _TINY)
            means[k] = weight @ latents
            rest = latents - means[k]
            covariances[k] = (rest * weight[:, None]).T @ rest - (weight @ error) * np.eye(p)
            sizes[k] = 1 / max(float((weight**2).sum()), _TINY)
        pooled = np.average(covariances, axis=0, weights=sizes)
        own = (sizes / (sizes + p + 1))[:, None, None]
        return np.hstack([means, _positive(own * covariances + (1 - own) * pooled).reshape(len(weights), -1)])

    def held_out(self, train: np.ndarray, validation: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`: where in a phase a spectrum lies is known as well as the training fold tells."""
        found = np.empty((len(phases), len(train)), np.float32)
        for k, (mean, variances, axes) in enumerate(map(self._axes, phases)):
            part = variances / (variances + np.maximum(train[:, -1:], _TINY))
            expected = part * ((train[:, :-1] - mean) @ axes)
            variance = variances * (1 - part) + validation[:, -1:]
            squares = ((validation[:, :-1] - mean) @ axes - expected) ** 2 / variance
            found[k] = -0.5 * (squares + np.log(variance)).sum(axis=1)
        return found

    def expected(self, values: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        means = np.broadcast_to(phases[:, : self.n_latents], (len(values), self.n_latents))
        return np.hstack([means, values[:, -1:]])

    def deviation(self, phases: np.ndarray) -> np.ndarray:
        """See `Law`."""
        p = self.n_latents
        variances = phases[:, p:].reshape(-1, p, p).diagonal(axis1=1, axis2=2)
        return np.sqrt(np.hstack([1 + variances, np.ones((len(phases), 1))]))

    def distance_to_mixtures(self, phases: np.ndarray, phase: int) -> tuple[float, np.ndarray]:
        """Return how far a mean is from the nearest line between two others, and the (K,) shares of these there.

        Parameters
        ----------
        phases
            Of the law.
        phase
            Which one.

        Returns
        -------
        the distance relative to that of the two, infinite without two others, and the shares
        """
        means, shares, nearest = phases[:, : self.n_latents], np.zeros(len(phases)), np.inf
        for one, other in combinations(np.delete(np.arange(len(phases)), phase), 2):
            along = means[other] - means[one]
            length = max(float(along @ along), _TINY)
            part = float(np.clip((means[phase] - means[one]) @ along / length, 0, 1))
            distance = float(np.linalg.norm(means[one] + part * along - means[phase]) / np.sqrt(length))
            if distance < nearest:
                nearest, shares = distance, np.zeros(len(phases))
                shares[one], shares[other] = 1 - part, part
        return nearest, shares

    def go_over(self, phases: np.ndarray, one: int, other: int) -> bool:
        """Return whether two phases vary within nearly as much as from one to the other.

        Parameters
        ----------
        phases
            Of the law.
        one, other
            Which two.
        """
        p, two = self.n_latents, phases[[one, other]]
        along = two[1, :p] - two[0, :p]
        within = two[:, p:].mean(axis=0).reshape(p, p) + _LEAST_VARIANCE * np.eye(p)
        between = 0.25 * along @ np.linalg.solve(within, along)
        return bool(between * _LEAST_WITHIN < 1)

    def joined(self, phases: np.ndarray, prior: np.ndarray, one: int, other: int) -> np.ndarray:
        """Return the (P + P * P,) phase that has mean and covariance of two together.

        Parameters
        ----------
        phases, prior
            All phases, and their shares.
        one, other
            Which two.
        """
        p, two, share = self.n_latents, phases[[one, other]], prior[[one, other]] / prior[[one, other]].sum()
        mean = share @ two[:, :p]
        apart = two[:, :p] - mean
        covariance = share @ two[:, p:] + ((apart * share[:, None]).T @ apart).reshape(-1)
        return np.concatenate([mean, covariance])

    def _axes(self, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean, variances within, and their axes as columns."""
        p = self.n_latents
        variances, axes = np.linalg.eigh(phase[p:].reshape(p, p))
        return (phase[:p].astype(np.float32), np.maximum(variances, 0).astype(np.float32), axes.astype(np.float32))


def _positive(matrices: np.ndarray) -> np.ndarray:
    """Return symmetric matrices with their negative eigenvalues as 0."""
    values, vectors = np.linalg.eigh(matrices)
    return np.asarray((vectors * np.maximum(values, 0)[:, None]) @ np.swapaxes(vectors, 1, 2))
