"""Progress: the share of the wall time in a named stage, the longest silence, and whether the fraction ever falls.

A call is followed by a `Progress` that notes when its stage or its fraction changes. What is done outside of every
stage is not covered; a silence is the longest time between two changes. Where other programs share the machine, it is
longer than what the call computes in it, so the processor time of the longest one is there too.
"""

from __future__ import annotations

import itertools
import time
import warnings
from typing import TYPE_CHECKING, Any

from benchmarks._records import Table
from hyperspy_specml import Progress, datasets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hyperspy.signal import BaseSignal

METHODS = ("decomposition_ae", "denoise_dae", "anomaly_map", "phase_map")


class Watch(Progress):
    """Notes when the stage changes, and the fraction."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, float, str, float]] = []
        self.fraction = 0.0
        super().__init__()

    @property
    def stage(self) -> str:
        """What is being done."""
        return self._stage

    @stage.setter
    def stage(self, name: str) -> None:
        self._stage = name
        self.show()

    def show(self) -> None:
        """Note a change."""
        self.changes.append((time.perf_counter(), time.process_time(), self.stage, self.fraction))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--size", type=int, default=96, help="pixels along a side of the largest map (96)")
    parser.add_argument("--quick", action="store_true", help="small maps: whether it runs at all")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Follow every method on every map."""
    rows = []
    for name, signal in maps(16 if options.quick else options.size).items():
        rows += [[name, method, *follow(signal, method)] for method in METHODS]
    head = [
        "map",
        "method",
        "time (s)",
        "covered",
        "longest silence (s)",
        "computed in it (s)",
        "in the stage",
        "falls",
    ]
    yield "", [Table("progress", "share of the wall time in a named stage", head, rows, keys=2)]


def maps(size: int) -> dict[str, BaseSignal]:
    """Return an EDS map, a smaller and oblong one, and an EELS map."""
    return {
        "EDS": datasets.fe_cr_ni_map((size, size), n_channels=1024).signal,
        "EDS, oblong": datasets.fe_cr_ni_map((size // 4, size), n_channels=512).signal,
        "EELS": datasets.fe_l_map((size, size)).signal,
    }


def follow(signal: BaseSignal, method: str) -> list[str]:
    """Return the time, the share of it in a stage, the longest silence and where it was, whether the fraction fell."""
    watch: Any = Watch()
    start = time.perf_counter(), time.process_time(), "", 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(signal, method)(show_progressbar=watch)
    stop = time.perf_counter(), time.process_time(), "", 1.0
    changes = [start, *watch.changes, stop]
    steps = [(after[0] - before[0], after[1] - before[1], before[2]) for before, after in itertools.pairwise(changes)]
    whole, (silence, computed, where) = stop[0] - start[0], max(steps)
    covered = sum(seconds for seconds, _, stage in steps if stage) / whole
    fractions = [fraction for *_, fraction in watch.changes]
    falls = "yes" if fractions != sorted(fractions) else "no"
    return [f"{whole:.1f}", f"{covered:.3f}", f"{silence:.1f}", f"{computed:.1f}", where or "none", falls]
