"""Phases known so far, and which spectra they do not explain.

n spectra, G groups of channels, K phases. A phase that was learnt from few counts has a spectrum with noise of its
own: its part in the deviates is taken out, or every pixel that follows a new phase would look new.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent import LineLaw, MultinomialLaw, drawn, tail_probability
from hyperspy_specml.live._windows import windows_of

if TYPE_CHECKING:
    from hyperspy_specml.latent import Law

# Iterations for the shares of phases in a spectrum that is none of them.
_ITERATIONS = 30
# Squared deviate from a single phase beyond which mixtures are tried: chance gives so much to one spectrum in about
# ten.
_SCREEN = 12.0
# Spectra drawn for the null distribution, and of how many drawn copies of the library.
_N_DRAWN, _N_COPIES = 4000, 40
# Part of the spectra whose largest deviates in a window say how much more than noise it varies, largest squared deviate
# that counts there (few spectra of a phase to come must not hide it), and standard errors by which it must be clear.
_TAIL, _MOST_SQUARE, _CLEAR = 0.1, 25.0, 2.0
# Smallest mean of these by chance: where less than one spectrum in ten has a count, nothing can be said.
_LEAST_TAIL = 2.0
# Standard deviation of that mean over its value, for one spectrum of the tail.
_SCATTER = 0.6
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
    """

    shares: np.ndarray
    deviate: np.ndarray


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
        (J,) relative errors of the windows that noise does not explain: phases vary within; or one for all.
    null
        (m,) sorted deviates of spectra drawn from the phases; empty until `with_null`.
    tail
        (J,) mean squares of the largest deviates of such spectra in each window.
    """

    sums: np.ndarray
    n_spectra: np.ndarray
    law: Law
    error: np.ndarray | float = 0.0
    null: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    tail: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

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

    def without(self, phase: int) -> Library:
        """Return the library without one of its phases."""
        return replace(self, sums=np.delete(self.sums, phase, axis=0), n_spectra=np.delete(self.n_spectra, phase))

    def grown(self, values: np.ndarray, shares: np.ndarray) -> Library:
        """Return the library with (n, G) spectra added to the phases that they clearly are, by their (n, K) shares."""
        members = (shares > 0.9).astype(np.float32)
        return replace(self, sums=self.sums + members.T @ values, n_spectra=self.n_spectra + members.sum(axis=0))

    def look(self, values: np.ndarray) -> Found:
        """Compare (n, G) spectra with the phases, and those that are none of them with mixtures."""
        spectra = self.spectra
        shares = self._nearest(values)
        deviate = self._squares(values, shares, spectra, self.error).max(axis=1)
        rest = np.flatnonzero(deviate > _SCREEN)
        if len(rest) and len(spectra) > 1:
            mixed = _shares(values[rest], spectra.astype(np.float32), self.law)
            again = self._squares(values[rest], mixed, spectra, self.error).max(axis=1)
            better = again < deviate[rest]
            shares[rest[better]], deviate[rest[better]] = mixed[better], again[better]
        return Found(shares, deviate)

    def excess(self, values: np.ndarray) -> np.ndarray:
        """Return the (2,) first and last group of the window in which one (G,) spectrum has most more than expected."""
        shares, spectra = self.look(values[None]).shares, self.spectra
        squares = self._squares(values[None], shares, spectra, self.error)[0]
        windows = windows_of(len(values))
        more = windows.sums(values[None])[0] > windows.sums(self._expected(values[None], shares, spectra)[0])[0]
        at = int(np.where(more, squares, -1).argmax())
        return np.array([windows.starts[at], windows.stops[at] - 1])

    def _squares(
        self, values: np.ndarray, shares: np.ndarray, spectra: np.ndarray, error: np.ndarray | float
    ) -> np.ndarray:
        expected, doubt = self._expected(values, shares, spectra)
        return windows_of(values.shape[1]).squares(values, expected, counts=self.counts, error=error, doubt=doubt)

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
        some = np.flatnonzero(values.max(axis=1) > _STRONG_SPIKE) if self.counts else np.arange(len(values))
        if not len(some):
            return values, 0
        rows = values[some]
        expected, _ = self._expected(rows, self._nearest(rows), self.spectra)
        excess = rows - expected
        noise = np.sqrt(np.maximum(expected, np.float32(_LEAST_SPIKE))) if self.counts else np.float32(1.0)
        row, group = np.nonzero(excess > np.float32(_STRONG_SPIKE) * noise)
        if not len(row):
            return values, 0
        last = values.shape[1] - 1
        left = np.where(group > 0, excess[row, np.maximum(group - 1, 0)], 0)
        right = np.where(group < last, excess[row, np.minimum(group + 1, last)], 0)
        alone = np.maximum(left, right) < _BESIDE_SPIKE * excess[row, group]
        row, group = row[alone], group[alone]
        clean = values.copy()
        clean[some[row], group] = expected[row, group]
        return clean, len(row)

    def _nearest(self, values: np.ndarray) -> np.ndarray:
        """Return (n, K) shares: one of the phase that a spectrum is most like."""
        shares = np.zeros((len(values), self.n_phases), np.float32)
        shares[np.arange(len(values)), self.law.evidence(values, self.spectra).argmax(axis=0)] = 1
        return shares

    def with_null(self, values: np.ndarray, *, seed: int) -> Library:
        """Return the library with the deviates of spectra that are drawn from it, and with its errors.

        Every drawn copy of the library has errors as large as its own.

        Parameters
        ----------
        values
            (n, G) spectra like those to come: give intensities, shares, and how much phases vary within.
        seed
            Of the drawn spectra.
        """
        rng = np.random.default_rng(seed)
        rows = values[rng.integers(len(values), size=_N_DRAWN)]
        noise = replace(self, error=0.0)
        shares, null, squares = noise.look(rows).shares, [], []
        for part in np.array_split(np.arange(_N_DRAWN), _N_COPIES):
            copy = self._copy(rng)
            expected, _ = copy._expected(rows[part], shares[part], copy.spectra)
            some = drawn(expected, self.law, rng)
            found = noise.look(some)
            null.append(found.deviate)
            squares.append(noise._squares(some, found.shares, self.spectra, 0.0))
        tail = _tail_of(np.concatenate(squares))
        return replace(self, null=np.sort(np.concatenate(null)), tail=tail).with_errors(values)

    def with_errors(self, values: np.ndarray) -> Library:
        """Return the library with the errors of its windows that (n, G) spectra of its phases show.

        Lines that vary within a phase, as the carbon of a support does, deviate by more than noise in many spectra:
        what many show is not new. Every window has its own error, so other lines are seen as well as before.
        """
        shares = replace(self, error=0.0).look(values).shares
        squares = self._squares(values, shares, self.spectra, 0.0)
        clear = _CLEAR * _SCATTER / np.sqrt(max(_TAIL * len(values), 1.0))
        excess = _tail_of(squares) / np.maximum(self.tail, _LEAST_TAIL) - clear
        windows = windows_of(values.shape[1])
        mean = windows.sums(self._expected(values, shares, self.spectra)[0]).mean(axis=0)
        return replace(self, error=windows.relative_error(excess, mean, counts=self.counts))

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


def _tail_of(squares: np.ndarray) -> np.ndarray:
    """Return the (J,) mean of the largest of (n, J) squared deviates, limited so that none of them decides."""
    n = max(1, round(_TAIL * len(squares)))
    top = np.partition(squares, len(squares) - n, axis=0)[len(squares) - n :]
    return np.minimum(top, np.float32(_MOST_SQUARE)).mean(axis=0)
