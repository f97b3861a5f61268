"""What networks are trained on instead of splits of the counts: classical corruptions, paired recordings.

Two independent records of the same area need no noise model to hold counts back.

References
----------
P. Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import NotCountsError, PairsError
from hyperspy_specml.prepare._training_data import Draws, TrainingData
from hyperspy_specml.statistics import N_PARTS, TEST, TRAIN, VALIDATION, Folds, PoissonNoise, estimate_noise

if TYPE_CHECKING:
    from hyperspy_specml.statistics import MapSummary, NoiseEstimate
    from hyperspy_specml.streaming import SpectrumStream

CORRUPTIONS = ("split", "poisson", "gaussian", "mask")
_DRAWS = 6  # of corrupted inputs: networks meet each of them many times
_MASKED = 0.25  # share of channels
# Parts of the training fold that networks see of the first of two recordings.
_INPUTS = ((0, 1, 2, 3), (0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1))
_STREAMS = (11, 12)  # of the random numbers that split them
# Noise of the difference of two recordings, relative to independent ones, below which one contains the other: a share
# of 18 % of it or more.
_APART = 0.7


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
        worsened = _masked if corruption == "mask" else _drawn
        for rows in data.folds.slabs():
            values = data.folds.train(rows)
            for draw in range(_DRAWS):
                inputs[rows, draw] = data.fold_basis.project(worsened(values, rng) / np.float32(TRAIN))
    fraction = TRAIN if corruption == "mask" else TRAIN / 2
    return Draws(inputs, np.full(_DRAWS, fraction), target, TRAIN)


def _masked(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values * (rng.random(values.shape, np.float32) >= _MASKED) / np.float32(1 - _MASKED)


def _drawn(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(values.shape, np.float32)
    where = np.flatnonzero(values)
    out.reshape(-1)[where] = rng.poisson(values.reshape(-1)[where])
    return out


def _check_apart(records: tuple[np.ndarray, np.ndarray], variances: list[np.ndarray]) -> None:
    """Refuse records of which one contains the counts of the other: the noise that they share looks like signal.

    Parameters
    ----------
    records
        Twice (n, E) spectra.
    variances
        Their (E,) mean noise variances: of the difference of independent records they add up, of a record with a
        share f of itself only (1 - f) / (1 + f) of that is left.
    """
    (small, less), (large, more) = sorted(zip(records, variances, strict=True), key=lambda one: one[0].mean())
    factor = large.mean(dtype=np.float64) / small.mean(dtype=np.float64)
    left = sum(float(np.square(a - factor * b).sum()) for a, b in zip(large, small, strict=True)) / len(large)
    found = left / float((more + factor**2 * less).sum())
    whole = records[0].dtype.kind in "ui" and records[1].dtype.kind in "ui"
    if found < _APART and (not whole or (large >= small).all()):
        raise PairsError(
            "denoise_dae(pairs=...): one signal contains the counts of the other: their difference has "
            f"{found:.2f} times the noise of independent ones, so a model of one predicts the noise of the other. "
            "Pass what they do not share: pairs=(a, s - a) where s contains a."
        )


@dataclass
class PairedRecordings:
    """Two records, split: the first is the training fold, the second target, validation and test fold.

    Attributes
    ----------
    streams
        The records.
    target
        (n, E) what networks are trained to predict, on the scale of the whole data; known after `folds`.
    fraction, target_fraction
        Share of the counts of the map in the first record, and in `target`.
    """

    streams: tuple[SpectrumStream, SpectrumStream]
    target: np.ndarray = field(init=False, repr=False)
    fraction: float = field(default=1.0, init=False)
    target_fraction: float = field(default=1.0, init=False)

    def folds(self, summary: MapSummary, estimate: NoiseEstimate, noise: str, seed: int) -> Folds:
        """Read the sample of a summary from both records and make folds of it.

        Parameters
        ----------
        summary, estimate
            Of the map that is denoised.
        noise
            Name of the noise model, as asked for.
        seed
            Of the splits.

        Raises
        ------
        PairsError
            A record is empty, or not finite where the map is; both are the same, or one contains the other.
        """
        pixels = summary.sample_pixels
        total = summary.sample.mean(axis=0, dtype=np.float64).sum()
        first, second = (self._read(stream, summary) for stream in self.streams)
        if np.array_equal(first, second):
            raise PairsError(
                "denoise_dae(pairs=...): both signals hold the same counts, so one tells nothing of the "
                "noise of the other. Record the area twice, sum odd and even frames, or leave pairs out."
            )
        shares = [float(rows.mean(axis=0, dtype=np.float64).sum() / total) for rows in (first, second)]
        if not min(shares) > 0:
            raise PairsError(
                f"denoise_dae(pairs=...): the pairs hold {shares[0]:.3g} and {shares[1]:.3g} times the "
                "counts of the signal. Both need counts, e.g. the sums of the odd and of the even frames."
            )
        ways = ((first, (1 / N_PARTS,) * N_PARTS), (second, (TRAIN, VALIDATION, TEST)))
        split, variances = [], []
        for (rows, fractions), number in zip(ways, _STREAMS, strict=True):
            own = estimate_noise(rows, noise=noise, minimum=float(rows.min()))
            folds = own.model.split(rows, pixels, fractions, seed=seed, stream=number, mean=own.mean)
            variances.append(own.model.variance(rows.mean(axis=0, dtype=np.float64)))
            split.append([fold.astype(np.float32) for fold in folds])
        _check_apart((first, second), variances)
        parts, (target, *held_out) = split
        self.fraction, self.target_fraction = shares[0], shares[1] * TRAIN
        self.target = target / np.float32(self.target_fraction)
        scaled = [part * np.float32(TRAIN / shares[0]) for part in parts]
        scaled += [fold / np.float32(shares[1]) for fold in held_out]
        return Folds.of(scaled, pixels, estimate.model, mean=estimate.mean)

    @staticmethod
    def _read(stream: SpectrumStream, summary: MapSummary) -> np.ndarray:
        wanted, channels = summary.sample_pixels, summary.channels

        def sampled(rows: np.ndarray, pixels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            inside = np.isin(pixels, wanted)
            return [(pixels[inside], rows[inside][:, channels])]

        found, rows = map(np.concatenate, zip(*stream.fold(sampled, operator.add, label="Pairs"), strict=True))
        rows = rows[np.argsort(found)]
        if not np.isfinite(rows).all():
            raise PairsError(
                "denoise_dae(pairs=...): the pairs hold NaN or infinite values where the signal does not. "
                "Mask such spectra, navigation_mask=..., or mend them."
            )
        return rows

    def draws(self, data: TrainingData) -> Draws:
        """Return parts of the first recording as inputs and a part of the second as target.

        Parameters
        ----------
        data
            Of the first recording; its `fraction` is that of it.
        """
        parts = data.fold_parts
        inputs = [parts[:, list(seen)].sum(axis=1) * np.float32(N_PARTS / len(seen) / TRAIN) for seen in _INPUTS]
        fractions = np.array([data.fraction * len(seen) / N_PARTS for seen in _INPUTS])
        return Draws(np.stack(inputs, axis=1), fractions, data.fold_basis.project(self.target), self.target_fraction)
