"""Models of spectra that each lie at other energies. n spectra, E channels in use, K components, P compressed scores.

Spectra are looked at on two bases. That of the model knows spectra that lie where those of its training do, B scores;
a larger one has room for them wherever they may lie, P scores. Between the two lead linear maps, one for each move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.models._base import ANY, FittedModel, Parts, parts_of, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hyperspy_specml.statistics import PrincipalBasis

_ROWS = 256  # spectra whose moves are found at a time: some 20 MB
_FINER = 4  # times as many moves are compared as there are nodes, along each axis
_LEAST_TOTAL = 1e-3  # of the mean total: what is decoded to less has no shape
_MOST_NODES = 101  # along each axis, of a file


@dataclass(frozen=True)
class MovingModel(FittedModel):
    """A model of spectra that are moved back first, by a shift and a stretch which are found for each of them.

    Moves are numbers between -1 and 1 on a grid of G x G nodes. A spectrum is normal about the mean spectrum at each
    node, with the principal components there: its shift and its stretch are the means of what that leaves likely.

    Attributes
    ----------
    basis
        With room for spectra that are moved.
    still
        The model of spectra that are not.
    reach
        Channels by which a move of one shifts all channels, or stretches the ends away from the middle.
    place
        (G G, Q + R) coordinates of the linear maps of each node; between nodes they are interpolated.
    onwards, back
        (Q, B + 1, P) and (R, P + 1, B): what these are coordinates of, maps of scores and their constants.
    centre
        (P,) scores of the mean spectrum that is not moved.
    sought, level
        (G G, P, J + 1) and (G G, J + 1): at each node, squares of J numbers and one more add up to twice the logarithm
        of the likelihood.
    """

    basis: PrincipalBasis
    still: FittedModel
    reach: float
    place: np.ndarray
    onwards: np.ndarray
    back: np.ndarray
    centre: np.ndarray
    sought: np.ndarray
    level: np.ndarray
    kind = "moving"
    stored = ("place", "onwards", "back", "centre", "sought", "level")

    @property
    def architecture(self) -> str:
        """That of the model of spectra that are not moved."""
        return self.still.architecture

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.still.n_components

    @property
    def outputs(self) -> dict[str, str]:
        """Those of the model, and how far each spectrum lies too high: at the middle, and more at the upper end."""
        return self.still.outputs | {"shift": "channels", "stretch": "channels"}

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores to (n, K + outputs) columns, float32."""
        out = np.empty((len(scores), self.n_columns), np.float32)
        for start in range(0, len(scores), _ROWS):
            rows = slice(start, start + _ROWS)
            moves = self.moves(scores[rows])
            found = self.still.encode_scores(self._moved(scores[rows], moves, self.back, len(self.onwards)))
            out[rows] = np.column_stack([found, self.reach * moves])
        if self._total is not None:  # that which was counted, whatever enters the axis or leaves it
            out[:, self._total] = self._totals(scores)
        return out

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + outputs) columns to (n, E) spectra, float32."""
        columns = np.asarray(scores, np.float32)
        there = self.still.basis.project(self.still.decode(columns[:, :-2]))  # no loss: they lie on that basis
        moves = columns[:, -2:] / np.float32(self.reach)
        moved = self._moved(there, moves, self.onwards, 0)
        if self._total is not None:
            least = _LEAST_TOTAL * self._totals(self.centre[None])
            moved *= (columns[:, self._total] / np.maximum(self._totals(moved), least))[:, None]
        return self.basis.spectra(moved)

    def moves(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n, 2) shifts and stretches, from -1 to 1, of spectra with (n, P) scores, float32."""
        n_nodes, size, j = self.sought.shape
        seen = (scores - self.centre).astype(np.float32) @ self.sought.transpose(1, 0, 2).reshape(size, -1)
        seen = seen.reshape(-1, n_nodes, j) - self.level
        likely = 0.5 * (np.square(seen[..., :-1]).sum(axis=-1) + seen[..., -1])
        finer = _finer(self._side)
        likely = finer @ likely.reshape(-1, self._side, self._side) @ finer.T
        weights = np.exp(likely - likely.max(axis=(1, 2), keepdims=True))
        weights /= weights.sum(axis=(1, 2), keepdims=True)
        along = np.linspace(-1, 1, len(finer), dtype=np.float32)
        return np.column_stack([weights.sum(axis=2) @ along, weights.sum(axis=1) @ along])

    @property
    def _total(self) -> int | None:
        """Column of the intensity, if there is one."""
        names = list(self.still.outputs)
        return self.n_components + names.index("intensity") if "intensity" in names else None

    def _totals(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n,) sums of spectra with (n, P) scores, float32."""
        return scores @ self.basis.components().sum(axis=1).astype(np.float32)

    @property
    def _side(self) -> int:
        return round(np.sqrt(len(self.place)))

    def _moved(self, scores: np.ndarray, moves: np.ndarray, maps: np.ndarray, first: int) -> np.ndarray:
        """Return the (n, ...) scores of spectra that are moved by one kind of map, whose coordinates start there."""
        side = self._side
        (one, at), (other, beside) = (_cubic(0.5 * (side - 1) * (m + 1), side) for m in moves.T)
        nodes = (side * at[:, :, None] + beside[:, None]).reshape(len(moves), -1)  # (n, 16)
        weights = (one[:, :, None] * other[:, None]).reshape(len(moves), 1, -1)
        place = (weights @ self.place[nodes, first : first + len(maps)])[:, 0]  # (n, Q)
        image = scores.astype(np.float32) @ maps[:, :-1].transpose(1, 0, 2).reshape(scores.shape[1], -1)
        image = image.reshape(len(scores), *maps[:, -1].shape) + maps[:, -1]
        return (place[:, None] @ image)[:, 0]

    def components(self) -> np.ndarray:
        """Return the (K, E) spectra that stand for the components, where those of the training lie."""
        return self.still.components()

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra recorded in other channels; see `FittedModel.resampled`."""
        width = resample(np.ones((1, len(self.basis.weights))))[0]  # of these, in channels of its own
        reach = self.reach / float(np.median(width[width > 0]))
        return replace(self, basis=self.basis.resampled(resample), still=self.still.resampled(resample), reach=reach)

    def settings(self) -> dict[str, Any]:
        """Return the reach, and the settings of the model of spectra that are not moved."""
        return {"reach": self.reach, "still": parts_of(self.still).settings}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its own arrays and those of the model of spectra that are not moved."""
        return super().arrays() | prefixed("still", parts_of(self.still).arrays)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays."""
        basis, still = parts.basis(), parts.within("still").model()
        p, b = basis.n_vectors, still.basis.n_vectors
        onwards, back = parts.array("onwards", ANY, b + 1, p), parts.array("back", ANY, p + 1, b)
        place = parts.array("place", ANY, len(onwards) + len(back))
        sought = parts.array("sought", len(place), p, ANY)
        level, centre = parts.array("level", len(place), sought.shape[2]), parts.array("centre", p)
        side, reach = round(np.sqrt(len(place))), parts.setting("reach", float)
        if side**2 != len(place) or not 2 <= side <= _MOST_NODES or reach <= 0:
            raise ValueError(f"{len(place)} nodes of moves by up to {reach:g} channels are no grid")
        return cls(basis, still, reach, place, onwards, back, centre, sought, level)


def _finer(n: int) -> np.ndarray:
    """Return the (m, n) weights that interpolate values at n nodes: of many counts, few moves are likely."""
    weights, nodes = _cubic(np.linspace(0, n - 1, _FINER * (n - 1) + 1), n)
    finer = np.zeros((len(nodes), n), np.float32)
    np.add.at(finer, (np.arange(len(nodes))[:, None], nodes), weights)
    return finer


def _cubic(position: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (m, 4) weights and indices of the nodes 0 to n - 1 that cubic convolution interpolates between.

    R. G. Keys, IEEE Trans. Acoust. Speech Signal Process. 29 (1981) 1153.
    """
    position = np.clip(np.nan_to_num(position), 0, n - 1)
    low = np.minimum(position.astype(int), n - 2)
    f = position - low
    weights = np.array([((2 - f) * f - 1) * f, (3 * f - 5) * f * f + 2, ((4 - 3 * f) * f + 1) * f, (f - 1) * f * f])
    nodes = np.clip(low[:, None] + np.arange(-1, 3), 0, n - 1)
    return (0.5 * weights.T).astype(np.float32), nodes
