"""Fitted denoisers on maps: the one of a training, or another one without a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.denoise._restore import Denoised, check_removed, is_used
from hyperspy_specml.exceptions import NegativeCountsError, TooFewSpectraError
from hyperspy_specml.models import encode_map, noise_along
from hyperspy_specml.statistics import MASKED, USED, PoissonNoise, count_states, line_width

if TYPE_CHECKING:
    from hyperspy_specml.models import FittedDenoiser
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream


def denoise_own_map(stream: SpectrumStream, denoiser: FittedDenoiser, summary: MapSummary, width: float) -> Denoised:
    """Denoise the spectra that a denoiser was fitted to; the file is read once.

    Parameters
    ----------
    stream
        The spectra.
    denoiser
        Fitted to all of their counts.
    summary
        Of the map.
    width
        Of the sharpest line, in channels.
    """
    with stream.progress.enter("Project", 0.5):
        (scores,), _ = encode_map(stream, (denoiser,), summary.channels, summary.pixel_state)
    valid = summary.pixel_state == USED
    with stream.progress.enter("Denoise"):
        scores[valid] = _denoised(stream, denoiser, np.where(valid[:, None], scores, np.float32(0)), valid)
    return Denoised(denoiser, scores, summary.pixel_state, width)


def apply_denoiser(
    stream: SpectrumStream, denoiser: FittedDenoiser, *, channels: np.ndarray, noise: NoiseModel,
    mean: np.ndarray, masked: np.ndarray | None = None, detector: np.ndarray | None = None,
    protect: bool = False,
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
    detector
        (all channels,) full width at half maximum of a line in channels, where the resolution is known.
    protect
        Whether removed signal that noise cannot explain is restored.

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
    here = _mean_spectrum(denoiser, scores, state, noise)
    ratio = _relative_intensity(here, mean, noise)
    width = line_width(here, noise, n_spectra=int(is_used(state).sum()), channels=channels, detector=detector)
    fitting = denoiser.with_noise(noise_along(denoiser.basis, noise, here) / ratio)
    with progress.enter("Denoise", 0.3):
        _denoise_scaled(stream, fitting, scores, is_used(state), ratio)
    denoised = Denoised(denoiser, scores, state, width, ratio)
    with progress.enter("Check"):
        return check_removed(stream, denoised, noise, channels, protect=protect)


def _mean_spectrum(denoiser: FittedDenoiser, scores: np.ndarray, state: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return the (E,) part of the mean spectrum of a map that the basis describes; refuse what has none."""
    used = is_used(state)
    if not used.any():
        raise TooFewSpectraError(
            f"denoise_dae(model=...): no spectrum can be used ({count_states(state)}). A channel that is not "
            "finite is enough: train without it, signal_mask=..., or replace what is not finite, "
            "s.data = np.nan_to_num(s.data)."
        )
    mean = denoiser.basis.spectra(scores[used].mean(axis=0, dtype=np.float64)[None])[0]
    if isinstance(noise, PoissonNoise) and not mean.sum() > 0:
        raise NegativeCountsError(
            "denoise_dae(model=...): the model was trained on counts, but the mean spectrum of the signal "
            f"has a sum of {mean.sum():.3g}. Undo the background or dark subtraction, or train on such data."
        )
    return mean


def _denoise_scaled(
    stream: SpectrumStream, denoiser: FittedDenoiser, scores: np.ndarray, used: np.ndarray, ratio: float
) -> None:
    """Denoise (n_pixels, P) scores in place, scaled as if the map were as bright as the training map."""
    n_channels = len(denoiser.basis.weights)
    # The scores of a spectrum of zeros; they are not 0 for a basis about a mean spectrum.
    zero = denoiser.basis.project(np.zeros((1, n_channels), np.float32))
    scaled = np.where(used[:, None], (scores - zero) / np.float32(ratio) + zero, np.float32(0))
    clean = _denoised(stream, denoiser, scaled, used)
    scores[used] = (clean - zero) * np.float32(ratio) + zero


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
