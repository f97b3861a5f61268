"""How large errors of values are: of labelled spectra that were left out, as they are and with part of their counts.

A predictor that was learnt from long exposures errs more on short ones. How much is measured: each left-out spectrum is
also predicted from a part of its counts, drawn one by one, which is what a shorter exposure would have recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Parts of the counts of the labelled spectra at which errors are measured, too, and counts in a spectrum at least.
_PARTS, _LEAST = (1 / 4, 1 / 16, 1 / 64, 1 / 256), 4.0


@dataclass(frozen=True)
class Errors:
    """Standard deviation of the errors of values, by the counts in a spectrum.

    Attributes
    ----------
    counts
        In a spectrum, falling; those of the labelled spectra first. One where spectra are no counts.
    sizes
        Root mean square of the errors at each of them.
    """

    counts: tuple[float, ...]
    sizes: tuple[float, ...]

    @classmethod
    def of(cls, counts: list[float], errors: np.ndarray) -> Errors:
        """Return those of (L, n) errors of n left-out values at L numbers of counts; with fewer they are no smaller."""
        sizes = np.maximum.accumulate(np.sqrt(np.mean(errors**2, axis=1)))
        return cls(tuple(map(float, counts)), tuple(map(float, sizes)))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return the (n,) sizes at (n,) counts: even in logarithms between those measured, beyond as at the last."""
        known, sizes = np.log(self.counts[::-1]), np.log(np.maximum(self.sizes[::-1], 1e-30))
        return np.exp(np.interp(np.log(np.maximum(counts, 1e-30)), known, sizes))


def are_counts(rows: np.ndarray) -> bool:
    """Return whether spectra are whole numbers from 0, of which there are some."""
    return bool(len(rows)) and bool(rows.min() >= 0) and not (rows % 1).any()


def with_fewer_counts(rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return (n, E) spectra with smaller and smaller parts of their counts; none where they are no counts.

    Parameters
    ----------
    rows
        As recorded.
    seed
        Of the counts that are drawn.
    """
    if not are_counts(rows):
        return []
    rng, whole = np.random.default_rng(seed), rows.astype(np.int64)
    usual = float(np.median(whole.sum(axis=1)))
    return [rng.binomial(whole, part).astype(np.float32) for part in _PARTS if part * usual >= _LEAST]
