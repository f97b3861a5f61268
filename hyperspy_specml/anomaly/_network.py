"""An autoencoder as the reference model, and whether it describes what the scan uses better than PCA does.

The scan sums what single pixels leave. So every patch is thinned to spectra as noisy as its pixels, each of
them is described by itself, and the sum of the descriptions is compared with counts of the patch that were
held back. A network that follows single spectra better, but whose errors are the same in neighbouring pixels,
is not better here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose import NormalisedScores
from hyperspy_specml.prepare import Draws
from hyperspy_specml.statistics import TEST, TRAIN, VALIDATION, Folds, moments_of, paired, principal_basis
from hyperspy_specml.train import fit, one_thread, squared_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.anomaly._components import ComponentChoice
    from hyperspy_specml.decompose import Autoencoder
    from hyperspy_specml.models import LatentModel
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import NoiseModel, PairedScore, PrincipalBasis
    from hyperspy_specml.train import History

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


def _normalised(inputs: np.ndarray, basis: PrincipalBasis, noise: NoiseModel, rows: np.ndarray) -> NormalisedScores:
    """Return a training with one part of a patch as input, and the mean of its other parts as target."""
    _, n_parts, n_vectors = inputs.shape
    mean = inputs.mean(axis=1)
    others = (n_parts * mean[:, None] - inputs) / np.float32(n_parts - 1)
    variance = noise.variance(rows).mean(axis=1)
    weights = variance.mean() / np.maximum(variance, _LEAST_VARIANCE * variance.mean())
    draws = Draws(inputs.reshape(-1, 1, n_vectors), np.ones(1), others.reshape(-1, n_vectors), 1.0)
    return NormalisedScores.of(
        basis, mean[:, None], np.ones(1), np.repeat(weights, n_parts).astype(np.float32), about_mean=False, draws=draws
    )


def _sums(model: LatentModel, inputs: np.ndarray, n_pixels: float) -> Callable[[slice], np.ndarray]:
    """Return a function that predicts patches by the sum of what a model predicts for their parts."""

    def predict(some: slice) -> np.ndarray:
        parts = inputs[some]
        scores = model.decode_scores(model.encode_scores(parts.reshape(-1, parts.shape[-1])))
        return model.basis.spectra(np.float32(n_pixels) * scores.reshape(parts.shape).mean(axis=1))

    return predict
