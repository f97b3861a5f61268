"""The width of the sharpest line, estimated from maps whose width is known, beside other estimators.

Every case is a map of 24 x 28 spectra of 400 channels (or as its name says), mixed from three components. The
numbers are estimated over true width: median, and least to largest over the seeds. ``decay`` is the slope of
the logarithm of the power spectrum where it still stands out of the noise, ``gradient`` the zero crossing of
the autocorrelation of `numpy.gradient` of the whitened mean spectrum.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from benchmarks._harness import median
from benchmarks._records import Table
from hyperspy_specml import datasets
from hyperspy_specml.statistics import PoissonNoise, estimate_noise, line_width, typical_mean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from hyperspy_specml.statistics import NoiseModel

CHANNELS, SHAPE, SMALL = 400, (24, 28), (12, 12)
WIDTHS, COUNTS = (3.0, 6.0, 12.0, 20.0), (3.0, 30.0, 300.0)
_FWHM = np.sqrt(8 * np.log(2))
_MANY = 10**12  # spectra: the mean of so many has no noise
_WITHIN = 0.2  # relative error of a width that is right
_HOT = 4000  # values, one of which is hot
_MIXED, _LAGS = (0.25, 0.5, 0.25), 0.5  # filter along energy that correlates noise, readout over sqrt(counts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--widths", type=float, nargs="+", default=list(WIDTHS), help="channels")
    parser.add_argument("--counts", type=float, nargs="+", default=list(COUNTS), help="per channel")
    parser.add_argument("--seeds", type=int, default=3)


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Measure."""
    rows, within = [], dict.fromkeys(ESTIMATORS, 0)
    for name in options.cases:
        for counts in options.counts:
            found = {width: _ratios(name, width, counts, options.seeds) for width in options.widths}
            for which in ESTIMATORS:
                ratios = [[one[which] for one in found[width]] for width in options.widths]
                within[which] += sum(abs(ratio - 1) <= _WITHIN for some in ratios for ratio in some)
                rows.append([name, f"{counts:g}", which, *map(_cell, ratios)])
    n = len(options.cases) * len(options.counts) * len(options.widths) * options.seeds
    where = f"estimated over true width, median and range; maps per cell: {options.seeds}"
    head = ["map", "counts per channel", "estimate", *(f"{width:g} channels" for width in options.widths)]
    met = [[which, f"{k} of {n}"] for which, k in within.items()]
    yield (
        "",
        [
            Table("ratios", where, head, rows, keys=3),
            Table("within 20 %", where, ["estimate", "maps"], met, keys=0),
            _without_line(options),
            _iron(options),
        ],
    )


