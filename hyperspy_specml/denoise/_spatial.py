"""Fit denoisers with spatial context: filters chosen by held-out counts, a network that starts from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.optimize

from hyperspy_specml.decompose import Autoencoder
from hyperspy_specml.lazy import torch
from hyperspy_specml.models import FilteredScores, filters, noise_along, tensor_for
from hyperspy_specml.statistics import N_PARTS, TRAIN
from hyperspy_specml.train import History, TileCrops, TilePair, fit, one_thread, squared_error_of_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hyperspy_specml.models import Tiles
    from hyperspy_specml.nn import FilterMixture
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import PrincipalBasis

# Of the spatial network. It starts as the best mixture of filters, so smaller and fewer steps than those of
# an autoencoder that learns everything are enough; a step sees thousands of pixels.
DEFAULTS = replace(Autoencoder.defaults, learning_rate=2e-3, max_steps=300, evaluate_every=25)
# Standard errors by which a filtered component must be better than its mean to be kept.
_CLEAR = 2.0
# Components filtered at most: many faint ones cost time and gain nothing.
_MOST_COMPONENTS = 24
# Weight of the prior belief that the best single filter is right, in spectra that speak for it.
_PRIOR_SPECTRA = 200
# Share of a mixture below which a filter is left out of it.
_LEAST_SHARE = 1e-3
# Parts of the training fold that make up the input, one set after the other; the other parts are the target.
_INPUTS = ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1), (2, 3))


@dataclass(frozen=True)
class FilterFit:
    r"""Filters of the training fold, and how the validation fold weights them.

    Attributes
    ----------
    stack
        (S, T, \*tile, P) scores of the training fold behind each of `filters`, with noise of variance 1.
    mixture
        The mixture of filters, component by component, that predicts the validation fold best.
    goal
        (T, \*tile, P) scores of the validation fold, in the same unit.
    """

    stack: np.ndarray
    mixture: FilteredScores
    goal: np.ndarray

    def single(self, index: int) -> FilteredScores:
        """Return the denoiser that applies one filter to all components."""
        weights = np.zeros_like(self.mixture.weights)
        weights[index] = 1
        return replace(self.mixture, weights=weights)


def fit_filters(
    data: TrainingData, tiles: Tiles, target_along: Callable[[PrincipalBasis], np.ndarray], progress: Progress
) -> FilterFit:
    """Choose components and filters on the validation fold.

    Scores of parts of the training fold cannot choose: the fold's own basis lies where its noise is large, so
    the noise of its parts is correlated.

    Parameters
    ----------
    data
        Training data of the map.
    tiles
        Its sample, laid out.
    target_along
        Projects the validation fold on a basis, on the scale of the whole data.
    progress
        The filters make up its current stage.
    """
    valid, fraction = tiles.valid, data.fraction
    with progress.enter("Choose components", 0.1):
        whole, stack, goal = _filtered_cheaply(data, tiles, target_along, progress)
    n = max(_n_useful(stack, goal, valid), min(data.rank.chosen, whole.n_components))  # PCA has as many as its rank
    template, goal = _template(data, data.fold_basis.first(n), tiles), goal[..., :n]
    with progress.enter("Filter"):
        maps = tiles.maps(data.fold_scores[:, :n])
        stack = template.stack(maps, valid, fraction, filters(template.n_scan_axes), progress)
    columns = enumerate(goal[valid].T)
    weights = [_mixture(np.stack([m[valid] for m in stack[..., p]], axis=1), column) for p, column in columns]
    return FilterFit(stack, replace(template, weights=np.stack(weights, axis=1)), goal)


def _filtered_cheaply(
    data: TrainingData, tiles: Tiles, target_along: Callable[[PrincipalBasis], np.ndarray], progress: Progress | None
) -> tuple[FilteredScores, np.ndarray, np.ndarray]:
    r"""Return the denoiser that does not filter, the (S, T, \*tile, P) output of cheap filters, and the goal."""
    n = min(data.fold_basis.n_vectors, _MOST_COMPONENTS)
    whole = _template(data, data.fold_basis.first(n), tiles)
    maps, bank = tiles.maps(data.fold_scores[:, :n]), filters(whole.n_scan_axes, cheap=True)
    stack = whole.stack(maps, tiles.valid, data.fraction, bank, progress)
    return whole, stack, tiles.maps(target_along(whole.basis) / whole.unit(data.fraction))


def best_cheap_scores(
    data: TrainingData, tiles: Tiles, target_along: Callable[[PrincipalBasis], np.ndarray]
) -> tuple[PrincipalBasis, np.ndarray]:
    """Return a basis, and the (n, P) scores along it behind the cheap filter that is best for each component.

    Parameters
    ----------
    data, tiles, target_along
        See `fit_filters`.
    """
    whole, stack, goal = _filtered_cheaply(data, tiles, target_along, None)
    n = _n_useful(stack, goal, tiles.valid)
    best = np.square(stack - goal)[:, tiles.valid].mean(axis=1).argmin(axis=0)
    clean = np.stack([stack[s, ..., p] for p, s in enumerate(best[:n])], axis=-1)
    return whole.basis.first(n), tiles.flat(clean) * whole.unit(data.fraction)[:n]


def fit_mixture(
    data: TrainingData, tiles: Tiles, filtered: FilterFit, n_hidden: int, run: Run
) -> tuple[FilteredScores, History]:
    """Train the network that mixes the filters, pixel by pixel.

    Parameters
    ----------
    data, tiles, filtered
        Training data of the map, its sample laid out, and the filters.
    n_hidden
        Channels of the hidden layers.
    run
        Settings, seed, device and progress.

    Returns
    -------
    the denoiser of the training fold and its history

    Raises
    ------
    TrainingDivergedError
        The loss diverged.
    Cancelled
        That was asked for before the training began.
    """
    from hyperspy_specml.nn import FilterMixture

    start, run = filtered.mixture, run.over(DEFAULTS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = FilterMixture(start.n_scan_axes, len(start.weights), len(start.noise), n_hidden)
    network.init_from_weights(torch.as_tensor(start.weights, dtype=torch.float32))
    denoiser = replace(start, network=network.to(run.device))

    def score(_: torch.nn.Module) -> float:
        error = denoiser.mixed(filtered.stack, tiles.valid, data.fraction) - filtered.goal
        return float(np.square(error).sum() / tiles.valid.sum())

    with one_thread(run.device):
        with run.progress.enter("Filter splits of the counts", 0.15):
            pairs = [_pair(*split, tiles, filtered, network) for split in _splits(data, len(start.noise), run)]
        valid = tensor_for(network, tiles.valid[:, None])
        crops = TileCrops(pairs, valid, torch.Generator().manual_seed(run.seed))
        with run.progress.enter("Train the spatial network"):
            return denoiser, fit(network, crops, squared_error_of_maps, run, score=score)


def on_all_counts(data: TrainingData, fold: FilteredScores) -> FilteredScores:
    """Return a denoiser of the training fold with the basis, mean and spread of all counts.

    What it learnt is in units of the noise and holds for all of them.

    Parameters
    ----------
    data
        Training data of the map.
    fold
        Fitted on the training fold.
    """
    basis = data.basis.first(len(fold.noise)).aligned_with(fold.basis)
    noise = noise_along(basis, data.estimate.model, data.summary.moments.mean)
    return replace(fold, basis=basis, noise=noise, **_moments(basis.project(data.summary.sample)))


def _template(data: TrainingData, basis: PrincipalBasis, tiles: Tiles) -> FilteredScores:
    """Return the denoiser of the training fold that does not filter."""
    noise = noise_along(basis, data.estimate.model, np.maximum(data.folds.mean, 0))
    n_axes, n = tiles.rows.ndim - 1, basis.n_vectors
    weights = np.repeat(np.eye(len(filters(n_axes)), 1), n, axis=1)  # all of the first one: no filter
    moments = _moments(data.fold_scores[:, :n])
    n_strong = min(data.rank.chosen, n)
    return FilteredScores(basis, noise, weights=weights, n_strong=n_strong, n_scan_axes=n_axes, **moments)


def _moments(scores: np.ndarray) -> dict[str, Any]:
    spread = scores.std(axis=0, dtype=np.float64)
    return {"centre": scores.mean(axis=0, dtype=np.float64), "spread": np.maximum(spread, 1e-6)}


def _n_useful(stack: np.ndarray, goal: np.ndarray, valid: np.ndarray) -> int:
    """Return up to which component some filter predicts the goal better than the mean does."""
    errors = np.square(stack - goal)[:, valid]  # (S, n, P)
    best = errors.mean(axis=1).argmin(axis=0)
    gains = (errors[1, :, p] - errors[s, :, p] for p, s in enumerate(best))
    useful = [p for p, gain in enumerate(gains) if gain.mean() > _CLEAR * gain.std() / np.sqrt(len(gain))]
    return max(useful, default=0) + 1  # whatever the data, one component is kept


def _mixture(filtered: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return (S,) weights, not negative, of sum one, with which (n, S) scores predict the goal best."""
    n, n_filters = filtered.shape
    middle = goal.mean(dtype=np.float64)  # weights of sum one do not see it, rounding would
    filtered, goal = (np.subtract(values, middle, dtype=np.float64) for values in (filtered, goal))
    alone = np.zeros(n_filters)
    alone[np.square(filtered - goal[:, None]).mean(axis=0).argmin()] = 1
    products, prior = filtered.T @ filtered / n, _PRIOR_SPECTRA / n
    wanted = filtered.T @ goal / n + prior * products @ alone
    products = (1 + prior) * products
    size = 1e3 * max(np.trace(products), 1e-30)  # of the equation that the weights sum to one
    products, wanted = products + size, wanted + size
    products[np.diag_indices(n_filters)] += 1e-9 * size
    root = scipy.linalg.cholesky(products, lower=True)
    weights, _ = scipy.optimize.nnls(root.T, scipy.linalg.solve_triangular(root, wanted, lower=True))
    weights[weights < _LEAST_SHARE] = 0
    return weights / weights.sum() if weights.sum() > 0 else alone


