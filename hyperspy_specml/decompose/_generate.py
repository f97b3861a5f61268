"""New spectra from a fitted model: latents from a mixture of normal distributions, decoded, with noise.

The mixture is fitted to draws from the posteriors of all spectra. Their means lie too close together, and the prior,
one normal distribution, reaches where no spectrum is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from hyperspy_specml.statistics import two_sample_score

if TYPE_CHECKING:
    from hyperspy_specml.decompose._interval import Certainty

_SIZES = (1, 2, 4, 8, 16)  # normal distributions in a mixture that are tried
_ROUNDS = 100  # of expectation maximisation, at most
_LEAST_GAIN = 1e-4  # of the mean log-likelihood in a round: less changes no drawn map
_MOST = 20000  # spectra that it is fitted to
_TESTED = 4000  # spectra of each kind that are told apart, at most
_TINY = 1e-4  # variance of standardised latents that is added to those of each distribution
_MORE_AXES = 4  # beyond K, on which spectra are told apart


@dataclass(frozen=True)
class Density:
    """A mixture of normal distributions of latents and, of counts, the logarithm of the intensity.

    Attributes
    ----------
    shares, means, covariances
        (M,), (M, D) and (M, D, D).
    """

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return (n, D) draws."""
        which = rng.choice(len(self.shares), size=n, p=self.shares)
        roots = np.linalg.cholesky(self.covariances)
        return self.means[which] + np.einsum("nij,nj->ni", roots[which], rng.standard_normal((n, self.means.shape[1])))

    def log_terms(self, values: np.ndarray) -> np.ndarray:
        """Return the (n, M) log densities of (n, D) values, each with the share of its distribution."""
        roots = np.linalg.cholesky(self.covariances)
        white = np.einsum("mij,nmj->nmi", np.linalg.inv(roots), values[:, None] - self.means)
        sizes = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)  # half the log determinants
        constant = 0.5 * values.shape[1] * np.log(2 * np.pi)
        return np.log(self.shares) - 0.5 * np.square(white).sum(axis=2) - sizes - constant


def fit_density(values: np.ndarray, rng: np.random.Generator) -> Density:
    """Return the mixture of (n, D) values with as many distributions as the Bayesian information criterion wants."""
    values = values[rng.permutation(len(values))[:_MOST]].astype(np.float64)
    centre, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-12)
    standard = (values - centre) / scale
    d = values.shape[1]
    best, least = None, np.inf
    for size in _SIZES:
        if size * (d + 1) * 4 > len(values) and best is not None:
            break
        found = _maximised(standard, size, rng)
        numbers = size * (1 + d + d * (d + 1) / 2) - 1
        criterion = numbers * np.log(len(values)) - 2 * logsumexp(found.log_terms(standard), axis=1).sum()
        if criterion < least:
            best, least = found, criterion
    assert best is not None
    return Density(best.shares, centre + scale * best.means, best.covariances * np.outer(scale, scale))


def _maximised(values: np.ndarray, size: int, rng: np.random.Generator) -> Density:
    """Return the mixture of so many distributions that expectation maximisation finds."""
    d = values.shape[1]
    tiny = _TINY * np.eye(d)
    means = values[_apart(values, size, rng)]
    found = Density(np.full(size, 1 / size), means, np.repeat(np.cov(values.T).reshape(1, d, d) / size + tiny, size, 0))
    reached = -np.inf
    for _ in range(_ROUNDS):
        terms = found.log_terms(values)
        each = logsumexp(terms, axis=1, keepdims=True)
        if each.mean() < reached + _LEAST_GAIN:
            break
        reached, shares = each.mean(), np.exp(terms - each)  # (n, M)
        total = shares.sum(axis=0) + 1e-9
        means = shares.T @ values / total[:, None]
        apart = values[:, None] - means  # (n, M, D)
        covariances = np.einsum("nm,nmi,nmj->mij", shares, apart, apart) / total[:, None, None] + tiny
        found = Density(total / total.sum(), means, covariances)
    return found


def _apart(values: np.ndarray, size: int, rng: np.random.Generator) -> list[int]:
    """Return which values are starts: each the more likely, the farther from those before (k-means++)."""
    chosen = [int(rng.integers(len(values)))]
    nearest = np.full(len(values), np.inf)
    while len(chosen) < size:
        nearest = np.minimum(nearest, np.square(values - values[chosen[-1]]).sum(axis=1))
        chosen.append(int(rng.choice(len(values), p=nearest / nearest.sum())))
    return chosen


class Generator:
    """Draws columns of a model like those of a map.

    Parameters
    ----------
    certainty
        Of the model.
    columns
        (n, K + outputs) of the map, without spectra that were not used.
    rng
        Source of randomness.
    """

    def __init__(self, certainty: Certainty, columns: np.ndarray, rng: np.random.Generator) -> None:
        self.certainty, self.rng = certainty, rng
        self.k, self.n_columns = certainty.model.n_components, certainty.model.n_columns
        self.keeps_totals = "intensity" in certainty.model.outputs
        drawn = certainty.drawn(columns, rng)
        values = drawn[:, : self.k]
        if self.keeps_totals:
            values = np.column_stack([values, np.log(_intensities(columns[:, self.k], rng))])
        self.density, self.ends = fit_density(values, rng), (values.min(axis=0), values.max(axis=0))

    def columns(self, n: int, intensity: float | np.ndarray | None = None) -> np.ndarray:
        """Return (n, K + outputs) float32 columns; `intensity` is a number or (n,) numbers, None draws it too.

        None lies farther out than those of the map: abundances, say, are not negative.
        """
        values = np.clip(self.density.draw(n, self.rng), *self.ends)
        found = np.zeros((n, self.n_columns), np.float32)
        found[:, : self.k] = values[:, : self.k]
        if self.keeps_totals:
            found[:, self.k] = np.exp(values[:, self.k]) if intensity is None else intensity
        return found


def _intensities(found: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) draws of the intensities behind totals: their noise is taken off, as if all were normal."""
    mean, variance = found.mean(dtype=np.float64), max(found.var(dtype=np.float64), 1e-300)
    kept = max(0.0, 1 - mean / variance)  # of the deviation of a total
    drawn = mean + kept * (found - mean) + np.sqrt(kept * mean) * rng.standard_normal(len(found))
    return np.maximum(drawn, 1e-3 * mean)


def told_apart(real: np.ndarray, drawn: np.ndarray, third: np.ndarray, k: int, *, seed: int = 0) -> float:
    """Return the two-sample score of spectra, on principal axes of a third sample.

    Parameters
    ----------
    real, drawn, third
        (n, E), (m, E) and (l, E) spectra with noise; the third is another draw.
    k
        Number of latents.
    seed
        Of the folds.
    """
    scale = np.sqrt(np.maximum(third.mean(axis=0), 1e-3 * max(third.mean(), 1e-30)))
    axes = np.linalg.svd((third[:_TESTED] - third.mean(axis=0)) / scale, full_matrices=False)[2][: k + _MORE_AXES]
    sums = [np.column_stack([(v[:_TESTED] / scale) @ axes.T, v[:_TESTED].sum(axis=1)]) for v in (real, drawn)]
    return two_sample_score(*sums, seed=seed)
