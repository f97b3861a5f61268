"""A model of what is normal in a map, and how far it describes one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from hyperspy_specml.anomaly._known_spectra import extend_basis
from hyperspy_specml.anomaly._scan import Scan, ScanModel
from hyperspy_specml.anomaly._shift_scan import ShiftScan
from hyperspy_specml.models import LinearModel
from hyperspy_specml.statistics import NoiseModel, PoissonGaussianNoise, RankCurve

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._autoencoder import Tried
    from hyperspy_specml.anomaly._windows import Windows
    from hyperspy_specml.models import SpectrumModel

_SIDE = 3
_LEAST_PATCHES = 100  # fewer tell no rank
_MOST_VALUES = 1 << 24  # of all patches: learning takes some twenty-five bytes for each
_SHIFTED = 0.9  # of the patches: their shifts are normal; the ends of a small map tell their spread badly
_SCATTER_ELSEWHERE = 0.9  # of the patches: of a model learnt elsewhere, more may be new to it than is rare


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
        (J,) relative error of the model in each window of the scan; None where it is not known yet.
    doubt
        (D, E) variances of the spectra that the coefficients stand for; None for none.
    leverage
        (D, L), see `ScanModel`; None if it was learnt from other maps.
    shift
        Looks for shifted spectra; None where it does not.
    tried
        Autoencoder that was trained beside PCA; None for none.
    """

    model: SpectrumModel
    noise: NoiseModel
    n_spectra: int
    rank: RankCurve | None = field(repr=False, default=None)
    trimmed: int = 0
    side: int = 1
    misfit: np.ndarray | None = field(repr=False, default=None)
    doubt: np.ndarray | None = field(repr=False, default=None)
    leverage: np.ndarray | None = field(repr=False, default=None)
    shift: ShiftScan | None = field(repr=False, default=None)
    tried: Tried | None = field(repr=False, default=None)

    def knowing(self, known: np.ndarray) -> Normal:
        """Return a model that describes (N, E) known spectra too.

        Parameters
        ----------
        known
            (N, E) spectra, and mixtures with them are normal.
        """
        basis, doubt = extend_basis(self.model.basis, known, self.noise)
        return replace(self, model=LinearModel(basis), doubt=doubt)

    def coefficients(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, D) coefficients of (n, E) spectra, float32.

        Parameters
        ----------
        rows
            (n, E) spectra of any real dtype.
        """
        if isinstance(self.model, LinearModel):
            return self.model.encode(rows)
        return self.model.basis.project(self.model.decode(self.model.encode(rows)))

    def scan_model(self) -> ScanModel:
        """Return what a scan needs to know."""
        basis = self.model.basis
        projector = basis.vectors * basis.weights[:, None]
        projector[:, self.model.n_components :] = 0  # a nonlinear encoder follows so many directions of noise
        return ScanModel(
            basis.components(), basis.offset, self.noise, self.n_spectra, projector, self.doubt, self.leverage
        )

    def adapted_to(
        self, rows: np.ndarray, design: np.ndarray, noise: NoiseModel, windows: Windows, *, share: float,
        width: float | None,
    ) -> Normal:  # fmt: skip
        """Return the same model with its errors, which the residuals of sums over patches tell.

        Parameters
        ----------
        rows, design
            (n, E) sums, and the (n, D + 1) coefficients and number of pixels.
        noise
            Of a sum.
        windows
            Of the scan.
        share
            Of the patches, which tell the error; beyond may be what is looked for.
        width
            In channels, see `ShiftScan.of`; None looks for no shifts.
        """
        misfit = misfit_of(self, rows, design, noise, windows, share=share)
        shift = None
        if width is not None:
            shift = ShiftScan.of(self.scan_model(), rows.mean(axis=0, dtype=np.float64), width)
        if shift is not None:
            sums = shift.sums(rows, design[:, :-1], design[:, -1], noise)
            ends = shift.needed(sums, allowed_square(share, len(rows)))
            most = shift.needed(sums, float(chi2.ppf(_SHIFTED, 1)))
            needed = max(np.quantile(ends, share), np.quantile(most, _SHIFTED), 0)
            shift = replace(shift, misfit=float(np.sqrt(needed)))
        return replace(self, misfit=misfit, shift=shift)


def patch_side(navigation_shape: tuple[int, ...], n_channels: int) -> int:
    """Return the side of patches: as many of them as fit into memory, and enough to learn from."""
    side = _SIDE
    while np.prod([-(-n // side) for n in navigation_shape]) * n_channels > _MOST_VALUES:
        side += 1
    while side > 1 and np.prod([n // side for n in navigation_shape]) < _LEAST_PATCHES:
        side -= 1
    return side


def adapt_normal(
    normal: Normal, sums: np.ndarray, counts: np.ndarray, windows: Windows, *, side: int,
    width: float | None = None,
) -> Normal:  # fmt: skip
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
    width
        See `Normal.adapted_to`.
    """
    used = enough_pixels(counts, side)
    if not used.any():
        return normal
    rows, coefficients = np.split(sums[used], [len(normal.model.basis.weights)], axis=1)
    noise = noise_of_sums(normal.noise, float(np.median(counts[used])))
    design = design_of(coefficients, counts[used])
    adapted = normal.adapted_to(rows, design, noise, windows, share=_SCATTER_ELSEWHERE, width=width)
    return replace(adapted, side=side)


