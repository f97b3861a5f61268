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
from hyperspy_specml.estimators._normal_rank import Chosen, choose
from hyperspy_specml.statistics import (
    NoiseModel,
    PoissonGaussianNoise,
    RankCurve,
    moments_of,
    principal_axes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.analysis import Windows
    from hyperspy_specml.estimators._models import SpectrumModel

_SIDE = 3
_LEAST_PATCHES = 100  # fewer tell no rank
_MOST_VALUES = 1 << 25  # of all patches
_SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)  # channels: noise of the axes themselves would be found everywhere
_SMOOTHEST = 1 / 16  # of the narrowest window: a blurred line would be found too
_ROUNDS = 2
_SCATTER = 0.99  # of the patches: their residuals tell the model's error; beyond may be what is looked for
_SCATTER_ELSEWHERE = 0.9  # the same of a model learnt elsewhere: more may be new to it than is rare
_FAR = 3.0  # times the square that one patch in twenty exceeds: the ends of what is normal stay in
_NOT_LEARNT, _END = 2.0, 12.0  # the same, of the windows and the distance of patches that come back


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
    patches = _Patches(
        sums, counts, counts >= max(1, 0.5 * side**counts.ndim), side, noise,
        _of_sum(noise, float(np.median(counts[counts > 0]))), windows, known, seed,
    )  # fmt: skip
    keep = patches.used.copy()
    widths = tuple(w for w in _SMOOTHINGS if w <= _SMOOTHEST * windows.widths.min())
    for _ in range(_ROUNDS):
        normal, chosen = patches.fit(keep, widths, n_components)
        widths = (chosen.width,)  # of the data, not of the patches that are left
        keep &= ~patches.suspicious(normal, keep)
    normal, chosen = patches.fit(keep, widths, n_components)
    back = patches.described(normal, keep)
    rank = n_components or chosen.with_spare()
    if back.any() or rank > chosen.rank:
        keep |= back
        normal, _ = patches.fit(keep, widths, rank)
    design = _design(normal.coefficients(sums[keep]), np.ones(int(keep.sum())))
    misfit = _misfit(normal, sums[keep], design, patches.noise_of_sum, windows, share=_SCATTER)
    return replace(normal, misfit=misfit, rank=chosen.curve)


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
    rows, coefficients = np.split(sums[used], [len(normal.model.axes.weights)], axis=1)
    noise = _of_sum(normal.noise, float(np.median(counts[used])))
    design = _design(coefficients, counts[used])
    misfit = _misfit(normal, rows, design, noise, windows, share=_SCATTER_ELSEWHERE)
    return replace(normal, misfit=misfit, side=side)


def _design(coefficients: np.ndarray, n_pixels: np.ndarray) -> np.ndarray:
    """Return what multiplies the spectra of the model and its offset."""
    return np.column_stack([coefficients, n_pixels.astype(np.float32)])


@dataclass(frozen=True)
class _Patches:
    """Sums over patches, and how a model of the normal is fitted to some of them.

    Attributes
    ----------
    sums, counts, used
        Spectra, number of pixels, and whether there are enough of these.
    side
        Pixels along a patch.
    noise, noise_of_sum
        Of a pixel and of a patch.
    windows, known, seed
        See `learn_normal`.
    """

    sums: np.ndarray
    counts: np.ndarray
    used: np.ndarray
    side: int
    noise: NoiseModel
    noise_of_sum: NoiseModel
    windows: Windows
    known: np.ndarray | None
    seed: int

    def fit(
        self, keep: np.ndarray, widths: Sequence[float], n_components: int | None
    ) -> tuple[Normal, Chosen]:
        """Fit PCA to the patches that are kept."""
        rows = self.sums[keep]
        chosen = choose(rows, self.noise_of_sum, widths, n_components, seed=self.seed)
        axes = principal_axes(moments_of(rows), self.noise_of_sum, n_axes=chosen.rank, width=chosen.width)
        left_out = int((self.used & ~keep).sum())
        n_spectra = int(self.counts[keep].sum())
        normal = Normal(LinearModel(axes), self.noise, n_spectra, chosen.curve, left_out, self.side)
        return normal if self.known is None else normal.knowing(self.known), chosen

    def suspicious(self, normal: Normal, keep: np.ndarray) -> np.ndarray:
        """Return the patches that the model does not describe, or that alone it describes in their way.

        The first hold what the model lacks. The second are rare things that the model has learnt: along their
        own axis they lie far from all others.
        """
        strength, distance = self._strangeness(normal)
        return self.used & (
            (strength > _FAR * _ordinary(strength, keep)) | (distance > _FAR * _ordinary(distance, keep))
        )

    def described(self, normal: Normal, keep: np.ndarray) -> np.ndarray:
        """Return the patches left out that the model describes all the same, without having learnt them.

        They are ends of what is normal, a scan line that drifted far say. If they lie very far the model may
        have learnt something rare from a patch that was kept.
        """
        strength, distance = self._strangeness(normal)
        near = (strength <= _NOT_LEARNT * _ordinary(strength, keep)) & (
            distance <= _END * _ordinary(distance, keep)
        )
        return self.used & ~keep & near

    def _strangeness(self, normal: Normal) -> tuple[np.ndarray, np.ndarray]:
        """Return maps of the square of the strongest window, and of the robust distance of the shares."""
        used, shape = self.used, self.used.shape
        rows = np.where(used[..., None], self.sums, 0)
        flat = normal.coefficients(rows.reshape(-1, rows.shape[-1]))
        coefficients = np.where(used[..., None], flat.reshape(*shape, -1), 0)
        scan = Scan(replace(normal.scan_model(), noise=self.noise_of_sum), self.windows, halves=(0,))
        strength = np.square(scan.strongest(rows, coefficients, used).z)
        dose = rows[used].sum(axis=1)
        distance = np.zeros(shape)
        distance[used] = robust_distance(coefficients[used] / np.maximum(dose, 1e-3 * dose.mean())[:, None])
        return strength, distance


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


def _ordinary(squares: np.ndarray, keep: np.ndarray) -> float:
    return float(np.quantile(squares[keep], 0.95))


def _of_sum(noise: NoiseModel, n: float) -> NoiseModel:
    """Return the noise model of sums of n spectra."""
    if not isinstance(noise, PoissonGaussianNoise):
        return noise
    return replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)
