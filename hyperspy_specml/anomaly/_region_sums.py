"""Spectra of the regions of a scanned map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from hyperspy_specml.streaming import Block, map_boxes

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._run import Anomalies
    from hyperspy_specml.streaming import SpectrumStream

_MOST_SHIFT = 4.0  # line widths


@dataclass(frozen=True)
class RegionSums:
    """Sums over the pixels of regions. R regions, E channels in use.

    Attributes
    ----------
    labels, n_pixels
        (R,) label in the map, and number of pixels.
    pixels
        Flat indices of the pixels of each region.
    spectra, residuals, variances
        (R, E) sums of the spectra, of their difference to the model, and of the noise variance.
    shifts
        (R, 2) channels by which the spectra lie higher than the model has them, and the standard error of
        that; NaN where shifts are not looked for.
    """

    labels: np.ndarray
    n_pixels: np.ndarray
    pixels: tuple[np.ndarray, ...]
    spectra: np.ndarray
    residuals: np.ndarray
    variances: np.ndarray
    shifts: np.ndarray


def sum_regions(
    stream: SpectrumStream, found: Anomalies, labels: np.ndarray, wanted: np.ndarray
) -> RegionSums:
    """Read the spectra of regions and sum them.

    Parameters
    ----------
    stream
        The spectra, as they were recorded.
    found
        The scanned map.
    labels
        Map of labels.
    wanted
        (R,) labels.
    """
    boxes = scipy.ndimage.find_objects(labels)
    flat = labels.reshape(-1)
    model = found.normal.scan_model()
    blocks = [Block(boxes[label - 1]) for label in wanted]
    shape = stream.navigation_shape
    pixels = tuple(
        p[flat[p] == label] for p, label in zip((b.pixels(shape) for b in blocks), wanted, strict=True)
    )
    stream = replace(stream, drift=found.drift)
    sums = map_boxes(stream, blocks, _SumChosen(flat, found.channels), label="Regions")
    chosen = [parts[label] for parts, label in zip(sums, wanted, strict=True)]
    spectra = np.array(chosen).reshape(len(wanted), int(found.channels.sum()))
    coefficients = np.array([found.coefficients[p].sum(axis=0, dtype=np.float64) for p in pixels])
    n_pixels = np.array([len(p) for p in pixels], int)
    expected = np.zeros_like(spectra)
    if len(wanted):
        expected = coefficients @ model.spectra + n_pixels[:, None] * model.offset
    mean = np.maximum(expected, 0) / np.maximum(n_pixels, 1)[:, None]
    variances = found.normal.noise.variance(mean) * n_pixels[:, None]
    shifts = np.full((len(wanted), 2), np.nan)
    if found.normal.shift is not None and len(wanted):
        n = np.maximum(n_pixels, 1)[:, None]
        most = _MOST_SHIFT * float(found.line_width[0])
        shifts = found.normal.shift.estimate(spectra / n, coefficients / n, n_pixels, most)
    return RegionSums(wanted, n_pixels, pixels, spectra, spectra - expected, variances, shifts)


@dataclass(frozen=True)
class _SumChosen:
    """The block function of `sum_regions`: sums of spectra by label."""

    labels: np.ndarray
    channels: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> dict[int, np.ndarray]:
        label = self.labels[pixels]
        rows = rows[:, self.channels]
        return {int(k): rows[label == k].sum(axis=0, dtype=np.float64) for k in np.unique(label[label > 0])}
