"""First guesses of endmembers, and the untrained simplex autoencoder with an encoder close to their abundances.

Endmembers are guessed from convex geometry and from non-negative matrix factorisation.

References
----------
M. C. U. Araujo et al., "The successive projections algorithm", Chemom. Intell. Lab. Syst. 57 (2001) 65;
D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 13 (2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose._architecture import NetworkOptions
from hyperspy_specml.lazy import torch
from hyperspy_specml.statistics import USED, PrincipalBasis

if TYPE_CHECKING:
    from hyperspy_specml.nn import SimplexNetwork
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import Run

_FLOOR = 1e-3  # of the mean: an endmember without any counts in a channel could never get some
_MOST_SPECTRA = 4096  # looked at: enough to find vertices
_ROUNDS = 60  # of the factorisation: from there the network goes on
_NEIGHBOURS = 0.005  # share of the spectra averaged at a vertex: a single one is an outlier of the noise
_LEAST_ABUNDANCE = 0.03  # the encoder starts with; smaller ones would ask for extreme weights
_ABUNDANCE_ROUNDS = 30  # of the updates that find those
TINY = np.float32(1e-12)  # counts or abundances: nothing, but no division by zero
_DAMPING = 1e-3  # of the regression, in units of what the encoder sees


@dataclass(frozen=True)
class SimplexOptions(NetworkOptions):
    """Options of unmixing into pure phases.

    Parameters
    ----------
    n_hidden, n_layers
        Width and number of the hidden layers of the encoder.
    energy_shift
        Whether a drift or chemical shift, found for each pixel, moves its spectrum along energy.

    Raises
    ------
    OptionError
        A size that no network has.
    """

    energy_shift: bool = False


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
    denoised = spectra
    if len(scores) > k:
        few_scores = scores[:, :k]
        denoised = few_scores @ np.linalg.lstsq(few_scores, spectra.astype(np.float64), rcond=None)[0]
    found = {name: _unit(at @ denoised, mean) for name, at in (("vertices", sharp), ("vertex means", blunt))}
    order = np.random.default_rng([seed, k]).permutation(len(spectra))
    random = _unit(np.array([spectra[rows].mean(axis=0) for rows in np.array_split(order, k)]), mean)
    found["random"] = factorise(spectra, random, _ROUNDS)[1]
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


def factorise(
    spectra: np.ndarray, endmembers: np.ndarray, n_rounds: int, *, fixed: bool = False, prior: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, K) abundances, summing to one, and (K, E) endmembers after rounds of Kullback-Leibler updates.

    Parameters
    ----------
    spectra
        (n, E), not negative, float32.
    endmembers
        (K, E) to start from.
    n_rounds
        Updates.
    fixed
        Leave the endmembers as they are.
    prior
        Counts in each channel that speak for the mean spectrum, in each endmember: none is zero by chance.
    """
    endmembers, mean = endmembers.astype(np.float32), spectra.mean(axis=0)
    abundances = np.full((len(spectra), len(endmembers)), 1 / len(endmembers), np.float32)
    for _ in range(n_rounds):
        ratio = spectra / np.maximum(abundances @ endmembers, np.finfo(np.float32).tiny)
        new = abundances * (ratio @ endmembers.T) + TINY
        if not fixed:
            endmembers = drawn(endmembers * (abundances.T @ ratio), mean, prior)
        abundances = new / new.sum(axis=1, keepdims=True)
    return abundances, endmembers


def drawn(counts: np.ndarray, mean: np.ndarray, prior: float) -> np.ndarray:
    """Return (..., E) endmembers of sum one that are drawn to the mean spectrum.

    Parameters
    ----------
    counts
        (..., E) of each endmember, float32.
    mean
        (E,) mean spectrum, on any scale.
    prior
        Counts in each channel that speak for it, in each endmember.
    """
    exposure = np.float32(prior) / np.maximum(mean / max(float(mean.sum()), 1e-300), TINY)  # counts of the whole mean
    counts = counts + TINY
    endmembers = (counts + np.float32(prior)) / (counts.sum(axis=-1, keepdims=True) + exposure)
    return endmembers / endmembers.sum(axis=-1, keepdims=True)


def _unit(endmembers: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return non-negative spectra of sum one, nowhere quite zero."""
    mean = np.maximum(mean, 0) + 1e-2 * max(mean.mean(), 1e-300)
    share = np.maximum(endmembers, 0)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    share = share + _FLOOR * mean / mean.sum()
    return share / share.sum(axis=1, keepdims=True)


def start_network(
    data: TrainingData, guess: np.ndarray, spectra: np.ndarray, scores: np.ndarray, run: Run, options: SimplexOptions
) -> SimplexNetwork:
    """Return a network whose encoder is linear in the logarithms of abundances, by regression.

    Parameters
    ----------
    data
        Training data.
    endmembers
        (K, E), positive, of sum one.
    spectra, scores
        (n, E) and (n, P) of some spectra of the training fold.
    run
        Seed and place of the network; the global random state is left alone.
    options
        Size of the encoder.
    """
    from hyperspy_specml.nn import SimplexNetwork

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32))

    basis, mean = to_scores(data.fold_basis), np.maximum(data.folds.mean, least_mean(data))
    arrays = tensor(guess), tensor(basis), tensor(mean), tensor(data.fold_scores)
    shot, ends, n_hidden, n_layers = data.shot, _ends(data), options.n_hidden, options.n_layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = SimplexNetwork(*arrays, shot=shot, ends=ends, shifts=False, n_hidden=n_hidden, n_layers=n_layers)
    inputs = network.encoder_input(tensor(scores)).numpy().astype(np.float64)
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    spectra = np.maximum(spectra, 0).astype(np.float32, copy=False)
    abundances = factorise(spectra, guess, _ABUNDANCE_ROUNDS, fixed=True)[0]
    wanted = np.log(np.maximum(abundances, _LEAST_ABUNDANCE))
    wanted -= wanted.mean(axis=1, keepdims=True)
    normal = inputs.T @ inputs + _DAMPING * len(inputs) * np.eye(inputs.shape[1])
    linear = np.linalg.solve(normal, inputs.T @ wanted)
    network.init_encoder(tensor(linear[:-1].T), tensor(linear[-1]))
    return network.to(run.device)


def least_mean(data: TrainingData) -> np.ndarray:
    """Return the (E,) smallest prediction: that of the score, and positive."""
    return np.maximum(data.folds.floor, 1e-6 * np.abs(data.folds.mean).mean())


def to_scores(basis: PrincipalBasis) -> np.ndarray:
    """Return (E, P): whitened scores of spectra are ``spectra @ to_scores``."""
    return basis.vectors * basis.weights[:, None]


def _ends(data: TrainingData) -> torch.Tensor:
    """Return first and last channel in use, counted among those, of the stretch that each one is in."""
    used = np.flatnonzero(data.summary.channel_state == USED)
    bounds = np.array([0, *(np.flatnonzero(np.diff(used) > 1) + 1), len(used)])
    lengths = np.diff(bounds)
    return torch.as_tensor(np.array([np.repeat(bounds[:-1], lengths), np.repeat(bounds[1:], lengths) - 1]))
