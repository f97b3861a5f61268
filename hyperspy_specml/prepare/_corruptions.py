"""What networks are trained on instead of splits of the counts: classical corruptions, paired recordings.

References
----------
P. Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008.
"""

from __future__ import annotations

import numpy as np

from hyperspy_specml.exceptions import NotCountsError
from hyperspy_specml.prepare._training_data import Draws, TrainingData
from hyperspy_specml.statistics import N_PARTS, TRAIN, PoissonNoise

CORRUPTIONS = ("split", "poisson", "gaussian", "mask")
_DRAWS = 6  # of corrupted inputs: networks meet each of them many times
_MASKED = 0.25  # share of channels
# Parts of the training fold that networks see of the first of two recordings.
_INPUTS = ((0, 1, 2, 3), (0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1))


def corrupt(data: TrainingData, corruption: str) -> Draws:
    """Make the counts of the training fold worse, with themselves as target.

    Parameters
    ----------
    data
        What is known of the map.
    corruption
        "poisson": counts with these as means. "gaussian": the noise once more, as normal numbers. "mask":
        some channels are 0, the others larger by as much.

    Raises
    ------
    NotCountsError
        "poisson" where the noise is not Poisson noise.
    """
    if corruption == "poisson" and not isinstance(data.estimate.model, PoissonNoise):
        raise NotCountsError(
            f"denoise_dae(corruption='poisson') draws counts, but the noise is {data.estimate.model.name}. "
            "Use corruption='gaussian', or raw counts."
        )
    rng = np.random.default_rng((data.seed, CORRUPTIONS.index(corruption)))
    target = data.fold_scores
    n, p = target.shape
    inputs = np.empty((n, _DRAWS, p), np.float32)
    if corruption == "gaussian":
        inputs[:] = target[:, None] + rng.standard_normal(inputs.shape, np.float32) / np.float32(np.sqrt(TRAIN))
    else:
        for rows in data.folds.slabs():
            values = data.folds.train(rows)
            for draw in range(_DRAWS):
                worse = _corrupted(values, corruption, rng) / np.float32(TRAIN)
                inputs[rows, draw] = data.fold_basis.project(worse)
    fraction = TRAIN if corruption == "mask" else TRAIN / 2
    return Draws(inputs, np.full(_DRAWS, fraction), target, TRAIN)


def _corrupted(values: np.ndarray, corruption: str, rng: np.random.Generator) -> np.ndarray:
    if corruption == "mask":
        kept = rng.random(values.shape, np.float32) >= _MASKED
        return values * kept / np.float32(1 - _MASKED)
    out = np.zeros(values.shape, np.float32)
    where = np.flatnonzero(values)
    out.reshape(-1)[where] = rng.poisson(values.reshape(-1)[where])
    return out


def paired_draws(data: TrainingData, target: np.ndarray, target_fraction: float) -> Draws:
    """Return parts of the first recording as inputs and a part of the second as target.

    Parameters
    ----------
    data
        Of the first recording; its `fraction` is that of it.
    target, target_fraction
        (n, E) spectra of the second on the scale of the whole data, and the share of the counts in them.
    """
    parts = data.fold_parts
    inputs = [parts[:, list(seen)].sum(axis=1) * np.float32(N_PARTS / len(seen) / TRAIN) for seen in _INPUTS]
    fractions = np.array([data.fraction * len(seen) / N_PARTS for seen in _INPUTS])
    return Draws(np.stack(inputs, axis=1), fractions, data.fold_basis.project(target), target_fraction)
