"""Which reference model held-out counts choose: the number of components, their smoothness, PCA or an autoencoder.

The scan sums what single pixels leave. So for an autoencoder every patch is thinned to spectra as noisy as its
pixels, each of them is described by itself, and the sum of the descriptions is compared with counts of the
patch that were held back. A network that follows single spectra better, but whose errors are the same in
neighbouring pixels, is not better here.

References
----------
P. J. Rousseeuw, K. Van Driessen, "A fast algorithm for the minimum covariance determinant estimator",
Technometrics 41 (1999) 212.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hyperspy_specml.decompose import NormalisedScores
from hyperspy_specml.prepare import Draws
from hyperspy_specml.statistics import TRAIN, VALIDATION, make_folds, moments_of, paired, principal_basis, rank_curve
from hyperspy_specml.train import fit, one_thread, squared_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.models import LatentModel
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import Folds, NoiseModel, PairedScore, PrincipalBasis, RankCurve
    from hyperspy_specml.train import History

# Components that are tried, at most.
_MOST_COMPONENTS = 32
# Standard errors by which the score of a number of components differs from the best one at most.
_ALIKE = 2.0
# Held-out deviance per patch that a spare component may cost: three times what one component of pure noise
# costs.
_SPARE_COST = 3 * VALIDATION / TRAIN
# Fraction of the values that the robust estimate of the covariance is made of, and its iterations.
_CORE = 0.75
_ITERATIONS = 10
# Standard errors by which the network must be better than PCA.
_CLEARLY = 2.0
# Parts that a patch is thinned to, at most: larger patches are thinned to parts brighter than a pixel.
_MOST_PARTS = 12
# Vectors of the basis that the network sees, beyond twice its latents.
_MORE_VECTORS = 2
# Deviances per evaluation.
_SCORED_VALUES = 1 << 21
# Smallest noise variance of a patch, relative to the mean of all, that weights it.
_LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class ComponentChoice:
    """Number and smoothness of the components that held-out counts choose.

    Attributes
    ----------
    curve
        Held-out score against the number of components; None where nothing was to be chosen.
    n_components
        The number chosen.
    smoothing
        Standard deviation, in channels, of the Gaussian along energy that the components are made smooth
        with.
    """

    curve: RankCurve | None
    n_components: int
    smoothing: float

    def with_spare(self, n_spare: int) -> int:
        """Return the number of components and at most so many more.

        A component too many costs the scan little where it is smooth. Where it is noise of few patches with
        many channels, single counts would be explained by it.
        """
        n, scores = self.n_components, self.curve.scores if self.curve else np.zeros(0)
        for _ in range(n_spare):
            if n < len(scores) and scores[n] - scores[n - 1] <= _SPARE_COST:
                n += 1
        return n


def choose_components(
    rows: np.ndarray, noise: NoiseModel, smoothings: Sequence[float], n_components: int | None, *, seed: int
) -> ComponentChoice:
    """Score PCA on counts it has not seen, for every number of components and each smoothing.

    Parameters
    ----------
    rows
        (n, E) sums over patches.
    noise
        Noise model of the rows.
    smoothings
        Standard deviations, in channels, that are tried.
    n_components
        The number of components where it is fixed; None tries all.
    seed
        Seed of the split into folds.
    """
    if n_components and len(smoothings) == 1:
        return ComponentChoice(None, n_components, smoothings[0])
    most = n_components or min(_MOST_COMPONENTS, len(rows) // 3)
    n_vectors = max(1, min(most, rows.shape[1] // 2))
    curves = dict(zip(smoothings, _curves(rows, noise, smoothings, n_vectors, seed), strict=True))
    wanted = slice(-1, None) if n_components else slice(None)
    best = min(curves, key=lambda smoothing: curves[smoothing].scores[wanted].min())
    curve = curves[best]
    # A component too many costs the scan little; what a missing one describes would be found as an anomaly.
    good = curve.scores - curve.scores.min() <= _ALIKE * curve.standard_errors
    return ComponentChoice(curve, n_components or int(curve.ranks[good].max()), best)


def _curves(rows: np.ndarray, noise: NoiseModel, smoothings: Sequence[float], most: int, seed: int) -> list[RankCurve]:
    needed = noise.name == "poisson-gaussian"
    basis = principal_basis(moments_of(rows), noise, n_vectors=most) if needed else None
    folds = _make_folds(rows, basis, noise, seed=seed)
    train = folds.train(slice(None))
    moments = moments_of(train).scaled(1 / TRAIN)
    train = train.astype(np.float32) / np.float32(TRAIN)
    bases = [principal_basis(moments, noise, n_vectors=most, smoothing=smoothing) for smoothing in smoothings]
    return [rank_curve(folds, basis, basis.project(train)) for basis in bases]


def _make_folds(rows: np.ndarray, basis: PrincipalBasis | None, noise: NoiseModel, **more: int) -> Folds:
    """Split rows into folds, with the means that a basis gives."""
    mean = None if basis is None else np.maximum(basis.spectra(basis.project(rows)), 0)
    if noise.name == "poisson":
        rows = rows.astype(np.min_scalar_type(int(rows.max(initial=0))))  # all folds are held
    return make_folds(rows, np.arange(len(rows)), noise, mean=mean, **more)


def robust_distance(values: np.ndarray) -> np.ndarray:
    """Return squared Mahalanobis distances from the core of the values, found by concentration steps.

    Parameters
    ----------
    values
        (n, K), n larger than K.
    """
    values = np.asarray(values, np.float64)
    centre = np.median(values, axis=0)
    spread = np.median(np.abs(values - centre), axis=0)
    distance = (((values - centre) / np.maximum(spread, 1e-300)) ** 2).sum(axis=1)
    n_core = max(values.shape[1] + 1, int(_CORE * len(values)))
    for _ in range(_ITERATIONS if n_core < len(values) else 0):
        core = values[np.argpartition(distance, n_core)[:n_core]]
        centred = values - core.mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(core.T)), hermitian=True)
        distance = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    return distance


def largest_contribution(scores: np.ndarray, side: int) -> np.ndarray:
    r"""Return the largest fraction of any direction of the scores that the square about a point has.

    A direction w has the sum over all points of (score @ w)**2. Where one square contributes nearly all of
    it, PCA has a component because of this square alone.

    Parameters
    ----------
    scores
        (\*grid, K), 0 where there is none.
    side
        Points along the square, odd.

    Returns
    -------
    (\*grid,) fractions between 0 and 1
    """
    *grid, n_scores = scores.shape
    rows = scores.reshape(-1, n_scores)
    values, turn = np.linalg.eigh(rows.T @ rows)
    values = np.where(values > 1e-12 * values.max(), values, np.inf)
    white = np.pad((rows @ (turn / np.sqrt(values))).reshape(scores.shape), [(side // 2,) * 2] * len(grid) + [(0, 0)])
    square = (side,) * len(grid)
    near = sliding_window_view(white, square, axis=tuple(range(len(grid)))).reshape(*grid, n_scores, -1)
    return np.linalg.norm(near, ord=2, axis=(-2, -1)) ** 2


@dataclass(frozen=True)
class NetworkTrial:
    """A trained autoencoder, and its held-out score beside that of PCA with as many components.

    Attributes
    ----------
    model
        The autoencoder, for spectra of pixels.
    score
        Mean deviance of sums over patches from test counts, and its paired difference to that of PCA.
    validation_scores
        Mean deviances from validation counts, of the autoencoder and of PCA.
    history
        Of the training.
    """

    model: LatentModel
    score: PairedScore
    validation_scores: tuple[float, float]
    history: History

    @property
    def better(self) -> bool:
        """Whether it is clearly better than PCA."""
        return self.score.difference < -_CLEARLY * self.score.standard_error


def try_network(
    rows: np.ndarray, n_pixels: float, noise: NoiseModel, choice: ComponentChoice, architecture: Autoencoder, run: Run
) -> NetworkTrial:
    """Train an autoencoder on patches, for spectra of single pixels, and score it beside PCA.

    Parameters
    ----------
    rows
        (n, E) sums over patches without anything rare.
    n_pixels
        Pixels of a patch.
    noise
        Noise model of a sum.
    choice
        Number of latents, as of the components of PCA; and the smoothing of the basis.
    architecture
        Of the autoencoder, with its options.
    run
        An interrupt or a cancel ends the training; the best network so far is scored.

    Raises
    ------
    TrainingDivergedError
        The loss diverged.
    """
    run, n_components = run.over(architecture.defaults), choice.n_components
    n_vectors = min(_MORE_VECTORS + 2 * n_components, *rows.shape)
    bases = partial(principal_basis, noise=noise, n_vectors=n_vectors, smoothing=choice.smoothing)
    n_parts = int(np.clip(round(TRAIN * n_pixels), 2, _MOST_PARTS))
    whole = bases(moments_of(rows))
    parts, folds = _split(rows, whole, noise, n_parts, run.seed)
    train = np.stack(parts).sum(axis=0, dtype=np.float32)
    basis = bases(moments_of(train).scaled(1 / TRAIN))
    scale = np.float32(TRAIN / n_parts * n_pixels)  # from a pixel to a part
    inputs = np.stack([basis.project(part / scale) for part in parts], axis=1)  # (n, F, P)
    with one_thread(run.device):
        scores = _normalised(inputs, basis, noise, rows)
        network = architecture.start(scores, n_components, run)
        model = architecture.plain_model(scores, network, n_components)
        step = max(1, folds.validation.size // _SCORED_VALUES)
        few, predict_few = folds.every(step), _sums(model, inputs[::step], n_pixels)

        def score(_: object) -> float:
            return float(few.score("validation", predict_few).mean())

        history = fit(network, scores.batches(run), squared_error, run, score=score)
        network.to("cpu")  # where maps are scanned
        pca, first = basis.first(n_components), inputs[..., :n_components].mean(axis=1)
        both = (_sums(model, inputs, n_pixels), lambda some: pca.spectra(n_pixels * first[some]))
        validation, test = ([folds.score(f, predict) for predict in both] for f in ("validation", "test"))
        model = architecture.canonical_model(scores, network, n_components)
    # The network was trained on scores along the basis of a part of the counts; it is used with that of all
    # counts.
    model = replace(model, basis=whole.aligned_with(basis))
    return NetworkTrial(model, paired(*test), (float(validation[0].mean()), float(validation[1].mean())), history)


def _split(
    rows: np.ndarray, basis: PrincipalBasis, noise: NoiseModel, n_parts: int, seed: int
) -> tuple[Sequence[np.ndarray], Folds]:
    """Return the parts of the training fold, and the folds that score."""
    folds = _make_folds(rows, None if noise.name == "poisson" else basis, noise, seed=seed, n_parts=n_parts)
    return folds.parts, replace(folds, parts=(), mean=rows.mean(axis=0, dtype=np.float64))


def _normalised(inputs: np.ndarray, basis: PrincipalBasis, noise: NoiseModel, rows: np.ndarray) -> NormalisedScores:
    """Return a training with one part of a patch as input, and the mean of its other parts as target."""
    _, n_parts, n_vectors = inputs.shape
    mean = inputs.mean(axis=1)
    others = (n_parts * mean[:, None] - inputs) / np.float32(n_parts - 1)
    variance = noise.variance(rows).mean(axis=1)
    weights = variance.mean() / np.maximum(variance, _LEAST_VARIANCE * variance.mean())
    draws = Draws(inputs.reshape(-1, 1, n_vectors), np.ones(1), others.reshape(-1, n_vectors), 1.0)
    weights = np.repeat(weights, n_parts).astype(np.float32)
    return NormalisedScores.of(basis, mean[:, None], np.ones(1), weights, about_mean=False, draws=draws)


def _sums(model: LatentModel, inputs: np.ndarray, n_pixels: float) -> Callable[[slice], np.ndarray]:
    """Return a function that predicts patches by the sum of what a model predicts for their parts."""

    def predict(some: slice) -> np.ndarray:
        parts = inputs[some]
        scores = model.decode_scores(model.encode_scores(parts.reshape(-1, parts.shape[-1])))
        return model.basis.spectra(np.float32(n_pixels) * scores.reshape(parts.shape).mean(axis=1))

    return predict
