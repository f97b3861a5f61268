"""Tables of results: printed, kept as JSON in benchmarks/results, and shown by docs/benchmarks.rst.

A record is one file. Its first fields tell of its newest run: ``benchmark`` (the name of the file),
``command``, ``date`` (ISO), ``package_version``, ``commit``, ``versions`` of libraries, ``machine``. Each of
its ``tables`` has ``name``, ``caption`` (the conditions), ``columns`` and ``rows`` of text. Where rows are of
earlier runs, ``earlier`` lists these runs with the same fields, and ``runs`` of a table has a number for each
row: 0 is the newest run, 1 the first of ``earlier``. A run may say in ``recorded`` how its rows came here.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._harness import ROOT, read, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    Rows = list[tuple[list[str], dict[str, Any]]]  # cells of a row, and the run that they are of

RESULTS = ROOT / "benchmarks" / "results"
_RUN = ("command", "date", "package_version", "commit", "versions", "machine", "recorded")
_LIBRARIES = ("hyperspy", "exspy", "numpy", "scipy", "torch", "dask", "h5py", "scikit-learn", "scikit-image")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimddp",
          "i8mm", "bf16")  # fmt: skip
_COUNT = re.compile(r"(\d+)(?: of (\d+))?")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    name
        What the page calls for, unique in its file.
    caption
        The conditions that all rows share: sizes, numbers of maps, what is compared.
    columns, rows
        Text; rows are as long as columns.
    keys
        How many of the first cells name a row. A rerun of some rows replaces those and keeps the others,
        where caption and columns are the same; with 0 keys it replaces the table.
    total
        Whether a last row "all" has the sums of counts ("3", "3 of 66").
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1
    total: bool = False

    def __post_init__(self) -> None:
        names = [tuple(row[: self.keys]) for row in self.rows] if self.keys else []
        if alike := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"table {self.name!r}: rows of the same name would replace each other, {sorted(alike)}")

    def text(self) -> str:
        """Return it for the console."""
        rows = [*self.rows, _sums(self.rows)] if self.total else self.rows
        return f"{self.name}: {self.caption}\n\n{table(self.columns, rows)}"


def save_tables(path: Path, tables: Sequence[Table], run: dict[str, Any]) -> None:
    """Write tables into a record; what is there and was not measured again stays, with its own run.

    Parameters
    ----------
    path
        Of the record.
    tables
        What was measured.
    run
        How: what `this_run` returns.
    """
    old = json.loads(path.read_text()) if path.exists() else {"tables": []}
    found = {one["name"]: (one, _rows_of(one, old)) for one in old["tables"]}
    for new in tables:
        rows: Rows = [([*cells], run) for cells in new.rows]
        head = {"name": new.name, "caption": new.caption, "columns": [*new.columns]}
        before, kept = found.get(new.name, (head, []))
        if new.keys and all(before[key] == head[key] for key in head):
            rows = _merged(kept[:-1] if new.total else kept, rows, new.keys)
        elif new.keys:
            print(f"{path.name}: {new.name!r} replaces rows of other conditions: {before['caption']}")
        total: Rows = [(_sums([cells for cells, _ in rows]), run)] if new.total else []
        found[new.name] = head, rows + total
    _write(path, [*found.values()], run)


def this_run(command: str) -> dict[str, Any]:
    """Return what a reader needs to judge the numbers; neither names nor paths of the machine."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "package_version": importlib.metadata.version("hyperspy_specml"),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": _machine(),
    }


def _rows_of(one: dict[str, Any], record: dict[str, Any]) -> Rows:
    runs = [{key: record[key] for key in _RUN if key in record}, *record.get("earlier", [])]
    numbers = one.get("runs", [0] * len(one["rows"]))
    return [(cells, runs[number]) for cells, number in zip(one["rows"], numbers, strict=True)]


def _merged(old: Rows, new: Rows, keys: int) -> Rows:
    """Return the rows in the order of the old ones, those that were measured again replaced."""
    return [*{tuple(row[0][:keys]): row for row in [*old, *new]}.values()]


def _write(path: Path, found: Sequence[tuple[dict[str, Any], Rows]], run: dict[str, Any]) -> None:
    runs, tables = [run], []
    for head, rows in found:
        for _, other in rows:
            if other not in runs:
                runs.append(other)
        numbers = [runs.index(other) for _, other in rows]
        one = {key: head[key] for key in ("name", "caption", "columns")}
        one["rows"] = [cells for cells, _ in rows]
        tables.append(one | ({"runs": numbers} if any(numbers) else {}))
    earlier = {"earlier": runs[1:]} if runs[1:] else {}
    record = {"benchmark": path.stem, **run, "tables": tables, **earlier}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_on_few_lines(json.dumps(record, indent=1, ensure_ascii=False)) + "\n", encoding="utf-8")


def _on_few_lines(text: str) -> str:
    """Put lists without lists in them on one line each, so that a row is a line of a difference."""
    return re.sub(r"\[\n([^][{}]*)\]", lambda found: "[" + re.sub(r"\n\s*", " ", found[1]).strip() + "]", text)


def _sums(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the row "all": sums of counts, a dash below anything else."""
    sums = ["all"]
    for column in list(zip(*rows, strict=True))[1:]:
        counts = [_COUNT.fullmatch(cell) for cell in column if cell != "-"]
        parts = zip(*(found.groups("") for found in counts if found), strict=True)
        totals = [str(sum(map(int, part))) for part in parts if all(part)]
        sums.append(" of ".join(totals) if counts and all(counts) else "-")
    return sums


def _commit() -> str | None:
    """Return the short name of the commit, "+" where the code was changed since; None outside a clone."""
    git = ["git", "-C", str(ROOT)]
    changed = [*git, "diff", "--quiet", "HEAD", "--", "hyperspy_specml", ":(glob)benchmarks/*.py"]
    try:
        name = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], stderr=subprocess.DEVNULL)
        return name.decode().strip() + "+" * subprocess.call(changed)
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def _machine() -> dict[str, Any]:
    cpu = read(Path("/proc/cpuinfo"))
    model = re.search(r"model name\s*: (.*)", cpu)
    flags = re.search(r"(?:flags|Features)\s*: (.*)", cpu)
    memory = re.search(r"MemTotal:\s*(\d+) kB", read(Path("/proc/meminfo")))
    return {
        "system": platform.system(),
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "flags": [flag for flag in _FLAGS if flags and flag in flags[1].split()],
        "memory_gb": round(int(memory[1]) / 1e6, 1) if memory else None,
    }
