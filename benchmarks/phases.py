"""Phase maps: agreement with the truth beside rivals that know the number, calibration, foreign phases, time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._harness import number
from benchmarks._maps import FOLDER
from benchmarks._phases_maps import phase_map, valence_map
from benchmarks._phases_rivals import RIVALS, bent, counted, find, hyperspy_clusters, known_spectra, rivals
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator


PARTS = ("maps", "repeats", "one", "bends", "foreign", "time", "measured")
KINDS = ("alloy", "grains")

# What bends the spectra of grains of three valences.
_BENDS: dict[str, dict[str, Any]] = {
    "scan lines drift": {"drift": True},
    "smooth charging of 0.3 eV": {"charging": 0.3},
    "0.3 to 1.2 mean free paths thick": {"thick": True},
}

# Name, file and what is there.
_FILES = (
    ("deep mantle", "espm/88_ES-LP_G8_selection2_cropped2.hspy", "two silicates and an oxide"),
    ("FePt particles", "usnist-tutorial/bare_core.hspy", "particle and support"),
    ("espm scene", "espm-generated/dev_particles_N200_seed91.hspy", "three, nowhere pure: matrix, two particles"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="one map of each case")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="maps of four phases")
    parser.add_argument("--size", type=int, default=96, help="pixels along each scan axis (96)")
    parser.add_argument("--channels", type=int, default=1024, help="energy channels (1024)")
    parser.add_argument("--seeds", type=int, help="maps of each case (10; quick: 1)")
    parser.add_argument("--doses", type=float, nargs="+", default=[8.0, 20.0, 50.0, 200.0], help="counts per pixel")
    parser.add_argument("--large", type=int, default=256, help="pixels along each scan axis of the timed map (256)")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, part by part."""
    seeds = range(options.seeds or (1 if options.quick else 10))
    parts = {
        "maps": _maps,
        "repeats": _repeats,
        "one": _one_phase,
        "bends": _bends,
        "foreign": _foreign,
        "time": _time,
        "measured": _measured,
    }
    for part in options.parts:
        yield part, [parts[part](options, seeds)]


def _maps(options: argparse.Namespace, seeds: range) -> Table:
    rows = []
    for kind in options.kinds:
        for dose in options.doses:
            found = [_score(kind, dose, seed, options, lambda signal, _: rivals(signal)) for seed in seeds]
            cells = [number(_mean(found, key), ".3f") for key in ("ari", *RIVALS, "ece", "auc")]
            right, within = sum(one["right"] for one in found), sum(one["within"] for one in found)
            counts = [f"{right} of {len(found)}", f"{within} of {4 * len(found)}"]
            rows.append([f"{kind}, {dose:g}", *cells, *counts, number(_mean(found, "cpu"), ".1f")])
    head = ["map", "ours", *RIVALS.values(), "calibration error", "AUC of wrong", "number right",
            "shares within 2 SE", "CPU s"]  # fmt: skip
    where = (
        f"adjusted Rand index; {options.size} x {options.size} x {options.channels}, 4 phases; rivals know the number"
    )
    return Table("phases", where, head, rows)


def _repeats(options: argparse.Namespace, seeds: range) -> Table:
    """Measure what asks for more maps than rivals have time for."""
    rows = []
    for kind in options.kinds:
        for dose in options.doses:
            found = [_score(kind, dose, seed, options, _known) for seed in seeds]
            n, right, within = len(found), sum(one["right"] for one in found), sum(one["within"] for one in found)
            cells = [number(_mean(found, "ari"), ".3f"), number(min(one["ari"] for one in found), ".3f")]
            cells.append(number(_mean(found, "known"), ".3f"))
            cells += [f"{right} of {n}", f"{within} of {4 * n}", number(_mean(found, "ece"), ".4f")]
            rows.append([f"{kind}, {dose:g}", *cells, number(_mean(found, "auc"), ".3f"), f"{_mean(found, 'cpu'):.1f}"])
    head = ["map", "adjusted Rand index", "smallest", "of known spectra", "number right", "shares within 2 SE",
            "calibration error", "AUC of wrong", "CPU s"]  # fmt: skip
    return Table(
        "repeats", f"{options.size} x {options.size} x {options.channels}, 4 phases, {len(seeds)} maps", head, rows
    )


