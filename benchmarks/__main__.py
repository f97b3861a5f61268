"""Run a benchmark by name, or list them."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._records import RESULTS, save_tables, this_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Each is a module with add_arguments(parser), a docstring whose first line is what the list says, and
# run(options), which yields (part, tables) as they are measured; they are printed and saved here.
BENCHMARKS = {
    "lazy": "benchmarks.lazy",
    "fe-l": "benchmarks.fe_l",
    "decomposition": "benchmarks.decomposition",
    "architectures": "benchmarks.architectures",
    "rank": "benchmarks.rank",
    "line-width": "benchmarks.line_width",
    "denoise": "benchmarks.denoise",
    "anomaly": "benchmarks.anomaly",
    "field": "benchmarks.field",
    "live": "benchmarks.live",
    "phases": "benchmarks.phases",
    "pretrain": "benchmarks.pretrain",
    "golden": "benchmarks.golden",
    "progress": "benchmarks.progress",
    "code": "benchmarks.code",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line names."""
    modules = {name: importlib.import_module(module) for name, module in BENCHMARKS.items()}
    titles = {name: (module.__doc__ or "").splitlines()[0] for name, module in modules.items()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in modules.items():
        command = commands.add_parser(name, help=titles[name], description=titles[name], allow_abbrev=False)
        module.add_arguments(command)
        command.add_argument("--results", type=Path, default=RESULTS, help="folder of the records (benchmarks/results)")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    if options.name is None:
        print("python -m benchmarks NAME [--help]\n")
        print("\n".join(f"  {name:<15}{title}" for name, title in titles.items()))
        return
    paths = {value for value in vars(options).values() if isinstance(value, Path)}
    run = this_run(shlex.join(["python", "-m", "benchmarks", *_without(paths, arguments)]))
    quick = "quick" if getattr(options, "quick", False) else ""
    for part, tables in modules[options.name].run(options):
        file = "-".join(filter(None, (options.name, part, quick)))
        save_tables(options.results / f"{file}.json", tables, run)
        print("\n\n".join(one.text() for one in tables), end="\n\n", flush=True)


def _without(paths: set[Path], arguments: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command but places of this machine and the options that name them."""
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        value = Path(word.partition("=")[2] or word)
        if value not in paths and not (word.startswith("--") and Path(following) in paths):
            yield word


if __name__ == "__main__":
    main()
