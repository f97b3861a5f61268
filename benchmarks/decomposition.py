"""Unmixing and denoising of maps with known truth, beside HyperSpy's SVD and NMF and scikit-learn's NMF.

Every contender runs in a process of its own on the same counts. Angle: between the true spectra and those
found, in degrees, matched as well as possible, mean; "moved" compares with the true spectra after the common
shift along energy that brings them nearest, because no data tell where zero drift is. Abundances are shares
of a pixel's counts. A run collapsed where all its starts did; the best of the others is kept.
The error is RMSE over the standard deviation of the noise-free map. The linear floor knows the true
abundances and finds the spectra by least squares; the best PCA knows the true rank.
"""

from __future__ import annotations

import warnings
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

from benchmarks._harness import Contender, Run, median, megabytes, number, run_all
from benchmarks._maps import DOSES, SHIFTED, KnownMap, known_map, missing
from benchmarks._records import Table
from benchmarks.fe_l import best_pca, error_of, kept

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    import numpy as np

# Name: the function of this module, and its arguments.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "HyperSpy SVD": ("hyperspy", {"algorithm": "SVD"}),
    "HyperSpy NMF": ("hyperspy", {"algorithm": "NMF"}),
    "scikit-learn NMF, Frobenius": ("sklearn_nmf", {"init": "nndsvda"}),
    "scikit-learn NMF, KL": ("sklearn_nmf", {"init": "nndsvda", "solver": "mu", "beta_loss": "kullback-leibler"}),
    "pca": ("ours", {"architecture": "pca"}),
    "dense": ("ours", {"architecture": "dense"}),
    "simplex": ("ours", {"architecture": "simplex"}),
    "simplex, shift": ("ours", {"architecture": "simplex", "energy_shift": True}),
}
# scikit-learn's defaults stop the KL solver far from its minimum.
_NMF: dict[str, Any] = {"max_iter": 1000, "tol": 1e-6}
_FIGURES = ("angle", "moved", "abundances", "error", "kept")
_MOVES = [0.25 * step for step in range(-40, 41)]  # channels
QUICK = {"size": 32, "channels": 256, "seeds": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_places(parser)
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS], help="which (all)")
    parser.add_argument("--quick", action="store_true", help="32 x 32 pixels, 256 channels, one seed")


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that `places` reads, and seeds."""
    parser.add_argument("--size", type=int, default=64, help="pixels along each scan axis, at most (64)")
    parser.add_argument("--channels", type=int, default=512, help="energy channels of simulated maps (512)")
    parser.add_argument("--seeds", type=int, default=3, help="runs, with seeds of their own (3)")
    parser.add_argument("--maps", nargs="+", default=[*DOSES], choices=[*DOSES], help="which (all)")
    parser.add_argument("--doses", type=float, nargs="+", help="mean counts, instead of those of each map")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, map by map."""
    if options.quick:
        vars(options).update(QUICK)
    for key, where in places(options):
        yield "", [_table(key, options, _compare(where, options.seeds, options.methods))]


