"""Learn what is normal in a map, so that what is rare does not become part of it.

A scan sums over neighbouring pixels and sees deviations that no single pixel shows. So the normal is learnt
from sums over patches of pixels: they tell weak components of it from noise, and a rare phase stands out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from hyperspy_specml.analysis import Scan, ScanModel, robust_distance
from hyperspy_specml.estimators._known import with_known
from hyperspy_specml.estimators._models import LinearModel
from hyperspy_specml.statistics import (
    CHOOSE,
    TRAIN,
    Moments,
    NoiseModel,
    PoissonGaussianNoise,
    RankCurve,
    make_folds,
    moments_of,
    principal_axes,
    rank_curve,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.analysis import Windows
    from hyperspy_specml.estimators._models import SpectrumModel

_SIDE = 3
_LEAST_PATCHES = 100  # fewer tell no rank
_MOST_VALUES = 1 << 25  # of all patches
_MOST_AXES = 32
_SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)  # channels: noise of the axes themselves would be found everywhere
_SMOOTHEST = 1 / 16  # of the narrowest window: a blurred line would be found too
_ROUNDS = 2
_SCATTER = 0.99  # of the patches: their residuals tell the model's error; beyond may be what is looked for
_SCATTER_ELSEWHERE = 0.9  # the same of a model learnt elsewhere: more may be new to it than is rare
_TOLD = 2.0  # standard errors
_FAR = 3.0  # times the square that one patch in twenty exceeds: the ends of what is normal stay in
_NOT_LEARNT = 2.0  # the same, of patches that were left out
_SPARE = 2  # components
_CHEAP = 3 * CHOOSE / TRAIN  # deviance per patch: three times what a fixed direction of noise costs


@dataclass(frozen=True)
class Normal:
    """A model of what is normal.

    Attributes
    ----------
    model
        From spectra to coefficients and back, on the channels in use.
    noise
        Noise model of a pixel.
    n_spectra
        Pixels that it was learnt from.
    rank
        Held-out score against rank; None where nothing was to be chosen.
    trimmed
        Patches left out because they may hold something rare.
    side
        Pixels along the side of a patch.
    misfit
        (J,) relative error of the model in each window of the scan.
    doubt
        (D, E) variances of the spectra that the coefficients stand for; None for none.
    """

    model: SpectrumModel
    noise: NoiseModel
    n_spectra: int
    rank: RankCurve | None = field(repr=False, default=None)
    trimmed: int = 0
    side: int = 1
    misfit: np.ndarray | None = field(repr=False, default=None)
    doubt: np.ndarray | None = field(repr=False, default=None)

    def knowing(self, known: np.ndarray) -> Normal:
        """Return a model that describes (N, E) known spectra too.

        Parameters
        ----------
        known
            (N, E) spectra, and mixtures with them are normal.
        """
        axes, doubt = with_known(self.model.axes, known, self.noise)
        return replace(self, model=LinearModel(axes), doubt=doubt)

    def coefficients(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, D) coefficients of (n, E) spectra, float32.

        Parameters
        ----------
        rows
            (n, E) spectra of any real dtype.
        """
        if isinstance(self.model, LinearModel):
            return self.model.encode(rows)
        return self.model.axes.project(self.model.decode(self.model.encode(rows)))

    def scan_model(self) -> ScanModel:
        """Return what a scan needs to know."""
        axes = self.model.axes
        projector = axes.vectors * axes.weights[:, None]
        projector[:, self.model.n_components :] = 0  # a nonlinear encoder follows so many directions of noise
        return ScanModel(axes.components(), axes.offset, self.noise, self.n_spectra, projector, self.doubt)


