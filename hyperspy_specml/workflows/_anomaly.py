"""Behind `methods.anomaly_map`: signal in, native maps and regions out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly import EnergyAxis, ReferenceModel, Search, find_anomalies
from hyperspy_specml.decompose import Autoencoder, architecture_names, choose_architecture
from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.models import (
    AnomalyReport,
    Candidate,
    DecompositionReport,
    Fingerprint,
    TrainedModel,
    in_words,
    same_channels,
)
from hyperspy_specml.results import AnomalyResult, Region, Spike
from hyperspy_specml.signals import (
    axis_spec,
    component_spectra,
    energy_axis,
    line_width,
    navigation_map,
    spectral_lines,
    stamp,
)
from hyperspy_specml.statistics import MASKED, USED, noise_from_dict
from hyperspy_specml.workflows._call import yes_or_no

if TYPE_CHECKING:
    import os

    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.anomaly import Anomalies, FoundRegion
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)

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
                f"anomaly_map(fdr={self.fdr!r}, threshold={self.threshold!r}): either limits the regions. Leave one "
                "of them out."
            )
        return Search(
            self.statistic, self.fdr, self.threshold, self.output_dimension, self.autoencoder(),
            self.architecture == "auto", self.noise, yes_or_no("drift", self.drift),
        )  # fmt: skip

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
                    f"anomaly_map(architecture='pca', options={self.options!r}): PCA has no options here. Leave options "
                    "out, or train an autoencoder, architecture='dense'."
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
                f"anomaly_map(options={self.options!r}): the reference model does not subtract the mean spectrum. Leave "
                "centre=True out."
            )
        if self.known is not None and self.architecture != "auto":
            raise OptionError(
                f"anomaly_map(known=..., architecture={self.architecture!r}): known spectra can be added to a linear "
                "model, not to a network. Use architecture='pca'."
            )
        return found if self.known is None else None


def anomalies(
    call: Call, model: TrainedModel | str | os.PathLike[str] | None, asked: AskedAnomalies
) -> AnomalyResult:
    """Search a map and wrap what was found."""
    search = asked.search()
    trained = None if model is None else _trained(call, model, asked)
    if model is None:
        _check_training(call, asked, search)
    known = None if asked.known is None else _known_spectra(call, asked.known)
    reference = None if trained is None else _reference(trained)
    masks = call.masks if trained is None else (call.masks[0], ~trained.channels)
    template = call.source.template
    axis = EnergyAxis(energy_axis(template).axis, spectral_lines(template))
    width = line_width(call.signal)
    with call.running(trained=search.autoencoder is not None and model is None) as (run, stream):
        found = find_anomalies(
            stream, search, run, line_width=width, axis=axis, reference=reference, known=known, masks=masks
        )
    return _wrap(call, found, search, trained)


def _check_training(call: Call, asked: AskedAnomalies, search: Search) -> None:
    """Refuse what only concerns the training of a network where none is trained."""
    unused = call.config.of_training()
    if search.autoencoder is None:
        instead = "known=None" if asked.architecture == "auto" else "architecture='dense'"
        given = [f"device={call.device!r}"] * (call.device != "auto") + [f"config=TrainConfig({n}=...)" for n in unused]
        for argument in given:
            raise OptionError(
                f"anomaly_map({argument}): only networks are trained with it, and here none is. Leave it out, or train "
                f"an autoencoder, {instead}."
            )
    for name in {"restarts", "comparison_share"} & set(unused):
        raise OptionError(
            f"anomaly_map(config=TrainConfig({name}=...)): the autoencoder is trained once. Leave {name} out."
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
    if asked.known is not None and trained.model.architecture != "pca":
        raise OptionError(
            "anomaly_map(known=..., model=...): known spectra can be added to a linear model, not to a network. Take "
            "one of architecture='pca'."
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
            f"anomaly_map(known=...): with {len(rows)} known spectra of {rows.shape[1]} channels every spectrum "
            "would be ordinary. One for each phase is enough: its mean, known.mean()."
        )
    nothing = ~np.nan_to_num(rows).any(axis=1)
    if nothing.any():
        raise OptionError(
            f"anomaly_map(known=...): spectrum {int(nothing.argmax())} of {len(rows)} is zero everywhere. "
            "Leave it out; known=None if there is no other."
        )
    return rows


def _wrap(call: Call, found: Anomalies, search: Search, trained: TrainedModel | None) -> AnomalyResult:
    template, title, axis = call.source.template, call.source.title, energy_axis(call.source.template)
    report = _report(call, found, search, axis, trained)
    scores, setup = found.scores, found.setup
    centres = np.interp(setup.windows.centres[scores.window], np.arange(axis.size), axis.axis)
    maps = {
        "Anomaly map": scores.score, "p-values": np.exp(scores.log_p),
        "Anomalous pixels": np.isin(found.labels, [region.label for region in found.regions]),
        "Energy of the strongest anomaly": np.where(np.isfinite(scores.z), centres, np.nan),
    }  # fmt: skip
    signals = [
        navigation_map(
            template, values.reshape(found.labels.shape).astype(values.dtype if values.dtype == bool else float),
            title=f"{name} of {title}",
        ) for name, values in maps.items()
    ]  # fmt: skip
    spectra = residuals = None
    if found.regions:
        spectra, residuals = (
            component_spectra(template, _all_channels(rows, setup.channels), title=f"{name} of the regions of {title}")
            for name, rows in (
                ("Mean spectra", [region.spectrum for region in found.regions]),
                ("Mean residuals", [region.residual for region in found.regions]),
            )
        )
    for signal in (*signals, spectra, residuals):
        if signal is not None:
            stamp(signal, report.to_dict())
    score, p_value, detections, energy = signals
    regions = tuple(_region(region, template) for region in found.regions)
    spikes = tuple(_spike(row, found.labels.shape, axis) for row in found.spikes)
    _logger.info("anomaly_map(): %d regions, %d spikes (%s)", len(regions), len(spikes), found.threshold)
    model = _model(call, found, report, trained)
    return AnomalyResult(
        score, p_value, detections, energy, regions, spikes, spectra, residuals, report, model
    )


def _report(
    call: Call, found: Anomalies, search: Search, axis: BaseDataAxis, trained: TrainedModel | None
) -> AnomalyReport:
    learnt, reference, setup = found.learnt, found.learnt.reference, found.setup
    drift, trial, null = setup.stream.drift, learnt.trial, reference.null
    here: dict[str, Any] = {
        "statistic": search.statistic,
        "threshold": found.threshold,
        "n_windows": len(setup.windows),
        "smallest_p": 1 / max(1, null.n) if null is not None and search.statistic == "scan" else None,
        "drift": None if drift is None else tuple((drift * float(np.gradient(axis.axis).mean())).tolist()),
    }
    if trained is not None and isinstance(trained.report, AnomalyReport):
        return trained.report.applied(setup.summary.counts(), found.seconds, trained.title, **here)
    n = reference.n_components
    candidates = ()
    if trial is not None:
        score, names = trial.score, (f"{trial.model.architecture} ({n})", f"pca ({n})")
        candidates = (
            Candidate(names[0], score.mean, score.difference, score.standard_error, trial.validation_scores[0]),
            Candidate(names[1], score.mean - score.difference, 0.0, 0.0, trial.validation_scores[1]),
        )
    training = {} if trial is None else {
        "steps": tuple(trial.history.steps), "step_scores": tuple(trial.history.scores),
        "best_step": trial.history.best_step, "interrupted": trial.history.interrupted,
        "chosen": candidates[reference.model is not trial.model].name,
    }  # fmt: skip
    return AnomalyReport(
        model=reference.architecture, n_components=n, patch_side=reference.side,
        patches_left_out=learnt.n_left_out, candidates=candidates, noise_model=reference.noise.to_dict(),
        used=setup.summary.counts(), random_state=call.seed, seconds=found.seconds,
        trained_on=None if trained is None else trained.title, **here, **training,
    )  # fmt: skip


def _model(call: Call, found: Anomalies, report: AnomalyReport, trained: TrainedModel | None) -> TrainedModel:
    """Return the reference model, for this map's axis, with what it was learnt from."""
    reference, setup = found.learnt.reference, found.setup
    if trained is not None:
        return replace(trained, model=reference, report=report, baseline=None)
    state, moments = setup.summary.channel_state.copy(), setup.summary.moments
    state[(state == USED) & ~setup.channels] = MASKED  # some scan line lacks them
    sums = moments.sums[setup.channels[setup.summary.channels]]
    fingerprint = Fingerprint(call.source.spectra.array.shape, moments.n, sums)
    return TrainedModel(reference, state, call.axis, call.source.title, call.config, fingerprint, report)


