"""A trained model and what it was trained on: enough to apply it to the next map."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hyperspy_specml.models._energy_axis import in_words
from hyperspy_specml.statistics import count_states

if TYPE_CHECKING:
    import os
    from pathlib import Path
    from typing import Self

    import numpy as np

    from hyperspy_specml.models._latent import SpectrumModel
    from hyperspy_specml.models._report import Report
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.statistics import Resampling


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """By what the data of a training can be known again.

    Attributes
    ----------
    shape
        Of the map, in array order.
    n_spectra
        Number of spectra that were used.
    channel_sums
        Sum over these spectra, for each channel in use.
    """

    shape: tuple[int, ...]
    n_spectra: int
    channel_sums: np.ndarray = field(repr=False)


class Trained:
    """What trained models and denoisers share: they are saved alike, and come to other channels alike."""

    energy_axis: dict[str, Any]
    report: Any

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save it with its report and settings, and a baseline, in one file; `load_model` reads it.

        Parameters
        ----------
        path
            Without a suffix it gets ".specml".
        overwrite
            What to do with a file that is there: True replaces it, False leaves it as it is, as in HyperSpy.
            By default it is an error.

        Returns
        -------
        where the file is

        Raises
        ------
        ModelFileExistsError
            There is a file, and `overwrite` was not said.
        """
        from hyperspy_specml.models import _stored

        return _stored.save(self, path, overwrite=overwrite)

    def _report_in(self, resampling: Resampling) -> Any:
        """Return the report, which tells from now on that the channels are not those of the training."""
        return replace(
            self.report,
            used=self.report.used | {"channels": count_states(resampling.channel_state)},
            resampled_from=self.report.resampled_from or in_words(self.energy_axis),
        )


@dataclass(frozen=True, eq=False)
class TrainedModel(Trained):
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
    config
        Settings of the training.
    fingerprint
        Shape and sums of the map it was trained on.
    report
        Of the training.
    baseline
        PCA of the same data and size; None for the baseline itself.
    """

    spectrum_model: SpectrumModel
    channel_state: np.ndarray = field(repr=False)
    energy_axis: dict[str, Any]
    title: str
    config: TrainConfig = field(repr=False)
    fingerprint: Fingerprint = field(repr=False)
    report: Report = field(repr=False)
    baseline: TrainedModel | None = field(repr=False)

    def resampled(self, axis: dict[str, Any], resampling: Resampling) -> Self:
        """Return the model of the same spectra recorded in other channels; see `on_axis`.

        Parameters
        ----------
        axis
            Of the other channels, as `signals.axis_spec` describes it.
        resampling
            To them.
        """
        return replace(
            self, spectrum_model=self.spectrum_model.resampled(resampling),
            channel_state=resampling.channel_state, energy_axis=axis, report=self._report_in(resampling),
            baseline=self.baseline and self.baseline.resampled(axis, resampling),
        )  # fmt: skip

    def __repr__(self) -> str:
        """Return architecture, size and origin."""
        name, n = self.spectrum_model.architecture, self.spectrum_model.n_components
        return f"<TrainedModel {name}, K = {n}, {len(self.channel_state)} channels, of {self.title!r}>"
