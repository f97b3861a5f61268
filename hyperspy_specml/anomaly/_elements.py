"""Elements that may explain the residual of a region: X-ray lines by evidence, edges by the onset that it shows.

Several elements may explain a residual about equally well, and then what specimens are made of decides: elements
that the metadata list come first, radioactive and noble ones last.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import scipy.linalg
import scipy.ndimage
import scipy.optimize

from hyperspy_specml.statistics import gain_of, unit_of

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel

Families = Mapping[str, Sequence[Sequence[tuple[float, float]]]]
"""For each element its families of lines: (channel, weight) of each line, fixed within a family."""

# Full width at half maximum of a Gaussian over its standard deviation.
_FWHM = np.sqrt(8 * np.log(2))
# Candidates that are listed, at most.
_MOST_CANDIDATES = 8
# Line widths between the energy of a residual and an X-ray line, at most.
_NEAR = 1.0
# Weight in its family of the weakest line that may be seen without the others.
_WEAKEST = 0.1
# What evidence is multiplied by before elements of each rank are compared: those that the metadata list, common, other,
# and radioactive and noble ones.
_BELIEF = (2.0, 1.0, 0.8, 0.5)
# Evidence relative to that of the first candidate, or less by so much, that is no worse: errors of the energy axis of a
# quarter of a line width change evidence by a fifth.
_CLOSE, _CLOSE_BY = 0.8, 6.0
# Evidence of the best X-ray line up to which only listed elements are named: no line at all is about as good
# (K. P. Burnham, D. R. Anderson, Sociol. Methods Res. 33 (2004) 261: a model is without support from 10 on).
_NAMED = 10.0
# Evidence relative to the best from which an element is looked for elsewhere in the spectrum, that of a family of
# its lines there from which it is seen, and what evidence of seen elements is multiplied by at least.
_HALF, _SEEN, _SEEN_BELIEF = 0.5, 20.0, 1.1
# Counts: expected number in a channel below which it is not known; and relative to what is left of counts about it.
# Without the second, evidence would be about the empty background and hardly about the shape of the lines.
_LEAST_EXPECTED, _LEAST_PART = 0.01, 0.1
# Rounds of a fit, at most, and the gain in log-likelihood from which another one follows.
_ROUNDS, _LEAST_GAIN = 30, 1e-3
# Line widths beyond the strongest channel of a residual, and below it, in which the onset of an edge is looked for: the
# strongest part of an edge lies beyond its onset.
_BEYOND, _BELOW = 1.0, 8.0
# Line widths that are compared at an onset, on each side; channels of them, at least.
_SIDE, _LEAST_SIDE = 2.0, 3
# Part of the channels beyond an onset, the highest, that it must be seen without: a glitch is narrower than an edge.
_WITHOUT = 1 / 3
# z of a step from which it is an onset; and the height below it relative to that beyond it, at most.
_LEAST_Z, _MOST_BELOW = 5.0, 0.5
# Line widths, and channels at least, by which an onset may lie beside that of an edge.
_OFF, _OFF_CHANNELS = 1.5, 2


class SpectralLine(Protocol):
    """An X-ray line or an ionisation edge, as `signals.spectral_lines` makes them."""

    @property
    def element(self) -> str:
        """Such as "Nb"."""

    @property
    def name(self) -> str:
        """Such as "La"."""

    @property
    def family(self) -> str:
        """Lines of one family have a fixed ratio."""

    @property
    def energy(self) -> float:
        """In units of the energy axis."""

    @property
    def weight(self) -> float:
        """Intensity within the family; of edges 1 for major and 0.5 for minor ones."""

    @property
    def edge(self) -> bool:
        """Whether it is an ionisation edge."""

    @property
    def rank(self) -> int:
        """0 of listed elements, 1 of common, 2 of other, 3 of radioactive and noble ones."""


@dataclass(frozen=True)
class EnergyAxis:
    """The energies of channels, and the lines and edges that may be seen there.

    Attributes
    ----------
    energies
        (whole axis,) energy of each channel.
    lines
        Lines or edges of all elements, in the same units.
    """

    energies: np.ndarray = field(repr=False)
    lines: Sequence[SpectralLine] = field(repr=False, default=())

    def step(self, channel: int) -> float:
        """Return by how much the energy changes per channel, negative on a falling axis."""
        return float(np.gradient(self.energies)[channel])


@dataclass(frozen=True)
class Candidate:
    """An element whose line or edge may be the anomaly.

    Attributes
    ----------
    element, line
        Such as "Nb" and "La".
    energy, distance
        Energy of the line, and its distance to that of the region, in units of the energy axis.
    evidence
        By how much the element's lines together lower the deviance of the residual, less two for each family
        of lines; of edges the squared z of the step at its onset.
    listed
        Whether ``metadata.Sample.elements`` lists the element.
    close
        Whether its evidence is about as good as that of the first candidate, or better.
    """

    element: str
    line: str
    energy: float
    distance: float
    evidence: float
    listed: bool = False
    close: bool = False

    def __str__(self) -> str:
        """Return element and line, such as ``Nb La``."""
        return f"{self.element} {self.line}"


class Residual(NamedTuple):
    """What a model leaves of a region. E channels in use.

    Attributes
    ----------
    counts, variance
        (E,) sums over the pixels of the region: of the residual, with its sign changed where counts are missing, and of
        the noise variance of what was expected.
    line_width
        (E,) full width at half maximum of a line, in channels.
    channels
        (E,) indices of the channels on the whole axis.
    noise
        Noise model.
    """

    counts: np.ndarray
    variance: np.ndarray
    line_width: np.ndarray
    channels: np.ndarray
    noise: NoiseModel


class Evidence(NamedTuple):
    """A line or an edge, its evidence, and what that is multiplied by before elements are compared."""

    line: SpectralLine
    value: float
    belief: float


def find_elements(residual: Residual, axis: EnergyAxis, energy: float) -> tuple[Candidate, ...]:
    """Return the elements whose lines or edges may explain a residual, the likeliest first; none where none does.

    Parameters
    ----------
    residual
        Of a region.
    axis
        Energies, and the lines of all elements.
    energy
        Where it is strongest.
    """
    if not axis.lines:
        return ()
    evidence = (_edges if axis.lines[0].edge else _xray_lines)(residual, axis, energy)
    order = sorted((one for one in evidence if one.value > 0), key=lambda one: -one.value * one.belief)
    if not axis.lines[0].edge and max((one.value for one in order), default=0.0) <= _NAMED:
        order = [one for one in order if one.line.rank == 0]
    if not order:
        return ()
    best = order[0].value
    close = min(_CLOSE * best, best - _CLOSE_BY)
    unlikely = order[0].belief == _BELIEF[-1]
    kept = [one for one in order if one.belief > _BELIEF[-1] or unlikely]
    return tuple(
        Candidate(line.element, line.name, line.energy, line.energy - energy, value, line.rank == 0, value >= close)
        for line, value, _ in kept[:_MOST_CANDIDATES]
    )


def _xray_lines(residual: Residual, axis: EnergyAxis, energy: float) -> list[Evidence]:
    """Return the evidence of the families with a line near the energy, an element at the line that is nearest.

    An element that is seen elsewhere in the spectrum by another family is believed more than others.
    """
    near, value = _near_lines(residual, axis, energy)
    best = max(value.values(), default=0.0)
    found = []
    for element, line in near.items():
        maybe = line.rank > 0 and value[element] >= max(_HALF * best, 0)
        seen = maybe and _seen_elsewhere(residual, axis, line)
        belief = max(_BELIEF[line.rank], _SEEN_BELIEF * seen)
        found.append(Evidence(line, value[element], belief))
    return found


def _near_lines(
    residual: Residual, axis: EnergyAxis, energy: float
) -> tuple[dict[str, SpectralLine], dict[str, float]]:
    """Return the nearest line of each element that has one near the energy, and the evidence of these families."""
    place = int(np.abs(axis.energies - energy).argmin())
    inside = min(int(np.searchsorted(residual.channels, place)), len(residual.channels) - 1)
    reach = _NEAR * abs(axis.step(place)) * residual.line_width[inside]
    near: dict[str, SpectralLine] = {}
    families = set()
    for line in axis.lines:
        if line.weight >= _WEAKEST and abs(energy - line.energy) <= reach:
            near[line.element] = min(near.get(line.element, line), line, key=lambda one: abs(one.energy - energy))
            families.add((line.element, line.family))
    shapes = _families(axis, families, residual.channels)
    return near, line_evidence(residual.counts, residual.variance, residual.line_width, shapes, residual.noise)


def _seen_elsewhere(residual: Residual, axis: EnergyAxis, line: SpectralLine) -> bool:
    """Return whether another family of the element explains best what is left at its strongest line."""
    others = [one for one in axis.lines if one.element == line.element and one.family != line.family]
    for strongest in (one for one in others if one.weight == 1):
        _, value = _near_lines(residual, axis, strongest.energy)
        own = value.pop(line.element, 0.0)
        if own > max(_SEEN, *value.values(), 0.0):
            return True
    return False


def _families(axis: EnergyAxis, wanted: Container[tuple[str, str]], channels: np.ndarray) -> Families:
    """Return these families of lines of elements, in channels in use."""
    families: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in axis.lines:
        if (line.element, line.family) in wanted:
            place = _channel(axis, line.energy, channels)
            families.setdefault(line.element, {}).setdefault(line.family, []).append((place, line.weight))
    return {element: list(of.values()) for element, of in families.items()}


def _channel(axis: EnergyAxis, energy: float, channels: np.ndarray) -> float:
    """Return where among the channels in use an energy is."""
    order = np.argsort(axis.energies)
    return float(np.interp(np.interp(energy, axis.energies[order], order), channels, np.arange(len(channels))))


def line_evidence(
    residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray, families: Families, noise: NoiseModel
) -> dict[str, float]:
    """Return by how much each element's lines, with positive amplitudes, lower the deviance of a residual.

    Two are subtracted for each family, whose amplitude is free: Akaike's criterion compares few lines with
    many.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region; the variance is that of what was expected.
    line_width
        (E,) full width at half maximum of a line, in channels.
    families
        For each element its families of lines: (channel, weight) of each line, fixed within a family.
    noise
        Noise model.
    """
    unit = unit_of(variance, noise)
    unit = np.where(unit > 0, unit, 1.0)
    blur = float(np.mean(line_width)) / _FWHM
    excess = scipy.ndimage.gaussian_filter1d(np.maximum(residual / unit, 0), blur)
    mean = np.maximum(variance / unit**2, np.maximum(_LEAST_EXPECTED, _LEAST_PART * excess))
    counts = np.maximum(mean + residual / unit, 0)
    evidence = {}
    for element, groups in families.items():
        shapes = np.stack([_line_shapes(group, line_width) for group in groups], axis=1) / unit[:, None]
        evidence[element] = 2 * largest_gain(shapes, counts, mean) - 2 * len(groups)
    return evidence


def largest_gain(shapes: np.ndarray, counts: np.ndarray, mean: np.ndarray) -> float:
    """Return the largest gain in Poisson log-likelihood by adding shapes with amplitudes of 0 or more to a mean.

    The likelihood is concave, so that Fisher's scoring with steps that are shortened where needed ends at its maximum.

    Parameters
    ----------
    shapes
        (E, F).
    counts, mean
        (E,) counts, and their positive mean without the shapes.
    """

    def gain(amplitudes: np.ndarray) -> float:
        added = shapes @ amplitudes
        return float(counts @ np.log1p(added / mean) - added.sum())

    excess = np.maximum(scipy.ndimage.gaussian_filter1d(counts - mean, 2.0), 0)
    weights = 1 / np.sqrt(mean + excess)
    amplitudes, best = scipy.optimize.nnls(shapes * weights[:, None], (counts - mean) * weights)[0], 0.0
    best = gain(amplitudes)
    for _ in range(_ROUNDS):
        rate = mean + shapes @ amplitudes
        slope = shapes.T @ (counts / rate - 1)
        root = _root(shapes.T @ (shapes / rate[:, None]))
        target = root.T @ amplitudes + scipy.linalg.solve_triangular(root, slope, lower=True)
        step = scipy.optimize.nnls(root.T, target)[0] - amplitudes
        found = max((gain(amplitudes + part * step), part) for part in 0.5 ** np.arange(8))
        if found[0] <= best + _LEAST_GAIN:
            break
        best, amplitudes = found[0], amplitudes + found[1] * step
    return max(best, 0.0)


def _root(matrix: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factor of a matrix that may be singular."""
    ridge = 1e-9 * np.diag(matrix) + 1e-12 * np.trace(matrix) + 1e-300
    return np.asarray(np.linalg.cholesky(matrix + np.diag(ridge)))


