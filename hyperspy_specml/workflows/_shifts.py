"""Behind `specml.estimate_shift` and `specml.align`: signal in, native maps or an aligned signal out."""

from __future__ import annotations

import logging
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import ArrayShapeError, DataTypeError, OptionError
from hyperspy_specml.models import ShiftReport
from hyperspy_specml.prepare import ShiftModel, ShiftTask, check_enough, learn_shifts
from hyperspy_specml.results import ShiftResult
from hyperspy_specml.run import Clock, TrainConfig
from hyperspy_specml.signals import (
    Source,
    component_spectra,
    energy_axis,
    move_spectra,
    navigation_map,
    spectra_of,
    stamp,
)
from hyperspy_specml.statistics import NOISE_NAMES, USED, PoissonGaussianNoise, estimate_noise, summarise_map
from hyperspy_specml.streaming import patch_sums
from hyperspy_specml.workflows._call import Call, whole_number, yes_or_no

if TYPE_CHECKING:
    from hyperspy_specml.prepare import LearntShifts
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.run import Run
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

_logger = logging.getLogger(__name__)

_PER = ("pixel", "line")
_MOST_TEMPLATES = 4
# Share of the channels that spectra may be shifted by at most: as many are left out at each end.
_LARGEST = 0.4


def estimate_shift(
    s: BaseSignal,
    *,
    per: str = "pixel",
    n_templates: int | None = None,
    max_shift: float | None = None,
    noise: str = "auto",
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    random_state: int = 0,
    show_progressbar: bool | Progress | None = None,
    config: TrainConfig | None = None,
) -> ShiftResult:
    """Estimate by how much each spectrum is shifted along energy, with errors, from few counts upwards.

    A spectrum is taken as an unknown intensity times a template, or a mixture of few, moved by an unknown shift.
    Templates and the distribution of the shifts are learnt from all spectra together (expectation maximisation over a
    grid of shifts, under the likelihood of the noise); the shift of a spectrum is the mean of its posterior
    distribution. The map is read twice, in blocks.

    Parameters
    ----------
    s
        Spectra with a uniform energy axis; eager or lazy.
    per
        "pixel", or "line": one shift for each scan line (of the fastest axis), from the sum of its spectra.
    n_templates
        Number of templates, 1 to 4: kinds of spectra, of which every spectrum is a mixture. By default as many, up to
        three, as predict the other half of the spectra better.
    max_shift
        Largest shift, each way, in units of the energy axis: as much is left out of the comparison at both ends of
        the spectra. By default 5 % of the axis, more where shifts reach so far.
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian".
    navigation_mask, signal_mask
        Pixels and channels to leave out, True = masked.
    random_state
        Seed of the sample that templates of a large map are learnt from.
    show_progressbar
        True or False; by default HyperSpy's preference. Or a ``specml.Progress``.
    config
        ``specml.TrainConfig(memory_budget=...)``; nothing else of it has an effect.

    Returns
    -------
    ShiftResult
        ``shift`` and ``error``, maps ``(nx, ny |)`` in units of the energy axis; ``templates`` and ``report``. Shifts
        are 0 on average: nothing in the data tells where the true zero is.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError, DataTypeError, MaskError
        As in ``Signal1D.decomposition_ae``.
    OptionError
        An impossible number, an unknown name, or an energy axis that is not uniform.
    TooFewSpectraError
        Fewer than four usable spectra (two scan lines), or too few channels for such shifts.
    NegativeCountsError, NotCountsError
        noise="poisson" for values that are negative or not whole.
    Cancelled
        The `Progress` was cancelled.

    Notes
    -----
    Errors are those of the posterior distribution: they hold the noise and the spread of the shifts, and with one kind
    of spectra they cover. Where spectra are of several kinds, a chemical shift cannot be told from a drift; errors do
    not hold that.

    References
    ----------
    A. P. Dempster, N. M. Laird, D. B. Rubin, J. R. Stat. Soc. B 39 (1977) 1;
    B. J. Frey, N. Jojic, IEEE Trans. Pattern Anal. Mach. Intell. 25 (2003) 1.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_l_map((16, 16), n_channels=128, dose=100).signal
    >>> found = specml.estimate_shift(s, n_templates=1, show_progressbar=False)
    >>> found.shift
    <BaseSignal, title: Shift of Simulated Fe-L2,3 map, dimensions: (16, 16|)>
    """
    call = Call.on(s, "estimate_shift", locals())
    task = _task(call, per, n_templates, max_shift, noise)
    clock = Clock()
    with call.running(trained=False) as (run, stream):
        summary, model_noise = _look(call, stream, run, noise)
        clock.stop("preparation")
        rows, rows_noise = _rows(stream, summary, model_noise, per)
        learnt = learn_shifts(rows, summary.channels, rows_noise, task, run)
        clock.stop("learning")
        found = learnt.model.estimate(rows) if per == "line" else _of_pixels(stream, learnt.model)
        clock.stop("estimation")
    shape = stream.navigation_shape
    table = np.repeat(found, shape[-1], axis=0) if per == "line" else found
    table = np.where((summary.pixel_state == USED)[:, None], table, np.nan).reshape(*shape, 2)
    return _wrap(call, table, learnt, _report(call, learnt, summary, model_noise, per, table, clock))


