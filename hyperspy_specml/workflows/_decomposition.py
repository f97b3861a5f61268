"""Behind `methods.decomposition_ae`: spectra in, native result out."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperspy_specml.decompose import choose_architecture, decompose
from hyperspy_specml.exceptions import BaselineBetterWarning, OptionError
from hyperspy_specml.models import DecompositionReport, encode_new_map
from hyperspy_specml.results import DecompositionResult
from hyperspy_specml.signals import energy_axis
from hyperspy_specml.statistics import EMPTY, SATURATED, count_states
from hyperspy_specml.workflows._call import Call, n_components, yes_or_no
from hyperspy_specml.workflows._travel import in_place, refuse_align, travelled

if TYPE_CHECKING:
    import numpy as np

    from hyperspy_specml.models import TrainedModel

_logger = logging.getLogger(__name__)

_MANY_SATURATED = 0.1  # share of the spectra from which a map is scored by values that were not measured


def decomposition_ae(
    call: Call, output_dimension: Any, architecture: str, options: Any, noise: str, energy_shift: bool, model: Any,
    align: bool,
) -> DecompositionResult:  # fmt: skip
    """Fit a decomposition, or apply a model, and wrap the answer."""
    k, align = n_components(output_dimension), yes_or_no("align", align)
    if model is not None:
        needed = "a trained model, result.model or the path of its file"
        trained = call.trained_model(model, needed, DecompositionReport)
        own = trained.model
        given = {"output_dimension": k not in (None, own.n_components), "options": options is not None}
        given["architecture"] = architecture not in ("dense", own.architecture)  # "dense" is what nobody said
        given |= {"noise": noise != "auto", "energy_shift": energy_shift and not own.settings().get("shifts")}
        call.refuse_beside_model(trained, "fit anew", **given)
        return _apply(call, in_place(call, trained, align), align=align)
    refuse_align(call, align)
    if energy_shift and not energy_axis(call.signal).is_uniform:
        raise OptionError(
            "decomposition_ae(energy_shift=True) moves spectra by equal channels, but the energy axis is not "
            "uniform. Make it so first: s.interpolate_on_axis('uniform', -1)."
        )
    chosen = choose_architecture(architecture, options, also={"energy_shift": True} if energy_shift else {})
    with call.running(trained=chosen.trained) as (run, stream):
        found = decompose(stream, run, architecture=chosen, n_components=k, noise=noise, masks=call.masks())
    report, summary = found.report, found.prepared.summary
    _logger.info("decomposition_ae(architecture=%r): %s", architecture, report.verdict())
    if report.baseline_is_better():
        warnings.warn(report.verdict(), BaselineBetterWarning, stacklevel=4)  # the user's line
    moments, state = summary.moments, summary.channel_state
    baseline = call.fitted(found.baseline, state, moments.n, moments.sums, report.of_baseline())
    trained = replace(baseline, model=found.model, report=report, baseline=baseline)
    return _wrap(call, trained, [found.scores, found.baseline_scores], summary.pixel_state)


def _apply(call: Call, trained: TrainedModel, *, align: bool) -> DecompositionResult:
    """Apply a trained model to another map: one pass, nothing fitted; one more to align the model."""
    start = time.perf_counter()
    with call.running(trained=False) as (run, stream):
        trained = travelled(call, trained, stream, run) if align else trained
        models = [one.model for one in (trained, trained.baseline) if one]
        scores, state = encode_new_map(stream, models, trained.channels, call.navigation_mask, method=call.method)
    n_saturated, dtype = int((state == SATURATED).sum()), call.source.spectra.array.dtype
    if n_saturated > _MANY_SATURATED * len(state):
        text = (
            "decomposition_ae(model=...): %d spectra hold the largest value of %s in channels that the model uses; "
            "their scores may be wrong. Fitted anew, saturated channels are left out."
        )
        _logger.warning(text, n_saturated, dtype)
    used, seconds = {"pixels": count_states(state)}, {"projection": time.perf_counter() - start}

    def here(one: TrainedModel) -> TrainedModel:
        baseline = one.baseline and here(one.baseline)
        return replace(one, report=one.report.applied(used, seconds, one.title), baseline=baseline)

    return _wrap(call, here(trained), scores, state)


def _wrap(call: Call, trained: TrainedModel, scores: list[np.ndarray], state: np.ndarray) -> DecompositionResult:
    """Make the result from the scores of the model, then those of its baseline, and the state of all spectra."""
    baseline = _wrap(call, trained.baseline, scores[1:], state) if trained.baseline else None
    return DecompositionResult.of(call.source, trained, scores[0], baseline, state == EMPTY)
