"""What every benchmark needs: contenders in processes of their own, medians, tables as text.

A contender is a function that prepares (imports, opens the file) and returns a call; the call alone is
timed, in a fresh interpreter, and may return facts about itself that fit into JSON, or a function that
finds them when the clock has stopped. From outside, the anonymous memory of that interpreter is sampled:
what it allocated, without the pages of files that the system may drop again.
"""

from __future__ import annotations

import importlib
import json
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
    found = list(values)
    known = [value for value in found if value is not None]
    return statistics.median(known) if known and len(known) == len(found) else None


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
    """Return a table as text: columns of numbers to the right, the first and those of words to the left."""
    lines = [list(head), *map(list, rows)]
    columns = [*zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    lines.insert(1, ["-" * width for width in widths])
    numbers = [any(re.match(r"[-+<\d]", cell) for cell in column[1:]) for column in columns]
    justify = [str.rjust if right else str.ljust for right in [False, *numbers[1:]]]
    return "\n".join(
        "  ".join(put(cell, width) for put, cell, width in zip(justify, line, widths, strict=True)).rstrip()
        for line in lines
    )


def anonymous_memory(pid: int | str = "self") -> int | None:
    """Return the bytes of anonymous memory that a process holds now (Linux), else None."""
    found = re.search(r"RssAnon:\s*(\d+) kB", read(Path(f"/proc/{pid}/status")))
    return int(found[1]) * 1024 if found else None


def _watch_memory(process: subprocess.Popen) -> int | None:
    # From outside: a thread inside would wait for the interpreter's lock just when memory is allocated.
    peak = None
    while process.poll() is None:
        peak = max(peak or 0, anonymous_memory(process.pid) or 0) or None
        time.sleep(SAMPLING)
    return peak


def read(path: Path) -> str:
    """Return the text of a file of the system; nothing where it is not there."""
    try:
        return path.read_text()
    except OSError:  # another system, or a process that has just ended
        return ""


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
