"""Phases known so far, and which spectra they do not explain.

n spectra, G groups of channels, K phases. A phase that was learnt from few counts has a spectrum with noise of its
own: its part in the deviates is taken out, or every pixel that follows a new phase would look new.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent import MultinomialLaw, drawn, tail_probability
from hyperspy_specml.live._spectra import Spectra
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
# Part of the mean spectrum that is added to what a model expects: no channel is impossible.
_FLOOR_OF_MODEL = np.float32(1e-3)
# Added to squared lengths of spectra: shares of phases that are alike stay finite.
_RIDGE = 1e-6
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
    of_model
        Whether phase 0 is none, but what a model expects of each spectrum.
    """

    sums: np.ndarray
    n_spectra: np.ndarray
    law: Law
    error: np.ndarray | float = 0.0
    null: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    tail: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    of_model: bool = False

    @property
    def n_phases(self) -> int:
        """Number of phases K."""
        return len(self.sums)

    @property
    def counts(self) -> bool:
        """Whether the values are counts."""
        return isinstance(self.law, MultinomialLaw)

    @cached_property
    def spectra(self) -> np.ndarray:
        """(K, G) spectra: of sum one for counts, else of length one; 0 of phase 0 where that is a model."""
        if not self.counts:
            found = self.sums / np.maximum(np.linalg.norm(self.sums, axis=1, keepdims=True), _TINY)
        else:
            found = self.sums + _PSEUDO_COUNTS * self._mean
            found /= np.maximum(found.sum(axis=1, keepdims=True), _TINY)
        if self.of_model:
            found[0] = 0
        return found

    @property
    def _mean(self) -> np.ndarray:
        mean = self.sums.sum(axis=0)
        return mean / max(float(mean.sum()), _TINY)

    @cached_property
    def _single(self) -> np.ndarray:
        return self.spectra.astype(np.float32)

    @cached_property
    def _window_sums(self) -> np.ndarray:
        return windows_of(self.sums.shape[1]).sums(self.spectra)

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

    def look(self, spectra: Spectra | np.ndarray) -> Found:
        """Compare n spectra with the phases, and those that are none of them with mixtures."""
        spectra = Spectra.of(spectra)
        shares = self._nearest(spectra)
        deviate = self._squares(spectra, shares, self.error).max(axis=1)
        rest = np.flatnonzero(deviate > _SCREEN)
        if len(rest) and self.n_phases > 1:
            mixed = self._shares(spectra[rest])
            again = self._squares(spectra[rest], mixed, self.error).max(axis=1)
            better = again < deviate[rest]
            shares[rest[better]], deviate[rest[better]] = mixed[better], again[better]
        return Found(shares, deviate)

    def excess(self, spectrum: Spectra | np.ndarray) -> np.ndarray:
        """Return the (2,) first and last group of the window in which one spectrum has most more than expected."""
        spectrum = Spectra.of(spectrum)
        shares, windows = self.look(spectrum).shares, windows_of(self.sums.shape[1])
        squares = self._squares(spectrum, shares, self.error)[0]
        more = spectrum.sums[0] > self._expected(spectrum, shares)[0][0]
        at = int(np.where(more, squares, -1).argmax())
        return np.array([windows.starts[at], windows.stops[at] - 1])

    def _squares(self, spectra: Spectra, shares: np.ndarray, error: np.ndarray | float) -> np.ndarray:
        """Return the (n, J) squared deviates of windows from mixtures of phases."""
        mean, doubt = self._expected(spectra, shares)
        windows = windows_of(self.sums.shape[1])
        return windows.squares(spectra.sums, mean, counts=self.counts, error=error, doubt=doubt)

    def _expected(self, spectra: Spectra, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, J) means of windows, and (n,) by how much variances are larger for the noise of the phases."""
        windows, squares = shares @ self._window_sums, shares**2
        if self.of_model:
            windows += shares[:, :1] * windows_of(self.sums.shape[1]).sums(self._base(spectra))
            squares[:, 0] = 0
        intensity = self._intensity(spectra, shares)
        if self.counts:
            doubt = intensity * (squares / np.maximum(self.sums.sum(axis=1), 1.0).astype(np.float32))
        else:
            doubt = squares / np.maximum(self.n_spectra, 1).astype(np.float32)
        return intensity * windows, doubt.sum(axis=1)

    def _mixed(self, spectra: Spectra, shares: np.ndarray) -> np.ndarray:
        """Return the (n, G) mixtures of phases, in the scale of `spectra`."""
        mixed = shares @ self._single
        return mixed + shares[:, :1] * self._base(spectra) if self.of_model else mixed

    def _intensity(self, spectra: Spectra, shares: np.ndarray) -> np.ndarray:
        """Return (n, 1) what mixtures are multiplied with."""
        if self.counts:
            return spectra.totals
        mixed = self._mixed(spectra, shares)
        size = np.maximum((mixed**2).sum(axis=1, keepdims=True), np.float32(_TINY))
        return np.asarray(np.maximum((spectra.values * mixed).sum(axis=1, keepdims=True), 0) / size)

    def _base(self, spectra: Spectra) -> np.ndarray:
        """Return the (n, G) spectra that the model expects, in the scale of `spectra`."""
        assert spectra.expected is not None
        if not self.counts:
            size = np.linalg.norm(spectra.expected, axis=1, keepdims=True)
            return np.asarray(spectra.expected / np.maximum(size, np.float32(_TINY)), np.float32)
        found = np.maximum(spectra.expected, 0)
        found = found / np.maximum(found.sum(axis=1, keepdims=True), np.float32(_TINY))
        return (found + _FLOOR_OF_MODEL * self._mean.astype(np.float32)) / np.float32(1 + _FLOOR_OF_MODEL)

    def means(self, spectra: Spectra) -> np.ndarray:
        """Return the (n, G) means of spectra if each is of the phase that it is most like."""
        shares = self._nearest(spectra)
        return self._intensity(spectra, shares) * self._mixed(spectra, shares)

    def _nearest(self, spectra: Spectra) -> np.ndarray:
        """Return (n, K) shares: one of the phase that a spectrum is most like."""
        shares = np.zeros((len(spectra), self.n_phases), np.float32)
        best = np.zeros(len(spectra), np.intp)
        if self.n_phases > 1:
            phases = np.maximum(self.spectra, _TINY) if self.counts else self.spectra
            evidence = self.law.evidence(spectra.values, phases)
            if self.of_model:
                base = self._base(spectra)
                product = (spectra.values * (np.log(np.maximum(base, _TINY)) if self.counts else base)).sum(axis=1)
                evidence[0] = product if self.counts else 0.5 * np.maximum(product, 0) ** 2
            best = evidence.argmax(axis=0)
        shares[np.arange(len(spectra)), best] = 1
        return shares

    def _shares(self, spectra: Spectra) -> np.ndarray:
        """Return the (n, K) shares of phases that describe spectra best."""
        base = self._base(spectra) if self.of_model else None
        if not self.counts:
            return self._least_squares(spectra.values, base)
        values, phases, tiny = spectra.values, self._single, np.float32(_TINY)
        shares = np.full((len(values), self.n_phases), 1 / self.n_phases, np.float32)
        total = np.maximum(spectra.totals, tiny)
        for _ in range(_ITERATIONS):
            mixed = shares @ phases if base is None else shares @ phases + shares[:, :1] * base
            ratio = values / np.maximum(mixed, tiny)
            gain = ratio @ phases.T
            if base is not None:
                gain[:, 0] = (ratio * base).sum(axis=1)
            shares *= gain / total
        return shares

    def _least_squares(self, values: np.ndarray, base: np.ndarray | None) -> np.ndarray:
        phases = self._single
        right, left = values @ phases.T, np.repeat((phases @ phases.T)[None], len(values), axis=0)
        if base is not None:
            right[:, 0], left[:, 0] = (values * base).sum(axis=1), base @ phases.T
            left[:, :, 0], left[:, 0, 0] = left[:, 0], 1
        left += np.float32(_RIDGE) * np.eye(self.n_phases, dtype=np.float32)
        found = np.maximum(np.linalg.solve(left, right[..., None])[..., 0], 0)
        return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), np.float32(_TINY)), np.float32)

    def with_null(self, spectra: Spectra | np.ndarray, *, seed: int) -> Library:
        """Return the library with the deviates of spectra that are drawn from it, and with its errors.

        Every drawn copy of the library has errors as large as its own.

        Parameters
        ----------
        spectra
            Like those to come: they give intensities, shares, and how much phases vary within.
        seed
            Of the drawn spectra.
        """
        rng, spectra = np.random.default_rng(seed), Spectra.of(spectra)
        rows = spectra[rng.integers(len(spectra), size=_N_DRAWN)]
        noise = replace(self, error=0.0)
        shares, null, squares = noise.look(rows).shares, [], []
        for part in np.array_split(np.arange(_N_DRAWN), _N_COPIES):
            copy, some = self._copy(rng), rows[part]
            mean = copy._intensity(some, shares[part]) * copy._mixed(some, shares[part])
            new = Spectra(drawn(mean, self.law, rng), some.expected)
            found = noise.look(new)
            null.append(found.deviate)
            squares.append(noise._squares(new, found.shares, 0.0))
        tail = _tail_of(np.concatenate(squares))
        learnt = replace(self, null=np.sort(np.concatenate(null)), tail=tail)
        return learnt.with_errors(spectra[:: -(-len(spectra) // _N_DRAWN)])

    def with_errors(self, spectra: Spectra | np.ndarray) -> Library:
        """Return the library with the errors of its windows that spectra of its phases show.

        Lines that vary within a phase, as the carbon of a support does, deviate by more than noise in many spectra:
        what many show is not new. Every window has its own error, so other lines are seen as well as before.
        """
        spectra = Spectra.of(spectra)
        shares = replace(self, error=0.0).look(spectra).shares
        clear = _CLEAR * _SCATTER / np.sqrt(max(_TAIL * len(spectra), 1.0))
        excess = _tail_of(self._squares(spectra, shares, 0.0)) / np.maximum(self.tail, _LEAST_TAIL) - clear
        mean = self._expected(spectra, shares)[0].mean(axis=0)
        error = windows_of(self.sums.shape[1]).relative_error(excess, mean, counts=self.counts)
        return replace(self, error=error)

    def _copy(self, rng: np.random.Generator) -> Library:
        if self.counts:
            return replace(self, sums=rng.gamma(np.maximum(self.sums, _TINY)))
        return replace(self, sums=self.sums + rng.standard_normal(self.sums.shape) * np.sqrt(self.n_spectra)[:, None])

    def p_values(self, deviate: np.ndarray) -> np.ndarray:
        """Return the (n,) probability of so large deviates in spectra of the phases."""
        return tail_probability(self.null, deviate)


def _tail_of(squares: np.ndarray) -> np.ndarray:
    """Return the (J,) mean of the largest of (n, J) squared deviates, limited so that none of them decides."""
    n = max(1, round(_TAIL * len(squares)))
    top = np.partition(squares, len(squares) - n, axis=0)[len(squares) - n :]
    return np.minimum(top, np.float32(_MOST_SQUARE)).mean(axis=0)
