"""What a region's residual may be: its energy, and the elements whose lines fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
import scipy.optimize

from hyperspy_specml.anomaly._scan import gain_of, unit_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hyperspy_specml.statistics import NoiseModel

_SIGMAS = np.sqrt(8 * np.log(2))  # line width over standard deviation
_ROUNDS = 4  # of a fit whose weights follow it: more change nothing that is seen


def peak_channel(residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray, window: slice) -> int:
    """Return the channel in a window at which a residual, summed over the line shape, is strongest.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region.
    line_width
        (E,) in channels.
    window
        Where to look.
    """
    sigma = float(np.mean(line_width[window])) / _SIGMAS
    signal = scipy.ndimage.gaussian_filter1d(residual.astype(np.float64), sigma)
    noise = scipy.ndimage.gaussian_filter1d(variance.astype(np.float64), sigma)
    strength = np.abs(signal[window]) / np.sqrt(np.maximum(noise[window], 1e-300))
    return window.start + int(np.argmax(strength))


def line_evidence(
    residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray,
    families: Mapping[str, Sequence[Sequence[tuple[float, float]]]], noise: NoiseModel,
) -> dict[str, float]:  # fmt: skip
    """Return by how much each element's lines, fitted with positive amplitudes, lower the deviance.

    Less two for each family, whose amplitude is free: Akaike's way to compare few lines with many. Counts
    of a line are noisy themselves: where nothing was expected, a few of them would outweigh all the rest.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region; the variance is that of what was expected.
    line_width
        (E,) in channels.
    families
        For each element its families of lines: (channel, weight) of each line, fixed within a family.
    noise
        Noise model.
    """
    blur = float(np.mean(line_width)) / _SIGMAS
    excess = scipy.ndimage.gaussian_filter1d(np.maximum(residual, 0).astype(np.float64), blur)
    variance = np.maximum(variance, 1e-12)
    unit, gain = unit_of(variance, noise), gain_of(noise)
    mean = variance / unit**2
    counts = np.maximum(mean + residual / unit, 0)
    channels = np.arange(len(residual))
    evidence = {}
    for element, groups in families.items():
        shapes = []
        for group in groups:
            shape = np.zeros(len(residual))
            for channel, weight in group:
                sigma = line_width[int(np.clip(round(channel), 0, len(residual) - 1))] / _SIGMAS
                shape += weight / sigma * np.exp(-0.5 * ((channels - channel) / sigma) ** 2)
            shapes.append(shape)
        along = np.stack(shapes, axis=1)
        fitted = excess
        for _ in range(_ROUNDS):  # the noise is that of what is fitted
            weights = 1 / np.sqrt(variance + gain * fitted)
            amplitudes, _ = scipy.optimize.nnls(along * weights[:, None], residual * weights)
            fitted = along @ amplitudes
        added = fitted / unit
        evidence[element] = 2 * float(counts @ np.log1p(added / mean) - added.sum()) - 2 * len(groups)
    return evidence
