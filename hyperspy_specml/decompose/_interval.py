"""How sure a number of a spectrum is: its standard deviation by the model, and by how much replicas say that is off.

A variational model has a posterior of the latents, a linear one passes on the noise of a spectrum as it is. What the
noise does to the answer of any other encoder is found by moving its input. None of these holds the error of the
decoder. A *replica* does: a map is drawn from the model, noise included, and fitted anew from the start; there the
truth is known, and the errors of a quantity, in units of their standard deviations, say how much wider its intervals
have to be.

References
----------
B. Efron, R. J. Tibshirani, "An introduction to the bootstrap", Chapman & Hall 1993, chapters 6 and 18.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import convolve1d
from scipy.stats import norm

from hyperspy_specml.decompose._architecture import PCAOptions
from hyperspy_specml.decompose._registry import choose_architecture
from hyperspy_specml.decompose._run import decompose
from hyperspy_specml.exceptions import Cancelled
from hyperspy_specml.models import LinearModel, MovingModel, VariationalModel
from hyperspy_specml.statistics import correlation_kernel, draw_noise
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyperspy_specml.decompose._architecture import Architecture
    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel

_SLAB = 1 << 22  # values of spectra in memory at a time
_STREAM = 4000  # of the random numbers of replicas: far from those of splits


@dataclass(frozen=True)
class Quantity:
    """A number of each spectrum. E channels in use.

    Attributes
    ----------
    above, below
        (E,) weights of the channels in a sum, and in a sum that it is divided by; without `below` there is none.
    component
        Index of a score, which is meant instead.
    """

    above: np.ndarray | None = None
    below: np.ndarray | None = None
    component: int | None = None

    def among(self, channels: np.ndarray) -> Quantity:
        """Return it in some of the channels only, which are indices or a mask."""
        above, below = (None if weights is None else weights[channels] for weights in (self.above, self.below))
        return Quantity(above, below, self.component)


class Certainty:
    """Quantities of spectra under a model, with their standard deviations.

    Parameters
    ----------
    model
        Fitted.
    noise
        Noise model of the data.
    """

    def __init__(self, model: FittedModel, noise: NoiseModel) -> None:
        self.model, self.noise = model, noise

    def values(self, columns: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Return the (n,) values of (n, K + outputs) columns, float64."""
        if quantity.component is not None:
            return columns[:, quantity.component].astype(np.float64)
        wanted = [weights for weights in (quantity.above, quantity.below) if weights is not None]
        sums = self._sums(columns, np.stack(wanted, axis=1))
        return sums[:, 0] / sums[:, 1] if len(wanted) == 2 else sums[:, 0]

    def _sums(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the (n, W) sums of the spectra of (n, K + outputs) columns with (E, W) weights, float64."""
        basis = self.model.basis
        if isinstance(self.model, VariationalModel | LinearModel):  # no spectra need to be made
            scores = columns if isinstance(self.model, LinearModel) else self.model.decode_columns(columns)
            return scores.astype(np.float64) @ (basis.components() @ weights) + basis.offset @ weights
        found = np.empty((len(columns), weights.shape[1]))
        for rows in self._slabs(len(columns)):
            found[rows] = self.model.decode(columns[rows]).astype(np.float64) @ weights
        return found

    def _slabs(self, n: int) -> Iterator[slice]:
        step = max(1, _SLAB // len(self.model.basis.weights))
        return (slice(start, start + step) for start in range(0, n, step))

    def deviations(self, columns: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Return the (n,) standard deviations of the values, float64."""
        if isinstance(self.model, VariationalModel):
            return self._of_posterior(self.model, columns, quantity)
        if isinstance(self.model, LinearModel):
            return self._of_noise(columns, quantity)
        return np.concatenate([self._through_encoder(columns[rows], quantity) for rows in self._slabs(len(columns))])

    def drawn(self, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (n, K + outputs) columns with latents drawn from their posteriors; without one as they are."""
        k, found = self.model.n_components, columns.copy()
        if isinstance(self.model, LinearModel):
            return self._drawn_linear(columns, rng)
        if not isinstance(self.model, VariationalModel):
            return found
        roots = _roots(self.model.covariances(columns))
        found[:, :k] += np.einsum("nij,nj->ni", roots, rng.standard_normal((len(columns), k)))
        return found

    def _drawn_linear(self, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Take the noise off linear scores, as if they were normal, and draw them from what is left."""
        deviations = [self._of_noise(columns, Quantity(component=i)) for i in range(columns.shape[1])]
        noise = np.diag(np.square(deviations).mean(axis=1))
        mean, total = columns.mean(axis=0, dtype=np.float64), np.atleast_2d(np.cov(columns.T.astype(np.float64)))
        values, vectors = np.linalg.eigh(total - noise)
        clean = (vectors * np.maximum(values, 0)) @ vectors.T
        kept = clean @ np.linalg.inv(clean + noise)
        left = _roots((kept @ noise)[None])[0]
        return mean + (columns - mean) @ kept.T + rng.standard_normal(columns.shape) @ left.T

    def _of_posterior(self, model: VariationalModel, columns: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Return half the differences from one deviation below to one above along the axes of posteriors, in sum."""
        k, roots, squares = model.n_components, _roots(model.covariances(columns)), np.zeros(len(columns))
        steps = [(slice(0, k), roots[:, :, i]) for i in range(k)]
        if model.keeps_totals:  # the intensity is a number of counts
            steps.append((slice(k, k + 1), np.sqrt(np.maximum(columns[:, k : k + 1], 0))))
        for where, step in steps:
            up, down = columns.copy(), columns.copy()
            up[:, where] += step
            down[:, where] -= step
            squares += (0.5 * (self.values(up, quantity) - self.values(down, quantity))) ** 2
        return np.sqrt(squares)

    def _through_encoder(self, columns: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Return by how much the noise of a spectrum moves what the encoder makes of it, to first order.

        The slope along each axis of the compressed space is half the difference from one deviation of the noise below
        to one above, over that deviation. Slopes are brought to the channels, whose noise is independent.
        """
        basis = self.model.basis
        spectra, to_scores = self.model.decode(columns), basis.vectors * basis.weights[:, None]  # (n, E), (E, P)
        noise = np.maximum(self.noise.variance(spectra.astype(np.float64)), 0)
        scores, steps = basis.project(spectra), np.sqrt(noise @ to_scores**2 + np.finfo(np.float32).tiny)
        slopes = np.empty_like(steps)
        for axis in range(scores.shape[1]):
            step = np.zeros_like(scores)
            step[:, axis] = steps[:, axis]
            ends = (self.values(self.model.encode_scores(scores + side * step), quantity) for side in (1, -1))
            slopes[:, axis] = 0.5 * np.subtract(*ends) / steps[:, axis]
        along = slopes @ to_scores.T
        return np.sqrt((noise * along**2).sum(axis=1) * self._correlated(along))

    def _of_noise(self, columns: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Return the noise of spectra as it goes through the projection: exact for sums, to first order for ratios."""
        basis, variance = self.model.basis, np.zeros(len(columns))
        values = self.values(columns, quantity)
        to_scores = basis.vectors * basis.weights[:, None]  # (E, K)
        if quantity.component is not None:
            along = [to_scores[:, quantity.component]]
        else:
            sums = [w for w in (quantity.above, quantity.below) if w is not None]
            along = [to_scores @ (basis.components() @ weights) for weights in sums]
        below = self.values(columns, Quantity(quantity.below)) if len(along) == 2 else np.ones(len(columns))
        for rows in self._slabs(len(columns)):
            noise = self.noise.variance(self.model.decode(columns[rows]).astype(np.float64))
            variance[rows] = noise @ along[0] ** 2
            if len(along) == 2:  # the derivative of a / b is (da - a / b db) / b
                ratio = values[rows]
                crossed, other = noise @ (along[0] * along[1]), noise @ along[1] ** 2
                variance[rows] += ratio**2 * other - 2 * ratio * crossed
        wider = self._correlated(along[0])
        return np.sqrt(np.maximum(variance, 0) * wider) / np.abs(below)

    def _correlated(self, along: np.ndarray) -> np.ndarray:
        """Return by how much the correlation of the noise along energy widens the variance of (..., E) sums."""
        scaled = along / self.model.basis.weights
        kernel = correlation_kernel(self.noise.correlation)
        around = [(0, 0)] * (scaled.ndim - 1) + [(len(kernel) // 2,) * 2]  # what is spread beyond the ends counts
        spread = convolve1d(np.pad(scaled, around), kernel, mode="constant")
        return np.square(spread).sum(axis=-1) / np.maximum(np.square(scaled).sum(axis=-1), np.finfo(float).tiny)


@dataclass(frozen=True)
class Replica:
    """A map drawn from a model, and the model that was fitted to it.

    Attributes
    ----------
    original, drawn
        The model that it was drawn from, and the (n, K + outputs) columns of its noise-free spectra.
    refitted, columns
        The model fitted to it, and what it finds.
    channels
        Those of the original that the refitted model uses: where nothing was drawn there are no counts to use.
    """

    original: Certainty
    drawn: np.ndarray
    refitted: Certainty
    columns: np.ndarray
    channels: np.ndarray

    def errors(self, quantity: Quantity) -> np.ndarray:
        """Return the (n,) errors of the refit in units of its standard deviations."""
        truth = self.original.values(self.drawn, quantity)
        if quantity.component is None:
            there = quantity.among(self.channels)
            found, deviation = (f(self.columns, there) for f in (self.refitted.values, self.refitted.deviations))
            return (found - truth) / deviation
        # Latents of two trainings have axes of their own: the best linear map brings one to the other.
        k = self.refitted.model.n_components
        latents = np.column_stack([self.columns[:, :k], np.ones(len(self.columns))]).astype(np.float64)
        turn = np.linalg.lstsq(latents, truth, rcond=None)[0]
        return (latents @ turn - truth) / self._deviation_along(turn[:k])

    def _deviation_along(self, direction: np.ndarray) -> np.ndarray:
        """Return the (n,) standard deviations of the latents along a direction."""
        if isinstance(self.refitted.model, VariationalModel):
            covariances = self.refitted.model.covariances(self.columns)
        else:  # whitened scores have noise of variance about one
            each = [self.refitted.deviations(self.columns, Quantity(component=i)) for i in range(len(direction))]
            covariances = np.stack(each, axis=1)[:, :, None] ** 2 * np.eye(len(direction))
        return np.sqrt(np.einsum("i,nij,j->n", direction, covariances, direction))


def make_replica(certainty: Certainty, columns: np.ndarray, n_most: int, run: Run) -> Replica:
    """Draw spectra from a model, with noise, and fit the same architecture to them, from the start.

    Parameters
    ----------
    certainty
        Of the model.
    columns
        (n, K + outputs) of the map, without spectra that were not used.
    n_most
        Spectra that are drawn, at most: as many as the model was trained on.
    run
        Settings, and a seed of its own.

    Raises
    ------
    TooFewSpectraError, TrainingDivergedError
        See `decompose`.
    Cancelled
        The user ended a training: half of one says nothing about the errors of a whole one.
    """
    rng = np.random.default_rng([run.seed, _STREAM])
    some = np.sort(rng.permutation(len(columns))[:n_most])
    drawn = certainty.drawn(columns[some], rng).astype(np.float32)
    counts = draw_noise(certainty.model.decode(drawn), certainty.noise, rng)
    k, architecture = certainty.model.n_components, _architecture(certainty.model)
    found = decompose(
        SpectrumStream(counts), run, architecture=architecture, n_components=k, noise=certainty.noise.name
    )
    if found.report.interrupted:
        raise Cancelled("the training of a replica was ended; dec.interval(..., replicas=0) trusts the model.")
    refitted = Certainty(found.model, found.prepared.estimate.model)
    return Replica(certainty, drawn, refitted, found.scores, found.prepared.summary.channels)


def inflation(replicas: list[Replica], quantity: Quantity, level: float) -> float:
    """Return the factor of the widths with which so many of the replicas' errors lie inside; at least 1.

    Parameters
    ----------
    replicas
        At least one.
    quantity, level
        What the intervals are of, and the share of the truths that they should hold.
    """
    errors = np.abs(np.concatenate([replica.errors(quantity) for replica in replicas]))
    return max(1.0, float(np.nanquantile(errors, level) / norm.ppf(0.5 * (1 + level))))


def _architecture(model: FittedModel) -> Architecture:
    """Return the architecture of a model, with its options."""
    if isinstance(model, LinearModel):
        return choose_architecture("pca", PCAOptions(centre=bool(model.basis.offset.any())))
    fitted = model.still if isinstance(model, MovingModel) else model
    found, said = choose_architecture(model.architecture), fitted.settings()
    said = said | said.get("options", {}) | {"energy_shift": "shift" in model.outputs}
    options = {name: value for name, value in said.items() if hasattr(found.options, name)}
    return replace(found, options=replace(found.options, **options))  # type: ignore[type-var]


def _roots(covariances: np.ndarray) -> np.ndarray:
    """Return the (n, K, K) factors of covariances that rounding may have left a little negative."""
    values, vectors = np.linalg.eigh(covariances)
    return vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
