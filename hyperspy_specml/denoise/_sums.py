"""A basis of spectra averaged over neighbouring pixels: where these are alike, its vectors hold less noise.

At few counts the vectors of a faint, large area drown in the noise of single spectra. Averages over 3 x 3 pixels have
a ninth of that noise and nearly all of the signal of what is larger.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.denoise._held_out import HeldOutError
from hyperspy_specml.denoise._spatial import best_cheap_scores
from hyperspy_specml.statistics import moments_of, paired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyperspy_specml.models import Tiles
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.statistics import Moments

_SIDE = 3  # pixels
_AVERAGED = 1 << 22  # values at a time


def basis_of_sums(data: TrainingData, tiles: Tiles) -> TrainingData:
    """Return the data on the basis of averages over neighbouring pixels, where the validation fold prefers that.

    Bases are compared by what the best simple filters of the score maps along them predict: without filters, scores
    hold more noise than any basis can add.

    Parameters
    ----------
    data
        Training data of the map.
    tiles
        Its sample, laid out.

    Returns
    -------
    the same data where that is not better by more than a standard error, where nothing valid is held out, or where
    the sample is not the whole map: then the other spectra are worth more than averages
    """
    moments = data.summary.moments
    if data.hold_out == "none" or moments.rows is not None or moments.n > len(data.summary.sample):
        return data
    folds, held_out = data.folds, HeldOutError(data, "validation")
    scale = 1 / folds.train_share
    own = replace(moments, sums=folds.mean * moments.n)
    averaged = replace(own, products=_averaged(folds.train, tiles).scaled(scale).products)
    other = data.on(data.basis_of(averaged, data.smoothing))
    before, after = (held_out.of(*best_cheap_scores(one, tiles, held_out.scores)) for one in (data, other))
    pair = paired(after, before)
    if not pair.difference < -pair.standard_error:
        return data
    whole = replace(moments, products=_averaged(data.summary.sample.__getitem__, tiles).products)
    return replace(other, basis=data.basis_of(whole, data.smoothing))


def _averaged(spectra: Callable[[np.ndarray], np.ndarray], tiles: Tiles) -> Moments:
    """Return the moments of spectra averaged over the used ones among their neighbours.

    Parameters
    ----------
    spectra
        From n indices of the sample to (n, E) spectra.
    tiles
        The sample, laid out.
    """
    total = None
    for values in _averages(spectra, tiles):
        total = moments_of(values) if total is None else total.absorb(moments_of(values))
    assert total is not None
    return total


def _averages(spectra: Callable[[np.ndarray], np.ndarray], tiles: Tiles) -> Iterator[np.ndarray]:
    """Yield the (n, E) averages, some scan lines at a time."""
    n_channels, reach = spectra(np.zeros(1, int)).shape[1], _SIDE // 2
    for tile in tiles.rows:
        step = max(1, _AVERAGED // (n_channels * tile[0].size))
        for start in range(0, len(tile), step):
            first = max(0, start - reach)
            index = tile[first : start + step + reach]
            there = index >= 0
            maps = np.where(there[..., None], spectra(np.maximum(index, 0)), 0).astype(np.float32)
            sides = (_SIDE,) * index.ndim
            cover = scipy.ndimage.uniform_filter(there.astype(np.float32), sides, mode="constant")
            average = scipy.ndimage.uniform_filter(maps, (*sides, 0), mode="constant")
            inner = slice(start - first, start - first + step)
            yield average[inner][there[inner]] / cover[inner][there[inner]][:, None]
