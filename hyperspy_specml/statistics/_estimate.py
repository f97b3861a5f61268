"""Find out what noise the data have: its family, gain, readout and correlation along energy.

Differences of neighbouring pixels are only an upper bound of the noise, because structure differs too.
So low-rank structure is removed first and the rest is looked at.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

from hyperspy_specml.exceptions import NegativeCountsError, NotCountsError, OptionError
from hyperspy_specml.statistics._noise import NoiseModel, PoissonGaussianNoise, PoissonNoise, gaussian_noise
from hyperspy_specml.statistics._thinning import correlation_kernel

_logger = logging.getLogger(__name__)

NOISE_NAMES = ("auto", "poisson", "gaussian", "poisson-gaussian")
_POISSON_FANO = (0.9, 1.1)  # beyond it the halves of thinned counts correlate by more than 0.025
_MOST_ROWS = 4096  # spectra looked at: the estimates have a handful of parameters
_MOST_AXES = 48
_N_LAGS = 4
_MEDIAN_OF_SQUARES = 0.4549  # of a standard normal: median of chi-squared with one degree of freedom


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise model and what it was read from.

    Attributes
    ----------
    model
        The noise model.
    fano
        Variance over mean of the residuals; 1 for counts.
    mean
        (n, E) low-rank estimate of the mean of the spectra; None where the model does not need it.
    """

    model: NoiseModel
    fano: float
    mean: np.ndarray | None


