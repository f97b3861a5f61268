"""Changes over repeated frames: damage, drift of the energy axis and intensity, told apart.

A frame is the sum of the spectra of one pass over the same pixels. Its intensity and the shift of its energy axis are
fitted; what is left in windows of energy is compared with a straight line over the frames. First and second derivative
along energy are projected out, so what the fit of the shift leaves is not taken for damage.

T frames, E channels, J windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from hyperspy_specml.statistics import Windows

# Frames from which a trend can be told, and within which the rate of false alarms holds.
LEAST_FRAMES, HORIZON = 5, 40
# Probability of a false alarm within the horizon, and the number of simulated scans that the limit is taken from.
_RISK, _SIMULATED = 0.05, 400
# Smoothing of the template along energy, in widths of a line: less than noise, less than half a width at half maximum.
_SMOOTHING = 0.2
# Fits of shift and intensity, one after the other with the template.
_ROUNDS = 3
# Channels in a line from which a shift can be measured: spectra of narrower ones cannot be interpolated.
_LEAST_WIDTH = 2.0
# Smallest expected counts of a channel in a fit, relative to the mean.
_FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class Trend:
    """What T frames say.

    Attributes
    ----------
    shift, shift_error
        (T,) channels by which the energy axis of each frame lies higher than that of the first, and standard errors; 0
        where lines are narrower than two channels.
    intensity
        (T,) counts of each frame over those of the first.
    slope, variance
        (E,) sums of residuals times time about its mean, and their variances; 0 where nothing changes.
    deviate
        (J,) slope of each window over the frames in units of its standard error.
    rate
        (J,) relative change of each window per frame.
    """

    shift: np.ndarray
    shift_error: np.ndarray
    intensity: np.ndarray
    slope: np.ndarray
    variance: np.ndarray
    deviate: np.ndarray
    rate: np.ndarray

    def of_shape(self, shape: np.ndarray) -> float:
        """Return how strongly a spectrum of this (E,) shape grows or decays, in standard deviations."""
        weight = shape / self.variance
        return float(weight @ self.slope / np.sqrt(max(float(weight @ shape), 1e-30)))


def trend(frames: np.ndarray, windows: Windows, *, line_width: float, start: np.ndarray | None = None) -> Trend:
    """Return what frames say.

    Parameters
    ----------
    frames
        (T, E) sums of counts.
    windows
        Of energy.
    line_width
        In channels.
    start
        Shifts of the first frames, where they have been fitted before; one more fit is enough then.
    """
    intensity = np.maximum(frames.sum(axis=1), 1.0)
    shift, error, n_rounds = np.zeros(len(frames)), np.zeros(len(frames)), _ROUNDS
    if start is not None and len(start):
        known, n_rounds = min(len(start), len(frames)), 1
        shift[:known], shift[known:] = start[:known], start[known - 1]
    for _ in range(n_rounds if line_width >= _LEAST_WIDTH else 0):
        template = _template(frames, shift, line_width)
        first = gaussian_filter1d(template, _SMOOTHING * line_width, order=1)
        for t, frame in enumerate(frames):
            mean = intensity[t] * _moved(template, shift[t])
            slope = -intensity[t] * _moved(first, shift[t])
            weight = 1 / np.maximum(mean, _FLOOR * mean.mean())
            information = max(float((slope**2 * weight).sum()), 1e-30)
            step = float(((frame - mean) * slope * weight).sum()) / information
            shift[t] += np.clip(step, -0.5 * line_width, 0.5 * line_width)
            error[t] = information**-0.5
        shift -= shift[0]
    template = _template(frames, shift, line_width)
    slope, variance = _slopes(frames, intensity, shift, template, line_width)
    every = slice(0, len(windows))
    sums, spread = (windows.sums(values[None], every)[0] for values in (slope, variance))
    relative = intensity / intensity[0]
    return Trend(shift, np.hypot(error, error[0]), relative, slope, variance, sums / np.sqrt(spread), sums / spread)


def _moved(spectrum: np.ndarray, by: float) -> np.ndarray:
    """Return the (E,) spectrum so many channels higher; cubic splines keep the width of lines, straight ones do not."""
    return scipy.ndimage.shift(spectrum, by, order=3, mode="nearest") if by else spectrum


def _template(frames: np.ndarray, shift: np.ndarray, line_width: float) -> np.ndarray:
    """Return the (E,) mean spectrum of aligned frames, in sum one."""
    aligned = sum(_moved(frame, -by) for by, frame in zip(shift, frames, strict=True))
    smooth = np.asarray(aligned, float)
    if line_width >= _LEAST_WIDTH:
        smooth = gaussian_filter1d(smooth, _SMOOTHING * line_width)
    return smooth / max(float(smooth.sum()), 1e-30)


def _slopes(
    frames: np.ndarray, intensity: np.ndarray, shift: np.ndarray, template: np.ndarray, line_width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (E,) sums of residuals times time, about its mean, and their variances; of aligned channels."""
    shapes = _derivatives(template, line_width)
    time = np.arange(len(frames), dtype=float)
    time -= np.average(time, weights=intensity)
    slope, variance = np.zeros((2, frames.shape[1]))
    for t, frame in enumerate(frames):
        here = np.stack([_moved(shape, shift[t]) for shape in shapes])
        root = 1 / np.sqrt(np.maximum(here[0], _FLOOR * here[0].mean()))
        fitted = np.linalg.lstsq((here * root).T, frame * root, rcond=None)[0] @ here
        slope += time[t] * _moved(frame - fitted, -shift[t])
        variance += time[t] ** 2 * intensity[t] * template
    return slope, np.maximum(variance, _FLOOR * variance.mean())


def _derivatives(template: np.ndarray, line_width: float) -> np.ndarray:
    if line_width < _LEAST_WIDTH:
        return template[None]
    sigma = _SMOOTHING * line_width
    return np.stack([template, *(gaussian_filter1d(template, sigma, order=order) for order in (1, 2))])


def null_maxima(frame: np.ndarray, windows: Windows, *, seed: int) -> np.ndarray:
    """Return sorted largest deviates of scans in which nothing changes.

    Parameters
    ----------
    frame
        (E,) mean counts of a frame.
    windows
        Of energy.
    seed
        Of the simulation.

    Returns
    -------
    (m,) the largest deviate of any window after any number of frames up to `HORIZON`
    """
    rng = np.random.default_rng(seed)
    deviation = np.sqrt(np.maximum(frame, _FLOOR * frame.mean()))
    variance = np.maximum(windows.sums(deviation[None] ** 2, slice(0, len(windows)))[0], 1e-30)
    found = np.zeros(_SIMULATED)
    time = np.arange(HORIZON, dtype=float)
    for some in np.array_split(np.arange(_SIMULATED), 20):
        sums = np.zeros((2, len(some), len(windows)))
        for t in time:
            rows = rng.standard_normal((len(some), len(frame)), np.float32) * deviation
            z = windows.sums(rows, slice(0, len(windows))) / np.sqrt(variance)
            sums += np.stack([z, t * z])
            if t + 1 >= LEAST_FRAMES:
                spread = np.sqrt((t + 1) * ((t + 1) ** 2 - 1) / 12)
                slope = (sums[1] - 0.5 * t * sums[0]) / spread
                found[some] = np.maximum(found[some], np.abs(slope).max(axis=1))
    return np.sort(found)


def limit_of(maxima: np.ndarray) -> float:
    """Return the deviate beyond which there is an alarm."""
    return float(np.quantile(maxima, 1 - _RISK))