def patch_side(navigation_shape: tuple[int, ...], n_channels: int) -> int:
    """Return the side of patches: as many of them as fit into memory, and enough to learn from."""
    side = _SIDE
    while np.prod([-(-n // side) for n in navigation_shape]) * n_channels > _MOST_VALUES:
        side += 1
    while side > 1 and np.prod([n // side for n in navigation_shape]) < _LEAST_PATCHES:
        side -= 1
    return side


def learn_normal(
    sums: np.ndarray, counts: np.ndarray, noise: NoiseModel, windows: Windows, *, side: int,
    n_components: int | None = None, known: np.ndarray | None = None, seed: int = 0,
) -> Normal:  # fmt: skip
    r"""Fit PCA to patches of a map without those that may be rare.

    Parameters
    ----------
    sums, counts
        (\*patches, E) summed spectra and (\*patches,) the number of pixels in each.
    noise
        Noise model of one pixel.
    windows
        Of the scan.
    side
        Of a patch in pixels.
    n_components
        None chooses by held-out score, anew after each trimming. How smooth the axes are along energy is
        chosen once.
    known
        (N, E) spectra that count as normal, however rare they are.
    seed
        Of the split into folds.
    """
    noise_of_sum = _of_sum(noise, float(np.median(counts[counts > 0])))
    used = counts >= max(1, 0.5 * side**counts.ndim)
    keep = used.copy()
    widths = tuple(w for w in _SMOOTHINGS if w <= _SMOOTHEST * windows.widths.min())
    for left in range(_ROUNDS, -1, -1):
        chosen = _choose(sums[keep], noise_of_sum, widths, n_components, seed=seed)
        widths = (chosen.width,)  # of the data, not of the patches that are left
        axes = principal_axes(moments_of(sums[keep]), noise_of_sum, n_axes=chosen.rank, width=chosen.width)
        left_out = int((used & ~keep).sum())
        normal = Normal(LinearModel(axes), noise, int(counts[keep].sum()), chosen.curve, left_out, side)
        normal = normal if known is None else normal.knowing(known)
        if left:
            keep = used & ~_suspicious(normal, sums, used, keep, noise_of_sum, windows)
    design = _design(normal.coefficients(sums[keep]), np.ones(int(keep.sum())))
    return replace(normal, misfit=_misfit(normal, sums[keep], design, noise_of_sum, windows, share=_SCATTER))


def adapt_normal(
    normal: Normal, sums: np.ndarray, counts: np.ndarray, windows: Windows, *, side: int
) -> Normal:
    r"""Find out how far a model that was learnt elsewhere describes this map.

    Parameters
    ----------
    normal
        The model.
    sums, counts
        (\*patches, E + D) sums of spectra and of their coefficients, and (\*patches,) the number of pixels.
    windows
        Of the scan.
    side
        Of a patch in pixels.
    """
    used = counts >= max(1, 0.5 * side**counts.ndim)
    if not used.any():
        return normal
    n_channels = len(normal.model.axes.weights)
    rows, coefficients = np.split(sums[used], [n_channels], axis=1)
    noise = _of_sum(normal.noise, float(np.median(counts[used])))
    design = _design(coefficients, counts[used])
    misfit = _misfit(normal, rows, design, noise, windows, share=_SCATTER_ELSEWHERE)
    return replace(normal, misfit=misfit, side=side)


def _design(coefficients: np.ndarray, n_pixels: np.ndarray) -> np.ndarray:
    """Return what multiplies the spectra of the model and its offset."""
    return np.column_stack([coefficients, n_pixels.astype(np.float32)])


def _suspicious(
    normal: Normal, sums: np.ndarray, used: np.ndarray, keep: np.ndarray, noise: NoiseModel, windows: Windows
) -> np.ndarray:
    """Return the patches that the model does not describe, or that alone it describes in their way.

    The first hold what the model lacks. The second are rare things that the model has learnt: along their own
    axis they lie far from all others. What a model describes that has not learnt it is an end of what is
    normal, a scan line that drifted far say, and no rare thing.
    """
    rows = np.where(used[..., None], sums, 0)
    flat = normal.coefficients(rows.reshape(-1, rows.shape[-1]))
    coefficients = np.where(used[..., None], flat.reshape(*used.shape, -1), 0)
    scan = Scan(replace(normal.scan_model(), noise=noise), windows, halves=(0,))
    strength = np.abs(scan.strongest(rows, coefficients, used).z[used])
    dose = rows[used].sum(axis=1)
    shares = coefficients[used] / np.maximum(dose, 1e-3 * dose.mean())[:, None]
    distance = robust_distance(shares)
    kept = keep[used]
    found = np.zeros(used.shape, bool)
    found[used] = np.where(
        kept, _far(strength**2, kept) | _far(distance, kept), _far(strength**2, kept, times=_NOT_LEARNT)
    )
    return found


def _misfit(
    normal: Normal, rows: np.ndarray, design: np.ndarray, noise: NoiseModel, windows: Windows, *, share: float
) -> np.ndarray:
    """Return (J,) the model's relative error, where residuals scatter more than noise does.

    A curved family of spectra, peaks that shift say, is never described entirely by a few components, and
    what is left of it would be found everywhere.
    """
    scan = Scan(replace(normal.scan_model(), noise=noise), windows, halves=(0,))
    misfit = np.zeros(len(windows), np.float32)
    quantile = chi2.ppf(share, 1)
    allowed = quantile + 2 * np.sqrt(share * (1 - share) / len(rows)) / chi2.pdf(quantile, 1)  # by chance
    for group in windows.groups(64):
        expected, variance = scan.moments(design, group)
        squares = (windows.sums(rows, group) - expected) ** 2
        needed = (squares / allowed - variance) / np.maximum(expected, 1e-6) ** 2
        misfit[group] = np.sqrt(np.maximum(np.quantile(needed, share, axis=0), 0))
    return misfit


def _far(squares: np.ndarray, keep: np.ndarray, *, times: float = _FAR) -> np.ndarray:
    return squares > times * np.quantile(squares[keep], 0.95)


@dataclass(frozen=True)
class _Chosen:
    """Rank and smoothing that held-out counts choose; the curve says why."""

    curve: RankCurve | None
    rank: int
    width: float


def _choose(
    rows: np.ndarray, noise: NoiseModel, widths: Sequence[float], n_components: int | None, *, seed: int
) -> _Chosen:
    """Score PCA of every rank, or of the one wanted, with axes smoothed by each of the widths."""
    if n_components and len(widths) == 1:
        return _Chosen(None, n_components, widths[0])
    most = n_components or min(_MOST_AXES, len(rows) // 3)
    n_axes = max(1, min(most, rows.shape[1] // 2))
    curves = dict(zip(widths, _curves(rows, noise, widths, n_axes, seed), strict=True))
    wanted = slice(-1, None) if n_components else slice(None)
    width = min(curves, key=lambda width: curves[width].scores[wanted].min())
    return _Chosen(curves[width], n_components or _best_rank(curves[width]), width)


def _curves(
    rows: np.ndarray, noise: NoiseModel, widths: Sequence[float], n_axes: int, seed: int
) -> list[RankCurve]:
    """Score PCA of every rank on counts that it has not seen, for each smoothing of its axes."""
    mean = None
    if noise.name == "poisson-gaussian":
        axes = principal_axes(moments_of(rows), noise, n_axes=n_axes)
        mean = np.maximum(axes.spectra(axes.project(rows)), 0)
    rows = rows.astype(np.int64) if noise.name == "poisson" else rows
    folds = make_folds(rows, np.arange(len(rows)), noise, seed=seed, mean=mean)
    train = folds.train(slice(None))
    moments = moments_of(train)
    moments = Moments(moments.n, moments.sums / TRAIN, moments.products / TRAIN**2)
    along = [principal_axes(moments, noise, n_axes=n_axes, width=width) for width in widths]
    return [rank_curve(folds, axes, axes.project(train / np.float32(TRAIN))) for axes in along]


def _best_rank(curve: RankCurve) -> int:
    """Return a little more than the largest rank that held-out counts cannot tell from the best one.

    What is missing would be found as an anomaly, and what only one scan line shows, that drifted far, all
    patches together do not tell. A component too many costs the scan little where it is smooth. Where the
    noise of few patches with many channels makes it, it would take single counts for what is normal.
    """
    good = curve.scores - curve.scores.min() <= _TOLD * curve.standard_errors
    rank = int(curve.ranks[good].max())
    for _ in range(_SPARE):
        if rank < len(curve.ranks) and curve.scores[rank] - curve.scores[rank - 1] <= _CHEAP:
            rank += 1
    return rank


def _of_sum(noise: NoiseModel, n: float) -> NoiseModel:
    """Return the noise model of sums of n spectra."""
    if not isinstance(noise, PoissonGaussianNoise):
        return noise
    return replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)
