"""Behind `methods.anomaly_map`: signal in, native maps and calibrated regions out."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.anomaly import EnergyAxis, ReferenceModel, Search, find_anomalies, relabel
from hyperspy_specml.decompose import Autoencoder, architecture_names, choose_architecture
from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.models import AnomalyReport, Candidate, DecompositionReport, in_words, same_channels
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
from hyperspy_specml.workflows._call import Call, n_components, yes_or_no
from hyperspy_specml.workflows._travel import in_place, refuse_align, travelled

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis

    from hyperspy_specml.anomaly import Anomalies, FoundRegion
    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.workflows._call import Shown

_logger = logging.getLogger(__name__)

# What anomaly_map is called with where the user says nothing.
_DEFAULT_FDR = 0.01
# Share of the pixels in regions above which these are not rare.
_RARE = 0.03


def anomaly_map(
    call: Call, *, fdr: float, threshold: float | None, statistic: str, output_dimension: object, architecture: str,
    options: Any, known: BaseSignal | None, drift: bool, noise: str, model: object,
    align: object,
) -> AnomalyResult:  # fmt: skip
    """Search a map and wrap what was found."""
    signal = call.signal
    if signal.metadata.get_item("Specml.method", None) == "denoise_dae":
        _logger.warning(
            "anomaly_map(): Search the raw counts instead. The signal was denoised by denoise_dae(): residuals of "
            "neighbouring pixels correlate, and what is rare may be gone."
        )
    k, trained, aligned = n_components(output_dimension), None, yes_or_no("align", align)
    if model is None:
        refuse_align(call, aligned)
    else:
        given = {"output_dimension": k is not None, "options": options is not None, "noise": noise != "auto"}
        trained = _trained(call, model, statistic, aligned, architecture=architecture != "pca", **given)
    if threshold is not None and fdr != _DEFAULT_FDR:
        raise OptionError(
            f"anomaly_map(fdr={fdr!r}, threshold={threshold!r}): either of them limits the regions. Leave one out."
        )
    autoencoder, better = _autoencoder(architecture, options, known), architecture == "auto"
    search = Search(statistic, fdr, threshold, k, autoencoder, better, noise, yes_or_no("drift", drift))
    if trained is None:
        _check_training(call, search)
    spectra = None if known is None else known_spectra(call, known)
    axis, width = EnergyAxis(energy_axis(signal).axis, spectral_lines(signal)), line_width(signal)
    with call.running(trained=autoencoder is not None) as (run, stream):
        trained = travelled(call, trained, stream, run) if trained is not None and aligned else trained
        masks = call.masks() if trained is None else (call.navigation_mask, ~trained.channels)
        reference = None if trained is None else _reference(trained, anew=aligned)
        how: Any = {"line_width": width, "axis": axis, "reference": reference, "known": spectra, "masks": masks}
        found = find_anomalies(stream, search, run, **how)
    return _wrap(call, found, search, trained)


def _autoencoder(architecture: str, options: Any, known: object) -> Autoencoder | None:
    """Return the autoencoder that is trained; None for PCA."""
    if architecture == "pca":
        if options is not None:
            raise OptionError(
                f"anomaly_map(architecture='pca', options={options!r}): PCA has no options here. "
                "Leave options out, or train an autoencoder, architecture='dense'."
            )
        return None
    networks = [name for name in architecture_names() if isinstance(choose_architecture(name), Autoencoder)]
    if architecture not in ("auto", *networks):
        raise OptionError.unknown("architecture", architecture, ("pca", "auto", *networks))
    found = choose_architecture("dense" if architecture == "auto" else architecture, options, method="anomaly_map")
    assert isinstance(found, Autoencoder)
    if getattr(found.options, "centre", False):
        raise OptionError(
            f"anomaly_map(options={options!r}): the reference model does not subtract the mean "
            "spectrum. Leave centre=True out."
        )
    return None if architecture == "auto" and known is not None else found


def _check_training(call: Call, search: Search) -> None:
    """Refuse what the training of a network would ignore."""
    for name in {"restarts", "comparison_share"} & set(call.config.of_training()):
        raise OptionError(
            f"anomaly_map(config=TrainConfig({name}=...)): an autoencoder is trained once. Leave {name} out."
        )


def _trained(call: Call, model: object, statistic: str, align: bool, **given: bool) -> TrainedModel:
    """Return the model, or that of a file, for the channels of the signal; refuse arguments beside it."""
    needed = "a trained model, found.model or dec.model, or the path of its file"
    trained = call.trained_model(model, needed, AnomalyReport, DecompositionReport)
    calibrated = isinstance(trained.model, ReferenceModel) and trained.model.null is not None
    drawn = statistic == "scan" and (align or not calibrated)  # maps are drawn, so the seed has an effect
    replace(call, seed=0 if drawn else call.seed).refuse_beside_model(trained, "learn a reference model anew", **given)
    return in_place(call, trained, align)


def _reference(trained: TrainedModel, *, anew: bool) -> ReferenceModel:
    """Return the reference model, or make one of the model of a decomposition, whose errors are measured on this map.

    That is done `anew` for a reference model that was aligned, too: sharp lines between two channels have new errors.
    """
    model = trained.model
    if isinstance(model, ReferenceModel):
        return ReferenceModel(model.model, model.noise, model.n_spectra) if anew else model
    n_spectra = int(trained.report.used["pixels"].get("used", 1))
    return ReferenceModel(model, noise_from_dict(trained.report.noise_model), n_spectra)


def known_spectra(call: Call, known: BaseSignal) -> np.ndarray:
    """Return (N, E) spectra that a user knows; channels that were not in use when they were made are NaN."""
    if not isinstance(known, BaseSignal) or known.axes_manager.signal_dimension != 1:
        given = repr(known) if isinstance(known, BaseSignal) else type(known).__name__
        raise OptionError(
            f"{call.method}(known=...) needs spectra as one signal, not {given}. Pass known=found.spectra for "
            "all regions of a result, known=found.spectra.inav[0] for the first, or hs.stack([...]) of "
            "several signals."
        )
    theirs = axis_spec(energy_axis(known))
    if not same_channels(call.axis, theirs):
        raise EnergyAxisMismatchError(
            f"{call.method}(known=...): the spectra have {in_words(theirs)}, but the signal has "
            f"{in_words(call.axis)}. Bring them to that axis, known.interpolate_on_axis(...); if only their "
            "calibration is missing, copy offset, scale and units."
        )
    if np.iscomplexobj(known.data):
        raise OptionError("anomaly_map(known=...): the spectra are complex. Pass known=known.real.")
    rows = np.asarray(known.data, np.float64).reshape(-1, known.data.shape[-1])
    if len(rows) > max(1, rows.shape[1] // 4):  # they describe every spectrum, and cost as many components
        raise OptionError(
            f"{call.method}(known=...): with {len(rows)} known spectra of {rows.shape[1]} channels every "
            "spectrum would be ordinary. One for each phase is enough: its mean, known.mean()."
        )
    nothing = ~np.nan_to_num(rows).any(axis=1)
    if nothing.any():
        raise OptionError(
            f"{call.method}(known=...): spectrum {int(nothing.argmax())} of {len(rows)} is zero everywhere. "
            "Leave it out; known=None if there is no other."
        )
    return rows


def _wrap(call: Call, found: Anomalies, search: Search, trained: TrainedModel | None) -> AnomalyResult:
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
    maps = {
        "Anomaly map": scores.score.astype(np.float64),
        "p-values": np.exp(scores.log_p).astype(np.float64),
        "Anomalous pixels": np.isin(found.labels, [region.label for region in found.regions]),
        "Energy of the strongest anomaly": np.where(np.isfinite(scores.z), centres, np.nan),
    }
    score, p_value, detections, energy = signals = [
        navigation_map(template, values.reshape(shape), title=f"{name} of {title}") for name, values in maps.items()
    ]
    means: list[BaseSignal] = []
    for name, kind in (("Mean spectra", "spectrum"), ("Mean residuals", "residual")) if found.regions else ():
        rows = np.full((len(found.regions), axis.size), np.nan)
        rows[:, setup.channels] = [getattr(region, kind) for region in found.regions]
        means.append(component_spectra(template, rows, title=f"{name} of the regions of {title}"))
    for signal in (*signals, *means):
        stamp(signal, report.to_dict())
    spectra, residuals = means or (None, None)
    regions = tuple(_region(call, region) for region in found.regions)
    apart = np.flatnonzero((np.diff(found.spikes[:, :2], axis=0) != (0, 1)).any(axis=1)) + 1
    spikes = tuple(_spike(rows, shape, axis) for rows in np.split(found.spikes, apart) if len(rows))
    _logger.info("anomaly_map(): %d regions, %d spikes (%s)", len(regions), len(spikes), found.threshold)
    if report.used["pixels"] and trained is None:
        _warn_of_floods(report, float(maps["Anomalous pixels"].sum()) / report.used["pixels"].get("used", 1))
    model = _model(call, found, report, trained)
    results = score, p_value, detections, energy, regions, spikes, spectra, residuals, report, model
    return AnomalyResult(*results, call.source, partial(_relabelled, call, found, search, trained))


def _warn_of_floods(report: AnomalyReport, share: float) -> None:
    """Say why regions hold much of the map."""
    if share > _RARE:
        _logger.warning(
            "anomaly_map(): Raise output_dimension, or cut the map, if these regions are ordinary. They hold %.0f %% "
            "of the pixels: where spectra change all over a map, or a line moves, the reference model, of %d "
            "components and without %d patches of a side of %d pixels, describes only some.",
            100 * share, report.n_components, report.patches_left_out, report.patch_side,
        )  # fmt: skip


def _relabelled(
    call: Call, found: Anomalies, search: Search, trained: TrainedModel | None, fdr: float, shown: Shown
) -> AnomalyResult:
    """Return the result for another false discovery rate."""
    if search.statistic != "scan":
        raise OptionError(
            f"at_fdr({fdr!r}): a map of statistic={search.statistic!r} has no error rates. Search it by the scan, "
            "s.anomaly_map(statistic='scan')."
        )
    axis = EnergyAxis(energy_axis(call.source.template).axis, spectral_lines(call.source.template))
    with call.watched(shown).running(trained=False) as (run, _):
        found = relabel(found, fdr, axis, run.progress)
    return _wrap(call, found, replace(search, fdr=fdr, threshold=None), trained)


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
    if trained is not None:
        origin = {name: getattr(trained.report, name) for name in ("resampled_from", "alignment", "description")}
        report = replace(report, **origin)
    trial = found.learnt.trial
    if trial is None:
        return report
    score, (own, pca), n = trial.score, trial.validation_scores, report.n_components
    candidates = (
        Candidate(f"{trial.model.architecture} ({n})", score.mean, score.difference, score.standard_error, own),
        Candidate(f"pca ({n})", score.mean - score.difference, 0.0, 0.0, pca),
    )
    chosen = candidates[reference.model is not trial.model].name
    return replace(report, candidates=candidates, chosen=chosen, **trial.history.curve())


def _model(call: Call, found: Anomalies, report: AnomalyReport, trained: TrainedModel | None) -> TrainedModel:
    """Return the reference model, for this map's axis, with what it was learnt from."""
    reference, setup = found.learnt.reference, found.setup
    if trained is not None:
        return replace(trained, model=reference, report=report, baseline=None)
    state, moments = setup.summary.channel_state.copy(), setup.summary.moments
    state[(state == USED) & ~setup.channels] = MASKED  # some scan line lacks them
    return call.fitted(reference, state, moments.n, moments.sums[setup.channels[setup.summary.channels]], report)