def _line_shapes(lines: Sequence[tuple[float, float]], line_width: np.ndarray) -> np.ndarray:
    """Return (E,) the sum of Gaussian lines at these channels with these weights."""
    channels, shape = np.arange(len(line_width)), np.zeros(len(line_width))
    for channel, weight in lines:
        sigma = line_width[int(np.clip(round(channel), 0, len(line_width) - 1))] / _FWHM
        shape += weight / sigma * np.exp(-0.5 * ((channels - channel) / sigma) ** 2)
    return shape


def _edges(residual: Residual, axis: EnergyAxis, energy: float) -> list[Evidence]:
    """Return the prominent edges that lie at the onset which a residual shows, and the squared z of each.

    An onset is where the residual rises and stays high for longer than a glitch does. Where there is none, no edge
    explains the residual.
    """
    rising = 1 if axis.step(0) > 0 else -1
    counts, variance, width = (values[::rising] for values in residual[:3])
    place = int(np.searchsorted(residual.channels, np.abs(axis.energies - energy).argmin()))
    place = place if rising > 0 else len(counts) - 1 - place
    wide = float(width[min(place, len(width) - 1)])
    z = onset_z(counts, variance, max(_LEAST_SIDE, round(_SIDE * wide)), residual.noise)
    inside = slice(max(0, place - round(_BELOW * wide)), place + round(_BEYOND * wide) + 1)
    if not z[inside].max(initial=0) > 0:
        return []
    onset, off = inside.start + int(z[inside].argmax()), max(_OFF_CHANNELS, _OFF * wide)
    found: dict[str, tuple[float, SpectralLine]] = {}
    for line in axis.lines:
        channel = _channel(axis, line.energy, residual.channels)
        distance = abs((channel if rising > 0 else len(counts) - 1 - channel) - onset)
        if line.weight == 1 and distance <= off:
            found[line.element] = min(found.get(line.element, (np.inf, line)), (distance, line), key=lambda one: one[0])
    # An onset beside that of the edge is evidence for it as far as errors of the energy axis explain the distance.
    peak = float(z[onset]) ** 2
    return [
        Evidence(line, peak * float(np.exp(-0.5 * (distance / off) ** 2)), _BELIEF[line.rank])
        for distance, line in found.values()
    ]


def onset_z(counts: np.ndarray, variance: np.ndarray, side: int, noise: NoiseModel) -> np.ndarray:
    """Return (E,) z of the step of a residual at each channel; 0 where it is no onset of an edge.

    Parameters
    ----------
    counts, variance
        (E,) residual along rising energy, and its noise variance.
    side
        Channels on each side that are compared.
    noise
        Noise model.
    """
    lags = np.arange(1, len(noise.correlation))
    correlated = 1 + 2 * float(np.maximum(0, 1 - lags / side) @ np.array(noise.correlation)[1:])
    z, kept = np.zeros(len(counts)), side - max(1, int(_WITHOUT * side))
    for channel in range(side, len(counts) - side + 1):
        below, beyond = counts[channel - side : channel], np.sort(counts[channel : channel + side])[:kept]
        spread = variance[channel - side : channel + side].mean() + gain_of(noise) * max(0.0, beyond.mean())
        step = beyond.mean() - below.mean()
        one = step / np.sqrt(max(correlated * spread * (1 / kept + 1 / side), 1e-300))
        if one >= _LEAST_Z and below.mean() <= _MOST_BELOW * beyond.mean():
            z[channel] = one
    return z
