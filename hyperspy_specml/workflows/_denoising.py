"""Behind `methods.denoise_dae`: spectra in, denoised signal out."""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.denoise import apply_denoiser, denoise, erased_by, put_back
from hyperspy_specml.exceptions import (
    ErasedFeaturesWarning,
    NegativeCountsError,
    OptionError,
    PairsError,
    TooFewSpectraError,
)
from hyperspy_specml.models import (
    DenoiseReport,
    Fingerprint,
    LinearModel,
    TrainedDenoiser,
    in_words,
    keep_denoiser,
    load_model,
    on_axis,
    same_channels,
)
from hyperspy_specml.signals import Decoder, axis_spec, energy_axis, spectra_of
from hyperspy_specml.statistics import USED, PoissonNoise, count_states, noise_from_dict
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from hyperspy_specml.denoise import Erased, Protected
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes
    ----------
    context, corruption, pairs, protect, noise
        Arguments of the method.
    """

    context: str
    corruption: str
    pairs: tuple[BaseSignal, BaseSignal] | None
    protect: bool
    noise: str


def fit(call: Call, wanted: Wanted, *, random_state: int, device: str) -> BaseSignal:
    """Fit a denoiser, apply it and wrap the answer."""
    spectra = call.source.spectra
    found = denoise(
        call.stream(), context=wanted.context, corruption=wanted.corruption, pairs=_pairs(call, wanted),
        noise=wanted.noise,
        masks=(spectra.navigation_mask, spectra.signal_mask), config=call.config, seed=random_state,
        device=device, track=call.track,
    )  # fmt: skip
    summary = found.prepared.summary
    trained = TrainedDenoiser(
        found.denoiser,
        channel_state=summary.channel_state,
        energy_axis=axis_spec(energy_axis(call.signal)),
        title=call.source.title,
        config=call.config,
        fingerprint=Fingerprint(found.shape, summary.moments.n, summary.moments.sums),
        report=DenoiseReport.of(found, context=wanted.context),
    )
    return _wrap(
        call, trained, trained.report, found.scores, summary.pixel_state == USED, summary.moments.mean,
        protect=wanted.protect,
    )  # fmt: skip


def _pairs(call: Call, wanted: Wanted) -> tuple[SpectrumStream, SpectrumStream] | None:
    """Check two signals of the same area and return their spectra."""
    pairs = wanted.pairs
    if pairs is None:
        return None
    if wanted.corruption != "split":
        raise OptionError(
            f"denoise_dae(corruption={wanted.corruption!r}, pairs=...): one signal is input, the "
            "other the target, and nothing is corrupted. Leave one of the two out."
        )
    if not (isinstance(pairs, tuple | list) and len(pairs) == 2):
        raise PairsError(
            "denoise_dae(pairs=...) needs two signals of the same area, recorded independently: "
            f"pairs=(odd, even), not {pairs!r:.80}."
        )
    here, axis = call.source.spectra.array.shape, axis_spec(energy_axis(call.signal))
    streams = []
    for signal in pairs:
        if not isinstance(signal, BaseSignal):
            raise PairsError(f"denoise_dae(pairs=...) needs signals, not {type(signal).__name__}.")
        spectra = spectra_of(signal, method="denoise_dae(pairs=...): denoise_dae")
        own = axis_spec(energy_axis(signal))
        if spectra.array.shape != here or not same_channels(own, axis):
            raise PairsError(
                f"denoise_dae(pairs=...): {signal!r} has array shape {spectra.array.shape} and "
                f"{in_words(own)}, but the signal has {here} and {in_words(axis)}. "
                "Crop all three alike first, s.inav[...], s.isig[...]."
            )
        streams.append(SpectrumStream(spectra.array, call.config.memory_budget, call.show_progressbar))
    return streams[0], streams[1]


def apply(call: Call, model: TrainedDenoiser | str | os.PathLike[str], wanted: Wanted) -> BaseSignal:
    """Apply a trained denoiser, or that of a file, to another map: nothing is fitted."""
    trained = load_model(model) if isinstance(model, str | os.PathLike) else model
    _check_model(call, trained, wanted)
    assert isinstance(trained, TrainedDenoiser)
    trained = on_axis(trained, axis_spec(energy_axis(call.signal)), method="denoise_dae")
    start = time.perf_counter()
    stream = call.stream()
    found = apply_denoiser(
        stream, trained.denoiser, channels=trained.channel_state == USED,
        noise=noise_from_dict(trained.report.noise_model), mean=trained.mean,
        masked=call.source.spectra.navigation_mask, memory_budget=call.config.memory_budget,
    )  # fmt: skip
    pixels = count_states(found.pixel_state)
    if not found.used.any():
        raise TooFewSpectraError(
            f"denoise_dae(model=...): no spectrum of {call.signal!r} can be used ({pixels}). A "
            "channel that is not finite is enough: train without it, signal_mask=..., or mend it."
        )
    noise = noise_from_dict(trained.report.noise_model)
    if isinstance(noise, PoissonNoise) and not found.mean.sum() > 0:
        raise NegativeCountsError(
            "denoise_dae(model=...): the model was trained on counts, but the mean spectrum of "
            f"{call.signal!r} has a sum of {found.mean.sum():.3g}. Undo the background or dark subtraction, "
            "or train on such data."
        )
    report = replace(
        trained.report, used=trained.report.used | {"pixels": pixels}, shape=stream.navigation_shape,
        trained_on=trained.title, dose=found.dose, seconds={"application": time.perf_counter() - start},
    )  # fmt: skip
    return _wrap(call, trained, report, found.scores, found.used, found.mean, protect=wanted.protect)


def _check_model(call: Call, trained: object, wanted: Wanted) -> None:
    """Refuse what is no denoiser, and arguments that would be ignored."""
    if not isinstance(trained, TrainedDenoiser):
        raise OptionError(
            "denoise_dae(model=...) needs a trained denoiser: specml.denoise_model(clean) of a denoised "
            f"signal, specml.train_denoiser(library) or the path of its file, not {type(trained).__name__}. "
            "What a decomposition describes of another map is s.decomposition_ae(model=...).reconstruction."
        )
    refused = {
        "context": wanted.context != "auto",
        "corruption": wanted.corruption != "split",
        "pairs": wanted.pairs is not None,
        "noise": wanted.noise != "auto",
        "signal_mask": call.source.spectra.signal_mask is not None,
    }
    for name in (name for name, given in refused.items() if given):
        raise OptionError(
            f"denoise_dae({name}=..., model={trained}): the model has its own, fixed when it was trained. "
            f"Leave {name} out, or leave model out to fit anew."
        )


def _wrap(
    call: Call, trained: TrainedDenoiser, report: DenoiseReport, scores: np.ndarray, valid: np.ndarray,
    mean: np.ndarray, *, protect: bool,
) -> BaseSignal:  # fmt: skip
    """Look for what was erased, and make the signal."""
    start, stream, axes = time.perf_counter(), call.stream(), trained.denoiser.axes
    channels = trained.channel_state == USED
    erased, windows = erased_by(
        stream, axes, scores, valid=valid, channels=channels, mean=mean,
        noise=noise_from_dict(report.noise_model),
    )  # fmt: skip
    model: LinearModel | Protected = LinearModel(axes)
    if protect and erased.regions:
        model, scores = put_back(stream, axes, scores, erased, windows)
    report = replace(
        report, erased=_named(call, erased, channels), protected=protect,
        erased_pixels=[int(pixel) for region in erased.regions for pixel in region.pixels],
        seconds=report.seconds | {"check": time.perf_counter() - start},
    )  # fmt: skip
    _logger.info("denoise_dae(): %s", report.verdict())
    if erased.regions and not protect:
        warnings.warn(
            f"denoise_dae(): {report.erased_in_words()} protect=True puts them back.",
            ErasedFeaturesWarning,
            stacklevel=4,  # the user's line
        )
    clean = call.source.denoised(Decoder(model, trained.channel_state), scores, report.to_dict())
    keep_denoiser(clean, trained)
    return clean


def _named(call: Call, erased: Erased, channels: np.ndarray) -> dict[str, list[Any]]:
    """Describe what was erased in the units of the signal."""
    energy = energy_axis(call.signal)
    positions = np.flatnonzero(channels)
    columns: dict[str, list[Any]] = {name: [] for name in ("energy", "position", "pixels", "z", "excess")}
    for region in erased.regions:
        middle = positions[(region.start + region.stop - 1) // 2]
        columns["energy"].append(
            f"{energy.axis[middle]:.5g} {energy.get_axis_dictionary()['units'] or ''}".strip()
        )
        columns["position"].append(_place(call, region.pixels))
        columns["pixels"].append(len(region.pixels))
        columns["z"].append(region.z)
        columns["excess"].append(region.excess)
    return columns


def _place(call: Call, pixels: np.ndarray) -> str:
    """Return the middle of some pixels on the scan axes, in words."""
    shape = call.source.spectra.array.shape[:-1]
    axes = call.signal.axes_manager.navigation_axes[::-1]  # array order
    named = [
        f"{axis.name if isinstance(axis.name, str) else 'scan'} {axis.axis[round(float(index.mean()))]:.4g}"
        for axis, index in zip(axes, np.unravel_index(pixels, shape), strict=True)
    ]
    return ", ".join(named[::-1])
