"""Totals of denoised spectra, from counts averaged over neighbouring pixels where the denoiser knows no better.

One spectrum of few counts does not tell its own total: as it is, the total carries the noise of all counts; drawn to
the mean of the map, or of a wide neighbourhood, dim pixels become too bright and bright ones too dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from hyperspy_specml.models import CLEAR, MOST_SCAN_AXES
from hyperspy_specml.statistics import TRAIN, PoissonNoise, paired

if TYPE_CHECKING:
    from hyperspy_specml.models import Tiles
    from hyperspy_specml.prepare import TrainingData

# Standard deviations, in pixels, of the Gaussian averages that are tried.
WIDTHS = (0.0, 0.5, 0.8, 1.2, 1.8, 2.2, 2.7, 3.3, 4.0, 5.0, 6.0, 8.0)
# Times that the average of what is missing is given back: where a Gaussian average takes 1 - g of a wave,
# this one takes the third power of that (twicing, J. W. Tukey, once more): hills and valleys stay, at little noise.
_GIVEN_BACK = 2
# Ratio of neighbouring levels of intensity at which sums are compared: noise alone must not move spectra from one
# to the next.
_LEVEL = 4.0
# Counts at a level that its sum is known by to a tenth.
_LEAST_AT_LEVEL = 100
# Standard errors beyond which denoised sums are farther from the counts than noise explains.
_CLEAR = 3.0
# What an average may lose against the best one, relative to what noise costs that: noise is random, but what is taken
# from hills and valleys is wrong in the same way wherever these are.
_LOSS = 0.5
# The same, relative to what noise costs a spectrum that keeps its own counts, where spectra are to be seen one by one.
_LOSS_ALONE = 0.1
# Smallest weight of the pixels with a spectrum in an average; and total that is scored, relative to the mean.
_LEAST_COVER, _LEAST_TOTAL = 1e-6, 1e-3


def kept_totals(total: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return (n,) sums of spectra that hold as many counts as were measured, at each level of intensity.

    Parameters
    ----------
    total, measured
        (n,) sums of denoised spectra, none negative, and of the counts.
    """
    level = np.round(np.log(np.maximum(total, 1e-6 * total.mean()) / total.mean()) / np.log(_LEVEL))
    _, group = np.unique(level, return_inverse=True)
    for faint in range(group.max()):
        if max(measured[group == faint].sum(), total[group == faint].sum()) < _LEAST_AT_LEVEL:
            group[group == faint] = faint + 1
    kept = np.zeros_like(total)
    for g in np.unique(group):
        here = group == g
        kept[here] = _drawn_to_counts(total[here], measured[here])
    return kept


def _drawn_to_counts(total: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return (n,) sums of spectra, in all as large as the measured ones, of which the noise is Poisson noise."""
    total = total * (measured.sum() / max(total.sum(), 1e-30))
    excess = np.square(measured - total) - total
    error = excess.std() / np.sqrt(len(total))
    if excess.mean() > _CLEAR * error and error > 0:
        variance = excess.mean() / np.square(total).mean()  # of the true sums, relative to the denoised ones
        total = (measured + 1 / variance) / (1 + 1 / (variance * np.maximum(total, 1e-6)))
        total *= measured.sum() / total.sum()
    return total


def average_totals(totals: np.ndarray, valid: np.ndarray, width: float) -> np.ndarray:
    r"""Return totals averaged over the valid pixels around each, none negative; those of other pixels are 0.

    Parameters
    ----------
    totals, valid
        (\*navigation,) totals, and bool. Slower scan axes than the third fastest make maps of their own.
    width
        Standard deviation of the Gaussian average in pixels; 0 for none.
    """
    return np.maximum(_averaged(totals, valid, width), 0)


def _averaged(values: np.ndarray, valid: np.ndarray, width: float) -> np.ndarray:
    """Return averages of values, linear in these; see `average_totals`."""
    widths = [0.0] * max(0, valid.ndim - MOST_SCAN_AXES) + [width] * min(valid.ndim, MOST_SCAN_AXES)
    cover = np.maximum(gaussian_filter(valid.astype(np.float64), widths, mode="constant"), _LEAST_COVER)
    known = np.where(valid, values, 0).astype(np.float64)
    found = np.zeros_like(known)
    for _ in range(_GIVEN_BACK + 1):
        found += np.where(valid, gaussian_filter(known - found, widths, mode="constant") / cover, 0)
    return found


def _noise_left(valid: np.ndarray, width: float) -> float:
    """Return the variance of averages of independent values of variance 1."""
    noise = np.random.default_rng(0).standard_normal(valid.shape)
    return float(np.square(_averaged(noise, valid, width)[valid]).mean())


def choose_width(data: TrainingData, tiles: Tiles, totals: np.ndarray, *, alone: bool = False) -> float | None:
    """Return the narrowest average of counts that predicts counts it has not seen about as well as any.

    Parameters
    ----------
    data
        Training data of the map.
    tiles
        Its sample, laid out.
    totals
        (n,) totals of the spectra that a denoiser makes of the training fold, on the scale of the whole data.
    alone
        Whether the denoiser sees spectra one by one: then as few neighbours as can be say what their totals are.

    Returns
    -------
    one of `WIDTHS`; None where these totals are clearly better than that average, or where nothing tells
    """
    noise, folds = data.estimate.model, data.folds
    if not isinstance(noise, PoissonNoise) or data.hold_out != "exact":
        return None
    parts = np.stack([part.sum(axis=1, dtype=np.float64) for part in (*folds.parts, folds.validation)])
    fractions = np.array(folds.fractions[: len(parts)])

    def deviance(predicted: np.ndarray, part: int) -> np.ndarray:
        least = _LEAST_TOTAL * max(float(predicted.mean()), 1e-30)
        expected = fractions[part] * np.maximum(predicted, least)
        return noise.deviance(parts[part][:, None], expected[:, None], None)

    def average(unseen: int, width: float) -> np.ndarray:
        seen = np.delete(parts, unseen, axis=0).sum(axis=0) / np.delete(fractions, unseen).sum()
        maps = zip(tiles.maps(seen), tiles.valid, strict=True)
        return tiles.flat(np.stack([average_totals(*one, width) for one in maps]))

    scores = [sum(deviance(average(p, width), p).mean() for p in range(len(parts))) for width in WIDTHS]
    best = int(np.argmin(scores))
    loss = _LOSS_ALONE if alone else _LOSS * _noise_left(tiles.valid[0], WIDTHS[best])
    lost = loss * (fractions / (fractions.sum() - fractions)).sum()
    width = next(w for w, score in zip(WIDTHS, scores, strict=True) if score <= scores[best] + lost)
    train = parts[:-1].sum(axis=0)
    own = kept_totals(np.maximum(TRAIN * totals, 0), train) / TRAIN
    last = len(parts) - 1
    pair = paired(deviance(own, last), deviance(average(last, width), last))
    return None if pair.difference < -CLEAR * pair.standard_error else width
