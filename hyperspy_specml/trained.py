"""A trained model and what it was trained on: enough to apply it to the next map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hyperspy_specml.estimators import LinearModel, SpectrumModel
    from hyperspy_specml.report import Report


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A fitted decomposition with its energy axis.

    Attributes
    ----------
    spectrum_model, baseline
        The model and the PCA of the same data and size.
    channel_state
        (E,) state of every energy channel in training; only those in use are looked at.
    energy_axis
        Name, units and calibration, as `signals.axis_spec` describes them.
    report
        Of the training.
    """

    spectrum_model: SpectrumModel
    baseline: LinearModel
    channel_state: np.ndarray = field(repr=False)
    energy_axis: dict[str, Any]
    report: Report = field(repr=False)

    def __repr__(self) -> str:
        """Return architecture, size and axis."""
        name, n = self.spectrum_model.architecture, self.spectrum_model.n_components
        return f"<TrainedModel {name}, K = {n}, {len(self.channel_state)} channels>"
