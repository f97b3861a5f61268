"""A trained model with what it was trained on: enough to apply it to the next map, saved in one file."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pint

from hyperspy_specml.exceptions import EnergyAxisMismatchError, ModelFileError
from hyperspy_specml.models._base import FittedModel, Parts, parts_of, prefixed
from hyperspy_specml.models._file import Stored, from_plain, pack, to_plain, unpack
from hyperspy_specml.models._report import Report
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import STATE_NAMES, USED, Resampling, count_states, plan_resampling

_logger = logging.getLogger(__name__)

_PACKAGES = ("hyperspy_specml", "hyperspy", "numpy", "torch", "safetensors")
# What else has a file of this kind: the first item of its description that no other has, and what reads it.
_OTHERS = {"predictor": "specml.Predictor.load", "encoder": "specml.Encoder.load", "setup": "specml.LiveMonitor.load"}
_MOST_SHIFTED = 0.05  # channel widths: less than calibrations of one instrument repeat to
_PLAIN = {"title": str, "energy_axis": dict[str, Any], "config": TrainConfig}


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """By what the data of a training can be known again.

    Attributes
    ----------
    shape
        Of the map, in array order.
    n_spectra
        Number of spectra that were used.
    channel_sums
        Sum over these spectra, for each channel in use.
    """

    shape: tuple[int, ...]
    n_spectra: int
    channel_sums: np.ndarray = field(repr=False)

    @property
    def mean(self) -> np.ndarray:
        """(E in use,) mean spectrum."""
        return self.channel_sums / self.n_spectra


@dataclass(frozen=True, eq=False)
class TrainedModel(Stored):
    """A fitted model and its origin: pass it as ``model=`` to the method that made it, for another map.

    Attributes
    ----------
    model
        The fitted model, on the channels in use.
    channel_state
        (E,) state of every energy channel in training; only those in use are looked at.
    energy_axis
        Units and calibration.
    title
        Of the map or library it was trained on.
    config
        Settings of the training.
    fingerprint
        Shape and sums of what it was trained on.
    report
        Of the training.
    baseline
        PCA of the same data and size; None where there is none.
    """

    model: FittedModel
    channel_state: np.ndarray = field(repr=False)
    energy_axis: dict[str, Any]
    title: str
    config: TrainConfig = field(repr=False)
    fingerprint: Fingerprint = field(repr=False)
    report: Report = field(repr=False)
    baseline: TrainedModel | None = field(default=None, repr=False)

    @property
    def channels(self) -> np.ndarray:
        """(E,) bool, the channels in use."""
        return self.channel_state == USED

    def to_bytes(self) -> bytes:
        """Return what `save` writes; ``TrainedModel.from_bytes`` reads it."""
        parts = _parts(self)
        versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
        return pack({"model": parts.settings, "versions": versions}, prefixed("model", parts.arrays))

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "from_bytes(...)") -> TrainedModel:
        """Return the model that `to_bytes` wrote; no code of it is run.

        Parameters
        ----------
        content
            Of a model file.
        name
            What the messages call it.

        Raises
        ------
        ModelFileError
            It is damaged, cut off, something else, or newer than this version reads.
        """
        plain, arrays = unpack(content, name)
        if "model" not in plain and (load := next((_OTHERS[key] for key in _OTHERS if key in plain), None)):
            raise ModelFileError(f"load_model({name!r}): the file holds no trained model. Read it by {load}({name!r}).")
        try:
            return _assemble(Parts(plain, arrays).within("model"))
        except ValueError as error:
            raise ModelFileError(
                f"load_model({name!r}): the file, written with {plain.get('versions')!r:.200}, is no model that "
                f"this version understands: {error}."
            ) from error

    def on_axis(self, axis: dict[str, Any], *, method: str) -> TrainedModel:
        """Return the model for spectra on another energy axis: itself where the channels are the same.

        Otherwise its spectra and noise weights are resampled to the channels of the axis, as counts that scale
        with the width of a channel; the counts themselves never are.

        Parameters
        ----------
        axis
            Of the data, as `signals.axis_spec` describes it.
        method
            Name of the method that asks, for the message.

        Raises
        ------
        EnergyAxisMismatchError
            That would not be sound.
        """
        own = self.energy_axis
        if same_channels(axis, own):
            return self
        try:
            here = _channels_in(axis, own["units"])
            if np.isnan(here).any():
                raise ValueError(f"{axis['units']!r} cannot be converted to {own['units']!r}")
            resampling = plan_resampling(_positions(own), self.channel_state, here)
            found = self._resampled(axis, resampling)
        except ValueError as error:
            raise EnergyAxisMismatchError(
                f"{method}(model=...): trained on {in_words(own)}, but the signal has {in_words(axis)}: {error}. "
                "Bring it to that axis, s.isig[...] or s.interpolate_on_axis(...); if only its calibration differs, "
                "align=True moves the model; or fit anew without model."
            ) from error
        _logger.info("%s(model=...): the model is resampled from %s to %s", method, in_words(own), in_words(axis))
        return found

    def positions_of(self, axis: dict[str, Any]) -> np.ndarray:
        """Return the (E,) places of the channels of an axis in the units of the model's; NaN where there is no way.

        Parameters
        ----------
        axis
            As `signals.axis_spec` describes it.
        """
        return _channels_in(axis, self.energy_axis["units"])

    def on_places(self, axis: dict[str, Any], places: np.ndarray, *, method: str) -> TrainedModel:
        """Return the model for spectra whose channels lie elsewhere on its axis than their own axis says.

        Parameters
        ----------
        axis
            Of the data.
        places
            (E of the data,) places of its channels on the model's axis; some of the model's own may be missing.
        method
            Name of the method that asks, for the message.

        Raises
        ------
        EnergyAxisMismatchError
            That would not be sound.
        """
        try:
            resampling = plan_resampling(_positions(self.energy_axis), self.channel_state, places, partly=True)
            return self._resampled(axis, resampling)
        except ValueError as error:
            raise EnergyAxisMismatchError(
                f"{method}(model=..., align=True): trained on {in_words(self.energy_axis)}, but the signal has "
                f"{in_words(axis)}: {error}. Fit anew without model."
            ) from error

    def _resampled(self, axis: dict[str, Any], resampling: Resampling) -> TrainedModel:
        state, origin = resampling.channel_state, self.report.resampled_from or in_words(self.energy_axis)
        used = self.report.used | {"channels": count_states(state)}
        report = replace(self.report, used=used, resampled_from=origin)
        seen = replace(self.fingerprint, channel_sums=resampling(self.fingerprint.channel_sums[None])[0])
        model, baseline = self.model.resampled(resampling), self.baseline and self.baseline._resampled(axis, resampling)
        return replace(
            self, model=model, channel_state=state, energy_axis=axis, fingerprint=seen, report=report, baseline=baseline
        )

    def __repr__(self) -> str:
        """Return architecture, size and origin."""
        name, n = self.model.architecture, self.model.n_components
        return f"<TrainedModel {name}, K = {n}, {len(self.channel_state)} channels, of {self.title!r}>"


def _parts(trained: TrainedModel) -> Parts:
    """Take a trained model apart."""
    model, seen = parts_of(trained.model), trained.fingerprint
    settings = {
        "fitted": model.settings,
        "method": trained.report.method,
        "report": to_plain(trained.report),
        "fingerprint": {"shape": list(seen.shape), "n_spectra": seen.n_spectra},
        "baseline": None,
        **{name: to_plain(getattr(trained, name)) for name in _PLAIN},
    }
    own = {"channel_state": trained.channel_state, "channel_sums": seen.channel_sums}
    arrays = prefixed("fitted", model.arrays) | own
    if trained.baseline is not None:
        baseline = _parts(trained.baseline)
        settings["baseline"], arrays = baseline.settings, arrays | prefixed("baseline", baseline.arrays)
    return Parts(settings, arrays)


def _assemble(parts: Parts) -> TrainedModel:
    """Put a trained model together."""
    reports = {kind.method: kind for kind in Report.__subclasses__()}
    plain = {name: from_plain(kind, parts.settings.get(name), name) for name, kind in _PLAIN.items()}
    report = from_plain(parts.named("method", reports), parts.setting("report", dict), "report")
    state, model = _channel_state(parts, plain["energy_axis"]), parts.within("fitted").model()
    n_used = int((state == USED).sum())
    if len(model.basis.weights) != n_used:
        raise ValueError(f"the model has {len(model.basis.weights)} channels, but {n_used} are in use")
    seen = parts.setting("fingerprint", dict)
    shape = from_plain(tuple[int, ...], seen.get("shape"), "fingerprint.shape")
    n_spectra = from_plain(int, seen.get("n_spectra"), "fingerprint.n_spectra")
    fingerprint = Fingerprint(shape, n_spectra, parts.array("channel_sums", n_used))
    baseline = None if parts.settings.get("baseline") is None else _assemble(parts.within("baseline"))
    return TrainedModel(model, state, fingerprint=fingerprint, report=report, baseline=baseline, **plain)


def _channel_state(parts: Parts, axis: dict[str, Any]) -> np.ndarray:
    state = parts.arrays.get("channel_state", np.zeros(0))
    if state.dtype != np.uint8 or state.ndim != 1 or state.max(initial=0) >= len(STATE_NAMES):
        raise ValueError("array 'channel_state' is missing or holds no states of channels")
    _check_axis(axis, size=len(state))
    return state


def _check_axis(spec: dict[str, Any], *, size: int) -> None:
    """Refuse what `signals.axis_spec` did not make: it comes from a file."""
    numbers = spec.get("values", [spec.get("scale"), spec.get("offset")])
    texts = [spec.get("name"), spec.get("units")]
    if not (
        spec.get("size") == size
        and len(spec.get("values", range(size))) == size
        and all(isinstance(number, int | float) and np.isfinite(number) for number in numbers)
        and all(text is None or isinstance(text, str) for text in texts)
    ):
        raise ValueError(f"energy_axis is {spec!r:.200}, no axis of {size} channels")


def in_words(spec: dict[str, Any]) -> str:
    """Return a described axis as text for a message, however many values it has.

    Parameters
    ----------
    spec
        As `axis_spec` describes it.
    """
    first, last = _positions(spec)[[0, -1]]
    return f"{spec['size']} channels from {first:.8g} to {last:.8g} {spec['units'] or '(no unit)'}"


def same_channels(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two axes have every channel at the same place, whatever their names and units.

    Parameters
    ----------
    one, other
        As `axis_spec` describes them.
    """
    if one["size"] != other["size"]:
        return False
    here, there = _channels_in(one, other["units"]), _positions(other)
    width = np.abs(np.gradient(there)) if len(there) > 1 else 1.0
    return bool(np.all(np.abs(here - there) <= _MOST_SHIFTED * width))


def _positions(spec: dict[str, Any]) -> np.ndarray:
    """Return the (size,) values of a described axis."""
    if "values" in spec:
        return np.array(spec["values"])
    return spec["offset"] + spec["scale"] * np.arange(spec["size"])


def _channels_in(spec: dict[str, Any], units: str | None) -> np.ndarray:
    """Return the (size,) positions of a described axis in some unit (eV and keV are the same axis).

    They are NaN where it cannot be converted. No unit, and what is no unit, can only be converted to itself.
    """
    here = _positions(spec)
    if spec["units"] == units:
        return here
    registry = pint.get_application_registry()  # HyperSpy's own: quantities of two registries do not mix
    try:
        return registry.Quantity(here, registry.Unit(spec["units"])).to(registry.Unit(units)).magnitude
    except Exception:  # pint raises many unrelated kinds for texts that are no units, and axes hold any text
        return np.full_like(here, np.nan)
