"""Pretrained encoders beside cheap rivals: labels of phases and valence, real labelled sets, other grids, speed."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hyperspy.api as hs
import numpy as np

import hyperspy_specml as specml
from benchmarks._harness import number
from benchmarks._pretrain_maps import (
    labelled_sets,
    of_draw,
    pretrained,
    right,
    tuned,
    twin_library,
    twin_map,
    twin_spectra,
)
from benchmarks._pretrain_more import corpus, instruments, neighbours, strangers
from benchmarks._pretrain_rivals import scratch_cnn
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from hyperspy.signals import BaseSignal

PARTS = ("twins", "valence", "measured", "neighbours", "grids", "speed", "cost", "strangers", "instruments", "corpus")
_CHEAP, _SIMULATED = ("raw", "pca", "aligned"), ("parameters", "likelihood")
_WIDER = "simulated, wider lines"
_ENCODERS = ("masked", "simulated", "library", "library, other detector", "in the package", _WIDER)
_CNN, _TRANSFORMER = "convolutions from scratch", "transformer from scratch"
_TEST = 400  # spectra that are predicted
_VALENCE = (28, 28)  # pixels of the maps of Fe3+
_QUICK = {"strangers": 200, "instruments": 150, "corpus": 150}  # steps of quick runs, where many encoders are trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="3 draws and short pretraining")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--draws", type=int, help="draws of labels (10; quick: 3)")
    parser.add_argument("--labels", nargs="+", type=int, help="of each class of twins (5 20), of valence (20 100 500)")
    parser.add_argument("--encoders", nargs="+", choices=_ENCODERS, default=_ENCODERS, help="of twins, valence (all)")
    parser.add_argument(
        "--steps", type=int, help="steps of pretraining (3000; quick: 600; 150 or 200 of the last three parts)"
    )
    parser.add_argument("--channels", type=int, default=1024, help="energy channels of EDS (1024)")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SPECML_DATA", "../shared/data")), help="labelled sets"
    )


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, part by part."""
    hs.preferences.General.show_progressbar = False
    options.draws = options.draws or (3 if options.quick else 10)
    steps = options.steps
    for part in options.parts:
        options.steps = steps or (_QUICK.get(part, 600) if options.quick else 3000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables = _PARTS[part](options)
        yield part, tables if isinstance(tables, list) else [tables]


def _ceiling(signal: BaseSignal, truth: np.ndarray, unseen: np.ndarray) -> float:
    """Return what the likelihood of the true spectra reaches."""
    _, spectra = twin_spectra(signal.data.shape[-1])
    evidence = signal.data @ np.log(np.maximum(spectra, 1e-12)).T
    return right(evidence.argmax(axis=1), truth, unseen, values=False)


def _twins(options: argparse.Namespace) -> Table:
    rng = np.random.default_rng(0)
    pool = twin_map(rng.integers(0, 12, 2000), 50.0, 1, options.channels)
    encoders = {}
    for name in options.encoders:
        if name == _WIDER:  # of valence
            continue
        if name == "in the package":
            encoders[name] = [specml.encoders.eds()]
            continue
        library = twin_library(1.5 if "other" in name else 0.0, options.channels) if "library" in name else None
        objective = "masked" if name == "masked" else "simulated"
        encoders[name] = pretrained([pool], objective, options, library=library)
    rows = []
    for n in options.labels or (5, 20):
        scores: dict[str, list[float]] = {}
        for draw in range(options.draws):
            classes = np.concatenate([np.repeat(np.arange(12), n), np.random.default_rng(draw).integers(0, 12, _TEST)])
            signal = twin_map(classes, 50.0, 100 + draw, options.channels)
            labels = np.where(np.arange(len(classes)) < 12 * n, classes, -1)
            _compare(scores, signal, labels, classes, of_draw(encoders, draw))
            scores.setdefault("the true spectra", []).append(_ceiling(signal, classes, labels == -1))
        rows += _rows(f"{n} labels a class", scores)
    return Table("twins", "twelve near-twin phases, 50 counts; balanced accuracy of new spectra", _HEAD, rows, keys=2)


_HEAD = ["task", "method", "score", "standard error"]


def _compare(
    scores: dict[str, list[float]], signal: BaseSignal, labels: np.ndarray, truth: np.ndarray,
    encoders: dict[str, specml.Encoder],
) -> None:  # fmt: skip
    """Add the scores of all methods on the spectra without label."""
    values = labels.dtype.kind == "f"
    unseen = np.isnan(labels) if values else labels == -1
    for kind, encoder in encoders.items():
        of_kind = _CHEAP if kind == "masked" else _SIMULATED[: 1 if values else 2]
        adapters = () if "library" in kind or "package" in kind else ("lora",)  # far behind there, and slow
        for method in (*of_kind, "linear", *adapters, "auto"):
            name = method if method in _CHEAP else f"{method}, {kind}"
            scores.setdefault(name, []).append(_score(tuned(encoder, signal, labels, method), signal, truth, unseen))
    if "masked" not in encoders:  # beside which those are scored that need no encoder
        return
    draw = len(scores.get(_CNN, ()))
    config = specml.TrainConfig(max_steps=1, evaluate_every=1)
    fresh = specml.pretrain([signal], "masked", config=config, random_state=draw, show_progressbar=False)
    scores.setdefault(_TRANSFORMER, []).append(_score(tuned(fresh, signal, labels, "full"), signal, truth, unseen))
    rows = signal.data.reshape(len(labels), -1)
    found = scratch_cnn(rows, labels, 0 if values else int(truth.max()) + 1, seed=draw)
    scores.setdefault(_CNN, []).append(right(found, truth, unseen, values=values))


def _score(predictor: specml.Predictor, signal: BaseSignal, truth: np.ndarray, unseen: np.ndarray) -> float:
    if not predictor.names:
        return right(predictor.regress(signal).value.data.reshape(-1), truth, unseen, values=True)
    found = predictor.classify(signal, context="spectral")
    named = np.array([int(name) for name in found.names])[found.labels.data]
    return right(named, truth, unseen, values=False)


def _rows(task: str, scores: dict[str, list[float]]) -> list[list[str]]:
    return [
        [task, name, number(float(np.mean(one)), ".3f"), number(float(np.std(one) / np.sqrt(len(one))), ".3f")]
        for name, one in scores.items()
    ]


def _valence(options: argparse.Namespace) -> Table:
    """Predict the share of Fe3+ from some labels, with drift; the library of the simulator and a changed one."""
    first = specml.datasets.fe_l_map(_VALENCE, dose=100, random_state=0)
    encoders = {}
    for name in (one for one in ("masked", "simulated", _WIDER) if one in options.encoders):
        library = None if name == "masked" else _valence_library(first, 1.5 if name == _WIDER else 0.0)
        encoders[name] = pretrained([first.signal], name.split(",")[0], options, library=library)
    rows = []
    for n in options.labels or (20, 100, 500):
        scores: dict[str, list[float]] = {}
        for draw in range(options.draws):
            simulated = specml.datasets.fe_l_map(_VALENCE, dose=100, random_state=draw)
            truth = simulated.truth["fe3_fraction"].data.reshape(-1)
            some = np.random.default_rng(draw).permutation(len(truth))[:n]
            labels = np.full(len(truth), np.nan)
            labels[some] = truth[some]
            _compare(scores, simulated.signal, labels, truth, of_draw(encoders, draw))
        rows += _rows(f"{n} labels", scores)
    return Table("valence", "share of Fe3+ from labels, dose 100; R2 of the other pixels", _HEAD, rows, keys=2)


def _valence_library(simulated: Any, sigma: float) -> BaseSignal:
    """Return noise-free spectra of both valences, thin and thick, with little and much iron."""
    from itertools import product

    from scipy.ndimage import gaussian_filter1d

    energy = simulated.signal.axes_manager.signal_axes[0].axis
    fe3, thickness, iron = np.array(list(product((0.0, 1.0), (0.2, 1.4), (0.5, 1.5)))).T
    spectra = specml.datasets.fe_l_spectra(fe3, thickness, iron=iron, energy=energy)
    found = simulated.signal.inav[:8, 0].deepcopy()
    found.data = gaussian_filter1d(spectra, sigma, axis=-1) if sigma else spectra
    return found


def _measured(options: argparse.Namespace) -> Table:
    """Five labels a class of labelled sets."""
    rows: list[list[str]] = []
    for name, signal, truth in labelled_sets(options):
        encoders = {"masked": pretrained([signal], "masked", options)}
        scores: dict[str, list[float]] = {}
        for draw in range(options.draws):
            rng, labels = np.random.default_rng(draw), np.full(len(truth), -1)
            for c in range(truth.max() + 1):
                some = rng.permutation(np.flatnonzero(truth == c))[:5]
                labels[some] = c
            _compare(scores, signal, labels, truth, of_draw(encoders, draw))
        rows += _rows(f"{name}, 5 labels a class", scores)
    return Table("measured", "labelled sets of measured spectra; balanced accuracy", _HEAD, rows, keys=2)


def _grids(options: argparse.Namespace) -> Table:
    """Embed the same spectra on other grids."""
    truth = np.random.default_rng(0).integers(0, 12, 100)
    signal = twin_map(truth, 2000.0, 1, options.channels)
    encoder = pretrained([signal], "simulated", options, seeds=1)[0]
    own, rows = encoder.embed(signal).data, []
    axis = signal.axes_manager.signal_axes[0]
    grids = {
        "half the dispersion": (0.0, 1.0, 2),
        "a tenth shorter": (0.0, 0.9, 1),
        "half as long": (0.0, 0.5, 1),
        "another offset, below all lines": (0.007, 1.0, 1),
    }
    for name, (first, last, binned) in grids.items():
        other = signal.isig[int(first * axis.size) : int(last * axis.size)]
        other = other.rebin(scale=(1, binned)) if binned > 1 else other
        found = encoder.embed(other).data
        cosine = (own * found).sum(axis=0) / np.linalg.norm(own, axis=0) / np.linalg.norm(found, axis=0)
        rows.append([name, number(float(np.median(cosine)), ".3f"), number(float(cosine.min()), ".3f")])
    return Table("grids", "cosine of latents of the same spectra on another grid", ["grid", "median", "least"], rows)


def _cost(options: argparse.Namespace) -> Table:
    """Return what it takes to learn twenty labels of each of twelve phases, and to predict."""
    classes = np.concatenate([np.repeat(np.arange(12), 20), np.random.default_rng(0).integers(0, 12, 760)])
    signal = twin_map(classes, 50.0, 1, options.channels)
    labels = np.where(np.arange(len(classes)) < 240, classes, -1)
    config = specml.TrainConfig(max_steps=1, evaluate_every=1)
    encoder = specml.pretrain(
        [signal], library=twin_library(0.0, options.channels), config=config, show_progressbar=False
    )
    rows = []
    for method in (*_CHEAP, "likelihood", "parameters", "linear", "lora", "full", "auto"):
        start = time.process_time()
        predictor = encoder.fine_tune(signal, labels, method)
        learnt = time.process_time()
        predictor.classify(signal, context="spectral")
        predicted = time.process_time() - learnt
        rows.append([method, number(learnt - start, ".1f"), number(len(classes) / predicted, ".0f")])
    start = time.process_time()
    scratch_cnn(signal.data, labels, 12, seed=0)
    rows.append([_CNN, number(time.process_time() - start, ".1f"), "-"])
    caption = f"240 labels of 1,000 spectra, {options.channels} channels; without the pretraining"
    return Table("cost", caption, ["method", "CPU s to learn", "spectra predicted per CPU s"], rows)


def _speed(options: argparse.Namespace) -> Table:
    """Spectra per CPU second, full size: 2048 channels in 64 patches, 4 layers of 128.

    Training is timed with its preparation and its scores, which come every hundred steps as they do by default.
    """
    signal = twin_map(np.random.default_rng(0).integers(0, 12, 2000), 50.0, 1, 2048)
    config, rows = specml.TrainConfig(max_steps=100, evaluate_every=100), []
    for objective in ("masked", "simulated"):
        one = specml.TrainConfig(max_steps=1, evaluate_every=1)
        specml.pretrain([signal], objective, config=one, show_progressbar=False)  # what is imported is not timed
        start = time.process_time()
        encoder = specml.pretrain([signal], objective, config=config, show_progressbar=False)
        rows.append([f"training, {objective}", number(100 * 128 / (time.process_time() - start), ".0f")])
    start = time.process_time()
    encoder.embed(signal)
    rows.append(["embedding", number(2000 / (time.process_time() - start), ".0f")])
    limit = _products_alone()
    rows.append(["training, products of matrices alone", number(limit / 3, ".0f")])  # forwards, and twice backwards
    rows.append(["embedding, products of matrices alone", number(limit, ".0f")])
    return Table("speed", "spectra per CPU second; 2048 channels, 64 patches, 4 x 128", ["what", "spectra"], rows)


def _products_alone(width: int = 128, depth: int = 4, tokens: int = 65) -> float:
    """Return how many spectra pass the layers in a CPU second, if all that is computed are the products of matrices."""
    import torch

    x, inner = torch.randn(32 * tokens, width), torch.randn(32 * tokens, 2 * width)
    layers = [(x, torch.randn(width, n * width)) for n in (3, 1, 2)] + [(inner, torch.randn(2 * width, width))]
    seconds = []
    for _ in range(20):
        start = time.process_time()
        for one, weights in layers:
            one @ weights
        seconds.append(time.process_time() - start)
    return 32 / (depth * float(np.median(seconds)))


_PARTS: dict[str, Callable[[argparse.Namespace], Table | list[Table]]] = {
    "twins": _twins, "valence": _valence, "measured": _measured, "grids": _grids, "speed": _speed,
    "cost": _cost, "neighbours": neighbours, "strangers": strangers, "instruments": instruments, "corpus": corpus,
}  # fmt: skip
