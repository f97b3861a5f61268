"""All numbers that users see, on small fixed maps: saved, and compared after a change of the code.

Timings are not recorded. On one machine two runs of the same code are equal bit by bit.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._golden_cases import cases, run_case
from benchmarks._golden_maps import lazily, maps, measured_maps, missing
from benchmarks._golden_records import within
from benchmarks._harness import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from benchmarks._golden_records import Records

LARGEST = 1e-5  # of the spread of the reference: larger differences are listed one by one
_CASE_PARTS = 3  # a name starts with map, eager or lazy, and case


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--save", type=Path, metavar="FILE", help="run and save the numbers (.npz)")
    what.add_argument(
        "--compare", type=Path, metavar="FILE", help="run and compare with saved numbers; 1 if they differ"
    )
    parser.add_argument(
        "--only", default="", metavar="SUBSTRING", help="cases whose name has it, e.g. Fe-L/lazy or 'anomalies rx'"
    )
    parser.add_argument("--every", action="store_true", help="compare: one line for every record")


def run(options: argparse.Namespace) -> list[Any]:
    """Run the cases and save or compare their numbers.

    Returns
    -------
    no tables: the file is of one machine

    Raises
    ------
    SystemExit
        Numbers differ; the exit code is 1.
    """
    reference = None
    if options.compare:
        with np.load(options.compare, allow_pickle=False) as file:
            reference = {name: file[name] for name in file.files if options.only in _case(name)}
    records = record(options.only)
    if reference is None:
        with options.save.open("wb") as file:  # an open file: NumPy would add a suffix to other names
            np.savez_compressed(file, **records)  # type: ignore[arg-type]
        print(f"{len(records)} records saved.")
    elif report(reference, records, every=options.every):
        raise SystemExit(1)
    return []


def record(only: str = "") -> Records:
    """Run the cases whose name has a substring, with one thread."""
    import dask
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), dask.config.set(scheduler="synchronous"):
            return _record(only)
    finally:
        torch.set_num_threads(threads)


def differences(reference: Mapping[str, np.ndarray], records: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return for each common name the greatest difference over the spread of the reference."""
    return {name: _difference(reference[name], records[name]) for name in reference if name in records}


def report(
    reference: Mapping[str, np.ndarray], records: Mapping[str, np.ndarray], *, every: bool = False
) -> dict[str, str]:
    """Print differences by case or for every record, then those above `LARGEST`, missing and new ones.

    Returns
    -------
    what is wrong with each of the latter
    """
    found = differences(reference, records)
    greatest: dict[str, float] = {}
    for name, difference in found.items():
        key = name if every else _case(name)
        greatest[key] = max(greatest.get(key, 0.0), difference)
    print(table(["", "difference / spread"], [[name, f"{d:.1e}"] for name, d in greatest.items()]))
    wrong = {name: f"{d:.1e}" for name, d in found.items() if d > LARGEST}
    wrong |= {name: "missing" for name in reference if name not in records}
    wrong |= {name: "new" for name in records if name not in reference}
    if wrong:
        print(f"\n{len(wrong)} records differ by more than {LARGEST:g} of their spread, are missing or new:\n")
        print(table(["record", "difference / spread"], wrong.items()))
    print(f"\n{len(found)} records compared; greatest difference {max(found.values(), default=0.0):.1e}.")
    return wrong


def _record(only: str) -> Records:
    records: Records = {}
    for reason in filter(None, map(missing, measured_maps())):
        print(reason, file=sys.stderr)
    for name, make in maps().items():
        signal, other = make()
        for mode, one, two in (("eager", signal, other), ("lazy", lazily(signal), lazily(other))):
            for case, call in cases(name, one, two):
                key = f"{name}/{mode}/{case}"
                if only not in key:
                    continue
                start = time.perf_counter()
                records |= within(key, run_case(call))
                print(f"  {time.perf_counter() - start:5.1f} s  {key}", file=sys.stderr, flush=True)
    return records


def _case(name: str) -> str:
    return "/".join(name.split("/")[:_CASE_PARTS])


def _difference(reference: np.ndarray, values: np.ndarray) -> float:
    """Return the greatest difference over the spread; infinite for other text, shapes or places of NaN.

    The spread is the standard deviation of the reference, or where that is 0 its absolute value.
    """
    if reference.shape != values.shape:
        return float("inf")
    if "U" in (reference.dtype.kind, values.dtype.kind):
        return 0.0 if reference.size == 0 or np.array_equal(reference, values) else float("inf")
    equal = (reference == values) | (np.isnan(reference) & np.isnan(values))
    if equal.all():
        return 0.0
    finite = np.isfinite(reference)
    if not np.isfinite(values[~equal]).all() or not finite[~equal].all():
        return float("inf")
    size = float(np.abs(reference[finite]).max())
    spread = float(reference[finite].std())
    spread = spread if spread > 1e-12 * size else size  # of equal values only rounding is left
    greatest = float(np.abs(values - reference)[~equal].max())
    return greatest / spread if spread else float("inf")
