"""What cheap methods see of spectra: roots of shares or values as recorded, their components, those of aligned spectra.

n spectra, E channels, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Principal components that are kept, at most.
_MOST = 16
# Largest shift that is looked for, part of the channels.
_SHIFTS = 0.03
# End of the kinds of features that are values as recorded: roots of shares know neither signs nor intensities. Not of
# counts, whose number is as much the time of exposure.
AS_RECORDED = ", as recorded"


@dataclass(frozen=True, eq=False)
class Features:
    """From (n, E) spectra on a grid to (n, F) numbers of mean 0 and of a deviation of about 1.

    Attributes
    ----------
    kind
        "raw", "pca" or "aligned": components of spectra that were moved to where they are most like the mean spectrum,
        and last how far they were: the shift of an edge may be what is asked for. "raw, as recorded" and "pca, as
        recorded": of the values themselves. "counts": as they are.
    mean, scale
        (F,) what is taken off the features, and what they are divided by: roots of shares by one number, as noise is
        as large in all of them, components each by its deviation.
    basis
        (channels that are compared, P) principal components; of "raw" none.
    centre
        (E,) mean root of the shares; of "aligned" what spectra are compared with.
    """

    kind: str
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, kind: str, pool: np.ndarray) -> Features:
        """Return the features of a kind, from (m, E) spectra without labels."""
        centre = (pool if kind.endswith(AS_RECORDED) else _roots(pool)).mean(axis=0)
        found = cls(kind, np.zeros(1), np.ones(1), np.zeros((pool.shape[1], 0)), centre)
        values, _ = found._prepared(pool)
        raw = kind.removesuffix(AS_RECORDED) == "raw"
        if not raw:
            _, _, vectors = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
            found = replace(found, basis=vectors[:_MOST].T.copy())
        values = found._values(pool)
        deviation = values.std(axis=0)
        seen = deviation > 1e-9 * max(deviation.max(), 1e-30)
        scale = one_scale(values) if raw else np.where(seen, deviation, np.inf)
        return replace(found, mean=values.mean(axis=0), scale=scale)

    @classmethod
    def counts(cls, n_channels: int) -> Features:
        """Return the features that are the counts."""
        return cls("counts", np.zeros(1), np.ones(1), np.zeros((n_channels, 0)), np.zeros(n_channels))

    def first(self, n: int) -> Features:
        """Return the features with the first n principal components only."""
        kept = np.r_[: min(n, self.basis.shape[1]), self.basis.shape[1] : len(self.mean)]
        return replace(self, mean=self.mean[kept], scale=self.scale[kept], basis=self.basis[:, :n])

    def in_one_unit(self) -> Features:
        """Return the features with all components in the unit of the largest: small ones, mostly noise, count less."""
        scale, n = self.scale.copy(), self.basis.shape[1]
        scale[:n] = scale[:n].max(initial=0.0, where=np.isfinite(scale[:n])) or np.inf
        return replace(self, scale=scale)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of spectra."""
        return (self._values(rows) - self.mean) / self.scale

    def _values(self, rows: np.ndarray) -> np.ndarray:
        values, beside = self._prepared(rows)
        return np.concatenate([values @ self.basis if self.basis.shape[1] else values, beside], axis=1)

    def _prepared(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return roots of shares, and what is known beside them: (n, 1) shifts, or nothing."""
        if self.kind == "counts":
            return np.maximum(rows, 0), np.zeros((len(rows), 0))
        if self.kind.endswith(AS_RECORDED):
            return rows - self.centre, np.zeros((len(rows), 0))
        if self.kind != "aligned":
            return _roots(rows) - self.centre, np.zeros((len(rows), 0))
        moved, shifts = _aligned(rows, self.centre**2)
        return _roots(moved), shifts[:, None].astype(float)


def one_scale(values: np.ndarray) -> np.ndarray:
    """Return (F,) times the same number: the root mean square of (n, F) values about their means."""
    size = float(np.sqrt(values.var(axis=0).mean()))
    return np.full(values.shape[1], size if size > 1e-30 else np.inf)


def _roots(rows: np.ndarray) -> np.ndarray:
    total = np.maximum(np.abs(rows).sum(axis=1, keepdims=True), 1e-30)
    return np.sqrt(np.maximum(rows, 0) / total * rows.shape[1])


def _aligned(rows: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return spectra moved by whole channels to where the Poisson likelihood of a template is largest, and by how many.

    The ends, as many channels as spectra may be moved by, are left out: nothing was recorded of some of them.
    """
    from hyperspy_specml.streaming import shift_channels

    most = max(1, int(_SHIFTS * rows.shape[1]))
    shifts = np.arange(-most, most + 1)
    inner = slice(most, rows.shape[1] - most)
    floor = 1e-3 * max(float(template.mean()), 1e-30)
    moved = np.stack([np.roll(template, by)[inner] for by in shifts])
    moved = np.maximum(moved, floor)
    score = rows[:, inner] @ np.log(moved).T - rows[:, inner].sum(axis=1, keepdims=True) * np.log(moved.sum(axis=1))
    best = shifts[score.argmax(axis=1)]
    return shift_channels(rows, -best)[:, inner], best
