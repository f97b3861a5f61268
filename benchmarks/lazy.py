"""An N x N x 2048 file of counts, larger than the memory it may cost, beside HyperSpy's lazy SVD.

Contenders run in processes of their own, in turn, on a file in the page cache. Times are those of the
call after the file was opened (the import of HyperSpy is not part of it, that of torch is). Memory is the
peak of the process's anonymous memory, sampled every 20 ms: interpreter and libraries included, cached
pages of the file not.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._harness import Contender, Run, median, megabytes, number, ratio, run_all, run_contender
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from hyperspy.signals import BaseSignal

CHUNK = 32
COMPONENTS = 8
HYPERSPY = f"HyperSpy lazy SVD ({COMPONENTS}), float32"
FASTEST = "PCA, full scree, fastest kernels"
FLOAT32 = "PCA, full scree, float32 kernel"
WHOLE = f"decomposition_ae({COMPONENTS}), all of it"
TIME_TARGETS = {FASTEST: 0.5, FLOAT32: 1.0, WHOLE: 1.5}  # times HyperSpy's
MEMORY_TARGET = 1 / 3  # of HyperSpy's
GROWTH_TARGET = 0.15  # of the peak, when the map gets twice as wide and high


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--size", type=int, default=512, help="pixels N along each scan axis (512)")
    parser.add_argument("--channels", type=int, default=2048, help="energy channels (2048)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender (3)")
    parser.add_argument("--quick", action="store_true", help="one run of each contender")
    parser.add_argument("--large", action="store_true", help="ours again at 2N x 2N: does the memory grow?")
    parser.add_argument("--keep", action="store_true", help="keep the generated file and say where it is")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Generate and measure."""
    repeats = 1 if options.quick else options.repeats
    sizes = [options.size, 2 * options.size] if options.large else [options.size]
    folder = Path(tempfile.mkdtemp(prefix="specml-benchmark-"))
    try:
        _check_space(folder, [size**2 * options.channels for size in sizes])
        runs = run_all(_contenders(_generate(folder, options.size, options.channels)), repeats=repeats)
        large = {}
        if options.large:
            large = run_all(_contenders(_generate(folder, 2 * options.size, options.channels), ours=True), repeats=1)
    finally:
        if options.keep:
            print(f"The files are kept in {folder}")
        else:
            shutil.rmtree(folder)
    where = f"{options.size} x {options.size} pixels, {options.channels} channels, uint8; runs: {repeats}"
    tables = [_main_table(where, runs), _stage_table(where, runs)]
    yield "", tables + ([_growth_table(where, runs, large)] if large else [])


def write_map(path: str, size: int, channels: int) -> Callable[[], None]:
    """Prepare to simulate the map and to write it, chunk by chunk."""
    from hyperspy_specml import datasets

    signal = datasets.fe_cr_ni_map((size, size), n_channels=channels, lazy=True).signal
    if signal.data.dtype != "uint8":
        raise TypeError(f"the map is {signal.data.dtype}, but the file is meant to be uint8")
    chunk = min(CHUNK, size)
    return partial(signal.save, path, chunks=(chunk, chunk, channels), compression=None, show_progressbar=False)


def hyperspy_svd(path: str) -> Callable[[], None]:
    """Prepare HyperSpy's lazy decomposition with its default solver, a randomised SVD."""
    return partial(_svd, _open(path))


def ours(path: str, architecture: str, kernel: str) -> Callable[[], dict[str, Any]]:
    """Prepare decomposition_ae."""
    import hyperspy_specml as specml

    config = specml.TrainConfig(kernel=kernel)
    return partial(_decompose, _open(path), architecture, config)


def _svd(signal: BaseSignal) -> None:
    signal.change_dtype("float32")
    signal.decomposition(output_dimension=COMPONENTS, print_info=False)


def _decompose(signal: BaseSignal, architecture: str, config: Any) -> dict[str, Any]:
    found = signal.decomposition_ae(COMPONENTS, architecture=architecture, config=config, show_progressbar=False)
    report = found.report
    return {"seconds": report.seconds, "n_scree": len(report.scree), "best_step": report.best_step}


