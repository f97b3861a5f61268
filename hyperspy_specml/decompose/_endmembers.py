"""First guesses of endmembers, from convex geometry and from non-negative matrix factorisation.

References
----------
M. C. U. Araujo et al., "The successive projections algorithm", Chemom. Intell. Lab. Syst. 57 (2001) 65;
D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 13 (2001).
"""

from __future__ import annotations

import numpy as np

_FLOOR = 1e-3  # of the mean: an endmember without any counts in a channel could never get some
_MOST_SPECTRA = 4096  # looked at: enough to find vertices
_ROUNDS = 60  # of the factorisation: from there the network goes on
_NEIGHBOURS = 0.005  # share of the spectra averaged at a vertex: a single one is an outlier of the noise


def first_endmembers(spectra: np.ndarray, scores: np.ndarray, k: int, *, seed: int) -> dict[str, np.ndarray]:
    """Return first guesses by name.

    Parameters
    ----------
    spectra
        (n, E) spectra of the training fold.
    scores
        (n, P) their whitened scores, P >= K.
    k
        Endmembers K.
    seed
        Of the random ones.

    Returns
    -------
    (K, E) positive spectra that sum to one: "vertices" of single spectra, "vertex means" of their
    neighbourhoods, "nmf" from there and "random" means of few spectra
    """
    few = slice(None, None, -(-len(spectra) // _MOST_SPECTRA))
    spectra, scores = np.maximum(spectra[few], 0).astype(np.float32), scores[few].astype(np.float64)
    n_near = max(1, round(_NEIGHBOURS * len(spectra)))
    sharp, blunt = (find_vertices(scores[:, :k], k, n_near=n) for n in (1, n_near))
    mean = spectra.mean(axis=0, dtype=np.float64)
    denoised = spectra if len(scores) <= k else _denoise(spectra, scores[:, :k])
    found = {name: _unit(at @ denoised, mean) for name, at in (("vertices", sharp), ("vertex means", blunt))}
    order = np.random.default_rng([seed, k]).permutation(len(spectra))
    found["random"] = _unit(np.array([spectra[rows].mean(axis=0) for rows in np.array_split(order, k)]), mean)
    found["random"] = factorise(spectra, found["random"], _ROUNDS)[1]
    found["nmf"] = factorise(spectra, found["vertex means"], _ROUNDS)[1]
    return {name: _unit(endmembers, mean) for name, endmembers in found.items()}


def find_vertices(scores: np.ndarray, k: int, *, n_near: int = 1) -> np.ndarray:
    """Return (K, n) weights that average the spectra nearest to each vertex, by successive projection.

    Parameters
    ----------
    scores
        (n, K) scores; the first is about the dose, which is divided out.
    k
        Vertices K.
    n_near
        Spectra averaged at each.
    """
    dose = scores @ scores.mean(axis=0)
    good = dose > 0.1 * np.median(dose)  # the shape of a spectrum of few counts is noise
    shape = np.where(good[:, None], scores / np.where(good, dose, 1)[:, None], 0)
    rest = shape.copy()
    weights = np.zeros((k, len(scores)))
    for row in weights:
        farthest = int(np.argmax(np.square(rest).sum(axis=1)))
        distance = np.square(shape - shape[farthest]).sum(axis=1)
        near = np.argsort(np.where(good, distance, np.inf), kind="stable")[:n_near]
        row[near] = 1 / len(near)
        direction = row @ rest
        length = np.square(direction).sum()
        if length > 0:
            rest -= np.outer(rest @ direction, direction) / length
    return weights


def factorise(spectra: np.ndarray, endmembers: np.ndarray, n_rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, K) abundances and (K, E) endmembers after some rounds of Kullback-Leibler updates."""
    endmembers = endmembers.astype(np.float32)
    abundances = np.full((len(spectra), len(endmembers)), 1 / len(endmembers), np.float32)
    for _ in range(n_rounds):
        abundances, endmembers = _update(spectra, abundances, endmembers)
    return abundances, endmembers


def find_abundances(spectra: np.ndarray, endmembers: np.ndarray, n_rounds: int = 30) -> np.ndarray:
    """Return (n, K) abundances, summing to one, for fixed endmembers by as many updates."""
    endmembers = endmembers.astype(np.float32)
    spectra = np.maximum(spectra, 0).astype(np.float32, copy=False)
    abundances = np.full((len(spectra), len(endmembers)), 1 / len(endmembers), np.float32)
    for _ in range(n_rounds):
        abundances = _update(spectra, abundances, endmembers)[0]
    return abundances


def _update(spectra: np.ndarray, abundances: np.ndarray, endmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ratio = spectra / np.maximum(abundances @ endmembers, np.finfo(np.float32).tiny)
    new = abundances * (ratio @ endmembers.T) + np.float32(1e-12)
    endmembers = endmembers * (abundances.T @ ratio) + np.float32(1e-12)
    return new / new.sum(axis=1, keepdims=True), endmembers / endmembers.sum(axis=1, keepdims=True)


def _denoise(spectra: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return what the scores tell of the spectra, by least squares."""
    return scores @ np.linalg.lstsq(scores, spectra.astype(np.float64), rcond=None)[0]


def _unit(endmembers: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return non-negative spectra of sum one, nowhere quite zero."""
    mean = np.maximum(mean, 0) + 1e-2 * max(mean.mean(), 1e-300)
    share = np.maximum(endmembers, 0)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    share = share + _FLOOR * mean / mean.sum()
    return share / share.sum(axis=1, keepdims=True)
