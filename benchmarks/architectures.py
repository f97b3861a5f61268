"""Architectures of decompositions side by side: errors, coverage of intervals, new maps told from real ones.

Every map is decomposed once by each architecture; all parts are read from these results. Further parts are functions of
a `Case`, with an entry in `PARTS`.

Excess is the deviance of the noise-free truth against the reconstruction, per spectrum; the error is RMSE over the
standard deviation of the truth. Coverage is the share of the pixels whose true intensity, in windows of energy, lies
inside the interval that ``dec.interval(window, level)`` gives; width is the mean over pixels, relative to PCA's.
Two-sample scores tell real spectra, counted again from the truth so that no model has seen them, from drawn ones:
area under the curve, 0.5 where they cannot be told apart; the floor tells two counts of the truth apart.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import _architectures_rivals as rivals
from benchmarks._architectures_drift import drift
from benchmarks._architectures_shifts import shifts
from benchmarks._architectures_transfer import transfer
from benchmarks._harness import median, number
from benchmarks._maps import known_map, missing
from benchmarks._records import Table
from benchmarks.fe_l import error_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from hyperspy.signals import BaseSignal

    from benchmarks._maps import KnownMap
    from hyperspy_specml.datasets import SimulatedMap
    from hyperspy_specml.results import DecompositionResult

ARCHITECTURES = ("pca", "dense", "conv", "vae")
# Map, and mean counts: per channel of Fe-L and of the moving peak, per pixel of the others.
DOSES = {
    "Fe-L": (3.0, 30.0, 300.0), "alloy": (50.0, 200.0, 1000.0), "eels-unmix": (50.0, 200.0, 1000.0),
    "moving peak": (3.0, 30.0, 300.0),
}  # fmt: skip
LATENTS = {"Fe-L": 4, "alloy": 3, "eels-unmix": 3, "moving peak": 2}
_ALSO = {"moving peak": (1,)}  # other numbers of latents: the place of a peak is a single number
WINDOWS: dict[str, tuple[Any, ...]] = {
    "Fe-L": ((690, 702), (703, 707), (707, 709), (709, 711), (711, 716), (718, 722), (722, 726), (728, 741),
             ((707, 709), (709, 711))),
    "alloy": ("Fe_Ka", "Cr_Ka", "Ni_Ka", "Fe_Kb", "Fe_La", (1.5, 4.5), (9.0, 14.0), ("Fe_Ka", "Cr_Ka")),
}  # fmt: skip
LEVELS = (0.5, 0.9)
QUICK = {"size": 32, "channels": 256, "seeds": 1}
_QUICK_DOSES = {"Fe-L": (30.0,), "alloy": (200.0,), "eels-unmix": (200.0,), "moving peak": (30.0,)}
_FLOOR = 1e-3  # of the mean of a channel: the smallest reconstruction that is compared
_TESTED = 2000  # spectra of each kind that are told apart, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--size", type=int, default=64, help="pixels along each scan axis (64)")
    parser.add_argument("--channels", type=int, default=512, help="energy channels (512)")
    parser.add_argument("--seeds", type=int, default=3, help="maps, each with a seed of its own (3)")
    parser.add_argument("--maps", nargs="+", default=[*DOSES], choices=[*DOSES], help="which (all)")
    parser.add_argument("--doses", type=float, nargs="+", help="mean counts, instead of those of each map")
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES], help="which (pca dense conv vae)")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS], help="which (all)")
    parser.add_argument("--replicas", type=int, default=1, help="of dec.interval (1)")
    parser.add_argument("--steps", type=int, help="of each training, at most; by default those of the package")
    parser.add_argument("--quick", action="store_true", help="32 x 32 pixels, 256 channels, one seed, one dose")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, map by map; each part has a record of its own."""
    if options.quick:
        vars(options).update(QUICK)
    for name in options.maps:
        if missing(name):
            print(missing(name))
            continue
        for dose in options.doses or (_QUICK_DOSES if options.quick else DOSES)[name]:
            for latents in (LATENTS[name], *_ALSO.get(name, ())):
                cases = [Case(name, dose, seed, options, latents) for seed in range(options.seeds)]
                for part in options.parts if name in WINDOWS else {"errors"} & {*options.parts}:
                    yield part, [PARTS[part](cases)]


