"""Trained models to files and back."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import ModelFileError
from hyperspy_specml.models._denoise_report import DenoiseReport  # noqa: TC001  (read back, as below)
from hyperspy_specml.models._denoiser import TrainedDenoiser
from hyperspy_specml.models._energy_axis import check_axis_spec
from hyperspy_specml.models._file import read_model_file, write_model_file
from hyperspy_specml.models._plain import from_plain, to_plain
from hyperspy_specml.models._report import Report  # noqa: TC001  (read back by its annotations)
from hyperspy_specml.models._trained import Fingerprint, Trained, TrainedModel
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import STATE_NAMES, USED, RankCurve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PACKAGES = ("hyperspy_specml", "hyperspy", "numpy", "torch", "safetensors")


@dataclass(frozen=True)
class _Description:
    """What a file says of a model beside its arrays: the fields of `TrainedModel` that are none."""

    architecture: str
    energy_axis: dict[str, Any]
    title: str
    config: TrainConfig
    fingerprint: Fingerprint
    report: Report
    baseline: _Description | None


@dataclass(frozen=True)
class _DenoiserDescription:
    """What a file says of a denoiser beside its arrays."""

    kind: str
    filters: tuple[str, ...]
    energy_axis: dict[str, Any]
    title: str
    config: TrainConfig
    fingerprint: Fingerprint
    report: DenoiseReport


def save(trained: Trained, path: str | os.PathLike[str], *, overwrite: bool | None) -> Path:
    """Write a model and its baseline, or a denoiser, to one file; see `Trained.save`."""
    if isinstance(trained, TrainedDenoiser):
        content: dict[str, Any] = {"denoiser": to_plain(_describe_denoiser(trained))}
        arrays = _denoiser_arrays(trained)
    else:
        assert isinstance(trained, TrainedModel)
        content, arrays = {"model": to_plain(_describe(trained))}, _arrays(trained)
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return write_model_file(path, content | {"versions": versions}, arrays, overwrite=overwrite)


def load_model(path: str | os.PathLike[str]) -> TrainedModel | TrainedDenoiser:
    """Load a model that ``result.model.save(path)`` or a denoiser's ``save`` saved; no code of it is run.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    ModelFileError
        The file is damaged, cut off, something else, or newer than this version reads.
    FileNotFoundError
        There is no such file.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
    >>> path = dec.model.save("steel", overwrite=True)
    >>> specml.load_model(path)
    <TrainedModel pca, K = 3, 256 channels, of 'Simulated Fe-Cr-Ni map'>
    """
    from hyperspy_specml.decompose import Attempt, Candidate

    plain, arrays = read_model_file(path)
    names = {
        "np": np,
        "Attempt": Attempt,
        "Candidate": Candidate,
        "RankCurve": RankCurve,
        "TrainConfig": TrainConfig,
    }
    try:
        if "denoiser" in plain:
            plain_denoiser = from_plain(
                _DenoiserDescription, plain["denoiser"], names=names, where="denoiser"
            )
            return _assemble_denoiser(plain_denoiser, arrays)
        described = from_plain(_Description, plain.get("model"), names=names, where="model")
        return _assemble(described, arrays)
    except ValueError as error:
        raise ModelFileError(
            f"load_model({os.fspath(path)!r}): the file, written with {plain.get('versions')!r:.200}, is no "
            f"model that this version understands: {error}."
        ) from error


def _describe(trained: TrainedModel) -> _Description:
    return _Description(
        trained.spectrum_model.architecture, trained.energy_axis, trained.title, trained.config,
        trained.fingerprint, trained.report, _describe(trained.baseline) if trained.baseline else None,
    )  # fmt: skip


def _arrays(trained: TrainedModel) -> dict[str, np.ndarray]:
    from hyperspy_specml.models._model_parts import model_to_arrays

    own = model_to_arrays(trained.spectrum_model) | {"channel_state": trained.channel_state}
    below = _arrays(trained.baseline) if trained.baseline else {}
    return own | {f"baseline.{name}": array for name, array in below.items()}


def _assemble(described: _Description, arrays: Mapping[str, np.ndarray]) -> TrainedModel:
    from hyperspy_specml.models._model_parts import model_from_arrays

    state = _channel_state(arrays, described.energy_axis)
    below = {n.removeprefix("baseline."): a for n, a in arrays.items() if n.startswith("baseline.")}
    model = model_from_arrays(described.architecture, arrays)
    report, n_used = described.report, model.components().shape[1]
    if n_used != (state == USED).sum():
        raise ValueError(f"the model has {n_used} channels, but {(state == USED).sum()} are in use")
    if (report.architecture, report.n_components) != (model.architecture, model.n_components):
        raise ValueError("model and report differ in architecture or size")
    return TrainedModel(
        model, state, described.energy_axis, described.title, described.config, described.fingerprint, report,
        _assemble(described.baseline, below) if described.baseline else None,
    )  # fmt: skip


def _describe_denoiser(trained: TrainedDenoiser) -> _DenoiserDescription:
    from hyperspy_specml.models._denoiser_parts import filter_names

    denoiser = trained.denoiser
    return _DenoiserDescription(
        denoiser.kind, filter_names(denoiser), trained.energy_axis, trained.title, trained.config,
        trained.fingerprint, trained.report,
    )  # fmt: skip


def _denoiser_arrays(trained: TrainedDenoiser) -> dict[str, np.ndarray]:
    from hyperspy_specml.models._denoiser_parts import denoiser_to_arrays

    return denoiser_to_arrays(trained.denoiser) | {"channel_state": trained.channel_state}


def _assemble_denoiser(described: _DenoiserDescription, arrays: Mapping[str, np.ndarray]) -> TrainedDenoiser:
    from hyperspy_specml.models._denoiser_parts import denoiser_from_arrays, filter_names

    state = _channel_state(arrays, described.energy_axis)
    denoiser = denoiser_from_arrays(described.kind, arrays)
    n_used, known = len(denoiser.axes.weights), filter_names(denoiser)
    if not n_used == (state == USED).sum() == len(described.fingerprint.channel_sums):
        raise ValueError(f"the denoiser has {n_used} channels, but {(state == USED).sum()} are in use")
    if described.filters != known:
        raise ValueError(f"it mixes the filters {described.filters}, but here are {known}")
    return TrainedDenoiser(
        denoiser, state, described.energy_axis, described.title, described.config, described.fingerprint,
        described.report,
    )  # fmt: skip


def _channel_state(arrays: Mapping[str, np.ndarray], axis: dict[str, Any]) -> np.ndarray:
    state = arrays.get("channel_state")
    if (
        state is None
        or state.dtype != np.uint8
        or state.ndim != 1
        or state.max(initial=0) >= len(STATE_NAMES)
    ):
        raise ValueError("array 'channel_state' is missing or holds no states of channels")
    check_axis_spec(axis, size=len(state))
    return state
