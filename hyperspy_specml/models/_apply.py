"""Scores of every spectrum of a map under fitted models, in one pass over the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.statistics import EMPTY, NOT_FINITE, SATURATED, USED, project_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.models._base import FittedModel
    from hyperspy_specml.streaming import SpectrumStream


def encode_map(
    stream: SpectrumStream, models: Sequence[FittedModel], channels: np.ndarray,
    pixel_state: np.ndarray | None = None,
) -> tuple[list[np.ndarray], np.ndarray]:  # fmt: skip
    """Score every spectrum under each model, in one pass over the file.

    Parameters
    ----------
    stream
        The spectra.
    models
        Fitted models; the same one twice is computed once.
    channels
        (E,) bool, the channels they use; no others are looked at.
    pixel_state
        (n_pixels,) state of every spectrum; None finds it out in the same pass, for a map that nobody has looked
        at yet. There, spectra with saturated channels are scored too.

    Returns
    -------
    one (n_pixels, K + outputs) float32 array per model, NaN for spectra not used and 0 for empty ones; and the
    (n_pixels,) uint8 state of the spectra
    """
    different = list({id(model): model for model in models}.values())
    ends = np.cumsum([model.n_columns for model in different])
    block = _EncodeRows(tuple(different), channels, pixel_state is None)
    table = stream.map_rows(block, n_columns=int(ends[-1]) + block.look, label="Project")
    state, used = pixel_state, [USED]
    if state is None:
        table, state, used = table[:, :-1], table[:, -1].astype(np.uint8), [USED, SATURATED]
    table[~np.isin(state, used)] = np.nan
    table[state == EMPTY] = 0
    parts = dict(zip(map(id, different), np.split(table, ends[:-1], axis=1), strict=True))
    return [parts[id(model)] for model in models], state


@dataclass(frozen=True)
class _EncodeRows:
    """The block function of the pass, and with `look` the state in a last column."""

    models: tuple[FittedModel, ...]
    channels: np.ndarray
    look: bool

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, dtype=rows.dtype.newbyteorder("="))
        with np.errstate(invalid="ignore", over="ignore"):  # not finite spectra become NaN scores
            along = project_on(rows, [model.basis for model in self.models], self.channels)
            columns = [model.encode_scores(own) for model, own in zip(self.models, along, strict=True)]
        return np.concatenate([*columns, self._state(rows)[:, None]] if self.look else columns, axis=1)

    def _state(self, rows: np.ndarray) -> np.ndarray:
        values = rows if self.channels.all() else rows[:, self.channels]
        state = np.full(len(values), USED)
        if values.dtype.kind == "f":
            state[~np.isfinite(values).all(axis=1)] = NOT_FINITE
        else:
            state[(values == np.iinfo(values.dtype).max).any(axis=1)] = SATURATED
        state[~values.any(axis=1)] = EMPTY
        return state
