"""Behind `methods.phase_map`: signal in, native map of phases out."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import BaselineBetterWarning, MaskError, OptionError
from hyperspy_specml.latent import Latents, PhaseModel, PhaseTask, find_phases, find_phases_of_latents, recognise_phases
from hyperspy_specml.models import DecompositionReport, PhaseReport
from hyperspy_specml.results import PhaseResult, PhaseShare, PhaseShares
from hyperspy_specml.signals import component_spectra, line_width, navigation_map, score_maps, stamp
from hyperspy_specml.statistics import USED, expand_channels, noise_from_dict
from hyperspy_specml.workflows._anomaly import known_spectra, scan_area
from hyperspy_specml.workflows._call import Call, whole_number, yes_or_no
from hyperspy_specml.workflows._labels import labels_of_areas
from hyperspy_specml.workflows._travel import in_place, refuse_align, travelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.latent import Choice, Phases
    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.workflows._call import Shown

_logger = logging.getLogger(__name__)

_DEFAULT_LEVEL = 0.01


def phase_map(
    call: Call, n_phases: Any, known: Any, labels: Any, mixed: bool, level: float, noise: str, model: Any, align: Any
) -> PhaseResult:
    """Find or recognise the phases of a map and wrap them."""
    number = None if n_phases is None else whole_number("n_phases", n_phases, least=1)
    if not (isinstance(level, Real) and 0 < level < 1):
        raise OptionError(f"phase_map(level={level!r}) must lie between 0 and 1, e.g. level=0.01.")
    mixed, align = yes_or_no("mixed", mixed), yes_or_no("align", align)
    if model is not None:
        needed = "the phases of another map, phases.model, a decomposition, dec.model, or the path of their file"
        trained = call.trained_model(model, needed, PhaseReport, DecompositionReport)
        given = {"known": known is not None, "mixed": not mixed, "noise": noise != "auto"}
        if isinstance(trained.report, PhaseReport):
            given |= {"n_phases": number is not None, "labels": labels is not None}
            return _recognise(call, trained, float(level), given, align=align)
        given["level"] = level != _DEFAULT_LEVEL
        call.refuse_beside_model(trained, "find the phases in the spectra", **given)
        of_pixels, names = (None, ()) if labels is None else _labelled(call, labels)
        task = PhaseTask(number, False, noise, None, of_pixels, names)
        latents = in_place(call, trained, align)
        return _told(_of_latents(call, latents, task, searched=number is None and labels is None, align=align))
    refuse_align(call, align)
    if level != _DEFAULT_LEVEL:
        raise OptionError(
            f"phase_map(level={level!r}): pixels are rejected where known phases are recognised. Leave level out, "
            "or pass the phases of another map, model=phases.model."
        )
    of_pixels, names = (None, ()) if labels is None else _labelled(call, labels)
    spectra = None if known is None else known_spectra(call, known)
    names += tuple(f"known {k}" for k in range(0 if spectra is None else len(spectra)))
    if number is not None and number < max(1, len(names)):
        raise OptionError(
            f"phase_map(n_phases={number}): {len(names)} phases are known or labelled already ({', '.join(names)}). "
            f"Ask for as many at least, n_phases={len(names)}, or leave n_phases out."
        )
    task = PhaseTask(number, mixed, noise, spectra, of_pixels, names)
    return _told(_find(call, task, searched=number is None and labels is None))


def _told(result: PhaseResult) -> PhaseResult:
    """Return a result whose verdict is logged, and a warning where there are hardly any phases."""
    verdict = result.report.verdict()
    if result.report.varies():
        warnings.warn(verdict, BaselineBetterWarning, stacklevel=5)  # the user's line
    _logger.info("phase_map(): %s", verdict)
    return result


def _of_latents(
    call: Call,
    trained: TrainedModel,
    task: PhaseTask,
    *,
    searched: bool,
    choice: Choice | None = None,
    align: bool = False,
) -> PhaseResult:
    """Return the phases in the latents of a decomposition."""
    noise = trained.report.noise_model
    with call.running(trained=False) as (run, stream):
        trained = travelled(call, trained, stream, run) if align else trained
        latents = Latents(trained.model, trained.channels, noise_from_dict(noise), line_width(call.signal))
        masks = (call.navigation_mask, None)
        found = find_phases_of_latents(stream, latents, task, run, masks=masks, choice=choice)
    words = f"latents of the decomposition {trained.model.architecture!r} of {trained.title}"
    origin = {name: getattr(trained.report, name) for name in ("resampled_from", "alignment", "description")}
    report = replace(_report(call, found, noise, mixed=False, chosen=searched), latents=words, **origin)
    moments = found.summary.moments
    sums = np.zeros(len(trained.channels))
    sums[found.summary.channels] = moments.sums
    fitted = call.fitted(found.model, trained.channel_state, moments.n, sums[trained.channels], report)
    again = partial(_of_latents, trained=trained, task=task, searched=searched)
    return _with_others(call, _wrap(call, found, report, fitted), found, again)


def _find(call: Call, task: PhaseTask, *, searched: bool, choice: Choice | None = None) -> PhaseResult:
    """Return the phases of a map, of one of the numbers of an earlier choice if there is one."""
    with call.running(trained=False) as (run, stream):
        found = find_phases(stream, task, run, widths=line_width(call.signal), masks=call.masks(), choice=choice)
    assert found.choice is not None
    assert found.estimate is not None
    noise = found.estimate.model.to_dict() | {"fano": found.estimate.fano}
    report = _report(call, found, noise, mixed=task.mixed, chosen=searched)
    state, moments = found.summary.channel_state, found.summary.moments
    result = _wrap(call, found, report, call.fitted(found.model, state, moments.n, moments.sums, report))
    return _with_others(call, result, found, partial(_find, task=task, searched=searched))


def _with_others(call: Call, result: PhaseResult, found: Phases, again: Callable[..., PhaseResult]) -> PhaseResult:
    """Return a result that gives those of the other numbers of phases that were fitted."""
    assert found.choice is not None
    as_it_was = replace(call, signal=call.source.template)  # whatever the user does to the signal meanwhile
    other = partial(_with_number, as_it_was, found.choice, again)
    return replace(result, alternatives=found.choice.numbers, _with_number=other)


def _with_number(
    call: Call, choice: Choice, again: Callable[..., PhaseResult], n_phases: int, shown: Shown
) -> PhaseResult:
    """Return the result of another number of phases that was fitted."""
    return again(call.watched(shown), choice=choice.with_number(n_phases))


def _recognise(call: Call, trained: TrainedModel, level: float, given: dict[str, bool], *, align: bool) -> PhaseResult:
    call.refuse_beside_model(trained, "find the phases anew", **given)
    trained = in_place(call, trained, align)
    with call.running(trained=False) as (run, stream):
        # A pixel that mixes two phases is described by a PCA only: that says nothing against the phases.
        trained = travelled(call, trained, stream, run, beside_pca=False) if align else trained
        phases = trained.model
        assert isinstance(phases, PhaseModel)
        assert isinstance(trained.report, PhaseReport)
        found = recognise_phases(
            stream,
            phases,
            trained.channels,
            run,
            level=level,
            masks=(call.navigation_mask, None),
            drift=line_width(call.signal) is None,
        )
    used = {"pixels": found.summary.counts()["pixels"]}
    rejected = int((found.labels == -2).sum())
    of_this = {"level": level, "n_rejected": rejected, "drift": _largest(found.drift)}
    report = trained.report.applied(used, found.seconds, trained.title, **of_this)
    _logger.info("phase_map(model=...): %d pixels are none of the phases", rejected)
    return _wrap(call, found, report, replace(trained, report=report))


def _labelled(call: Call, labels: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the (n_pixels,) phases of labelled pixels, -1 for the others, and the names of these phases."""
    shape = call.source.spectra.array.shape[:-1]
    if hasattr(labels, "items"):
        return labels_of_areas(call.source.template, labels, shape, "phase_map")
    if isinstance(labels, BaseSignal):
        manager = labels.axes_manager
        axes = manager.navigation_axes[::-1] + manager.signal_axes[::-1]
        labels = np.asarray(labels.data).transpose([axis.index_in_array for axis in axes])
    array = np.asarray(labels)
    if array.dtype.kind not in "iu" or array.shape != shape:
        raise MaskError(
            f"phase_map(labels=...) needs whole numbers of shape {shape} (array order), the phase of each labelled "
            f"pixel and -1 for all others, but got {array.dtype} of shape {array.shape}. Or name areas: "
            "labels={'ferrite': hs.roi.RectangularROI(...)}."
        )
    found = np.maximum(array.astype(np.int64), -1).reshape(-1)
    n = int(found.max(initial=-1)) + 1
    missing = sorted(set(range(n)) - set(found.tolist()))
    if n == 0 or missing:
        raise OptionError(
            f"phase_map(labels=...): no pixel has the label {missing[0] if missing else 0}. Phases are numbered from 0 "
            "without gaps, and -1 stands for no label."
        )
    return found, tuple(f"phase {k}" for k in range(n))