def enough_pixels(counts: np.ndarray, side: int) -> np.ndarray:
    """Return the patches that tell enough, also those of one line at the border, where a drift ends."""
    return counts >= max(1, side**counts.ndim / 3)


def leverage_of(coefficients: np.ndarray, n_vectors: int) -> np.ndarray:
    """Return (D, L) how much of their own noise spectra have put into the first axes that they gave.

    Regression on the (n, D) coefficients: axes of much more than noise are hardly anything else.
    """
    values, turn = np.linalg.eigh(
        coefficients[:, :n_vectors].T.astype(np.float64) @ coefficients[:, :n_vectors]
    )
    some = values > 1e-12 * values.max()
    leverage = np.zeros((coefficients.shape[1], int(some.sum())))
    leverage[:n_vectors] = turn[:, some] / np.sqrt(values[some])
    return leverage


def design_of(coefficients: np.ndarray, n_pixels: np.ndarray) -> np.ndarray:
    """Return what multiplies the spectra of the model and its offset."""
    return np.column_stack([coefficients, n_pixels.astype(np.float32)])


def misfit_of(
    normal: Normal, rows: np.ndarray, design: np.ndarray, noise: NoiseModel, windows: Windows, *, share: float
) -> np.ndarray:
    """Return (J,) the model's relative error, where residuals scatter more than noise does.

    A curved family of spectra, peaks that shift say, is never described entirely by a few components, and
    what is left of it would be found everywhere.
    """
    scan = Scan(replace(normal.scan_model(), noise=noise), windows, halves=(0,))
    misfit = np.zeros(len(windows), np.float32)
    allowed = allowed_square(share, len(rows))
    for group in windows.groups(64):
        expected, variance = scan.moments(design, group)
        squares = np.abs(scan.score(windows.sums(rows, group).astype(np.float32), design, group))
        needed = variance * (squares / allowed - 1) / np.maximum(expected, 1e-6) ** 2
        misfit[group] = np.sqrt(np.maximum(np.quantile(needed, share, axis=0), 0))
    return misfit


def allowed_square(share: float, n: int) -> float:
    """Return the squared deviate that this share of n of them does not exceed, even by chance."""
    quantile = chi2.ppf(share, 1)
    return float(quantile + 2 * np.sqrt(share * (1 - share) / n) / chi2.pdf(quantile, 1))


def noise_of_sums(noise: NoiseModel, n: float) -> NoiseModel:
    """Return the noise model of sums of n spectra."""
    if not isinstance(noise, PoissonGaussianNoise):
        return noise
    return replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)
