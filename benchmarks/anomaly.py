"""Anomaly maps: average precision beside rivals and an oracle, calibration without anomalies, measured maps.

The rivals get the rank of the truth, which no user knows; ours gets nothing. The oracle knows each pixel's
spectrum with and without the anomaly, but not that anomalous pixels lie together, which the scan uses.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._harness import ROOT, number, table

if TYPE_CHECKING:
    import argparse

    from hyperspy_specml.datasets import SimulatedMap

KINDS = {"alloy": 4, "grains": 4, "fe-l": 8}  # and the rank that the rivals get
MEASURED = {
    "88_ES-LP": "espm/88_ES-LP_G8_selection2_cropped2.hspy",
    "tilt 0": "openncem/tilt_0.bcf",
    "tilt 10": "openncem/tilt_10.bcf",
}
LEVELS = (0.1, 0.01, 0.001)
FDR = 0.05
POWER = 0.8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="fewer cases and maps: under 15 minutes")
    parser.add_argument("--size", type=int, default=128, help="pixels along each scan axis (128)")
    parser.add_argument("--channels", type=int, help="energy channels (2048; quick: 1024)")
    parser.add_argument(
        "--doses", type=float, nargs="+", help="counts per pixel; of Fe-L a tenth per channel"
    )
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", type=int, help="maps of each case (5; quick: 1)")
    parser.add_argument("--null-maps", type=int, help="maps without anomalies of each case (22; quick: 3)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print."""
    options.channels = options.channels or (1024 if options.quick else 2048)
    options.doses = options.doses or ([200.0] if options.quick else [20.0, 200.0, 1000.0])
    options.seeds = options.seeds or (1 if options.quick else 5)
    options.null_maps = options.null_maps or (3 if options.quick else 22)
    sizes = [24] if options.quick else [1, 4, 9, 24, 30]
    fractions = [0.4] if options.quick else [0.1, 0.4, 1.0]
    cases = []
    for kind in options.kinds:
        for dose in options.doses:
            for n_pixels in sizes:
                for fraction in fractions:
                    runs = [
                        _case(options, kind, dose, n_pixels, fraction, seed) for seed in range(options.seeds)
                    ]
                    cases.append({
                        "kind": kind, "dose": dose, "pixels": n_pixels, "fraction": fraction, "runs": runs,
                    })  # fmt: skip
                    print(_case_table(cases[-1]), "\n", flush=True)
    print(_smallest_table(cases), "\n")
    null = [_null(options, kind, dose) for kind in options.kinds for dose in options.doses]
    print(_null_table(null), "\n")
    return {"cases": cases, "null": null, "measured": _measured()}


def _simulate(
    options: argparse.Namespace, kind: str, dose: float, seed: int, rare: tuple[int, float] | None,
    size: int, channels: int,
) -> SimulatedMap:  # fmt: skip
    from hyperspy_specml import datasets

    shape = (size, size)
    if kind == "fe-l":
        edge = rare and datasets.ShiftedEdge(rare[0], 2 * rare[1])
        return datasets.fe_l_map(
            shape, n_channels=channels // 2, dose=dose / 10, rare_phase=edge, random_state=seed
        )
    phase = rare and datasets.RarePhase(*rare)
    texture = "grains" if kind == "grains" else "smooth"
    return datasets.fe_cr_ni_map(
        shape, n_channels=channels, dose=dose, n_phases=4, texture=texture, rare_phase=phase,
        random_state=seed,
    )  # fmt: skip


def _case(
    options: argparse.Namespace, kind: str, dose: float, n_pixels: int, fraction: float, seed: int
) -> dict[str, Any]:
    """Score one map with everything."""
    from benchmarks._anomaly_rivals import (
        autoencoder_error,
        average_precision,
        oracle,
        rivals,
        true_positives,
    )

    size, channels = options.size, options.channels
    simulated = _simulate(options, kind, dose, seed, (n_pixels, fraction), size, channels)
    signal, truth = simulated.signal, simulated.rare_mask.data
    start = time.perf_counter()
    found = signal.anomaly_map(fdr=FDR, show_progressbar=False)
    seconds = {"anomaly_map": time.perf_counter() - start}
    scores = {"anomaly_map": found.score.data}
    methods = rivals() | ({} if options.quick else {"autoencoder squared_error": autoencoder_error})
    for name, method in methods.items():
        start = time.perf_counter()
        scores[name] = method(signal, KINDS[kind])
        seconds[name] = time.perf_counter() - start
    normal = _simulate(options, kind, dose, seed, None, size, channels).clean.data.astype("float64")
    scores["oracle, pixel by pixel"] = oracle(
        signal.data, normal, _everywhere(simulated, normal, fraction, kind)
    )
    true_regions = [region for region in found.regions if _touches(region, truth)]
    return {
        "average_precision": {name: average_precision(score, truth) for name, score in scores.items()},
        "true_positives": {name: true_positives(score, truth) for name, score in scores.items()},
        "seconds": seconds,
        "found": bool(true_regions),
        "regions": len(found.regions),
        "false_regions": len(found.regions) - len(true_regions),
        "named": kind == "fe-l"
        or any("Nb" in [c.element for c in region.candidates[:3]] for region in true_regions),
    }


