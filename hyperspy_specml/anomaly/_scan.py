"""Scan the residual of a reference model: for more or fewer counts, and for spectra that are shifted in energy.

A rare phase of a few pixels changes a few neighbouring channels by a few counts. No single channel of a
single pixel shows it, but the sum over the detector's line shape and some neighbouring pixels does.

A shifted edge is a little in many channels and of both signs, so that no window contains much of it. What a
small shift adds to a spectrum is the spectrum's derivative, so the residual is compared with the derivative.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.ndimage
from scipy.ndimage import gaussian_filter1d

from hyperspy_specml.statistics import MOST_COUNTS, gain_of, signed_squares, spatial_sums

if TYPE_CHECKING:
    from hyperspy_specml.models import Parts
    from hyperspy_specml.statistics import NoiseModel, Windows

# z of a single pixel that chance does not reach in any search over windows and pixels. Neighbours of such a
# pixel are scored without it.
CERTAIN = 7.0
# Window sums that are worked on at a time, so that they stay in the processor's cache.
_GROUP_VALUES = 1 << 18
# Counts: smallest expected sum.
_LEAST_EXPECTED = np.float32(1e-6)
# Squared signal units: smallest variance, where nothing was measured.
_LEAST_VARIANCE = np.float32(1e-30)
# Fraction of a window's noise that the projection on the model leaves at least; below it rounding decides.
_LEAST_LEFT = 0.1
# Fraction of a sum's noise that components learnt from it contain at most; larger ones only occur for sums
# that were left out of the fit.
_MOST_LEVERAGE = 0.25
# Norm of the derivatives beyond the model's own spectra, relative to that of the whole derivatives: with less
# than this the model describes shifts itself, and what is left is rounding.
_LEAST_SLOPE = 1e-2
# Smallest noise variance of a channel, relative to the mean of all: a channel with two counts must not
# dominate.
_LEAST_WEIGHT = 1e-3
# Channels, standard deviation of the Gaussian before spectra are interpolated: without it, values between
# channels would be smoother than those at channels.
_INTERPOLATION_SMOOTHING = 1.0
# Part of what a shift changes, squared and whitened, that the compared channels hold at least.
_LEAST_COMPARED = 0.8
# Channels between the shifts that are tried.
_STEP = 0.25
# Smallest variance, in squared whitened units: avoids division by zero.
_TINY = np.float32(1e-30)


@dataclass(frozen=True)
class ScanModel:
    """The expected spectra and their errors, as the scan needs them. D coefficients, E channels in use.

    Attributes
    ----------
    spectra
        (D, E): the expected spectrum of a pixel is its coefficients times these, plus `offset`.
    offset
        (E,) spectrum of a pixel whose coefficients are 0.
    noise
        Noise model of one pixel.
    n_spectra
        Spectra that the model was learnt from: a rate below one count in all of them is not known.
    projector
        (E, D) linear map from spectra to coefficients: through it noise reaches the prediction. None where
        the coefficients are without noise.
    component_variance
        (D, E) noise variances of `spectra` themselves; None where they are negligible.
    leverage
        (D, L): the sum of squares of a sum's coefficients times these, over its number of pixels, is the
        fraction of its noise that `spectra` contain, because they were learnt from it too. None where that is
        not known.
    learnt_from_others
        Whether the spectra that are scored are others than those that the model was learnt from. Then the
        noise that `spectra` contain is not theirs: it makes differences larger by this fraction, not smaller.
    counts
        (E,) counts of all spectra that the model was learnt from: a rate is not known better than their Poisson noise
        allows. None where that is not known.
    """

    spectra: np.ndarray
    offset: np.ndarray
    noise: NoiseModel
    n_spectra: int
    projector: np.ndarray | None = None
    component_variance: np.ndarray | None = None
    leverage: np.ndarray | None = None
    learnt_from_others: bool = False
    counts: np.ndarray | None = None

    @property
    def follows_noise(self) -> np.ndarray:
        """(D + 1,) bool: the spectra, and last the offset, along which a prediction follows the noise."""
        everything = np.ones(len(self.spectra) + 1, bool)
        if self.projector is not None:
            everything[:-1] = self.projector.any(axis=0)
        return everything


class Strongest(NamedTuple):
    """The strongest window of every pixel.

    Attributes
    ----------
    z
        Signed: negative for a deficit of counts.
    window, radius
        Index of the window of energy, and the radius of the square of pixels.
    """

    z: np.ndarray
    window: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class Scan:
    """Windows, ready for a model.

    Attributes
    ----------
    model
        What is expected.
    windows
        Windows of energy.
    radii
        Radii of the squares of pixels: 0 is the pixel itself, 1 is 3 x 3 ...
    model_error
        (J,) error of what the model expects in each window, relative to `error_level`; None for none.
    """

    model: ScanModel
    windows: Windows
    radii: tuple[int, ...] = (0, 1, 2)
    model_error: np.ndarray | None = None

    @cached_property
    def _moments(self) -> list[np.ndarray]:
        """What does not depend on the pixel, summed over the windows once."""
        return [part.astype(np.float32) for part in _window_moments(self.model, self.windows)]

    @cached_property
    def _component_variance(self) -> np.ndarray | None:
        own = self.model.component_variance
        return None if own is None else self.windows.sums(own, slice(None)).astype(np.float32)

    @cached_property
    def _pixel_noise(self) -> np.ndarray:
        """(J,) variance of the noise of one pixel in each window, without that of its counts."""
        alone = replace(self.model, spectra=self.model.spectra[:0], projector=None)
        return _window_moments(alone, self.windows)[1][-1].astype(np.float32)

    @cached_property
    def _least_counts(self) -> np.ndarray:
        """(J,) counts that all spectra together have in a window without telling that: one, and their noise."""
        own = self.model.counts
        seen = 0.0 if own is None else self.windows.sums(own[None], slice(None))[0]
        return np.broadcast_to(1 + np.sqrt(seen), len(self.windows)).astype(np.float32)

    def error_level(self, positive: np.ndarray, n_pixels: np.ndarray, group: slice) -> np.ndarray:
        """Return what the model error is relative to: the mean, or of signed data the noise in as many pixels.

        Parameters
        ----------
        positive
            (..., n) means of sums over the windows of a group.
        n_pixels
            (..., 1) pixels in each sum.
        group
            Which windows.
        """
        if gain_of(self.model.noise):
            return positive
        return np.asarray(n_pixels * np.sqrt(self._pixel_noise[group]))

    @property
    def halo(self) -> int:
        """Pixels that a block needs around it."""
        return max(self.radii)

    def strongest(self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray) -> Strongest:
        r"""Return the strongest window of every pixel.

        A pixel that is certain by itself would make every square that contains it strong, so that its
        neighbours would seem stronger than weaker pixels of the same phase. They are scored without it.

        Parameters
        ----------
        values
            (\*navigation, E) spectra, 0 where a pixel is not used.
        coefficients
            (\*navigation, D), 0 where a pixel is not used.
        used
            (\*navigation,) bool.
        """
        found, single = self._search(values, coefficients, used)
        certain = single > CERTAIN**2
        beside = scipy.ndimage.maximum_filter(certain, 2 * self.halo + 1) & ~certain & used
        labels, _ = scipy.ndimage.label(beside, np.ones((3,) * used.ndim))
        for label, box in enumerate(scipy.ndimage.find_objects(labels), 1):
            wide = tuple(slice(max(0, s.start - self.halo), s.stop + self.halo) for s in box)
            others = used[wide] & ~certain[wide]
            kept = others[..., None]
            again, _ = self._search(values[wide] * kept, coefficients[wide] * kept, others)
            at = labels[wide] == label
            for first, second in zip(found, again, strict=True):
                first[wide][at] = second[at]
        return found._replace(z=np.sign(found.z) * np.sqrt(np.abs(found.z)))

    def _search(self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray) -> tuple[Strongest, np.ndarray]:
        """Return the strongest windows, signed squares as z, and the largest square of radius 0."""
        shape = used.shape
        design = np.concatenate([coefficients, used[..., None]], axis=-1, dtype=np.float32)
        designs = [spatial_sums(design, radius) for radius in self.radii]
        best, single = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        window, size = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        for group in self.windows.groups(max(1, _GROUP_VALUES // max(1, used.size))):
            counts = self.windows.sums(values, group).astype(np.float32)
            for i, radius in enumerate(self.radii):
                found = self.score(spatial_sums(counts, radius), designs[i], group)
                at = np.abs(found).argmax(axis=-1)
                value = np.take_along_axis(found, at[..., None], axis=-1)[..., 0]
                better = np.abs(value) > np.abs(best)
                best[better] = value[better]
                window[better] = at[better] + group.start
                size[better] = radius
                if not radius:
                    np.maximum(single, np.abs(value), out=single)
        return Strongest(best, window, size), single

    def expected_counts(self, coefficients: np.ndarray, used: np.ndarray) -> np.ndarray:
        r"""Return (\*navigation,) counts expected in the largest square about each pixel."""
        total = coefficients @ self.model.spectra.sum(axis=1).astype(np.float32)
        total = (total + np.float32(self.model.offset.sum()) * used)[..., None]
        return spatial_sums(total, self.halo)[..., 0]

    def score(self, counts: np.ndarray, design: np.ndarray, group: slice) -> np.ndarray:
        """Return signed squares of z of sums (..., n) over the windows of a group.

        The difference of counts and a prediction that is noisy itself is no Poisson variable. It is scored as
        the shifted and scaled Poisson variable that has the same variance and skewness.
        """
        gain = self._moments[2][group]
        positive, variance = self.moments(design, group)
        own = gain * positive
        if self.model_error is not None:
            variance = variance + (self.model_error[group] * self.error_level(positive, design[..., -1:], group)) ** 2
        # Noise of the prediction is symmetric. A prediction that follows the counts leaves less skewed
        # differences, which may fall further below it than counts can. For an excess nothing is changed.
        ratio = own / variance
        below = np.where(counts < positive, np.maximum(ratio, 1), np.float32(1))
        unit = gain * np.minimum(ratio, 1 / (below * below))
        np.maximum(unit, np.sqrt(variance * np.float32(1 / MOST_COUNTS)), out=unit)
        mean = variance / (unit * unit)
        return signed_squares(np.maximum(mean + (counts - positive) / unit, 0), mean)

    def moments(self, design: np.ndarray, group: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return mean of the sums over windows, and variance of their difference to the prediction."""
        sums, variances, gain = (part[..., group] for part in self._moments)
        expected = design @ sums
        extra = design @ variances  # beyond the variance of counts with this mean
        if self._component_variance is not None:
            extra += np.square(design[..., :-1]) @ self._component_variance[:, group]
        positive = expected
        if gain.any():
            # A mean is not negative, though its prediction may be. The more precise the prediction, the nearer
            # to 0 is the mean that is taken for a negative one. Without counts means may have any sign.
            spread = np.maximum(extra, 0)
            positive = 0.5 * (expected + np.sqrt(expected * expected + 2 * spread))
            # A rate below one count in all spectra that the model was learnt from is not known, nor one below the noise
            # of all counts there: the model takes it for 0 where noise of its components makes it negative.
            pixels = design[..., -1:] * np.float32(1 / max(1, self.model.n_spectra))
            least = np.maximum(pixels * self._least_counts[group], _LEAST_EXPECTED)
            np.maximum(positive, least * gain, out=positive)
        own = gain * positive
        variance = np.maximum(own + extra, _LEAST_LEFT * own)
        if self.model.leverage is not None:
            along = np.square(design[..., :-1] @ self.model.leverage.astype(np.float32)).sum(axis=-1)
            fraction = along / np.maximum(design[..., -1], 1)
            fraction = np.minimum(fraction, np.float32(_MOST_LEVERAGE))[..., None]
            variance *= 1 + fraction if self.model.learnt_from_others else 1 - fraction
        return positive, np.maximum(variance, _LEAST_VARIANCE)


