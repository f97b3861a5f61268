"""The live monitor: time per line, agreement with batch PCA, alarms, unseen area, damage, second passes."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage

import hyperspy_specml as specml
from benchmarks import _live_rivals
from benchmarks._harness import number
from benchmarks._live_more import autoencoder, measured, memory
from benchmarks._phases_maps import phase_map
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

PARTS = ("speed", "memory", "novelty", "measured", "coverage", "damage", "dwell", "autoencoder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="few scans of each setting")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--size", type=int, default=96, help="pixels along each scan axis (96)")
    parser.add_argument("--channels", type=int, default=1024, help="energy channels (1024)")
    parser.add_argument("--scans", type=int, help="scans of each setting (20; quick: 4)")
    parser.add_argument("--line", type=int, default=256, help="pixels of a line of the timed scan (256)")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure, part by part."""
    scans = range(options.scans or (4 if options.quick else 20))
    parts = {"speed": _speed, "novelty": _novelty, "coverage": _coverage, "damage": _damage, "dwell": _dwell}
    parts |= {"memory": memory, "measured": measured, "autoencoder": autoencoder}
    for part in options.parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield part, [parts[part](options, scans)]


def _scan(signal: Any, **options: Any) -> Any:
    monitor = specml.LiveMonitor(signal.axes_manager.navigation_shape, signal, **options)
    for _ in monitor.replay(signal):
        pass
    return monitor


def _speed(options: argparse.Namespace, scans: range) -> Table:
    """Take a scan line by line, beside online subspaces of the same lines; angles to the PCA of all spectra so far."""
    signal, _ = phase_map("alloy", 50.0, 0, size=options.line, channels=options.channels)
    lines, k = signal.data, 4
    rows = lines.reshape(-1, options.channels)
    monitor = specml.LiveMonitor((options.line, len(lines)), signal, n_components=k)
    times, angles = [], []
    for y, line in enumerate(lines):
        start, cpu = time.perf_counter(), time.thread_time()
        monitor.update(line, np.stack([np.arange(options.line), np.full(options.line, y)], axis=1))
        times.append((time.perf_counter() - start, time.thread_time() - cpu))
        if not monitor.n_phases:
            monitor._monitor.wait()  # lines of a microscope take longer: by now there would be phases
        if y + 1 in _live_rivals.checked(len(lines)):
            angles.append(_angle(monitor._monitor.basis.vectors, rows[: (y + 1) * options.line], k))
    weight = _weight(rows)
    others = _live_rivals.subspaces(
        (lines * weight).astype(np.float32), k, lambda vectors, n: _angle(vectors, rows[: n * options.line], k, weight)
    )
    after = ", ".join(map(str, _live_rivals.checked(len(lines))))
    head = ["method", "median", "99th percentile", "median CPU", f"degrees from batch PCA after {after} lines"]
    caption = f"ms for a line of {options.line} x {options.channels}, learning beside"
    return Table("speed", caption, head, [_live_rivals.row("LiveMonitor", times, angles), *others])


def _weight(rows: np.ndarray) -> np.ndarray:
    mean = rows.mean(axis=0)
    return 1 / np.sqrt(np.maximum(mean, 1e-3 * mean.mean()))


def _angle(vectors: np.ndarray, rows: np.ndarray, k: int, weight: np.ndarray | None = None) -> float:
    """Return the largest angle between a subspace and that of all rows, in degrees."""
    white = rows * (_weight(rows) if weight is None else weight)
    batch = np.linalg.eigh(white.T @ white)[1][:, -k:]
    return float(np.degrees(np.arccos(min(1.0, np.linalg.svd(vectors.T @ batch, compute_uv=False).min()))))


def _novelty(options: argparse.Namespace, scans: range) -> Table:
    rows = []
    for dose in (50.0, 200.0):
        false, complete, found, late = 0, 0, 0, []
        for seed in scans:
            signal, shares = phase_map("alloy", dose, seed, size=options.size, channels=options.channels)
            monitor = _scan(signal, beside=False, order="random", random_state=seed)
            monitor.finish()
            area = (shares.argmax(axis=-1)[..., None] == np.arange(4)).mean(axis=(0, 1))
            false += len(monitor.events) + 1 > (area > 0).sum()
            large = area > 0.05
            complete += int(monitor.n_phases >= large.sum())
            delay = _rare(signal, seed)
            found += delay is not None and delay <= 2
            late += [] if delay is None else [delay]
        n = len(scans)
        median = f"{np.median(late):.0f}" if late else "-"
        rows.append([f"{dose:g}", f"{false} of {n}", f"{complete} of {n}", f"{found} of {n}", median])
    head = ["counts per pixel", "scans with a false new phase", "all phases above 5 % met", "rare within 2 lines",
            "median delay, lines"]  # fmt: skip
    return Table(
        "novelty",
        f"alloy {options.size} x {options.size}, random order; rare: 4 pixels, 40 % of Nb, raster",
        head,
        rows,
    )


