"""What every benchmark needs: contenders in processes of their own, medians, tables, records.

A contender is a function that prepares (imports, opens the file) and returns a call; the call alone is
timed, in a fresh interpreter, and may return facts about itself that fit into JSON, or a function that
finds them when the clock has stopped. From outside, the anonymous memory of that interpreter is sampled:
what it allocated, without the pages of files that the system may drop again.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parents[1]
SAMPLING = 0.02  # seconds between two looks at the memory
_PACKAGES = (
    "hyperspy_specml", "hyperspy", "exspy", "numpy", "scipy", "torch", "dask", "h5py", "scikit-learn",
)  # fmt: skip
_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16",
)  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One way to do the job.

    Attributes
    ----------
    name
        Row of the table.
    function
        "module:function", called with `arguments` (JSON) as keywords; returns the call to be timed.
    """

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of a contender in a process of its own.

    Attributes
    ----------
    seconds
        Wall time of the call.
    cpu_seconds
        Processor time of the call, all threads together; far from the wall time on a busy machine.
    process_seconds
        Wall time of the whole process: start of Python, imports and opening the file too.
    peak
        Largest anonymous memory of the whole process in bytes, None where the system does not tell it.
    facts
        What the call returned.
    """

    seconds: float
    cpu_seconds: float
    process_seconds: float
    peak: int | None
    facts: dict[str, Any]


def run_contender(contender: Contender) -> Run:
    """Run a contender once.

    Raises
    ------
    RuntimeError
        It failed; the message holds what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, printed = Path(folder, "answer.json"), Path(folder, "printed.txt")
        command = [
            sys.executable, "-m", "benchmarks._harness", contender.function, json.dumps(contender.arguments),
            str(answer),
        ]  # fmt: skip
        start = time.perf_counter()
        with printed.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            peak = _watch_memory(process)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"{contender.name} failed:\n{printed.read_text()[-4000:]}")
        found = json.loads(answer.read_text())
    return Run(found["seconds"], found["cpu_seconds"], seconds, peak, found["facts"])


def run_all(contenders: Sequence[Contender], *, repeats: int) -> dict[str, list[Run]]:
    """Run contenders in turn, so that whatever else the machine does hits all of them."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for repeat in range(repeats):
        for contender in contenders:
            run = run_contender(contender)
            runs[contender.name].append(run)
            _say(f"  {repeat + 1}/{repeats}  {contender.name}: {run.seconds:.1f} s, {megabytes(run.peak)}")
    return runs


def median(values: Iterable[float | None]) -> float | None:
    """Return the median; None where a value is missing."""
    known = list(values)
    return None if None in known or not known else statistics.median(known)


def ratio(value: float | None, reference: float | None) -> float | None:
    """Return value / reference; None where either is missing."""
    return value / reference if value is not None and reference else None


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number; a dash where it is missing."""
    return "-" if value is None else format(value, form)


def megabytes(value: float | None) -> str:
    """Format bytes."""
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as text: the first column to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    justify = [str.ljust] + [str.rjust] * (len(widths) - 1)
    return "\n".join(
        "  ".join(put(cell, width) for put, cell, width in zip(justify, line, widths, strict=True)).rstrip()
        for line in lines
    )


def save_record(path: Path, name: str, options: dict[str, Any], results: dict[str, Any]) -> None:
    """Write a benchmark's results with the facts of the machine as JSON; neither names nor paths of it."""
    record = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "options": {key: value for key, value in options.items() if not isinstance(value, Path)},
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(record), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge the numbers."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = _read(Path("/proc/cpuinfo"))
    model = re.search(r"model name\s*: (.*)", cpu)
    flags = re.search(r"(?:flags|Features)\s*: (.*)", cpu)
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read(Path("/proc/meminfo")))
    return {
        "system": platform.system(),
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flags and flag in flags[1].split()],
        "memory_gb": round(int(memory[1]) / 1e6, 1) if memory else None,
        "versions": versions,
    }


def anonymous_memory(pid: int | str = "self") -> int | None:
    """Return the bytes of anonymous memory that a process holds now (Linux), else None."""
    found = re.search(r"RssAnon:\s*(\d+) kB", _read(Path(f"/proc/{pid}/status")))
    return int(found[1]) * 1024 if found else None


def _watch_memory(process: subprocess.Popen) -> int | None:
    # From outside: a thread inside would wait for the interpreter's lock just when memory is allocated.
    peak = None
    while process.poll() is None:
        peak = max(peak or 0, anonymous_memory(process.pid) or 0) or None
        time.sleep(SAMPLING)
    return peak


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or a process that has just ended
        return ""


def _rounded(value: Any) -> Any:
    """Cut floats to 5 digits: more are noise, and make records long."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # progress: the table alone goes to the standard output


def _run_here(function: str, arguments: str, answer: str) -> None:
    """Prepare and time a contender in this process."""
    module, name = function.split(":")
    call: Callable[[], Any] = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    start, cpu_start = time.perf_counter(), time.process_time()
    facts = call()
    found = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
    facts = facts() if callable(facts) else facts or {}
    Path(answer).write_text(json.dumps({**found, "facts": facts}))


if __name__ == "__main__":
    _run_here(*sys.argv[1:])
