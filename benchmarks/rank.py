"""The number of components that held-out counts choose, beside what is expected, for each architecture.

The record also has the curve: how much worse than the best each number is, and the standard error of that.

Expected are, for PCA, the rank with the smallest noise-free error; for simplex, the endmembers; for the dense
autoencoder, the free numbers behind a spectrum. "Least error" is the number whose noise-free error is the
smallest, for the dense autoencoder that of the trained ones; only the truth tells it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks._harness import Contender, run_all
from benchmarks._maps import FIELDS, known_map
from benchmarks._records import Table
from benchmarks.decomposition import QUICK, add_places, decompose, places, size_of
from benchmarks.fe_l import best_pca, error_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

ARCHITECTURES = ("pca", "simplex", "dense")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_places(parser)
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES, help="which (all)")
    parser.add_argument("--quick", action="store_true", help="32 x 32 pixels, 256 channels")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure."""
    if options.quick:
        vars(options).update({**QUICK, "seeds": options.seeds})
    results = {key: _choices(where, options.seeds, options.architectures) for key, where in places(options)}
    head = ["map", "architecture", "expected", "least error", "chosen", "within one"]
    caption = f"{size_of(options)}; one number for each seed"
    rows = [row for key, found in results.items() for row in _rows(key, found)]
    yield "", [Table("chosen", caption, head, rows, keys=2)]


def chosen(where: dict[str, Any], architecture: str) -> Callable[[], dict[str, Any]]:
    """Prepare decomposition_ae without a number of components."""
    known = known_map(**where)

    def call() -> dict[str, Any]:
        report = decompose(known, None, where["seed"], architecture).report
        curve = report.rank
        worse = (float(score - min(curve.scores)) for score in curve.scores)
        errors = map(float, curve.standard_errors)
        return {"chosen": report.n_components, "curve": [*zip(map(int, curve.ranks), worse, errors, strict=True)]}

    return call


def best_latents(where: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Prepare the search of the number of latents whose noise-free error is the smallest."""
    known = known_map(**where)

    def call() -> dict[str, Any]:
        errors: list[float] = []
        while len(errors) - 2 < (best := errors.index(min(errors)) + 1 if errors else 1):
            found = decompose(known, len(errors) + 1, where["seed"], "dense")
            errors.append(error_of(found.reconstruction.data.reshape(known.clean.shape), known.clean))
        return {"best": best}

    return call


def _choices(where: dict[str, Any], seeds: int, architectures: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return, by architecture and seed, the number chosen, those expected and the one of the least error."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in architectures}
    call = "benchmarks.rank:"
    for seed in range(seeds):
        here = {**where, "seed": seed}
        known = known_map(**here)
        oracle = best_pca(known.counts, known.clean)[1]
        phases = None if known.endmembers is None else [len(known.endmembers)] * 2
        contenders = [Contender(name, f"{call}chosen", {"where": here, "architecture": name}) for name in architectures]
        if "dense" in architectures:
            contenders.append(Contender("oracle", f"{call}best_latents", {"where": here}))
        runs = run_all(contenders, repeats=1)
        expected = {"pca": [oracle] * 2, "simplex": phases, "dense": list(FIELDS[where["name"]])}
        best = {"pca": oracle, "dense": runs["oracle"][0].facts["best"] if "oracle" in runs else None}
        for name in architectures:
            found[name].append({**runs[name][0].facts, "expected": expected[name], "best": best.get(name)})
    return found


def _rows(key: str, found: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    rows = []
    for name, runs in found.items():
        bounds = [run["expected"] for run in runs]
        near = sum(
            low - 1 <= run["chosen"] <= high + 1 for run, (low, high) in zip(runs, filter(None, bounds), strict=False)
        )
        texts = [" to ".join(map(str, dict.fromkeys(pair))) if pair else "-" for pair in bounds]
        rows.append([
            key, name, ", ".join(dict.fromkeys(texts)), _listed([run["best"] for run in runs]),
            _listed([run["chosen"] for run in runs]), f"{near} of {len(runs)}" if all(bounds) else "-",
        ])  # fmt: skip
    return rows


def _listed(values: list[int | None]) -> str:
    return ", ".join("-" if value is None else str(value) for value in values)
