"""Scan the residual of a model of the normal: sums over windows of energy and space, as z values.

A rare phase of a few pixels changes a few neighbouring channels by a few counts. No channel of no pixel
shows it, but the sum over the detector's line shape and some neighbours does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._windows import Windows
    from hyperspy_specml.statistics import NoiseModel

_GROUP_VALUES = 1 << 18  # window sums worked on at a time: they stay in the cache
_TINY = np.float32(1e-6)  # counts: no mean is smaller
_NOTHING = np.float32(1e-30)  # variance where nothing was measured
_LEAST_KEPT = 0.1  # of a window's noise left by the projection; less tells nothing
_MOST_TAKEN = 0.25  # of a sum's noise, by axes learnt from it: more have only sums left out of the fit
CERTAIN = 7.0  # z of a pixel by itself that no search over windows and pixels makes by chance
_BEYOND = np.float32(4.0)  # squares of z that are worth a correction: the maximum of many windows is beyond
_MOST_COUNTS = 1e4  # of the Poisson variable that stands for a window: beyond, it is a normal one


@dataclass(frozen=True)
class ScanModel:
    """What is normal, as the scan needs it. D coefficients, E channels in use.

    Attributes
    ----------
    spectra
        (D, E): the expected spectrum of a pixel is its coefficients times these, plus `offset`.
    offset
        (E,) spectrum of a pixel whose coefficients are 0.
    noise
        Noise model of one pixel.
    n_spectra
        Spectra that it was learnt from: a rate below one count in all of them is not known.
    projector
        (E, D) linear map from spectra to coefficients: how far noise reaches the prediction. None where the
        coefficients are without noise.
    doubt
        (D, E) variances of `spectra`, where they are not well known; None for none.
    leverage
        (D, L): the square of a sum's coefficients times these, over its number of spectra, is the share of
        its noise that `spectra` have taken along, being learnt from it too. None where they were not.
    """

    spectra: np.ndarray
    offset: np.ndarray
    noise: NoiseModel
    n_spectra: int
    projector: np.ndarray | None = None
    doubt: np.ndarray | None = None
    leverage: np.ndarray | None = None

    @property
    def followed(self) -> np.ndarray:
        """(D + 1,) bool, the spectra in whose directions a prediction follows noise, and the offset."""
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
    window, size
        Index of the window of energy and of the square of pixels.
    """

    z: np.ndarray
    window: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class Scan:
    """Windows, ready for a model.

    Attributes
    ----------
    model
        The normal.
    windows
        Of energy.
    halves
        Half sizes of the squares of pixels: 0 is the pixel itself, 1 is 3 x 3 ...
    misfit
        (J,) error of the model in each window, relative to what it expects; None for none.
    """

    model: ScanModel
    windows: Windows
    halves: tuple[int, ...] = (0, 1, 2)
    misfit: np.ndarray | None = None
    _sums: np.ndarray = field(init=False, repr=False)
    _variances: np.ndarray = field(init=False, repr=False)
    _gain: np.ndarray = field(init=False, repr=False)
    _doubt: np.ndarray | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sum what does not depend on the pixel over the windows once."""
        sums, variances, gain = window_moments(self.model, self.windows)
        object.__setattr__(self, "_sums", sums.astype(np.float32))
        object.__setattr__(self, "_variances", variances.astype(np.float32))
        object.__setattr__(self, "_gain", gain.astype(np.float32))
        doubt = self.model.doubt
        if doubt is not None:
            doubt = self.windows.sums(doubt, slice(0, len(self.windows))).astype(np.float32)
        object.__setattr__(self, "_doubt", doubt)

    @property
    def halo(self) -> int:
        """Pixels that a block needs around it."""
        return max(self.halves)

    def strongest(self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray) -> Strongest:
        """Return the strongest window of every pixel.

        A pixel that is certain by itself would make every window that reaches it strong, and its neighbours
        stranger than the weaker pixels of the same phase. So its neighbours are judged without it.

        Parameters
        ----------
        values
            (*navigation, E) spectra, 0 where a pixel is not used.
        coefficients
            (*navigation, D), 0 where a pixel is not used.
        used
            (*navigation,) bool.
        """
        found, alone = self._strongest(values, coefficients, used)
        certain = alone > CERTAIN**2
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
        best, window, size = found
        return Strongest(np.sign(best) * np.sqrt(np.abs(best)), window, size)

    def _strongest(
        self, values: np.ndarray, coefficients: np.ndarray, used: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        """Return signed square, window and size of the strongest window, and the largest square of size 0."""
        shape = used.shape
        design = np.concatenate([coefficients, used[..., None]], axis=-1, dtype=np.float32)
        designs = [spatial_sums(design, half) for half in self.halves]
        best, alone = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        window, size = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        for group in self.windows.groups(max(1, _GROUP_VALUES // max(1, used.size))):
            counts = self.windows.sums(values, group).astype(np.float32)
            for i, half in enumerate(self.halves):
                found = self.score(spatial_sums(counts, half), designs[i], group)
                at = np.abs(found).argmax(axis=-1)
                value = np.take_along_axis(found, at[..., None], axis=-1)[..., 0]
                better = np.abs(value) > np.abs(best)
                best[better] = value[better]
                window[better] = at[better] + group.start
                size[better] = i
                if not half:
                    np.maximum(alone, np.abs(value), out=alone)
        return (best, window, size), alone

    def expected_counts(self, coefficients: np.ndarray, used: np.ndarray) -> np.ndarray:
        """Return (*navigation,) counts expected in the largest square about each pixel."""
        dose = coefficients @ self.model.spectra.sum(axis=1).astype(np.float32)
        dose = (dose + np.float32(self.model.offset.sum()) * used)[..., None]
        return spatial_sums(dose, self.halo)[..., 0]

    def score(self, counts: np.ndarray, design: np.ndarray, group: slice) -> np.ndarray:
        """Return signed squares of z of sums (..., n) over the windows of a group.

        The difference to a prediction that has noise of its own is no Poisson variable. It is scored as the
        one, shifted and scaled, that has its variance and its skewness.
        """
        gain = self._gain[group]
        positive, variance = self.moments(design, group)
        own = gain * positive
        if self.misfit is not None:
            variance = variance + (self.misfit[group] * positive) ** 2
        # Noise of the prediction is symmetric. A prediction that takes counts along leaves less skewed ones,
        # which may fall farther below it than counts can; an excess is not trusted more for that.
        ratio = own / variance
        taken = np.where(counts < positive, np.maximum(ratio, 1), np.float32(1))
        unit = gain * np.minimum(ratio, 1 / (taken * taken))
        np.maximum(unit, np.sqrt(variance * np.float32(1 / _MOST_COUNTS)), out=unit)
        mean = variance / (unit * unit)
        return signed_squares(np.maximum(mean + (counts - positive) / unit, 0), mean)

    def moments(self, design: np.ndarray, group: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return mean of the sums over windows, and variance of their difference to the prediction."""
        gain = self._gain[group]
        expected = design @ self._sums[:, group]
        extra = design @ self._variances[:, group]  # variance beyond that of counts with this mean
        if self._doubt is not None:
            extra += np.square(design[..., :-1]) @ self._doubt[:, group]
        # A mean is not negative, though its prediction may be: the smaller, the more precise it is.
        spread = np.maximum(extra, 0)
        positive = 0.5 * (expected + np.sqrt(expected * expected + 2 * spread))
        # A rate below one count in all spectra that it was learnt from is not known.
        least = np.maximum(design[..., -1:] * np.float32(1 / max(1, self.model.n_spectra)), _TINY)
        np.maximum(positive, least * gain, out=positive)
        own = gain * positive
        variance = np.maximum(own + extra, _LEAST_KEPT * own)
        if self.model.leverage is not None:
            along = np.square(design[..., :-1] @ self.model.leverage.astype(np.float32)).sum(axis=-1)
            taken = along / np.maximum(design[..., -1], 1)
            variance *= 1 - np.minimum(taken, np.float32(_MOST_TAKEN))[..., None]
        return positive, np.maximum(variance, _NOTHING)