def _known(signal: Any, shares: np.ndarray) -> dict[str, np.ndarray]:
    return {"known": known_spectra(signal, shares)}


def _score(
    kind: str, dose: float, seed: int, options: argparse.Namespace, others: Callable[..., dict[str, np.ndarray]]
) -> dict[str, float]:
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, roc_auc_score

    signal, shares = phase_map(kind, dose, seed, size=options.size, channels=options.channels)
    truth = shares.argmax(axis=-1).ravel()
    start = time.process_time()
    found = find(signal)
    cpu = time.process_time() - start
    labels, confidence = found.labels.data.ravel(), found.probability.data.max(axis=0).ravel()
    used, rivals_of = labels >= 0, others(signal, shares)  # at few counts some pixels are empty
    labels, confidence, truth = labels[used], confidence[used], truth[used]
    table = np.zeros((len(found.names), 4))
    np.add.at(table, (labels, truth), 1)
    ours, theirs = linear_sum_assignment(-table)
    partner = dict(zip(ours, theirs, strict=True))
    right = np.array([partner.get(label, -1) for label in labels]) == truth
    area = shares.reshape(-1, 4).mean(axis=0)
    rows = [(found.shares[k], area[partner[k]]) for k in ours]
    return {
        "ari": adjusted_rand_score(truth, labels),
        "ece": calibration_error(right, confidence),
        "cpu": cpu,
        "auc": roc_auc_score(~right, -confidence) if 0 < right.sum() < len(right) else 1.0,
        "right": len(found.names) == 4,
        "within": sum(abs(row.share - a) <= 2 * row.share_error + 1e-9 for row, a in rows),
        **{name: adjusted_rand_score(truth, other[used]) for name, other in rivals_of.items()},
    }


def _one_phase(options: argparse.Namespace, seeds: range) -> Table:
    rows = []
    for name, kind, blur, wanted in (
        ("one phase", "noise", 1, 1), ("thickness ramp", "ramp", 1, 1), ("even gradient", "gradient", 1, 1),
        ("alloy, borders over 3 pixels", "alloy", 3, 4),
    ):  # fmt: skip
        for dose in options.doses[-2:]:
            numbers = []
            for seed in seeds:
                signal, _ = phase_map(kind, dose, seed, size=options.size, channels=options.channels, blur=blur)
                numbers.append(len(find(signal).names))
            rows.append([f"{name}, {dose:g}", str(wanted), ", ".join(map(str, numbers))])
    return Table("numbers", "number of phases of every map", ["map", "truth", "found"], rows)