def _everywhere(simulated: SimulatedMap, normal: Any, fraction: float, kind: str) -> Any:
    """Return what every pixel would be if it were anomalous."""
    import numpy as np

    if kind == "fe-l":
        axis = simulated.signal.axes_manager.signal_axes[0].axis
        shifted = axis - 2 * fraction
        return np.apply_along_axis(lambda spectrum: np.interp(shifted, axis, spectrum), -1, normal)
    rare = simulated.endmembers.data[-1]
    return (1 - fraction) * normal + fraction * normal.sum(axis=-1, keepdims=True) * rare


def _touches(region: Any, truth: Any) -> bool:
    """Return whether a region touches the planted phase widened by the largest window."""
    import scipy.ndimage

    wide = scipy.ndimage.binary_dilation(truth, iterations=2)
    return any(wide[y, x] for x, y in region.pixels)


def _null(options: argparse.Namespace, kind: str, dose: float) -> dict[str, Any]:
    """Measure p-values where nothing is anomalous, on maps of 64 x 64 x 512."""
    import numpy as np

    size, channels = (64, 512) if options.size >= 64 else (options.size, options.channels)
    channels = 2 * channels if kind == "fe-l" else channels
    p, any_region = [], 0
    for seed in range(options.null_maps):
        signal = _simulate(options, kind, dose, 1000 + seed, None, size, channels).signal
        found = signal.anomaly_map(fdr=0.01, random_state=seed, show_progressbar=False)
        p.append(found.p_value.data.ravel())
        any_region += bool(found.regions)
    pooled = np.concatenate(p)
    return {
        "kind": kind, "dose": dose, "maps": options.null_maps, "maps_with_regions": any_region,
        "share_below": {str(level): float((pooled < level).mean()) for level in LEVELS},
    }  # fmt: skip


def _measured() -> dict[str, Any]:
    """Print what is found on measured maps, where there are any."""
    import hyperspy.api as hs

    folder = Path(os.environ.get("SPECML_DATA", ROOT.parent / "shared" / "data"))
    results = {}
    for name, file in MEASURED.items():
        if not (folder / file).exists():
            continue
        loaded = hs.load(folder / file, lazy=True)
        signals = loaded if isinstance(loaded, list) else [loaded]
        signal = next(s for s in signals if s.axes_manager.signal_dimension == 1)
        start = time.perf_counter()
        found = signal.anomaly_map(fdr=FDR, show_progressbar=False)
        print(f"{name}, {time.perf_counter() - start:.1f} s\n{found}\n", flush=True)
        results[name] = [region.to_dict() | {"pixels": None} for region in found.regions]
    return results


def _case_table(case: dict[str, Any]) -> str:
    runs = case["runs"]
    head = f"{case['kind']}, dose {case['dose']:g}, {case['pixels']} pixels, fraction {case['fraction']:g}"

    def mean(key: str, name: str) -> float:
        return sum(run[key][name] for run in runs) / len(runs)

    names = list(runs[0]["average_precision"])
    rows = [
        [name, number(mean("average_precision", name), ".3f"), number(mean("true_positives", name), ".3f"),
         number(mean("seconds", name) if name in runs[0]["seconds"] else None, ".1f")]
        for name in names
    ]  # fmt: skip
    regions = sum(run["regions"] for run in runs)
    false = sum(run["false_regions"] for run in runs)
    found = sum(run["found"] for run in runs)
    named = sum(run["named"] and run["found"] for run in runs)
    facts = f"found in {found} of {len(runs)} maps, named in {named}; {false} of {regions} regions false"
    return table([head, "average precision", "TPR at 1 % FPR", "s"], rows) + f"\n{facts}"


def _smallest_table(cases: list[dict[str, Any]]) -> str:
    smallest: dict[tuple[str, float, float], int | None] = {}
    for case in cases:
        key = case["kind"], case["fraction"], case["dose"]
        power = sum(run["found"] for run in case["runs"]) / len(case["runs"])
        known = smallest.setdefault(key, None)
        if power >= POWER and (known is None or case["pixels"] < known):
            smallest[key] = case["pixels"]
    rows = [
        [kind, f"{fraction:g}", f"{dose:g}", "-" if pixels is None else str(pixels)]
        for (kind, fraction, dose), pixels in smallest.items()
    ]
    return table(["smallest phase found", "fraction", "dose", f"pixels at power {POWER:g}"], rows)


def _null_table(null: list[dict[str, Any]]) -> str:
    rows = [
        [f"{case['kind']}, dose {case['dose']:g}",
         *(number(case["share_below"][str(level)] / level) for level in LEVELS),
         f"{case['maps_with_regions']} of {case['maps']}"]
        for case in null
    ]  # fmt: skip
    head = [f"share of p < {level:g}, over it" for level in LEVELS]
    return table(["without anomalies", *head, "maps with regions at fdr 0.01"], rows)
