"""A trained model on the energy axis of other data."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import EnergyAxisMismatchError
from hyperspy_specml.signals import channels_in, in_words, same_channels
from hyperspy_specml.statistics import STATE_NAMES, Resampling, plan_resampling

if TYPE_CHECKING:
    from hyperspy_specml.results._trained import TrainedModel

_logger = logging.getLogger(__name__)


def on_axis(trained: TrainedModel, axis: dict[str, Any], *, method: str) -> TrainedModel:
    """Return a model for spectra on another energy axis: itself where the channels are the same.

    Otherwise its spectra and noise weights are resampled to the channels of the axis, as counts that scale
    with the width of a channel; the counts themselves never are.

    Parameters
    ----------
    trained
        The model.
    axis
        Of the data, as `signals.axis_spec` describes it.
    method
        Name of the method that asks, for the message.

    Raises
    ------
    EnergyAxisMismatchError
        That would not be sound.
    """
    own = trained.energy_axis
    if same_channels(axis, own):
        return trained
    try:
        here = channels_in(axis, own["units"])
        if np.isnan(here).any():
            raise ValueError(f"{axis['units']!r} cannot be converted to {own['units']!r}")
        resampling = plan_resampling(channels_in(own, own["units"]), trained.channel_state, here)
        found = _resampled(trained, axis, resampling)
    except ValueError as error:
        raise EnergyAxisMismatchError(
            f"{method}(model=...): trained on {in_words(own)}, but the signal has {in_words(axis)}: {error}. "
            "Bring it to that axis, s.isig[...] or s.interpolate_on_axis(...), or fit anew without model."
        ) from error
    _logger.info("%s(model=...): the model is resampled from %s to %s", method, in_words(own), in_words(axis))
    return found


def _resampled(trained: TrainedModel, axis: dict[str, Any], resampling: Resampling) -> TrainedModel:
    state = resampling.channel_state
    channels = {STATE_NAMES[code]: int(n) for code, n in enumerate(np.bincount(state)) if n}
    report = replace(
        trained.report,
        used=trained.report.used | {"channels": channels},
        resampled_from=trained.report.resampled_from or in_words(trained.energy_axis),
    )
    return replace(
        trained, spectrum_model=trained.spectrum_model.resampled(resampling), channel_state=state,
        energy_axis=axis, report=report,
        baseline=_resampled(trained.baseline, axis, resampling) if trained.baseline else None,
    )  # fmt: skip
