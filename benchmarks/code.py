"""The package itself: lines of code, functions, how its modules import each other.

Lines of code are those with anything but a comment on them, without docstrings; the second figure leaves out
those that a comment ends. A function's lines are counted alike, from ``def`` on. A room is a folder or a
module directly below the package. A private import names a module or a name that starts with an underscore,
in another room. Chains are without imports for types, and with those inside functions; all modules of a
circle count. Circles are with imports for types: groups of modules of which each imports all others, on
detours if need be. Names that a module only passes on are followed to where they are defined in the lines
that say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._harness import ROOT, table
from benchmarks._structure import structure

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--package", type=Path, default=ROOT / "hyperspy_specml", help="folder of the package to look at"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Count and print."""
    found = structure(options.package.resolve())
    print(table(["", "count"], [[name, str(_count(value))] for name, value in found.items()]))
    for name, value in found.items():
        for one in value if isinstance(value, list) and "circles" in name else []:
            print(f"\n{name}: {', '.join(one)}")
    print(f"\nlongest chain: {' > '.join(found['longest chain of modules'])}")
    return found


def _count(value: int | list[Any]) -> int:
    return len(value) if isinstance(value, list) else value
