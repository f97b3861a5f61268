"""Part "shifts" of the benchmark of architectures: shifts along energy, beside cross-correlation with the mean."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._harness import median, number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

_FARTHEST = 3.0  # eV, of the shifts that are compared by cross-correlation


def shifts(cases: Sequence[Any]) -> Table:
    """Return the errors of estimated shifts, and how many of the 90 % intervals hold the true one."""
    first = cases[0]
    head = ["map", "error (eV)", "cross-correlation (eV)", "drift itself (eV)", "90 % intervals cover", "CPU seconds"]
    caption = f"{first.options.size} x {first.options.size} pixels, {first.options.channels} channels"
    if "shift" not in first.map.truth:
        return Table("shifts", caption, head, [[first.title, *["-"] * 5]])
    measured = [_measure(case.map) for case in cases]
    forms = (".3f", ".3f", ".3f", ".2f", ".1f")
    row = [number(median(values), form) for values, form in zip(zip(*measured, strict=True), forms, strict=True)]
    return Table("shifts", caption, head, [[first.title, *row]])


def _measure(simulated: Any) -> tuple[float, ...]:
    import hyperspy_specml as specml

    truth, signal = np.asarray(simulated.truth["shift"].data), simulated.signal
    start = time.process_time()
    found = specml.estimate_shift(signal, show_progressbar=False)
    seconds = time.process_time() - start
    error = found.shift.data - truth
    error -= error.mean()
    covered = np.mean(np.abs(error) < 1.645 * found.error.data)
    other = cross_correlation(signal.data.astype(float), signal.axes_manager[-1].scale) - truth
    return float(error.std()), float(other.std()), float(truth.std()), float(covered), seconds


def cross_correlation(spectra: np.ndarray, width: float) -> np.ndarray:
    """Return the shifts of (..., E) spectra against their mean, by a parabola through the largest correlation."""
    centred = spectra - spectra.mean(axis=-1, keepdims=True)
    mean = centred.mean(axis=tuple(range(centred.ndim - 1)))
    n, reach = 2 * len(mean), max(2, round(_FARTHEST / width))
    product = np.fft.irfft(np.fft.rfft(centred, n) * np.conj(np.fft.rfft(mean, n)), n)
    near = np.concatenate([product[..., -reach:], product[..., : reach + 1]], axis=-1)
    top = np.clip(near.argmax(axis=-1), 1, 2 * reach - 1)[..., None]
    left, here, right = (np.take_along_axis(near, top + k, axis=-1)[..., 0] for k in (-1, 0, 1))
    bend = np.minimum(left + right - 2 * here, -1e-12)
    return width * (top[..., 0] - reach + np.clip(0.5 * (left - right) / bend, -1, 1))
