"""The result of an anomaly map as native signals and calibrated regions."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.models import AnomalyReport, Candidate, Fingerprint, TrainedModel
from hyperspy_specml.results import AnomalyResult, Region, Spike
from hyperspy_specml.signals import component_spectra, energy_axis, navigation_map, stamp
from hyperspy_specml.statistics import MASKED, USED

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.anomaly import Anomalies, FoundRegion, NetworkTrial, Search
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)

# What regions of arrays and of signals have in common.
_SAME = ("energy", "excess", "shift", "shift_error", "candidates")


def wrap(call: Call, found: Anomalies, search: Search, trained: TrainedModel | None) -> AnomalyResult:
    """Return maps, regions and spectra as native signals, with the report and the reference model.

    Parameters
    ----------
    call, search
        The call, and what was searched for.
    found
        What was found.
    trained
        The model that was given, for the channels of this map; None where it was learnt from the map.
    """
    template, title, axis = call.source.template, call.source.title, energy_axis(call.source.template)
    report = _report(call, found, search, axis, trained)
    scores, setup, shape = found.scores, found.setup, found.labels.shape
    centres = np.interp(setup.windows.centres[scores.window], np.arange(axis.size), axis.axis)
    energies = np.where(np.isfinite(scores.z), centres, np.nan)
    maps = {"Anomaly map": scores.score, "p-values": np.exp(scores.log_p)}
    maps["Anomalous pixels"] = np.isin(found.labels, [region.label for region in found.regions])
    maps["Energy of the strongest anomaly"] = energies
    signals = []
    for name, values in maps.items():
        kind = bool if values.dtype == bool else np.float64
        values = values.reshape(shape).astype(kind)
        signals.append(navigation_map(template, values, title=f"{name} of {title}"))
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
    return AnomalyResult(score, p_value, detections, energy, regions, spikes, spectra, residuals, report, model)


def _report(
    call: Call, found: Anomalies, search: Search, axis: BaseDataAxis, trained: TrainedModel | None
) -> AnomalyReport:
    reference, setup, null = found.learnt.reference, found.setup, found.learnt.reference.null
    drift, counts, calibrated = setup.stream.drift, setup.summary.counts(), search.statistic == "scan"
    here: dict[str, Any] = {
        "statistic": search.statistic,
        "threshold": found.threshold,
        "n_windows": len(setup.windows),
        "n_components": reference.n_components,
        "smallest_p": 1 / max(1, null.n) if null is not None and calibrated else None,
        "drift": None if drift is None else tuple((drift * float(np.gradient(axis.axis).mean())).tolist()),
    }
    if trained is not None and isinstance(trained.report, AnomalyReport):
        return trained.report.applied(counts, found.seconds, trained.title, **here)
    report = AnomalyReport(
        model=reference.architecture,
        patch_side=reference.side,
        patches_left_out=found.learnt.n_left_out,
        noise_model=reference.noise.to_dict(),
        used=counts,
        random_state=call.seed,
        seconds=found.seconds,
        interrupted=found.learnt.interrupted,
        trained_on=None if trained is None else trained.title,
        **here,
    )
    trial = found.learnt.trial
    return report if trial is None else _with_trial(report, trial, reference.model is trial.model)


def _with_trial(report: AnomalyReport, trial: NetworkTrial, taken: bool) -> AnomalyReport:
    """Return the report with the scores of an autoencoder and of PCA, and the history of the training."""
    score, history, n = trial.score, trial.history, report.n_components
    pairs = ((score.mean, score.difference, score.standard_error), (score.mean - score.difference, 0.0, 0.0))
    names = (f"{trial.model.architecture} ({n})", f"pca ({n})")
    return replace(
        report,
        candidates=tuple(
            Candidate(name, *pair, validation)
            for name, pair, validation in zip(names, pairs, trial.validation_scores, strict=True)
        ),
        chosen=names[not taken],
        steps=tuple(history.steps),
        step_scores=tuple(history.scores),
        best_step=history.best_step,
    )


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