def _rare(signal: Any, seed: int) -> int | None:
    """Return how many lines after a rare phase of four pixels it was told of; None if not."""
    rng, size = np.random.default_rng(seed + 500), signal.data.shape[0]
    axis = signal.axes_manager.signal_axes[0].axis
    lines = sum(w * np.exp(-0.5 * ((axis - e) / 0.045) ** 2) for e, w in ((2.166, 1.0), (2.257, 0.5)))
    y, x = rng.integers(size // 2, size - 2), rng.integers(0, size - 2)
    planted = signal.deepcopy()
    for at in ((y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)):
        counts = signal.data[at]
        strange = rng.poisson(0.4 * counts.sum() * lines / lines.sum())
        planted.data[at] = rng.binomial(counts, 0.6) + strange
    for event in specml.LiveMonitor(planted.axes_manager.navigation_shape, planted, beside=False).replay(planted):
        if isinstance(event, specml.NewPhase) and y <= event.position[1] <= y + 1 and x <= event.position[0] <= x + 1:
            return int(event.n_spectra // size - 1 - y)
    return None


def _coverage(options: argparse.Namespace, scans: range) -> Table:
    """Stop as soon as the bound is 1 %, and look at how much is unseen then; phases as told by the truth."""
    from hyperspy_specml.live import unseen_area

    rows, n_maps = [], 3 * len(scans)
    for order in ("raster", "grid", "random"):
        missed, stops, part = 0, 0, []
        for seed in range(n_maps):
            labels = _domains(seed, options.size)
            where = specml.scan_order(labels.shape[::-1], order, random_state=seed)
            flat = np.ravel_multi_index(tuple(where.T[::-1]), labels.shape)
            seen, since = set(), np.zeros(labels.size, bool)
            for n, pixel in enumerate(flat):
                label = int(labels.flat[pixel])
                if label not in seen:
                    seen.add(label)
                    since[:] = False
                since[pixel] = True
                if n % 64 == 63:
                    bound = unseen_area(order, since, labels.shape, len(seen)).bound
                    if bound is not None and bound <= 0.01:
                        unseen = 1 - np.isin(labels, list(seen)).mean()
                        missed, stops = missed + (unseen > 0.01), stops + 1
                        part.append((n + 1) / labels.size)
                        break
        scanned = f"{100 * np.median(part):.0f} %" if part else "-"
        rows.append([order, f"{stops} of {n_maps}", f"{missed} of {max(stops, 1)}", scanned])
    head = ["order", "stops", "stops that miss more than 1 %", "scanned at the stop"]
    return Table("coverage", f"stop when at most 1 % may be unseen; {options.size} x {options.size}", head, rows)


def _domains(seed: int, size: int) -> np.ndarray:
    """Return labels of phases of very different area."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.standard_normal((size, size)), 0.06 * size, mode="wrap") for _ in range(6)])
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return np.argmax(fields - 0.5 * np.arange(6)[:, None, None], axis=0)


def _damage(options: argparse.Namespace, scans: range) -> Table:
    rows = []
    for counts in (2e4, 2e5):
        for drift in (0.0, 0.05):
            charts: dict[str, np.ndarray] = {}  # of scans without damage
            for decay in (0.0, 0.02, 0.01, 0.005) if not drift else (0.0, 0.02):
                n = len(scans) * (1 if decay else 2)  # false alarms are rare: more scans show how rare
                found, window, total = [], [], []
                for seed in range(n):
                    alarm, counted = _decaying(counts, decay, drift, seed, options.channels)
                    found.append(alarm)
                    window.append(counted[0])
                    total.append(counted[1])
                these = _live_rivals.charts(np.array(window), np.array(total))
                charts = charts or these
                alarms = [one for one in found if one is not None]
                first = sum(one[1] == "O" for one in alarms)
                delay = f"{np.median([one[0] for one in alarms]):g}" if alarms else "-"
                rows.append([f"{counts:g}", f"{100 * decay:g} %", f"{drift:g}", f"{len(alarms)} of {n}", delay,
                             f"{first} of {len(alarms)}",
                             *(_live_rivals.alarms(these[name], charts[name]) for name in these)])  # fmt: skip
    head = ["counts a frame", "decay a frame", "drift, channels a frame", "alarms", "after frames", "O named first",
            "EWMA of the line", "CUSUM of the line"]  # fmt: skip
    caption = "5 % of the counts are oxygen, which decays; 40 frames; charts know the line and scans without damage"
    return Table("damage", caption, head, rows, keys=3)


def _decaying(
    counts: float, decay: float, drift: float, seed: int, n_channels: int
) -> tuple[tuple[int, str] | None, np.ndarray]:
    """Return frame and element of the first alarm, and (2, frames) counts of the line of oxygen and of all channels."""
    # Three phases, without the oxide: all the oxygen there is decays.
    rng, simulated = (
        np.random.default_rng(seed),
        specml.datasets.fe_cr_ni_map((4, 4), n_channels=n_channels, n_phases=3),
    )
    template, clean = simulated.signal, simulated.clean.data.sum(axis=(0, 1))
    template.add_elements(["O"])
    axis = template.axes_manager.signal_axes[0].axis
    oxygen, mean = np.exp(-0.5 * ((axis - 0.525) / 0.03) ** 2), clean / clean.sum()
    line, counted, alarm = np.abs(axis - 0.525) < 0.05, [], None
    monitor = specml.LiveMonitor((4, 4), template, beside=False)
    for frame in range(40):
        spectrum = 0.95 * mean + 0.05 * oxygen / oxygen.sum() * (1 - decay) ** frame
        moved = np.maximum(scipy.ndimage.shift(spectrum, drift * frame, order=3, mode="nearest"), 0)
        rows = rng.poisson(counts / 16 * moved, (16, n_channels)).astype(np.uint16)
        counted.append([rows[:, line].sum(), rows.sum()])
        for event in monitor.update(rows) if alarm is None else ():
            if isinstance(event, specml.Damage) and alarm is None:
                alarm = event.frame, (*event.elements, "-")[0]
    return alarm, np.array(counted, float).T


def _dwell(options: argparse.Namespace, scans: range) -> Table:
    rows = []
    for dose in (10.0, 20.0, 50.0):
        errors, refused = [], 0
        for seed in scans[:5]:
            one, shares = phase_map("alloy", dose, seed, size=options.size, channels=options.channels)
            monitor = _scan(one, beside=False, order="grid")
            monitor.finish()
            truth, where = shares.argmax(axis=-1), specml.scan_order(one.axes_manager.navigation_shape, "raster")
            try:
                dwell = monitor.next_dwell(float(truth.size)).data
            except specml.exceptions.DataRequiredError:
                refused += 1
                continue
            rng, mean = np.random.default_rng(seed + 900), _mean_of(one, dose, seed, options)
            spread = []
            for time_at in (np.ones_like(dwell), dwell):
                second = rng.poisson(mean * time_at[..., None]).astype(np.uint16)
                copy = _copy(monitor)
                copy.update(second.reshape(-1, options.channels), where, even=False)
                copy.finish()
                spread.append(_label_error(copy.phases.labels.data, truth))
            errors.append(spread)
        means = np.mean(errors, axis=0) if errors else [np.nan, np.nan]
        ratio = means[1] / means[0] if errors else None
        rows.append([f"{dose:g} + {dose:g}", *(number(float(m), ".4f") for m in means), number(ratio), f"{refused}"])
    head = ["counts, both passes", "label error, even dwell", "by entropy", "ratio", "refused"]
    return Table(
        "dwell", f"alloy {options.size} x {options.size}, pixels with a wrong phase after two passes", head, rows
    )


def _mean_of(signal: Any, dose: float, seed: int, options: argparse.Namespace) -> np.ndarray:
    """Return the expected counts of the same map."""
    large, _ = phase_map("alloy", dose * 2000, seed, size=options.size, channels=options.channels)
    return large.data / 2000


def _copy(monitor: Any) -> Any:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return specml.LiveMonitor.load(monitor.save(Path(folder, "state")))


def _label_error(labels: np.ndarray, truth: np.ndarray) -> float:
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((labels.max() + 1, truth.max() + 1))
    np.add.at(table, (labels.ravel(), truth.ravel()), 1)
    return float(1 - table[linear_sum_assignment(-table)].sum() / truth.size)
