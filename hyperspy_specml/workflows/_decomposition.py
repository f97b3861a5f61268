"""Behind `methods.decomposition_ae`: spectra in, native result out."""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose import decompose
from hyperspy_specml.exceptions import BaselineBetterWarning, OptionError, TooFewSpectraError
from hyperspy_specml.models import Fingerprint, Report, TrainedModel, apply_models, load_model, on_axis
from hyperspy_specml.results import DecompositionResult
from hyperspy_specml.signals import axis_spec, energy_axis
from hyperspy_specml.statistics import MASKED, STATE_NAMES, USED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyperspy_specml.signals import Source
    from hyperspy_specml.statistics import Moments
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)

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
        channel_state=found.prepared.summary.channel_state,
        energy_axis=axis_spec(energy_axis(call.signal)),
        title=call.source.title,
        config=call.config,
        fingerprint=_fingerprint(call, found.prepared.summary.moments),
        report=report.of_baseline(),
        baseline=None,
    )
    trained = replace(baseline, spectrum_model=found.model, report=report, baseline=baseline)
    return _wrap(call.source, trained, iter((found.scores, found.baseline_scores)))


def _fingerprint(call: Call, moments: Moments) -> Fingerprint:
    return Fingerprint(call.source.spectra.array.shape, moments.n, moments.sums)


def apply(
    call: Call,
    model: TrainedModel | str | os.PathLike[str],
    *,
    output_dimension: int | None,
    architecture: str,
    noise: str,
    energy_shift: bool,
) -> DecompositionResult:
    """Apply a trained model, or that of a file, to another map: one pass, nothing fitted."""
    trained = load_model(model) if isinstance(model, str | os.PathLike) else model
    _check_model(
        call, trained, output_dimension=output_dimension, architecture=architecture, noise=noise,
        energy_shift=energy_shift,
    )  # fmt: skip
    assert isinstance(trained, TrainedModel)
    trained = on_axis(trained, axis_spec(energy_axis(call.signal)), method="decomposition_ae")
    start = time.perf_counter()
    models = [m.spectrum_model for m in (trained, trained.baseline) if m]
    scores, state = apply_models(call.stream(), tuple(models), trained.channel_state == USED)
    mask = call.source.spectra.navigation_mask
    if mask is not None:
        state[mask.reshape(-1)] = MASKED
        for table in scores:
            table[state == MASKED] = np.nan
    pixels = {STATE_NAMES[code]: int(n) for code, n in enumerate(np.bincount(state)) if n}
    _check_pixels(pixels, call)
    trained = _applied(trained, pixels, {"projection": time.perf_counter() - start})
    return _wrap(call.source, trained, iter(scores))


def _check_model(
    call: Call, trained: object, *, output_dimension: int | None, architecture: str, noise: str,
    energy_shift: bool,
) -> None:  # fmt: skip
    """Refuse what is no model for this map, and arguments that would be ignored."""
    if not isinstance(trained, TrainedModel):
        raise OptionError(
            f"decomposition_ae(model=...) needs a trained model, result.model or the path of its file, not "
            f"{type(trained).__name__}."
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
