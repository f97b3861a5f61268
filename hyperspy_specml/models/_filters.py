"""Simple spatial filters of score maps, as strong as the noise: what every denoiser has to beat.

Maps come with noise of variance 1, whatever the dose, so one set of strengths serves all doses. Pixels that
are not there neither give nor take: averages are normalised by what they cover.

References
----------
H. Knutsson, C.-F. Westin, CVPR 1993, 515 (normalised convolution);
A. Chambolle, J. Math. Imaging Vis. 20 (2004) 89 (total variation);
A. Buades, B. Coll, J.-M. Morel, CVPR 2005, 60 (non-local means).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDTHS = (0.5, 0.8, 1.2, 1.8, 2.7, 4.0, 6.0)  # pixels
_ALONG = (1.0, 3.0)  # pixels, along the fastest scan axis: scans drift and jump from line to line
_VARIATION = (0.5, 1.0, 2.0, 3.0)  # standard deviations of the noise
_PATCHES = (
    (3, 0.6),
    (3, 0.8),
    (5, 0.8),
)  # patch size in pixels, strength in standard deviations of the noise
_SEARCHED = {1: 31, 2: 7, 3: 3}  # pixels to each side, by the number of scan axes
_FAINT = 0.05  # weight, among the likenesses of non-local means, of components that are mostly noise
_FILL = 2.0  # pixels: width of the average that stands for missing pixels where a filter needs all
_ITERATIONS = 100
HALO = 24  # pixels beyond which no filter reaches, or not noticeably


@dataclass(frozen=True)
class Filter:
    r"""One filter.

    Attributes
    ----------
    name
        For reports.
    function
        From (\*tile, P) maps, `valid` and the maps without gaps to filtered maps.
    cheap
        Takes milliseconds.
    """

    name: str
    function: Callable[[Maps], np.ndarray]
    cheap: bool = True


@dataclass(frozen=True)
class Maps:
    r"""Score maps of one tile with noise of variance 1.

    Attributes
    ----------
    values
        (\*tile, P) float32, 0 where not valid.
    valid
        (\*tile,) bool.
    centre
        (P,) what a pixel is without any knowledge of it.
    n_strong
        Components that stand out of the noise: the first ones.
    """

    values: np.ndarray
    valid: np.ndarray
    centre: np.ndarray
    n_strong: int

    def average(self, widths: Sequence[float]) -> np.ndarray:
        """Return Gaussian averages over the valid pixels, with one standard deviation per scan axis."""
        smooth = gaussian_filter(self.values, (*widths, 0))
        if self.valid.all():
            return smooth
        cover = gaussian_filter(self.valid.astype(np.float32), widths)[..., None]
        return np.where(cover > 1e-6, smooth / np.maximum(cover, 1e-6), self.centre).astype(np.float32)

    def filled(self) -> np.ndarray:
        """Return the maps with averages in place of what is missing."""
        if self.valid.all():
            return self.values
        return np.where(self.valid[..., None], self.values, self.average((_FILL,) * self.valid.ndim))


def filters(n_axes: int, *, cheap: bool = False) -> tuple[Filter, ...]:
    """Return the filters for maps of so many scan axes; the first one does nothing, the second all it can.

    Parameters
    ----------
    n_axes
        One to three.
    cheap
        Only those that take no time.
    """
    found = [Filter("unfiltered", lambda maps: maps.values), Filter("mean", _constant)]
    found += [Filter(f"gaussian {width:g}", _Gaussian((width,) * n_axes)) for width in _WIDTHS]
    if n_axes > 1:
        still = (0.0,) * (n_axes - 1)
        found += [Filter(f"gaussian {width:g} along lines", _Gaussian((*still, width))) for width in _ALONG]
    found += [Filter(f"total variation {w:g}", _Variation(w), cheap=False) for w in _VARIATION]
    found += [Filter(f"non-local means {p}, {h:g}", _NonLocal(p, h), cheap=False) for p, h in _PATCHES]
    return tuple(f for f in found if f.cheap or not cheap)


def filter_stack(
    maps: np.ndarray, valid: np.ndarray, bank: Sequence[Filter], *, centre: np.ndarray, n_strong: int
) -> np.ndarray:
    r"""Apply filters to score maps with noise of variance 1.

    Parameters
    ----------
    maps, valid
        (T, \*tile, P) float32, 0 where not valid, and (T, \*tile) bool.
    bank
        S filters.
    centre, n_strong
        See `Maps`.

    Returns
    -------
    (S, T, \*tile, P) float32, 0 where not valid
    """
    stack = np.empty((len(bank), *maps.shape), np.float32)
    for t in range(len(maps)):
        tile = Maps(maps[t], valid[t], centre.astype(np.float32), n_strong)
        for s, one in enumerate(bank):
            stack[s, t] = one.function(tile)
    stack *= valid[..., None]
    return stack


def _constant(maps: Maps) -> np.ndarray:
    return np.broadcast_to(maps.centre, maps.values.shape)


@dataclass(frozen=True)
class _Gaussian:
    widths: tuple[float, ...]

    def __call__(self, maps: Maps) -> np.ndarray:
        return maps.average(self.widths)


@dataclass(frozen=True)
class _Variation:
    strength: float

    def __call__(self, maps: Maps) -> np.ndarray:
        from skimage.restoration import denoise_tv_chambolle

        whole = maps.filled()
        return np.stack(
            [
                denoise_tv_chambolle(whole[..., k], self.strength, eps=1e-3, max_num_iter=_ITERATIONS)
                for k in range(whole.shape[-1])
            ],
            axis=-1,
        )


@dataclass(frozen=True)
class _NonLocal:
    """Joint over the components: pixels are alike where all strong components are."""

    patch: int
    strength: float

    def __call__(self, maps: Maps) -> np.ndarray:
        from skimage.restoration import denoise_nl_means

        whole = maps.filled()
        n_axes = whole.ndim - 1
        weight = np.full(whole.shape[-1], _FAINT)
        weight[: maps.n_strong] = 1.0
        sigma = float(np.sqrt(np.mean(weight**2)))
        image = (whole * weight)[None] if n_axes == 1 else whole * weight  # a line is an image of one row
        filtered = denoise_nl_means(
            image, patch_size=self.patch, patch_distance=_SEARCHED[n_axes], h=self.strength * sigma,
            sigma=sigma, fast_mode=True, channel_axis=-1,
        )  # fmt: skip
        return filtered.reshape(whole.shape) / weight