def _region(found: FoundRegion, template: BaseSignal) -> Region:
    """Return a region in calibrated units."""
    scan_axes = template.axes_manager.navigation_axes
    shape = tuple(axis.size for axis in scan_axes[::-1])
    indices = np.stack(np.unravel_index(found.pixels, shape)[::-1], axis=1)  # x, y ...
    peak = np.unravel_index(found.peak, shape)[::-1]
    area, area_units = _area(len(found.pixels), scan_axes)
    return Region(
        position=tuple(float(axis.axis[k]) for axis, k in zip(scan_axes, peak, strict=True)),
        pixels=tuple(map(tuple, indices.tolist())),
        area=area,
        area_units=area_units,
        p=float(np.exp(found.log_p)),
        energy_units=_units(energy_axis(template)),
        direction="deficit" if found.deficit else "excess",
        **{f.name: getattr(found, f.name) for f in fields(found) if f.name in _SAME},
    )


_SAME = ("energy", "excess", "shift", "shift_error", "candidates")


def _spike(row: np.ndarray, shape: tuple[int, ...], axis: BaseDataAxis) -> Spike:
    pixel, channel, value, expected = row
    position = tuple(int(k) for k in np.unravel_index(int(pixel), shape)[::-1])
    return Spike(position, float(axis.axis[int(channel)]), float(value), float(expected))


def _area(n_pixels: int, scan_axes: tuple[BaseDataAxis, ...]) -> tuple[float, str]:
    """Return length, area or volume of so many pixels, and its units."""
    steps = [abs(float(np.gradient(a.axis).mean())) if a.size > 1 else 1.0 for a in scan_axes]
    units = [_units(a) for a in scan_axes]
    power = {2: "²", 3: "³"}.get(len(units), "")
    same = units[0] and len(set(units)) == 1
    return n_pixels * float(np.prod(steps)), units[0] + power if same else "·".join(filter(None, units))


def _units(axis: BaseDataAxis) -> str:
    return axis.get_axis_dictionary()["units"] or ""


def _all_channels(rows: list[np.ndarray], channels: np.ndarray) -> np.ndarray:
    out = np.full((len(rows), len(channels)), np.nan)
    out[:, channels] = rows
    return out
