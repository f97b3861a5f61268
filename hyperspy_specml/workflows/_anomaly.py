"""Behind `methods.anomaly_map`: signal in, native maps and regions out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly import EnergyAxis, ReferenceModel, Search, find_anomalies
from hyperspy_specml.decompose import Autoencoder, architecture_names, choose_architecture
from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.models import AnomalyReport, DecompositionReport, in_words, same_channels
from hyperspy_specml.signals import axis_spec, energy_axis, line_width, spectral_lines
from hyperspy_specml.statistics import noise_from_dict
from hyperspy_specml.workflows._anomaly_result import wrap
from hyperspy_specml.workflows._call import yes_or_no

if TYPE_CHECKING:
    import os

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.results import AnomalyResult
    from hyperspy_specml.workflows._call import Call

_NEEDED = "a trained model, found.model or dec.model, or the path of its file"
# What anomaly_map is called with where the user says nothing.
_DEFAULT_FDR = 0.01


@dataclass(frozen=True)
class AskedAnomalies:
    """Arguments of the method.

    Attributes
    ----------
    fdr, threshold, statistic, output_dimension, architecture, options, known, drift, noise
        As the user gave them.
    """

    fdr: float
    threshold: float | None
    statistic: str
    output_dimension: int | None
    architecture: str
    options: Any
    known: BaseSignal | None
    drift: bool
    noise: str

    def search(self) -> Search:
        """Return what is searched for.

        Raises
        ------
        OptionError
            An argument is impossible, or would have to be ignored.
        """
        if self.threshold is not None and self.fdr != _DEFAULT_FDR:
            raise OptionError(
                f"anomaly_map(fdr={self.fdr!r}, threshold={self.threshold!r}): either of them limits the "
                "regions. Leave one out."
            )
        better, drift = self.architecture == "auto", yes_or_no("drift", self.drift)
        limits = (self.statistic, self.fdr, self.threshold)
        return Search(*limits, self.output_dimension, self.autoencoder(), better, self.noise, drift)

    def autoencoder(self) -> Autoencoder | None:
        """Return the autoencoder that is trained; None for PCA.

        Raises
        ------
        OptionError
            An unknown architecture, or options that it does not have.
        """
        if self.architecture == "pca":
            if self.options is not None:
                raise OptionError(
                    f"anomaly_map(architecture='pca', options={self.options!r}): PCA has no options here. "
                    "Leave options out, or train an autoencoder, architecture='dense'."
                )
            return None
        known = [name for name in architecture_names() if isinstance(choose_architecture(name), Autoencoder)]
        if self.architecture not in ("auto", *known):
            raise OptionError.unknown("architecture", self.architecture, ("pca", "auto", *known))
        name = "dense" if self.architecture == "auto" else self.architecture
        found = choose_architecture(name, self.options, method="anomaly_map")
        assert isinstance(found, Autoencoder)
        if getattr(found.options, "centre", False):
            raise OptionError(
                f"anomaly_map(options={self.options!r}): the reference model does not subtract the mean "
                "spectrum. Leave centre=True out."
            )
        return None if self.architecture == "auto" and self.known is not None else found


def anomalies(call: Call, model: TrainedModel | str | os.PathLike[str] | None, asked: AskedAnomalies) -> AnomalyResult:
    """Search a map and wrap what was found."""
    trained = None if model is None else _trained(call, model, asked)
    search = asked.search()
    if model is None:
        _check_training(call, asked, search)
    known = None if asked.known is None else _known_spectra(call, asked.known)
    reference = None if trained is None else _reference(trained)
    masks = call.masks if trained is None else (call.masks[0], ~trained.channels)
    template = call.source.template
    axis = EnergyAxis(energy_axis(template).axis, spectral_lines(template))
    width = line_width(call.signal)
    with call.running(trained=search.autoencoder is not None) as (run, stream):
        found = find_anomalies(
            stream, search, run, line_width=width, axis=axis, reference=reference, known=known, masks=masks
        )
    return wrap(call, found, search, trained)


def _check_training(call: Call, asked: AskedAnomalies, search: Search) -> None:
    """Refuse what the training of a network would ignore, and a device where none is trained."""
    if search.autoencoder is None and call.device != "auto":
        instead = "known=None" if asked.architecture == "auto" else "architecture='dense'"
        raise OptionError(
            f"anomaly_map(device={call.device!r}): only networks are trained on a device, and here none is "
            f"trained. Leave device out, or train an autoencoder, {instead}."
        )
    for name in {"restarts", "comparison_share"} & set(call.config.of_training()):
        raise OptionError(
            f"anomaly_map(config=TrainConfig({name}=...)): an autoencoder is trained once. Leave {name} out."
        )


def _trained(call: Call, model: TrainedModel | str | os.PathLike[str], asked: AskedAnomalies) -> TrainedModel:
    """Return the model, or that of a file, for the channels of the signal; refuse arguments beside it."""
    trained = call.trained_model(model, _NEEDED)
    if not isinstance(trained.report, AnomalyReport | DecompositionReport):
        raise OptionError(
            f"anomaly_map(model={trained}) needs {_NEEDED}; this one is of {trained.report.method}: "
            f"s.{trained.report.method}(model=...)."
        )
    calibrated = isinstance(trained.model, ReferenceModel) and trained.model.null is not None
    drawn = asked.statistic == "scan" and not calibrated  # maps are drawn, so the seed has an effect
    replace(call, seed=0 if drawn else call.seed).refuse_beside_model(
        trained,
        "learn a reference model anew",
        output_dimension=asked.output_dimension is not None,
        architecture=asked.architecture != "pca",
        options=asked.options is not None,
        noise=asked.noise != "auto",
    )
    return trained.on_axis(call.axis, method="anomaly_map")


def _reference(trained: TrainedModel) -> ReferenceModel:
    """Return the reference model, or make one of the model of a decomposition."""
    if isinstance(trained.model, ReferenceModel):
        return trained.model
    n_spectra = int(trained.report.used["pixels"].get("used", 1))
    return ReferenceModel(trained.model, noise_from_dict(trained.report.noise_model), n_spectra)


def _known_spectra(call: Call, known: BaseSignal) -> np.ndarray:
    """Return (N, E) spectra; channels that were not in use when they were made are NaN."""
    from hyperspy.signal import BaseSignal

    if not isinstance(known, BaseSignal) or known.axes_manager.signal_dimension != 1:
        given = repr(known) if isinstance(known, BaseSignal) else type(known).__name__
        raise OptionError(
            f"anomaly_map(known=...) needs spectra as one signal, not {given}. Pass known=found.spectra for "
            "all regions of a result, known=found.spectra.inav[0] for the first, or hs.stack([...]) of "
            "several signals."
        )
    theirs = axis_spec(energy_axis(known))
    if not same_channels(call.axis, theirs):
        raise EnergyAxisMismatchError(
            f"anomaly_map(known=...): the spectra have {in_words(theirs)}, but the signal has "
            f"{in_words(call.axis)}. Bring them to that axis, known.interpolate_on_axis(...); if only their "
            "calibration is missing, copy offset, scale and units."
        )
    if np.iscomplexobj(known.data):
        raise OptionError("anomaly_map(known=...): the spectra are complex. Pass known=known.real.")
    rows = np.asarray(known.data, np.float64).reshape(-1, known.data.shape[-1])
    if len(rows) > max(1, rows.shape[1] // 4):  # they describe every spectrum, and cost as many components
        raise OptionError(
            f"anomaly_map(known=...): with {len(rows)} known spectra of {rows.shape[1]} channels every "
            "spectrum would be ordinary. One for each phase is enough: its mean, known.mean()."
        )
    nothing = ~np.nan_to_num(rows).any(axis=1)
    if nothing.any():
        raise OptionError(
            f"anomaly_map(known=...): spectrum {int(nothing.argmax())} of {len(rows)} is zero everywhere. "
            "Leave it out; known=None if there is no other."
        )
    return rows
