"""Is a phase one of its own? Not if it lies between two others as their mixture, nor if spectra vary as much within it.

References
----------
R. Tibshirani, T. Hastie, "Local likelihood estimation", J. Am. Stat. Assoc. 82 (1987) 559 (spectra that vary
smoothly over the map).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import nnls

from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._mixture import alike
from hyperspy_specml.statistics import paired

if TYPE_CHECKING:
    from hyperspy_specml.latent._grid import Grid
    from hyperspy_specml.latent._mixture import Data

# Places between the spectra of two phases, and beyond them, that a pixel of a smooth variation may have.
_PLACES = np.linspace(-1.0, 2.0, 25)
# Variation within two phases, relative to that between them, from which they are one: measured .01 with sharp borders,
# up to .13 with borders over 3 pixels, and .39 of an even gradient cut in two (1 / 3 without noise).
_LEAST_WITHIN = 0.2
# Part of the pixels of a phase that have two others near, and contacts of the others relative to those with it.
_BETWEEN, _APART = 0.5, 0.2
# Share from which a phase is one of those that another lies between.
_TAKES_PART = 0.1
# Standard errors of what is clear.
_CLEAR = 2.0
# Twice the gain in log likelihood of all held-out counts together, below which two spectra are one but for rounding.
_LEAST_GAIN = 4.0
# Distances in pixels over which a smooth variation may extend.
_WIDTHS = (2.0, 4.0, 8.0)
_CUT = 2.5  # of these widths at which a weight ends
# Smallest part of a spectrum that is left where it is extended beyond that of a phase.
_LEAST_LEFT = 1e-3


def distance_to_mixtures(
    spectra: np.ndarray, phase: int, data: Data, *, n_counts: float = np.inf
) -> tuple[float, np.ndarray]:
    """Return how far a phase is from all mixtures of the others, and the (K,) shares of these in the nearest one.

    Parameters
    ----------
    spectra
        (K, G) of all phases.
    phase
        Which one.
    data
        Says the law of the noise.
    n_counts
        Counts that the spectrum was summed of: what their noise can make of the distance is taken off.

    Returns
    -------
    the distance relative to the spectrum (root mean square over its counts), and the shares
    """
    one, others = alike(spectra)[phase], np.delete(alike(spectra), phase, axis=0)
    counts = isinstance(data.law, MultinomialLaw)
    scale = 1 / np.sqrt(np.maximum(one, 1e-6 * one.mean())) if counts else np.ones(len(one))
    shares, residual = nnls((others * scale).T, one * scale)
    n_free = len(one) - np.count_nonzero(shares)
    noise = (n_free + _CLEAR * np.sqrt(2 * n_free)) / n_counts if counts else 0.0  # chi-squared of so many groups
    square = (residual / np.linalg.norm(one * scale)) ** 2 - noise
    return float(np.sqrt(max(square, 0.0))), np.insert(shares, phase, 0.0)


def lies_between(labels: np.ndarray, grid: Grid, phase: int, shares: np.ndarray) -> bool:
    """Return whether a phase lies between those that it is a mixture of, as a border does.

    Either most of its pixels have two of them near, or it keeps the two largest apart: where it does not touch one of
    them, the two hardly touch each other either, as on the slope of a particle.

    Parameters
    ----------
    labels
        (n,) int, -1 where a pixel is not used.
    grid
        Of the pixels.
    phase, shares
        Which one, and its (K,) shares of the others.
    """
    one, other = np.argsort(-shares)[:2]
    members = labels == phase
    if not members.any():
        return True
    parts = np.union1d([one, other], np.flatnonzero(shares > _TAKES_PART))
    near = grid.meet(labels, len(shares))[parts][:, members]
    if (near.sum(axis=0) >= 2).mean() > _BETWEEN:
        return True
    of = (labels == np.array([[one], [other], [phase]])).astype(np.float32)
    touch = of @ grid.neighbours(of).T
    return bool(touch[0, 1] < _APART * min(touch[0, 2], touch[1, 2]))


def scores_along(data: Data, validation: np.ndarray, spectra: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return how well held-out counts of two phases are predicted, with one spectrum, two, and smoothly varying ones.

    Along the line from one spectrum to the other, each phase is a place.

    Parameters
    ----------
    data, validation
        Training and validation fold.
    spectra
        (2, G) of the phases, each of intensity one.
    sides
        (n,) int: 0 and 1 in pixels of which either phase is the larger part, else -1.

    Returns
    -------
    (2 + widths, n) -2 log likelihoods: at one place, at one for each side, and at places that vary smoothly; zeros
    where a pixel is of neither side, and everywhere where all are of one
    """
    members = np.flatnonzero(sides >= 0)
    side, pixel = sides[members], np.arange(len(members))
    scores = np.zeros((2 + len(_WIDTHS), len(sides)))
    if not 0 < side.sum() < len(side):
        return scores
    evidence, held = _along(data, validation, spectra, members)
    place = np.array([evidence[:, side == k].sum(axis=1).argmax() for k in (0, 1)])
    scores[:2, members] = held[evidence.sum(axis=1).argmax(), pixel], held[place[side], pixel]
    for width, found in zip(_WIDTHS, scores[2:], strict=True):
        for k in (0, 1):
            here = members[side == k]
            whole = np.zeros((len(evidence), len(sides)), np.float32)
            whole[:, here] = evidence[:, side == k]
            smooth = _smooth(whole, data.grid, width)[:, here].argmax(axis=0)
            found[here] = held[smooth, pixel[side == k]]
    return scores


def varies_within(scores: np.ndarray) -> bool:
    """Return whether spectra vary within two phases nearly as much as from one to the other.

    Places that vary smoothly within the phases predict held-out counts better than one place for each; by how much,
    beside what two places gain over one?

    Parameters
    ----------
    scores
        See `scores_along`; of several folds, their sum.
    """
    scores = scores[:, scores.any(axis=0)]
    if not scores.size:
        return True
    one, two, *smooth = scores
    between = paired(one, two)
    if between.difference <= max(_CLEAR * between.standard_error, _LEAST_GAIN / len(one)):
        return True
    for held in smooth:
        within = paired(two, held)
        if within.difference > max(_CLEAR * within.standard_error, _LEAST_WITHIN * between.difference):
            return True
    return False


def _along(
    data: Data, validation: np.ndarray, spectra: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (P, m) log likelihoods of pixels at places along the line, and -2 log likelihoods of held-out counts."""
    places = _PLACES[:, None]
    line = (1 - places) * spectra[0] + places * spectra[1]
    if isinstance(data.law, MultinomialLaw):
        line = np.maximum(line, _LEAST_LEFT * spectra.mean(axis=0))
    evidence = data.law.evidence(data.values[members], line)
    held = data.law.held_out(data.values[members], validation[members], line)
    return evidence - evidence.mean(axis=0), -2 * held.astype(np.float64)


def _smooth(table: np.ndarray, grid: Grid, width: float) -> np.ndarray:
    sigma = [width if axis in grid.coupled else 0.0 for axis in range(len(grid.shape))]
    maps = table.reshape(-1, *grid.shape)
    return gaussian_filter(maps, (0.0, *sigma), mode="constant", truncate=_CUT).reshape(table.shape)
