"""Is a spectrum of any of the phases? Windows of energy against what phases and their mixtures can be.

n spectra, G groups of channels, K phases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.statistics import signed_squares

if TYPE_CHECKING:
    from hyperspy_specml.latent._laws import Law

# Widths of the windows in groups of channels: one, two and four lines.
_WINDOWS = (3, 6, 12)
# Iterations for the shares of the phases in a spectrum: after ten, that of an absent phase is still about a per cent,
# which looks like an error of the spectra.
_ITERATIONS = 30
# Values worked on at a time.
_SLAB = 1 << 21
# Smallest expected counts of a window.
_LEAST_EXPECTED = 1e-3
# Largest part of the simulated spectra whose tail is taken as exponential.
_TAIL = 0.1
# Smallest mean excess over the start of that tail. Counts of n and more where few are expected are no rarer than
# exp(-d / 2), d their squared deviate (Chernoff); of few counts the largest deviates drawn hardly differ, which says
# nothing about larger ones.
_LEAST_EXCESS = 2.0
# Relative model errors that are tried, and the part of the spectra of a map that are certainly of its phases.
_ERRORS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
_ORDINARY = 0.9
# Groups of spectra with like intensity, each with a null distribution of its own, and spectra drawn for each.
_N_GROUPS, _PER_GROUP = 4, 1000


def expected_mixture(values: np.ndarray, phases: np.ndarray, law: Law) -> np.ndarray:
    """Return the (n, G) spectra of phases and of their mixtures that describe (n, G) spectra best.

    Parameters
    ----------
    values
        Spectra as the law takes them.
    phases
        (K, G) spectra of any scale.
    law
        Of the noise.
    """
    if not isinstance(law, MultinomialLaw):
        return np.maximum(values @ np.linalg.pinv(phases), 0).astype(np.float32) @ phases.astype(np.float32)
    spectra = (phases / phases.sum(axis=1, keepdims=True)).astype(np.float32)
    shares = np.full((len(values), len(phases)), 1 / len(phases), np.float32)
    total = np.maximum(values.sum(axis=1, keepdims=True), 1e-30)
    for _ in range(_ITERATIONS):
        shares *= (values / np.maximum(shares @ spectra, 1e-30)) @ spectra.T / total
    return total * (shares @ spectra)


def largest_deviation(values: np.ndarray, expected: np.ndarray, law: Law, error: float = 0.0) -> np.ndarray:
    """Return (n,) the largest squared deviate of any window of energy.

    Parameters
    ----------
    values, expected
        (n, G) spectra and their means.
    law
        Of the noise.
    error
        Relative error of the means of windows.
    """
    found = np.zeros(len(values), np.float32)
    sums, means = (_running(table) for table in (values, expected))
    for width in _WINDOWS:
        if width > values.shape[1]:
            break
        x, mean = ((s[:, width:] - s[:, :-width]).astype(np.float32) for s in (sums, means))
        if isinstance(law, MultinomialLaw):
            mean = np.maximum(mean, np.float32(_LEAST_EXPECTED))
            squares = np.abs(signed_squares(x, mean)) / (1 + np.float32(error**2) * mean)
        else:
            squares = (x - mean) ** 2 / (width + np.float32(error**2) * mean**2)
        np.maximum(found, squares.max(axis=1), out=found)
    return found


def _running(table: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(table), table.shape[1] + 1))
    np.cumsum(table, axis=1, out=sums[:, 1:])
    return sums


def deviations(values: np.ndarray, phases: np.ndarray, law: Law, error: float) -> np.ndarray:
    """Return (n,) the largest squared deviates of spectra from phases and their mixtures, slab by slab.

    Parameters
    ----------
    values, phases, law, error
        As in `expected_mixture` and `largest_deviation`.
    """
    found = np.empty(len(values), np.float32)
    step = max(1, _SLAB // values.shape[1])
    for start in range(0, len(values), step):
        rows = values[start : start + step]
        found[start : start + step] = largest_deviation(rows, expected_mixture(rows, phases, law), law, error)
    return found


def drawn(expected: np.ndarray, law: Law, rng: np.random.Generator) -> np.ndarray:
    """Draw (n, G) spectra of these means.

    Parameters
    ----------
    expected
        (n, G) means.
    law
        Of the noise.
    rng
        Random numbers.
    """
    if isinstance(law, MultinomialLaw):
        return rng.poisson(np.maximum(expected, 0)).astype(np.float32)
    return (expected + rng.standard_normal(expected.shape)).astype(np.float32)


def model_error(values: np.ndarray, phases: np.ndarray, law: Law, *, seed: int) -> float:
    """Return the relative error of the phases' spectra in windows that makes most of a map ordinary.

    Parameters
    ----------
    values
        (n, G) spectra of the map that the phases were learnt from.
    phases, law
        As in `expected_mixture`.
    seed
        Of the simulated spectra.
    """
    mean = expected_mixture(values, phases, law)
    null = deviations(drawn(mean, law, np.random.default_rng(seed)), phases, law, 0.0)
    limit = float(np.quantile(null, _ORDINARY)) if len(null) else 0.0
    for error in _ERRORS:
        if len(values) == 0 or np.quantile(largest_deviation(values, mean, law, error), _ORDINARY) <= 1.05 * limit:
            return error
    return _ERRORS[-1]


def p_values(
    deviates: np.ndarray, intensity: np.ndarray, expected: np.ndarray, members: np.ndarray, *,
    phases: np.ndarray, law: Law, error: float, seed: int,
) -> np.ndarray:  # fmt: skip
    """Return the probabilities of so large deviates in spectra of the phases and their mixtures.

    Parameters
    ----------
    deviates, intensity
        (n,) of all spectra.
    expected, members
        (m, G) means of some of them, from which spectra are drawn, and their (m,) indices.
    phases, law, error
        As in `deviations`.
    seed
        Of the drawn spectra.
    """
    null = deviations(drawn(expected, law, np.random.default_rng(seed)), phases, law, error)
    edges = np.quantile(intensity[members], np.linspace(0, 1, _N_GROUPS + 1)[1:-1])
    mine, theirs = np.searchsorted(edges, intensity), np.searchsorted(edges, intensity[members])
    p = np.ones(len(deviates))
    for k in range(_N_GROUPS):
        like = null[theirs == k] if (theirs == k).sum() >= 50 else null
        p[mine == k] = tail_probability(like, deviates[mine == k])
    return p


def n_drawn() -> int:
    """Return how many spectra make a null distribution."""
    return _N_GROUPS * _PER_GROUP


def tail_probability(null: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the part of a null distribution of squared deviates above values; far out, of an exponential tail.

    Parameters
    ----------
    null
        (m,) drawn under the null hypothesis.
    values
        (n,) observed.
    """
    ordered = np.sort(null.astype(np.float64))
    p = (1 + len(ordered) - np.searchsorted(ordered, values, side="left")) / (1 + len(ordered))
    start = float(np.quantile(ordered, 1 - _TAIL))
    above = ordered[ordered > start] - start
    excess = max(float(above.mean()) if len(above) else 0.0, _LEAST_EXCESS)
    tail = _TAIL * np.exp(-(np.asarray(values, np.float64) - start) / excess)
    return np.clip(np.where(values > start, tail, p), 0, 1)
