"""Behind `methods.decomposition_ae`: spectra in, native result out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.estimators import Decomposition, LinearModel, SpectrumModel, decompose, encode_all
from hyperspy_specml.exceptions import BaselineBetterWarning, EnergyAxisMismatchError, OptionError
from hyperspy_specml.report import Report, report_on
from hyperspy_specml.results import DecompositionResult, Source, expand_channels
from hyperspy_specml.signals import axis_spec, energy_axis
from hyperspy_specml.statistics import MASKED, NOT_FINITE, USED
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.trained import TrainedModel

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.signals import Spectra
    from hyperspy_specml.train.config import TrainConfig

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of the method: its signal, what was read of it, and how to run."""

    signal: BaseSignal
    spectra: Spectra
    config: TrainConfig
    show_progressbar: bool | None

    def stream(self) -> SpectrumStream:
        """Return the spectra as a stream."""
        return SpectrumStream(self.spectra.array, self.config.memory_budget, self.show())

    def show(self) -> bool:
        """Return whether progress is shown: what the user says, else HyperSpy's preference."""
        import hyperspy.api as hs

        return (
            hs.preferences.General.show_progressbar
            if self.show_progressbar is None
            else self.show_progressbar
        )

    def track(self, steps: range) -> Iterable[int]:
        """Show training steps in HyperSpy's progress bar."""
        from hyperspy.external.progressbar import progressbar

        return progressbar(steps, desc="Train", leave=False, disable=not self.show())


def fit(
    call: Call, *, architecture: str, n_components: int | None, noise: str, seed: int, device: str
) -> DecompositionResult:
    """Fit a decomposition and wrap it."""
    found = decompose(
        call.stream(), architecture=architecture, n_components=n_components, noise=noise,
        masks=(call.spectra.navigation_mask, call.spectra.signal_mask), config=call.config, seed=seed,
        device=device, track=call.track,
    )  # fmt: skip
    report = report_on(found)
    _logger.info("%s: %s", architecture, report.verdict())
    if report.baseline_is_better():
        warnings.warn(
            f"decomposition_ae(architecture={architecture!r}): {report.verdict()}",
            BaselineBetterWarning,
            stacklevel=3,
        )
    trained = TrainedModel(
        found.model,
        found.baseline,
        found.study.survey.channel_state,
        axis_spec(energy_axis(call.signal)),
        report,
    )
    return wrap(call, trained, found.scores, found.baseline_scores, report, _baseline_report(report, found))


def apply(call: Call, trained: TrainedModel, *, output_dimension: int | None) -> DecompositionResult:
    """Apply a trained model to another map: one pass, nothing fitted."""
    k = trained.spectrum_model.n_components
    if output_dimension not in (None, k):
        raise OptionError(
            f"decomposition_ae({output_dimension}, model=...): the model has {k} components. Leave output_dimension out."
        )
    _check_axis(call, trained)
    pixel_state = np.zeros(int(np.prod(call.spectra.array.shape[:-1])), np.uint8)
    if call.spectra.navigation_mask is not None:
        pixel_state[call.spectra.navigation_mask.reshape(-1)] = MASKED
    channels = trained.channel_state == USED
    models = (trained.spectrum_model, trained.baseline)
    scores, baseline_scores = encode_all(call.stream(), models, pixel_state, channels)
    pixel_state[~np.isfinite(scores).all(axis=1) & (pixel_state == USED)] = NOT_FINITE
    baseline = replace(trained.report, architecture="pca", candidates=trained.report.candidates[-1:])
    return wrap(call, trained, scores, baseline_scores, trained.report, baseline)


def wrap(
    call: Call, trained: TrainedModel, scores: np.ndarray, baseline_scores: np.ndarray, report: Report,
    baseline_report: Report,
) -> DecompositionResult:  # fmt: skip
    """Make the result and its baseline from arrays."""
    source = Source(call.signal, call.spectra)
    baseline = _result(source, trained, trained.baseline, baseline_scores, baseline_report, None)
    if trained.spectrum_model is trained.baseline:
        return replace(baseline, baseline=replace(baseline))
    return _result(source, trained, trained.spectrum_model, scores, report, baseline)


def _result(
    source: Source, trained: TrainedModel, model: SpectrumModel, scores: np.ndarray, report: Report,
    baseline: DecompositionResult | None,
) -> DecompositionResult:  # fmt: skip
    components = expand_channels(model.components(), trained.channel_state)
    return DecompositionResult(
        source.maps(scores, report), source.component_spectra(components, report), report,
        replace(trained, spectrum_model=model), baseline, source,
    )  # fmt: skip


def _baseline_report(report: Report, found: Decomposition) -> Report:
    """Return the report of the baseline alone."""
    if isinstance(found.model, LinearModel):
        return report
    return replace(
        report, architecture="pca", candidates=report.candidates[-1:], chosen=report.candidates[-1].name,
        rank=found.study.rank, steps=(), step_scores=(), best_step=0, interrupted=False,
    )  # fmt: skip


def _check_axis(call: Call, trained: TrainedModel) -> None:
    here, there = axis_spec(energy_axis(call.signal)), trained.energy_axis
    same = here.keys() == there.keys() and all(
        np.allclose(here[key], there[key], rtol=1e-5, atol=0) if key in ("scale", "offset", "size", "values")
        else key == "name" or here[key] == there[key] for key in here
    )  # fmt: skip
    if not same:
        raise EnergyAxisMismatchError(
            f"decomposition_ae(model=...) was trained on the axis {there}, but the signal has {here}. Bring the "
            "signal to the same axis: s.interpolate_on_axis(...) or s.isig[...], or fit it anew."
        )
