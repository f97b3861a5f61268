"""Phases known so far, and which spectra they do not explain.

n spectra, G groups of channels, K phases. A phase that was learnt from few counts has a spectrum with noise of its
own: its part in the deviates is taken out, or every pixel that follows a new phase would look new.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent import LineLaw, MultinomialLaw, drawn, tail_probability
from hyperspy_specml.statistics import signed_squares

if TYPE_CHECKING:
    from hyperspy_specml.latent import Law

# Widths of windows in groups of channels: one, two and four lines; they start three times in a width.
_WINDOWS, _STARTS = (3, 6, 12), 3
# Iterations for the shares of phases in a spectrum that is none of them.
_ITERATIONS = 30
# Squared deviate from a single phase beyond which mixtures are tried: chance gives so much to one spectrum in about
# three.
_SCREEN = 9.0
# Smallest expected counts of a window.
_LEAST_EXPECTED = 1e-3
# Spectra drawn for the null distribution, and of how many drawn copies of the library.
_N_DRAWN, _N_COPIES = 6000, 60
# Counts of the mean spectrum that every phase is given beside its own: no channel is impossible.
_PSEUDO_COUNTS = 10.0
# Standard deviations of one group of channels from which it may be a spike, the counts from which its noise is
# measured, and the part of it that a line puts into the groups beside it, at least.
_STRONG_SPIKE, _LEAST_SPIKE, _BESIDE_SPIKE = 12.0, 1.0, 0.25
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Found:
    """What a library says of n spectra.

    Attributes
    ----------
    shares
        (n, K) shares of the phases, in sum one.
    deviate
        (n,) the largest squared deviate of any window from phases and mixtures.
    window
        (n, 2) int first and last group of that window.
    """

    shares: np.ndarray
    deviate: np.ndarray
    window: np.ndarray


@dataclass(frozen=True, eq=False)
class Library:
    """Phases known so far.

    Attributes
    ----------
    sums
        (K, G) sums over the spectra of each phase, as values of the law.
    n_spectra
        (K,) of how many.
    law
        Of the noise.
    error
        Relative error of windows that noise does not explain.
    null
        (m,) sorted deviates of spectra drawn from the phases; empty until `with_null`.
    """

    sums: np.ndarray
    n_spectra: np.ndarray
    law: Law
    error: float = 0.0
    null: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def n_phases(self) -> int:
        """Number of phases K."""
        return len(self.sums)

    @property
    def counts(self) -> bool:
        """Whether the values are counts."""
        return isinstance(self.law, MultinomialLaw)

    @property
    def spectra(self) -> np.ndarray:
        """(K, G) spectra: of sum one for counts, else of length one."""
        if not self.counts:
            return self.sums / np.maximum(np.linalg.norm(self.sums, axis=1, keepdims=True), _TINY)
        mean = self.sums.sum(axis=0)
        raised = self.sums + _PSEUDO_COUNTS * mean / max(float(mean.sum()), _TINY)
        return raised / np.maximum(raised.sum(axis=1, keepdims=True), _TINY)

    def with_phase(self, sums: np.ndarray, n_spectra: int) -> Library:
        """Return the library with one phase more; its null distribution stays what it was."""
        return replace(self, sums=np.vstack([self.sums, sums]), n_spectra=np.append(self.n_spectra, n_spectra))

    def grown(self, values: np.ndarray, shares: np.ndarray) -> Library:
        """Return the library with (n, G) spectra added to the phases that they clearly are, by their (n, K) shares."""
        members = (shares > 0.9).astype(np.float32)
        return replace(self, sums=self.sums + members.T @ values, n_spectra=self.n_spectra + members.sum(axis=0))

    def look(self, values: np.ndarray) -> Found:
        """Compare (n, G) spectra with the phases, and those that are none of them with mixtures."""
        spectra = self.spectra
        shares = self._nearest(values)
        deviate, window = self._deviates(values, shares, spectra)
        rest = np.flatnonzero(deviate > _SCREEN)
        if len(rest) and len(spectra) > 1:
            mixed = _shares(values[rest], spectra.astype(np.float32), self.law)
            again, where = self._deviates(values[rest], mixed, spectra)
            better = again < deviate[rest]
            shares[rest[better]] = mixed[better]
            deviate[rest[better]], window[rest[better]] = again[better], where[better]
        return Found(shares, deviate, window)

    def _deviates(self, values: np.ndarray, shares: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        expected, doubt = self._expected(values, shares, spectra)
        return window_deviates(values, expected, counts=self.counts, error=self.error, doubt=doubt)

    def _expected(self, values: np.ndarray, shares: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, G) means, and (n,) by how much the variance is larger for the noise of the phases' spectra."""
        mixed = shares @ spectra.astype(np.float32)
        if self.counts:
            intensity = values.sum(axis=1, keepdims=True)
            known = np.maximum(self.sums.sum(axis=1), 1.0)
            doubt = intensity[:, 0] * (shares**2 / known.astype(np.float32)).sum(axis=1)
        else:
            size = np.maximum((mixed**2).sum(axis=1, keepdims=True), _TINY)
            intensity = np.maximum((values * mixed).sum(axis=1, keepdims=True), 0) / size
            doubt = (shares**2 / np.maximum(self.n_spectra, 1).astype(np.float32)).sum(axis=1)
        return intensity * mixed, doubt

    def without_spikes(self, values: np.ndarray) -> tuple[np.ndarray, int]:
        """Return (n, G) values with what the phases expect in place of spikes, and the number of spikes.

        A spike fills one group of channels, a line three; nothing of the sample is as strong as that in one group.
        """
        expected, _ = self._expected(values, self._nearest(values), self.spectra)
        variance = np.maximum(expected, _LEAST_SPIKE) if self.counts else np.float32(1.0)
        excess = (values - expected) / np.sqrt(variance)
        beside = np.zeros_like(excess)
        beside[:, 1:] = np.maximum(beside[:, 1:], values[:, :-1] - expected[:, :-1])
        beside[:, :-1] = np.maximum(beside[:, :-1], values[:, 1:] - expected[:, 1:])
        spikes = (excess > _STRONG_SPIKE) & (beside < _BESIDE_SPIKE * (values - expected))
        return np.where(spikes, expected, values).astype(np.float32), int(spikes.sum())

    def _nearest(self, values: np.ndarray) -> np.ndarray:
        """Return (n, K) shares: one of the phase that a spectrum is most like."""
        shares = np.zeros((len(values), self.n_phases), np.float32)
        shares[np.arange(len(values)), self.law.evidence(values, self.spectra).argmax(axis=0)] = 1
        return shares

    def with_null(self, values: np.ndarray, *, seed: int) -> Library:
        """Return the library with the deviates of spectra that are drawn from it.

        Every drawn copy of the library has errors as large as its own.

        Parameters
        ----------
        values
            (n, G) spectra like those to come: give intensities and shares.
        seed
            Of the drawn spectra.
        """
        rng = np.random.default_rng(seed)
        rows = values[rng.integers(len(values), size=_N_DRAWN)]
        shares, null = self.look(rows).shares, []
        for part in np.array_split(np.arange(_N_DRAWN), _N_COPIES):
            copy = self._copy(rng)
            expected, _ = copy._expected(rows[part], shares[part], copy.spectra)
            null.append(self.look(drawn(expected, self.law, rng)).deviate)
        return replace(self, null=np.sort(np.concatenate(null)))

    def _copy(self, rng: np.random.Generator) -> Library:
        if self.counts:
            return replace(self, sums=rng.gamma(np.maximum(self.sums, _TINY)))
        return replace(self, sums=self.sums + rng.standard_normal(self.sums.shape) * np.sqrt(self.n_spectra)[:, None])

    def p_values(self, deviate: np.ndarray) -> np.ndarray:
        """Return the (n,) probability of so large deviates in spectra of the phases."""
        return tail_probability(self.null, deviate)


