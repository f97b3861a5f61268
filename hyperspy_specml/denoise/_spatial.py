"""Fit denoisers with spatial context: filters chosen by held-out counts, a network that starts from them."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.optimize
import torch

from hyperspy_specml.models import Filter, FilteredScores, filters, noise_along
from hyperspy_specml.nn import FilterMixture
from hyperspy_specml.statistics import N_PARTS, TRAIN, PrincipalBasis
from hyperspy_specml.train import History, TilePair, TilePairs, fit, one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hyperspy_specml.denoise._held_out_error import HeldOutError
    from hyperspy_specml.models import Tiles
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import TrainConfig

_logger = logging.getLogger(__name__)

_CLEAR = 2.0  # standard errors by which a component must beat nothing
_MOST_COMPONENTS = 24  # filtering many faint components costs time and gains nothing
_PRIOR_SPECTRA = 200  # as many spectra speak for the best single filter against mixtures
_RATE, _STEPS, _EVALUATIONS, _WIDTH = 0.4, 10, 4, 4  # learning rate, and divisors, relative to dense networks
_LEAST_PIXELS = 256  # of the sample: fewer teach a network nothing that the filters do not know
_INPUTS = ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1), (2, 3))  # parts of the training fold


@dataclass(frozen=True)
class SpatialFit:
    r"""Filters of the training fold, and what the validation fold says of them.

    Attributes
    ----------
    bank
        S filters.
    stack
        (S, T, \*tile, P) filtered scores of the training fold, with noise of variance 1.
    mixture
        The mixture of filters, component by component, that predicts the validation fold best.
    unit
        (P,) what a unit of `stack` is in scores on the scale of the whole data.
    target
        (n, P) scores of the validation fold on the scale of the whole data.
    """

    bank: tuple[Filter, ...]
    stack: np.ndarray
    mixture: FilteredScores
    unit: np.ndarray
    target: np.ndarray

    def simple(self, index: int) -> FilteredScores:
        """Return the denoiser that filters all components alike."""
        weights = np.zeros_like(self.mixture.weights)
        weights[index] = 1
        return dataclasses.replace(self.mixture, weights=weights)


def fit_filters(prepared: TrainingData, tiles: Tiles, judge: HeldOutError) -> SpatialFit:
    """Choose components and filters on the validation fold.

    Scores of parts of the training fold cannot choose: the fold's own axes lie where its noise is large, so
    the noise of its parts looks alike.

    Parameters
    ----------
    prepared
        What is known of the map.
    tiles
        The prepared's sample, laid out.
    judge
        Has its held-out folds.
    """
    valid, maps = tiles.valid, tiles.maps(prepared.fold_scores)
    whole = _template(
        prepared, prepared.fold_basis.first(min(prepared.fold_basis.n_vectors, _MOST_COMPONENTS)), tiles
    )
    target = judge.scores_of("validation", whole.basis)
    cheap = filters(whole.n_scan_axes, cheap=True)
    n_found = _n_useful(
        whole.stack(maps[..., : len(whole.noise)], valid, prepared.share, cheap),
        target / (whole.noise / np.sqrt(prepared.share)).astype(np.float32),
        tiles,
    )
    n_components = max(n_found, min(prepared.rank.chosen, len(whole.noise)))  # PCA itself has these
    bank = filters(whole.n_scan_axes)
    template = _template(prepared, prepared.fold_basis.first(n_components), tiles)
    target = target[:, :n_components]
    stack = template.stack(maps[..., :n_components], valid, prepared.share, bank)
    unit = (template.noise / np.sqrt(prepared.share)).astype(np.float32)
    goal = target / unit
    weights = np.stack(
        [_mixture(np.stack([m[valid] for m in stack[..., p]], axis=1), tiles.maps(goal[:, p])[valid])
         for p in range(n_components)], axis=1,
    )  # fmt: skip
    return SpatialFit(bank, stack, dataclasses.replace(template, weights=weights), unit, target)


def fit_mixture(
    prepared: TrainingData, tiles: Tiles, spatial: SpatialFit, config: TrainConfig, *, seed: int, device: torch.device,
    track: Callable[[range], Iterable[int]],
) -> tuple[FilteredScores, History] | None:  # fmt: skip
    """Train the network that mixes the filters, pixel by pixel.

    Parameters
    ----------
    prepared, tiles, spatial
        What is known of the map, its sample laid out, and the filters.
    config, seed, device, track
        Settings, seed of weights and batches, torch device, and the progress bar around ranges of steps.

    Returns
    -------
    the denoiser of the training fold and its history; None where there are too few pixels

    Raises
    ------
    TrainingDivergedError
        The loss diverged.
    """
    if tiles.valid.sum() < _LEAST_PIXELS:
        return None
    config = dataclasses.replace(
        config,
        learning_rate=_RATE * config.learning_rate,
        max_steps=max(1, config.max_steps // _STEPS),
        evaluate_every=max(1, config.evaluate_every // _EVALUATIONS),
    )
    start = spatial.mixture
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FilterMixture(
            start.n_scan_axes, len(spatial.bank), len(start.noise), max(1, config.n_hidden // _WIDTH)
        )
    network.start_as(torch.as_tensor(start.weights, dtype=torch.float32))
    denoiser = dataclasses.replace(start, network=network.to(device))
    goal = tiles.maps(spatial.target / spatial.unit)

    def score(_: torch.nn.Module) -> float:
        error = denoiser.mixed(spatial.stack, tiles.valid, prepared.share) - goal
        return float(np.square(error).sum() / tiles.valid.sum())

    with one_thread(device):
        pairs = _pairs(prepared, tiles, start, spatial.bank, device)
        valid = torch.as_tensor(tiles.valid[:, None], dtype=torch.float32, device=device)
        loss = TilePairs(pairs, valid, generator=torch.Generator().manual_seed(seed))
        return denoiser, fit(network, loss, config, score=score, track=track)


def on_all_counts(prepared: TrainingData, fold: FilteredScores) -> FilteredScores:
    """Return a denoiser of the training fold with the axes, mean and spread of all counts.

    What it learnt is in units of the noise and holds for all of them.

    Parameters
    ----------
    prepared
        What is known of the map.
    fold
        Fitted on the training fold.
    """
    axes = prepared.basis.first(len(fold.noise)).aligned_with(fold.basis)
    scores = axes.project(prepared.summary.sample)
    return dataclasses.replace(
        fold, basis=axes, noise=noise_along(axes, prepared.estimate.model, prepared.summary.moments.mean),
        **_moments(scores),
    )  # fmt: skip


def _template(prepared: TrainingData, axes: PrincipalBasis, tiles: Tiles) -> FilteredScores:
    noise = noise_along(axes, prepared.estimate.model, np.maximum(prepared.folds.mean, 0))
    n_axes = len(tiles.shape)
    weights = np.zeros((len(filters(n_axes)), axes.n_vectors))
    weights[0] = 1
    n_strong = min(prepared.rank.chosen, axes.n_vectors)
    return FilteredScores(
        axes, noise, weights=weights, n_strong=n_strong, n_scan_axes=n_axes,
        **_moments(prepared.fold_scores[:, : axes.n_vectors]),
    )  # fmt: skip


def _moments(scores: np.ndarray) -> dict[str, Any]:
    spread = scores.std(axis=0, dtype=np.float64)
    return {"centre": scores.mean(axis=0, dtype=np.float64), "spread": np.maximum(spread, 1e-6)}


def _n_useful(stack: np.ndarray, goal: np.ndarray, tiles: Tiles) -> int:
    """Return up to which component some filter predicts the (n, P) goal better than the mean does."""
    goal = tiles.maps(goal)
    errors = np.square(stack - goal)[:, tiles.valid]  # (S, n, P)
    means = errors.mean(axis=1)
    best = means.argmin(axis=0)
    useful = [0]  # whatever the data, one component is kept
    for p, s in enumerate(best):
        gain = errors[1, :, p] - errors[s, :, p]
        if gain.mean() > _CLEAR * gain.std() / np.sqrt(len(gain)):
            useful.append(p)
    return max(useful) + 1


def _mixture(filtered: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return (S,) weights, not negative, of sum one, with which (n, S) scores predict the goal best."""
    n, n_filters = filtered.shape
    middle = goal.mean(dtype=np.float64)  # weights of sum one do not see it, rounding would
    filtered, goal = filtered - middle, goal - middle
    alone = np.zeros(n_filters)
    alone[np.square(filtered - goal[:, None]).mean(axis=0).argmin()] = 1
    products = filtered.T @ filtered / n
    wanted = filtered.T @ goal / n
    prior = _PRIOR_SPECTRA / n
    wanted = wanted + prior * products @ alone
    products = (1 + prior) * products
    size = 1e3 * max(np.trace(products), 1e-30)  # of the equation that the weights sum to one
    products, wanted = products + size, wanted + size
    products[np.diag_indices(n_filters)] += 1e-9 * size
    root = scipy.linalg.cholesky(products, lower=True)
    weights, _ = scipy.optimize.nnls(root.T, scipy.linalg.solve_triangular(root, wanted, lower=True))
    weights[weights < 1e-3] = 0
    return weights / weights.sum() if weights.sum() > 0 else alone