def places(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return title and arguments of each map that was asked for; say which are not here."""
    for name in options.maps:
        if reason := missing(name):
            print(f"{reason}\n")
            continue
        for dose in options.doses or DOSES[name]:
            key = name if dose is None else f"{name}, {dose:g} counts"
            yield key, {"name": name, "dose": dose, "size": options.size, "channels": options.channels}


def size_of(options: argparse.Namespace) -> str:
    """Say how large the maps are; those of others may be smaller."""
    return f"{options.size} x {options.size} pixels at most, {options.channels} channels where simulated"


def hyperspy(where: dict[str, Any], algorithm: str) -> Callable[[], Callable[[], dict[str, Any]]]:
    """Prepare HyperSpy's decomposition, with the weighting for Poisson noise that it recommends for SVD."""
    known = known_map(**where)
    signal = known.signal
    signal.change_dtype("float64")

    def call() -> Callable[[], dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signal.decomposition(
                normalize_poissonian_noise=algorithm == "SVD",
                algorithm=algorithm,
                output_dimension=known.n_components,
                print_info=False,
            )
        found = signal.learning_results
        spectra = found.factors.T if algorithm == "NMF" else None
        return partial(_judge, known, found.loadings @ found.factors.T, found.loadings, spectra)

    return call


def sklearn_nmf(where: dict[str, Any], **options: Any) -> Callable[[], Callable[[], dict[str, Any]]]:
    """Prepare scikit-learn's NMF."""
    from sklearn.decomposition import NMF

    known = known_map(**where)
    counts = known.counts
    estimator = NMF(known.n_components, random_state=where["seed"], **_NMF, **options)

    def call() -> Callable[[], dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = estimator.fit_transform(counts)
        spectra = estimator.components_
        return partial(_judge, known, scores @ spectra, scores, spectra)

    return call


def ours(where: dict[str, Any], **options: Any) -> Callable[[], Callable[[], dict[str, Any]]]:
    """Prepare decomposition_ae."""
    known = known_map(**where)

    def call() -> Callable[[], dict[str, Any]]:
        found = decompose(known, known.n_components, where["seed"], **options)
        model = found.reconstruction.data.reshape(known.clean.shape)
        scores = spectra = None
        if options["architecture"] == "simplex":
            scores, spectra = found.scores.data.reshape(known.n_components, -1).T, found.components.data
        dropped = [bool(attempt.collapsed) for attempt in found.report.attempts]
        starts = {"starts": len(dropped), "dropped": sum(dropped), "collapsed": bool(dropped) and all(dropped)}
        return lambda: _judge(known, model, scores, spectra) | starts

    return call


def decompose(known: KnownMap, k: int | None, seed: int, architecture: str, **options: Any) -> Any:
    """Call decomposition_ae with K components, or None, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PCA is better is in the table
        return known.signal.decomposition_ae(
            k, architecture=architecture, random_state=seed, show_progressbar=False, **options
        )


def _judge(known: KnownMap, model: np.ndarray, scores: np.ndarray | None, spectra: np.ndarray | None) -> dict[str, Any]:
    """Compare with the truth what can be compared: a model, and of unmixing amounts and spectra."""
    import numpy as np

    figures: dict[str, Any] = dict.fromkeys(_FIGURES)
    figures |= {"error": error_of(model, known.clean), "kept": kept(model, known.counts, known.clean)}
    if known.endmembers is None or known.amounts is None or scores is None or spectra is None:
        return figures
    order, figures["angle"] = matched(spectra, known.endmembers)
    if known.drift:
        channels = np.arange(known.endmembers.shape[1])
        figures["moved"] = min(
            matched(spectra, np.array([np.interp(channels - d, channels, e) for e in known.endmembers]))[1]
            for d in _MOVES
        )
    found = shares(scores[:, order] * spectra[order].sum(axis=1))
    figures["abundances"] = float(np.sqrt(np.mean((found - shares(known.amounts)) ** 2)))
    return figures


def matched(spectra: np.ndarray, truth: np.ndarray) -> tuple[list[int], float]:
    """Return the order of spectra that is nearest to the truth, and its mean angle in degrees."""
    import numpy as np

    unit, true = (s / np.maximum(np.linalg.norm(s, axis=1, keepdims=True), 1e-300) for s in (spectra, truth))
    angles = np.degrees(np.arccos(np.clip(unit @ true.T, -1, 1)))
    columns = np.arange(len(truth))
    order = min(permutations(range(len(spectra)), len(truth)), key=lambda p: angles[list(p), columns].sum())
    return list(order), float(angles[list(order), columns].mean())


def shares(amounts: np.ndarray) -> np.ndarray:
    """Divide the amounts of a pixel by their sum; an empty pixel has equal shares."""
    import numpy as np

    total = amounts.sum(axis=1, keepdims=True)
    return np.where(total > 0, amounts / np.where(total > 0, total, 1), 1 / amounts.shape[1])


def _compare(where: dict[str, Any], seeds: int, methods: list[str]) -> dict[str, list[dict[str, Any]]]:
    figures: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        here = {**where, "seed": seed}
        known = known_map(**here)
        for name, bound in _bounds(known).items():
            figures.setdefault(name, []).append(bound)
        contenders = [
            Contender(name, f"benchmarks.decomposition:{function}", {"where": here, **arguments})
            for name, (function, arguments) in METHODS.items()
            if name in methods
            if "energy_shift" not in arguments or where["name"] in SHIFTED
        ]
        for name, runs in run_all(contenders, repeats=1).items():
            figures.setdefault(name, []).append(_plain(runs[0]))
    return figures


def _bounds(known: KnownMap) -> dict[str, dict[str, Any]]:
    """Return what the truth makes possible: the linear floor and the best PCA."""
    import numpy as np

    error, rank = best_pca(known.counts, known.clean)
    bounds = {"best PCA": dict.fromkeys(_FIGURES) | {"error": error, "rank": rank}}
    if known.amounts is not None:
        spectra = np.linalg.lstsq(known.amounts, known.counts, rcond=None)[0]
        floor = _judge(known, known.amounts @ spectra, known.amounts, spectra)
        bounds = {"linear floor": {**floor, "abundances": None}, **bounds}
    return bounds


def _plain(result: Run) -> dict[str, Any]:
    return {**result.facts, "seconds": result.seconds, "cpu_seconds": result.cpu_seconds, "peak": result.peak}


def _table(key: str, options: argparse.Namespace, figures: dict[str, list[dict[str, Any]]]) -> Table:
    """Return means over the seeds, the range of the angle, and medians of time and memory."""
    head = [
        "method", "angle", "range", "moved", "abundances", "error", "counts kept", "collapsed", "CPU s", "s", "peak",
    ]  # fmt: skip
    caption = f"{size_of(options)}; seeds: {options.seeds}"
    return Table(key, caption, head, [[name, *_cells(runs)] for name, runs in figures.items()])


def _cells(runs: list[dict[str, Any]]) -> list[str]:
    angles = [run["angle"] for run in runs if run["angle"] is not None]
    starts = sum(run.get("starts", 0) for run in runs)
    return [
        number(_mean(runs, "angle")),
        f"{min(angles):.2f}-{max(angles):.2f}" if len(angles) > 1 else "-",
        number(_mean(runs, "moved")), number(_mean(runs, "abundances"), ".4f"),
        number(_mean(runs, "error"), ".4f"), number(_mean(runs, "kept"), ".4f"),
        f"{sum(run['collapsed'] for run in runs)} of {len(runs)} ({sum(run['dropped'] for run in runs)} of "
        f"{starts} starts)" if starts else "-",
        number(median(run.get("cpu_seconds") for run in runs), ".1f"),
        number(median(run.get("seconds") for run in runs), ".1f"),
        megabytes(median(run.get("peak") for run in runs)),
    ]  # fmt: skip


def _mean(runs: list[dict[str, Any]], key: str) -> float | None:
    values = [run[key] for run in runs]
    return None if None in values else sum(values) / len(values)
