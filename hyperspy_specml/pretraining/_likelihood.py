"""Classes by the likelihood of counts: the spectrum of a class is a mixture of those that the encoder was trained on.

In twenty spectra of fifty counts a class has a thousand, which say little of a thousand channels and much of the few
numbers by which mixtures of known spectra differ. These are found in units of the noise of counts, drawn to their mean
as far as counts leave them open, and new spectra belong to the class that makes their counts most likely.

n labelled spectra, E channels, C classes, K pure spectra, P <= K - 1 ways in which their mixtures differ.

References
----------
W. Cash, Astrophys. J. 228 (1979) 939 (likelihood of counts); A. C. Aitken, Proc. R. Soc. Edinb. 55 (1936) 42
(generalised least squares); B. Efron, C. Morris, J. Am. Stat. Assoc. 68 (1973) 117 (drawing to the mean).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import nnls
from scipy.special import log_softmax

from hyperspy_specml.pretraining._heads import NEVER, Head

# Ways in which mixtures differ, part of the largest, that are rounding errors.
_ROUNDING = 1e-6
# Part of the mean spectrum that the spectrum of a class holds in every channel at least.
_FLOOR = 1e-3
# Part of the counts of all data that a pure spectrum makes up at least if it is taken for one that they hold.
_LEAST = 0.003
# Folds of the labels that are left out.
_FOLDS = 5


def _held(pure: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return (K,) bool: which of the pure spectra make up more than a small part of a measured one."""
    noise = np.sqrt(np.maximum(measured, _FLOOR * max(float(measured.mean()), 1e-30)))
    shares, _ = nnls((pure / noise).T, measured / noise)
    return shares * pure.sum(axis=1) > _LEAST * max(float(measured.sum()), 1e-30)


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Spectra that mixtures of pure ones may have.

    Attributes
    ----------
    channels
        (E,) bool, those that are compared.
    mean
        (channels,) in sum one.
    axes
        (P, channels) orthonormal: how mixtures differ from the mean, in units of the root of the mean.
    variance
        (P,) of the pure spectra along the axes.
    """

    channels: np.ndarray
    mean: np.ndarray = field(repr=False)
    axes: np.ndarray = field(repr=False)
    variance: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, pure: np.ndarray, channels: np.ndarray, measured: np.ndarray | None = None) -> Mixtures:
        """Return the mixtures of spectra.

        Parameters
        ----------
        pure
            (K, E) noise-free spectra.
        channels
            (E,) bool, those that the data record.
        measured
            (E,) mean measured spectrum: the mean is between it and that of the pure ones, where these do not have, say,
            the background of the data.
        """
        shares = pure[:, channels] / np.maximum(pure[:, channels].sum(axis=1, keepdims=True), 1e-30)
        mean = shares.mean(axis=0)
        differences = shares - mean
        if measured is not None:
            mean = (mean + measured[channels] / max(float(measured[channels].sum()), 1e-30)) / 2
        mean = np.maximum(mean, _FLOOR * mean.mean())
        _, sizes, axes = np.linalg.svd(differences / np.sqrt(mean), full_matrices=False)
        seen = sizes > _ROUNDING * sizes[0]
        return cls(channels, mean, axes[seen], sizes[seen] ** 2 / len(pure))

    @classmethod
    def tried(cls, pure: np.ndarray, channels: np.ndarray, measured: np.ndarray) -> list[Mixtures]:
        """Return those to choose from: of all pure spectra and of those that the data hold, about either mean.

        Parameters
        ----------
        pure, channels, measured
            See `of`.
        """
        some = pure[_held(pure[:, channels], measured[channels])]
        several = [pure, some] if 1 < len(some) < len(pure) else [pure]
        return [cls.of(one, channels, mean) for one in several for mean in (None, measured)]

    def fit(self, rows: np.ndarray, truth: np.ndarray, n_classes: int) -> Head:
        """Return the head that says how likely classes make the counts.

        Parameters
        ----------
        rows, truth
            (n, E) counts and (n,) classes.
        n_classes
            Number of classes C.
        """
        head = self._fitted(rows, truth, n_classes)
        return replace(head, error=self._left_out(rows, truth, n_classes))

    def _fitted(self, rows: np.ndarray, truth: np.ndarray, n_classes: int) -> Head:
        counts = np.maximum(rows[:, self.channels], 0).astype(float)
        doses = np.maximum(counts.sum(axis=1), 1e-30)
        places = ((counts / doses[:, None] - self.mean) / np.sqrt(self.mean)) @ self.axes.T  # (n, P)
        classes = np.flatnonzero(np.bincount(truth, minlength=n_classes))
        belongs = truth == classes[:, None]
        of_class = belongs @ doses  # counts of each class
        found = (belongs * doses) @ places / of_class[:, None]
        within = (doses[:, None] * (places - (belongs.T @ found)) ** 2).sum()
        free = (len(truth) - len(classes)) * len(self.axes)
        excess = float(within) / free if free and within else 1.0  # variance, in that of counts
        centre = doses @ places / doses.sum()
        known = self.variance / (self.variance + excess / of_class[:, None])
        spectra = self.mean + np.sqrt(self.mean) * ((centre + known * (found - centre)) @ self.axes)
        spectra = np.maximum(spectra, _FLOOR * self.mean)
        spectra /= spectra.sum(axis=1, keepdims=True)
        sure = 1 / (excess * (1 + doses.mean() / of_class.mean()))  # spectra of classes have errors, too
        weights, constant = np.zeros((rows.shape[1], n_classes)), np.full(n_classes, NEVER)
        weights[np.ix_(self.channels, classes)] = sure * np.log(spectra / self.mean).T
        constant[classes] = 0.0
        return Head(weights, constant)

    def _left_out(self, rows: np.ndarray, truth: np.ndarray, n_classes: int) -> float:
        """Return the mean negative log likelihood of labels that were left out; infinite where there are too few."""
        from sklearn.model_selection import StratifiedKFold

        counted = np.bincount(truth, minlength=n_classes)
        smallest = int(counted[counted > 0].min())
        if smallest < 2:
            return np.inf
        logits = np.empty((len(truth), n_classes))
        for train, test in StratifiedKFold(min(_FOLDS, smallest), shuffle=True, random_state=0).split(truth, truth):
            logits[test] = self._fitted(rows[train], truth[train], n_classes)(np.maximum(rows[test], 0))
        return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())