def _open(path: str) -> BaseSignal:
    import hyperspy.api as hs

    return hs.load(path, lazy=True)


def _check_space(folder: Path, file_sizes: list[int]) -> None:
    needed, free = sum(file_sizes), shutil.disk_usage(folder).free
    print(f"This needs {needed / 1e9:.2f} GB in the folder of temporary files; {free / 1e9:.1f} GB are free.")
    if needed > 0.95 * free:
        raise SystemExit("Not enough: set TMPDIR to a folder with more room, or ask for a smaller --size.")


def _generate(folder: Path, size: int, channels: int) -> str:
    path = folder / f"map_{size}.hspy"
    made = run_contender(
        Contender(
            "the simulation", "benchmarks.lazy:write_map", {"path": str(path), "size": size, "channels": channels}
        )
    )
    print(
        f"Simulated {size} x {size} x {channels} uint8, {path.stat().st_size / 1e9:.2f} GB, in "
        f"{made.process_seconds:.0f} s."
    )
    with path.open("rb") as file:  # into the page cache, for every contender alike
        while file.read(1 << 24):
            pass
    return str(path)


def _contenders(path: str, *, ours: bool = False) -> list[Contender]:
    call = "benchmarks.lazy:ours"
    whole = Contender(WHOLE, call, {"path": path, "architecture": "dense", "kernel": "auto"})
    fastest = Contender(FASTEST, call, {"path": path, "architecture": "pca", "kernel": "auto"})
    if ours:
        return [fastest, whole]
    float32 = Contender(FLOAT32, call, {"path": path, "architecture": "pca", "kernel": "float32"})
    return [Contender(HYPERSPY, "benchmarks.lazy:hyperspy_svd", {"path": path}), fastest, float32, whole]


def _main_table(where: str, runs: dict[str, list[Run]]) -> Table:
    rows = []
    seconds, peaks = _medians(runs)
    for name, results in runs.items():
        rival = name == HYPERSPY
        spread = [result.seconds for result in results]
        rows.append([
            name, number(seconds[name], ".1f"), f"{min(spread):.1f}-{max(spread):.1f}",
            number(ratio(seconds[name], seconds[HYPERSPY])), "" if rival else f"<= {TIME_TARGETS[name]:.2f}",
            number(median(result.cpu_seconds for result in results), ".1f"),
            number(median(result.process_seconds for result in results), ".1f"), megabytes(peaks[name]),
            number(ratio(peaks[name], peaks[HYPERSPY])), "" if rival else f"<= {MEMORY_TARGET:.2f}",
        ])  # fmt: skip
    times = ["median s", "range", "s / HyperSpy", "s wanted", "CPU s", "process s"]
    head = ["method", *times, "peak", "peak / HyperSpy", "peak wanted"]
    return Table("time and memory", f"{where}; each in a process of its own", head, rows)


def _stage_table(where: str, runs: dict[str, list[Run]]) -> Table:
    names = [name for name in runs if name != HYPERSPY]
    stages = list(runs[names[0]][0].facts["seconds"])
    rows = [
        [name, *(number(median(run.facts["seconds"][stage] for run in runs[name])) for stage in stages)]
        for name in names
    ]
    return Table("stages", f"seconds; {where}", ["method", *stages], rows)


def _growth_table(where: str, runs: dict[str, list[Run]], large: dict[str, list[Run]]) -> Table:
    (seconds, peaks), (seconds_large, peaks_large) = _medians(runs), _medians(large)
    rows = []
    for name in large:
        times = ratio(peaks_large[name], peaks[name])
        rows.append([
            name, number(seconds_large[name], ".1f"), number(ratio(seconds_large[name], seconds[name])),
            megabytes(peaks_large[name]), number(None if times is None else times - 1, "+.0%"),
            f"<= +{GROWTH_TARGET:.0%}",
        ])  # fmt: skip
    caption = f"a file of four times the pixels, one run, beside {where}"
    return Table("growth", caption, ["method", "s", "times", "peak", "growth", "wanted"], rows)


def _medians(runs: dict[str, list[Run]]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    seconds = {name: median(result.seconds for result in results) for name, results in runs.items()}
    return seconds, {name: median(result.peak for result in results) for name, results in runs.items()}
