"""Scores of every spectrum of a map under fitted models, in one pass over the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.models._latent import SpectrumModel, n_columns
from hyperspy_specml.statistics import EMPTY, USED, project_on

if TYPE_CHECKING:
    from hyperspy_specml.streaming import SpectrumStream


def encode_all(
    stream: SpectrumStream, models: tuple[SpectrumModel, ...], pixel_state: np.ndarray, channels: np.ndarray
) -> list[np.ndarray]:
    """Score every spectrum under each model, in one pass over the file.

    Parameters
    ----------
    stream
        The spectra.
    models
        Fitted models; the same one twice is computed once.
    pixel_state, channels
        (n_pixels,) state of every spectrum and (E,) bool channels in use.

    Returns
    -------
    one (n_pixels, K + extras) float32 array per model; NaN for spectra not used, 0 for empty ones
    """
    different = list({id(m): m for m in models}.values())
    table = stream.map_rows(
        EncodeRows(tuple(different), channels),
        n_columns=sum(n_columns(m) for m in different),
        label="Project",
    )
    table[pixel_state != USED] = np.nan
    table[pixel_state == EMPTY] = 0
    ends = np.cumsum([n_columns(m) for m in different])
    parts = dict(zip(map(id, different), np.split(table, ends[:-1], axis=1), strict=True))
    return [parts[id(m)] for m in models]


@dataclass(frozen=True)
class EncodeRows:
    """The block function of the projection: an object, so that it travels to other processes."""

    models: tuple[SpectrumModel, ...]
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, dtype=rows.dtype.newbyteorder("="))
        with np.errstate(invalid="ignore", over="ignore"):  # not finite spectra become NaN scores
            along = project_on(rows, [model.axes for model in self.models], self.channels)
            scores = [model.encode_scores(own) for model, own in zip(self.models, along, strict=True)]
        return np.concatenate(scores, axis=1)