def _task(call: Call, per: str, n_templates: object, max_shift: object, noise: str) -> ShiftTask:
    """Check what is asked for."""
    axis, shape = energy_axis(call.signal), call.source.spectra.array.shape
    if not axis.is_uniform:
        raise OptionError(
            "estimate_shift() moves spectra by equal channels, but the energy axis is not uniform. Make it so first: "
            "s.interpolate_on_axis('uniform', -1)."
        )
    if per not in _PER:
        raise OptionError.unknown("per", per, _PER)
    if noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", noise, NOISE_NAMES)
    if per == "line" and len(shape) < 3:
        raise OptionError("estimate_shift(per='line') needs several scan lines, but the map is one: per='pixel'.")
    number = None if n_templates is None else whole_number("n_templates", n_templates, least=1)
    if number and number > _MOST_TEMPLATES:
        raise OptionError(f"n_templates={n_templates!r} must be 1 to {_MOST_TEMPLATES}.")
    if max_shift is None:
        return ShiftTask(None, number)
    most, width = int(_LARGEST * shape[-1]), abs(axis.scale)
    if not (isinstance(max_shift, Real) and 0 < float(max_shift) <= most * width):
        raise OptionError(
            f"max_shift={max_shift!r} must be a number above 0, up to {most * width:.4g} {axis.units}: as much is left "
            "out of the comparison at each end of the spectra."
        )
    return ShiftTask(max(2, round(float(max_shift) / width)), number)


def _look(call: Call, stream: SpectrumStream, run: Run, noise: str) -> tuple[MapSummary, NoiseModel]:
    """Return what the first pass finds, and the noise model."""
    navigation_mask, signal_mask = call.masks()
    summary = summarise_map(
        stream, navigation_mask=navigation_mask, signal_mask=signal_mask, seed=run.seed, products=False
    )
    check_enough(summary, 1, of="template", argument="n_templates")
    return summary, estimate_noise(summary.sample, noise=noise, minimum=summary.minimum).model


def _rows(stream: SpectrumStream, summary: MapSummary, noise: NoiseModel, per: str) -> tuple[np.ndarray, NoiseModel]:
    """Return the (n, E) spectra that templates are learnt from, and the noise model of one of them."""
    values, channels = summary.sample, summary.channels
    if per == "line":
        sides = (*[1] * (len(stream.navigation_shape) - 1), stream.navigation_shape[-1])
        sums, counts = patch_sums(stream, summary.pixel_state == USED, channels, sides=sides, label="Sum lines")
        values, n = sums.reshape(len(counts.reshape(-1)), -1), max(1.0, float(np.median(counts)))
        if isinstance(noise, PoissonGaussianNoise):
            noise = replace(noise, readout=noise.readout * np.sqrt(n), offset=noise.offset * n)
    rows = np.zeros((len(values), stream.n_channels), values.dtype)
    rows[:, channels] = values
    return rows, noise