@dataclass
class Case:
    """One map, decomposed by each architecture when it is first asked for."""

    name: str
    dose: float
    seed: int
    options: argparse.Namespace
    latents: int

    @property
    def title(self) -> str:
        """Map and dose, and the number of latents where there are several."""
        number = f", {self.latents} latent{'s' * (self.latents > 1)}" if self.name in _ALSO else ""
        return f"{self.name}, {self.dose:g} counts{number}"

    @cached_property
    def map(self) -> SimulatedMap:
        """The map with its truth."""
        from hyperspy_specml import datasets

        make: Any = datasets.fe_l_map if self.name == "Fe-L" else datasets.fe_cr_ni_map
        size = (self.options.size,) * 2
        return make(size, n_channels=self.options.channels, dose=self.dose, random_state=self.seed)

    @cached_property
    def clean(self) -> np.ndarray:
        """(n, E) expectations of the counts."""
        clean = self.map.clean.data if self.name in WINDOWS else self._known.clean
        return clean.reshape(-1, clean.shape[-1]).astype(np.float64)

    @property
    def signal(self) -> BaseSignal:
        """The counts."""
        return self.map.signal if self.name in WINDOWS else self._known.signal

    @cached_property
    def _known(self) -> KnownMap:
        """A map that is not of our simulations."""
        size = {"size": self.options.size, "channels": self.options.channels}
        return known_map(self.name, dose=self.dose, seed=self.seed, **size)

    @cached_property
    def found(self) -> dict[str, tuple[DecompositionResult, float]]:
        """Result and seconds of each architecture."""
        from hyperspy_specml import TrainConfig

        found, config = {}, TrainConfig(max_steps=self.options.steps)
        for architecture in self.options.architectures:
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that PCA is better is in the table
                result = self.signal.decomposition_ae(
                    self.latents,
                    architecture=architecture,
                    random_state=self.seed,
                    config=config,
                    show_progressbar=False,
                )
            found[architecture] = result, time.perf_counter() - start
        return found


def errors(cases: list[Case]) -> Table:
    """Compare with the truth and with held-out counts."""
    head = ["map", "architecture", "excess", "of dense", "RMSE", "held-out deviance - PCA", "collapsed", "seconds"]
    rows = []
    for architecture in cases[0].options.architectures:
        figures = [_errors(case, architecture) for case in cases]
        collapsed = sum(one["collapsed"] for one in figures)
        rows.append([
            cases[0].title, architecture, *(number(median(one[key] for one in figures), form) for key, form in (
                ("excess", ".3f"), ("of dense", ".3f"), ("error", ".4f"), ("held-out", "+.4f"))),
            f"{collapsed} of {len(cases)}", number(median(one["seconds"] for one in figures), ".1f"),
        ])  # fmt: skip
    if rivals.installed():
        rows.append(_rival(cases))
    return Table("errors", _caption(cases), head, rows, keys=2)


def _rival(cases: list[Case]) -> list[str]:
    """Return the row of the textbook's variational autoencoder."""
    start, found = time.perf_counter(), []
    for case in cases:
        counts = case.signal.data.reshape(case.clean.shape)
        found.append(rivals.reconstructed(counts, case.latents, seed=case.seed))
    seconds = (time.perf_counter() - start) / len(cases)
    pairs = [*zip(found, (case.clean for case in cases), strict=True)]
    excesses, own = (median(f(*pair) for pair in pairs) for f in (excess, error_of))
    figures = number(excesses, ".3f"), "-", number(own, ".4f"), "-", "-", number(seconds, ".1f")
    return [cases[0].title, rivals.NAME, *figures]


def _errors(case: Case, architecture: str) -> dict[str, Any]:
    result, seconds = case.found[architecture]
    dense = case.found.get("dense")
    own = excess(_spectra(result), case.clean)
    last = [attempt.collapsed for attempt in result.report.attempts[-1:]]
    return {
        "excess": own,
        "of dense": own / excess(_spectra(dense[0]), case.clean) if dense else None,
        "error": error_of(_spectra(result), case.clean),
        "held-out": result.report.candidates[0].difference,
        "collapsed": any(last),
        "seconds": seconds,
    }


def coverage(cases: list[Case]) -> Table:
    """Compare intervals of windows with the truth."""
    options, windows = cases[0].options, WINDOWS[cases[0].name]
    head = ["map", "architecture", "level", "coverage", "lowest window", "highest", "without replicas", "inflation",
            "width / PCA"]  # fmt: skip
    rows = []
    for architecture in options.architectures:
        for level in LEVELS:
            figures = np.array([[_covered(case, architecture, w, level) for w in windows] for case in cases])
            rivals = [[_covered(case, "pca", w, level)[3] for w in windows] for case in cases]
            inside, bare, factor, width = np.moveaxis(figures, -1, 0)  # (cases, windows)
            each = inside.mean(axis=0)
            rows.append([
                cases[0].title, architecture, f"{level:g}", number(inside.mean()), number(each.min()),
                number(each.max()), number(bare.mean()), number(np.median(factor)),
                number(float(np.median(width / np.array(rivals)))),
            ])  # fmt: skip
    return Table("coverage", f"{_caption(cases)}; replicas: {options.replicas}", head, rows, keys=3)


