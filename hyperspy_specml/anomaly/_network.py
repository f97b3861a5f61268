"""An autoencoder as the reference model, and whether it describes what the scan uses better than PCA does.

The scan sums what single pixels leave. So every patch is thinned to spectra as noisy as its pixels, each of them is
described by itself, and the sum of the descriptions is compared with counts of the patch that were held back. A network
that follows single spectra better, but whose errors are the same in neighbouring pixels, is not better here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperspy_specml.models import LatentModel, autoencoder_network
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import TEST, TRAIN, VALIDATION, Folds, moments_of, paired, principal_basis
from hyperspy_specml.train import DrawnInputs, RandomRows, fit, one_thread, squared_error

if TYPE_CHECKING:
    from typing import Any

    from torch import nn

    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel, PairedScore, PrincipalBasis
    from hyperspy_specml.train import History

# What the training takes where the user's settings say nothing.
DEFAULTS = TrainConfig(learning_rate=5e-3, batch_size=512, max_steps=3000, evaluate_every=100, patience=4)
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
    rows: np.ndarray, n_pixels: float, noise: NoiseModel, n_components: int, *, smoothing: float,
    options: dict[str, Any], run: Run,
) -> NetworkTrial:  # fmt: skip
    """Train an autoencoder on patches, for spectra of single pixels, and score it beside PCA.

    Parameters
    ----------
    rows
        (n, E) sums over patches without anything rare.
    n_pixels
        Pixels of a patch.
    noise
        Noise model of a sum.
    n_components
        Latents, and components of PCA.
    smoothing
        Standard deviation, in channels, of the Gaussian that the basis is made smooth with.
    options
        Options of the network.
    run
        An interrupt or a cancel ends the training; the best network so far is scored.

    Raises
    ------
    TrainingDivergedError
        The loss diverged.
    """
    run = run.over(DEFAULTS)
    n_vectors = min(_MORE_VECTORS + 2 * n_components, *rows.shape)
    n_parts = int(np.clip(round(TRAIN * n_pixels), 2, _MOST_PARTS))
    whole = principal_basis(moments_of(rows), noise, n_vectors=n_vectors, width=smoothing)
    parts, folds = _split(rows, whole, noise, n_parts, run.seed)
    train = np.stack(parts).sum(axis=0, dtype=np.float32)
    basis = principal_basis(moments_of(train).scaled(1 / TRAIN), noise, n_vectors=n_vectors, width=smoothing)
    scale = np.float32(TRAIN / n_parts * n_pixels)  # from a pixel to a part
    inputs = np.stack([basis.project(part / scale) for part in parts], axis=1)  # (n, F, P)
    with one_thread(run.device):
        model = _start(inputs, basis, n_components, options, run)
        step = max(1, folds.validation.size // _SCORED_VALUES)
        few, few_inputs = folds.every(step), inputs[::step]
        history = fit(
            model.network, _batches(model, inputs, noise, rows, run), squared_error, run,
            score=lambda _: float(_sums_score(few, "validation", model, few_inputs, n_pixels).mean()),
        )  # fmt: skip
        pca = basis.first(n_components)
        validation, test = (
            (
                _sums_score(folds, fold, model, inputs, n_pixels),
                folds.score(
                    fold, lambda some: pca.spectra(n_pixels * inputs[some, :, :n_components].mean(axis=1))
                ),
            )
            for fold in ("validation", "test")
        )
    scores = (float(validation[0].mean()), float(validation[1].mean()))
    deviation = model.encode_scores(inputs.mean(axis=1)).std(axis=0)
    model.network.to("cpu")  # where maps are scanned
    # The network was trained on scores along the basis of a part of the counts; it is used with that of all counts.
    model = replace(model, basis=whole.aligned_with(basis), deviation=deviation)
    return NetworkTrial(model, paired(*test), scores, history)


def _split(
    rows: np.ndarray, basis: PrincipalBasis, noise: NoiseModel, n_parts: int, seed: int
) -> tuple[list[np.ndarray], Folds]:
    """Return the parts of the training fold, and the folds that score."""
    variance = mean = None
    if noise.name != "poisson":
        mean = np.maximum(basis.spectra(basis.project(rows)), 0)
        variance = noise.variance(mean).astype(np.float32)
        variance = np.maximum(variance, 1e-6 * variance.mean())
    else:
        rows = rows.astype(np.min_scalar_type(int(rows.max(initial=0))))
    fractions = (TRAIN / n_parts,) * n_parts + (VALIDATION, TEST)
    pixels = np.arange(len(rows))
    *parts, validation, test = noise.split(rows, pixels, fractions, seed=seed, stream=0, mean=mean)
    centre = rows.mean(axis=0, dtype=np.float64)
    return parts, Folds((), validation, test, pixels, noise, variance, centre, fractions)


def _start(
    inputs: np.ndarray, basis: PrincipalBasis, n_components: int, options: dict[str, Any], run: Run
) -> LatentModel:
    """Return the untrained autoencoder: it is PCA along the first vectors, and 0 along the others."""
    mean, k = inputs.mean(axis=1), n_components
    centre = mean.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = float(max(mean.std(axis=0).max(), 1e-30))  # one number keeps the noise of all scores equal
    rest = -centre / scale
    rest[:k] = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network: nn.Module = autoencoder_network("dense", basis.n_vectors, k, options)
        network.init_from_pca(torch.eye(basis.n_vectors, k), torch.tensor(rest))  # type: ignore[operator]
    identity, zeros, ones = np.eye(k, dtype=np.float32), np.zeros(k, np.float32), np.ones(k, np.float32)
    return LatentModel(basis, network.to(run.device), centre, scale, identity, zeros, ones, options=options)


def _batches(
    model: LatentModel, inputs: np.ndarray, noise: NoiseModel, rows: np.ndarray, run: Run
) -> DrawnInputs:
    """Return batches with one part of a patch as input, and the mean of its other parts as target."""
    _, n_parts, n_vectors = inputs.shape
    mean = inputs.mean(axis=1)
    others = (n_parts * mean[:, None] - inputs) / np.float32(n_parts - 1)
    variance = noise.variance(rows).mean(axis=1)
    weights = variance.mean() / np.maximum(variance, _LEAST_VARIANCE * variance.mean())
    weights = np.repeat(weights, n_parts).astype(np.float32) * model.scale**2 / n_vectors
    values = (inputs.reshape(-1, 1, n_vectors), others.reshape(-1, n_vectors))
    normalised = ((v - model.centre) / model.scale for v in values)
    tensors = (torch.as_tensor(v, dtype=torch.float32, device=run.device) for v in (*normalised, weights))
    assert run.config.batch_size is not None
    rows_of = RandomRows(len(others) * n_parts, run.config.batch_size, torch.Generator().manual_seed(run.seed))
    return DrawnInputs(*tensors, rows_of)


def _sums_score(
    folds: Folds, fold: str, model: LatentModel, inputs: np.ndarray, n_pixels: float
) -> np.ndarray:
    """Return the deviances of patches from the sum of what a model predicts for their parts, one by one."""

    def predict(some: slice) -> np.ndarray:
        parts = inputs[some]
        scores = model.decode_scores(model.encode_scores(parts.reshape(-1, parts.shape[-1])))
        return model.basis.spectra(np.float32(n_pixels) * scores.reshape(parts.shape).mean(axis=1))

    return folds.score(fold, predict)
