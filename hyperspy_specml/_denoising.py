"""Behind `methods.denoise_dae`: spectra in, denoised signal out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hyperspy_specml.estimators import LinearModel, denoise
from hyperspy_specml.results import DenoiseReport
from hyperspy_specml.results._source import Decoder

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml._call import Call

_logger = logging.getLogger(__name__)


def fit(call: Call, *, context: str, noise: str, random_state: int, device: str) -> BaseSignal:
    """Fit a denoiser, apply it and wrap the answer."""
    source = call.source
    found = denoise(
        call.stream(), context=context, noise=noise,
        masks=(source.spectra.navigation_mask, source.spectra.signal_mask), config=call.config,
        seed=random_state, device=device, track=call.track,
    )  # fmt: skip
    report = DenoiseReport.of(found, context=context)
    _logger.info("denoise_dae(): %s", report.verdict())
    decoder = Decoder(LinearModel(found.denoiser.axes), found.study.survey.channel_state)
    return source.denoised(decoder, found.scores, report.to_dict())
