"""Behind `methods.denoise_dae`: spectra in, denoised signal out."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.denoise import Asked, Denoised, DenoiseOptions, apply_denoiser, denoise
from hyperspy_specml.exceptions import OptionError, PairsError, RemovedSignalWarning
from hyperspy_specml.models import (
    DenoiseReport,
    Fingerprint,
    FittedDenoiser,
    RemovedFeature,
    TrainedModel,
    in_words,
    same_channels,
)
from hyperspy_specml.signals import Decoder, axis_spec, energy_axis, line_width, spectra_of
from hyperspy_specml.statistics import count_states, noise_from_dict
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.workflows._call import yes_or_no

if TYPE_CHECKING:
    import os

    import dask.array as da

    from hyperspy_specml.denoise import RemovedRegion
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)


def denoising(
    call: Call, model: TrainedModel | str | os.PathLike[str] | None, *, pairs: Any, protect: Any,
    options: DenoiseOptions | None, **asked: Any,
) -> BaseSignal:  # fmt: skip
    """Fit a denoiser, or apply a model, and wrap the answer; `asked` are further fields of `Asked`."""
    asked["protect"] = yes_or_no("protect", protect)
    if model is not None:
        return _apply(call, model, pairs=pairs, options=options, **asked)
    asked["options"] = DenoiseOptions() if options is None else options
    return _fit(call, Asked(**asked), _checked_pairs(call, pairs, asked["corruption"]))


def _fit(call: Call, asked: Asked, pairs: list[np.ndarray | da.Array]) -> BaseSignal:
    """Fit a denoiser, apply it and wrap the answer."""
    with call.running() as (run, stream):
        streams = [SpectrumStream(array, stream.memory_budget, run.progress) for array in pairs]
        both, detector = (streams[0], streams[1]) if streams else None, line_width(call.signal)
        found = denoise(stream, run, asked, masks=call.masks, pairs=both, detector=detector)
    summary = found.prepared.summary
    fingerprint = Fingerprint(call.source.spectra.array.shape, summary.moments.n, summary.moments.sums)
    origin = (summary.channel_state, call.axis, call.source.title, call.config)
    trained = TrainedModel(found.denoiser, *origin, fingerprint, found.report)
    return _wrap(call, trained, found.report, found.denoised, protect=asked.protect)


def _checked_pairs(call: Call, pairs: Any, corruption: str) -> list[np.ndarray | da.Array]:
    """Check two signals of the same area and return their spectra; none where there are none."""
    if pairs is None:
        return []
    if corruption != "split":
        raise OptionError(
            f"denoise_dae(corruption={corruption!r}, pairs=...): one signal is input, the other the target, "
            "and nothing is corrupted. Leave one of the two out."
        )
    if not (isinstance(pairs, tuple | list) and len(pairs) == 2):
        raise PairsError(
            "denoise_dae(pairs=...) needs two signals of the same area, recorded independently: "
            f"pairs=(odd, even), not {pairs!r:.80}."
        )
    here, arrays = call.source.spectra.array.shape, []
    for signal in pairs:
        if not isinstance(signal, BaseSignal):
            raise PairsError(f"denoise_dae(pairs=...) needs signals, not {type(signal).__name__}.")
        own = axis_spec(energy_axis(signal))
        spectra = spectra_of(signal, method="denoise_dae(pairs=...): denoise_dae")
        if spectra.array.shape != here or not same_channels(own, call.axis):
            raise PairsError(
                f"denoise_dae(pairs=...): {signal!r} has array shape {spectra.array.shape} and "
                f"{in_words(own)}, but the signal has {here} and {in_words(call.axis)}. "
                "Crop all three alike first, s.inav[...], s.isig[...]."
            )
        arrays.append(spectra.array)
    return arrays


def _apply(call: Call, model: TrainedModel | str | os.PathLike[str], *, protect: bool, **asked: Any) -> BaseSignal:
    """Apply a trained denoiser, or that of a file, to another map: nothing is fitted."""
    trained = call.trained_model(
        model,
        "a trained denoiser: specml.denoise_model(clean) of a denoised signal, "
        "specml.train_denoiser(library) or the path of its file",
    )
    if not isinstance(trained.report, DenoiseReport):
        raise OptionError(
            f"denoise_dae(model={trained}) needs a denoiser, specml.denoise_model(clean) or "
            "specml.train_denoiser(library). What a decomposition describes of another map is "
            "s.decomposition_ae(model=...).reconstruction."
        )
    given = {name: asked[name] != "auto" for name in ("context", "noise")}
    given |= {name: asked[name] is not None for name in ("pairs", "options")}
    call.refuse_beside_model(trained, "fit anew", corruption=asked["corruption"] != "split", **given)
    trained = trained.on_axis(call.axis, method=call.method)
    report, denoiser, start = trained.report, trained.model, time.perf_counter()
    assert isinstance(report, DenoiseReport)
    assert isinstance(denoiser, FittedDenoiser)
    with call.running(trained=False) as (_, stream):
        noise, mean = noise_from_dict(report.noise_model), trained.fingerprint.mean
        known: Any = {"channels": trained.channels, "noise": noise, "mean": mean, "masked": call.masks[0]}
        found = apply_denoiser(stream, denoiser, detector=line_width(call.signal), protect=protect, **known)
    pixels, seconds = count_states(found.pixel_state), {"application": time.perf_counter() - start}
    here = {name: getattr(found, name) for name in ("relative_intensity", "line_width")}
    report = report.applied({"pixels": pixels}, seconds, trained.title, shape=stream.navigation_shape, **here)
    return _wrap(call, trained, report, found, protect=protect)


def _wrap(call: Call, trained: TrainedModel, report: DenoiseReport, found: Denoised, *, protect: bool) -> BaseSignal:
    """Say what was removed, and make the signal, which keeps report and model in its metadata."""
    positions = np.flatnonzero(trained.channels)
    removed = tuple(_feature(call, region, positions) for region in found.removed)
    report = replace(report, removed=removed, restored=protect and bool(removed))
    _logger.info("denoise_dae(): %s", report.verdict())
    if removed and not protect:
        most, places = removed[0], "one place" if len(removed) == 1 else f"{len(removed)} places"
        warnings.warn(
            "Pass protect=True to keep it: denoise_dae() removed signal that noise cannot explain in "
            f"{places}, the strongest at {most.energy}, {most.position} ({most.z:+.1f} standard deviations).",
            RemovedSignalWarning,
            stacklevel=5,  # the user's line
        )
    kept = report.to_dict() | {"model": trained.to_bytes()}
    decoder = Decoder(found.model, trained.channel_state)
    return call.source.full_size(decoder, found.scores, "denoised", kept)


def _feature(call: Call, region: RemovedRegion, channels: np.ndarray) -> RemovedFeature:
    """Describe removed signal in the units of the signal."""
    energy = energy_axis(call.signal)
    middle = channels[(region.start + region.stop - 1) // 2]
    units = energy.get_axis_dictionary()["units"] or ""
    pixels = tuple(int(pixel) for pixel in region.pixels)
    return RemovedFeature(
        f"{energy.axis[middle]:.5g} {units}".strip(), _place(call, region.pixels), region.z, region.excess, pixels
    )


def _place(call: Call, pixels: np.ndarray) -> str:
    """Return the middle of some pixels on the scan axes, in words."""
    shape = call.source.spectra.array.shape[:-1]
    axes = call.signal.axes_manager.navigation_axes[::-1]  # array order
    named = [
        f"{axis.name if isinstance(axis.name, str) else 'scan'} {axis.axis[round(float(index.mean()))]:.4g}"
        for axis, index in zip(axes, np.unravel_index(pixels, shape), strict=True)
    ]
    return ", ".join(named[::-1])
