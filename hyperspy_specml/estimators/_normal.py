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
from hyperspy_specml.estimators._models import LinearModel
from hyperspy_specml.statistics import (
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
    from hyperspy_specml.analysis import Windows
    from hyperspy_specml.estimators._models import SpectrumModel

_SIDE = 3
_LEAST_PATCHES = 100  # fewer tell no rank
_MOST_VALUES = 1 << 25  # of all patches
_MOST_AXES = 32
_ROUNDS = 2
_SCATTER = 0.99  # of the patches: their residuals tell the model's error; beyond may be what is looked for
_CHANCE = 5.3  # two standard errors of that quantile's square, relative, times the root of their number
_TOLD = 2.0  # standard errors
_FAR = 3.0  # times the square that one patch in twenty exceeds: the ends of what is normal stay in


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
        Held-out score against rank; None where the model was given or the rank fixed.
    trimmed
        Patches left out because they may hold something rare.
    side
        Pixels along the side of a patch.
    misfit
        (J,) relative error of the model in each window of the scan.
    """

    model: SpectrumModel
    noise: NoiseModel
    n_spectra: int
    rank: RankCurve | None = field(repr=False, default=None)
    trimmed: int = 0
    side: int = 1
    misfit: np.ndarray | None = field(repr=False, default=None)

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
        return ScanModel(axes.components(), axes.offset, self.noise, self.n_spectra, projector)


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
    n_components: int | None = None, seed: int = 0,
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
        None chooses by held-out score, anew after each trimming.
    seed
        Of the split into folds.
    """
    noise_of_sum = _of_sum(noise, float(np.median(counts[counts > 0])))
    used = counts >= max(1, 0.5 * side**counts.ndim)
    keep = used.copy()
    for left in range(_ROUNDS, -1, -1):
        curve = None if n_components else _held_out(sums[keep], noise_of_sum, seed=seed)
        k = n_components or _best_rank(curve)
        axes = principal_axes(moments_of(sums[keep]), noise_of_sum, n_axes=k)
        normal = Normal(
            LinearModel(axes), noise, int(counts[keep].sum()), curve, int((used & ~keep).sum()), side
        )
        if left:
            keep &= ~_suspicious(normal, sums, used, keep, noise_of_sum, windows)
    return replace(normal, misfit=_misfit(normal, sums[keep], noise_of_sum, windows))


def _suspicious(
    normal: Normal, sums: np.ndarray, used: np.ndarray, keep: np.ndarray, noise: NoiseModel, windows: Windows
) -> np.ndarray:
    """Return the patches that the model does not describe, or that alone it describes in their way.

    The first hold what the model lacks. The second are rare things that the model has learnt: along their own
    axis they lie far from all others.
    """
    rows = np.where(used[..., None], sums, 0)
    flat = normal.coefficients(rows.reshape(-1, rows.shape[-1]))
    coefficients = np.where(used[..., None], flat.reshape(*used.shape, -1), 0)
    scan = Scan(replace(normal.scan_model(), noise=noise), windows, halves=(0,))
    strength = np.abs(scan.strongest(rows, coefficients, used).z[used])
    dose = rows[used].sum(axis=1)
    shares = coefficients[used] / np.maximum(dose, 1e-3 * dose.mean())[:, None]
    distance = robust_distance(shares)
    found = np.zeros(used.shape, bool)
    found[used] = _far(strength**2, keep[used]) | _far(distance, keep[used])
    return found


def _misfit(normal: Normal, rows: np.ndarray, noise: NoiseModel, windows: Windows) -> np.ndarray:
    """Return (J,) the model's relative error, where residuals scatter more than noise does.

    A curved family of spectra, peaks that shift say, is never described entirely by a few components, and
    what is left of it would be found everywhere.
    """
    scan = Scan(replace(normal.scan_model(), noise=noise), windows, halves=(0,))
    design = np.column_stack([normal.coefficients(rows), np.ones(len(rows), np.float32)])
    misfit = np.zeros(len(windows), np.float32)
    allowed = chi2.ppf(_SCATTER, 1) * (1 + _CHANCE / np.sqrt(len(rows)))
    for group in windows.groups(64):
        expected, variance = scan.moments(design, group)
        squares = (windows.sums(rows, group) - expected) ** 2
        needed = (squares / allowed - variance) / np.maximum(expected, 1e-6) ** 2
        misfit[group] = np.sqrt(np.maximum(np.quantile(needed, _SCATTER, axis=0), 0))
    return misfit


def _best_rank(curve: RankCurve | None) -> int:
    """Return the largest rank that held-out counts cannot tell from the best one.

    A component too many costs the scan little; what is missing would be found as an anomaly.
    """
    assert curve is not None
    return int(curve.ranks[curve.scores - curve.scores.min() <= _TOLD * curve.standard_errors].max())


def _far(squares: np.ndarray, keep: np.ndarray) -> np.ndarray:
    return squares > _FAR * np.quantile(squares[keep], 0.95)


def _held_out(rows: np.ndarray, noise: NoiseModel, *, seed: int) -> RankCurve:
    """Score PCA of every rank on counts that it has not seen."""
    n_axes = max(1, min(_MOST_AXES, len(rows) // 3, rows.shape[1] // 2))
    mean = None
    if noise.name == "poisson-gaussian":
        axes = principal_axes(moments_of(rows), noise, n_axes=n_axes)
        mean = np.maximum(axes.spectra(axes.project(rows)), 0)
    rows = rows.astype(np.int64) if noise.name == "poisson" else rows
    folds = make_folds(rows, np.arange(len(rows)), noise, seed=seed, mean=mean)
    train = folds.train(slice(None))
    moments = moments_of(train)
    moments = Moments(moments.n, moments.sums / TRAIN, moments.products / TRAIN**2)
    axes = principal_axes(moments, noise, n_axes=n_axes)
    return rank_curve(folds, axes, axes.project(train / np.float32(TRAIN)))


def _of_sum(noise: NoiseModel, n: float) -> NoiseModel:
    """Return the noise model of sums of n spectra."""
    if not isinstance(noise, PoissonGaussianNoise):
        return noise
    return replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)
