"""A trained model on the energy axis of other data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hyperspy_specml.exceptions import EnergyAxisMismatchError
from hyperspy_specml.models._energy_axis import channels_in, in_words, same_channels
from hyperspy_specml.statistics import plan_resampling

if TYPE_CHECKING:
    from hyperspy_specml.models._denoiser import TrainedDenoiser
    from hyperspy_specml.models._trained import TrainedModel

_logger = logging.getLogger(__name__)

Trained = TypeVar("Trained", "TrainedModel", "TrainedDenoiser")


def on_axis(trained: Trained, axis: dict[str, Any], *, method: str) -> Trained:
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
        found = trained.resampled(axis, resampling)
    except ValueError as error:
        raise EnergyAxisMismatchError(
            f"{method}(model=...): trained on {in_words(own)}, but the signal has {in_words(axis)}: {error}. "
            "Bring it to that axis, s.isig[...] or s.interpolate_on_axis(...), or fit anew without model."
        ) from error
    _logger.info("%s(model=...): the model is resampled from %s to %s", method, in_words(own), in_words(axis))
    return found
