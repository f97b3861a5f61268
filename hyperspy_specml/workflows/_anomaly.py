"""Behind `methods.anomaly_map`: spectra in, native maps and regions out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.anomaly import (
    STATISTICS,
    Anomalies,
    Normal,
    RegionSums,
    equivalent_z,
    find_anomalies,
    label_regions,
    significant,
    sum_regions,
)
from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.models import TrainedModel, in_words, load_model, on_axis, same_channels
from hyperspy_specml.results import AnomalyResult, Spike, make_regions
from hyperspy_specml.signals import (
    axis_spec,
    component_spectra,
    energy_axis,
    line_width,
    navigation_map,
    spectral_lines,
    stamp,
)
from hyperspy_specml.statistics import USED, noise_from_dict

if TYPE_CHECKING:
    from hyperspy.axes import BaseDataAxis
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.workflows._call import Call

_logger = logging.getLogger(__name__)

_MOST_REGIONS = 1000  # whose spectra are read


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes
    ----------
    statistic, fdr, threshold, drift, architecture
        Arguments of the method.
    """

    statistic: str
    fdr: float
    threshold: float | None
    drift: bool
    architecture: str


def find(
    call: Call, wanted: Wanted, *, output_dimension: int | None, noise: str, random_state: int,
    model: TrainedModel | str | os.PathLike[str] | None, known: BaseSignal | None,
) -> AnomalyResult:  # fmt: skip
    """Scan a map and wrap what was found."""
    _check_options(wanted)
    spectra = call.source.spectra
    phases = None if known is None else _known_spectra(call, known)
    masks, given = (spectra.navigation_mask, spectra.signal_mask), None
    if model is not None:
        _refuse("output_dimension", output_dimension, None)
        _refuse("noise", noise, "auto")
        _refuse("architecture", wanted.architecture, "pca")
        trained = _trained(call, model)
        if known is not None and trained.spectrum_model.architecture != "pca":
            raise OptionError(
                "anomaly_map(known=..., model=...): known spectra can be added to a linear model, not to a "
                "network. Train one with decomposition_ae(architecture='pca')."
            )
        n_spectra = int(trained.report.used["pixels"].get("used", 1))
        given = Normal(trained.spectrum_model, noise_from_dict(trained.report.noise_model), n_spectra)
        masks = masks[0], trained.channel_state != USED
    stream = call.stream()
    found = find_anomalies(
        stream, line_width(call.signal), normal=given, n_components=output_dimension, noise=noise,
        masks=masks, config=call.config, seed=random_state, statistic=wanted.statistic, known=phases,
        drift=wanted.drift, architecture=wanted.architecture,
    )  # fmt: skip
    shape = stream.navigation_shape
    threshold, words = _threshold(found, wanted, shape)
    strength = found.score.reshape(shape)
    labels, n = label_regions(strength, threshold, _reach(found))
    order = _by_strength(labels, strength, n)
    if n > _MOST_REGIONS:
        _logger.warning("anomaly_map(): %d regions; the %d strongest are listed", n, _MOST_REGIONS)
        order = order[:_MOST_REGIONS]
    sums = sum_regions(stream, found, labels, order)
    return _wrap(call, found, labels, sums, words)


def _check_options(wanted: Wanted) -> None:
    if wanted.statistic not in STATISTICS:
        raise OptionError.unknown("statistic", wanted.statistic, STATISTICS)
    if not (isinstance(wanted.fdr, Real) and 0 < wanted.fdr < 1):
        raise OptionError(f"anomaly_map(fdr={wanted.fdr!r}) must lie between 0 and 1, e.g. fdr=0.05.")
    if wanted.threshold is not None and not isinstance(wanted.threshold, Real):
        raise OptionError(f"anomaly_map(threshold={wanted.threshold!r}) must be a number, e.g. threshold=5.")
    if wanted.threshold is None and wanted.statistic != "scan":
        raise OptionError(
            f"anomaly_map(statistic={wanted.statistic!r}): only the scan has a known error rate. Say where "
            "regions begin with threshold=...; threshold=float('inf') gives the map alone."
        )


def _refuse(name: str, value: Any, default: Any) -> None:
    """Refuse an option that a model would have to ignore."""
    if value != default:
        raise OptionError(
            f"anomaly_map({name}={value!r}, model=...): the model has its own {name}, fixed when it was "
            f"trained. Leave {name} out, or leave model out to learn what is normal anew."
        )


def _trained(call: Call, model: TrainedModel | str | os.PathLike[str]) -> TrainedModel:
    """Return the model, or that of a file, for the channels of the signal."""
    trained = load_model(model) if isinstance(model, str | os.PathLike) else model
    if not isinstance(trained, TrainedModel):
        raise OptionError(
            "anomaly_map(model=...) needs a trained model, dec.model or the path of its file, not "
            f"{type(trained).__name__}."
        )
    if call.source.spectra.signal_mask is not None:
        raise OptionError(
            "anomaly_map(signal_mask=..., model=...): the model has its own signal mask, fixed when it was "
            "trained. Leave signal_mask out, or leave model out to learn what is normal anew."
        )
    return on_axis(trained, axis_spec(energy_axis(call.signal)), method="anomaly_map")


