"""Fitted denoisers on maps that nobody has looked at yet: one pass, nothing fitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.models import LinearModel, apply_models, denoise_map, noise_along
from hyperspy_specml.statistics import MASKED, SATURATED, USED

if TYPE_CHECKING:
    from hyperspy_specml.models import Denoiser
    from hyperspy_specml.statistics import NoiseModel
    from hyperspy_specml.streaming import SpectrumStream


@dataclass(frozen=True)
class Applied:
    """A map denoised by what was learnt elsewhere.

    Attributes
    ----------
    scores
        (n_pixels, P) denoised scores along the denoiser's axes; NaN for spectra not used, 0 for empty ones.
    pixel_state
        (n_pixels,) state of every spectrum.
    mean
        (E,) mean spectrum, as far as the axes can describe it.
    dose
        Of this map over that of the training map.
    """

    scores: np.ndarray = field(repr=False)
    pixel_state: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    dose: float

    @property
    def used(self) -> np.ndarray:
        """(n_pixels,) bool: the spectrum was denoised."""
        return np.isin(self.pixel_state, (USED, SATURATED))


def apply_denoiser(
    stream: SpectrumStream, denoiser: Denoiser, *, channels: np.ndarray, noise: NoiseModel, mean: np.ndarray,
    masked: np.ndarray | None = None, memory_budget: int,
) -> Applied:  # fmt: skip
    """Denoise the spectra of a stream.

    They are brought to the dose of the training map, and the denoiser is told of their noise there.

    Parameters
    ----------
    stream
        The spectra; read once.
    denoiser
        Fitted.
    channels
        (E,) bool, the channels that it uses; no others are looked at.
    noise, mean
        Noise model and (E in use,) mean spectrum of the training map.
    masked
        (*navigation,) bool, pixels to leave out.
    memory_budget
        Bytes that filters and networks may use on the way.
    """
    basis = denoiser.basis
    (scores,), state = apply_models(stream, (LinearModel(basis),), channels)
    if masked is not None:
        state[masked.reshape(-1)] = MASKED
        scores[state == MASKED] = np.nan
    valid = np.isin(state, (USED, SATURATED))
    if not valid.any():
        return Applied(scores, state, mean, 1.0)
    here = basis.spectra(scores[valid].mean(axis=0, dtype=np.float64)[None])[0]
    dose = _dose(here, mean, noise)
    denoiser = denoiser.with_noise(noise_along(basis, noise, here) / dose)
    zero = basis.project(np.zeros((1, len(mean)), np.float32))  # the scores of nothing: not 0 about a mean
    values = np.where(valid[:, None], (scores - zero) / np.float32(dose) + zero, np.float32(0))
    shape = stream.navigation_shape
    clean = denoise_map(
        denoiser, values.reshape(*shape, -1), valid.reshape(shape), memory_budget=memory_budget
    ).reshape(scores.shape)
    scores[valid] = (clean[valid] - zero) * np.float32(dose) + zero
    return Applied(scores, state, here, dose)


def _dose(here: np.ndarray, mean: np.ndarray, noise: NoiseModel) -> float:
    """Return how much brighter a map is than that of the training; counts tell, a constant noise does not."""
    counted = noise.variance(2 * np.abs(mean)).sum() > noise.variance(np.abs(mean)).sum()
    if not counted or here.sum() <= 0 or mean.sum() <= 0:
        return 1.0
    return float(here.sum() / mean.sum())
