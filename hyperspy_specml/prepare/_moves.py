"""Spectra that are moved along energy, in the compressed space: what networks learn to be indifferent to.

Models of spectra are moved, never counts: the scores of a moved spectrum are a linear function of its scores. Principal
vectors of a map that does not drift cannot describe moved spectra, so some of what these lack is added to the basis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyperspy_specml.prepare._training_data import TrainingData
    from hyperspy_specml.statistics import PrincipalBasis

_MOVES = 48  # ways in which a spectrum is moved
_BEYOND = 1.25  # times the largest move: at the end of its range a network would know copies on one side only
_STAYING = 1 / 4  # share of the spectra that are left where they are
_STREAM = 0x6D6F7665  # of the random numbers: the moves are the same for all seeds
_LEAST_ADDED = 0.05  # mean square along an added vector, in units of the noise of one spectrum
_MOST_ADDED = 24
# Moves that the basis has room for: shifts up and down, whole and half, and stretches.
_FARTHEST = np.array([(1.0, 0.0), (-1.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.0, 1.0), (0.0, -1.0)])


@dataclass(frozen=True)
class Moves:
    """Shifts, and stretches about the middle, of the energy axis.

    Attributes
    ----------
    channels
        (E,) numbers of the channels in use, rising.
    largest
        Largest shift, and largest further shift of the ends by a stretch, in channels.
    """

    channels: np.ndarray
    largest: float

    def moved(self, spectra: np.ndarray, by: np.ndarray) -> Iterator[np.ndarray]:
        """Yield spectra that are moved in several ways; what comes in at the ends is like the channel there.

        Parameters
        ----------
        spectra
            (n, E) expectations, no counts.
        by
            (M, 2) shifts of all channels upwards and of the ends outwards, in units of `largest`.
        """
        channels = self.channels.astype(float)
        first, last = channels[0], channels[-1]
        middle, half = 0.5 * (first + last), 0.5 * (last - first)
        curve = CubicSpline(channels, spectra, axis=1)
        for shift, outwards in self.largest * by:
            wider = 1 + outwards / half  # and as much lower
            yield curve(np.clip(middle + (channels - middle - shift) / wider, first, last)) / wider

    def operators(self, basis: PrincipalBasis, centre: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (M, P, P) and (M, P): ``scores @ turn + step`` are the normalised scores of moved spectra.

        Moves go a quarter beyond `largest`.

        Parameters
        ----------
        basis
            Of the scores.
        centre, scale
            (P,) and a number: normalised scores are ``(scores - centre) / scale``.
        """
        components, projector = basis.components(), basis.projector()
        mean = centre @ components + basis.offset
        by, turns, steps = np.random.default_rng(_STREAM).uniform(-_BEYOND, _BEYOND, (_MOVES, 2)), [], []
        for moved in self.moved(np.vstack([components, mean]), by):
            turns.append(moved[:-1] @ projector)
            steps.append(((moved[-1] - basis.offset) @ projector - centre) / scale)
        n_still = round(_STAYING / (1 - _STAYING) * len(turns))
        still, none = np.eye(basis.n_vectors), np.zeros(basis.n_vectors)
        return np.array(turns + n_still * [still]), np.array(steps + n_still * [none])

    def widened(self, data: TrainingData) -> TrainingData:
        """Return the data on bases that have room for moved spectra, at most twice as large.

        Parameters
        ----------
        data
            Whose training fold says what moves: its mean spectrum and its leading principal vectors.
        """
        k, basis = data.rank.chosen, data.fold_basis
        found, added = self._lacking(basis, data.folds.mean, k)
        room = min(_MOST_ADDED, basis.n_vectors, len(basis.weights) - basis.n_vectors)
        n_added = min(int((found > _LEAST_ADDED).sum()), room)
        if n_added < 1:
            return data
        whole = self._lacking(data.basis, data.summary.moments.mean, k)[1]  # its noise vectors are others
        return data.on(_with(basis, added[:n_added]), basis=_with(data.basis, whole[:n_added]))

    def _lacking(self, basis: PrincipalBasis, mean: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what a basis lacks of moved spectra: mean squares, falling, and their whitened (Q, E) vectors."""
        size = np.sqrt(np.maximum(basis.eigenvalues[:k] - 1, 0))
        spectra = np.vstack([mean, size[:, None] * basis.components()[:k] + basis.offset])
        rows = np.vstack([(moved - basis.offset) * basis.weights for moved in self.moved(spectra, _FARTHEST)])
        _, found, vectors = np.linalg.svd(_without(rows, basis.vectors), full_matrices=False)
        return found**2 / len(_FARTHEST), vectors


def _without(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return (n, E) rows without what lies along orthonormal vectors (E, P)."""
    return rows - (rows @ vectors) @ vectors.T


def _with(basis: PrincipalBasis, added: np.ndarray) -> PrincipalBasis:
    """Return the basis with more vectors, what of (Q, E) rows is orthogonal to it."""
    more = np.linalg.qr(_without(_without(added, basis.vectors), basis.vectors).T)[0]
    return replace(basis, vectors=np.column_stack([basis.vectors, more]))