def _known_spectra(call: Call, known: BaseSignal) -> np.ndarray:
    """Return (N, E) spectra; channels that were not in use when they were made are NaN."""
    from hyperspy.signal import BaseSignal

    if not isinstance(known, BaseSignal) or known.axes_manager.signal_dimension != 1:
        given = repr(known) if isinstance(known, BaseSignal) else type(known).__name__
        raise OptionError(
            f"anomaly_map(known=...) needs spectra as one signal, not {given}. Pass known=found.spectra for "
            "all regions of a result, known=found.spectra.inav[0] for the first, or hs.stack([...]) of "
            "several signals."
        )
    own, theirs = axis_spec(energy_axis(call.signal)), axis_spec(energy_axis(known))
    if not same_channels(own, theirs):
        raise EnergyAxisMismatchError(
            f"anomaly_map(known=...): the spectra have {in_words(theirs)}, but the signal has "
            f"{in_words(own)}. Bring them to that axis, known.interpolate_on_axis(...); if only their "
            "calibration is missing, copy offset, scale and units."
        )
    if np.iscomplexobj(known.data):
        raise OptionError("anomaly_map(known=...): the spectra are complex. Pass known=known.real.")
    rows = np.asarray(known.data, np.float64).reshape(-1, known.data.shape[-1])
    if len(rows) > max(1, rows.shape[1] // 4):  # they describe whatever there is, and cost as many components
        raise OptionError(
            f"anomaly_map(known=...): with {len(rows)} known spectra of {rows.shape[1]} channels everything "
            "would be normal. One for each phase is enough: its mean, known.mean()."
        )
    nothing = ~np.nan_to_num(rows).any(axis=1)
    if nothing.any():
        raise OptionError(
            f"anomaly_map(known=...): spectrum {int(nothing.argmax())} of {len(rows)} is zero everywhere. "
            "Leave it out; known=None if there is no other."
        )
    return rows


def _threshold(found: Anomalies, wanted: Wanted, shape: tuple[int, ...]) -> tuple[float, str]:
    """Return the strength that makes a region, and how it came about."""
    if wanted.threshold is not None:
        return wanted.threshold, f"score of {wanted.threshold:g} or more"
    log_p = significant(found.log_p.reshape(shape), fdr=wanted.fdr, reach=_reach(found))
    return float(equivalent_z(np.array(log_p))), f"false discovery rate of regions {wanted.fdr:g}"


def _reach(found: Anomalies) -> int:
    """Return the pixels over which the largest square blurs what is found."""
    return 2 * int(found.half.max(initial=0)) + 1


def _by_strength(labels: np.ndarray, strength: np.ndarray, n: int) -> np.ndarray:
    import scipy.ndimage

    if not n:
        return np.zeros(0, int)
    top = scipy.ndimage.maximum(strength, labels, np.arange(1, n + 1))
    return np.argsort(-np.asarray(top), kind="stable") + 1


def _wrap(call: Call, found: Anomalies, labels: np.ndarray, sums: RegionSums, words: str) -> AnomalyResult:
    template, title = call.source.template, call.source.title
    shape = labels.shape
    axis = energy_axis(template)
    report = _report(found, words, axis)
    energy = np.where(np.isfinite(found.z), _at(axis, found.windows.centres[found.window]), np.nan)
    maps = {
        "Anomaly map": found.score, "p-values": np.exp(found.log_p),
        "Anomalous pixels": np.isin(labels, sums.labels), "Energy of the strongest anomaly": energy,
    }  # fmt: skip
    signals = []
    for name, values in maps.items():
        values = values.reshape(shape)
        values = values if values.dtype == bool else values.astype(np.float64)
        signals.append(navigation_map(template, values, title=f"{name} of {title}"))
        stamp(signals[-1], report)
    regions = make_regions(template, found, sums, spectral_lines(template))
    spikes = tuple(
        Spike(
            tuple(int(k) for k in np.unravel_index(int(pixel), shape)[::-1]),
            float(axis.axis[int(channel)]), float(value), float(expected),
        )
        for pixel, channel, value, expected in found.spikes
    )  # fmt: skip
    spectra = residuals = None
    if regions:
        n = sums.n_pixels[:, None]
        spectra, residuals = (
            component_spectra(
                template, _all_channels(values / n, found), title=f"{name} of the regions of {title}"
            )
            for name, values in (("Mean spectra", sums.spectra), ("Mean residuals", sums.residuals))
        )
        stamp(spectra, report)
        stamp(residuals, report)
    score, p_value, detections, energies = signals
    result = AnomalyResult(score, p_value, detections, energies, regions, spikes, spectra, residuals, report)
    _logger.info("anomaly_map(): %d regions, %d spikes (%s)", len(regions), len(spikes), words)
    return result


def _all_channels(values: np.ndarray, found: Anomalies) -> np.ndarray:
    out = np.full((len(values), len(found.channels)), np.nan)
    out[:, found.channels] = values
    return out


def _at(axis: BaseDataAxis, channels: np.ndarray) -> np.ndarray:
    """Return the axis values of fractional channels."""
    return np.interp(channels, np.arange(axis.size), axis.axis)


def _report(found: Anomalies, words: str, axis: BaseDataAxis) -> dict[str, Any]:
    normal, tried = found.normal, found.normal.tried
    drift = None
    if found.drift is not None:
        drift = (found.drift * float(np.gradient(axis.axis).mean())).tolist()
    return {
        "statistic": found.statistic,
        "threshold": words,
        "model": normal.model.architecture,
        "n_components": normal.model.n_components,
        "autoencoder": None
        if tried is None
        else {
            "score": tried.score.mean,
            "over_pca": tried.score.difference,
            "standard_error": tried.score.standard_error,
            "better": tried.better,
        },
        "noise_model": normal.noise.to_dict(),
        "patches": {"side": normal.side, "left_out": normal.trimmed},
        "drift": drift,
        "used": found.summary.counts(),
        "n_windows": len(found.windows),
        "smallest_p": 1 / max(1, found.null.n) if found.null else float("nan"),
        "seconds": found.seconds,
    }
