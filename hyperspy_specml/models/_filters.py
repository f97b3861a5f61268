"""Simple spatial filters of score maps, as strong as the noise: what every other denoiser is compared with.

Maps come with noise of variance 1, whatever the dose, so one set of strengths serves all doses. Pixels
without a spectrum do not contribute: averages are normalised by the weight of the pixels that do.

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

from hyperspy_specml.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Standard deviations of the Gaussian filters, in pixels: each half again as wide as the one before, up to
# where only broad gradients are left.
_WIDTHS = (0.5, 0.8, 1.2, 1.8, 2.7, 4.0, 6.0)
# Standard deviations, in pixels, of those along the fastest scan axis only: scans drift and jump between
# lines.
_ALONG = (1.0, 3.0)
# Strengths of total variation filters, in standard deviations of the noise.
_VARIATION = (0.5, 1.0, 2.0, 3.0)
# Patch size in pixels and strength in standard deviations of the noise of non-local means.
_PATCHES = ((3, 0.6), (3, 0.8), (5, 0.8))
# Pixels to each side that non-local means search, by the number of scan axes: about as many in all.
_SEARCHED = {1: 31, 2: 7, 3: 3}
# Weight, in the similarity of patches, of components that are mostly noise; others have 1.
_FAINT = 0.05
# Standard deviation, in pixels, of the average that stands for missing pixels where a filter needs all.
_FILL = 2.0
# Iterations of total variation filters: enough to converge to a hundredth of the noise.
_ITERATIONS = 100
# Pixels beyond which no filter reaches noticeably: four standard deviations of the widest one.
HALO = 24


@dataclass(frozen=True)
class Filter:
    r"""One filter.

    Attributes
    ----------
    name
        For reports.
    function
        From `Maps` to (\*tile, P) filtered maps.
    cheap
        Takes milliseconds, not seconds.
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
        (P,) mean of the map, for pixels without any spectrum nearby.
    n_strong
        Number of components, the first ones, that stand out of the noise.
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
        """Return the maps with averages of their neighbours in place of missing pixels."""
        if self.valid.all():
            return self.values
        return np.where(self.valid[..., None], self.values, self.average((_FILL,) * self.valid.ndim))


def filters(n_axes: int, *, cheap: bool = False) -> tuple[Filter, ...]:
    """Return the filters for maps of so many scan axes: no filter first, the mean of the map second.

    Parameters
    ----------
    n_axes
        One to three.
    cheap
        Only those that take milliseconds.
    """
    found = [Filter("unfiltered", lambda maps: maps.values), Filter("mean", _constant)]
    found += [Filter(f"gaussian {width:g}", _Gaussian((width,) * n_axes)) for width in _WIDTHS]
    if n_axes > 1:
        others = (0.0,) * (n_axes - 1)
        found += [Filter(f"gaussian {width:g} along lines", _Gaussian((*others, width))) for width in _ALONG]
    found += [Filter(f"total variation {w:g}", _Variation(w), cheap=False) for w in _VARIATION]
    found += [Filter(f"non-local means {p}, {h:g}", _NonLocal(p, h), cheap=False) for p, h in _PATCHES]
    return tuple(f for f in found if f.cheap or not cheap)


def filter_stack(
    maps: np.ndarray, valid: np.ndarray, bank: Sequence[Filter], *, centre: np.ndarray, n_strong: int,
    progress: Progress | None = None,
) -> np.ndarray:  # fmt: skip
    r"""Apply filters to score maps with noise of variance 1.

    Parameters
    ----------
    maps, valid
        (T, \*tile, P) float32, 0 where not valid, and (T, \*tile) bool.
    bank
        S filters.
    centre, n_strong
        See `Maps`.
    progress
        The filters make up its current stage; by default they do not count.

    Returns
    -------
    (S, T, \*tile, P) float32, 0 where not valid
    """
    stack = np.empty((len(bank), *maps.shape), np.float32)
    tiles = [
        Maps(values, there, centre.astype(np.float32), n_strong) for values, there in zip(maps, valid, strict=True)
    ]
    for step in (progress or Progress()).steps(range(stack.shape[0] * stack.shape[1])):
        t, s = divmod(step, len(bank))
        stack[s, t] = bank[s].function(tiles[t])
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
    """Joint over the components: patches are similar where all strong components are."""

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
        sizes = {"patch_size": self.patch, "patch_distance": _SEARCHED[n_axes]}
        filtered = denoise_nl_means(
            image, h=self.strength * sigma, sigma=sigma, fast_mode=True, channel_axis=-1, **sizes
        )
        return filtered.reshape(whole.shape) / weight