def window_moments(model: ScanModel, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        extra += projection_variance(model, windows, slope * rows, constant)
    return sums, extra, slope * correlated


def projection_variance(
    model: ScanModel, windows: Windows, variances: np.ndarray, constant: float
) -> np.ndarray:
    """Return what projecting noise of these (D + 1, E) variances adds to the variance of window residuals."""
    everything = slice(0, len(windows))
    projector = model.projector
    assert projector is not None
    along = windows.sums(model.spectra, everything)  # (D, J): what a coefficient puts into a window
    extra = np.empty((len(variances), len(windows)))
    for row, variance in enumerate(variances):
        if row == len(variances) - 1:
            variance = variance + constant
        weighted = projector * variance[:, None]
        cross = windows.sums(weighted.T, everything)  # (D, J)
        extra[row] = np.einsum("dj,de,ej->j", along, projector.T @ weighted, along)
        extra[row] -= 2 * np.einsum("dj,dj->j", along, cross)
    return extra


def gain_of(noise: NoiseModel) -> float:
    """Return by how much the variance grows with the mean."""
    return float(getattr(noise, "gain", 1.0))


def unit_of(variance: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return what one count stands for in a Poisson variable of this variance; of many it is a normal one."""
    return np.maximum(gain_of(noise), np.sqrt(variance / _MOST_COUNTS))


def signed_squares(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the square of the normal deviate of Poisson counts, with the sign of their excess.

    It is the Poisson deviance, beyond 4 corrected so that its root gives the mid-p value also where few
    counts are expected (O. E. Barndorff-Nielsen, Biometrika 73 (1986) 307). Else the chance of a strong
    window would be wrong by a factor that depends on how many counts are expected there.
    """
    ratio = counts / expected
    np.maximum(ratio, np.float32(1e-30), out=ratio)
    squares = np.log(ratio, out=ratio)
    squares *= counts
    excess = counts - expected
    squares -= excess
    np.maximum(squares, 0, out=squares)
    squares *= 2
    strong = np.flatnonzero(squares > _BEYOND)
    deviance, n, mean = (np.take(values, strong) for values in (squares, counts, expected))
    root = np.sqrt(deviance)
    # The sixth is Stirling's: no counts have a probability too.
    root += np.log(2 * np.sqrt(n + np.float32(1 / 6)) * np.abs(n - mean) / ((n + mean) * root)) / root
    np.put(squares, strong, root * root)
    return np.copysign(squares, excess, out=squares)


def spatial_sums(values: np.ndarray, half: int) -> np.ndarray:
    """Return sums of (*navigation, n) values over squares of 2 half + 1 pixels; outside is 0."""
    for axis in range(values.ndim - 1 if half else 0):
        width = 2 * half + 1
        values = scipy.ndimage.uniform_filter1d(values, width, axis=axis, mode="constant") * np.float32(width)
    return values
