"""Scan the residual of a reference model: sums over windows of energy and squares of pixels, as z values.

A rare phase of a few pixels changes a few neighbouring channels by a few counts. No single channel of a
single pixel shows it, but the sum over the detector's line shape and some neighbouring pixels does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.statistics import MOST_COUNTS, gain_of, signed_squares, spatial_sums

if TYPE_CHECKING:
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
    """

    spectra: np.ndarray
    offset: np.ndarray
    noise: NoiseModel
    n_spectra: int
    projector: np.ndarray | None = None
    component_variance: np.ndarray | None = None
    leverage: np.ndarray | None = None
    learnt_from_others: bool = False

    @property
    def follows_noise(self) -> np.ndarray:
        """(D + 1,) bool: the spectra, and last the offset, along which a prediction follows the noise."""
        everything = np.ones(len(self.spectra) + 1, bool)
        if self.projector is not None:
            everything[:-1] = self.projector.any(axis=0)
        return everything


@dataclass(frozen=True)
class Strongest:
    """The strongest window of every pixel.

    Attributes
    ----------
    z
        Signed: negative for a deficit of counts.
    window, radius
        Index of the window of energy, and index of the radius of the square of pixels.
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
        (J,) relative error of what the model expects in each window; None for none.
    """

    model: ScanModel
    windows: Windows
    radii: tuple[int, ...] = (0, 1, 2)
    model_error: np.ndarray | None = None
    _sums: np.ndarray = field(init=False, repr=False)
    _variances: np.ndarray = field(init=False, repr=False)
    _gain: np.ndarray = field(init=False, repr=False)
    _component_variance: np.ndarray | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sum what does not depend on the pixel over the windows once."""
        sums, variances, gain = _window_moments(self.model, self.windows)
        object.__setattr__(self, "_sums", sums.astype(np.float32))
        object.__setattr__(self, "_variances", variances.astype(np.float32))
        object.__setattr__(self, "_gain", gain.astype(np.float32))
        own = self.model.component_variance
        if own is not None:
            own = self.windows.sums(own, slice(0, len(self.windows))).astype(np.float32)
        object.__setattr__(self, "_component_variance", own)

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
        found, single = self._strongest(values, coefficients, used)
        certain = single > CERTAIN**2
        beside = scipy.ndimage.maximum_filter(certain, 2 * self.halo + 1) & ~certain & used
        labels, _ = scipy.ndimage.label(beside, np.ones((3,) * used.ndim))
        for label, box in enumerate(scipy.ndimage.find_objects(labels), 1):
            wide = tuple(slice(max(0, s.start - self.halo), s.stop + self.halo) for s in box)
            others = used[wide] & ~certain[wide]
            kept = others[..., None]
            again, _ = self._strongest(values[wide] * kept, coefficients[wide] * kept, others)
            at = labels[wide] == label
            for first, second in zip(found, again, strict=True):
                first[wide][at] = second[at]
        best, window, radius = found
        return Strongest(np.sign(best) * np.sqrt(np.abs(best)), window, radius)

    def _strongest(
        self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        """Return signed square, window and radius of the strongest, and the largest square of radius 0."""
        shape = used.shape
        design = np.concatenate([coefficients, used[..., None]], axis=-1, dtype=np.float32)
        designs = [spatial_sums(design, radius) for radius in self.radii]
        best, single = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        window, which = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        for group in self.windows.groups(max(1, _GROUP_VALUES // max(1, used.size))):
            counts = self.windows.sums(values, group).astype(np.float32)
            for i, radius in enumerate(self.radii):
                found = self.score(spatial_sums(counts, radius), designs[i], group)
                at = np.abs(found).argmax(axis=-1)
                value = np.take_along_axis(found, at[..., None], axis=-1)[..., 0]
                better = np.abs(value) > np.abs(best)
                best[better] = value[better]
                window[better] = at[better] + group.start
                which[better] = i
                if not radius:
                    np.maximum(single, np.abs(value), out=single)
        return (best, window, which), single

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
        gain = self._gain[group]
        positive, variance = self.moments(design, group)
        own = gain * positive
        if self.model_error is not None:
            variance = variance + (self.model_error[group] * positive) ** 2
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
        gain = self._gain[group]
        expected = design @ self._sums[:, group]
        extra = design @ self._variances[:, group]  # beyond the variance of counts with this mean
        if self._component_variance is not None:
            extra += np.square(design[..., :-1]) @ self._component_variance[:, group]
        # A mean is not negative, though its prediction may be. The more precise the prediction, the nearer to
        # 0 is the mean that is taken for a negative one.
        spread = np.maximum(extra, 0)
        positive = 0.5 * (expected + np.sqrt(expected * expected + 2 * spread))
        # A rate below one count in all spectra that the model was learnt from is not known.
        least = np.maximum(design[..., -1:] * np.float32(1 / max(1, self.model.n_spectra)), _LEAST_EXPECTED)
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
    everything = slice(0, len(windows))
    rows = np.vstack([model.spectra, model.offset])
    sums = windows.sums(rows, everything)
    noise = model.noise
    lags = np.arange(1, len(noise.correlation))
    correlated = 1 + 2 * (
        np.maximum(0, 1 - lags / np.maximum(windows.widths, 1)[:, None]) * np.array(noise.correlation)[1:]
    ).sum(axis=1)
    constant = float(noise.variance(np.zeros(1))[0])
    slope = gain_of(noise)
    extra = np.zeros_like(sums)
    extra[-1] = constant * (windows.stops - windows.starts) * correlated
    if model.projector is not None:
        extra += _projection_variance(model, windows, slope * rows, constant)
    return sums, extra, slope * correlated


def _projection_variance(model: ScanModel, windows: Windows, variances: np.ndarray, constant: float) -> np.ndarray:
    """Return what projecting noise of these (D + 1, E) variances adds to the variance of window residuals."""
    everything = slice(0, len(windows))
    projector = model.projector
    assert projector is not None
    along = windows.sums(model.spectra, everything)  # (D, J): what a unit of a coefficient adds to a window
    extra = np.empty((len(variances), len(windows)))
    for row, variance in enumerate(variances):
        if row == len(variances) - 1:
            variance = variance + constant
        weighted = projector * variance[:, None]
        cross = windows.sums(weighted.T, everything)  # (D, J)
        extra[row] = np.einsum("dj,de,ej->j", along, projector.T @ weighted, along)
        extra[row] -= 2 * np.einsum("dj,dj->j", along, cross)
    return extra
