"""Pretrained encoders further: strange spectra without labels, instruments left out, corpora of several kinds."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

import hyperspy_specml as specml
from benchmarks._anomaly_rivals import oracle
from benchmarks._harness import Contender, megabytes, number, read, run_contender
from benchmarks._pretrain_maps import labelled_sets, of_draw, of_kind, pretrained, right, tuned, twin_spectra
from benchmarks._records import Table
from benchmarks.phases import calibration_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy.signals import BaseSignal

    Judged = tuple[np.ndarray, np.ndarray]  # scores, larger is stranger, and p-values, of all pixels

_FALSE_ALARMS = 0.01  # nominal share of ordinary pixels
# Strangers: pixels along each side of a map, part of them that are strange where they are scattered, pixels along each
# side of the patch, part of the counts of a stranger that are lines of titanium, and counts of an ordinary pixel.
_SIDE, _SCATTERED, _PATCH, _TITANIUM, _DOSES = 40, 0.02, 4, 0.1, (50.0, 500.0)
_COMPONENTS = 8  # of the rivals: more than the three phases have, so that a drift or a line would be in them
_EDS_QUICK = 512  # energy channels at most of quick runs: half the time
_LABELS, _TEST, _POOL = 20, 400, 700  # labels of a class, predicted spectra, unlabelled ones of an instrument
# Neighbours: counts in a spectrum of a grain, labels of each phase.
_GRAIN_DOSES, _GRAIN_LABELS = (10.0, 20.0, 50.0), 5
# Corpus: channels of a patch, of all kinds alike so that as much is hidden of each; files, pixels along each side of
# one and channels, 2 GiB of whole numbers of one byte together; steps while the memory is watched.
_CHANNELS_OF_PATCH, _FILES, _FILE_SIDE, _FILE_CHANNELS, _WATCHED = 24, 4, 512, 2048, 4


def strangers(options: argparse.Namespace) -> Table:
    """Find pixels with lines of titanium, without labels.

    All but `anomaly_map` know ordinary spectra of another map, whose other half makes their p-values; `anomaly_map`
    knows the map alone, or also what that other map looks like. Encoders learnt from a third map.
    """
    scores: dict[tuple[str, ...], list[tuple[float, ...]]] = {}
    channels = _channels(options)
    pool = [_alloy(channels, max(_DOSES), 10_000)]
    encoders = {objective: pretrained(pool, objective, options) for objective in ("masked", "simulated")}
    for draw in range(options.draws):
        for dose in _DOSES:
            ordinary = _alloy(channels, dose, 1000 + draw)
            methods = _finders(ordinary, of_draw(encoders, draw))
            for case in ("scattered", "patch"):
                signal, truth, expected = _planted(channels, dose, draw, case)
                known = methods | {"the true spectra": partial(_ceiling, *expected)}
                for name, method in known.items():
                    key = (case, f"{dose:g}", name)
                    scores.setdefault(key, []).append(_found(method(signal), truth))
    rows = [[*key, *(number(value, ".3f") for value in np.mean(several, axis=0))] for key, several in scores.items()]
    caption = (
        f"lines of Ti, {_TITANIUM:.0%} of the counts, in 2 % of {_SIDE} x {_SIDE} pixels or in {_PATCH} x {_PATCH}; "
        f"{channels} channels; nominal false alarms 1 %; maps: {options.draws}"
    )
    head = ["case", "counts", "method", "area under ROC", "found", "false alarms", "of these, no stranger beside"]
    return Table("strangers", caption, head, sorted(rows, key=lambda row: row[0], reverse=True), keys=3)


def _channels(options: argparse.Namespace) -> int:
    return min(options.channels, _EDS_QUICK) if options.quick else options.channels


def _alloy(channels: int, dose: float, seed: int, side: int = _SIDE) -> BaseSignal:
    return specml.datasets.fe_cr_ni_map((side, side), n_channels=channels, dose=dose, random_state=seed).signal


def _planted(channels: int, dose: float, seed: int, case: str) -> tuple[BaseSignal, np.ndarray, tuple[np.ndarray, ...]]:
    """Return a map, which pixels are strange, and the (n, E) expectations of all pixels without and with titanium."""
    shape, rng = (_SIDE, _SIDE), np.random.default_rng(seed)
    simulated = specml.datasets.fe_cr_ni_map(shape, n_channels=channels, dose=dose, random_state=seed)
    truth = np.zeros(shape, bool)
    if case == "scattered":
        truth.flat[rng.permutation(truth.size)[: round(_SCATTERED * truth.size)]] = True
    else:
        y, x = rng.integers(0, _SIDE - _PATCH, 2)
        truth[y : y + _PATCH, x : x + _PATCH] = True
    rare = specml.datasets.RarePhase(1, 0.5, ("Ti",))
    lines = specml.datasets.fe_cr_ni_map((4, 4), n_channels=channels, rare_phase=rare).endmembers
    assert lines is not None
    plain = simulated.clean.data.astype(float)
    strange = (1 - _TITANIUM) * plain + _TITANIUM * plain.sum(axis=-1, keepdims=True) * lines.data[-1]
    signal = simulated.signal.deepcopy()
    signal.data = rng.poisson(np.where(truth[..., None], strange, plain)).astype(np.uint16)
    return signal, truth, (plain.reshape(-1, channels), strange.reshape(-1, channels))


def _finders(ordinary: BaseSignal, encoders: dict[str, specml.Encoder]) -> dict[str, Callable[[BaseSignal], Judged]]:
    model = ordinary.anomaly_map(show_progressbar=False).model
    rows = ordinary.data.reshape(-1, ordinary.data.shape[-1])
    found: dict[str, Callable[[BaseSignal], Judged]] = {
        f"novelty, {name}": partial(_of_latents, encoder, ordinary) for name, encoder in encoders.items()
    }
    found |= {f"components, {what}": partial(_of_components, rows, what) for what in ("inside", "outside")}
    return found | {
        "anomaly_map": partial(_of_map, None), "anomaly_map, model of ordinary ones": partial(_of_map, model),
    }  # fmt: skip


def _of_latents(encoder: specml.Encoder, ordinary: BaseSignal, signal: BaseSignal) -> Judged:
    found = encoder.novelty(signal, ordinary)
    return found.distance.data.ravel(), found.p_value.data.ravel()


def _of_map(model: Any, signal: BaseSignal) -> Judged:
    found = signal.anomaly_map(model=model, show_progressbar=False)
    return found.score.data.ravel(), found.p_value.data.ravel()


def _of_components(ordinary: np.ndarray, what: str, signal: BaseSignal) -> Judged:
    """Return the Mahalanobis distance within principal components, or the squared distance from them.

    Parameters
    ----------
    ordinary
        (m, E) counts; half of them give the components, the others p-values.
    what
        "inside" or "outside".
    signal
        The map.
    """
    order = np.random.default_rng(0).permutation(len(ordinary))
    shares = ordinary / np.maximum(ordinary.sum(axis=1, keepdims=True), 1)
    fitted, other = shares[order[::2]], shares[order[1::2]]
    mean = fitted.mean(axis=0)
    # Of the noise of counts, but channels below the mean alike: with smaller limits one count in an empty channel
    # outweighs a line, and less is found at both doses.
    weight = 1 / np.sqrt(np.maximum(mean, mean.mean()))
    values, directions = np.linalg.svd((fitted - mean) * weight, full_matrices=False)[1:]
    axes, deviation = directions[:_COMPONENTS], values[:_COMPONENTS] / np.sqrt(len(fitted))

    def distance(some: np.ndarray) -> np.ndarray:
        away = (some - mean) * weight
        inside = away @ axes.T
        if what == "inside":
            return np.square(inside / deviation).sum(axis=1)
        return np.square(away).sum(axis=1) - np.square(inside).sum(axis=1)

    rows = signal.data.reshape(-1, len(mean))
    found = distance(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1))
    return found, _p_value(found, distance(other))


def _ceiling(plain: np.ndarray, strange: np.ndarray, signal: BaseSignal) -> Judged:
    """Return the log likelihood ratio of the true spectra, and p-values of a second draw without strangers."""
    again = np.random.default_rng(99).poisson(plain)
    found = oracle(signal.data.reshape(plain.shape), plain, strange)
    return found, _p_value(found, oracle(again, plain, strange))


def _p_value(found: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
    """Return how many of (m,) ordinary values and the value itself are as large, over m + 1."""
    smaller = np.searchsorted(np.sort(ordinary), found, side="left")
    return (1 + len(ordinary) - smaller) / (1 + len(ordinary))


def _found(judged: Judged, truth: np.ndarray) -> tuple[float, ...]:
    """Return the area under the ROC curve, the share found, and false alarms of all and of those away from any."""
    from scipy.ndimage import binary_dilation
    from sklearn.metrics import roc_auc_score

    score, alarm = judged[0], judged[1].reshape(truth.shape) <= _FALSE_ALARMS
    away = ~binary_dilation(truth, np.ones((3, 3)))
    area = roc_auc_score(truth.ravel(), np.nan_to_num(score, nan=float(np.nanmin(score))))
    return float(area), float(alarm[truth].mean()), float(alarm[~truth].mean()), float(alarm[away].mean())


@dataclass(frozen=True)
class _Instrument:
    """What an instrument makes of spectra.

    Attributes
    ----------
    offset
        Of the energy axis, channels.
    dispersion
        Relative, about the middle of the axis.
    blur
        Standard deviation, channels, beside the width that lines have.
    slope
        Part of the counts that is lost at the end of the axis; negative at its start.
    """

    offset: float
    dispersion: float
    blur: float
    slope: float

    def of(self, spectra: np.ndarray) -> np.ndarray:
        """Return (n, E) noise-free spectra as it records them."""
        from scipy.ndimage import gaussian_filter1d

        channels = np.arange(spectra.shape[1])
        middle = channels.mean()
        shown = middle + (channels - middle - self.offset) / (1 + self.dispersion)
        moved = np.stack([np.interp(shown, channels, one) for one in spectra]) / (1 + self.dispersion)
        place = channels / channels[-1]
        kept = 1 - abs(self.slope) * (place if self.slope > 0 else 1 - place)
        return (gaussian_filter1d(moved, self.blur, axis=-1) if self.blur else moved) * kept


# As far apart as what `specml.Instruments()` draws, none at its limits.
_INSTRUMENTS = {
    "A": _Instrument(0.0, 0.0, 0.0, 0.0),
    "B": _Instrument(1.2, 0.003, 0.4, -0.2),
    "C": _Instrument(-1.2, -0.002, 0.8, 0.3),
}


def instruments(options: argparse.Namespace) -> Table:
    """Leave one instrument out: neither its spectra nor their labels are known.

    Each round of draws leaves one instrument after the other out, so draws are rounded up to whole rounds. Encoders of
    simulated spectra learn from no recorded ones, so they are the same whichever is left out.
    """
    channels, known, rng = _channels(options), [*_INSTRUMENTS], np.random.default_rng(0)
    rounds = -(-options.draws // len(known))
    options = argparse.Namespace(**vars(options) | {"draws": rounds})  # as many seeds of pretraining, too
    scores: dict[str, list[tuple[float, float]]] = {}
    pools = {name: _seen_by(name, rng.integers(0, 12, _POOL), channels, 1) for name in known}
    simulated = _encoders([*pools.values()], "simulated", options)
    for k, left_out in enumerate(known):
        others = [name for name in known if name != left_out]
        encoders = _encoders([pools[name] for name in others], "masked", options) | simulated
        for draw in range(rounds):
            _leave_out(scores, left_out, others, of_draw(encoders, draw), channels, len(known) * draw + k)
    rows = []
    for name, pairs in scores.items():
        (other, same), lost = np.mean(pairs, axis=0), [two - one for one, two in pairs]
        values = (float(other), float(same), float(np.mean(lost)), float(np.std(lost) / np.sqrt(len(lost))))
        rows.append([name, *(number(value, ".3f") for value in values)])
    caption = (
        f"twelve near-twin phases, 50 counts, {channels} channels; {_LABELS} labels a class, of two instruments "
        f"together; balanced accuracy; each of three left out {rounds} x"
    )
    head = ["method", "the one left out", "those with labels", "lost", "standard error of it"]
    return Table("instruments", caption, head, rows)


def _encoders(pool: list[BaseSignal], objective: str, options: argparse.Namespace) -> dict[str, list[specml.Encoder]]:
    """Return encoders of each seed, without and with spectra that are moved to other instruments."""
    moved = pretrained(pool, objective, options, instruments=specml.Instruments())
    return {objective: pretrained(pool, objective, options), f"{objective}, moved": moved}


def _seen_by(name: str, classes: np.ndarray, channels: int, seed: int) -> BaseSignal:
    """Return twin spectra of (n,) classes, 50 counts, as an instrument counts them."""
    signal, spectra = twin_spectra(channels)
    expected = np.maximum(50 * _INSTRUMENTS[name].of(spectra), 0)[classes]
    return of_kind(signal, np.random.default_rng(seed).poisson(expected).astype(np.float32))


def _leave_out(
    scores: dict[str, list[tuple[float, float]]], left_out: str, others: list[str], encoders: dict[str, specml.Encoder],
    channels: int, seed: int,
) -> None:  # fmt: skip
    """Add the scores of all methods on spectra of the instrument left out, and of the others, none of them labelled."""
    rng = np.random.default_rng(seed)
    training, truth = _mixed(others, np.repeat(np.arange(12), _LABELS), channels, rng)
    more, _ = _mixed(others, rng.integers(0, 12, _TEST), channels, rng)  # without labels, as a lab would have them
    signal = of_kind(training, np.concatenate([training.data, more.data]))
    labels = np.concatenate([truth, np.full(_TEST, -1)])
    tests = [_mixed(names, rng.integers(0, 12, _TEST), channels, rng) for names in ([left_out], others)]
    for kind, encoder in encoders.items():
        first = kind == next(iter(encoders))
        physical = ("parameters", "likelihood") if kind.startswith("simulated") else ()
        blend = ("auto",) if kind.endswith("moved") else ()  # takes most of the time
        for method in (*(("raw", "pca", "aligned") if first else ()), "linear", *physical, *blend):
            predictor = tuned(encoder, signal, labels, method)
            found = tuple(_accuracy(predictor, *test) for test in tests)
            name = method if method in ("raw", "pca", "aligned") else f"{method}, {kind}"
            scores.setdefault(name, []).append((found[0], found[1]))


def _mixed(
    names: list[str], classes: np.ndarray, channels: int, rng: np.random.Generator
) -> tuple[BaseSignal, np.ndarray]:
    """Return spectra of (n,) classes, each of a random one of these instruments, and the classes in their order."""
    which = rng.integers(0, len(names), len(classes))
    parts = [_seen_by(name, classes[which == k], channels, int(rng.integers(1 << 30))) for k, name in enumerate(names)]
    order = np.concatenate([classes[which == k] for k in range(len(names))])
    return of_kind(parts[0], np.concatenate([part.data for part in parts])), order


def _accuracy(predictor: specml.Predictor, signal: BaseSignal, truth: np.ndarray) -> float:
    found = predictor.classify(signal, context="spectral")
    named = np.array([int(name) for name in found.names])[found.labels.data]
    return right(named, truth, np.ones(len(truth), bool), values=False)


def neighbours(options: argparse.Namespace) -> Table:
    """Classify maps of grains from few labels with the encoder in the package: spectra alone, or with neighbours."""
    encoder, channels = specml.encoders.eds(), _channels(options)
    scores: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for draw in range(options.draws):
        for dose in _GRAIN_DOSES:
            simulated = specml.datasets.fe_cr_ni_map(
                (_SIDE, _SIDE), texture="grains", n_channels=channels, dose=dose, random_state=draw
            )
            truth = simulated.truth["abundances"].data.argmax(axis=0)
            rng, labels = np.random.default_rng(draw), np.full(truth.shape, -1)
            for c in np.unique(truth):
                labels.flat[rng.permutation(np.flatnonzero(truth == c))[:_GRAIN_LABELS]] = c
            for name, classified in _classified(encoder, simulated.signal, labels).items():
                named = np.array(classified.names).astype(int)[classified.labels.data]
                sure = np.asarray(classified.probability.data).max(axis=0)
                judged = right(named, truth, labels == -1, values=False), calibration_error(named == truth, sure)
                scores.setdefault((f"{dose:g}", name), []).append(judged)
    rows = []
    for key, several in scores.items():
        (share, error), spread = np.mean(several, axis=0), np.std([one for one, _ in several]) / np.sqrt(options.draws)
        rows.append([*key, number(share, ".3f"), number(float(spread), ".3f"), number(error, ".3f")])
    caption = (
        f"{_GRAIN_LABELS} labels of each phase in grains, {_SIDE} x {_SIDE}, {channels} channels; maps: {options.draws}"
    )
    head = ["counts", "method", "balanced accuracy", "standard error", "calibration error"]
    return Table("neighbours", caption, head, rows, keys=2)


def _classified(encoder: specml.Encoder, signal: BaseSignal, labels: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for method in ("linear", "likelihood"):
        predictor = encoder.fine_tune(signal, labels, method)
        for context in ("spectral", "auto"):
            found[f"{method}, {context}"] = predictor.classify(signal, context=context)
    named = {str(c): labels == c for c in range(labels.max() + 1)}
    found["phase_map"] = signal.phase_map(labels=named, mixed=False, show_progressbar=False)
    return found


def corpus(options: argparse.Namespace) -> list[Table]:
    """Learn from kinds of spectra together, and from files larger than the memory that it may cost."""
    return [_kinds(options), _memory()]


def _kinds(options: argparse.Namespace) -> Table:
    """Compare what is learnt of each kind from all kinds together, and from it alone.

    The loss is the squared error of hidden patches of a tenth of the spectra, which is held out. `pretrain` reports its
    mean over the kinds; here the loss of each is noted while it is taken. It is divided by that of the mean spectrum of
    the kind, on the same patches: 1 knows the mean alone. Before training, the network says something at random. Of all
    kinds together, it is that of the step where their mean is smallest. Together there are as many steps for each kind
    as alone, on average; patches are as long.
    """
    kinds = {
        "EDS, alloy": specml.datasets.fe_cr_ni_map((_SIDE, _SIDE), n_channels=_channels(options)).signal,
        "EELS, Fe-L": specml.datasets.fe_l_map((_SIDE, _SIDE), dose=100).signal,
    }
    kinds |= {name: signal for name, signal, _ in labelled_sets(options)}
    together, rows = _losses([*kinds.values()], options.steps * len(kinds)), []
    for k, (name, signal) in enumerate(kinds.items()):
        alone = _losses([signal], options.steps)
        rows.append([name, str(len(signal.data.reshape(-1, signal.data.shape[-1]))), *(
            number(float(value), ".3f") for value in (together[0][k], together[1][k], alone[1][0])
        )])  # fmt: skip
    caption = f"held-out error of hidden patches over that of the mean spectrum; {options.steps} steps for each kind"
    return Table("kinds", caption, ["kind", "spectra", "before", "all together", "alone"], rows)


def _losses(signals: list[BaseSignal], steps: int) -> np.ndarray:
    """Return the held-out losses (2, kinds) before training, and where their mean is smallest, over those of the mean.

    Parameters
    ----------
    signals
        One of each kind.
    steps
        Of training.
    """
    import torch

    from hyperspy_specml.pretraining import _train

    plain, noted = _train._Masked.error, []

    def watched(source: Any, network: Any, batch: Any, step: int = 0) -> dict[str, torch.Tensor]:
        found = plain(source, network, batch, step)
        if not torch.is_grad_enabled():  # a score, not a step
            # What values are is how they differ from the mean.
            nothing = plain(source, lambda values, **_: torch.zeros_like(values), batch, step)
            noted.append((found["hidden"].item(), nothing["hidden"].item()))
        return found

    config = specml.TrainConfig(max_steps=steps, evaluate_every=max(1, steps // 20))
    shape = specml.PatchShape(patch=_CHANNELS_OF_PATCH)
    with mock.patch.object(_train._Masked, "error", watched):
        encoder = specml.pretrain(signals, "masked", shape=shape, config=config, show_progressbar=False)
    losses, of_mean = np.moveaxis(np.reshape(noted, (-1, len(signals), 2)), -1, 0)
    np.testing.assert_allclose(losses.mean(axis=1), encoder.report["scores"], rtol=1e-6)
    best = int(losses.mean(axis=1).argmin())
    return np.asarray((losses / of_mean)[[0, best]])


def _memory() -> Table:
    """Watch the memory of a few steps on files of counts: one is written block by block, the others are its copies."""
    folder = Path(tempfile.mkdtemp(prefix="specml-benchmark-"))
    paths = [folder / f"map_{k}.hspy" for k in range(_FILES)]
    try:
        made = {"path": str(paths[0]), "size": _FILE_SIDE, "channels": _FILE_CHANNELS}
        run_contender(Contender("file", "benchmarks.lazy:write_map", made))
        for path in paths[1:]:
            shutil.copyfile(paths[0], path)
        size = sum(path.stat().st_size for path in paths)
        runs = [
            run_contender(Contender("files", "benchmarks._pretrain_more:of_files", {"paths": [*map(str, some)]}))
            for some in (paths, paths[:1])
        ]
    finally:
        shutil.rmtree(folder)
    above, one = (_above(run.facts) for run in runs)
    rows = [
        [f"{_FILES} files", megabytes(size), "2 GB"],
        ["largest memory, with the imports", megabytes(runs[0].facts["largest"]), "1500 MB"],
        ["memory above that of the imports", megabytes(above), "-"],
        ["memory of the imports", megabytes(runs[0].facts["imports"]), "-"],
        ["memory above that of the imports, of one of the files", megabytes(one), "-"],
        ["s", number(runs[0].seconds, ".0f"), "-"],
        ["CPU s", number(runs[0].cpu_seconds, ".0f"), "-"],
    ]
    caption = f"masked, {_WATCHED} steps; {_FILE_CHANNELS} channels, one byte each; largest resident memory"
    return Table("memory", caption, ["what", "value", "asked"], rows)


def _above(facts: dict[str, Any]) -> int | None:
    return None if facts["largest"] is None else facts["largest"] - facts["imports"]


def of_files(paths: list[str]) -> Callable[[], dict[str, Any]]:
    """Prepare a few steps of training on files, and note the memory that all imports need.

    Parameters
    ----------
    paths
        Of the files.
    """
    import hyperspy.api as hs

    signal = specml.datasets.fe_cr_ni_map((8, 8), n_channels=64).signal
    _pretrain([signal])  # whatever is imported on the way, is
    with tempfile.TemporaryDirectory() as folder:
        signal.save(Path(folder, "small.hspy"))
        hs.load(Path(folder, "small.hspy"), lazy=True).data.sum().compute()
    return partial(_watched, paths, _largest())


def _watched(paths: list[str], imports: int | None) -> dict[str, Any]:
    _pretrain(paths)
    return {"imports": imports, "largest": _largest()}


def _pretrain(signals: list[Any]) -> None:
    config = specml.TrainConfig(max_steps=_WATCHED, evaluate_every=_WATCHED)
    specml.pretrain(signals, "masked", config=config, show_progressbar=False)


def _largest() -> int | None:
    """Return the largest resident memory of this process so far in bytes (Linux), else None."""
    found = re.search(r"VmHWM:\s*(\d+) kB", read(Path("/proc/self/status")))
    return int(found[1]) * 1024 if found else None
