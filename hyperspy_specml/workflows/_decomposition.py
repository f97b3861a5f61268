"""Behind `methods.decomposition_ae`: spectra in, native result out."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose import choose_architecture, decompose
from hyperspy_specml.exceptions import BaselineBetterWarning, OptionError, TooFewSpectraError
from hyperspy_specml.models import DecompositionReport, Fingerprint, TrainedModel, encode_map
from hyperspy_specml.results import DecompositionResult
from hyperspy_specml.signals import energy_axis
from hyperspy_specml.statistics import MASKED, SATURATED, USED, count_states

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from hyperspy_specml.signals import Source
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)

_MANY_SATURATED = 0.1  # share of the spectra from which a map is scored by values that were not measured


@dataclass(frozen=True)
class AskedDecomposition:
    """Arguments of the method.

    Attributes
    ----------
    output_dimension, architecture, options, noise, energy_shift
        As the user gave them.
    """

    output_dimension: int | None
    architecture: str
    options: Any
    noise: str
    energy_shift: bool


def decomposition(
    call: Call, model: TrainedModel | str | os.PathLike[str] | None, asked: AskedDecomposition
) -> DecompositionResult:
    """Fit a decomposition, or apply a model, and wrap the answer."""
    return fit(call, asked) if model is None else apply(call, model, asked)


def fit(call: Call, asked: AskedDecomposition) -> DecompositionResult:
    """Fit a decomposition and wrap it."""
    if asked.energy_shift and not energy_axis(call.signal).is_uniform:
        raise OptionError(
            "decomposition_ae(energy_shift=True) moves spectra by equal channels, but the energy axis is not "
            "uniform. Make it so first: s.interpolate_on_axis('uniform', -1)."
        )
    also = {"energy_shift": True} if asked.energy_shift else {}
    architecture = choose_architecture(asked.architecture, asked.options, also=also)
    with call.running(trained=architecture.trained) as (run, stream):
        found = decompose(
            stream, run, architecture=architecture, n_components=asked.output_dimension, noise=asked.noise,
            masks=call.masks,
        )  # fmt: skip
    report, summary = found.report, found.prepared.summary
    _logger.info("decomposition_ae(architecture=%r): %s", asked.architecture, report.verdict())
    if report.baseline_is_better():
        warnings.warn(
            f"decomposition_ae(architecture={asked.architecture!r}): {report.verdict()}",
            BaselineBetterWarning,
            stacklevel=4,  # the user's line
        )
    fingerprint = Fingerprint(call.source.spectra.array.shape, summary.moments.n, summary.moments.sums)
    baseline = TrainedModel(
        found.baseline, summary.channel_state, call.axis, call.source.title, call.config, fingerprint,
        report.of_baseline(),
    )  # fmt: skip
    trained = replace(baseline, model=found.model, report=report, baseline=baseline)
    return _wrap(call.source, trained, iter((found.scores, found.baseline_scores)))


def apply(call: Call, model: TrainedModel | str | os.PathLike[str], asked: AskedDecomposition) -> DecompositionResult:
    """Apply a trained model, or that of a file, to another map: one pass, nothing fitted."""
    trained = call.trained_model(model, "a trained model, result.model or the path of its file")
    _check_model(call, trained, asked)
    trained = trained.on_axis(call.axis, method=call.method)
    start = time.perf_counter()
    models = [one.model for one in (trained, trained.baseline) if one]
    with call.running(trained=False) as (_, stream):
        scores, state = encode_map(stream, models, trained.channels)
    mask = call.masks[0]
    if mask is not None:
        state[mask.reshape(-1)] = MASKED
        for table in scores:
            table[state == MASKED] = np.nan
    _check_pixels(state, call)
    seconds = {"projection": time.perf_counter() - start}
    return _wrap(call.source, _applied(trained, count_states(state), seconds), iter(scores))


def _check_model(call: Call, trained: TrainedModel, asked: AskedDecomposition) -> None:
    """Refuse what is no decomposition, and arguments that would be ignored."""
    own = trained.model
    if not isinstance(trained.report, DecompositionReport):
        raise OptionError(
            f"decomposition_ae(model={trained}) needs the model of a decomposition, dec.model or the path of its "
            f"file; this one is of {trained.report.method}: s.{trained.report.method}(model=...)."
        )
    call.refuse_beside_model(
        trained,
        "fit anew",
        output_dimension=asked.output_dimension not in (None, own.n_components),
        architecture=asked.architecture not in ("dense", own.architecture),  # "dense" is what nobody said
        options=asked.options is not None,
        noise=asked.noise != "auto",
        energy_shift=asked.energy_shift and "shift" not in own.outputs,
    )


def _check_pixels(state: np.ndarray, call: Call) -> None:
    if not np.isin(state, (USED, SATURATED)).any():
        raise TooFewSpectraError(
            f"decomposition_ae(model=...): no spectrum of {call.signal!r} can be used ({count_states(state)}); a "
            "channel that is not finite is enough. Train without such channels, signal_mask=..., or mend them."
        )
    n_saturated = int((state == SATURATED).sum())
    if n_saturated > _MANY_SATURATED * len(state):
        _logger.warning(
            "decomposition_ae(model=...): %d spectra hold the largest value of %s in channels that the model "
            "uses; their scores may be wrong. Fitted anew, saturated channels are left out.",
            n_saturated, call.source.spectra.array.dtype,
        )  # fmt: skip


def _applied(trained: TrainedModel, pixels: dict[str, int], seconds: dict[str, float]) -> TrainedModel:
    """Return the model with a report that tells this map from the one it was trained on."""
    report = trained.report.applied({"pixels": pixels}, seconds, trained.title)
    baseline = trained.baseline and _applied(trained.baseline, pixels, seconds)
    return replace(trained, report=report, baseline=baseline)


def _wrap(source: Source, trained: TrainedModel, scores: Iterator[np.ndarray]) -> DecompositionResult:
    """Make the result from the scores of the model, then those of its baseline."""
    own = next(scores)
    baseline = _wrap(source, trained.baseline, scores) if trained.baseline else None
    return DecompositionResult.of(source, trained, own, baseline)
