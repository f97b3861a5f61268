"""Measured EDS maps: what is found in them as they are, and when counts of a foreign element are added."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._anomaly_calibration import FDR
from benchmarks._harness import ROOT
from benchmarks._records import Table

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

MEASURED = {
    "88_ES-LP": "espm/88_ES-LP_G8_selection2_cropped2.hspy",
    "tilt 0": "openncem/tilt_0.bcf",
    "tilt 10": "openncem/tilt_10.bcf",
}
FOREIGN, SIDE, SHARE = "Nb", 5, 0.5  # element, pixels along a side, counts added as a share of the mean


def measure() -> list[Table]:
    """Return what is found on measured maps, where there are any."""
    import hyperspy.api as hs

    folder = Path(os.environ.get("SPECML_DATA", ROOT.parent / "shared" / "data"))
    rows = []
    for name, file in MEASURED.items():
        if not (folder / file).exists():
            print(f"{name} is left out: set SPECML_DATA to a folder with {file}")
            continue
        loaded = hs.load(folder / file, lazy=True)
        signals = loaded if isinstance(loaded, list) else [loaded]
        signal = next(s for s in signals if s.axes_manager.signal_dimension == 1)
        rows.append([name, *_as_it_is(signal), *_with_foreign(signal)])
    head = ["map", "regions", "cosmic rays", "elements of the first candidates", "s"]
    head += [f"counts of {FOREIGN} added", "found", "named", "regions then"]
    caption = f"fdr={FDR:g}; then with {FOREIGN} in {SIDE} x {SIDE} pixels"
    return [Table("measured maps", caption, head, rows)]


def _as_it_is(signal: BaseSignal) -> list[str]:
    start = time.perf_counter()
    found = signal.anomaly_map(fdr=FDR, show_progressbar=False)
    seconds = time.perf_counter() - start
    elements = dict.fromkeys(region.candidates[0].element for region in found.regions if region.candidates)
    return [str(len(found.regions)), str(len(found.spikes)), ", ".join(elements) or "-", f"{seconds:.1f}"]


def _with_foreign(signal: BaseSignal) -> list[str]:
    """Add counts of a foreign element to a square of the brightest pixels, and look whether it is found."""
    import numpy as np
    import scipy.ndimage

    from hyperspy_specml.datasets._alloy import characteristic

    energy = signal.axes_manager.signal_axes[0].axis
    data = np.asarray(signal.data)
    total = data.sum(axis=-1, dtype=np.float64)
    y, x = np.unravel_index(scipy.ndimage.uniform_filter(total, SIDE, mode="constant").argmax(), total.shape)
    place = tuple(slice(max(0, k - SIDE // 2), k + SIDE // 2 + 1) for k in (y, x))
    lines = SHARE * total.mean() * characteristic(FOREIGN, np.maximum(energy, 0.01))
    added = np.random.default_rng(0).poisson(lines, (*total[place].shape, len(energy)))
    mixed = data.astype(np.uint16)
    mixed[place] += added.astype(np.uint16)
    found = signal._deepcopy_with_new_data(mixed).anomaly_map(fdr=FDR, show_progressbar=False)
    rows, columns = (set(range(s.start, s.stop)) for s in place)
    hits = [r for r in found.regions if any(j in columns and i in rows for j, i in r.pixels)]
    named = any(FOREIGN in [c.element for c in region.candidates[:3]] for region in hits)
    said = ["yes" if true else "no" for true in (bool(hits), named)]
    return [str(added.sum()), *said, str(len(found.regions))]