_Scores = tuple[np.ndarray, float]
"""(n, P) scores on the scale of the whole data, and their fraction of the counts."""


def _splits(data: TrainingData, n: int, run: Run) -> Iterator[tuple[_Scores, _Scores]]:
    """Yield inputs and targets of the network: draws made before, else sums of parts of the training fold."""
    if data.draws:
        draws, target = data.draws, (data.draws.target[:, :n], data.draws.target_fraction)
        for draw in run.progress.steps(range(len(draws.fractions))):
            yield (draws.inputs[:, draw, :n], float(draws.fractions[draw])), target
        return
    for step in run.progress.steps(range(len(_INPUTS))):
        others = [k for k in range(N_PARTS) if k not in _INPUTS[step]]
        yield sum_of_parts(data, _INPUTS[step], n), sum_of_parts(data, others, n)


def sum_of_parts(data: TrainingData, parts: Sequence[int], n: int) -> tuple[np.ndarray, float]:
    """Return n scores of some parts of the training fold on the scale of the whole data, and their fraction of it."""
    fraction = len(parts) * (TRAIN / N_PARTS)
    return data.fold_parts[:, list(parts), :n].sum(axis=1) / np.float32(fraction), fraction


def _pair(seen: _Scores, goal: _Scores, tiles: Tiles, filtered: FilterFit, network: FilterMixture) -> TilePair:
    """Filter the input of a split and lay it out beside its target."""
    start, (values, fraction), (target, target_fraction) = filtered.mixture, seen, goal
    unit = start.unit(fraction)
    stack = start.stack(tiles.maps(values), tiles.valid, fraction, filters(start.n_scan_axes))
    inputs = tensor_for(network, np.moveaxis(stack, (0, -1), (1, 2)))
    wanted = tensor_for(network, np.moveaxis(tiles.maps(target / unit), -1, 1))
    moments = tensor_for(network, start.centre / unit), tensor_for(network, start.spread / unit)
    return TilePair(inputs, wanted, target_fraction / fraction, *moments)
