"""Anomaly maps: average precision beside rivals and an oracle, contamination, calibration, cost.

The rivals get the rank of the truth, which no user knows; ours gets nothing. The oracle knows each pixel's
spectrum with and without the anomaly, but not that anomalous pixels lie together, which the scan uses.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from benchmarks import _cost
from benchmarks._anomaly_calibration import Size, null_table, planted_table, with_anomalies, without_anomalies
from benchmarks._anomaly_cases import (
    CONTAMINANTS,
    KINDS,
    contamination_table,
    methods_table,
    normals_table,
    rivals_table,
    score_case,
    score_contaminated,
    score_normals,
    smallest,
    smallest_table,
)
from benchmarks._anomaly_measured import measure
from benchmarks._anomaly_shapes import SHAPES, score_shape, shapes_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from benchmarks._records import Table

PARTS = ("rivals", "smallest", "shapes", "contamination", "normal", "calibration", "measured", "cost")
LONG = ("cost",)  # not part of --quick


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="fewer cases and maps: under 15 minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all; --quick: all but cost")
    parser.add_argument("--size", type=int, default=128, help="pixels along each scan axis (128)")
    parser.add_argument("--channels", type=int, help="energy channels (2048; quick: 1024)")
    parser.add_argument("--doses", type=float, nargs="+", help="counts per pixel; of Fe-L a tenth per channel")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--pixels", type=int, nargs="+", help="of the planted phase (1 4 9 24 30; quick: 24)")
    parser.add_argument("--fractions", type=float, nargs="+", help="of it (0.1 0.4 1; quick: 0.4)")
    parser.add_argument("--seeds", type=int, help="maps of each case (5; quick: 1)")
    parser.add_argument("--null-maps", type=int, help="maps without anomalies of each case (66; quick: 3)")
    parser.add_argument("--planted-maps", type=int, help="maps with six phases of each case (10; quick: 1)")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, part by part, and case by case beside rivals."""
    quick = options.quick
    usual = {
        "channels": (2048, 1024), "doses": ([20.0, 200.0, 1000.0], [200.0]), "seeds": (5, 1),
        "pixels": ([1, 4, 9, 24, 30], [24]), "fractions": ([0.1, 0.4, 1.0], [0.4]), "null_maps": (66, 3),
        "planted_maps": (10, 1),
    }  # fmt: skip
    for name, (full, brief) in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, brief if quick else full)
    parts = {
        "rivals": _rivals, "smallest": _smallest, "shapes": _shapes, "contamination": _contamination, "normal": _normal,
        "calibration": _calibration, "measured": lambda _: iter([measure()]),
        "cost": lambda options: iter([_cost.measure("anomaly_map", options.size, options.channels)]),
    }  # fmt: skip
    for part in options.parts or [name for name in PARTS if not (quick and name in LONG)]:
        yield from ((part, tables) for tables in parts[part](options))


def _rivals(options: argparse.Namespace) -> Iterator[list[Table]]:
    for kind in options.kinds:
        channels = min(512, options.channels) if kind == "fe-l" else options.channels
        size, cases = Size(options.size, channels), []
        where = f"{size}; maps of each case: {options.seeds}"
        for dose, n_pixels, fraction in product(options.doses, options.pixels, options.fractions):
            runs = [
                score_case(kind, dose, seed, size, rare=(n_pixels, fraction), quick=options.quick)
                for seed in range(options.seeds)
            ]
            cases.append({"kind": kind, "dose": dose, "pixels": n_pixels, "fraction": fraction, "runs": runs})
            yield [methods_table(where, cases[-1])]
        yield [rivals_table(where, cases)]


def _smallest(options: argparse.Namespace) -> Iterator[list[Table]]:
    size = _at_most(options, 64, 512)
    found = [
        smallest(kind, dose, size, fraction=fraction, pixels=options.pixels, seeds=options.seeds)
        for kind, dose, fraction in product(options.kinds, options.doses, options.fractions)
    ]
    tried = ", ".join(map(str, options.pixels))
    yield [smallest_table(f"of {tried}; {size}; maps of each case: {options.seeds}", found)]


def _shapes(options: argparse.Namespace) -> Iterator[list[Table]]:
    cases = []
    size = _at_most(options, 64, 512) if options.quick else Size(options.size, options.channels)
    for kind, dose, fraction, shape in product(options.kinds, options.doses, options.fractions, SHAPES):
        if kind == "fe-l":  # what is rare there has no lines of its own
            continue
        runs = [score_shape(kind, dose, seed, size, fraction=fraction, shape=shape) for seed in range(options.seeds)]
        cases.append({"kind": kind, "dose": dose, "fraction": fraction, "shape": shape, "runs": runs})
    if cases:
        yield [shapes_table(f"{size}; maps of each case: {options.seeds}", cases)]


def _contamination(options: argparse.Namespace) -> Iterator[list[Table]]:
    cases = []
    size = _at_most(options, 64, 1024) if options.quick else Size(options.size, options.channels)
    for kind, dose, fraction in product(options.kinds, options.doses, CONTAMINANTS):
        if kind == "fe-l":  # what is rare there has no lines of its own
            continue
        runs = [score_contaminated(kind, dose, seed, size, fraction=fraction) for seed in range(options.seeds)]
        cases.append({"kind": kind, "dose": dose, "fraction": fraction, "runs": runs})
    yield [contamination_table(f"{size}; maps of each case: {options.seeds}", cases)]


def _normal(options: argparse.Namespace) -> Iterator[list[Table]]:
    cases = []
    size = _at_most(options, 64, 512)
    for kind, dose, n_pixels, fraction in product(options.kinds, options.doses, options.pixels, options.fractions):
        runs = [score_normals(kind, dose, seed, size, rare=(n_pixels, fraction)) for seed in range(options.seeds)]
        cases.append({"kind": kind, "dose": dose, "pixels": n_pixels, "fraction": fraction, "runs": runs})
    yield [normals_table(f"{size}; maps of each case: {options.seeds}", cases)]


def _calibration(options: argparse.Namespace) -> Iterator[list[Table]]:
    cases = list(product(options.kinds, options.doses))
    size = _at_most(options, 64, 512)
    if options.null_maps:
        null = [without_anomalies(kind, dose, options.null_maps, size) for kind, dose in cases]
        yield [null_table(size, null)]
    size = _at_most(options, 64, 1024)  # cosmic rays need lines wider than a channel
    planted = [with_anomalies(kind, dose, options.planted_maps, size) for kind, dose in cases]
    yield [planted_table(size, planted)]


def _at_most(options: argparse.Namespace, pixels: int, channels: int) -> Size:
    return Size(min(pixels, options.size), min(channels, options.channels))
