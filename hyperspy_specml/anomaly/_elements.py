"""Which element a residual belongs to: its energy, and the elements with lines or edges there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.ndimage
import scipy.optimize

from hyperspy_specml.statistics import gain_of, unit_of

if TYPE_CHECKING:
    from hyperspy_specml.statistics import NoiseModel

Families = Mapping[str, Sequence[Sequence[tuple[float, float]]]]
"""For each element its families of lines: (channel, weight) of each line, fixed within a family."""

# Full width at half maximum of a Gaussian over its standard deviation.
_FWHM = np.sqrt(8 * np.log(2))
# Rounds of a fit whose weights depend on what is fitted; further ones change nothing visible.
_ROUNDS = 4
# Candidates that are listed, at most.
_MOST_CANDIDATES = 8
# Line widths between the energy of a residual and a line, at most; and how far the onset of an edge may lie
# below it, because the strongest part of an edge lies beyond its onset.
_NEAR = 1.0
_NEAR_EDGE = 8.0
# Weight in its family of the weakest line that may be seen without the others.
_WEAKEST = 0.1


class SpectralLine(Protocol):
    """An X-ray line or an ionisation edge, as `signals.spectral_lines` makes them."""

    @property
    def element(self) -> str:
        """Such as "Nb"."""
        ...

    @property
    def name(self) -> str:
        """Such as "La"."""
        ...

    @property
    def family(self) -> str:
        """Lines of one family have a fixed ratio."""
        ...

    @property
    def energy(self) -> float:
        """In units of the energy axis."""
        ...

    @property
    def weight(self) -> float:
        """Intensity within the family; of edges 1 for major and 0.5 for minor ones."""
        ...

    @property
    def edge(self) -> bool:
        """Whether it is an ionisation edge."""
        ...


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
        of lines; NaN for edges.
    """

    element: str
    line: str
    energy: float
    distance: float
    evidence: float

    def __str__(self) -> str:
        """Return element and line, such as ``Nb La``."""
        return f"{self.element} {self.line}"


def peak_channel(residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray, window: slice) -> int:
    """Return the channel in a window at which a residual, summed over the line shape, is strongest.

    Parameters
    ----------
    residual, variance
        (E,) sums over the pixels of a region.
    line_width
        (E,) full width at half maximum of a line, in channels.
    window
        Channels to look at.
    """
    sigma = float(np.mean(line_width[window])) / _FWHM
    signal = scipy.ndimage.gaussian_filter1d(residual.astype(np.float64), sigma)
    noise = scipy.ndimage.gaussian_filter1d(variance.astype(np.float64), sigma)
    strength = np.abs(signal[window]) / np.sqrt(np.maximum(noise[window], 1e-300))
    return window.start + int(np.argmax(strength))


@dataclass(frozen=True)
class Residual:
    """What a region has beyond what is expected. E channels in use.

    Attributes
    ----------
    values, variance
        (E,) sums over the pixels; the variance is that of what was expected. Of a deficit the values are its
        counts.
    channels
        (E,) the channels of the whole axis.
    line_width
        (whole axis,) full width at half maximum of a line, in channels.
    noise
        Noise model of a pixel.
    """

    values: np.ndarray
    variance: np.ndarray
    channels: np.ndarray
    line_width: np.ndarray
    noise: NoiseModel

    def candidates(self, axis: EnergyAxis, energy: float) -> tuple[Candidate, ...]:
        """Return the elements with a line near an energy: X-ray lines by evidence, edges by distance.

        Parameters
        ----------
        axis
            Energies and lines.
        energy
            Where the residual is strongest.
        """
        if not axis.lines:
            return ()
        edges = axis.lines[0].edge
        place = int(np.abs(axis.energies - energy).argmin())
        width = float(self.line_width[place] * abs(axis.step(place)))
        before = _NEAR_EDGE if edges else _NEAR
        near: dict[str, SpectralLine] = {}
        for line in axis.lines:
            if line.weight >= _WEAKEST and -_NEAR * width <= energy - line.energy <= before * width:
                best = near.get(line.element)
                if best is None or abs(line.energy - energy) < abs(best.energy - energy):
                    near[line.element] = line
        evidence = dict.fromkeys(near, float("nan"))
        if edges:
            order = sorted(near.values(), key=lambda line: (-line.weight, abs(line.energy - energy)))
        else:
            evidence = self._evidence(axis, [line for line in axis.lines if line.element in near])
            order = sorted(near.values(), key=lambda line: -evidence[line.element])
        return tuple(
            Candidate(line.element, line.name, line.energy, line.energy - energy, evidence[line.element])
            for line in order[:_MOST_CANDIDATES]
        )

    def _evidence(self, axis: EnergyAxis, lines: Sequence[SpectralLine]) -> dict[str, float]:
        order = np.argsort(axis.energies)
        families: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for line in lines:
            channel = float(np.interp(line.energy, axis.energies[order], order))
            place = float(np.interp(channel, self.channels, np.arange(len(self.channels))))
            families.setdefault(line.element, {}).setdefault(line.family, []).append((place, line.weight))
        groups = {element: list(of.values()) for element, of in families.items()}
        width = self.line_width[self.channels]
        return line_evidence(self.values, self.variance, width, groups, self.noise)


def line_evidence(
    residual: np.ndarray, variance: np.ndarray, line_width: np.ndarray, families: Families, noise: NoiseModel
) -> dict[str, float]:
    """Return by how much each element's lines, with positive amplitudes, lower the deviance of a residual.

    Two are subtracted for each family, whose amplitude is free: Akaike's criterion compares few lines with
    many. Counts of a line are noisy themselves: where nothing was expected, a few of them would outweigh all
    others.

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
    blur = float(np.mean(line_width)) / _FWHM
    excess = scipy.ndimage.gaussian_filter1d(np.maximum(residual, 0).astype(np.float64), blur)
    variance = np.maximum(variance, 1e-12)
    unit, gain = unit_of(variance, noise), gain_of(noise)
    mean = variance / unit**2
    counts = np.maximum(mean + residual / unit, 0)
    evidence = {}
    for element, groups in families.items():
        shapes = np.stack([_line_shapes(group, line_width) for group in groups], axis=1)
        fitted = excess
        for _ in range(_ROUNDS):  # the noise is that of what is fitted
            weights = 1 / np.sqrt(variance + gain * fitted)
            amplitudes, _ = scipy.optimize.nnls(shapes * weights[:, None], residual * weights)
            fitted = shapes @ amplitudes
        added = fitted / unit
        evidence[element] = 2 * float(counts @ np.log1p(added / mean) - added.sum()) - 2 * len(groups)
    return evidence


def _line_shapes(lines: Sequence[tuple[float, float]], line_width: np.ndarray) -> np.ndarray:
    """Return (E,) the sum of Gaussian lines at these channels with these weights."""
    channels, shape = np.arange(len(line_width)), np.zeros(len(line_width))
    for channel, weight in lines:
        sigma = line_width[int(np.clip(round(channel), 0, len(line_width) - 1))] / _FWHM
        shape += weight / sigma * np.exp(-0.5 * ((channels - channel) / sigma) ** 2)
    return shape
