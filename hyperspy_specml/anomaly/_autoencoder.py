"""An autoencoder of what is normal, and whether it describes what the scan looks at better than PCA does.

The scan sums what single pixels leave. So every patch is thinned to spectra as noisy as its pixels, each of
them is described by itself, and their sum is compared with counts of the patch that were held back. A network
that follows single spectra better, but whose errors are the same in neighbours, does not win.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperspy_specml.decompose import DenseTraining, normalisation
from hyperspy_specml.prepare import Draws
from hyperspy_specml.statistics import TEST, TRAIN, VALIDATION, Folds, moments_of, paired, principal_basis
from hyperspy_specml.train import fit, one_thread

if TYPE_CHECKING:
    from hyperspy_specml.models import DenseModel
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.statistics import NoiseModel, PairedScore, PrincipalBasis

_CLEARLY = 2.0  # standard errors
_MOST_PARTS = 12  # of a patch: larger ones are thinned to what is brighter than a pixel
_MORE_AXES = 2  # that the network sees beyond twice its latents
_SCORED = 1 << 21  # deviances per evaluation


@dataclass(frozen=True)
class Tried:
    """An autoencoder of the normal, and its held-out score beside that of PCA with as many components.

    Attributes
    ----------
    model
        The autoencoder, for spectra of pixels.
    score
        Mean deviance of sums over patches from counts that decided nothing, and its paired difference to
        that of PCA.
    """

    model: DenseModel
    score: PairedScore

    @property
    def better(self) -> bool:
        """Whether it is clearly better than PCA."""
        return self.score.difference < -_CLEARLY * self.score.standard_error


def try_network(
    rows: np.ndarray, n_pixels: float, noise: NoiseModel, n_components: int, width: float,
    config: TrainConfig, *, seed: int,
) -> Tried:  # fmt: skip
    """Train an autoencoder on patches, for spectra of single pixels, and score it beside PCA.

    Parameters
    ----------
    rows
        (n, E) sums over patches in which nothing is rare.
    n_pixels
        Of a patch.
    noise
        Noise model of a sum.
    n_components
        Latents, and components of PCA.
    width
        See `principal_basis`.
    config, seed
        Settings of the training, and seed of splits, weights and batches.

    Raises
    ------
    TrainingDivergedError
        The loss diverged.
    """
    n_vectors = min(_MORE_AXES + 2 * n_components, *rows.shape)
    n_parts = int(np.clip(round(TRAIN * n_pixels), 2, _MOST_PARTS))
    whole = principal_basis(moments_of(rows), noise, n_vectors=n_vectors, smoothing=width)
    parts, folds = _split(rows, whole, noise, n_parts, seed)
    train = np.stack(parts).sum(axis=0, dtype=np.float32)
    basis = principal_basis(moments_of(train).scaled(1 / TRAIN), noise, n_vectors=n_vectors, smoothing=width)
    share = TRAIN / n_parts * n_pixels
    inputs = np.stack([basis.project(part / np.float32(share)) for part in parts], axis=1)  # (n, F, P)
    training = _training(inputs, basis, noise, rows, n_components)
    cpu = torch.device("cpu")  # a small network and some thousand patches: nothing to gain elsewhere
    with one_thread(cpu):
        network = training.network(config, seed, cpu)
        step = max(1, folds.validation.size // _SCORED)
        few, few_inputs = folds.every(step), inputs[::step]
        model = training.plain_model(network)
        fit(
            network, training.loss(config, seed, cpu), config, track=lambda steps: steps,
            score=lambda _: float(_sums_score(few, "validation", model, few_inputs, n_pixels).mean()),
        )  # fmt: skip
        pca = basis.first(n_components)
        linear = folds.score(
            "test", lambda some: pca.spectra(n_pixels * inputs[some, :, :n_components].mean(axis=1))
        )
        score = paired(_sums_score(folds, "test", model, inputs, n_pixels), linear)
        # What was learnt along the axes of a part of the counts goes on along those of all of them.
        model = replace(training.model(network), basis=whole.aligned_with(basis))
    return Tried(model, score)


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
    *parts, choose, report = noise.split(rows, pixels, fractions, seed=seed, stream=0, mean=mean)
    centre = rows.mean(axis=0, dtype=np.float64)
    return parts, Folds((), choose, report, pixels, noise, variance, centre, fractions)


def _training(
    inputs: np.ndarray, basis: PrincipalBasis, noise: NoiseModel, rows: np.ndarray, n_components: int
) -> DenseTraining:
    """Return a training of one part of a patch as input, and the mean of its other parts as target."""
    _, n_parts, n_vectors = inputs.shape
    mean = inputs.mean(axis=1)
    others = (n_parts * mean[:, None] - inputs) / np.float32(n_parts - 1)
    spread = noise.variance(rows).mean(axis=1)
    weights = spread.mean() / np.maximum(spread, 0.05 * spread.mean())
    draws = Draws(inputs.reshape(-1, 1, n_vectors), np.ones(1), others.reshape(-1, n_vectors), 1.0)
    return DenseTraining(
        basis, mean[:, None], np.ones(1), np.repeat(weights, n_parts).astype(np.float32), n_components,
        **normalisation(mean), about_mean=False, draws=draws,
    )  # fmt: skip


def _sums_score(
    folds: Folds, fold: str, model: DenseModel, inputs: np.ndarray, n_pixels: float
) -> np.ndarray:
    """Return the deviances of patches from what a model says of their parts, one by one."""

    def predict(some: slice) -> np.ndarray:
        parts = inputs[some]
        scores = model.decode_scores(model.encode_scores(parts.reshape(-1, parts.shape[-1])))
        return model.basis.spectra(np.float32(n_pixels) * scores.reshape(parts.shape).mean(axis=1))

    return folds.score(fold, predict)
