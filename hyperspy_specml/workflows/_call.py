"""What the methods have in common: one call on one signal, checked; trained models, also from files."""

from __future__ import annotations

import logging
import operator
import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import Fingerprint, TrainedModel
from hyperspy_specml.progress import Progress, ProgressBar
from hyperspy_specml.run import ComputeConfig, Run, TrainConfig
from hyperspy_specml.signals import Source, axis_spec, below_first_line, energy_axis, spectra_of
from hyperspy_specml.statistics import BELOW_LINES
from hyperspy_specml.streaming import SpectrumStream, without_lost_threads
from hyperspy_specml.train import choose_device, device_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models import FittedModel, Report

    Shown = bool | Progress | None

_logger = logging.getLogger(__name__)

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a method.

    Attributes
    ----------
    method
        Its name, for messages.
    signal
        What the method was called on; never written to.
    source
        Its spectra, with the user's masks, and what results are made like.
    config
        Settings.
    seed, device
        As the user gave them.
    shown
        Whether and how progress is shown.
    """

    method: str
    signal: BaseSignal
    source: Source
    config: TrainConfig
    seed: int
    device: str
    shown: bool | Progress

    @classmethod
    def on(cls, signal: BaseSignal, method: str, given: dict[str, Any]) -> Call:
        """Check what every method is given, and take that out of all that one was given.

        Parameters
        ----------
        signal, method
            See `Call`.
        given
            The arguments of the method by name; it may lack some that others have.

        Raises
        ------
        OptionError, DataTypeError, SpectraRequiredError, NavigationRequiredError, MaskError
            See `spectra_of`; `config` is not a TrainConfig, an impossible seed or device.
        """
        config, device = checked_config(method, given.pop("config", None)), given.pop("device", "auto")
        seed = whole_number("random_state", given.pop("random_state", 0), least=0)
        masks = {name: given.pop(name, None) for name in ("navigation_mask", "signal_mask")}
        spectra = spectra_of(signal, method=method, **masks)
        if device != "auto":
            choose_device(device)  # an error before the file is read
        shown, source = _shown(given.pop("show_progressbar", None)), Source.of(signal, spectra)
        return cls(method, signal, source, config, seed, device, shown)

    @property
    def navigation_mask(self) -> np.ndarray | None:
        """Bool array of the navigation shape, True = masked, or None."""
        return self.source.spectra.navigation_mask

    def masks(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return navigation mask and (E,) states of the channels, of which a fit looks at those in use; None for all.

        Channels of the user's signal mask are left out and, as the log says, those below the first line that
        an X-ray detector passes. A signal mask that masks nothing asks for all channels.
        """
        mask, below = self.source.spectra.signal_mask, below_first_line(self.signal)
        if below is None or (mask is not None and not mask.any()):
            return self.navigation_mask, mask
        states = np.where(below, BELOW_LINES, 0 if mask is None else mask).astype(np.uint8)
        axis = energy_axis(self.signal)
        text = (
            "%s(): %d channels below %.3g %s are left out: there is the zero-energy peak, and the detector passes no "
            "line. signal_mask=np.zeros(%d, bool) masks nothing and uses them"
        )
        _logger.info(text, self.method, below.sum(), axis.axis[~below].min(), axis.units, len(below))
        return self.navigation_mask, states

    @property
    def axis(self) -> dict[str, Any]:
        """The energy axis, in words and numbers."""
        return axis_spec(energy_axis(self.signal))

    def watched(self, show_progressbar: Shown) -> Call:
        """Return the call with another progress, to compute more of its result."""
        return replace(self, shown=_shown(show_progressbar))

    @contextmanager
    def running(self, *, trained: bool = True) -> Iterator[tuple[Run, SpectrumStream]]:
        """Show progress, and give settings and spectra to the computation.

        Parameters
        ----------
        trained
            Whether a network may be trained. If not, settings of that have no effect: the log says so.
        """
        without_lost_threads()
        with _progress(self.method, self.shown) as progress, progress.enter(""):
            with progress.enter("Load PyTorch", 0.0) if trained else nullcontext():
                device = device_for(self.method, self.device, self.config.of_training(), trained=trained)
            run = Run(self.config, self.seed, device, progress)
            yield run, SpectrumStream(self.source.spectra.array, self.config.memory_budget, progress)

    def fitted(self, model: FittedModel, state: np.ndarray, n: int, sums: np.ndarray, report: Report) -> TrainedModel:
        """Return a model that was fitted to this signal.

        Parameters
        ----------
        model
            Fitted.
        state
            (E,) state of every channel.
        n, sums
            Number of spectra that were used, and (E in use,) sums over them.
        report
            Of the training.
        """
        fingerprint = Fingerprint(self.source.spectra.array.shape, n, sums)
        return TrainedModel(model, state, self.axis, self.source.title, self.config, fingerprint, report)

    def trained_model(self, model: Any, needed: str, *reports: type[Report]) -> TrainedModel:
        """Return a trained model, or that of a file.

        Parameters
        ----------
        model
            As the user gave it.
        needed
            What is needed and where one gets it, for the message.
        *reports
            Kinds of reports that its report may be.
        """
        trained = load_model(model) if isinstance(model, str | os.PathLike) else model
        if not isinstance(trained, TrainedModel):
            raise OptionError(f"{self.method}(model=...) needs {needed}, not {type(model).__name__}.")
        if not isinstance(trained.report, reports):
            theirs = trained.report.method
            part = ".reconstruction" if (self.method, theirs) == ("denoise_dae", "decomposition_ae") else ""
            raise OptionError(
                f"{self.method}(model={trained}) needs {needed}; this one is of {theirs}: s.{theirs}(model=...){part}."
            )
        return trained

    def refuse_beside_model(self, model: object, instead: str, **given: bool) -> None:
        """Refuse arguments that a model would have to ignore.

        Parameters
        ----------
        model
            What was given, for the message.
        instead
            What leaving the model out does.
        **given
            Whether each argument was given.
        """
        unused = self.config.of_training() + (["kernel"] if self.config.kernel != "auto" else [])
        own = {
            "signal_mask": self.source.spectra.signal_mask is not None,
            "random_state": self.seed != 0,
            "device": self.device != "auto",
            f"config=TrainConfig({', '.join(unused)})": bool(unused),
        }
        for name in (name for name, was in (given | own).items() if was):
            raise OptionError(
                f"{self.method}({name if '=' in name else f'{name}=...'}, model={model}): the model has its own, "
                f"fixed when it was trained. Leave {name.partition('=')[0]} out, or leave model out to {instead}."
            )


