"""Score the pixels of a map: by the scan with p-values, or by a statistic of the literature."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.anomaly._regions import PixelScores
from hyperspy_specml.anomaly._scan import Scan
from hyperspy_specml.anomaly._scan_map import N_FOUND, PixelBlock, ScanBlock, draw_null
from hyperspy_specml.anomaly._significance import LARGEST_LOG_P, equivalent_z
from hyperspy_specml.anomaly._spikes import SpikeFinder
from hyperspy_specml.statistics import EMPTY
from hyperspy_specml.streaming import map_with_halo

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._setup import ScanSetup
    from hyperspy_specml.run import Run

# Radii of the squares of pixels.
RADII = (0, 1, 2)
# |z| above which a pixel is not drawn from: the model does not describe it, and may even expect negative
# counts.
_NOT_DESCRIBED = 10.0


def scan_map(setup: ScanSetup, reference: ReferenceModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n_pixels, 6 + D) table of `scan_rows`, and the (m, 4) spikes."""
    stream, used, channels = setup.stream, setup.used, setup.channels
    scan = _scan(setup, reference)
    finder = SpikeFinder(scan.model, setup.line_width[channels], setup.n_values)
    block = ScanBlock(scan, reference, finder, setup.partial_spikes(reference.noise), channels, used)
    parts = map_with_halo(stream, block, halo=scan.halo, label="Scan")
    table = np.full((stream.n_pixels, N_FOUND + len(scan.model.spectra)), np.nan, np.float32)
    for pixels, (values, _) in parts:
        table[pixels] = values
    spikes = np.concatenate([spikes for _, (_, spikes) in parts])
    if stream.drift is not None:
        spikes[:, 1] += stream.drift[spikes[:, 0].astype(int) // stream.navigation_shape[-1]]
    return table, spikes[np.lexsort(spikes.T[1::-1])]


def _scan(setup: ScanSetup, reference: ReferenceModel) -> Scan:
    return Scan(reference.scan_model(), setup.windows, RADII, reference.model_error)


def with_null(setup: ScanSetup, reference: ReferenceModel, table: np.ndarray, run: Run) -> ReferenceModel:
    """Return the model with its null distribution, from drawn maps and adapted to the ordinary pixels."""
    if reference.null is not None:
        return reference
    used, shape = setup.used, setup.stream.navigation_shape
    z, _, _, expected, shift, _ = np.nan_to_num(table[:, :N_FOUND]).T
    described = used & (np.maximum(np.abs(z), np.abs(shift)) < _NOT_DESCRIBED)
    if 2 * described.sum() < used.sum():
        described = used
    scan, coefficients = _scan(setup, reference), table[:, N_FOUND:].reshape(*shape, -1)
    nulls = draw_null(scan, reference, coefficients, described.reshape(shape), run=run)
    maps, reach = (expected.reshape(shape), used.reshape(shape)), 2 * scan.halo + 1
    null, shift_null = (
        one and one.adapted_to(np.abs(values).reshape(shape), *maps, reach)
        for one, values in zip(nulls, (z, shift), strict=True)
    )
    return replace(reference, null=null, shift_null=shift_null)


def pixel_scores(setup: ScanSetup, reference: ReferenceModel, table: np.ndarray) -> PixelScores:
    """Return the p-values of the scan: those of windows, and of shifts where they are smaller."""
    assert reference.null is not None
    z, window, which, expected, shift, shift_which = np.nan_to_num(table[:, :N_FOUND]).T
    log_p = reference.null.log_p(np.abs(z), expected)
    if reference.shift_null is not None:
        log_p_shift = reference.shift_null.log_p(np.abs(shift), expected)
        which = np.where(log_p_shift < log_p, shift_which, which)
        log_p = np.minimum(log_p, log_p_shift)
        log_p += np.log(2 - np.exp(log_p))  # of the smaller one of two
    log_p = np.where(setup.used, log_p, np.nan)
    log_p[setup.summary.pixel_state == EMPTY] = 0.0
    score = equivalent_z(np.minimum(log_p, LARGEST_LOG_P))
    radius = np.array(RADII)[which.astype(int)]
    return PixelScores(table[:, 0], log_p, score, window.astype(int), radius, table[:, N_FOUND:])


def score_pixels(setup: ScanSetup, reference: ReferenceModel, statistic: str) -> PixelScores:
    """Score every pixel by itself, as the literature does."""
    block = PixelBlock(reference, setup.channels, setup.summary.moments.mean.mean(), statistic)
    table = setup.stream.map_rows(block, n_columns=1 + reference.basis.n_vectors, label="Score pixels")
    table[~setup.used] = np.nan
    score, coefficients = table[:, 0].astype(np.float64), table[:, 1:]
    if statistic == "rx":
        centred = coefficients - coefficients[setup.used].mean(axis=0)
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(centred[setup.used].T)), hermitian=True)
        score = np.einsum("ij,jk,ik->i", centred, inverse, centred)
    nothing, zeros = np.full(len(score), np.nan, np.float32), np.zeros(len(score), int)
    return PixelScores(nothing, nothing, score, zeros, zeros, coefficients)
