"""The live monitor on measured maps, its memory over long scans, and its autoencoder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

import hyperspy_specml as specml
from benchmarks._anomaly_measured import MEASURED as EDS
from benchmarks._harness import ROOT, anonymous_memory, number
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse

MEASURED = {
    "bare_core": "usnist-tutorial/bare_core.hspy",
    "88_ES-LP": EDS["88_ES-LP"],
    "BTO": "pangroup/Example_BTO_deleted.dm4",
    "tilt 0": EDS["tilt 0"],
}
# Pixels along each side of a measured map, at most: the middle of larger ones.
_MOST = 64


def measured(options: argparse.Namespace, scans: range) -> Table:
    """Replay measured maps line by line.

    Parameters
    ----------
    options, scans
        Not used.
    """
    import os
    from pathlib import Path

    folder, rows = Path(os.environ.get("SPECML_DATA", ROOT.parent / "shared" / "data")), []
    for name, file in MEASURED.items():
        if not (folder / file).exists():
            print(f"{name} is left out: set SPECML_DATA to a folder with {file}")
            continue
        signal = _middle(folder / file)
        shape = signal.axes_manager.navigation_shape
        monitor = specml.LiveMonitor(shape, signal, beside=False)
        start, told = time.process_time(), []
        for event in monitor.replay(signal):
            told.append(f"line {event.n_spectra // shape[0]}: {_energy(event)}")
        seconds = time.process_time() - start
        monitor.finish()
        size = f"{shape[0]} x {shape[1]}"
        rows.append([name, size, "; ".join(told) or "-", str(monitor.n_phases), number(seconds, ".0f")])
    head = ["map", "pixels", "new phases, where they have most more than the others", "phases at the end", "CPU s"]
    return Table("measured", "measured maps, line by line", head, rows)


def _energy(event: Any) -> str:
    found = f"{event.energy:.4g}"
    return found if event.p_value == event.p_value else f"{found} (by held-out counts)"


def _middle(path: Any) -> Any:
    import hyperspy.api as hs

    loaded = hs.load(path)
    signal = next(s for s in (loaded if isinstance(loaded, list) else [loaded]) if s.data.ndim == 3)
    nx, ny = signal.axes_manager.navigation_shape
    x, y = (max(0, (n - _MOST) // 2) for n in (nx, ny))
    return signal.inav[x : x + _MOST, y : y + _MOST]


def memory(options: argparse.Namespace, scans: range) -> Table:
    """Scan 4096 lines; what the process has beyond the spectra that are kept, after each doubling.

    Parameters
    ----------
    options, scans
        Not used.
    """
    rng = np.random.default_rng(0)
    mean = specml.datasets.fe_cr_ni_map((8, 8), n_channels=256, dose=50).clean.data.reshape(-1, 256)
    n, lines = 32, 4096
    monitor = specml.LiveMonitor((n, lines), np.arange(256.0), beside=False)
    found, begin, first = {}, time.perf_counter(), anonymous_memory() or 0
    for y in range(lines):
        monitor.update(rng.poisson(mean[rng.integers(64, size=n)]).astype(np.uint16))
        if y + 1 in (512, 1024, 2048, 4096):
            kept = 4 * 256 * n * (y + 1)  # bytes of their table that have been touched
            found[y + 1] = number(((anonymous_memory() or 0) - first - kept) / 1e6, ".0f")
    milliseconds = number(1e3 * (time.perf_counter() - begin) / lines, ".1f")
    head = [*(f"{k} lines" for k in found), "ms a line, learning included"]
    return Table(
        "memory", f"MB beyond the kept spectra; {lines} lines of {n} x 256", head, [[*found.values(), milliseconds]]
    )


def autoencoder(options: argparse.Namespace, scans: range) -> Table:
    """Train a little with every line of a map on a curved surface; residuals of new spectra beside those of PCA.

    Parameters
    ----------
    options, scans
        Not used.
    """
    rows = []
    for seconds in (0.005, 0.02, 0.1):
        signal = specml.datasets.fe_l_map((96, 64), n_channels=512, dose=30.0).signal
        new = specml.datasets.fe_l_map((64, 64), n_channels=512, dose=30.0, random_state=1).signal.data.reshape(-1, 512)
        monitor = specml.LiveMonitor((64, 96), signal, n_components=5, beside=False, training_seconds=seconds)
        first = np.nan
        for y, line in enumerate(signal.data):
            monitor.update(line)
            if y == 31:
                first = _residual(monitor, new)[0]
        last, microseconds = _residual(monitor, new)
        learner = monitor._monitor.autoencoder
        assert learner is not None  # it began with the first spectra
        figures = [number(first, ".4f"), number(last, ".4f"), str(learner.n_accepted), number(microseconds, ".1f")]
        rows.append([f"{1e3 * seconds:g}", *figures])
    head = ["ms a line", "residual after 32 lines", "after 96", "times taken over", "us a spectrum"]
    caption = "Fe-L, 5 latents, mean squared residual of another map in units of the noise"
    return Table("autoencoder", caption, head, rows)


def _residual(monitor: Any, rows: np.ndarray) -> tuple[float, float]:
    """Return the mean squared residual of spectra, and the time for one of them in microseconds."""
    inner = monitor._monitor
    values = inner.recipe.values(rows)
    inner.autoencoder.residuals(values)
    start = time.perf_counter()
    found = inner.autoencoder.residuals(values)
    return float(found.mean()), 1e6 * (time.perf_counter() - start) / len(values)
