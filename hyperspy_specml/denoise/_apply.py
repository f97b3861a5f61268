"""Fitted denoisers on maps: the one of a training, or another one without a fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.denoise._restore import Denoised, check_removed
from hyperspy_specml.exceptions import NegativeCountsError, TooFewSpectraError
from hyperspy_specml.models import FittedDenoiser, encode_map, noise_along
from hyperspy_specml.statistics import MASKED, USED, PoissonNoise, count_states

if TYPE_CHECKING:
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream


def denoise_own_map(stream: SpectrumStream, denoiser: FittedDenoiser, summary: MapSummary) -> Denoised:
    """Denoise the spectra that a denoiser was fitted to; the file is read once.

    Parameters
    ----------
    stream
        The spectra.
    denoiser
        Fitted to all of their counts.
    summary
        Of the map.
    """
    with stream.progress.enter("Project", 0.5):
        (scores,), _ = encode_map(stream, (denoiser,), summary.channels, summary.pixel_state)
    valid = summary.pixel_state == USED
    with stream.progress.enter("Denoise"):
        scores[valid] = _denoised(stream, denoiser, np.where(valid[:, None], scores, np.float32(0)), valid)
    return Denoised(denoiser, scores, summary.pixel_state, summary.moments.mean)


def apply_denoiser(
    stream: SpectrumStream, denoiser: FittedDenoiser, *, channels: np.ndarray, noise: NoiseModel,
    mean: np.ndarray, masked: np.ndarray | None = None, protect: bool = False,
) -> Denoised:  # fmt: skip
    """Denoise the spectra of another map than the one of the training.

    They are scaled to the intensity of the training map; the noise of the map sets how strongly they are
    denoised. The file is read twice, and twice more where removed signal is restored.

    Parameters
    ----------
    stream
        The spectra.
    denoiser
        Fitted.
    channels
        (all channels,) bool, the channels that it uses; no others are looked at.
    noise, mean
        Noise model and (E in use,) mean spectrum of the training map.
    masked
        (*navigation,) bool, pixels to leave out.
    protect
        Whether removed signal that noise cannot explain is restored.

    Returns
    -------
    the map; its mean is the part of the mean spectrum that the basis describes

    Raises
    ------
    TooFewSpectraError
        No spectrum can be used.
    NegativeCountsError
        The denoiser is one of counts, and the mean spectrum is not positive.
    """
    progress = stream.progress
    with progress.enter("Project", 0.4):
        (scores,), state = encode_map(stream, (denoiser,), channels)
    if masked is not None:
        state[masked.reshape(-1)] = MASKED
        scores[state == MASKED] = np.nan
    with progress.enter("Denoise", 0.3):
        denoised = _rescaled(stream, Denoised(denoiser, scores, state, mean), noise)
    with progress.enter("Check"):
        return check_removed(stream, denoised, noise, channels, protect=protect)


def _rescaled(stream: SpectrumStream, noisy: Denoised, noise: NoiseModel) -> Denoised:
    """Return the denoised map of noisy scores, whose mean so far is that of the training map."""
    denoiser, scores, mean, valid = noisy.model, noisy.scores, noisy.mean, noisy.used
    assert isinstance(denoiser, FittedDenoiser)
    if not valid.any():
        raise TooFewSpectraError(
            f"denoise_dae(model=...): no spectrum can be used ({count_states(noisy.pixel_state)}). A channel "
            "that is not finite is enough: train without it, signal_mask=..., or replace what is not finite, "
            "s.data = np.nan_to_num(s.data)."
        )
    basis = denoiser.basis
    here = basis.spectra(scores[valid].mean(axis=0, dtype=np.float64)[None])[0]
    if isinstance(noise, PoissonNoise) and not here.sum() > 0:
        raise NegativeCountsError(
            "denoise_dae(model=...): the model was trained on counts, but the mean spectrum of the signal has "
            f"a sum of {here.sum():.3g}. Undo the background or dark subtraction, or train on such data."
        )
    ratio = _relative_intensity(here, mean, noise)
    # The scores of a spectrum of zeros; they are not 0 for a basis about a mean spectrum.
    zero = basis.project(np.zeros((1, len(mean)), np.float32))
    scaled = np.where(valid[:, None], (scores - zero) / np.float32(ratio) + zero, np.float32(0))
    fitting = denoiser.with_noise(noise_along(basis, noise, here) / ratio)
    clean = _denoised(stream, fitting, scaled, valid)
    scores[valid] = (clean - zero) * np.float32(ratio) + zero
    return replace(noisy, mean=here, relative_intensity=ratio)


def _denoised(stream: SpectrumStream, denoiser: FittedDenoiser, scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the denoised scores of the valid pixels out of (n_pixels, P)."""
    shape = stream.navigation_shape
    maps, there = scores.reshape(*shape, -1), valid.reshape(shape)
    clean = denoiser.denoise_map(maps, there, stream.memory_budget, stream.progress)
    return clean.reshape(scores.shape)[valid]


def _relative_intensity(here: np.ndarray, mean: np.ndarray, noise: NoiseModel) -> float:
    """Return how much brighter a map is than the training map; 1 for noise that does not depend on it."""
    counted = noise.variance(2 * np.abs(mean)).sum() > noise.variance(np.abs(mean)).sum()
    if not counted or here.sum() <= 0 or mean.sum() <= 0:
        return 1.0
    return float(here.sum() / mean.sum())
