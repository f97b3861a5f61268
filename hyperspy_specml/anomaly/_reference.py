"""The reference model: what ordinary spectra of a map look like, with its errors and its null distribution.

n spectra, E channels in use, D coefficients, J windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._scan import ScanModel, ShiftScan
from hyperspy_specml.anomaly._significance import NullFit
from hyperspy_specml.models import FittedModel, LinearModel, parts_of, prefixed
from hyperspy_specml.statistics import PoissonGaussianNoise, Resampling, Windows, gain_of, noise_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.models import Parts
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis

_ARRAYS = ("line_width", "model_error", "component_variance", "leverage")
_NULLS = ("null", "shift_null")
_WINDOWS = ("starts", "stops", "centres", "widths")
# Norm of a known spectrum beyond the basis, relative to the whole, below which the basis describes it
# already.
_SAME = 1e-6


@dataclass(frozen=True)
class ReferenceModel(FittedModel):
    """A model of ordinary spectra, and what the scan has to know about it.

    Without windows it can only compute coefficients and expected spectra. Without a null distribution its
    scores are not calibrated yet.

    Attributes
    ----------
    model
        From spectra to coefficients and back, on the channels in use: PCA or an autoencoder.
    noise
        Noise model of a pixel.
    n_spectra
        Spectra that the model was learnt from.
    side
        Pixels along the side of the patches from whose sums it was learnt, or its errors measured.
    line_width
        (E,) full width at half maximum of a line, in channels.
    windows
        Windows of energy that are scanned.
    model_error
        (J,) relative error of what the model expects in each window.
    component_variance
        (D, E) noise variances of the spectra that the coefficients multiply; None where they are negligible.
    leverage
        (D, L), see `ScanModel`; None if it was learnt from other maps.
    shift_scan
        Searches for shifted spectra; None where it does not.
    null, shift_null
        Distributions of the maxima of windows and of shifts in maps without anomalies.
    drift_range
        Smallest and largest drift of the scan lines that it was learnt from, in channels: so many channels
        beyond those of the model were recorded.
    total
        Sum of all counts of the map that it was learnt from, by which that map is known again.
    applied
        Whether it scores another map than that; not stored.
    """

    model: FittedModel
    noise: NoiseModel
    n_spectra: int
    side: int = 1
    line_width: np.ndarray | None = field(repr=False, default=None)
    windows: Windows | None = field(repr=False, default=None)
    model_error: np.ndarray | None = field(repr=False, default=None)
    component_variance: np.ndarray | None = field(repr=False, default=None)
    leverage: np.ndarray | None = field(repr=False, default=None)
    shift_scan: ShiftScan | None = field(repr=False, default=None)
    null: NullFit | None = field(repr=False, default=None)
    shift_null: NullFit | None = field(repr=False, default=None)
    drift_range: tuple[int, int] = (0, 0)
    total: float = 0.0
    applied: bool = False
    kind = "reference"

    @property
    def basis(self) -> PrincipalBasis:  # type: ignore[override]  # of the model inside
        """The basis that the coefficients belong to."""
        return self.model.basis

    @property
    def architecture(self) -> str:
        """Name of the architecture of the model inside."""
        return self.model.architecture

    @property
    def n_components(self) -> int:
        """Number of components of the model inside."""
        return self.model.n_components

    @property
    def outputs(self) -> dict[str, str]:
        """Further outputs of the model inside."""
        return self.model.outputs

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Return what the model inside returns."""
        return self.model.encode_scores(scores)

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Return what the model inside returns."""
        return self.model.decode(scores)

    def components(self) -> np.ndarray:
        """Return those of the model inside."""
        return self.model.components()

    @property
    def is_linear(self) -> bool:
        """Whether the model inside is PCA."""
        return isinstance(self.model, LinearModel)

    def coefficients(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, D) coefficients of what the model expects for (n, E) spectra, float32.

        Parameters
        ----------
        rows
            (n, E) spectra of any real dtype.
        """
        if self.is_linear:
            return self.model.encode(rows)
        return self.basis.project(self.model.decode(self.model.encode(rows)))

    def scan_model(self) -> ScanModel:
        """Return what the scan has to know."""
        basis, noise, variance = self.basis, self.noise, self.component_variance
        projector = basis.vectors * basis.weights[:, None]
        projector[:, self.n_components :] = 0  # a nonlinear encoder follows noise in so many directions
        learnt = (self.n_spectra, projector, variance, self.leverage, self.applied)
        counts = None
        if gain_of(noise) and self.total:
            rates = np.square(1 / np.maximum(basis.weights, 1e-300))  # the variance of counts is their mean
            counts = self.total / gain_of(noise) * rates / rates.sum()
        return ScanModel(basis.components(), basis.offset, noise, *learnt, counts)

    def with_reference_spectra(self, known: np.ndarray) -> ReferenceModel:
        """Return a model that also describes known spectra and all mixtures with them.

        Parameters
        ----------
        known
            (N, E) spectra of any scale.
        """
        basis, variance = _extended(self.basis, known, self.noise)
        n_before = self.basis.n_vectors
        if self.component_variance is not None:
            variance[:n_before] += self.component_variance
        leverage = self.leverage
        if leverage is not None:
            leverage = np.pad(leverage, ((0, basis.n_vectors - n_before), (0, 0)))
        extended = replace(self, model=LinearModel(basis), component_variance=variance, leverage=leverage)
        return extended._with_shift_scan(self.shift_scan)

    def _with_shift_scan(self, like: ShiftScan | None) -> ReferenceModel:
        """Return the model with a search for shifts that has the settings of another one."""
        scan = like and ShiftScan.of(self.scan_model(), like.mean, like.smoothing, like.model_error)
        return replace(self, shift_scan=scan)

    def rescaled(self, unit: float) -> ReferenceModel:
        """Return the model of the same spectra in another unit, of which `unit` make one of this model's."""
        basis, noise, variance = self.basis, self.noise, self.component_variance
        basis = replace(basis, weights=basis.weights / unit, offset=basis.offset * unit)
        if isinstance(noise, PoissonGaussianNoise):
            noise = replace(noise, **{name: getattr(noise, name) * unit for name in ("gain", "readout", "offset")})
        nulls = {name: (one := getattr(self, name)) and replace(one, expected=one.expected * unit) for name in _NULLS}
        variance = None if variance is None else variance * unit**2
        model: Any = self.model
        changed: Any = {"model": replace(model, basis=basis), "component_variance": variance, "noise": noise}
        other = replace(self, total=self.total * unit, **changed, **nulls)
        like = self.shift_scan
        return other._with_shift_scan(like and replace(like, mean=like.mean * unit))

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> ReferenceModel:
        """Return the model of the same spectra in other channels; windows keep their energies.

        Raises
        ------
        ValueError
            The noise is not that of counts, so that the noise of other channels is not known, or a window
            contains no channel.
        """
        if self.noise.name != "poisson":
            name = self.noise.name
            raise ValueError(f"the noise model {name!r} was measured for the channels of the reference model")
        assert isinstance(resample, Resampling)
        variance = None if self.component_variance is None else resample(self.component_variance)
        reference = replace(self, model=self.model.resampled(resample), component_variance=variance)
        if self.windows is None or self.line_width is None:
            return reference
        # Channels of the model in each of the others.
        per_channel = resample(np.ones((1, len(self.line_width))))[0]
        ratio = float(np.median(per_channel))
        windows, kept = self.windows.resampled(resample)
        if not len(windows):
            raise ValueError("no window of energy contains a channel")
        error = None if self.model_error is None else self.model_error[kept]
        width = resample(self.line_width[None])[0] / per_channel**2
        span = (int(np.floor(self.drift_range[0] / ratio)), int(np.ceil(self.drift_range[1] / ratio)))
        reference = replace(reference, windows=windows, line_width=width, model_error=error, drift_range=span)
        if like := self.shift_scan:
            mean, smoothing, error = resample(like.mean[None])[0], like.smoothing / ratio, like.model_error / ratio
            like = replace(like, mean=mean, smoothing=smoothing, model_error=error)
        return reference._with_shift_scan(like)

    def settings(self) -> dict[str, Any]:
        """Return what JSON can hold of the model and its calibration."""
        shift = self.shift_scan and {"smoothing": self.shift_scan.smoothing, "model_error": self.shift_scan.model_error}
        parts: dict[str, Any] = {"model": parts_of(self.model).settings, "noise": self.noise.to_dict(), "shift": shift}
        parts |= {name: (null := getattr(self, name)) and null.settings() for name in _NULLS}
        parts |= {"n_spectra": self.n_spectra, "side": self.side, "drift_range": list(self.drift_range)}
        return parts | {"total": self.total}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the model and of its calibration."""
        arrays = prefixed("model", self.model.arrays())
        arrays |= {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        if self.windows is not None:
            arrays |= {f"windows.{n}": getattr(self.windows, n).astype(np.float64) for n in _WINDOWS}
        if self.shift_scan is not None:
            arrays["shift.mean"] = self.shift_scan.mean
        for name in _NULLS:
            if (null := getattr(self, name)) is not None:
                arrays |= prefixed(name, null.arrays())
        return arrays

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays.

        Raises
        ------
        ValueError
            They do not make up one.
        """
        model = parts.within("model").model()
        e, d = len(model.basis.weights), model.basis.n_vectors
        windows = None
        if "windows.starts" in parts.arrays:
            n = len(parts.array("windows.starts", -1))
            windows = Windows.checked(*(parts.array(f"windows.{name}", n) for name in _WINDOWS), n_channels=e)
        shapes = ((e,), (len(windows or ()),), (d, e), (d, -1))
        given: dict[str, Any] = {n: _optional(parts, n, *shape) for n, shape in zip(_ARRAYS, shapes, strict=True)}
        given |= {n: NullFit.from_parts(parts.within(n)) for n in _NULLS if parts.settings.get(n) is not None}
        given |= {"windows": windows, "drift_range": _drift_range(parts), "total": parts.setting("total", float)}
        reference = cls(model, _noise(parts), parts.size("n_spectra", most=1 << 40), parts.size("side"), **given)
        if len({each is None for each in (windows, reference.line_width, reference.model_error)}) > 1:
            raise ValueError("windows, line_width and model_error belong together")
        if parts.settings.get("shift") is None:
            return reference
        return replace(reference, shift_scan=ShiftScan.from_parts(parts.within("shift"), reference.scan_model()))


def _extended(basis: PrincipalBasis, known: np.ndarray, noise: NoiseModel) -> tuple[PrincipalBasis, np.ndarray]:
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


def _noise(parts: Parts) -> NoiseModel:
    try:
        return noise_from_dict(parts.setting("noise", dict))
    except (KeyError, TypeError) as error:
        raise ValueError(f"setting 'noise' describes no noise model ({error!r})") from error


def _optional(parts: Parts, name: str, *shape: int) -> np.ndarray | None:
    """Return one of the arrays that a model may lack; its values are errors or widths, so never negative."""
    if name not in parts.arrays:
        return None
    array = parts.array(name, *shape)
    if name != "leverage" and (array < 0).any():
        raise ValueError(f"array {name!r} holds negative values")
    return array


def _drift_range(parts: Parts) -> tuple[int, int]:
    span = parts.setting("drift_range", list)
    if len(span) != 2 or any(type(n) is not int for n in span) or not span[0] <= 0 <= span[1]:
        raise ValueError(f"setting 'drift_range' is {span!r:.60}, no range of channels about 0")
    return span[0], span[1]