def _report(call: Call, found: Phases, noise: dict[str, Any], *, mixed: bool, chosen: bool) -> PhaseReport:
    model, choice = found.model, found.choice
    assert choice is not None
    return PhaseReport(
        n_phases=model.n_components,
        numbers=choice.curve if chosen else None,
        merged=choice.merged,
        all_counts=choice.all_counts and chosen,
        strength=model.strength,
        mixed=found.mixed if mixed else None,
        group_width=model.width,
        model_error=model.error,
        drift=_largest(found.drift),
        noise_model=noise,
        hold_out="exact" if noise["name"] == "poisson" else "approximate",
        used=found.summary.counts(),
        random_state=call.seed,
        seconds=found.seconds,
        candidates=found.candidates,
        chosen=min(found.candidates, key=lambda one: one.validation_score).name,
        interrupted=choice.interrupted,
    )


def _largest(drift: np.ndarray | None) -> int:
    return 0 if drift is None else int(np.abs(drift).max())


def _wrap(call: Call, found: Phases, report: PhaseReport, trained: TrainedModel) -> PhaseResult:
    """Return maps and spectra as native signals."""
    template, title, names = call.source.template, call.source.title, found.model.names
    shape, k = call.source.spectra.array.shape[:-1], len(names)
    maps: dict[str, np.ndarray | None] = {
        "Phases": found.labels.astype(np.int16),
        "Share of the second phase": found.second,
        "p-values": found.p_value,
    }
    labels, mixed, p_value = (
        values if values is None else navigation_map(template, values.reshape(shape), title=f"{name} of {title}")
        for name, values in maps.items()
    )
    probability = score_maps(template, found.probability.T.reshape(*shape, k), title=f"Phase probabilities of {title}")
    n_spectra = tuple(int(n) for n in found.model.n_spectra)
    sums = np.where(np.array(n_spectra)[:, None] > 0, found.model.spectra, 0.0)
    rows = expand_channels(sums, trained.channel_state)
    spectra = component_spectra(template, rows, title=f"Summed spectra of the phases of {title}")
    for signal in filter(None, (labels, mixed, p_value, probability, spectra)):
        stamp(signal, report.to_dict())
    coordinates = np.where((found.summary.pixel_state == USED)[:, None], found.coordinates, np.nan).astype(np.float32)
    result = labels, probability, mixed, spectra, n_spectra, _shares(call, found), p_value, report, trained, names
    return PhaseResult(*result, coordinates, _source=call.source)


def _shares(call: Call, found: Phases) -> PhaseShares:
    n_used = int((found.summary.pixel_state == USED).sum())
    area, units = scan_area(n_used, call.source.template.axes_manager.navigation_axes)
    pixels = np.bincount(found.labels[found.labels >= 0], minlength=len(found.model.names))
    rows = zip(found.model.names, pixels, found.areas, found.errors, strict=True)
    shares = (
        PhaseShare(name, int(n), float(share), float(error), float(share * area), float(error * area), units)
        for name, n, share, error in rows
    )
    return PhaseShares(shares)
