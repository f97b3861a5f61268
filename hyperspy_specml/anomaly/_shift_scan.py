"""Look for spectra that lie at another energy than those around them.

A shifted edge is a little in many channels, and of both signs: no window holds much of it. What it adds to a
spectrum is the derivative of that spectrum, so the residual is compared with this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from scipy.ndimage import gaussian_filter1d

from hyperspy_specml.anomaly._scan import CERTAIN, spatial_sums

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._scan import ScanModel
    from hyperspy_specml.statistics import NoiseModel

_LEAST_LEFT = 1e-2  # of the derivatives, by what the model's own spectra do not describe: less is rounding
_FAINT = 1e-3  # of the mean variance: a channel that saw two counts must not rule
_BLURRED = 1.0  # channels: between channels, values of single ones would be blurred more than at them
_STEP = 0.25  # channels
_TINY = np.float32(1e-30)


@dataclass(frozen=True)
class ShiftScan:
    """Derivatives of the spectra of a model, ready to be compared with residuals. D coefficients, E channels.

    Attributes
    ----------
    model
        The normal.
    slopes
        (D + 1, E) derivatives of the spectra and of the offset, without what the model describes itself, in
        standard deviations of each channel.
    weights
        (E,) one over these standard deviations.
    correlated
        Variance of a sum over channels, over that without the correlation of neighbouring ones.
    misfit
        Shift in channels by which spectra are wrong that are normal.
    """

    model: ScanModel
    slopes: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    correlated: float = 1.0
    misfit: float = 0.0

    @classmethod
    def of(cls, model: ScanModel, mean: np.ndarray, width: float) -> ShiftScan | None:
        """Prepare a model; None where it describes shifts as well as all else.

        Parameters
        ----------
        model
            The normal.
        mean
            (E,) a typical spectrum: sets the noise of each channel.
        width
            Of the Gaussian, in channels, whose derivative is taken.
        """
        variance = model.noise.variance(mean)
        weights = 1 / np.sqrt(np.maximum(variance, max(_FAINT * variance.mean(), 1e-300)))
        rows = np.vstack([model.spectra, model.offset])
        whole = -gaussian_filter1d(rows, width, axis=1, order=1, mode="nearest") * weights
        known = _basis((rows[model.followed] * weights).T)
        slopes = whole - (whole @ known) @ known.T
        if not np.linalg.norm(slopes) > _LEAST_LEFT * np.linalg.norm(whole):
            return None
        typical = np.linalg.lstsq((model.spectra * weights).T, (mean - model.offset) * weights, rcond=None)[0]
        correlated = _correlated(np.append(typical, 1) @ slopes, model.noise)
        return cls(model, slopes.astype(np.float32), weights.astype(np.float32), correlated)

    def sums(
        self, values: np.ndarray, coefficients: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel
    ) -> np.ndarray:
        """Return (..., 3) of (..., E) spectra: agreement with the derivative, its variance, and its size.

        The agreement of a spectrum that is shifted by a channel is the size, on average.
        """
        design = np.concatenate([coefficients, n_pixels[..., None]], axis=-1, dtype=np.float32)
        slopes = design @ self.slopes
        rows = np.vstack([self.model.spectra, self.model.offset]).astype(np.float32)
        expected = np.maximum(design @ rows, 0)
        agreement = np.einsum("...e,...e->...", slopes, values * self.weights)
        size = np.einsum("...e,...e->...", slopes, slopes)
        slopes *= self.weights
        variance = np.einsum("...e,...e->...", np.square(slopes), noise.variance(expected))
        return np.stack([agreement, variance * self.correlated, size], axis=-1, dtype=np.float32)

    def estimate(
        self, spectra: np.ndarray, coefficients: np.ndarray, n_pixels: np.ndarray, most: float
    ) -> np.ndarray:
        """Return (n, 2) shifts of mean spectra in channels, and their standard errors.

        A spectrum is moved until the model describes it best: the derivative tells small shifts only. NaN
        where it would have to be moved further, where moving does not explain half of what the model leaves
        (another element is no shift), or where there are too few channels to move it.

        Parameters
        ----------
        spectra, coefficients, n_pixels
            (n, E) means over pixels, their (n, D) coefficients, and (n,) how many pixels.
        most
            Channels that a shift can have.
        """
        n_channels = spectra.shape[1]
        margin = int(min(np.ceil(most), (n_channels - 1) // 4))
        if margin < 1:
            return np.full((len(spectra), 2), np.nan)
        inner = np.arange(margin, n_channels - margin)
        rows = np.vstack([self.model.spectra, self.model.offset])[self.model.followed]
        weights = self.weights[inner]
        known = _basis((gaussian_filter1d(rows, _BLURRED, axis=1)[:, inner] * weights).T)
        by = np.arange(-margin, margin + _STEP, _STEP)
        _, variance, size = np.moveaxis(
            self.sums(spectra, coefficients, np.ones(len(spectra)), self.model.noise), -1, 0
        )
        found = np.empty((len(spectra), 2))
        for i, spectrum in enumerate(gaussian_filter1d(spectra, _BLURRED, axis=1)):
            moved = np.interp(inner + by[:, None], np.arange(n_channels), spectrum) * weights
            rest = np.square(moved - (moved @ known) @ known.T).sum(axis=1)
            variances = self.model.noise.variance(np.maximum(spectrum, 0))[inner] * weights**2
            by_noise = variances.sum() / (2 * np.sqrt(np.pi) * _BLURRED * n_pixels[i])
            unmoved = rest[np.argmin(np.abs(by))]
            told = rest.min() <= 0.5 * max(unmoved, by_noise) + by_noise
            found[i, 0] = _lowest(by, rest) if told else np.nan
            found[i, 1] = np.sqrt(variance[i] / n_pixels[i]) / max(size[i], _TINY)
        found[:, 1] = np.hypot(found[:, 1], self.misfit)
        return found

    def strongest(
        self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray, halves: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return z of the strongest square of pixels about every pixel, and which one it is.

        A pixel that is certain by itself does not count for its neighbours, as in `Scan.strongest`.

        Parameters
        ----------
        values, coefficients, used, halves
            As there.

        Returns
        -------
        z, positive for spectra at higher energies, and the index of the half size
        """
        sums = self.sums(values, coefficients, used, self.model.noise)
        z, size = self._strongest(sums, halves)
        certain = np.abs(self._deviates(sums)) > CERTAIN
        beside = scipy.ndimage.maximum_filter(certain, 2 * max(halves) + 1) & ~certain
        if beside.any():
            others = self._strongest(sums * ~certain[..., None], halves)
            z, size = (np.where(beside, *pair) for pair in zip(others, (z, size), strict=True))
        return np.where(used, z, 0), size

    def needed(self, sums: np.ndarray, allowed: float) -> np.ndarray:
        """Return the square of the misfit that would make each squared deviate as large as is allowed."""
        agreement, variance, size = np.moveaxis(sums, -1, 0)
        return (agreement**2 / allowed - variance) / np.maximum(size, _TINY) ** 2

    def _strongest(self, sums: np.ndarray, halves: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        everything = np.stack([self._deviates(spatial_sums(sums, half)) for half in halves], axis=-1)
        size = np.abs(everything).argmax(axis=-1)
        return np.take_along_axis(everything, size[..., None], axis=-1)[..., 0], size

    def _deviates(self, sums: np.ndarray) -> np.ndarray:
        agreement, variance, size = np.moveaxis(sums, -1, 0)
        spread = variance + np.square(np.float32(self.misfit) * size)
        return agreement / np.sqrt(np.maximum(spread, _TINY))


def _lowest(x: np.ndarray, y: np.ndarray) -> float:
    """Return where values at equal steps are lowest, by the parabola through three; NaN beyond the ends."""
    k = int(np.argmin(y))
    if k in (0, len(y) - 1):
        return np.nan
    below, at, above = y[k - 1 : k + 2]
    bend = below - 2 * at + above
    return float(x[k] + (0.5 * (x[1] - x[0]) * (below - above) / bend if bend > 0 else 0))


def _basis(columns: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span the same space."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-9 * sizes.max()]


def _correlated(slope: np.ndarray, noise: NoiseModel) -> float:
    """Return by how much correlated noise of neighbouring channels adds to the variance of its product."""
    lags = range(1, len(noise.correlation))
    products = [noise.correlation[lag] * (slope[lag:] @ slope[:-lag]) for lag in lags]
    return float(1 + 2 * sum(products) / max(slope @ slope, 1e-300))
