"""A trained model on a map whose energy axis is calibrated otherwise: ``model=..., align=True``."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.models import CLEAR
from hyperspy_specml.prepare import MOST_SHIFTED, MOST_STRETCHED, Alignment, described, deviances_under, find_alignment
from hyperspy_specml.statistics import EMPTY, USED, noise_from_dict, summarise_map

if TYPE_CHECKING:
    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.run import Run
    from hyperspy_specml.streaming import SpectrumStream
    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)

# Spectra that shift and dispersion are found from, and that the model is compared with PCA on.
_N_ALIGNED, _N_DESCRIBED = 384, 2048


def travelled(
    call: Call, trained: TrainedModel, stream: SpectrumStream, run: Run, *, beside_pca: bool = True
) -> TrainedModel:
    """Return the model where the spectra of this map are, with what was found in its report.

    Parameters
    ----------
    call, trained, stream, run
        The model, and where it is needed.
    beside_pca
        Whether it is scored beside a PCA that is fitted on this map.

    Raises
    ------
    EnergyAxisMismatchError
        The model cannot be resampled soundly, or the best dispersion lies beyond the range.
    """
    rows, pixels, usable = _sample(call, stream, run)
    noise = noise_from_dict(trained.report.noise_model)
    here = trained.positions_of(call.axis)
    if np.isnan(here).any():
        return trained.on_axis(call.axis, method=call.method)  # whose message says why not
    centre, span = here.mean(), np.ptp(here)
    width, margin = span / (len(here) - 1), span * (MOST_SHIFTED + MOST_STRETCHED / 2)
    compared = (np.abs(here - centre) <= span / 2 - margin) & usable
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), _N_ALIGNED)).astype(int)]

    def at(shift: float, stretch: float) -> TrainedModel:
        return trained.on_places(call.axis, centre + (here - centre) * (1 + stretch) - shift, method=call.method)

    def deviances(shift: float, stretch: float) -> np.ndarray:
        there = at(shift, stretch)
        return deviances_under(there.model, few[:, there.channels], noise, compared[there.channels])

    with run.progress.enter("Align the model", 0.5):
        found = find_alignment(deviances, MOST_SHIFTED * span, width)
    _check(call, found, MOST_SHIFTED * span)
    moved = at(found.shift, found.stretch) if found.applied else at(0.0, 0.0)
    report = replace(moved.report, alignment=_in_words(found, call.axis["units"] or ""))
    _logger.info("%s(model=..., align=True): the model is %s", call.method, report.alignment)
    moved = replace(moved, report=report)
    if not beside_pca:
        return moved
    some = slice(0, _N_DESCRIBED)
    return _told(call, moved, described(moved.model, rows[some][:, moved.channels], pixels[some], noise, run.seed))


def in_place(call: Call, trained: TrainedModel, align: bool) -> TrainedModel:
    """Return the model for the channels of the signal, or, if it is to be aligned once the map is read, as it is.

    Raises
    ------
    EnergyAxisMismatchError
        It cannot be resampled soundly.
    """
    return trained if align else trained.on_axis(call.axis, method=call.method)


def refuse_align(call: Call, align: bool) -> None:
    """Refuse to align without a model.

    Raises
    ------
    OptionError
        That was asked for.
    """
    if align:
        raise OptionError(
            f"{call.method}(align=True) moves a trained model to where the spectra of another map are: pass one, "
            "model=... Spectra are aligned with each other by specml.align(s, specml.estimate_shift(s))."
        )


def _sample(call: Call, stream: SpectrumStream, run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n, E) spectra of the map, their flat indices, and which channels hold numbers."""
    masked = call.navigation_mask
    allowed = np.ones(stream.n_pixels, bool) if masked is None else ~masked.reshape(-1)
    chosen = np.zeros(stream.n_pixels, bool)
    inside, rng = np.flatnonzero(allowed), np.random.default_rng(run.seed)
    chosen[rng.choice(inside, min(len(inside), _N_DESCRIBED), replace=False)] = True
    summary = summarise_map(stream, navigation_mask=masked, seed=run.seed, sample=chosen, products=False)
    rows = np.zeros((len(summary.sample), stream.n_channels), summary.sample.dtype)
    rows[:, summary.channels] = summary.sample
    order = rng.permutation(len(rows))
    return rows[order], summary.sample_pixels[order], np.isin(summary.channel_state, (USED, EMPTY))


def _check(call: Call, found: Alignment, reach: float) -> None:
    if found.applied and (found.at_end or abs(found.shift) >= 0.98 * reach):
        best = f"{found.shift:.4g} {call.axis['units']}, and dispersion, {found.stretch:+.1%}"
        raise EnergyAxisMismatchError(
            f"{call.method}(model=..., align=True): the best shift, {best}, lie at the end of the range that a model "
            f"may be moved over, {reach:.4g} and {MOST_STRETCHED:.0%}. Calibrate the energy axis of the map first, "
            "or fit anew without model."
        )


def _told(call: Call, moved: TrainedModel, scores: tuple[float, float, float]) -> TrainedModel:
    """Return the model with its scores in the report; the log warns where it fits badly."""
    own, pca, error = scores
    if own - pca > CLEAR * error:
        text = (
            "%s(model=...): the model describes this map worse than a PCA of the same size fitted on it, by %.3g ± "
            "%.2g of deviance per spectrum. Fit anew without model, or look at the residual."
        )
        _logger.warning(text, call.method, own - pca, error)
    beside = f"{own - pca:+.3g} ± {error:.2g} beside a PCA of the same size fitted on it"
    return replace(
        moved, report=replace(moved.report, description=f"{own:.4g} on held-out counts of this map, {beside}")
    )


def _in_words(found: Alignment, units: str) -> str:
    done = "moved" if found.applied else "not moved: no clear gain from"
    return (
        f"{done} by {found.shift:+.3g} ± {found.shift_error:.2g} {units} and {found.stretch:+.2%} ± "
        f"{found.stretch_error:.2%} of dispersion (deviance of a spectrum {found.gain:+.3g} ± {found.gain_error:.2g})"
    )