def _covered(case: Case, architecture: str, window: Any, level: float) -> tuple[float, float, float, float]:
    """Return coverage, coverage without replicas, inflation and mean width of the intervals of a window."""
    from hyperspy_specml import provenance

    result, _ = case.found[architecture]
    truth = _truth(case, result, window)
    found = [result.interval(window, level, replicas=n) for n in (case.options.replicas, 0)]
    inside = [float(((one.low.data < truth) & (truth < one.high.data)).mean()) for one in found]
    low, high = found[0]
    return *inside, float(provenance(low)["inflation"]), float((high.data - low.data).mean())  # type: ignore[return-value]


def _truth(case: Case, result: DecompositionResult, window: Any) -> np.ndarray:
    """Return the true number of each pixel, in the channels that the package sums."""
    from hyperspy_specml import Progress

    quantity, _ = result._sure(Progress())._quantity(window)
    used = case.clean[:, result.model.channels]
    sums = [used @ weights for weights in (quantity.above, quantity.below) if weights is not None]
    truth = sums[0] / sums[1] if len(sums) == 2 else sums[0]
    return truth.reshape(case.map.signal.data.shape[:-1])


def two_sample(cases: list[Case]) -> Table:
    """Tell drawn spectra from real ones."""
    head = ["map", "architecture", "two-sample score", "largest", "said by the package", "floor"]
    rows = []
    for architecture in (a for a in cases[0].options.architectures if a != "dense"):  # that one draws by its vae
        figures = [_told_apart(case, architecture) for case in cases]
        scores, said, floors = zip(*figures, strict=True)
        rows.append([cases[0].title, architecture, number(median(scores), ".3f"), number(max(scores), ".3f"),
                     number(median(said), ".3f"), number(median(floors), ".3f")])  # fmt: skip
    return Table("two-sample", _caption(cases), head, rows, keys=2)


def _told_apart(case: Case, architecture: str) -> tuple[float, float, float]:
    """Return the score against counts that no model has seen, the one of the package, and the floor."""
    from hyperspy_specml import provenance
    from hyperspy_specml.decompose import told_apart

    result, _ = case.found[architecture]
    real, again, third = (case.map.counts(random_state=1000 + i).data.reshape(case.clean.shape) for i in range(3))
    drawn = result.generate(case.map.signal.data.shape[:-1], random_state=case.seed)
    rows = np.random.default_rng(case.seed).permutation(len(real))[:_TESTED]
    some = [v.reshape(case.clean.shape)[rows].astype(np.float64) for v in (real, drawn.data, again)]
    k = LATENTS[case.name]
    score = told_apart(some[0], some[1], third.astype(np.float64), k)
    other = again[np.random.default_rng(case.seed + 1).permutation(len(again))[:_TESTED]].astype(np.float64)
    return score, provenance(drawn)["two_sample"], told_apart(some[0], other, third.astype(np.float64), k)


def excess(estimate: np.ndarray, clean: np.ndarray) -> float:
    """Return the deviance of (n, E) true expectations against estimates, per spectrum."""
    from scipy.special import xlogy

    estimate = np.maximum(estimate, np.maximum(_FLOOR * clean.mean(axis=0), 1e-30))  # a dead channel has no counts
    return float(2 * (xlogy(clean, clean / estimate) - clean + estimate).sum(axis=1).mean())


def _spectra(result: DecompositionResult) -> np.ndarray:
    found = result.reconstruction.data
    return np.nan_to_num(found.reshape(-1, found.shape[-1]).astype(np.float64))


def _caption(cases: list[Case]) -> str:
    size, channels = cases[0].options.size, cases[0].options.channels
    return f"{size} x {size} pixels, {channels} channels; maps: {len(cases)}"


# What `--parts` may name: functions from the cases of one map and dose to a table.
PARTS: dict[str, Callable[[list[Case]], Table]] = {
    "errors": errors,
    "coverage": coverage,
    "two-sample": two_sample,
    "shifts": shifts,
    "drift": drift,
    "transfer": transfer,
}
