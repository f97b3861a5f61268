"""What networks are trained on instead of splits of the counts: classical corruptions, real repeats.

References
----------
P. Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import NotCountsError
from hyperspy_specml.statistics import N_PARTS, TRAIN, PoissonNoise

if TYPE_CHECKING:
    from hyperspy_specml.prepare._training_data import TrainingData

CORRUPTIONS = ("split", "poisson", "gaussian", "mask")
_DRAWS = 6  # of corrupted inputs: networks meet each of them many times
_MASKED = 0.25  # share of channels
# Parts of the training fold that networks see of the first of two repeats.
_SEEN = ((0, 1, 2, 3), (0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1))


@dataclass(frozen=True)
class Draws:
    """Inputs and the target of networks, along the axes of the training fold. n spectra, D draws, P axes.

    Attributes
    ----------
    inputs
        (n, D, P) scores on the scale of the whole data.
    shares
        (D,) of the counts that the noise of the inputs is that of.
    target, target_share
        (n, P) scores on the same scale, and the share of the counts that their noise is that of.
    """

    inputs: np.ndarray = field(repr=False)
    shares: np.ndarray
    target: np.ndarray = field(repr=False)
    target_share: float


def corrupt(prepared: TrainingData, corruption: str) -> Draws:
    """Make the counts of the training fold worse, with themselves as target.

    Parameters
    ----------
    prepared
        What is known of the map.
    corruption
        "poisson": counts with these as means. "gaussian": the noise once more, as normal numbers. "mask":
        some channels are 0, the others larger by as much.

    Raises
    ------
    NotCountsError
        "poisson" where the noise is not Poisson noise.
    """
    if corruption == "poisson" and not isinstance(prepared.estimate.model, PoissonNoise):
        raise NotCountsError(
            f"denoise_dae(corruption='poisson') draws counts, but the noise is {prepared.estimate.model.name}. "
            "Use corruption='gaussian', or raw counts."
        )
    rng = np.random.default_rng((prepared.seed, CORRUPTIONS.index(corruption)))
    target = prepared.fold_scores
    n, p = target.shape
    inputs = np.empty((n, _DRAWS, p), np.float32)
    if corruption == "gaussian":
        inputs[:] = target[:, None] + rng.standard_normal(inputs.shape, np.float32) / np.float32(
            np.sqrt(TRAIN)
        )
    else:
        for rows in prepared.folds.slabs():
            values = prepared.folds.train(rows)
            for draw in range(_DRAWS):
                inputs[rows, draw] = prepared.fold_basis.project(
                    _worse(values, corruption, rng) / np.float32(TRAIN)
                )
    share = TRAIN if corruption == "mask" else TRAIN / 2
    return Draws(inputs, np.full(_DRAWS, share), target, TRAIN)


def _worse(values: np.ndarray, corruption: str, rng: np.random.Generator) -> np.ndarray:
    if corruption == "mask":
        kept = rng.random(values.shape, np.float32) >= _MASKED
        return values * kept / np.float32(1 - _MASKED)
    out = np.zeros(values.shape, np.float32)
    where = np.flatnonzero(values)
    out.reshape(-1)[where] = rng.poisson(values.reshape(-1)[where])
    return out


def paired_draws(prepared: TrainingData, target: np.ndarray, target_share: float) -> Draws:
    """Return parts of the first repeat as inputs and a part of the second as target.

    Parameters
    ----------
    prepared
        Of the first repeat; its `share` is that of it.
    target, target_share
        (n, E) spectra of the second on the scale of the whole data, and the share of the counts in them.
    """
    parts = prepared.fold_parts
    inputs = [parts[:, list(seen)].sum(axis=1) * np.float32(N_PARTS / len(seen) / TRAIN) for seen in _SEEN]
    shares = np.array([prepared.share * len(seen) / N_PARTS for seen in _SEEN])
    return Draws(np.stack(inputs, axis=1), shares, prepared.fold_basis.project(target), target_share)