def estimate_noise(rows: np.ndarray, *, noise: str = "auto", minimum: float = 0.0) -> NoiseEstimate:
    """Choose or complete a noise model.

    Parameters
    ----------
    rows
        (n, E) finite spectra.
    noise
        "auto" decides between the others: "poisson" for whole non-negative numbers whose variance is
        their mean, "gaussian" where the variance does not grow with the mean, else "poisson-gaussian".
    minimum
        Smallest value of the whole map.

    Raises
    ------
    OptionError
        Unknown name.
    NegativeCountsError, NotCountsError
        noise="poisson" for values that are negative or not whole.
    """
    if noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    whole = minimum >= 0 and _are_whole(rows)
    if noise == "poisson":
        _check_counts(minimum, whole)
        return NoiseEstimate(PoissonNoise(), 1.0, None)
    few = rows[:: max(1, len(rows) // _MOST_ROWS)][:_MOST_ROWS].astype(np.float64)
    mean, residual, freedom = _remove_structure(few, _first_variance(few, minimum))
    fano = _fano(mean, residual, freedom)
    correlation = _lag_correlation(residual)
    counts = whole and _POISSON_FANO[0] <= fano <= _POISSON_FANO[1] and abs(correlation[1]) < 0.1
    if noise == "auto" and counts:
        return NoiseEstimate(PoissonNoise(), fano, None)
    gain, readout = _gain_and_readout(mean, residual, freedom)
    for _ in range(2):  # the structure is found better once the noise is known, and the reverse
        model = PoissonGaussianNoise(gain, readout, tuple(correlation))
        mean, residual, freedom = _remove_structure(few, model.variance(few.mean(axis=0)), correlation)
        correlation = _lag_correlation(residual)
        gain, readout = _gain_and_readout(mean, residual, freedom)
    flat = gain * max(0.0, float(np.median(mean))) < 0.1 * readout**2
    if noise == "gaussian" or (noise == "auto" and flat):
        spread = float(np.sqrt(np.median(residual**2) / _MEDIAN_OF_SQUARES / freedom))
        return NoiseEstimate(gaussian_noise(spread, tuple(correlation)), fano, None)
    model = PoissonGaussianNoise(gain, readout, tuple(correlation))
    to_scores, to_spectra = _structure(few, model.variance(few.mean(axis=0)), correlation)
    low_rank = (rows.astype(np.float32) @ to_scores.astype(np.float32)) @ to_spectra.astype(np.float32)
    return NoiseEstimate(model, fano, np.maximum(low_rank, 0))


def _check_counts(minimum: float, whole: bool) -> None:
    if minimum < 0:
        raise NegativeCountsError(
            f"noise='poisson' needs counts, but the smallest value is {minimum:g}. Use noise='auto' or "
            "noise='poisson-gaussian', or undo the background or dark subtraction."
        )
    if not whole:
        raise NotCountsError(
            "noise='poisson' needs whole numbers (counts can be split exactly, scaled counts cannot). Use "
            "noise='auto' or noise='poisson-gaussian', or undo the normalisation."
        )


def _are_whole(rows: np.ndarray) -> bool:
    return rows.dtype.kind in "ui" or bool(np.all(rows == np.floor(rows)))


def _first_variance(rows: np.ndarray, minimum: float) -> np.ndarray:
    """Return a rough noise variance per channel: the mean for counts, else from neighbouring channels."""
    mean = rows.mean(axis=0)
    if minimum >= 0 and mean.max() > 0:
        return np.maximum(mean, 1e-3 * mean.mean())
    bend = rows[:, 1:-1] - 0.5 * (rows[:, :-2] + rows[:, 2:]) if rows.shape[1] > 2 else rows
    spread = np.median(bend**2) / _MEDIAN_OF_SQUARES / 1.5
    return np.full(rows.shape[1], spread if spread > 0 else max(rows.var(), 1e-300))


def _remove_structure(
    rows: np.ndarray, variance: np.ndarray, correlation: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return low-rank mean, residual, and the share of the noise variance that the residual keeps."""
    n, n_channels = rows.shape
    to_scores, to_spectra = _structure(rows, variance, correlation)
    mean = (rows @ to_scores) @ to_spectra
    rank = len(to_spectra)
    return mean, rows - mean, max(1e-3, (1 - rank / n_channels) * (1 - rank / n))


def _structure(
    rows: np.ndarray, variance: np.ndarray, correlation: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps (E, r) and (r, E) onto the axes that stand out of the noise, and back."""
    n, n_channels = rows.shape
    weights = 1 / np.sqrt(np.maximum(variance, 1e-6 * variance.mean()))
    white = rows * weights
    axes, values = _leading_axes(white)
    bulk = (np.einsum("ij,ij->", white, white) / n - values.sum()) / max(1, n_channels - len(values))
    # The largest eigenvalue of noise alone (Marchenko and Pastur), raised where noise is correlated:
    # then its own spectrum is not flat.
    edge = bulk * (1 + np.sqrt(n_channels / n)) ** 2 * _correlated_edge(correlation)
    rank = max(1, min(int((values > edge).sum()), min(n, n_channels) // 8))
    axes = axes[:, :rank]
    return axes * weights[:, None], axes.T / weights


def _leading_axes(white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, n_channels = white.shape
    size = min(n, n_channels)
    subset = (max(0, size - _MOST_AXES), size - 1)
    if n_channels <= n:
        values, axes = scipy.linalg.eigh(white.T @ white / n, subset_by_index=subset)
    else:
        values, left = scipy.linalg.eigh(white @ white.T / n, subset_by_index=subset)
        axes = white.T @ left / np.sqrt(np.maximum(values * n, 1e-300))
    return axes[:, ::-1], values[::-1]


def _correlated_edge(correlation: np.ndarray | None) -> float:
    if correlation is None:
        return 1.0
    power = np.abs(np.fft.rfft(correlation_kernel(correlation), 512)) ** 2
    return float(max(1.0, power.max()))


def _fano(mean: np.ndarray, residual: np.ndarray, freedom: float) -> float:
    """Return variance over mean: the median over groups of channels, which edges and glitches are not."""
    order = np.argsort(mean.mean(axis=0))
    groups = np.array_split(order, min(32, len(order)))
    ratios = [
        (residual[:, g] ** 2).sum() / mean[:, g].sum() / freedom for g in groups if mean[:, g].sum() > 0
    ]
    return float(np.median(ratios)) if ratios else 0.0


def _lag_correlation(residual: np.ndarray) -> np.ndarray:
    """Return the noise correlation of channels 0 to 4 apart; values within its own noise become 0."""
    scale = np.sqrt(np.mean(residual**2, axis=0))
    white = residual / np.where(scale > 0, scale, 1)
    lags = [1.0]
    for lag in range(1, min(_N_LAGS, residual.shape[1] // 4) + 1):
        # The median over channels: a misfitted edge correlates strongly, but in few channels.
        lags.append(float(np.median(np.mean(white[:, lag:] * white[:, :-lag], axis=0))))
    lags += [0.0] * (2 - len(lags))
    noise = 5 / np.sqrt(residual.size)
    keep = np.flatnonzero(np.abs(lags) > max(0.02, noise))
    return np.array(lags[: max(2, keep.max() + 1)])


def _gain_and_readout(mean: np.ndarray, residual: np.ndarray, freedom: float) -> tuple[float, float]:
    """Fit variance = gain * mean + readout**2 to binned squared residuals."""
    values, squares = mean.reshape(-1), residual.reshape(-1) ** 2 / freedom
    step = max(1, len(values) // 2_000_000)
    order = np.argsort(values[::step], kind="stable")
    bins = np.array_split(order, 48)
    centres = np.array([values[::step][b].mean() for b in bins if len(b)])
    spreads = np.array([_typical_square(squares[::step][b]) for b in bins if len(b)])
    if not np.any(spreads > 0):
        return 0.0, 1.0
    design = np.stack([np.maximum(centres, 0), np.ones_like(centres)], axis=1)
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    fitted = np.maximum(spreads, 0.01 * spreads.mean())
    for _ in range(5):  # squared residuals scatter in proportion to the variance itself
        solution, _ = scipy.optimize.nnls(design / scale / fitted[:, None], spreads / fitted)
        fitted = np.maximum(design / scale @ solution, 0.01 * spreads.mean())
    gain, offset = solution / scale
    return float(gain), float(np.sqrt(offset))


def _typical_square(squares: np.ndarray) -> float:
    """Return the variance of normal values from their squares: by the median, unless they are sparse counts."""
    robust = np.median(squares) / _MEDIAN_OF_SQUARES
    trimmed = np.mean(squares[squares <= np.quantile(squares, 0.99)]) / 0.93  # a normal keeps 93 % there
    # Few counts per channel make mostly small residuals and rare large ones: there the median is no scale.
    return float(robust if robust > 0.5 * trimmed else trimmed)
