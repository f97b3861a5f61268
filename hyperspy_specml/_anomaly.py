"""Behind `methods.anomaly_map`: spectra in, native maps and regions out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.analysis import equivalent_z, label_regions, line_evidence, peak_channel, significant
from hyperspy_specml.estimators import Anomalies, Normal, RegionSums, find_anomalies, sum_regions
from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError
from hyperspy_specml.results import AnomalyResult, Candidate, Region, Spike, TrainedModel
from hyperspy_specml.signals import (
    axis_spec,
    component_spectra,
    energy_axis,
    in_words,
    line_width,
    navigation_map,
    same_channels,
    spectral_lines,
    stamp,
)
from hyperspy_specml.statistics import USED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy.axes import BaseDataAxis

    from hyperspy_specml._call import Call
    from hyperspy_specml.signals import Line

_logger = logging.getLogger(__name__)

_MOST_REGIONS = 1000  # whose spectra are read
_MOST_CANDIDATES = 8
_NEAR = 1.0  # line widths from the region's energy to a candidate
_EDGE_BEFORE = 8.0  # line widths: the strongest part of an edge lies beyond its onset
_WEAKEST = 0.1  # weight of a line that alone may be seen


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes
    ----------
    statistic, fdr, threshold
        Arguments of the method.
    """

    statistic: str
    fdr: float
    threshold: float | None