def _bends(options: argparse.Namespace, seeds: range) -> Table:
    rows = []
    for name, how in _BENDS.items():
        for dose in (10.0, 30.0):
            sizes: dict[str, Any] = {"size": options.size // 2, "channels": options.channels // 4}
            found = [bent(*valence_map(dose, seed, **how, **sizes)) for seed in seeds]
            cells = [number(_mean(found, key), ".3f") for key in ("counts", "latents", "mixture", "hdbscan", "pca")]
            numbers = [", ".join(str(int(one[key])) for one in found) for key in ("n", "n latents")]
            rows.append([f"{name}, {dose:g}", *cells, *numbers])
    head = ["map, counts per channel", "ours", "ours on dense latents", "GMM on dense latents",
            "HDBSCAN on dense latents", "PCA + GMM", "phases", "phases on latents"]  # fmt: skip
    where = f"Fe-L edges, grains of three valences, {options.size // 2} x {options.size // 2} x {options.channels // 4}"
    return Table("bends", f"adjusted Rand index; {where}; GMM know the number", head, rows)


def _foreign(options: argparse.Namespace, seeds: range) -> Table:
    rows = []
    cases = [(f"{dose:g}", dose, 0.0) for dose in options.doses[-2:]]
    last = options.doses[-1]
    for name, dose, shift in [*cases, (f"{last:g}, lines .5 eV higher", last, 5e-4)]:
        found = [_recognised(dose, shift, seed, options) for seed in seeds]
        rows.append([name, *(number(_mean(found, key), ".3f") for key in ("rejected", "known", "kept"))])
    head = ["counts per pixel", "foreign pixels rejected", "known pixels rejected", "handed over: pixels kept"]
    return Table(
        "foreign", "24 pixels with 40 % of Nb; phases learnt at 200 counts per pixel in another map", head, rows
    )


def _recognised(dose: float, shift: float, seed: int, options: argparse.Namespace) -> dict[str, float]:
    sizes = {"size": options.size, "channels": options.channels}
    model = find(phase_map("grains", 200.0, seed, **sizes)[0]).model
    signal, shares = phase_map("grains", dose, seed + 1000, rare=True, shift=shift, **sizes)
    rare = shares[..., -1] > 0
    rejected = signal.phase_map(model=model, show_progressbar=False).labels.data == -2
    regions, kept = signal.anomaly_map(show_progressbar=False), 0.0
    if regions.spectra is not None:
        again = find(signal, known=regions.spectra)
        kept = float((again.labels.data[rare] < len(regions.regions)).mean())
    return {"rejected": float(rejected[rare].mean()), "known": float(rejected[~rare].mean()), "kept": kept}


def _time(options: argparse.Namespace, seeds: range) -> Table:
    rows = []
    for size, lazy in ((options.size, False), (options.large, False), (options.large, True)):
        signal, _ = phase_map("grains", 50.0, 0, size=size, channels=options.channels)
        passes, read = "-", [0]
        if lazy:
            signal, read = counted(signal)
        start, cpu = time.perf_counter(), time.process_time()
        found = find(signal)
        seconds, own = time.perf_counter() - start, time.process_time() - cpu
        theirs, ratio = "-", "-"
        if lazy:
            passes = f"{read[0] / size**2:.1f}"
        else:
            cpu = time.process_time()
            hyperspy_clusters(signal)
            other = time.process_time() - cpu
            theirs, ratio = f"{other:.1f}", f"{own / other:.2f}"
        name = f"{size} x {size} x {options.channels}{', lazy' if lazy else ''}"
        rows.append([name, f"{own:.1f}", theirs, ratio, f"{seconds:.1f}", passes, str(len(found.names))])
    head = ["map", "CPU s", "HyperSpy PCA + k-means, CPU s", "ratio", "s", "passes", "phases"]
    return Table("time", "50 counts per pixel, in memory or in chunks of 64 x 64 pixels", head, rows)


def _measured(options: argparse.Namespace, seeds: range) -> Table:
    """Count the phases of measured maps; without the folder of data the table is empty."""
    import hyperspy.api as hs

    rows = []
    for name, file, wanted in _FILES:
        if (path := FOLDER / file).exists():
            found = find(hs.load(path))
            shares = ", ".join(f"{row.share:.1%}" for row in found.shares)
            rows.append([name, wanted, str(len(found.names)), shares])
    return Table("measured", "measured maps, and the espm scene", ["map", "expected", "phases", "shares"], rows)


def calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    bins = np.minimum((10 * confidence).astype(int), 9)
    parts = [(bins == b) for b in range(10) if (bins == b).any()]
    return float(sum(abs(right[part].mean() - confidence[part].mean()) * part.mean() for part in parts))


def _mean(found: list[dict[str, float]], key: str) -> float:
    return sum(one[key] for one in found) / len(found)
