"""Fitted models on spectra that nobody has looked at yet: one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.models._encode import EncodeRows
from hyperspy_specml.models._latent import n_columns
from hyperspy_specml.statistics import EMPTY, NOT_FINITE, SATURATED, USED

if TYPE_CHECKING:
    from hyperspy_specml.models._latent import SpectrumModel
    from hyperspy_specml.streaming import SpectrumStream


def apply_models(
    stream: SpectrumStream, models: tuple[SpectrumModel, ...], channels: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Score every spectrum of a stream under each model.

    Parameters
    ----------
    stream
        The spectra; read once.
    models
        Fitted models.
    channels
        (E,) bool, the channels they use; no others are looked at.

    Returns
    -------
    one (n_pixels, K) float32 array per model, NaN for spectra that are not finite and 0 for empty ones; and
    the (n_pixels,) uint8 state of the spectra
    """
    ends = np.cumsum([n_columns(model) for model in models])
    block = _LookAndEncode(EncodeRows(models, channels))
    table = stream.map_rows(block, n_columns=int(ends[-1]) + 1, label="Project")
    *scores, state = np.split(table, ends, axis=1)
    return scores, state[:, 0].astype(np.uint8)


@dataclass(frozen=True)
class _LookAndEncode:
    """The block function of the pass: scores, and in the last column the state."""

    encode: EncodeRows

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        channels = self.encode.channels
        values = rows if channels.all() else rows[:, channels]
        state = np.full(len(values), USED)
        if values.dtype.kind == "f":
            state[~np.isfinite(values).all(axis=1)] = NOT_FINITE
        else:
            state[(values == np.iinfo(values.dtype).max).any(axis=1)] = SATURATED
        state[~values.any(axis=1)] = EMPTY
        with np.errstate(invalid="ignore", over="ignore"):  # NaN is the right score of such a spectrum
            scores = self.encode(rows, pixels)
        scores[state == NOT_FINITE] = np.nan
        scores[state == EMPTY] = 0
        return np.column_stack([scores, state])