def _pairs(
    prepared: TrainingData,
    tiles: Tiles,
    start: FilteredScores,
    bank: tuple[Filter, ...],
    device: torch.device,
) -> list[TilePair]:
    n, pairs = len(start.noise), []
    for seen, share, target, rest in _inputs_and_targets(prepared, n):
        unit = (start.noise / np.sqrt(share)).astype(np.float32)
        stack = start.stack(tiles.maps(seen), tiles.valid, share, bank)
        pairs.append(
            TilePair(
                _tensor(np.moveaxis(np.moveaxis(stack, 0, 1), -1, 2), device),
                _tensor(np.moveaxis(tiles.maps(target / unit), -1, 1), device), rest / share,
                _tensor(start.centre / unit, device), _tensor(start.spread / unit, device),
            )
        )  # fmt: skip
    return pairs


def _inputs_and_targets(
    prepared: TrainingData, n: int
) -> Iterator[tuple[np.ndarray, float, np.ndarray, float]]:
    """Yield input and target, (n spectra, n) scores on the scale of the whole data, each with its share."""
    if prepared.draws:
        draws = prepared.draws
        for draw, share in enumerate(draws.shares.tolist()):
            yield draws.inputs[:, draw, :n], share, draws.target[:, :n], draws.target_share
        return
    part = TRAIN / N_PARTS
    for inputs in _INPUTS:
        others = [k for k in range(N_PARTS) if k not in inputs]
        share, rest = len(inputs) * part, len(others) * part
        sums = (prepared.fold_parts[:, list(of), :n].sum(axis=1) for of in (inputs, others))
        seen, target = (total / np.float32(s) for total, s in zip(sums, (share, rest), strict=True))
        yield seen, share, target, rest


def _tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=device)
