"""A trained denoiser: enough to denoise the next map."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models._trained import Fingerprint, Trained

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models._denoise_report import DenoiseReport
    from hyperspy_specml.models._denoisers import Denoiser
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.statistics import Resampling

_KEPT_AS = "_specml_denoiser"  # attribute of denoised signals: not in files, and not in copies


@dataclass(frozen=True, eq=False)
class TrainedDenoiser(Trained):
    """A fitted denoiser: ``s2.denoise_dae(model=trained)`` applies it to another map.

    `denoise_model` returns that of a denoised signal, `train_denoiser` trains one on simulated spectra.

    Attributes
    ----------
    denoiser
        From score maps to score maps.
    channel_state
        (E,) state of every energy channel in training; only those in use are looked at.
    energy_axis
        Units and calibration, as `signals.axis_spec` describes them.
    title
        Of the map or library it was trained on.
    config
        Settings of the training.
    fingerprint
        Shape and sums of what it was trained on.
    report
        Of the training; what was erased from its map is not in there.
    """

    denoiser: Denoiser
    channel_state: np.ndarray = field(repr=False)
    energy_axis: dict[str, Any]
    title: str
    config: TrainConfig = field(repr=False)
    fingerprint: Fingerprint = field(repr=False)
    report: DenoiseReport = field(repr=False)

    @property
    def mean(self) -> np.ndarray:
        """(E in use,) mean spectrum of the training."""
        return self.fingerprint.channel_sums / self.fingerprint.n_spectra

    def resampled(self, axis: dict[str, Any], resampling: Resampling) -> Self:
        """Return the denoiser of the same spectra recorded in other channels; see `on_axis`.

        Parameters
        ----------
        axis
            Of the other channels, as `signals.axis_spec` describes it.
        resampling
            To them.
        """
        sums = resampling(self.fingerprint.channel_sums[None])[0]
        return replace(
            self, denoiser=self.denoiser.resampled(resampling), channel_state=resampling.channel_state,
            energy_axis=axis, fingerprint=replace(self.fingerprint, channel_sums=sums),
            report=self._report_in(resampling),
        )  # fmt: skip

    def __repr__(self) -> str:
        """Return candidate, size and origin."""
        n = len(self.channel_state)
        return f"<TrainedDenoiser {self.report.chosen}, {n} channels, of {self.title!r}>"


def keep_denoiser(signal: BaseSignal, trained: TrainedDenoiser) -> None:
    """Remember with a denoised signal what denoised it.

    Parameters
    ----------
    signal
        Denoised.
    trained
        By this.
    """
    setattr(signal, _KEPT_AS, trained)


def denoise_model(signal: BaseSignal) -> TrainedDenoiser:
    """Return what denoised a signal, to be saved or applied to the next map.

    Parameters
    ----------
    signal
        What ``s.denoise_dae()`` returned, in this session. Copies and files of it do not hold the model.

    Raises
    ------
    OptionError
        The signal holds no model.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> clean = s.denoise_dae(context="spatial", show_progressbar=False)
    >>> again = s.denoise_dae(model=specml.denoise_model(clean), show_progressbar=False)
    >>> specml.denoise_report(again).trained_on
    'Simulated Fe-Cr-Ni map'
    """
    trained = getattr(signal, _KEPT_AS, None)
    if not isinstance(trained, TrainedDenoiser):
        raise OptionError(
            f"denoise_model({signal!r}): only the very signal that s.denoise_dae() returned holds its model, "
            "no copy and no file of it. Save the model itself, specml.denoise_model(clean).save('fe'), and "
            "apply it with s.denoise_dae(model='fe.specml')."
        )
    return trained
