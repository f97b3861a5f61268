"""Maps with one planted phase: scores of all methods, and of models with components to spare."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks._anomaly_calibration import FDR, simulate
from benchmarks._harness import number
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from benchmarks._anomaly_calibration import Size
    from hyperspy_specml.datasets import SimulatedMap

KINDS = {"alloy": 4, "grains": 4, "fe-l": 8}  # and the rank that the rivals get
POWER = 0.8
OURS, ORACLE = "anomaly_map", "oracle, pixel by pixel"
RANKS = (None, 5, 8)
CONTAMINANTS = (0.4, 1.0)


def score_case(
    kind: str, dose: float, seed: int, size: Size, *, rare: tuple[int, float], quick: bool
) -> dict[str, Any]:
    """Score one map, of which some pixels are rare, with everything."""
    from benchmarks._anomaly_rivals import autoencoder_error, average_precision, oracle, rivals, true_positives

    simulated = simulate(kind, dose, seed, size, rare)
    signal, truth = simulated.signal, _planted(simulated)
    start = time.perf_counter()
    found = signal.anomaly_map(fdr=FDR, show_progressbar=False)
    seconds = {"anomaly_map": time.perf_counter() - start}
    scores = {"anomaly_map": found.score.data}
    methods = rivals() | ({} if quick else {"autoencoder squared_error": autoencoder_error})
    for name, method in methods.items():
        start = time.perf_counter()
        scores[name] = method(signal, KINDS[kind])
        seconds[name] = time.perf_counter() - start
    normal = simulate(kind, dose, seed, size).clean.data.astype("float64")
    scores["oracle, pixel by pixel"] = oracle(signal.data, normal, _everywhere(simulated, normal, rare[1], kind))
    true_regions = [region for region in found.regions if _touches(region, truth)]
    return {
        "average_precision": {name: average_precision(score, truth) for name, score in scores.items()},
        "true_positives": {name: true_positives(score, truth) for name, score in scores.items()},
        "seconds": seconds,
        "found": bool(true_regions),
        "regions": len(found.regions),
        "false_regions": len(found.regions) - len(true_regions),
        "named": kind == "fe-l" or any("Nb" in [c.element for c in region.candidates[:3]] for region in true_regions),
    }


def _everywhere(simulated: SimulatedMap, normal: Any, fraction: float, kind: str) -> Any:
    """Return what every pixel would be if it were anomalous."""
    import numpy as np

    if kind == "fe-l":
        axis = simulated.signal.axes_manager.signal_axes[0].axis
        shifted = axis - 2 * fraction
        return np.apply_along_axis(lambda spectrum: np.interp(shifted, axis, spectrum), -1, normal)
    assert simulated.endmembers is not None
    rare = simulated.endmembers.data[-1]
    return (1 - fraction) * normal + fraction * normal.sum(axis=-1, keepdims=True) * rare


def _planted(simulated: SimulatedMap) -> np.ndarray:
    """Return the (ny, nx) bool map of the planted phase."""
    assert simulated.rare_mask is not None
    return simulated.rare_mask.data


def _touches(region: Any, truth: Any) -> bool:
    """Return whether a region touches the planted phase widened by the largest window."""
    import scipy.ndimage

    wide = scipy.ndimage.binary_dilation(truth, iterations=2)
    return any(wide[y, x] for x, y in region.pixels)


def score_contaminated(kind: str, dose: float, seed: int, size: Size, *, fraction: float) -> dict[str, Any]:
    """Score a map with models of the normal that have components to spare for what is rare."""
    from benchmarks._anomaly_rivals import average_precision

    simulated = simulate(kind, dose, seed, size, (24, fraction))
    found = {
        str(rank): simulated.signal.anomaly_map(fdr=FDR, output_dimension=rank, show_progressbar=False)
        for rank in RANKS
    }
    truth = _planted(simulated)
    return {rank: average_precision(one.score.data, truth) for rank, one in found.items()}


def score_normals(kind: str, dose: float, seed: int, size: Size, *, rare: tuple[int, float]) -> dict[str, Any]:
    """Score a map with PCA and with an autoencoder as the reference model."""
    from benchmarks._anomaly_rivals import average_precision

    simulated = simulate(kind, dose, seed, size, rare)
    found = {
        name: simulated.signal.anomaly_map(fdr=FDR, architecture=name, random_state=seed, show_progressbar=False)
        for name in ("pca", "dense")
    }
    truth = _planted(simulated)
    precision = {name: average_precision(one.score.data, truth) for name, one in found.items()}
    network = found["dense"].report.candidates[0]
    better = network.difference < -2 * network.standard_error
    scores = {"over_pca": network.difference, "standard_error": network.standard_error, "better": better}
    return {"average_precision": precision, "autoencoder": scores}


def normals_table(where: str, cases: Sequence[dict[str, Any]]) -> Table:
    """Return the average precision of both models of the normal, and of the one held-out counts choose."""
    rows = []
    for case in cases:
        runs = case["runs"]
        wins = [run["autoencoder"]["better"] for run in runs]
        precision = [run["average_precision"] for run in runs]
        chosen = [one["dense" if win else "pca"] for one, win in zip(precision, wins, strict=True)]
        means = [_mean([one[name] for one in precision]) for name in ("pca", "dense")]
        cells = [number(mean, ".3f") for mean in [*means, _mean(chosen)]]
        rows.append([_named(case), *cells, f"{sum(wins)} of {len(runs)}"])
    head = ["map", "pca", "dense", "auto", "autoencoder chosen"]
    return Table("models of the normal", f"average precision; {where}", head, rows)


def contamination_table(where: str, cases: Sequence[dict[str, Any]]) -> Table:
    """Return the smallest average precision over the maps, for each rank."""
    rows = [
        [
            f"{case['kind']}, dose {case['dose']:g}, fraction {case['fraction']:g}",
            *(number(min(run[str(rank)] for run in case["runs"]), ".3f") for rank in RANKS),
        ]
        for case in cases
    ]
    head = ["map", *(f"rank {rank}" if rank else "chosen" for rank in RANKS)]
    return Table("components to spare", f"smallest average precision; {where}", head, rows)


def methods_table(where: str, case: dict[str, Any]) -> Table:
    """Return the rows of all methods on the maps of a case."""
    runs = case["runs"]

    def mean(key: str, name: str, form: str = ".3f") -> str:
        return number(_mean([run[key][name] for run in runs]) if name in runs[0][key] else None, form)

    rows = [
        [_named(case), name, mean("average_precision", name), mean("true_positives", name),
         mean("seconds", name, ".1f")]
        for name in runs[0]["average_precision"]
    ]  # fmt: skip
    head = ["map", "method", "average precision", "TPR at 1 % FPR", "s"]
    return Table(f"all methods, {case['kind']}", where, head, rows, keys=2)


def rivals_table(where: str, cases: Sequence[dict[str, Any]]) -> Table:
    """Return ours beside the best of the rivals in every case, and what was found."""
    rows = []
    for case in cases:
        runs = case["runs"]
        names = runs[0]["average_precision"]
        mean = {name: _mean([run["average_precision"][name] for run in runs]) for name in names}
        best = max((name for name in mean if name not in (OURS, ORACLE)), key=lambda name: mean[name])
        numbers = mean[OURS], mean[best], mean[OURS] - mean[best], mean[ORACLE]
        counts = [sum(run[key] for run in runs) for key in ("found", "false_regions", "regions")]
        counts.insert(1, sum(run["named"] and run["found"] for run in runs))
        rows.append([
            _named(case), *(number(value, ".3f") for value in numbers), best,
            *(f"{count} of {len(runs)}" for count in counts[:2]),
            f"{counts[2]} of {counts[3]}",
        ])  # fmt: skip
    head = ["map", "ours", "best rival", "difference", "oracle", "the rival", "found", "named", "regions false"]
    return Table(f"best rivals, {cases[0]['kind']}", f"average precision; {where}", head, rows)


def _named(case: dict[str, Any]) -> str:
    return f"{case['kind']}, {case['dose']:g}, {case['pixels']} px, {case['fraction']:g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def smallest(
    kind: str, dose: float, size: Size, *, fraction: float, pixels: Sequence[int], seeds: int
) -> dict[str, Any]:
    """Return how many pixels a phase needs to be found, by the scan and by the oracle."""
    least: dict[str, int | None] = dict.fromkeys((OURS, ORACLE))
    for n_pixels in sorted(pixels):
        maps = [_detect(kind, dose, seed, size, (n_pixels, fraction)) for seed in range(seeds)]
        for i, name in enumerate(least):
            if least[name] is None and sum(found[i] for found in maps) >= POWER * seeds:
                least[name] = n_pixels
        if None not in least.values():
            break
    return {"kind": kind, "dose": dose, "fraction": fraction} | least


def _detect(kind: str, dose: float, seed: int, size: Size, rare: tuple[int, float]) -> tuple[bool, bool]:
    """Return whether a region is found there, and whether the oracle's strongest pixel is there."""
    from benchmarks._anomaly_rivals import oracle

    simulated = simulate(kind, dose, seed, size, rare)
    truth = _planted(simulated)
    found = simulated.signal.anomaly_map(fdr=FDR, show_progressbar=False)
    normal = simulate(kind, dose, seed, size).clean.data.astype("float64")
    best = oracle(simulated.signal.data, normal, _everywhere(simulated, normal, rare[1], kind))
    ours = any(_touches(region, truth) for region in found.regions)
    return ours, bool(best[truth].max() > best[~truth].max())


def smallest_table(where: str, found: Sequence[dict[str, Any]]) -> Table:
    """Return the table of smallest phases."""
    rows = [
        [
            f"{one['kind']}, dose {one['dose']:g}, fraction {one['fraction']:g}",
            *("-" if one[name] is None else str(one[name]) for name in (OURS, ORACLE)),
        ]
        for one in found
    ]
    return Table("smallest phase", f"pixels found at power {POWER:g}; {where}", ["map", "ours", "oracle"], rows)
