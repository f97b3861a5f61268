"""Behind `methods.decomposition_ae`: spectra in, native result out."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.estimators import EncodeRows, decompose, n_columns
from hyperspy_specml.exceptions import (
    BaselineBetterWarning,
    EnergyAxisMismatchError,
    OptionError,
    TooFewSpectraError,
)
from hyperspy_specml.results import DecompositionResult, Report, TrainedModel
from hyperspy_specml.signals import axis_spec, energy_axis, in_words, same_channels
from hyperspy_specml.statistics import EMPTY, MASKED, NOT_FINITE, SATURATED, USED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyperspy_specml._call import Call
    from hyperspy_specml.results._source import Source

_logger = logging.getLogger(__name__)

_STATES = {USED: "used", MASKED: "masked", NOT_FINITE: "not finite", EMPTY: "empty", SATURATED: "saturated"}
_MANY_SATURATED = 0.1  # of the spectra: then a map is scored by values that were not measured


def fit(
    call: Call,
    *,
    output_dimension: int | None,
    architecture: str,
    noise: str,
    random_state: int,
    device: str,
    energy_shift: bool,
) -> DecompositionResult:
    """Fit a decomposition and wrap it."""
    spectra = call.source.spectra
    if energy_shift and not energy_axis(call.signal).is_uniform:
        raise OptionError(
            "decomposition_ae(energy_shift=True) moves spectra by equal channels, but the energy axis is not "
            "uniform. Make it so first: s.interpolate_on_axis('uniform', -1)."
        )
    found = decompose(
        call.stream(), architecture=architecture, n_components=output_dimension, noise=noise,
        masks=(spectra.navigation_mask, spectra.signal_mask), config=call.config, seed=random_state,
        device=device, energy_shift=energy_shift, track=call.track,
    )  # fmt: skip
    report = Report.of(found)
    _logger.info("decomposition_ae(architecture=%r): %s", architecture, report.verdict())
    if report.baseline_is_better():
        warnings.warn(
            f"decomposition_ae(architecture={architecture!r}): {report.verdict()}",
            BaselineBetterWarning,
            stacklevel=3,  # the user's line
        )
    baseline = TrainedModel(
        found.baseline,
        channel_state=found.study.survey.channel_state,
        energy_axis=axis_spec(energy_axis(call.signal)),
        title=call.source.title,
        report=report.of_baseline(),
        baseline=None,
    )
    trained = replace(baseline, spectrum_model=found.model, report=report, baseline=baseline)
    return _wrap(call.source, trained, iter((found.scores, found.baseline_scores)))


def apply(
    call: Call, trained: TrainedModel, *, output_dimension: int | None, architecture: str, noise: str,
    energy_shift: bool,
) -> DecompositionResult:  # fmt: skip
    """Apply a trained model to another map: one pass, nothing fitted."""
    _check_model(
        call, trained, output_dimension=output_dimension, architecture=architecture, noise=noise,
        energy_shift=energy_shift,
    )  # fmt: skip
    start = time.perf_counter()
    models = [m.spectrum_model for m in (trained, trained.baseline) if m]
    ends = np.cumsum([n_columns(m) for m in models])
    block = _LookAndEncode(EncodeRows(tuple(models), trained.channel_state == USED))
    table = call.stream().map_rows(block, n_columns=ends[-1] + 1, label="Project")
    scores, state = table[:, :-1], table[:, -1].astype(np.uint8)
    mask = call.source.spectra.navigation_mask
    if mask is not None:
        state[mask.reshape(-1)] = MASKED
        scores[state == MASKED] = np.nan
    pixels = {name: int((state == code).sum()) for code, name in _STATES.items() if (state == code).any()}
    _check_pixels(pixels, call)
    trained = _applied(trained, pixels, {"projection": time.perf_counter() - start})
    return _wrap(call.source, trained, iter(np.split(scores, ends[:-1], axis=1)))


@dataclass(frozen=True)
class _LookAndEncode:
    """The block function of a pass over an unknown map: scores, and in the last column the state."""

    encode: EncodeRows

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        values = rows[:, self.encode.channels]
        state = np.full(len(values), USED)
        if values.dtype.kind == "f":
            state[~np.isfinite(values).all(axis=1)] = NOT_FINITE
        else:
            state[(values == np.iinfo(values.dtype).max).any(axis=1)] = SATURATED
        state[~values.any(axis=1)] = EMPTY
        with np.errstate(invalid="ignore", over="ignore"):  # NaN is the right score of such a spectrum
            scores = self.encode(rows, pixels)
        scores[state == NOT_FINITE] = np.nan
        scores[state == EMPTY] = 0
        return np.column_stack([scores, state])


def _check_model(
    call: Call, trained: TrainedModel, *, output_dimension: int | None, architecture: str, noise: str,
    energy_shift: bool,
) -> None:  # fmt: skip
    """Refuse what is no model for this map, and arguments that would be ignored."""
    if not isinstance(trained, TrainedModel):
        raise OptionError(
            f"decomposition_ae(model=...) needs a trained model, result.model, not {type(trained).__name__}."
        )
    own = trained.spectrum_model
    refused = {
        "output_dimension": output_dimension not in (None, own.n_components),
        "architecture": architecture not in ("dense", own.architecture),  # "dense" is what nobody said
        "noise": noise != "auto",
        "energy_shift": energy_shift and "shift" not in own.extras,
        "signal_mask": call.source.spectra.signal_mask is not None,
    }
    for name in (name for name, given in refused.items() if given):
        raise OptionError(
            f"decomposition_ae({name}=..., model={trained}): the model has its own, fixed when it was "
            f"trained. Leave {name} out, or leave model out to fit anew."
        )
    here = axis_spec(energy_axis(call.signal))
    if not same_channels(here, trained.energy_axis):
        raise EnergyAxisMismatchError(
            f"decomposition_ae(model=...): trained on {in_words(trained.energy_axis)}, but the signal has "
            f"{in_words(here)}. Bring it to that axis, s.isig[...] or s.interpolate_on_axis(...), or leave "
            "model out to fit anew."
        )


def _check_pixels(pixels: dict[str, int], call: Call) -> None:
    if not pixels.keys() & {"used", "saturated"}:
        raise TooFewSpectraError(
            f"decomposition_ae(model=...): no spectrum of {call.signal!r} can be used ({pixels}); a channel "
            "that is not finite is enough. Train without such channels, signal_mask=..., or mend them."
        )
    if pixels.get("saturated", 0) > _MANY_SATURATED * sum(pixels.values()):
        _logger.warning(
            "decomposition_ae(model=...): %d spectra hold the largest value of %s in channels that the model "
            "uses; their scores may be wrong. Fitted anew, saturated channels are left out.",
            pixels["saturated"], call.source.spectra.array.dtype,
        )  # fmt: skip


def _applied(trained: TrainedModel, pixels: dict[str, int], seconds: dict[str, float]) -> TrainedModel:
    """Return the model with a report that tells this map from the one it was trained on."""
    report = trained.report
    report = replace(
        report, used=report.used | {"pixels": pixels}, seconds=seconds,
        trained_on=report.trained_on or trained.title,
    )  # fmt: skip
    baseline = trained.baseline and _applied(trained.baseline, pixels, seconds)
    return replace(trained, report=report, baseline=baseline)


def _wrap(source: Source, trained: TrainedModel, scores: Iterator[np.ndarray]) -> DecompositionResult:
    """Make the result from the scores of the model, then those of its baseline."""
    own = next(scores)
    baseline = _wrap(source, trained.baseline, scores) if trained.baseline else None
    return DecompositionResult.of(source, trained, own, baseline)
