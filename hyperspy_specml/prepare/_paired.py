"""Folds of two independent records of the same area: no noise model is needed to hold counts back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import PairsError
from hyperspy_specml.statistics import N_PARTS, TEST, TRAIN, VALIDATION, Folds, estimate_noise

if TYPE_CHECKING:
    from hyperspy_specml.statistics import MapSummary, NoiseEstimate
    from hyperspy_specml.streaming import SpectrumStream

_STREAMS = (11, 12)  # of the random numbers that split them


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
    target: np.ndarray | None = field(default=None, repr=False)
    fraction: float = 1.0
    target_fraction: float = 1.0

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
            A record is empty, or not finite where the map is; both are the same.
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
        parts = self._split(first, pixels, noise, (1 / N_PARTS,) * N_PARTS, seed, _STREAMS[0])
        target, choose, report = self._split(second, pixels, noise, (TRAIN, VALIDATION, TEST), seed, _STREAMS[1])
        self.fraction, self.target_fraction = shares[0], shares[1] * TRAIN
        self.target = target / np.float32(self.target_fraction)
        scaled = tuple(part * np.float32(TRAIN / shares[0]) for part in parts)
        variance = None
        if estimate.model.name != "poisson":
            mean = np.zeros(first.shape[1]) if estimate.mean is None else estimate.mean
            variance = estimate.model.variance(mean).astype(np.float32)
            variance = np.maximum(variance, 1e-6 * variance.mean())
        mean = sum(part.mean(axis=0, dtype=np.float64) for part in scaled) / TRAIN
        choose, report = (fold / np.float32(shares[1]) for fold in (choose, report))
        return Folds(scaled, choose, report, pixels, estimate.model, variance, mean)

    @staticmethod
    def _read(stream: SpectrumStream, summary: MapSummary) -> np.ndarray:
        found, rows = stream.fold(_Sample(summary.sample_pixels, summary.channels), _joined, label="Pairs")
        rows = rows[np.argsort(found)]
        if not np.isfinite(rows).all():
            raise PairsError(
                "denoise_dae(pairs=...): the pairs hold NaN or infinite values where the signal does not. "
                "Mask such spectra, navigation_mask=..., or mend them."
            )
        return rows

    @staticmethod
    def _split(
        rows: np.ndarray, pixels: np.ndarray, noise: str, fractions: tuple[float, ...], seed: int, stream: int
    ) -> list[np.ndarray]:
        own = estimate_noise(rows, noise=noise, minimum=float(rows.min()))
        folds = own.model.split(rows, pixels, fractions, seed=seed, stream=stream, mean=own.mean)
        return [fold.astype(np.float32) for fold in folds]


@dataclass(frozen=True)
class _Sample:
    """The block function of the pass: flat indices and spectra of the sampled pixels."""

    wanted: np.ndarray
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.isin(pixels, self.wanted)
        return pixels[inside], np.asarray(rows[inside][:, self.channels])


def _joined(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