def _of_pixels(stream: SpectrumStream, model: ShiftModel) -> np.ndarray:
    def block(rows: np.ndarray, _: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not finite are masked later
            return model.estimate(rows)

    return stream.map_rows(block, n_columns=2, label="Estimate shifts")


def _report(
    call: Call, learnt: LearntShifts, summary: MapSummary, noise: NoiseModel, per: str, table: np.ndarray, clock: Clock
) -> ShiftReport:
    axis, model = energy_axis(call.signal), learnt.model
    width = abs(float(axis.scale))
    gain, error = learnt.gain or (None, None)
    return ShiftReport(
        per=per,
        n_templates=model.mixing.shape[1],
        template_gain=gain,
        template_error=error,
        units=call.axis["units"] or "",
        step=float(model.shifts[1] - model.shifts[0]) * width,
        largest=float(model.shifts[-1]) * width,
        spread=model.typical[1] * width,
        typical_error=float(np.nanmedian(table[..., 1])) * width,
        at_end=learnt.at_end,
        smoothing=learnt.smoothing,
        noise_model=noise.to_dict(),
        used=summary.counts(),
        random_state=call.seed,
        seconds=clock.seconds,
    )


def _wrap(call: Call, table: np.ndarray, learnt: LearntShifts, report: ShiftReport) -> ShiftResult:
    """Return native maps in units of the energy axis."""
    template, title = call.source.template, call.source.title
    table = table * np.array([energy_axis(template).scale, abs(energy_axis(template).scale)])
    shift, error = (
        navigation_map(template, np.ascontiguousarray(table[..., k]), title=f"{name} of {title}")
        for k, name in enumerate(("Shift", "Error of the shift"))
    )
    spectra = component_spectra(template, learnt.spectra(), title=f"Templates of {title}")
    for signal in (shift, error, spectra):
        stamp(signal, report.to_dict())
    for text in report.words():
        _logger.warning("estimate_shift(): %s", text)
    return ShiftResult(shift, error, spectra, report)


def align(
    s: BaseSignal, shift: ShiftResult | BaseSignal, *, subchannel: bool = False, crop: bool = False
) -> BaseSignal:
    """Move each spectrum back by its shift: by whole channels, so that counts stay counts and their noise what it is.

    Parameters
    ----------
    s
        The signal; it is not changed.
    shift
        What `estimate_shift` found, or a map of shifts in units of the energy axis: how much too high each spectrum
        lies. Spectra whose shift is NaN stay where they are.
    subchannel
        Interpolate between channels, along cubic splines. For data that are not counts: it correlates the noise of
        neighbouring channels and changes its variance.
    crop
        Keep only the channels that were recorded for every spectrum. Otherwise the energy axis stays, and channels that
        nothing was recorded for are 0 in whole numbers, NaN in others.

    Returns
    -------
    BaseSignal
        The aligned signal: class, dtype, axes and metadata of `s`, lazy if `s` is. The log says how many channels
        fell out of the ends.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError, DataTypeError
        `s` is no map of spectra; ``subchannel=True`` for whole numbers.
    ArrayShapeError
        The map of shifts has another shape than the scan.
    OptionError
        The energy axis is not uniform, a shift is larger than the axis, or an argument is neither True nor False.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_l_map((16, 16), n_channels=128, dose=100).signal
    >>> found = specml.estimate_shift(s, n_templates=1, show_progressbar=False)
    >>> specml.align(s, found)
    <EELSSpectrum, title: Simulated Fe-L2,3 map aligned, dimensions: (16, 16|128)>
    """
    source, axis = Source.of(s, spectra_of(s, method="align")), energy_axis(s)
    subchannel, crop = yes_or_no("subchannel", subchannel), yes_or_no("crop", crop)
    array = source.spectra.array
    if not axis.is_uniform:
        raise OptionError(
            "align() moves spectra by equal channels, but the energy axis is not uniform. Make it so first: "
            "s.interpolate_on_axis('uniform', -1)."
        )
    if subchannel and array.dtype.kind != "f":
        raise DataTypeError(
            f"align(subchannel=True) interpolates, but the data are {array.dtype}: counts would be none any more. "
            "Leave subchannel out; or convert first, s.change_dtype('float32')."
        )
    by = -np.nan_to_num(_shifts_of(shift, array.shape[:-1])) / axis.scale
    by = by if subchannel else np.rint(by).astype(np.int64)
    low, high = (int(np.ceil(max(0, float(end)))) for end in (-by.min(), by.max()))  # lost at either end
    if low + high >= array.shape[-1]:
        raise OptionError(
            f"align(): the shifts reach from {-high * axis.scale:.4g} to {low * axis.scale:.4g} {axis.units}, and no "
            "channel is left that all spectra have. Are they in units of the energy axis?"
        )
    moved = move_spectra(source, by, title=f"{source.title} aligned")
    stamp(moved, {"method": "align", "subchannel": subchannel, "channels_lost": [low, high]})
    _say_lost(array, moved.data, low, high)
    return moved.isig[high : array.shape[-1] - low] if crop else moved


def _say_lost(before: Any, after: Any, low: int, high: int) -> None:
    """Say in the log what falls out of the ends: channels, and of arrays in memory the share of the whole too."""
    if not low + high:
        return
    total = float(before.sum(dtype=np.float64)) if isinstance(before, np.ndarray) else 0.0
    share = f", {1 - float(np.nansum(after, dtype=np.float64)) / total:.2%} of the sum of the map" if total else ""
    text = (
        "align(): up to %d channels at the low end and %d at the high end of the spectra fall out%s. Channels that "
        "were recorded for all spectra: crop=True."
    )
    _logger.warning(text, low, high, share)


def _shifts_of(shift: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return a map of shifts in array order."""
    signal = shift.shift if isinstance(shift, ShiftResult) else shift
    if not isinstance(signal, BaseSignal):
        raise ArrayShapeError(
            f"align(shift=...) needs what estimate_shift() returned, or a map of shifts as a signal, not "
            f"{type(shift).__name__}: specml.align(s, specml.estimate_shift(s))."
        )
    manager = signal.axes_manager
    axes = manager.navigation_axes[::-1] + manager.signal_axes[::-1]
    found = np.asarray(signal.data).transpose([axis.index_in_array for axis in axes]) if axes else np.asarray(0)
    if found.shape != shape:
        raise ArrayShapeError(
            f"align(shift=...): the map of shifts has shape {found.shape}, but the scan has {shape} (array order). "
            "Estimate it on this signal: specml.estimate_shift(s)."
        )
    return found.astype(np.float64)