def _shares(values: np.ndarray, spectra: np.ndarray, law: Law) -> np.ndarray:
    """Return the (n, K) shares of phases that describe spectra best."""
    if isinstance(law, LineLaw):
        found = np.maximum(values @ np.linalg.pinv(spectra), 0).astype(np.float32)
        return found / np.maximum(found.sum(axis=1, keepdims=True), np.float32(_TINY))
    shares = np.full((len(values), len(spectra)), 1 / len(spectra), np.float32)
    total = np.maximum(values.sum(axis=1, keepdims=True), np.float32(_TINY))
    for _ in range(_ITERATIONS):
        shares *= (values / np.maximum(shares @ spectra, np.float32(_TINY))) @ spectra.T / total
    return shares


def window_deviates(
    values: np.ndarray, expected: np.ndarray, *, counts: bool, error: float, doubt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n,) largest squared deviates of windows of energy, and their (n, 2) first and last groups.

    Parameters
    ----------
    values, expected
        (n, G) spectra and their means.
    counts
        Whether the values are counts; else their variance is one.
    error
        Relative error of the means of windows.
    doubt
        (n,) variance of the means over that of the values.
    """
    n, n_groups = values.shape
    best, where = np.zeros(n, np.float32), np.zeros((n, 2), np.intp)
    sums, means = (_running(table) for table in (values, expected))
    for width in _WINDOWS:
        width = min(width, n_groups)
        step = max(1, width // _STARTS)
        x, mean = ((s[:, width::step] - s[:, : n_groups - width + 1 : step]).astype(np.float32) for s in (sums, means))
        if counts:
            mean = np.maximum(mean, np.float32(_LEAST_EXPECTED))
            squares = np.abs(signed_squares(x, mean)) / (1 + doubt[:, None] + np.float32(error**2) * mean)
        else:
            squares = (x - mean) ** 2 / (width * (1 + doubt[:, None]) + np.float32(error**2) * mean**2)
        at = squares.argmax(axis=1)
        largest = squares[np.arange(n), at]
        better = largest > best
        best[better] = largest[better]
        where[better] = np.stack([step * at, step * at + width - 1], axis=1)[better]
    return best, where


def _running(table: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(table), table.shape[1] + 1))
    np.cumsum(table, axis=1, out=sums[:, 1:])
    return sums