def _window_moments(model: ScanModel, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a unit of each coefficient, and a pixel, add to mean and variance of each window.

    Returns
    -------
    (D + 1, J) means, (D + 1, J) variances beyond gain times mean, and the (J,) gain
    """
    rows, noise = np.vstack([model.spectra, model.offset]), model.noise
    sums = windows.sums(rows, slice(None))
    correlated = windows.variance_ratio(noise)
    constant, slope = float(noise.variance(np.zeros(1))[0]), gain_of(noise)
    extra = np.zeros_like(sums)
    extra[-1] = constant * (windows.stops - windows.starts) * correlated
    if model.projector is not None:
        variances = slope * rows
        variances[-1] += constant
        extra += _projected_noise(model.projector, model.spectra, windows, variances)
    return sums, extra, slope * correlated


def _projected_noise(projector: np.ndarray, spectra: np.ndarray, windows: Windows, variances: np.ndarray) -> np.ndarray:
    """Return what projecting noise of these (D + 1, E) variances adds to the variance of window residuals."""
    along = windows.sums(spectra, slice(None))  # (D, J): what a unit of a coefficient adds to a window
    extra = np.empty((len(variances), len(windows)))
    for row, variance in enumerate(variances):
        weighted = projector * variance[:, None]
        cross = windows.sums(weighted.T, slice(None))  # (D, J)
        extra[row] = np.einsum("dj,de,ej->j", along, projector.T @ weighted, along)
        extra[row] -= 2 * np.einsum("dj,dj->j", along, cross)
    return extra


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
        """Prepare a model; None where its own spectra describe shifts, so that none can be seen."""
        variance = model.noise.variance(mean)
        weights = 1 / np.sqrt(np.maximum(variance, max(_LEAST_WEIGHT * variance.mean(), 1e-300)))
        rows = np.vstack([model.spectra, model.offset])
        whole = -gaussian_filter1d(rows, smoothing, axis=1, order=1, mode="nearest") * weights
        described = _orthonormal((rows[model.follows_noise] * weights).T)
        slopes = whole - (whole @ described) @ described.T
        if not np.linalg.norm(slopes) > _LEAST_SLOPE * np.linalg.norm(whole):
            return None
        typical = np.linalg.lstsq((model.spectra * weights).T, (mean - model.offset) * weights, rcond=None)[0]
        correlated = correlation_factor(np.append(typical, 1) @ slopes, model.noise)
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
        expected = design @ rows
        product = np.einsum("...e,...e->...", slopes, values * self.weights)
        size = np.einsum("...e,...e->...", slopes, slopes)
        slopes *= self.weights
        variance = np.einsum("...e,...e->...", np.square(slopes), noise.variance(expected))
        return np.stack([product, variance * self.correlated, size], axis=-1, dtype=np.float32)

    def estimate(self, spectra: np.ndarray, coefficients: np.ndarray, n_pixels: np.ndarray, limit: float) -> np.ndarray:
        """Return (n, 2) shifts of mean spectra in channels, and their standard errors.

        A spectrum is moved until the model describes it best, because the derivative is right for small
        shifts only. NaN where it would have to be moved further than `limit`, where moving does not
        explain half of what the model leaves (another element is no shift), or where there are too few
        channels to move it, or the channels that can be compared do not hold what would be shifted.

        Parameters
        ----------
        spectra, coefficients, n_pixels
            (n, E) means over pixels, their (n, D) coefficients, and (n,) how many pixels.
        limit
            Largest shift, in channels.
        """
        n_channels = spectra.shape[1]
        margin = int(min(np.ceil(limit), (n_channels - 1) // 4))
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
            slopes = np.square(np.append(coefficients[i], 1) @ self.slopes)
            if slopes[inner].sum() < _LEAST_COMPARED * slopes.sum():
                continue
            variances = self.model.noise.variance(spectrum)[inner] * weights**2
            by_noise = variances.sum() / (2 * np.sqrt(np.pi) * _INTERPOLATION_SMOOTHING * n_pixels[i])
            unmoved = rest[np.argmin(np.abs(by))]
            if rest.min() <= 0.5 * max(unmoved, by_noise) + by_noise:
                found[i, 0] = _lowest(by, rest)
        return found

    def strongest(
        self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray, radii: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return z of the strongest square of pixels about every pixel, and its radius.

        z is positive for spectra at higher energies. Neighbours of a pixel that is certain by itself are scored
        without it, as in `Scan.strongest`.
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


def correlation_factor(slope: np.ndarray, noise: NoiseModel) -> float:
    """Return the factor by which correlated noise of neighbouring channels changes a product's variance."""
    lags = range(1, len(noise.correlation))
    products = [noise.correlation[lag] * (slope[lag:] @ slope[:-lag]) for lag in lags]
    return float(1 + 2 * sum(products) / max(slope @ slope, 1e-300))
