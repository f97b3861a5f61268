"""Behind `methods.denoise_dae`: spectra in, denoised signal out; denoisers trained on simulated spectra."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.denoise import Asked, DenoiseOptions, LibraryOptions, apply_denoiser, denoise, fit_library
from hyperspy_specml.exceptions import NegativeCountsError, OptionError, PairsError, RemovedSignalWarning
from hyperspy_specml.models import Candidate, DenoiseReport, FittedDenoiser, RemovedFeature, in_words, same_channels
from hyperspy_specml.signals import Decoder, axis_spec, energy_axis, line_width, mark_empty, spectra_of
from hyperspy_specml.statistics import EMPTY, USED, PoissonNoise, count_states, noise_from_dict, paired
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.workflows._call import Call, yes_or_no
from hyperspy_specml.workflows._travel import in_place, refuse_align, travelled

if TYPE_CHECKING:
    import dask.array as da

    from hyperspy_specml.denoise import Denoised, LibraryFit, RemovedRegion
    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.run import TrainConfig

_logger = logging.getLogger(__name__)

_DENOISER = (
    "a trained denoiser: specml.denoise_model(clean) of a denoised signal, specml.train_denoiser(library) or the "
    "path of its file"
)


def denoise_dae(
    call: Call,
    *,
    context: str,
    corruption: str,
    noise: str,
    pairs: Any,
    protect: Any,
    options: Any,
    model: Any,
    align: Any,
) -> BaseSignal:
    """Fit a denoiser, or apply a model, and wrap the answer."""
    protect, align = yes_or_no("protect", protect), yes_or_no("align", align)
    if model is None:
        refuse_align(call, align)
        asked = Asked(context, corruption, noise, protect, DenoiseOptions() if options is None else options)
        return _fit(call, asked, _checked_pairs(call, pairs, corruption))
    trained = call.trained_model(model, _DENOISER, DenoiseReport)
    given = {"context": context != "auto", "corruption": corruption != "split", "noise": noise != "auto"}
    given |= {"pairs": pairs is not None, "options": options is not None}
    call.refuse_beside_model(trained, "fit anew", **given)
    return _apply(call, in_place(call, trained, align), protect, align=align)


def _fit(call: Call, asked: Asked, pairs: list[np.ndarray | da.Array]) -> BaseSignal:
    """Fit a denoiser, apply it and wrap the answer."""
    with call.running() as (run, stream):
        streams = [SpectrumStream(array, stream.memory_budget, run.progress) for array in pairs]
        both, detector = (streams[0], streams[1]) if streams else None, line_width(call.signal)
        found = denoise(stream, run, asked, masks=call.masks(), pairs=both, detector=detector)
    moments, state = found.prepared.summary.moments, found.prepared.summary.channel_state
    trained = call.fitted(found.denoiser, state, moments.n, moments.sums, found.report)
    return _wrap(call, trained, found.report, found.denoised, protect=asked.protect)


def _checked_pairs(call: Call, pairs: Any, corruption: str) -> list[np.ndarray | da.Array]:
    """Check two signals of the same area and return their spectra; none where there are none."""
    if pairs is None:
        return []
    if corruption != "split":
        raise OptionError(
            f"denoise_dae(corruption={corruption!r}, pairs=...): one signal is input, the other the target, "
            "and nothing is corrupted. Leave one of the two out."
        )
    if not (isinstance(pairs, tuple | list) and len(pairs) == 2):
        raise PairsError(
            "denoise_dae(pairs=...) needs two signals of the same area, recorded independently: "
            f"pairs=(odd, even), not {pairs!r:.80}."
        )
    here, arrays = call.source.spectra.array.shape, []
    for signal in pairs:
        if not isinstance(signal, BaseSignal):
            raise PairsError(f"denoise_dae(pairs=...) needs signals, not {type(signal).__name__}.")
        own = axis_spec(energy_axis(signal))
        spectra = spectra_of(signal, method="denoise_dae(pairs=...): denoise_dae")
        if spectra.array.shape != here or not same_channels(own, call.axis):
            raise PairsError(
                f"denoise_dae(pairs=...): {signal!r} has array shape {spectra.array.shape} and "
                f"{in_words(own)}, but the signal has {here} and {in_words(call.axis)}. "
                "Crop all three alike first, s.inav[...], s.isig[...]."
            )
        arrays.append(spectra.array)
    return arrays


def _apply(call: Call, trained: TrainedModel, protect: bool, *, align: bool) -> BaseSignal:
    """Apply a trained denoiser to another map: nothing is fitted; one more pass to align the model."""
    start = time.perf_counter()
    with call.running(trained=False) as (run, stream):
        trained = travelled(call, trained, stream, run) if align else trained
        report, denoiser = trained.report, trained.model
        assert isinstance(report, DenoiseReport)
        assert isinstance(denoiser, FittedDenoiser)
        noise, mean = noise_from_dict(report.noise_model), trained.fingerprint.mean
        known: Any = {"channels": trained.channels, "noise": noise, "mean": mean, "masked": call.navigation_mask}
        known |= {"detector": line_width(call.signal), "averaged": report.averaged}
        found = apply_denoiser(stream, denoiser, protect=protect, **known)
    pixels, seconds = count_states(found.pixel_state), {"application": time.perf_counter() - start}
    here = {name: getattr(found, name) for name in ("relative_intensity", "line_width")}
    report = report.applied({"pixels": pixels}, seconds, trained.title, shape=stream.navigation_shape, **here)
    return _wrap(call, trained, report, found, protect=protect)


def _wrap(call: Call, trained: TrainedModel, report: DenoiseReport, found: Denoised, *, protect: bool) -> BaseSignal:
    """Say what was removed, and make the signal, which keeps report and model in its metadata."""
    positions = np.flatnonzero(trained.channels)
    removed = tuple(_feature(call, region, positions) for region in found.removed)
    report = replace(report, removed=removed, restored=protect and bool(removed))
    _logger.info("denoise_dae(): %s", report.verdict())
    if removed and not protect:
        most, places = removed[0], "one place" if len(removed) == 1 else f"{len(removed)} places"
        warnings.warn(
            "Leave protect=False out to keep it: denoise_dae() removed signal that noise cannot explain in "
            f"{places}, the strongest at {most.energy}, {most.position} ({most.z:+.1f} standard deviations).",
            RemovedSignalWarning,
            stacklevel=6,  # the user's line
        )
    kept = report.to_dict() | {"model": trained.to_bytes()}
    decoder = Decoder(found.model, trained.channel_state)
    scores = mark_empty(found.scores, found.pixel_state == EMPTY)
    return call.source.full_size(decoder, scores, "denoised", kept)


def _feature(call: Call, region: RemovedRegion, channels: np.ndarray) -> RemovedFeature:
    """Describe removed signal in the units of the signal, its place by the middle on the scan axes."""
    energy = energy_axis(call.signal).axis[channels[(region.start + region.stop - 1) // 2]]
    axes = call.signal.axes_manager.navigation_axes[::-1]  # array order
    indices = np.unravel_index(region.pixels, call.source.spectra.array.shape[:-1])
    place = [
        f"{axis.name if isinstance(axis.name, str) else 'scan'} {axis.axis[round(float(index.mean()))]:.4g}"
        for axis, index in zip(axes, indices, strict=True)
    ]
    energy_text, pixels = f"{energy:.5g} {call.axis['units'] or ''}".strip(), tuple(map(int, region.pixels))
    return RemovedFeature(energy_text, ", ".join(place[::-1]), region.z, region.excess, pixels)


def train_denoiser(
    library: BaseSignal,
    *,
    doses: tuple[float, float] = (2.0, 500.0),
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | Progress | None = None,
    config: TrainConfig | None = None,
    options: LibraryOptions | None = None,
) -> TrainedModel:
    """Train a denoiser on simulated, noise-free spectra; ``s.denoise_dae(model=...)`` applies it to counts.

    Every batch draws new counts of library spectra, at random mean counts of the range, and has the
    noise-free spectra as targets. The network is given the noise of each spectrum. It sees one spectrum at a
    time.

    Parameters
    ----------
    library
        Noise-free spectra (n | E), e.g. ``specml.datasets.fe_l_library()``. The denoiser removes, as noise,
        what is unlike all of them; of a map, the report and a warning say what and where that was.
    doses
        Smallest and largest mean counts per channel of the maps to come.
    random_state
        Seed of weights, noise and batches.
    device
        "auto", "cpu", "cuda", "mps": where the network is trained.
    show_progressbar
        By default HyperSpy's preference; a ``hyperspy_specml.Progress`` follows and cancels the call.
    config
        Settings of training and computation: ``hyperspy_specml.TrainConfig``.
    options
        Of the network: ``hyperspy_specml.LibraryOptions``.

    Returns
    -------
    TrainedModel
        Its report scores the network on library spectra that it has not seen, at the middle of the
        range of counts, beside the best linear denoiser and PCA.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError, DataTypeError
        The library does not hold real spectra.
    NegativeCountsError
        It has negative or infinite values, or a spectrum without intensity.
    TooFewSpectraError
        It has fewer than 16 spectra.
    OptionError
        The doses are no range of positive numbers; an unknown device; an impossible number; options or
        settings of another class.
    TrainingDivergedError
        The loss diverged.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> library = specml.datasets.fe_l_library(200, n_channels=64)
    >>> quick = specml.TrainConfig(max_steps=50)
    >>> specml.train_denoiser(library, doses=(10, 100), config=quick, show_progressbar=False)
    <TrainedModel library, K = 12, 64 channels, of 'Library of Fe-L2,3 spectra'>
    """
    call = Call.on(library, "train_denoiser", locals())
    (low, high), options = _checked(doses), LibraryOptions.checked(options, call.method)
    shape = call.source.spectra.array.shape
    with call.running() as (run, _):
        spectra = np.asarray(call.source.spectra.array, np.float64).reshape(-1, shape[-1])
        if not (spectra >= 0).all() or not np.isfinite(spectra).all() or not spectra.any(axis=1).all():
            raise NegativeCountsError(
                f"train_denoiser({library!r}) draws counts with the spectra as means, but some values are "
                "negative or not finite, or a spectrum is 0 everywhere. Clip or leave out such spectra first."
            )
        state = np.where(spectra.any(axis=0), USED, EMPTY).astype(np.uint8)
        spectra, start = spectra[:, state == USED], time.perf_counter()
        n, n_channels = spectra.shape
        found = fit_library(spectra, (low * n_channels, high * n_channels), run, options)
    facts = {"random_state": call.seed, "shape": shape[:-1], "n_sampled": n}
    used, seconds = {"pixels": {"used": n}, "channels": count_states(state)}, {"training": time.perf_counter() - start}
    report = _library_report(found, (low, high), used=used, seconds=seconds, **facts)
    return call.fitted(found.denoiser, state, n, found.mean * n, report)


def _checked(doses: object) -> tuple[float, float]:
    try:
        low, high = (float(dose) for dose in doses)  # type: ignore[attr-defined]  # the TypeError is the answer
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low <= high < np.inf:
        raise OptionError(
            f"train_denoiser(doses={doses!r}) must be the smallest and the largest mean counts per channel, "
            "e.g. doses=(5, 300)."
        )
    return low, high


def _library_report(found: LibraryFit, doses: tuple[float, float], **facts: Any) -> DenoiseReport:
    """Return the report of a training, with further facts about the library."""
    plain, own, history = list(found.errors.values())[-1], found.errors["library network"], found.history
    pairs = {name: paired(errors, plain) for name, errors in found.errors.items()}
    n_channels, middle = len(found.mean), float(np.sqrt(doses[0] * doses[1]))
    return DenoiseReport(
        chosen="library network",
        candidates=tuple(Candidate(n, p.mean, p.difference, p.standard_error, p.mean) for n, p in pairs.items()),
        context="spectral",
        corruption=f"counts at {doses[0]:g} to {doses[1]:g} per channel",
        noise_reduction=float(np.sqrt(n_channels / own.mean())),
        error=float(own.mean()),
        error_standard_error=float(own.std() / np.sqrt(len(own))),
        error_variance=float(own.mean()),
        signal_variance=float(found.denoiser.variance.sum() * middle * n_channels),
        noise_model=PoissonNoise().to_dict() | {"fano": 1.0},
        hold_out="simulated",
        n_components=found.denoiser.n_components,
        n_steps=history.steps[-1],
        interrupted=history.interrupted,
        **history.curve(),
        **facts,
    )
