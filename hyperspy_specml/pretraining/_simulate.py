"""Simulators: spectra with known parameters, of random samples on random instruments.

References
----------
C. Fiori, D. Newbury, Scanning Electron Microsc. I (1978) 401 (width of X-ray lines); H. A. Kramers, Philos. Mag. 46
(1923) 836 (bremsstrahlung); R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011)
(power laws of background and edges, plural scattering).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

if TYPE_CHECKING:
    from hyperspy_specml.pretraining._grid import SpectralGrid

# Energy of Mn Ka and full width at half maximum over standard deviation.
_MN_KA, _FWHM = 5898.7, 2.3548
# Part of Fano in the width: squared full width at half maximum per energy, both in eV.
_FANO = 2.5
# Ranges of random instruments: resolution at Mn Ka in eV, offset in eV, relative error of the dispersion, background.
_RESOLUTION, _OFFSET, _GAIN, _BACKGROUND = (120.0, 150.0), 15.0, 0.003, (0.05, 0.5)
# Of the background: beam energy over the largest one of the grid, and absorption at 600 eV.
_BEAM, _ABSORBED = (1.2, 6.0), (0.2, 3.0)
# Range of doses, counts in the spectrum, and largest number of elements in a sample.
_DOSES, _MOST_ELEMENTS = (20.0, 3000.0), 5
# Spread of the logarithm of the ratio of families of lines of an element: absorption and efficiency.
_FAMILY = 0.4
# Of energy losses: exponents of the background and of edges, resolution in channels, energy of the plasmon and its
# width in eV, thickness in mean free paths, height of white lines beside the step, share of the edges, counts.
_BACKGROUND_POWER, _EDGE_POWER, _BLUR, _PLASMON, _PLASMON_WIDTH = (2.0, 4.0), (2.5, 4.5), (0.7, 3.0), (15.0, 28.0), 4.0
_THICKNESS, _WHITE, _EDGES, _LOSSES = (0.0, 1.0), (0.0, 4.0), (0.02, 0.5), (2e3, 2e6)
# Of mixtures of library spectra: largest shift, part of the channels (that of aligned features), relative stretch.
_SHIFT, _STRETCH = 0.03, 0.01


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float], n: int) -> np.ndarray:
    """Return (n,) numbers whose logarithm is anywhere between those of the ends."""
    return np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), n))


def _compositions(rng: np.random.Generator, n: int, n_elements: int) -> np.ndarray:
    """Return (n, K) shares of a few elements each."""
    present = rng.integers(1, min(_MOST_ELEMENTS, n_elements) + 1, (n, 1))
    order = rng.random((n, n_elements)).argsort(axis=1)
    shares = np.where(order < present, rng.exponential(size=(n, n_elements)), 0.0)
    return shares / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class XrayPhysics:
    """X-ray spectra of random compositions.

    Attributes
    ----------
    grid
        In eV.
    elements
        Names.
    lines
        (n, 3): element, energy in eV, weight in its family.
    families
        (n,) int, a number for each family of each element.
    """

    grid: SpectralGrid
    elements: tuple[str, ...]
    lines: np.ndarray = field(repr=False)
    families: np.ndarray = field(repr=False)

    @property
    def n_parameters(self) -> int:
        """Shares of the elements, and the part of the background."""
        return len(self.elements) + 1

    @property
    def n_composition(self) -> int:
        """Shares of the elements."""
        return len(self.elements)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, E) counts, and (n, parameters): square roots of the shares of counts, scaled."""
        shares = _compositions(rng, n, len(self.elements))
        factor = np.exp(_FAMILY * rng.standard_normal((n, int(self.families.max()) + 1)))
        owner = self.lines[:, 0].astype(int)
        weight = shares[:, owner] * self.lines[:, 2] * factor[:, self.families]
        mean = self._lines(weight, rng)
        mean /= np.maximum(mean.sum(axis=1, keepdims=True), 1e-30)
        part = rng.uniform(*_BACKGROUND, (n, 1))
        mean = (1 - part) * mean + part * self._background(n, rng)
        dose = _log_uniform(rng, _DOSES, n)[:, None]
        truth = np.concatenate([3 * (np.sqrt(shares) - 0.2), 6 * (part - 0.27)], axis=1)
        return rng.poisson(dose * mean).astype(np.float32), truth

    def _lines(self, weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (n, E) lines: of a few instruments in a batch, each with its resolution and calibration."""
        mean = np.empty((len(weight), self.grid.size))
        for some in np.array_split(np.arange(len(weight)), max(1, len(weight) // 16)):
            energy = self.lines[:, 1] * (1 + _GAIN * rng.standard_normal()) + _OFFSET * rng.standard_normal()
            mean[some] = weight[some] @ self._profiles(energy, rng.uniform(*_RESOLUTION))
        return mean

    def _profiles(self, energy: np.ndarray, at_mn: float) -> np.ndarray:
        """Return (lines, E) lines at such energies, of a detector of such a resolution at Mn Ka."""
        variance = np.maximum((at_mn**2 + _FANO * (self.lines[:, 1] - _MN_KA)) / _FWHM**2, 100.0)
        z = (self.grid.centres[None] - energy[:, None]) / np.sqrt(variance)[:, None]
        return np.exp(-0.5 * z**2) / np.sqrt(variance)[:, None]

    def _background(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._bremsstrahlung(rng.uniform(*_BEAM, (n, 1)), rng.uniform(*_ABSORBED, (n, 1)))

    def _bremsstrahlung(self, beam: np.ndarray, absorbed: np.ndarray) -> np.ndarray:
        """Return (n, E) backgrounds in sum one, of (n, 1) beam energies and absorptions at low energy."""
        energy = np.maximum(self.grid.centres, 50.0)
        passed = np.exp(-absorbed * (600.0 / energy) ** 2.5)
        found = np.maximum(beam * energy.max() - energy, 0) / energy * passed
        return found / np.maximum(found.sum(axis=1, keepdims=True), 1e-30)

    def pure(self) -> np.ndarray:
        """Return (K, E) spectra of sum one: of each family of lines on the usual background, and of backgrounds."""
        weight = self.lines[:, 2] * (self.families == np.unique(self.families)[:, None])
        lines = weight @ self._profiles(self.lines[:, 1], float(np.mean(_RESOLUTION)))
        total = lines.sum(axis=1, keepdims=True)
        seen = total[:, 0] > 1e-3 * total.max()  # others lie beyond the grid
        absorbed = np.array([_ABSORBED[0], np.mean(_ABSORBED), _ABSORBED[1]])[:, None]
        background, part = self._bremsstrahlung(np.full((3, 1), np.mean(_BEAM)), absorbed), np.mean(_BACKGROUND)
        return np.concatenate([(1 - part) * lines[seen] / total[seen] + part * background[1], background])


@dataclass(frozen=True, eq=False)
class EdgePhysics:
    """Energy losses of random compositions and thicknesses: edges on a background.

    Attributes
    ----------
    grid
        In eV.
    elements
        Names.
    edges
        (n, 4): element, onset in eV, weight, and 1 where the edge has a white line.
    """

    grid: SpectralGrid
    elements: tuple[str, ...]
    edges: np.ndarray = field(repr=False)

    @property
    def n_parameters(self) -> int:
        """Shares of the elements, of the edges, the exponent of the background, and the thickness."""
        return len(self.elements) + 3

    @property
    def n_composition(self) -> int:
        """Shares of the elements."""
        return len(self.elements)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, E) counts, and (n, parameters), each of about mean 0 and deviation 1."""
        shares = _compositions(rng, n, len(self.elements))
        thickness, part = rng.uniform(*_THICKNESS, n), _log_uniform(rng, _EDGES, n)
        power = rng.uniform(*_BACKGROUND_POWER, n)
        energy = np.maximum(self.grid.centres, self.grid.step)
        mean = (energy / energy.max()) ** -power[:, None]
        mean /= mean.sum(axis=1, keepdims=True)
        edges = np.einsum("nk,nke->ne", shares, self._edges(n, thickness, rng))
        total = edges.sum(axis=1, keepdims=True)
        mean = (1 - part[:, None]) * mean + part[:, None] * edges / np.maximum(total, 1e-30)
        dose = _log_uniform(rng, _LOSSES, n)[:, None]
        beside = [np.log(part / 0.1), 1.7 * (power - 3.0), 3.4 * (thickness - 0.5)]
        truth = np.concatenate([3 * (np.sqrt(shares) - 0.2), np.stack(beside, axis=1)], axis=1)
        return rng.poisson(dose * mean).astype(np.float32), truth

    def _edges(self, n: int, thickness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (n, K, E) edges of each element, each of sum 1: of a few instruments in a batch."""
        energy, found = self.grid.centres, np.zeros((n, len(self.elements), self.grid.size))
        for some in np.array_split(np.arange(n), max(1, n // 16)):
            offset, width = self.grid.step * rng.standard_normal(), self.grid.step * rng.uniform(*_BLUR)
            plasmon, power = rng.uniform(*_PLASMON), rng.uniform(*_EDGE_POWER)
            for owner, onset, weight, white in self.edges:
                height = white * rng.uniform(*_WHITE)
                once, again = _edge_and_plasmon(energy, onset + offset, width, power, height, plasmon)
                found[some, int(owner)] += weight * (once + thickness[some, None] * again)
        return found / np.maximum(found.sum(axis=2, keepdims=True), 1e-30)

    def pure(self) -> np.ndarray:
        """Return (K, E) spectra of sum one: edges of each element without and with white lines, and backgrounds."""
        energy = np.maximum(self.grid.centres, self.grid.step)
        background = (energy / energy.max()) ** -np.array([_BACKGROUND_POWER[0], 3.0, _BACKGROUND_POWER[1]])[:, None]
        background /= background.sum(axis=1, keepdims=True)
        edges, width = np.zeros((2, len(self.elements), self.grid.size)), self.grid.step * float(np.mean(_BLUR))
        for owner, onset, weight, white in self.edges:
            for k, height in enumerate((0.0, white * _WHITE[1])):
                usual = float(np.mean(_EDGE_POWER)), height, float(np.mean(_PLASMON))
                once, again = _edge_and_plasmon(energy, onset, width, *usual)
                edges[k, int(owner)] += weight * (once + np.mean(_THICKNESS) * again)
        edges = np.unique(edges.reshape(-1, self.grid.size), axis=0)  # some elements have no white lines
        edges = edges[edges.sum(axis=1) > 0] / edges.sum(axis=1, keepdims=True)[edges.sum(axis=1) > 0]
        part = float(np.sqrt(np.prod(_EDGES)))
        return np.concatenate([(1 - part) * background[1] + part * edges, background])


def _edge(energy: np.ndarray, onset: float, width: float, power: float, white: float) -> np.ndarray:
    """Return a step at an onset that falls as a power of the energy, with a white line behind the onset."""
    step = ndtr((energy - onset) / width) * (np.maximum(energy, onset) / onset) ** -power
    line = np.exp(-0.5 * ((energy - onset - 1.5) / np.hypot(width, 1.0)) ** 2)
    return step + white * line


def _edge_and_plasmon(
    energy: np.ndarray, onset: float, width: float, power: float, white: float, plasmon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return an edge, and what a plasmon makes of it."""
    again = _edge(energy, onset + plasmon, float(np.hypot(width, _PLASMON_WIDTH)), power, 0.0)
    return _edge(energy, onset, width, power, white), again


@dataclass(frozen=True, eq=False)
class LibraryPhysics:
    """Mixtures of the user's noise-free spectra, shifted and stretched.

    Attributes
    ----------
    grid
        Of the spectra.
    spectra
        (K, E) noise-free.
    doses
        Range of counts in a spectrum.
    shift, stretch
        Largest shift, part of the channels, and spread of the relative stretch.
    """

    grid: SpectralGrid
    spectra: np.ndarray = field(repr=False)
    doses: tuple[float, float] = (200.0, 200_000.0)
    shift: float = _SHIFT
    stretch: float = _STRETCH

    @classmethod
    def of_xrays(cls, grid: SpectralGrid, spectra: np.ndarray) -> LibraryPhysics:
        """Return that of X-ray spectra: of few counts, from a detector that is calibrated to some eV."""
        return cls(grid, spectra, _DOSES, np.sqrt(3) * _OFFSET / (grid.step * grid.size), _GAIN)

    @property
    def n_parameters(self) -> int:
        """How the mixtures differ, and the shift."""
        return self._axes.shape[1] + 1

    @property
    def n_composition(self) -> int:
        """How the mixtures differ."""
        return self._axes.shape[1]

    @cached_property
    def _axes(self) -> np.ndarray:
        """(K, K - 1): from shares, of a deviation of one, to what is asked for.

        These are principal components of the library, in units of the noise of counts, each weighted by how much of its
        variance the counts of a usual dose tell. Shares of spectra that are alike cannot be told, and to ask for them
        hides, in the loss, what can.
        """
        pure = self.pure()
        mean = pure.mean(axis=0)
        inner, sizes, _ = np.linalg.svd((pure - mean) / np.sqrt(np.maximum(mean, 1e-12)), full_matrices=False)
        dose = np.sqrt(self.doses[0] * self.doses[1])
        told = dose * sizes[: len(pure) - 1] ** 2 / (2 * len(pure))  # variance of a share: about 1 / (2 K)
        return inner[:, : len(pure) - 1] * np.sqrt(told / (1 + told))

    def pure(self) -> np.ndarray:
        """Return the (K, E) spectra of sum one."""
        return self.spectra / self.spectra.sum(axis=1, keepdims=True)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, E) counts, and (n, parameters): how the mixtures differ from their mean, and shifts."""
        k, channels, pure = len(self.spectra), np.arange(self.grid.size, dtype=float), self.pure()
        shares, most = _compositions(rng, n, k), self.shift * self.grid.size
        shift, mean = rng.uniform(-most, most, n), shares @ pure
        stretch = 1 + self.stretch * rng.standard_normal(n)
        moved = np.stack(
            [np.interp((channels - by) / s, channels, row) for by, s, row in zip(shift, stretch, mean, strict=True)]
        )
        dose = _log_uniform(rng, self.doses, n)[:, None]
        moved /= np.maximum(moved.sum(axis=1, keepdims=True), 1e-30)
        truth = np.concatenate(
            [(shares - 1 / k) * np.sqrt(2 * k) @ self._axes, np.sqrt(3) * shift[:, None] / most], axis=1
        )
        return rng.poisson(np.maximum(dose * moved, 0)).astype(np.float32), truth
