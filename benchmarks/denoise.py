"""Noise-free error of ``s.denoise_dae()`` beside rivals, tuned knowing the truth and by held-out counts.

The error is RMSE over the standard deviation of the truth. The rivals are noise-weighted PCA (much as
HyperSpy's Poisson-normalised SVD) of ranks up to 12, as it is and with its score maps filtered: Gaussian,
total variation, joint non-local means, and BM3D where the package is installed. Each gets its best rank and
strength once knowing the truth, which no user can, and once by squared error on the counts of a held-out
fold, as ours. Ours knows no truth.

Further parts: what held-out counts choose beside the best candidate, the valence of iron by a fit of
references, what remains of a rare phase, repeats and element maps of measured maps, time and memory.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

from benchmarks import _cost, _denoise_choice, _denoise_measured, _denoise_rare, _denoise_valence
from benchmarks._denoise_rivals import error_of, rivals
from benchmarks._harness import median, number
from benchmarks._maps import denoising_map
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

MAPS = ("smooth", "grains", "fe_l")
PARTS = ("errors", "choice", "valence", "rare", "repeats", "elements", "cost")
LONG = ("choice", "elements", "cost")  # not part of --quick
QUICK_SIZE, QUICK_CHANNELS = 96, 1024  # with 64 pixels the networks have too little to learn from
_DOSES = (20.0, 50.0, 200.0, 1000.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one seed of {QUICK_SIZE} x {QUICK_SIZE} pixels and {QUICK_CHANNELS} channels (rare: 64 x 64; "
        "valence: 40 x 40, two draws, 10 to 300 counts), none of choice, elements and cost: 11 minutes on one core",
    )
    parser.add_argument("--parts", nargs="+", default=None, choices=PARTS, help="only these")
    parser.add_argument("--maps", nargs="+", default=list(MAPS), choices=MAPS)
    parser.add_argument(
        "--doses", type=float, nargs="+", default=list(_DOSES), help="counts per pixel (EDS), per channel (EELS)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--channels", type=int, default=2048, help="of the EDS maps; EELS maps have 512")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, part by part."""
    parts = options.parts or [part for part in PARTS if not (options.quick and part in LONG)]
    maps, doses = options.maps, options.doses
    size, channels, seeds = options.size, options.channels, options.seeds
    if options.quick:
        size, channels, seeds = min(size, QUICK_SIZE), min(channels, QUICK_CHANNELS), 1
    measures: dict[str, Callable[[], list[Table]]] = {
        "errors": lambda: _errors(maps, doses, size, channels, seeds),
        "choice": lambda: _denoise_choice.measure(maps, doses, size, channels, seeds),
        "valence": lambda: _denoise_valence.measure(size, options.quick),
        "rare": lambda: _denoise_rare.measure(min(size, 64) if options.quick else size, channels, seeds),
        "repeats": _denoise_measured.measure,
        "elements": _denoise_measured.elements,
        "cost": lambda: _cost.measure("denoise_dae", options.size, options.channels),
    }
    yield from ((part, measures[part]()) for part in PARTS if part in parts)


def _errors(maps: Sequence[str], doses: Sequence[float], size: int, channels: int, seeds: int) -> list[Table]:
    results = {
        f"{name} {dose:g}": [_measure(name, dose, size, channels, seed) for seed in range(seeds)]
        for name in maps
        for dose in doses
    }
    head = [
        "map, counts", "ours", "best PCA", "best rival", "which", "ours / it", "ours / tuned rival",
        "spectral / best PCA", "auto / best context", "chosen", "seconds",
    ]  # fmt: skip
    caption = f"{size} x {size} pixels, {channels} channels of EDS maps; seeds: {seeds}"
    return [Table("errors", caption, head, [_row(name, runs) for name, runs in results.items()])]


def _measure(name: str, dose: float, size: int, channels: int, seed: int) -> dict[str, Any]:
    import hyperspy_specml as specml

    simulated, clean = denoising_map(name, dose=dose, size=size, channels=channels, seed=seed)

    def denoised(context: str) -> tuple[float, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = simulated.signal.denoise_dae(context=context, random_state=seed, show_progressbar=False)
        return error_of(found.data, clean), specml.denoise_report(found)

    start = time.perf_counter()
    ours, report = denoised("auto")
    seconds = time.perf_counter() - start
    others = {context: denoised(context)[0] for context in (("spectral", "spatial") if name == "fe_l" else ())}
    known, tuned = rivals(simulated.signal.data, clean, seed)
    best = min(known, key=lambda rival: known[rival])
    return {
        "ours": ours,
        "contexts": others,
        "chosen": report.chosen,
        "candidates": {candidate.name: candidate.validation_score for candidate in report.candidates},
        "noise_reduction": report.noise_reduction,
        "known": known,
        "tuned": tuned,
        "best_rival": best,
        "seconds": seconds,
    }


def _row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    best = [min(run["known"].values()) for run in runs]

    def middle(values: list[float], form: str = ".3f") -> str:
        return number(median(values) if values else None, form)

    ours = [run["ours"] for run in runs]
    return [
        name,
        middle(ours, ".4f"),
        middle([run["known"]["pca"] for run in runs], ".4f"),
        middle(best, ".4f"),
        runs[0]["best_rival"],
        middle([a / b for a, b in zip(ours, best, strict=True)]),
        middle([run["ours"] / run["tuned"]["error"] for run in runs]),
        middle([run["contexts"]["spectral"] / run["known"]["pca"] for run in runs if run["contexts"]]),
        middle([run["ours"] / min(run["contexts"].values()) for run in runs if run["contexts"]]),
        runs[0]["chosen"],
        middle([run["seconds"] for run in runs], ".1f"),
    ]
