"""A trained model and what it was trained on: enough to apply it to the next map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from hyperspy_specml.estimators import SpectrumModel
    from hyperspy_specml.results._report import Report


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A fitted decomposition: ``s2.decomposition_ae(model=result.model)`` applies it to another map.

    Attributes
    ----------
    spectrum_model
        From the channels in use to scores and back.
    channel_state
        (E,) state of every energy channel in training; only those in use are looked at.
    energy_axis
        Units and calibration, as `signals.axis_spec` describes them.
    title
        Of the map it was trained on.
    report
        Of the training.
    baseline
        PCA of the same data and size; None for the baseline itself.
    """

    spectrum_model: SpectrumModel
    channel_state: np.ndarray = field(repr=False)
    energy_axis: dict[str, Any]
    title: str
    report: Report = field(repr=False)
    baseline: TrainedModel | None = field(repr=False)

    def __repr__(self) -> str:
        """Return architecture, size and origin."""
        name, n = self.spectrum_model.architecture, self.spectrum_model.n_components
        return f"<TrainedModel {name}, K = {n}, {len(self.channel_state)} channels, of {self.title!r}>"