def gradient(mean: np.ndarray, noise: NoiseModel, n_spectra: int) -> float:
    """Return the width from the first zero of the autocorrelation of the whitened mean's gradient."""
    variance = noise.variance(mean)
    slope = np.gradient(mean / np.sqrt(np.maximum(variance, 1e-6 * variance.mean())))
    slope -= np.median(slope)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(slope, 2 * len(slope))) ** 2)[: len(slope) // 2 + 1]
    below = np.flatnonzero(correlation[2:] <= 0)
    lag = below[0] + 2 if len(below) else 2
    return float(np.clip(_FWHM * lag / np.sqrt(2), 2, len(mean) / 8))


def decay(mean: np.ndarray, noise: NoiseModel, n_spectra: int) -> float:
    """Return the width from the decay of the power spectrum up to where noise takes over."""
    slope, variance = np.diff(mean), noise.variance(mean) / n_spectra
    n = len(slope)
    window = np.hanning(n)
    frequency = np.fft.rfftfreq(n)
    floor = np.sum(window**2 * (variance[1:] + variance[:-1]) / 2) * np.ones(len(frequency))
    power = np.abs(np.fft.rfft(slope * window)) ** 2 / np.maximum(4 * np.sin(np.pi * frequency) ** 2, 1e-9)
    power, floor = (scipy.ndimage.uniform_filter1d(values, 9) for values in (power, floor))
    gone = np.flatnonzero((power < 3 * floor) & (frequency > 8 / n))
    last = gone[0] if len(gone) else len(frequency)
    some = slice(max(8, last // 3), last)
    if last - some.start < 4:
        return 3.0
    fall = -np.polyfit(frequency[some] ** 2, np.log(np.maximum(power - floor, floor)[some]), 1)[0]
    return float(np.clip(_FWHM * np.sqrt(max(fall, 0)) / (2 * np.pi), 2, len(mean) / 8))


def curvature(mean: np.ndarray, noise: NoiseModel, n_spectra: int) -> float:
    """Return `statistics.line_width`."""
    return line_width(mean, noise, n_spectra=n_spectra)


ESTIMATORS = {"ours": curvature, "decay": decay, "gradient": gradient}


def _line(centre: float, width: float) -> np.ndarray:
    return np.asarray(np.exp(-((np.arange(CHANNELS) - centre) ** 2) / 2 / (width / _FWHM) ** 2))


def _lines(width: float, height: float = 1.0) -> list[np.ndarray]:
    return [
        height * (_line(60, width) + 0.6 * _line(205, width)),
        height * (_line(132, width) + 0.6 * _line(314, width)),
        height * _line(238, width),
    ]


def _mixed(width: float) -> list[np.ndarray]:
    return [
        0.6 * _line(90, 4 * width) + 0.5 * _line(260, width),
        0.7 * _line(160, 5 * width) + 0.4 * _line(330, 3 * width),
        0.5 * _line(105, 2.5 * width),
    ]


def _edges(width: float) -> list[np.ndarray]:
    channel = np.arange(CHANNELS)
    steps = [
        h * (0.5 + np.arctan((channel - c) / (width / 2.5)) / np.pi) * (1 + np.maximum(channel - c, 0) / 100) ** -1.5
        for c, h in ((100, 0.4), (190, 0.5), (270, 0.3))
    ]
    white = [
        h * (1.2 * _line(c + 0.2 * width, width) + 0.7 * _line(c + 4 * width + 6, 1.3 * width))
        for c, h in ((100, 0.4), (190, 0.5), (270, 0.3))
    ]
    return [step + line for step, line in zip(steps, white, strict=True)]


def _close(width: float) -> list[np.ndarray]:
    return [
        0.5 * _line(120, width) + 0.5 * _line(120 + 1.3 * width, width),
        0.8 * _line(250, 4 * width) + 0.4 * _line(250 + width, width),
        0.5 * _line(330, width),
    ]


CASES: dict[str, tuple[Callable[[float], list[np.ndarray]], tuple[int, int], str]] = {
    "lines": (_lines, SHAPE, "counts"),
    "lines, 12 x 12": (_lines, SMALL, "counts"),
    "lines, hot pixels": (_lines, SHAPE, "hot"),
    "lines, Gaussian": (_lines, SHAPE, "gaussian"),
    "lines, correlated": (_lines, SHAPE, "correlated"),
    "narrow and broad": (_mixed, SHAPE, "counts"),
    "white lines": (_edges, SHAPE, "counts"),
    "weak lines": (partial(_lines, height=0.15), SHAPE, "counts"),
    "close lines": (_close, SHAPE, "counts"),
}


def _ratios(name: str, width: float, counts: float, seeds: int) -> list[dict[str, float]]:
    """Return estimates over the true width, one dict per seed."""
    features, shape, noise = CASES[name]
    found = []
    for seed in range(seeds):
        spectra, model = _simulate(features(width), counts, shape, noise, np.random.default_rng([seed, int(width)]))
        mean = typical_mean(spectra)
        plain = spectra.mean(axis=0, dtype=float)
        found.append(
            {
                which: estimate(mean if which == "ours" else plain, model, len(spectra)) / width
                for which, estimate in ESTIMATORS.items()
            }
        )
    return found


def _simulate(
    features: list[np.ndarray], counts: float, shape: tuple[int, int], noise: str, rng: np.random.Generator
) -> tuple[np.ndarray, NoiseModel]:
    """Return (n, E) spectra of a map and their noise model."""
    background = (1 + np.arange(CHANNELS) / 150) ** -1.5
    shares = scipy.ndimage.gaussian_filter(rng.standard_normal((len(features), *shape)), (0, 4, 4))
    shares -= shares.min(axis=(1, 2), keepdims=True)
    shares = shares / shares.max(axis=(1, 2), keepdims=True) + 0.05
    clean = (shares / shares.sum(axis=0)).reshape(len(features), -1).T @ (background + np.array(features))
    clean *= counts / clean.mean()
    values = rng.poisson(clean)
    if noise == "hot":
        hot = rng.choice(values.size, values.size // _HOT, replace=False)
        values.reshape(-1)[hot] += rng.integers(30, 60, len(hot)) * int(max(3, counts))
    if noise in ("counts", "hot"):
        return values, PoissonNoise()
    if noise == "gaussian":
        spectra = clean + np.sqrt(counts) * rng.standard_normal(clean.shape)
    else:
        noisy = values - clean + _LAGS * np.sqrt(counts) * rng.standard_normal(clean.shape)
        spectra = 0.37 * (clean + scipy.ndimage.convolve1d(noisy, _MIXED, axis=1))
    spectra = spectra.astype(np.float32)
    return spectra, estimate_noise(spectra, minimum=float(spectra.min())).model


def _without_line(options: argparse.Namespace) -> Table:
    """Return the estimates where there is no line."""
    rows = []
    for counts in options.counts:
        widths = []
        for seed in range(4 * options.seeds):
            spectra, noise = _simulate([np.zeros(CHANNELS)] * 3, counts, SHAPE, "counts", np.random.default_rng(seed))
            widths.append(curvature(typical_mean(spectra), noise, len(spectra)))
        rows.append([f"{counts:g}", f"{min(widths):.1f}-{max(widths):.1f}"])
    caption = f"estimates in channels, range; maps: {4 * options.seeds}"
    return Table("no line", caption, ["counts per channel", "channels"], rows)


def _iron(options: argparse.Namespace) -> Table:
    """Return widths of Fe-L edges, of counts and of the noise-free mean spectrum."""
    names = ["ours", "truth", "half maximum", "gradient"]
    rows, noise = [], PoissonNoise()
    for channels in (96, 192, 384):
        for counts in options.counts:
            found = []
            for seed in range(options.seeds):
                simulated = datasets.fe_l_map(SHAPE, n_channels=channels, dose=counts, random_state=seed)
                spectra = simulated.signal.data.reshape(-1, channels)
                clean = simulated.clean.data.reshape(-1, channels).mean(axis=0, dtype=float)
                found.append([
                    curvature(typical_mean(spectra), noise, len(spectra)), curvature(clean, noise, _MANY),
                    _at_half_maximum(clean), gradient(spectra.mean(axis=0, dtype=float), noise, len(spectra)),
                ])  # fmt: skip
            rows.append([f"{channels}", f"{counts:g}", *(_cell(list(one), ".1f") for one in zip(*found, strict=True))])
    caption = f"channels, median and range; truth: ours of the noise-free mean spectrum; maps: {options.seeds}"
    return Table("Fe-L", caption, ["channels", "counts per channel", *names], rows, keys=2)


def _at_half_maximum(mean: np.ndarray) -> float:
    """Return the width of the highest peak half way between it and the mean before the edge."""
    half = (mean.max() + mean[: len(mean) // 4].mean()) / 2
    above = mean > half
    top = int(mean.argmax())
    first = top - int(np.argmin(above[top::-1])) + 1
    last = top + int(np.argmin(above[top:])) - 1
    left = (mean[first] - half) / (mean[first] - mean[first - 1])
    right = (mean[last] - half) / (mean[last] - mean[last + 1])
    return float(last - first + left + right)


def _cell(values: list[float], form: str = ".2f") -> str:
    middle = median(values)
    assert middle is not None
    return f"{middle:{form}} ({min(values):{form}}-{max(values):{form}})"
