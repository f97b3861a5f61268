"""The reference model: what ordinary spectra of a map look like, with its errors and its null distribution.

n spectra, E channels in use, D coefficients, J windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly._errors import extend_basis
from hyperspy_specml.anomaly._scan import ScanModel
from hyperspy_specml.anomaly._shift_scan import ShiftScan
from hyperspy_specml.anomaly._significance import NullFit
from hyperspy_specml.models import FittedModel, LinearModel, parts_of, prefixed
from hyperspy_specml.statistics import Resampling, Windows, noise_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.models import Parts
    from hyperspy_specml.statistics import NoiseModel, PrincipalBasis

_WINDOWS = ("starts", "stops", "centres", "widths")


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
        basis = self.basis
        projector = basis.vectors * basis.weights[:, None]
        projector[:, self.n_components :] = 0  # a nonlinear encoder follows noise in so many directions
        return ScanModel(
            basis.components(), basis.offset, self.noise, self.n_spectra, projector, self.component_variance,
            self.leverage, self.applied,
        )  # fmt: skip

    def with_reference_spectra(self, known: np.ndarray) -> ReferenceModel:
        """Return a model that also describes known spectra and all mixtures with them.

        Parameters
        ----------
        known
            (N, E) spectra of any scale.
        """
        basis, variance = extend_basis(self.basis, known, self.noise)
        n_before = self.basis.n_vectors
        if self.component_variance is not None:
            variance[:n_before] += self.component_variance
        leverage = self.leverage
        if leverage is not None:
            leverage = np.pad(leverage, ((0, basis.n_vectors - n_before), (0, 0)))
        extended = replace(
            self, model=LinearModel(basis), component_variance=variance, leverage=leverage, shift_scan=None
        )
        return extended.with_shift_scan(self.shift_scan)

    def with_shift_scan(self, like: ShiftScan | None) -> ReferenceModel:
        """Return the model with a search for shifts that has the settings of another one."""
        if like is None:
            return self
        return replace(self, shift_scan=ShiftScan.of(self.scan_model(), like.mean, like.smoothing, like.model_error))

    def without_errors(self) -> ReferenceModel:
        """Return the model for spectra that were drawn from it."""
        return replace(self, shift_scan=self.shift_scan and replace(self.shift_scan, model_error=0.0))

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> ReferenceModel:
        """Return the model of the same spectra in other channels; windows keep their energies.

        Raises
        ------
        ValueError
            The noise is not that of counts, so that the noise of other channels is not known, or a window
            contains no channel.
        """
        if self.noise.name != "poisson":
            raise ValueError(
                f"the noise model {self.noise.name!r} was measured for the channels of the reference model"
            )
        assert isinstance(resample, Resampling)
        reference = replace(self, model=self.model.resampled(resample))
        if self.component_variance is not None:
            reference = replace(reference, component_variance=resample(self.component_variance))
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
        like = self.shift_scan and self.shift_scan.resampled(resample, ratio)
        return replace(reference, shift_scan=None).with_shift_scan(like)

    def settings(self) -> dict[str, Any]:
        """Return what JSON can hold of the model and its calibration."""
        return {
            "model": parts_of(self.model).settings,
            "noise": self.noise.to_dict(),
            "n_spectra": self.n_spectra,
            "side": self.side,
            "shift": self.shift_scan and self.shift_scan.settings(),
            "null": self.null and self.null.settings(),
            "shift_null": self.shift_null and self.shift_null.settings(),
            "drift_range": list(self.drift_range),
            "total": self.total,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the model and of its calibration."""
        arrays = prefixed("model", self.model.arrays())
        for name in ("line_width", "model_error", "component_variance", "leverage"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        if self.windows is not None:
            arrays |= {f"windows.{n}": getattr(self.windows, n).astype(np.float64) for n in _WINDOWS}
        for name, part in {"shift": self.shift_scan, "null": self.null, "shift_null": self.shift_null}.items():
            if part is not None:
                arrays |= prefixed(name, part.arrays())
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
        windows = _windows(parts, e) if "windows.starts" in parts.arrays else None
        reference = cls(
            model, _noise(parts), parts.size("n_spectra", most=1 << 40), parts.size("side"),
            _optional(parts, "line_width", e), windows, _optional(parts, "model_error", len(windows or ())),
            _optional(parts, "component_variance", d, e), _optional(parts, "leverage", d, -1),
            null=_null(parts, "null"), shift_null=_null(parts, "shift_null"), drift_range=_drift_range(parts),
            total=parts.setting("total", float),
        )  # fmt: skip
        if len({each is None for each in (windows, reference.line_width, reference.model_error)}) > 1:
            raise ValueError("windows, line_width and model_error belong together")
        if parts.settings.get("shift") is None:
            return reference
        return replace(reference, shift_scan=ShiftScan.from_parts(parts.within("shift"), reference.scan_model()))


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


def _windows(parts: Parts, n_channels: int) -> Windows:
    starts = parts.array("windows.starts", -1)
    others = (parts.array(f"windows.{name}", len(starts)) for name in _WINDOWS[1:])
    return Windows.checked(starts, *others, n_channels=n_channels)


def _drift_range(parts: Parts) -> tuple[int, int]:
    span = parts.setting("drift_range", list)
    if len(span) != 2 or any(type(n) is not int for n in span) or not span[0] <= 0 <= span[1]:
        raise ValueError(f"setting 'drift_range' is {span!r:.60}, no range of channels about 0")
    return span[0], span[1]


def _null(parts: Parts, name: str) -> NullFit | None:
    return None if parts.settings.get(name) is None else NullFit.from_parts(parts.within(name))