def find(
    call: Call, wanted: Wanted, *, output_dimension: int | None, noise: str, random_state: int,
    model: TrainedModel | None,
) -> AnomalyResult:  # fmt: skip
    """Scan a map and wrap what was found."""
    spectra = call.source.spectra
    given = None if model is None else _normal_of(call, model)
    masks = spectra.navigation_mask, spectra.signal_mask
    if model is not None:
        masks = masks[0], model.channel_state != USED
    stream = call.stream()
    found = find_anomalies(
        stream, line_width(call.signal), normal=given, n_components=output_dimension, noise=noise,
        masks=masks, config=call.config, seed=random_state, statistic=wanted.statistic,
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


def _normal_of(call: Call, model: TrainedModel) -> Normal:
    if not isinstance(model, TrainedModel):
        raise OptionError(
            f"anomaly_map(model=...) needs a trained model, dec.model, not {type(model).__name__}."
        )
    if call.source.spectra.signal_mask is not None:
        raise OptionError(
            "anomaly_map(signal_mask=..., model=...): the model has its own signal mask, fixed when it was "
            "trained. Leave signal_mask out, or leave model out to learn what is normal anew."
        )
    here = axis_spec(energy_axis(call.signal))
    if not same_channels(here, model.energy_axis):
        raise EnergyAxisMismatchError(
            f"anomaly_map(model=...): trained on {in_words(model.energy_axis)}, but the signal has "
            f"{in_words(here)}. Bring it to that axis, s.isig[...] or s.interpolate_on_axis(...), or leave "
            "model out to learn what is normal anew."
        )
    return Normal(model.spectrum_model, None, int(model.report.used["pixels"].get("used", 1)))


def _threshold(found: Anomalies, wanted: Wanted, shape: tuple[int, ...]) -> tuple[float, str]:
    """Return the strength that makes a region, and how it came about."""
    if wanted.threshold is not None:
        return wanted.threshold, f"score of {wanted.threshold:g} or more"
    log_p = significant(
        found.log_p.reshape(shape), fdr=wanted.fdr, per_pixel=found.peaks_per_pixel, reach=_reach(found)
    )
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
    report = _report(found, words)
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
    lines = spectral_lines(template)
    regions = tuple(_region(call, found, sums, i, lines) for i in range(len(sums.labels)))
    scan_axes = template.axes_manager.navigation_axes
    spikes = tuple(
        Spike(
            tuple(int(k) for k in np.unravel_index(int(pixel), shape)[::-1]),
            float(axis.axis[int(channel)]), float(value), float(expected),
        )
        for pixel, channel, value, expected in found.spikes
    )  # fmt: skip
    assert len(scan_axes) == len(shape)
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


def _region(call: Call, found: Anomalies, sums: RegionSums, i: int, lines: Sequence[Line]) -> Region:
    template = call.source.template
    axis, scan_axes = energy_axis(template), template.axes_manager.navigation_axes
    pixels = sums.pixels[i]
    peak = (
        pixels[int(np.argmin(found.log_p[pixels]))] if np.isfinite(found.log_p[pixels]).any() else pixels[0]
    )
    indices = np.stack(np.unravel_index(pixels, call.source.spectra.array.shape[:-1])[::-1], axis=1)
    at = np.stack(np.unravel_index([peak], call.source.spectra.array.shape[:-1])[::-1], axis=1)[0]
    window = found.window[peak]
    inside = slice(int(found.windows.starts[window]), int(found.windows.stops[window]))
    channel = peak_channel(
        sums.residuals[i], sums.variances[i], found.line_width[found.survey.channels], inside
    )
    energy = float(axis.axis[np.flatnonzero(found.survey.channels)[channel]])
    units = [str(a.units) if a.units else "" for a in scan_axes]
    power = {1: "", 2: "²", 3: "³"}.get(len(units), "")
    same = len(set(units)) == 1
    return Region(
        position=tuple(float(a.axis[k]) for a, k in zip(scan_axes, at, strict=True)),
        pixels=tuple(map(tuple, indices.tolist())),
        area=float(
            len(pixels) * np.prod([abs(np.gradient(a.axis).mean()) if a.size > 1 else 1.0 for a in scan_axes])
        ),
        area_units=(units[0] + power if same and units[0] else "·".join(u for u in units if u)),
        p=float(np.exp(np.nanmin(found.log_p[pixels])))
        if np.isfinite(found.log_p[pixels]).any()
        else float("nan"),
        energy=energy,
        energy_units=str(axis.units) if axis.units else "",
        direction="deficit" if found.z[peak] < 0 else "excess",
        excess=float(sums.residuals[i, inside].sum()),
        candidates=_candidates(found, sums, i, axis, energy, lines),
    )


def _candidates(
    found: Anomalies, sums: RegionSums, i: int, axis: BaseDataAxis, energy: float, lines: Sequence[Line]
) -> tuple[Candidate, ...]:
    """Return the elements with a line near an energy: X-ray lines by evidence, edges by distance."""
    if not lines:
        return ()
    place = int(np.abs(axis.axis - energy).argmin())
    width = float(found.line_width[place] * abs(np.gradient(axis.axis)[place]))
    edges = lines[0].edge
    before = _EDGE_BEFORE if edges else _NEAR
    near: dict[str, Line] = {}
    for line in lines:
        if line.weight >= _WEAKEST and -_NEAR * width <= energy - line.energy <= before * width:
            best = near.get(line.element)
            if best is None or abs(line.energy - energy) < abs(best.energy - energy):
                near[line.element] = line
    if edges:
        order = sorted(near.values(), key=lambda line: (-line.weight, abs(line.energy - energy)))
        evidence = dict.fromkeys(near, float("nan"))
    else:
        evidence = _evidence(found, sums, i, axis, [line for line in lines if line.element in near])
        order = sorted(near.values(), key=lambda line: -evidence[line.element])
    return tuple(
        Candidate(line.element, line.name, line.energy, line.energy - energy, evidence[line.element])
        for line in order[:_MOST_CANDIDATES]
    )


def _evidence(
    found: Anomalies, sums: RegionSums, i: int, axis: BaseDataAxis, lines: Sequence[Line]
) -> dict[str, float]:
    used = np.flatnonzero(found.survey.channels)
    order = np.argsort(axis.axis)
    families: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in lines:
        channel = float(np.interp(line.energy, axis.axis[order], order))
        place = float(np.interp(channel, used, np.arange(len(used))))
        families.setdefault(line.element, {}).setdefault(line.family, []).append((place, line.weight))
    sign = -1.0 if found.z[sums.pixels[i]].sum() < 0 else 1.0
    return line_evidence(
        sign * sums.residuals[i], sums.variances[i], found.line_width[used],
        {element: list(groups.values()) for element, groups in families.items()},
    )  # fmt: skip


def _all_channels(values: np.ndarray, found: Anomalies) -> np.ndarray:
    out = np.full((len(values), len(found.survey.channels)), np.nan)
    out[:, found.survey.channels] = values
    return out


def _at(axis: BaseDataAxis, channels: np.ndarray) -> np.ndarray:
    """Return the axis values of fractional channels."""
    return np.interp(channels, np.arange(axis.size), axis.axis)


def _report(found: Anomalies, words: str) -> dict[str, Any]:
    normal = found.normal
    assert normal.noise is not None
    return {
        "statistic": found.statistic,
        "threshold": words,
        "model": normal.model.architecture,
        "n_components": normal.model.n_components,
        "noise_model": normal.noise.to_dict(),
        "patches": {"side": normal.side, "left_out": normal.trimmed},
        "used": found.survey.counts(),
        "n_windows": len(found.windows),
        "smallest_p": 1 / max(1, found.null.n) if found.null else float("nan"),
        "seconds": found.seconds,
    }
