"""Behind `methods.denoise_dae`: spectra in, denoised signal out."""

from __future__ import annotations

import logging
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.estimators import LinearModel, denoise, erased_by, put_back
from hyperspy_specml.exceptions import ErasedFeaturesWarning
from hyperspy_specml.results import DenoiseReport
from hyperspy_specml.results._source import Decoder
from hyperspy_specml.signals import energy_axis

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml._call import Call
    from hyperspy_specml.analysis import Erased
    from hyperspy_specml.estimators import Protected

_logger = logging.getLogger(__name__)


def fit(call: Call, *, context: str, protect: bool, noise: str, random_state: int, device: str) -> BaseSignal:
    """Fit a denoiser, apply it and wrap the answer."""
    source, stream = call.source, call.stream()
    found = denoise(
        stream, context=context, noise=noise,
        masks=(source.spectra.navigation_mask, source.spectra.signal_mask), config=call.config,
        seed=random_state, device=device, track=call.track,
    )  # fmt: skip
    start = time.perf_counter()
    study, axes, scores = found.study, found.denoiser.axes, found.scores
    erased, windows = erased_by(stream, axes, scores, study.survey, study.estimate.model)
    model: LinearModel | Protected = LinearModel(axes)
    if protect and erased.regions:
        model, scores = put_back(stream, axes, scores, erased, windows)
    found.seconds["check"] = time.perf_counter() - start
    pixels = [int(pixel) for region in erased.regions for pixel in region.pixels]
    report = DenoiseReport.of(
        found, context=context, erased=_named(call, erased, study.survey.channels), erased_pixels=pixels,
        protected=protect, shape=stream.navigation_shape,
    )  # fmt: skip
    _logger.info("denoise_dae(): %s", report.verdict())
    if erased.regions and not protect:
        warnings.warn(
            f"denoise_dae(): {report.erased_in_words()} protect=True puts them back.",
            ErasedFeaturesWarning,
            stacklevel=3,  # the user's line
        )
    return source.denoised(Decoder(model, study.survey.channel_state), scores, report.to_dict())


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
