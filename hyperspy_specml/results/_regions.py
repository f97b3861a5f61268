"""Regions of an anomaly map in calibrated units, with the elements that may explain them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly import line_evidence, peak_channel
from hyperspy_specml.results._anomaly import Candidate, Region
from hyperspy_specml.signals import energy_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy.basis import BaseDataAxis
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.anomaly import Anomalies, RegionSums
    from hyperspy_specml.signals import Line

_MOST_CANDIDATES = 8
_NEAR = 1.0  # line widths from the region's energy to a candidate
_EDGE_BEFORE = 8.0  # line widths: the strongest part of an edge lies beyond its onset
_TELLING = 0.5  # of the strongest deficit: such an excess tells more
_WEAKEST = 0.1  # weight of a line that alone may be seen


def make_regions(
    template: BaseSignal, found: Anomalies, sums: RegionSums, lines: Sequence[Line]
) -> tuple[Region, ...]:
    """Describe regions.

    Parameters
    ----------
    template
        Gives the axes.
    found, sums
        The scanned map and the sums over its regions.
    lines
        Of all elements.
    """
    return tuple(_region(template, found, sums, i, lines) for i in range(len(sums.labels)))


def _region(
    template: BaseSignal, found: Anomalies, sums: RegionSums, i: int, lines: Sequence[Line]
) -> Region:
    axis, scan_axes = energy_axis(template), template.axes_manager.navigation_axes
    shape = tuple(a.size for a in scan_axes[::-1])
    pixels = sums.pixels[i]
    indices = np.stack(np.unravel_index(pixels, shape)[::-1], axis=1)  # x, y ...
    strongest = int(np.argmax(found.score[pixels]))
    peak = pixels[strongest]
    inside, deficit = slice(0, sums.residuals.shape[1]), None
    if found.statistic == "scan":
        inside, deficit = _strongest(found, sums, i, peak)
    channel = peak_channel(sums.residuals[i], sums.variances[i], found.line_width[found.channels], inside)
    place = int(np.flatnonzero(found.channels)[channel])
    energy, step = float(axis.axis[place]), float(np.gradient(axis.axis)[place])
    shift, shift_error = sums.shifts[i] * (step, abs(step))
    area, area_units = _area(len(pixels), scan_axes)
    excess = float(sums.residuals[i, inside].sum())
    deficit = sums.residuals[i, channel] < 0 if deficit is None else deficit
    return Region(
        position=tuple(float(a.axis[k]) for a, k in zip(scan_axes, indices[strongest], strict=True)),
        pixels=tuple(map(tuple, indices.tolist())),
        area=area,
        area_units=area_units,
        p=float(np.exp(found.log_p[peak])),
        energy=energy,
        energy_units=_units(axis),
        direction="deficit" if deficit else "excess",
        excess=excess,
        shift=float(shift),
        shift_error=float(shift_error),
        candidates=_candidates(found, sums, i, axis, energy, lines, sign=-1 if deficit else 1),
    )


def _strongest(found: Anomalies, sums: RegionSums, i: int, peak: int) -> tuple[slice, bool]:
    """Return the channels of a region's strongest window, and whether counts are missing there.

    A phase that takes the place of others has less of their lines, and that may be what is strongest. Its own
    lines tell more. And where the model expects less than nothing, the excess is partly an error of its own.
    """
    windows, window = found.windows, int(found.window[peak])
    deficit = bool(found.z[peak] < 0)
    everything = slice(0, len(windows))
    spectrum, difference, variance = (
        windows.sums(a[i], everything) for a in (sums.spectra, sums.residuals, sums.variances)
    )
    missing = np.minimum(spectrum - difference, 0)
    if deficit or missing[window]:
        z = difference / np.sqrt(np.maximum(np.maximum(variance, difference) + missing**2, 1e-300))
        best = int(np.argmax(z))
        if missing[window] or z[best] >= _TELLING * -z[window]:
            window, deficit = best, False
    return slice(int(windows.starts[window]), int(windows.stops[window])), deficit


def _area(n_pixels: int, scan_axes: tuple[BaseDataAxis, ...]) -> tuple[float, str]:
    """Return length, area or volume of so many pixels, and its units."""
    steps = [abs(float(np.gradient(a.axis).mean())) if a.size > 1 else 1.0 for a in scan_axes]
    units = [_units(a) for a in scan_axes]
    power = {2: "²", 3: "³"}.get(len(units), "")
    same = units[0] and len(set(units)) == 1
    return n_pixels * float(np.prod(steps)), units[0] + power if same else "·".join(filter(None, units))


def _units(axis: BaseDataAxis) -> str:
    return axis.get_axis_dictionary()["units"] or ""


def _candidates(
    found: Anomalies, sums: RegionSums, i: int, axis: BaseDataAxis, energy: float, lines: Sequence[Line],
    *, sign: int,
) -> tuple[Candidate, ...]:  # fmt: skip
    """Return the elements with a line near an energy: X-ray lines by evidence, edges by distance."""
    if not lines:
        return ()
    place = int(np.abs(axis.axis - energy).argmin())
    width = float(found.line_width[place] * abs(np.gradient(axis.axis)[place]))
    before = _EDGE_BEFORE if lines[0].edge else _NEAR
    near: dict[str, Line] = {}
    for line in lines:
        if line.weight >= _WEAKEST and -_NEAR * width <= energy - line.energy <= before * width:
            best = near.get(line.element)
            if best is None or abs(line.energy - energy) < abs(best.energy - energy):
                near[line.element] = line
    evidence = dict.fromkeys(near, float("nan"))
    if lines[0].edge:
        order = sorted(near.values(), key=lambda line: (-line.weight, abs(line.energy - energy)))
    else:
        own = [line for line in lines if line.element in near]
        evidence = _evidence(found, sign * sums.residuals[i], sums.variances[i], axis, own)
        order = sorted(near.values(), key=lambda line: -evidence[line.element])
    return tuple(
        Candidate(line.element, line.name, line.energy, line.energy - energy, evidence[line.element])
        for line in order[:_MOST_CANDIDATES]
    )


def _evidence(
    found: Anomalies, residual: np.ndarray, variance: np.ndarray, axis: BaseDataAxis, lines: Sequence[Line]
) -> dict[str, float]:
    used = np.flatnonzero(found.channels)
    order = np.argsort(axis.axis)
    families: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in lines:
        channel = float(np.interp(line.energy, axis.axis[order], order))
        place = float(np.interp(channel, used, np.arange(len(used))))
        families.setdefault(line.element, {}).setdefault(line.family, []).append((place, line.weight))
    groups = {element: list(of.values()) for element, of in families.items()}
    return line_evidence(residual, variance, found.line_width[used], groups, found.normal.noise)
