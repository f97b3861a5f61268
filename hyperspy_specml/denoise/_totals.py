"""Totals of denoised spectra that are no better than counts averaged over neighbouring pixels.

One spectrum of few counts does not tell its own total: as it is, the total carries the noise of all counts; drawn to
the mean of the map, or of a wide neighbourhood, dim pixels become too bright and bright ones too dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from hyperspy_specml.models import MOST_SCAN_AXES
from hyperspy_specml.statistics import TRAIN, VALIDATION, PoissonNoise, paired

if TYPE_CHECKING:
    from hyperspy_specml.models import Tiles
    from hyperspy_specml.prepare import TrainingData

# Standard deviations, in pixels, of the Gaussian averages that are tried.
WIDTHS = (0.0, 0.5, 0.8, 1.2, 1.8, 2.7, 4.0)
# Ratio of neighbouring levels of intensity at which sums are compared: noise alone must not move spectra from one
# to the next.
_LEVEL = 4.0
# Counts at a level that its sum is known by to a tenth.
_LEAST_AT_LEVEL = 100
# Standard errors beyond which denoised sums are farther from the counts than noise explains.
_CLEAR = 3.0
# What an average may lose against the best one, relative to what noise costs a spectrum that keeps its own counts:
# a narrow one has a little more noise, a wide one takes contrast from the map.
_LOSS = 0.1
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
    r"""Return totals averaged over the valid pixels around each; those of other pixels are 0.

    Parameters
    ----------
    totals, valid
        (\*navigation,) totals, and bool. Slower scan axes than the third fastest make maps of their own.
    width
        Standard deviation of the Gaussian average in pixels; 0 for none.
    """
    widths = [0.0] * max(0, valid.ndim - MOST_SCAN_AXES) + [width] * min(valid.ndim, MOST_SCAN_AXES)
    known = np.where(valid, totals, 0).astype(np.float64)
    total, cover = (gaussian_filter(v, widths, mode="constant") for v in (known, valid.astype(np.float64)))
    return np.where(valid, total / np.maximum(cover, _LEAST_COVER), 0)


def choose_width(data: TrainingData, tiles: Tiles, totals: np.ndarray) -> float | None:
    """Return the narrowest average of counts that predicts the totals of the validation fold about as well as any.

    Parameters
    ----------
    data
        Training data of the map.
    tiles
        Its sample, laid out.
    totals
        (n,) totals of the spectra that a denoiser makes of the training fold, on the scale of the whole data.

    Returns
    -------
    one of `WIDTHS`; None where no average is clearly better than these totals, or where nothing tells
    """
    noise, folds = data.estimate.model, data.folds
    if not isinstance(noise, PoissonNoise) or data.hold_out != "exact":
        return None
    counts = folds.validation.sum(axis=1, dtype=np.float64)[:, None]
    seen = tiles.maps(sum(part.sum(axis=1, dtype=np.float64) for part in folds.parts) / TRAIN)
    least = _LEAST_TOTAL * max(float(seen.mean()), 1e-30)

    def deviance(predicted: np.ndarray) -> np.ndarray:
        expected = np.asarray(VALIDATION * np.maximum(predicted, least), np.float64)
        return noise.deviance(counts, expected[:, None], None)

    maps = [*zip(seen, tiles.valid, strict=True)]
    averages = (tiles.flat(np.stack([average_totals(*one, width) for one in maps])) for width in WIDTHS)
    scores = np.stack([deviance(predicted) for predicted in averages])
    best = scores[scores.mean(axis=1).argmin()]
    own = paired(deviance(kept_totals(np.maximum(TRAIN * totals, 0), tiles.flat(TRAIN * seen)) / TRAIN), best)
    if own.difference <= own.standard_error:
        return None
    pairs = [paired(one, best) for one in scores]
    good = [pair.difference <= max(pair.standard_error, _LOSS * VALIDATION / TRAIN) for pair in pairs]
    return WIDTHS[good.index(True)]
