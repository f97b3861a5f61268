"""Errors of a reference model: how noisy its spectra are, and how wrong it is in each window of energy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.anomaly._shift_scan import ShiftScan
from hyperspy_specml.statistics import PoissonGaussianNoise

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._scan import ScanModel
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis, Windows

# Norm of a known spectrum beyond the basis, relative to the whole, below which the basis describes it
# already.
_SAME = 1e-6
# Fraction of the patches whose shifts are ordinary: extreme quantiles are unreliable on small maps.
_ORDINARY_SHIFTS = 0.9
# Windows whose sums are held at a time.
_GROUP = 64


def extend_basis(basis: PrincipalBasis, known: np.ndarray, noise: NoiseModel) -> tuple[PrincipalBasis, np.ndarray]:
    """Return a basis that describes these spectra too, and all mixtures with them.

    Parameters
    ----------
    basis
        Basis of the reference model.
    known
        (N, E) spectra of any scale.
    noise
        Noise model of a pixel. For counts, the smallest value of a mean spectrum shows of how many spectra it
        is the mean.

    Returns
    -------
    the basis, and the (D, E) noise variances of its spectra
    """
    rows = np.vstack([known, basis.offset]) * basis.weights  # a mixture has only a part of the offset
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    rows = rows / length
    rest = rows - (rows @ basis.vectors) @ basis.vectors.T
    added, size, turn = np.linalg.svd(rest.T, full_matrices=False)
    good = size > _SAME
    variances = np.zeros((basis.n_vectors + int(good.sum()), known.shape[1]))
    if noise.name == "poisson":
        one = np.where(known > 0, known, np.inf).min(axis=1, initial=np.inf, keepdims=True)
        one = np.where(np.isfinite(one), one, 0)  # one count over the number of spectra
        fractions = (turn / np.maximum(size, _SAME)[:, None])[good, :-1] / length[:-1, 0]
        variances[basis.n_vectors :] = fractions**2 @ ((np.maximum(known, 0) + one) * one)
    return replace(basis, vectors=np.concatenate([basis.vectors, added[:, good]], axis=1)), variances


def leverage_of(coefficients: np.ndarray, n_vectors: int) -> np.ndarray:
    """Return (D, L): how much noise of the spectra the first vectors, learnt from them, contain.

    Vectors with much more variance than noise are approximately a regression on the coefficients.

    Parameters
    ----------
    coefficients
        (n, D) of the spectra.
    n_vectors
        Vectors that were learnt.
    """
    values, turn = np.linalg.eigh(coefficients[:, :n_vectors].T.astype(np.float64) @ coefficients[:, :n_vectors])
    some = values > 1e-12 * values.max()
    leverage = np.zeros((coefficients.shape[1], int(some.sum())))
    leverage[:n_vectors] = turn[:, some] / np.sqrt(values[some])
    return leverage


def noise_of_sums(noise: NoiseModel, n: float) -> NoiseModel:
    """Return the noise model of sums of n spectra."""
    if not isinstance(noise, PoissonGaussianNoise):
        return noise
    return replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)


def design_of(coefficients: np.ndarray, n_pixels: np.ndarray) -> np.ndarray:
    """Return (n, D + 1) factors of the spectra of a model and of its offset."""
    return np.column_stack([coefficients, n_pixels.astype(np.float32)])


@dataclass(frozen=True)
class PatchRows:
    """Sums over n patches of pixels, and what a model says of them. E channels in use, D coefficients.

    Attributes
    ----------
    rows, design
        (n, E) sums, and the (n, D + 1) factors of the spectra of a model and of its offset, see `design_of`.
    noise
        Noise model of the sums.
    """

    rows: np.ndarray = field(repr=False)
    design: np.ndarray = field(repr=False)
    noise: NoiseModel


def model_error_of(model: ScanModel, patches: PatchRows, windows: Windows, *, fraction: float) -> np.ndarray:
    """Return (J,) the relative error of a model, where residuals scatter more than noise does.

    A curved family of spectra, such as a peak that shifts, is never described entirely by a few components.
    Without this error the scan would find the rest of it in many places.

    Parameters
    ----------
    model
        What is expected of a pixel.
    patches
        Sums over patches.
    windows
        Windows of energy.
    fraction
        Fraction of the patches whose residuals are errors of the model; the others may be anomalies.
    """
    scan = Scan(replace(model, noise=patches.noise), windows, radii=(0,))
    error, rows, design = np.zeros(len(windows), np.float32), patches.rows, patches.design
    allowed = _allowed_square(fraction, len(rows))
    for group in windows.groups(_GROUP):
        expected, variance = scan.moments(design, group)
        squares = np.abs(scan.score(windows.sums(rows, group).astype(np.float32), design, group))
        needed = variance * (squares / allowed - 1) / np.maximum(expected, 1e-6) ** 2
        error[group] = np.sqrt(np.maximum(np.quantile(needed, fraction, axis=0), 0))
    return error


def shift_scan_of(model: ScanModel, patches: PatchRows, *, smoothing: float, fraction: float) -> ShiftScan | None:
    """Prepare the search for shifts, with the shifts that ordinary spectra have as its error.

    Parameters
    ----------
    model, patches, fraction
        See `model_error_of`.
    smoothing
        Standard deviation, in channels, of the Gaussian whose derivative is taken.
    """
    scan = ShiftScan.of(model, patches.rows.mean(axis=0, dtype=np.float64), smoothing)
    if scan is None:
        return None
    sums = scan.sums(patches.rows, patches.design[:, :-1], patches.design[:, -1], patches.noise)
    extreme = scan.needed_error(sums, _allowed_square(fraction, len(sums)))
    most = scan.needed_error(sums, float(chi2.ppf(_ORDINARY_SHIFTS, 1)))
    needed = max(np.quantile(extreme, fraction), np.quantile(most, _ORDINARY_SHIFTS), 0)
    return replace(scan, model_error=float(np.sqrt(needed)))


def _allowed_square(fraction: float, n: int) -> float:
    """Return the squared deviate that this fraction of n of them does not exceed, even by chance."""
    quantile = chi2.ppf(fraction, 1)
    return float(quantile + 2 * np.sqrt(fraction * (1 - fraction) / n) / chi2.pdf(quantile, 1))
