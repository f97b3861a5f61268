"""A trained model with what it was trained on: enough to apply it to the next map, saved in one file."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import EnergyAxisMismatchError, ModelFileError
from hyperspy_specml.models._base import FittedModel, Parts, parts_of, prefixed
from hyperspy_specml.models._energy_axis import channels_in, check_axis_spec, in_words, same_channels
from hyperspy_specml.models._file import pack, read_model_file, unpack, write_model_file
from hyperspy_specml.models._plain import from_plain, to_plain
from hyperspy_specml.models._report import REPORTED, Report
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import STATE_NAMES, USED, Resampling, count_states, plan_resampling

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

_logger = logging.getLogger(__name__)

_PACKAGES = ("hyperspy_specml", "hyperspy", "numpy", "torch", "safetensors")
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
class TrainedModel:
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

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save it with its report and settings, and a baseline, in one file; `load_model` reads it.

        Parameters
        ----------
        path
            Without a suffix it gets ".specml".
        overwrite
            What to do with a file that is there: True replaces it, False leaves it as it is, as in HyperSpy.
            By default it is an error.

        Returns
        -------
        where the file is

        Raises
        ------
        ModelFileExistsError
            There is a file, and `overwrite` was not said.
        """
        return write_model_file(path, self.to_bytes(), overwrite=overwrite)

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
        try:
            return _assemble(Parts(plain, arrays).within("model") if "model" in plain else Parts({}, {}))
        except ValueError as error:
            raise ModelFileError(
                f"load_model({name!r}): the file, written with {plain.get('versions')!r:.200}, is no model that "
                f"this version understands: {error}."
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainedModel:
        """Return the model of a file; see `load_model`."""
        return cls.from_bytes(read_model_file(path), name=os.fspath(path))

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
            here = channels_in(axis, own["units"])
            if np.isnan(here).any():
                raise ValueError(f"{axis['units']!r} cannot be converted to {own['units']!r}")
            resampling = plan_resampling(channels_in(own, own["units"]), self.channel_state, here)
            found = self._resampled(axis, resampling)
        except ValueError as error:
            raise EnergyAxisMismatchError(
                f"{method}(model=...): trained on {in_words(own)}, but the signal has {in_words(axis)}: {error}. "
                "Bring it to that axis, s.isig[...] or s.interpolate_on_axis(...), or fit anew without model."
            ) from error
        _logger.info("%s(model=...): the model is resampled from %s to %s", method, in_words(own), in_words(axis))
        return found

    def _resampled(self, axis: dict[str, Any], resampling: Resampling) -> Self:
        report = replace(
            self.report, used=self.report.used | {"channels": count_states(resampling.channel_state)},
            resampled_from=self.report.resampled_from or in_words(self.energy_axis),
        )  # fmt: skip
        sums = resampling(self.fingerprint.channel_sums[None])[0]
        return replace(
            self, model=self.model.resampled(resampling), channel_state=resampling.channel_state, energy_axis=axis,
            fingerprint=replace(self.fingerprint, channel_sums=sums), report=report,
            baseline=self.baseline and self.baseline._resampled(axis, resampling),
        )  # fmt: skip

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
    reports = {kind.method: kind for kind in all_reports(Report)}
    method = parts.setting("method", str)
    if method not in reports:
        raise ValueError(f"method {method!r} is not one of {', '.join(map(repr, reports))}")
    names = REPORTED | {"TrainConfig": TrainConfig}
    plain = {name: from_plain(kind, parts.settings.get(name), names=names, where=name) for name, kind in _PLAIN.items()}
    report = from_plain(reports[method], parts.setting("report", dict), names=names, where="report")
    state, model = _channel_state(parts, plain["energy_axis"]), parts.within("fitted").model()
    n_used = int((state == USED).sum())
    if len(model.basis.weights) != n_used:
        raise ValueError(f"the model has {len(model.basis.weights)} channels, but {n_used} are in use")
    seen = parts.setting("fingerprint", dict)
    shape = tuple(from_plain(list[int], seen.get("shape"), names={}, where="fingerprint.shape"))
    n_spectra = from_plain(int, seen.get("n_spectra"), names={}, where="fingerprint.n_spectra")
    fingerprint = Fingerprint(shape, n_spectra, parts.array("channel_sums", n_used))
    baseline = None if parts.settings.get("baseline") is None else _assemble(parts.within("baseline"))
    return TrainedModel(model, state, fingerprint=fingerprint, report=report, baseline=baseline, **plain)


def all_reports(kind: type[Report]) -> list[type[Report]]:
    """Return the kinds of reports that are known."""
    return [one for sub in kind.__subclasses__() for one in (sub, *all_reports(sub))]


def _channel_state(parts: Parts, axis: dict[str, Any]) -> np.ndarray:
    state = parts.arrays.get("channel_state")
    good = state is not None and state.dtype == np.uint8 and state.ndim == 1
    if not good or state.max(initial=0) >= len(STATE_NAMES):  # type: ignore[union-attr]
        raise ValueError("array 'channel_state' is missing or holds no states of channels")
    check_axis_spec(axis, size=len(state))  # type: ignore[arg-type]
    return state  # type: ignore[return-value]