def _region(call: Call, found: FoundRegion) -> Region:
    """Return a region in calibrated units."""
    scan_axes, shape = call.source.template.axes_manager.navigation_axes, call.source.spectra.array.shape[:-1]
    indices = np.stack(np.unravel_index(found.pixels, shape)[::-1], axis=1)  # x, y ...
    peak = np.unravel_index(found.peak, shape)[::-1]
    area, area_units = scan_area(len(found.pixels), scan_axes)
    same = ("energy", "excess", "shift", "shift_error", "candidates")
    return Region(
        position=tuple(float(axis.axis[k]) for axis, k in zip(scan_axes, peak, strict=True)),
        pixels=tuple(map(tuple, indices.tolist())),
        area=area,
        area_units=area_units,
        p=float(np.exp(found.log_p)),
        energy_units=call.axis["units"] or "",
        direction="deficit" if found.deficit else "excess",
        **{name: getattr(found, name) for name in same},
    )


def _spike(rows: np.ndarray, shape: tuple[int, ...], axis: BaseDataAxis) -> Spike:
    """Return the spike of these neighbouring channels."""
    pixel, channel = rows[rows[:, 2].argmax(), :2].astype(int)
    position = tuple(int(k) for k in np.unravel_index(pixel, shape)[::-1])
    value, expected = rows[:, 2:].sum(axis=0).tolist()
    return Spike(position, float(axis.axis[channel]), value, expected, len(rows))


def scan_area(n_pixels: int, scan_axes: tuple[BaseDataAxis, ...]) -> tuple[float, str]:
    """Return length, area or volume of so many pixels, and its units."""
    steps = [
        abs(float(np.gradient(a.axis).mean())) if a.size > 1 else abs(float(getattr(a, "scale", 1.0)))
        for a in scan_axes
    ]
    units = [axis_spec(a)["units"] or "" for a in scan_axes]
    power = {2: "²", 3: "³"}.get(len(units), "")
    same = units[0] and len(set(units)) == 1
    return n_pixels * float(np.prod(steps)), units[0] + power if same else "·".join(filter(None, units))
