"""The package itself: lines of code, functions, how its modules import each other.

A module is a ``.py`` file; one directly below the package counts as a folder, too. Imports named by a string
(``importlib``) are not seen; those of a stub (``__init__.pyi``) are its module's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._harness import ROOT
from benchmarks._records import Table
from benchmarks._structure import structure

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

# The figures of `structure`, and how each is counted.
FIGURES = {
    "lines of code": "lines with a token that is no comment, outside of docstrings",
    "without a comment": "lines of code that no comment ends",
    "files": "modules",
    "longest file": "lines, all of them",
    "functions": "methods, and functions within functions too",
    "median function": "lines of code from def on",
    "90 % of functions": "have no more lines of code",
    "longest function": "lines of code",
    "# fmt: skip": "comments with it",
    "private imports": "statements with private modules or names of another folder, those for types too",
    "private names": "the names that these import",
    "longest chain": "modules, each imports the next; also within functions, not for types; circles whole",
    "longest chain, followed": "the same, names followed through modules that only pass them on",
    "longest chain of folders": "the same between folders, as imported",
    "circles": "largest groups of modules in which each leads to every other, imports for types too",
    "circles, followed": "the same, names followed through modules that only pass them on",
    "circles of folders": "the same between folders, as imported",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--package", type=Path, default=ROOT / "hyperspy_specml", help="folder of the package to look at"
    )


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Count."""
    counts, details = [], []
    for name, value in structure(options.package.resolve()).items():
        counts.append([name, str(len(value) if isinstance(value, list) else value), FIGURES[name]])
        lines = value if isinstance(value, list) else []
        details += [[name, one.replace(f"{options.package.name}.", "")] for one in lines]
    yield (
        "",
        [
            Table("counts", options.package.name, ["figure", "count", "how it is counted"], counts, keys=0),
            Table("which", options.package.name, ["figure", "modules"], details, keys=0),
        ],
    )
