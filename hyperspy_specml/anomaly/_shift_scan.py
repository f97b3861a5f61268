"""Search for spectra that are shifted in energy against what a reference model expects.

A shifted edge is a little in many channels and of both signs, so that no window contains much of it. What a
small shift adds to a spectrum is the spectrum's derivative, so the residual is compared with the derivative.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from scipy.ndimage import gaussian_filter1d

from hyperspy_specml.statistics import CERTAIN, spatial_sums

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._scan import ScanModel
    from hyperspy_specml.models import Parts
    from hyperspy_specml.statistics import NoiseModel

# Norm of the derivatives beyond the model's own spectra, relative to that of the whole derivatives: with less
# than this the model describes shifts itself, and what is left is rounding.
_LEAST_LEFT = 1e-2
# Smallest noise variance of a channel, relative to the mean of all: a channel with two counts must not
# dominate.
_LEAST_VARIANCE = 1e-3
# Channels, standard deviation of the Gaussian before spectra are interpolated: without it, values between
# channels would be smoother than those at channels.
_INTERPOLATION_SMOOTHING = 1.0
# Channels between the shifts that are tried.
_STEP = 0.25
# Smallest variance, in squared whitened units: avoids division by zero.
_TINY = np.float32(1e-30)


@dataclass(frozen=True)
class ShiftScan:
    """Derivatives of the spectra of a model, ready to be compared with residuals. D coefficients, E channels.

    Attributes
    ----------
    model
        What is expected.
    mean
        (E,) a typical spectrum; its noise weights the channels.
    smoothing
        Standard deviation, in channels, of the Gaussian whose derivative is taken.
    slopes
        (D + 1, E) derivatives of the spectra and of the offset, without what the model describes itself, in
        standard deviations of each channel.
    weights
        (E,) one over these standard deviations.
    correlated
        Variance of a sum over channels, relative to that without the correlation of neighbouring channels.
    model_error
        Channels: standard deviation of the shifts that ordinary spectra have.
    """

    model: ScanModel
    mean: np.ndarray = field(repr=False)
    smoothing: float
    slopes: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    correlated: float = 1.0
    model_error: float = 0.0

    @classmethod
    def of(cls, model: ScanModel, mean: np.ndarray, smoothing: float, model_error: float = 0.0) -> ShiftScan | None:
        """Prepare a model; None where its own spectra describe shifts, so that none can be seen.

        Parameters
        ----------
        model, mean, smoothing, model_error
            See the attributes.
        """
        variance = model.noise.variance(mean)
        weights = 1 / np.sqrt(np.maximum(variance, max(_LEAST_VARIANCE * variance.mean(), 1e-300)))
        rows = np.vstack([model.spectra, model.offset])
        whole = -gaussian_filter1d(rows, smoothing, axis=1, order=1, mode="nearest") * weights
        described = _orthonormal((rows[model.follows_noise] * weights).T)
        slopes = whole - (whole @ described) @ described.T
        if not np.linalg.norm(slopes) > _LEAST_LEFT * np.linalg.norm(whole):
            return None
        typical = np.linalg.lstsq((model.spectra * weights).T, (mean - model.offset) * weights, rcond=None)[0]
        correlated = _correlation_factor(np.append(typical, 1) @ slopes, model.noise)
        slopes, weights = slopes.astype(np.float32), weights.astype(np.float32)
        return cls(model, mean, smoothing, slopes, weights, correlated, model_error)

    @classmethod
    def from_parts(cls, parts: Parts, model: ScanModel) -> ShiftScan | None:
        """Return the search with these settings and arrays, for a model.

        Raises
        ------
        ValueError
            They do not make up one.
        """
        smoothing, error = parts.setting("smoothing", float), parts.setting("model_error", float)
        if not (0 < smoothing < np.inf and 0 <= error < np.inf):
            raise ValueError(f"the search for shifts has smoothing {smoothing} and model_error {error}")
        return cls.of(model, parts.array("mean", model.spectra.shape[1]), smoothing, error)

    def sums(self, values: np.ndarray, coefficients: np.ndarray, n_pixels: np.ndarray, noise: NoiseModel) -> np.ndarray:
        """Return (..., 3) of (..., E) spectra: product with the derivative, its variance, squared norm.

        The product of a spectrum that is shifted by one channel is the squared norm, on average.
        """
        design = np.concatenate([coefficients, n_pixels[..., None]], axis=-1, dtype=np.float32)
        slopes = design @ self.slopes
        rows = np.vstack([self.model.spectra, self.model.offset]).astype(np.float32)
        expected = np.maximum(design @ rows, 0)
        product = np.einsum("...e,...e->...", slopes, values * self.weights)
        size = np.einsum("...e,...e->...", slopes, slopes)
        slopes *= self.weights
        variance = np.einsum("...e,...e->...", np.square(slopes), noise.variance(expected))
        return np.stack([product, variance * self.correlated, size], axis=-1, dtype=np.float32)

    def estimate(
        self, spectra: np.ndarray, coefficients: np.ndarray, n_pixels: np.ndarray, farthest: float
    ) -> np.ndarray:
        """Return (n, 2) shifts of mean spectra in channels, and their standard errors.

        A spectrum is moved until the model describes it best, because the derivative is right for small
        shifts only. NaN where it would have to be moved further than `farthest`, where moving does not
        explain half of what the model leaves (another element is no shift), or where there are too few
        channels to move it.

        Parameters
        ----------
        spectra, coefficients, n_pixels
            (n, E) means over pixels, their (n, D) coefficients, and (n,) how many pixels.
        farthest
            Largest shift, in channels.
        """
        n_channels = spectra.shape[1]
        margin = int(min(np.ceil(farthest), (n_channels - 1) // 4))
        if margin < 1:
            return np.full((len(spectra), 2), np.nan)
        inner = np.arange(margin, n_channels - margin)
        rows = np.vstack([self.model.spectra, self.model.offset])[self.model.follows_noise]
        weights = self.weights[inner]
        smooth = gaussian_filter1d(rows, _INTERPOLATION_SMOOTHING, axis=1)
        described = _orthonormal((smooth[:, inner] * weights).T)
        by = np.arange(-margin, margin + _STEP, _STEP)
        sums = self.sums(spectra, coefficients, np.ones(len(spectra)), self.model.noise)
        errors = np.sqrt(sums[:, 1] / n_pixels) / np.maximum(sums[:, 2], _TINY)
        found = np.column_stack([np.full(len(spectra), np.nan), np.hypot(errors, self.model_error)])
        for i, spectrum in enumerate(gaussian_filter1d(spectra, _INTERPOLATION_SMOOTHING, axis=1)):
            moved = np.interp(inner + by[:, None], np.arange(n_channels), spectrum) * weights
            rest = np.square(moved - (moved @ described) @ described.T).sum(axis=1)
            variances = self.model.noise.variance(np.maximum(spectrum, 0))[inner] * weights**2
            by_noise = variances.sum() / (2 * np.sqrt(np.pi) * _INTERPOLATION_SMOOTHING * n_pixels[i])
            unmoved = rest[np.argmin(np.abs(by))]
            if rest.min() <= 0.5 * max(unmoved, by_noise) + by_noise:
                found[i, 0] = _lowest(by, rest)
        return found

    def strongest(
        self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray, radii: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return z of the strongest square of pixels about every pixel, and its radius.

        Neighbours of a pixel that is certain by itself are scored without it, as in `Scan.strongest`.

        Parameters
        ----------
        values, coefficients, used, radii
            As there.

        Returns
        -------
        z, positive for spectra at higher energies, and the radius
        """
        sums = self.sums(values, coefficients, used, self.model.noise)
        z, which = self._strongest(sums, radii)
        certain = np.abs(self._deviates(sums)) > CERTAIN
        beside = scipy.ndimage.maximum_filter(certain, 2 * max(radii) + 1) & ~certain
        if beside.any():
            others = self._strongest(sums * ~certain[..., None], radii)
            z, which = (np.where(beside, *pair) for pair in zip(others, (z, which), strict=True))
        return np.where(used, z, 0), which

    def needed_error(self, sums: np.ndarray, allowed: float) -> np.ndarray:
        """Return the squared model error with which each squared deviate would be as large as is allowed."""
        product, variance, size = np.moveaxis(sums, -1, 0)
        return (product**2 / allowed - variance) / np.maximum(size, _TINY) ** 2

    def _strongest(self, sums: np.ndarray, radii: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        everything = np.stack([self._deviates(spatial_sums(sums, radius)) for radius in radii], axis=-1)
        which = np.abs(everything).argmax(axis=-1)
        return np.take_along_axis(everything, which[..., None], axis=-1)[..., 0], np.array(radii)[which]

    def _deviates(self, sums: np.ndarray) -> np.ndarray:
        product, variance, size = np.moveaxis(sums, -1, 0)
        spread = variance + np.square(np.float32(self.model_error) * size)
        return product / np.sqrt(np.maximum(spread, _TINY))


def _lowest(x: np.ndarray, y: np.ndarray) -> float:
    """Return where values at equal steps are lowest, by a parabola through three; NaN at the ends."""
    k = int(np.argmin(y))
    if k in (0, len(y) - 1):
        return np.nan
    below, at, above = y[k - 1 : k + 2]
    curvature = below - 2 * at + above
    return float(x[k] + (0.5 * (x[1] - x[0]) * (below - above) / curvature if curvature > 0 else 0))


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span the same space."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-9 * sizes.max()]


def _correlation_factor(slope: np.ndarray, noise: NoiseModel) -> float:
    """Return the factor by which correlated noise of neighbouring channels changes a product's variance."""
    lags = range(1, len(noise.correlation))
    products = [noise.correlation[lag] * (slope[lag:] @ slope[:-lag]) for lag in lags]
    return float(1 + 2 * sum(products) / max(slope @ slope, 1e-300))
