"""Run a benchmark by name, or list them."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._harness import save_record

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each is a module with add_arguments(parser) and run(options) -> dict of results, and a docstring whose first
# line is what the list says.
BENCHMARKS = {
    "lazy": "benchmarks.lazy",
    "fe-l": "benchmarks.fe_l",
    "decomposition": "benchmarks.decomposition",
    "rank": "benchmarks.rank",
    "denoise": "benchmarks.denoise",
    "anomaly": "benchmarks.anomaly",
    "golden": "benchmarks.golden",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line names."""
    modules = {name: importlib.import_module(module) for name, module in BENCHMARKS.items()}
    titles = {name: (module.__doc__ or "").splitlines()[0] for name, module in modules.items()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in modules.items():
        command = commands.add_parser(name, help=titles[name], description=titles[name])
        module.add_arguments(command)
        command.add_argument(
            "--json", type=Path, help="file of the record; default benchmarks/results/NAME.json"
        )
    options = vars(parser.parse_args(arguments))
    name, path = options.pop("name"), options.pop("json", None)
    if name is None:
        print("python -m benchmarks NAME [--help]\n")
        print("\n".join(f"  {name:<15}{title}" for name, title in titles.items()))
        return
    results = modules[name].run(argparse.Namespace(**options))
    save_record(path or Path(__file__).parent / "results" / f"{name}.json", name, options, results)
    if results.get("differing"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
