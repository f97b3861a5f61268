"""Which pixels are neighbours, and what they tell each other: a Potts prior in the mean-field approximation.

References
----------
J. Besag, "On the statistical analysis of dirty pictures", J. R. Stat. Soc. B 48 (1986) 259.
G. Celeux, F. Forbes, N. Peyrard, "EM procedures using mean field-like approximations for Markov model-based
image segmentation", Pattern Recognit. 36 (2003) 131, doi:10.1016/S0031-3203(02)00027-4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from hyperspy_specml.progress import Progress

# Sweeps over all pixels, at most, and the mean change of a pixel's shares from which one more changes nothing.
SWEEPS = 12
_SETTLED = 1e-3
# Strengths of the prior that are tried.
STRENGTHS = (0.0, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 3.0)
# Parts that pixels are left out in, the number of pixels above which one such part is enough, and by how many standard
# errors the order of pixels must help to be used.
_PARTS, _MANY, _CLEARLY = 4, 20_000, 2.0
# Sweeps over the pixels that may be mixtures; the others stay.
_MIXED_SWEEPS = 3
# Pixels within which both phases must occur for a pixel to be a mixture of them: a border blurred over 3 pixels.
_REACH = 2


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixels in the order of a map, or of several boxes of one.

    Attributes
    ----------
    shape
        Of the pixels, in array order.
    coupled
        Axes along which pixels are neighbours; none for spectra without order.
    used
        (n,) bool; others influence nobody.
    """

    shape: tuple[int, ...]
    coupled: tuple[int, ...]
    used: np.ndarray = field(repr=False)

    @cached_property
    def _parity(self) -> np.ndarray:
        indices = np.indices(self.shape, sparse=True)
        return sum((indices[axis] for axis in self.coupled), np.zeros(self.shape, int)).reshape(-1) % 2

    def now(self, colour: int) -> np.ndarray:
        """Return (n,) bool, the used pixels of one of the two colours of a checkerboard."""
        return self.used & (self._parity == colour)

    def neighbours(self, values: np.ndarray) -> np.ndarray:
        """Return (K, n) sums over the neighbours of (K, n) values: across an edge with weight 1, a corner 1/2."""
        total = values.reshape(-1, *self.shape)
        for axis in self.coupled:
            before = (slice(None),) * (axis + 1)
            summed = total + total
            summed[(*before, slice(1, None))] += total[(*before, slice(None, -1))]
            summed[(*before, slice(None, -1))] += total[(*before, slice(1, None))]
            total = summed
        found = total.reshape(values.shape) * values.dtype.type(2.0 ** (1 - len(self.coupled)))
        found -= values
        found -= values
        return found

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Return (K, n) values averaged with those of their neighbours."""
        if not self.coupled:
            return values
        weight = 2.0 ** (len(self.coupled) + 1)
        for _ in range(2):
            values = (2 * values + self.neighbours(values)) / np.asarray(weight, values.dtype)
        return values

    def agreement(self, probability: np.ndarray) -> float:
        """Return how much more often than by chance neighbours are of one phase; 1 where they always are.

        Parameters
        ----------
        probability
            (K, n) of the phases.
        """
        pairs = float((probability * self.neighbours(probability)).sum(dtype=np.float64))
        whole = probability.sum(axis=0, keepdims=True)
        n_pairs = float((whole * self.neighbours(whole)).sum(dtype=np.float64))
        chance = float(((probability.sum(axis=1, dtype=np.float64) / max(whole.sum(), 1e-30)) ** 2).sum())
        return (pairs / max(n_pairs, 1e-30) - chance) / max(1 - chance, 1e-30)

    def meet(self, labels: np.ndarray, n_phases: int) -> np.ndarray:
        """Return (K, n) bool: whether a phase occurs near a pixel.

        Parameters
        ----------
        labels
            (n,) int, -1 for none.
        n_phases
            Number of phases K.
        """
        found = np.arange(n_phases).reshape(-1, *(1 for _ in self.shape)) == labels.reshape(self.shape)
        for axis in self.coupled:
            found = scipy.ndimage.maximum_filter1d(found, 2 * _REACH + 1, axis=axis + 1)
        return found.reshape(n_phases, -1)


def softmax(evidence: np.ndarray) -> np.ndarray:
    """Return the probabilities of log evidence along the first axis, computed in place."""
    evidence -= evidence.max(axis=0)
    np.exp(evidence, out=evidence)
    evidence /= evidence.sum(axis=0)
    return evidence


def posterior(
    evidence: np.ndarray, grid: Grid, strength: float, *, start: np.ndarray | None = None, sweeps: int = SWEEPS
) -> np.ndarray:
    """Return the probabilities of the phases in all pixels under the Potts prior, by mean fields.

    Parameters
    ----------
    evidence
        (K, n) log likelihood and log prior of each phase.
    grid
        The pixels.
    strength
        Of the prior: logarithm of the odds that one neighbour adds.
    start
        (K, n) probabilities to begin with; by default those without neighbours.
    sweeps
        Over all pixels, at most.

    Returns
    -------
    (K, n) float32, 0 where a pixel is not used
    """
    found = softmax(evidence.copy()) if start is None else start.copy()
    found *= grid.used
    if not (strength and grid.coupled):
        return found
    colours = [grid.now(colour) for colour in (0, 1)]
    for sweep in range(sweeps):
        before = found.copy()
        for now in colours:
            pull = grid.neighbours(found)
            pull *= np.float32(strength)
            pull += evidence
            np.copyto(found, softmax(pull), where=now)
        if sweep + 1 < sweeps and np.abs(found - before).sum() < _SETTLED * found.shape[1]:
            break
    return found


def predicted_strength(evidence: np.ndarray, grid: Grid, seed: int, progress: Progress) -> float:
    """Return the strength of the prior with which pixels that were left out are predicted best by their neighbours.

    0 where that is not clearly better than with the same pixels in random order: then their order tells nothing.

    Parameters
    ----------
    evidence
        (K, n) log likelihood of each class, of independent pixels.
    grid
        The pixels.
    seed
        Of what is left out, and of the random order.
    progress
        Its current stage is this.
    """
    if not grid.coupled or len(evidence) == 1:
        return 0.0
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(grid.used)
    part, mixed = np.full(grid.used.shape, -1), evidence.copy()
    part[used] = rng.permutation(len(used)) % _PARTS
    mixed[:, used] = evidence[:, rng.permutation(used)]
    n_parts = _PARTS if len(used) <= _MANY else 1
    with progress.enter("Compare neighbours", 0.5):
        own = _left_out_scores(evidence, grid, part, n_parts, progress)
    with progress.enter("Compare pixels in random order"):
        chance = _left_out_scores(mixed, grid, part, n_parts, progress)
    best, by_chance = (scores[int(scores.mean(axis=1).argmax())] for scores in (own, chance))
    gain = best - by_chance
    clear = gain.mean() > _CLEARLY * gain.std() / np.sqrt(len(gain))
    return STRENGTHS[int(own.mean(axis=1).argmax())] if clear else 0.0


def _left_out_scores(
    evidence: np.ndarray, grid: Grid, part: np.ndarray, n_parts: int, progress: Progress
) -> np.ndarray:
    """Return the (strengths, n) log likelihoods of pixels that were left out, by what their neighbours tell."""
    found: list[list[np.ndarray]] = [[] for _ in range(n_parts)]
    told: np.ndarray | None = None
    for step in progress.steps(range(n_parts * len(STRENGTHS))):
        k, strength = step // len(STRENGTHS), STRENGTHS[step % len(STRENGTHS)]
        left = part == k
        told = posterior(np.where(left, np.float32(0), evidence), grid, strength, start=told if strength else None)
        found[k].append(np.log(np.maximum((told[:, left] * np.exp(evidence[:, left])).sum(axis=0), 1e-30)))
    return np.concatenate([np.array(scores) for scores in found], axis=1)


def mixed_posterior(
    evidence: np.ndarray, shares: np.ndarray, grid: Grid, strength: float, *, pixels: np.ndarray, pure: np.ndarray
) -> np.ndarray:
    """Return the probabilities of phases and mixtures of phases in some pixels.

    A class draws its neighbours to itself in proportion to the phases that both have in common.

    Parameters
    ----------
    evidence
        (M, b) log likelihood and log prior of each class.
    shares
        (M, K) shares of the phases in a class.
    grid, strength
        As in `posterior`.
    pixels, pure
        (b,) indices of these pixels, and (K, n) probabilities of the phases without mixtures.

    Returns
    -------
    (M, b) float32
    """
    shares, mixture = shares.astype(np.float32), pure.copy()
    for _ in range(_MIXED_SWEEPS):
        found = softmax(evidence + np.float32(strength) * (shares @ grid.neighbours(mixture)[:, pixels]))
        mixture[:, pixels] = shares.T @ found
    return found
