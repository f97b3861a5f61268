"""Make a model hold for spectra that are moved along energy. E channels, P vectors, B those of the model, N moves.

A network that is to learn what a shift does to sharp lines has to draw every line in every place. That is known,
though: the spectra are moved. So a network only learns spectra as they are, and a shift and a stretch are found for
each spectrum, by the likelihood of what is known of them without a network: their mean and their covariance. Models
of spectra are moved, never counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.models import MovingModel
from hyperspy_specml.statistics import PrincipalBasis, channel_weights, leading_vectors

if TYPE_CHECKING:
    from typing import Self

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.prepare import Moves
    from hyperspy_specml.statistics import NoiseModel

_BEYOND = 1.25  # times the largest move: at the end of its range a mean of likely moves would be drawn inwards
_SPACING = 0.5  # channels between two moves of the grid, well below the width of a line
_FEWEST, _MOST = 5, 33  # of them along each axis; so many take some MB in a file
_THINNED = 2  # every second move along either axis says what the basis needs room for
_LEAST = 0.05  # mean square along a vector, in units of the noise of one spectrum
_MOST_VECTORS = 192
_ROUNDING = 1e-3  # of the largest singular value of all linear maps: what is left out of them
_LEAST_SIGNAL = 0.02  # variance of a component, in units of the noise


def moving_model(
    model: FittedModel, moves: Moves, scores: np.ndarray, noise: NoiseModel, *, n_signal: int, fraction: float = 1.0
) -> MovingModel:
    """Return the model for spectra that may each be moved.

    Parameters
    ----------
    model
        Of spectra as they are.
    moves
        How they may be moved.
    scores
        (n, B) of spectra as they are, on the basis of the model.
    noise
        Noise model.
    n_signal
        Principal components that tell one spectrum from another.
    fraction
        Share of the counts that the noise of the scores is that of.
    """
    side = int(np.clip(math.ceil(2 * _BEYOND * moves.largest / _SPACING) + 1, _FEWEST, _MOST))
    along = np.linspace(-_BEYOND, _BEYOND, side)
    grid = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1)  # (side, side, 2)
    known = _Known.of(model.basis, scores, n_signal, 1 / fraction)
    basis = _with_room(known, moves, grid, noise)
    by = grid.reshape(-1, 2)
    onwards, back = _onwards(model.basis, basis, moves, by), _back(model.basis, basis, moves, by)
    (one, first), (other, second) = _few(onwards), _few(back)
    centre = known.mean @ basis.projector()
    sought, level = _evidence(known, basis, moves, by, centre)
    arrays = (np.hstack([one, other]), first, second, centre, sought, level)
    return MovingModel(basis, model, _BEYOND * moves.largest, *(a.astype(np.float32) for a in arrays))


@dataclass(frozen=True)
class _Known:
    """What is known of spectra as they are.

    Attributes
    ----------
    mean, components
        (E,) and (J, E): mean spectrum, and principal components about it, of unit size in units of the noise.
    variance, noise
        (J,) of the signal along them, and that of the noise.
    weights
        (E,) one over the noise standard deviation of each channel.
    """

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray
    noise: float
    weights: np.ndarray

    @classmethod
    def of(cls, basis: PrincipalBasis, scores: np.ndarray, n_signal: int, noise: float) -> Self:
        """Take the moments of (n, B) scores on a basis."""
        values, vectors = np.linalg.eigh(np.cov(scores, rowvar=False, dtype=np.float64).reshape(2 * [basis.n_vectors]))
        values, vectors = values[::-1][:n_signal], vectors[:, ::-1][:, :n_signal]
        mean = scores.mean(axis=0, dtype=np.float64) @ basis.components() + basis.offset
        variance = np.maximum(values - noise, _LEAST_SIGNAL * noise)
        return cls(mean, vectors.T @ basis.components(), variance, noise, basis.weights)


def _with_room(known: _Known, moves: Moves, grid: np.ndarray, noise: NoiseModel) -> PrincipalBasis:
    """Return a basis that holds spectra wherever they lie, and what is asked of their counts to move them back.

    Its noise is that of the mean spectrum over all moves: beside a line there are few counts, until it comes there.
    """
    by = grid[::_THINNED, ::_THINNED].reshape(-1, 2)
    seen = np.mean([moved[0] for moved in moves.moved(known.mean[None], by)], axis=0)
    weights, size = channel_weights(np.maximum(seen, 0), noise), np.sqrt(known.variance)[:, None]
    spectra = np.vstack([known.mean, size * known.components])
    asked = spectra * known.weights**2  # the sum of counts times this is a score
    asked *= np.append(size.max(), size)[:, None] / np.linalg.norm(asked / known.weights, axis=1, keepdims=True)
    matrix = np.zeros(2 * [len(weights)])
    for one, other in zip(moves.moved(spectra, by), moves.moved(asked, by), strict=True):
        rows = np.vstack([one * weights, other / weights])
        matrix += rows.T @ rows / len(by)
    found, vectors = leading_vectors(matrix, min(_MOST_VECTORS, len(weights)))
    n = max(1, int((found > _LEAST * known.noise).sum()))
    return PrincipalBasis(weights, np.zeros(len(weights)), np.ascontiguousarray(vectors[:, :n]), found[:n])


def _onwards(still: PrincipalBasis, basis: PrincipalBasis, moves: Moves, by: np.ndarray) -> np.ndarray:
    """Return the (N, B + 1, P) maps, and constants, from scores of spectra as they are to those of moved ones."""
    spectra, projector = np.vstack([still.components(), still.offset]), basis.projector()
    return np.array([moved @ projector for moved in moves.moved(spectra, by)])


def _back(still: PrincipalBasis, basis: PrincipalBasis, moves: Moves, by: np.ndarray) -> np.ndarray:
    """Return the (N, P + 1, B) maps, and constants, from scores of moved spectra to those as they are."""
    projector, spectra = still.projector(), basis.components()
    constant = -(still.offset @ projector)
    return np.array([np.vstack([m @ projector, constant]) for m in moves.moved(spectra, moves.inverse(by))])


def _few(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, Q) coordinates of N maps, and the (Q, ...) maps that these are coordinates of."""
    left, values, right = np.linalg.svd(maps.reshape(len(maps), -1), full_matrices=False)
    q = max(1, int((values > _ROUNDING * values[0]).sum()))
    return left[:, :q] * values[:q], right[:q].reshape(q, *maps.shape[1:])


def _evidence(
    known: _Known, basis: PrincipalBasis, moves: Moves, by: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``sought`` and ``level`` of `MovingModel`.

    At each move spectra are normal: about their mean there, with the covariance of the components and of the noise.
    """
    rows, projector = np.vstack([known.mean, known.components]), basis.projector()
    moved = np.array([one @ projector for one in moves.moved(rows, by)])  # (N, 1 + J, P)
    mean, along, noise = moved[:, 0] - centre, moved[:, 1:], known.noise
    product = along @ along.transpose(0, 2, 1)  # (N, J, J)
    inner = np.linalg.inv(noise * np.diag(1 / known.variance) + product)
    root = np.linalg.cholesky(inner).transpose(0, 2, 1) @ along / np.sqrt(noise)  # (N, J, P)
    size = np.linalg.slogdet(np.eye(len(known.variance)) + known.variance[:, None] * product / noise)[1]
    sought = np.concatenate([root.transpose(0, 2, 1), 2 / noise * mean[:, :, None]], axis=2)
    constant = np.square(mean).sum(axis=1) / noise + size
    return sought, np.column_stack([np.einsum("njp,np->nj", root, mean), constant])