def _shown(show_progressbar: Shown) -> bool | Progress:
    """Return whether and how progress is shown; None is HyperSpy's preference."""
    import hyperspy.api as hs

    return bool(hs.preferences.General.show_progressbar) if show_progressbar is None else show_progressbar


@contextmanager
def _progress(method: str, shown: bool | Progress) -> Iterator[Progress]:
    """Give the progress that the user watches, HyperSpy's bar with a line below it, or one that shows nothing."""
    from hyperspy.external.progressbar import progressbar

    if isinstance(shown, Progress):
        yield shown
    else:
        how = {"total": 1.0, "leave": False, "disable": not shown}
        with progressbar(desc=method, bar_format=_BAR, **how) as bar, progressbar(bar_format="  {desc}", **how) as line:
            yield ProgressBar(bar, line)


@contextmanager
def watching(method: str, show_progressbar: Shown) -> Iterator[Progress]:
    """Show the progress of a call that takes no `Call`, from 0 to 1."""
    without_lost_threads()
    with _progress(method, _shown(show_progressbar)) as progress, progress.enter(""):
        yield progress


def whole_number(name: str, value: object, *, least: int) -> int:
    """Return an argument as an int of Python.

    Raises
    ------
    OptionError
        It is not a whole number, or smaller than `least`.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the TypeError is the answer
    except TypeError:
        number = least - 1
    if number < least:
        raise OptionError(f"{name}={value!r} must be a whole number, {least} or more.")
    return number


def checked_config(method: str, config: object) -> TrainConfig:
    """Return settings as they were given, the usual ones for None.

    Raises
    ------
    OptionError
        They are no TrainConfig.
    """
    if config is None:
        return TrainConfig()
    if not isinstance(config, TrainConfig):
        kind = " Settings of computing alone go there too." if isinstance(config, ComputeConfig) else ""
        raise OptionError(
            f"{method}(config={config!r}) must be a TrainConfig, e.g. specml.TrainConfig(max_steps=1000).{kind}"
        )
    return config


def n_components(value: object) -> int | None:
    """Return ``output_dimension`` as an int of Python, or None."""
    return None if value is None else whole_number("output_dimension", value, least=1)


def yes_or_no(name: str, value: object) -> bool:
    """Return an argument that is True or False.

    Raises
    ------
    OptionError
        It is something else: "no" would count as True.
    """
    if value not in (True, False):
        raise OptionError(f"{name}={value!r} must be True or False.")
    return bool(value)


def load_model(path: str | os.PathLike[str]) -> TrainedModel:
    """Load a model that ``save(path)`` saved: of a decomposition, a denoiser, anomalies or phases; no code is run.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    ModelFileError
        The file is damaged, cut off, something else, or newer than this version reads.
    FileNotFoundError
        There is no such file.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
    >>> path = dec.model.save("steel", overwrite=True)
    >>> specml.load_model(path)
    <TrainedModel pca, K = 3, 256 channels, of 'Simulated Fe-Cr-Ni map'>
    """
    return TrainedModel.load(path)
