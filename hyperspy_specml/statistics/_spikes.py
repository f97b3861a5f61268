"""Single values that are far too high for the channels and pixels around them: hot pixels and cosmic rays.

No model is needed: a line has its counts in the neighbouring channels too, and what the specimen shows lies in
neighbouring pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf, ndtri_exp

from hyperspy_specml.statistics._line_width import line_width, typical_mean, varying_width
from hyperspy_specml.statistics._moments import row_slabs
from hyperspy_specml.statistics._noise import gain_of, unit_of
from hyperspy_specml.statistics._windows import signed_squares

if TYPE_CHECKING:
    from hyperspy_specml.statistics._noise import NoiseModel
    from hyperspy_specml.statistics._summary import MapSummary

    Number = np.ndarray | int

# Probability of one or more false spikes in a whole map.
SPIKE_CHANCE = 0.01
# Channels: where a line's full width at half maximum is smaller, lines look like spikes and none are searched.
NARROWEST_LINE = 2.5
# Standard deviations of the neighbours' counts that are added to the line which they may belong to.
_DEVIATIONS = 2.0
# Squared counts: smallest variance.
_LEAST_VARIANCE = 1e-6
# Excess of a hot value over the most that its neighbours allow for, relative to that, where lines have the smallest
# width; where they are wider, less in proportion: sharp features that move from pixel to pixel, such as a zero-loss
# peak, exceed it by less.
_HOT = 1.0
# Searches, each without the values that were found before: a ray may hit several neighbouring channels.
_ROUNDS = 4
# Excess of the pixels around a hot value in its channel from which it is none, in standard deviations and relative to
# its own.
_REPEATED, _LEAST_REPEATED = 4.0, 0.2
# Share of all values from which on what is found are no hot pixels, but structure that the noise is too small for.
_MANY = 1e-3
# Values that are searched at a time: some copies of them stay in the cache.
_SLAB = 1 << 20


def without_hot_values(summary: MapSummary, noise: NoiseModel, shape: tuple[int, ...]) -> MapSummary:
    """Return a summary in whose sample, and moments of it, hot values are replaced by what is expected there.

    Those of spectra that are not in the sample stay in the moments.

    Parameters
    ----------
    summary
        Of a map.
    noise
        Noise model.
    shape
        Of the navigation.
    """
    rows, moments = summary.sample, summary.moments
    mean, n, channels = typical_mean(rows), len(rows), summary.channels
    width = spike_line_width(rows, noise, float(line_width(mean, noise, n_spectra=n, channels=channels)), channels)
    clean, found = rows, np.zeros(0, int)
    for _ in range(_ROUNDS):
        row, channel, expected = find_hot_values(clean, noise, width, mean)
        n_found, alone = len(row), ~_repeated(rows, noise, mean, row, channel, summary.sample_pixels, shape)
        row, channel, expected = row[alone], channel[alone], expected[alone]
        if n_found + len(found) > _MANY * rows.size:
            return summary
        if not len(row):
            break
        clean = rows.copy() if clean is rows else clean
        clean[row, channel] = expected if rows.dtype.kind == "f" else np.rint(expected)
        found = np.union1d(found, row * rows.shape[1] + channel)
    if not len(found):
        return summary
    changed = np.unique(found // rows.shape[1])
    before, after = (values[changed].astype(np.float64) for values in (rows, clean))
    sums = moments.sums + (after - before).sum(axis=0)
    if moments.rows is None:
        products = moments.products + after.T @ after - before.T @ before
        moments = replace(moments, sums=sums, products=products)
    else:
        squares = moments.products + np.square(after).sum(axis=0) - np.square(before).sum(axis=0)
        moments = replace(moments, sums=sums, products=squares, rows=clean)
    return replace(summary, sample=clean, moments=moments, n_hot=len(found))


def spike_line_width(rows: np.ndarray, noise: NoiseModel, width: float, channels: np.ndarray | None = None) -> float:
    """Return the width of the sharpest line that a spike could be taken for, in channels.

    What is sharp in the mean spectrum but the same in all spectra, as the pattern of a detector is, looks like none.

    Parameters
    ----------
    rows
        (n, E in use) spectra.
    noise
        Noise model.
    width
        That of the sharpest feature of the mean spectrum.
    channels
        (whole axis,) bool, True in the E channels in use; None stands for all.
    """
    return max(width, varying_width(rows, noise, channels=channels)) if width < NARROWEST_LINE else width


def find_hot_values(
    rows: np.ndarray, noise: NoiseModel, width: float, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, channel and usual value of values that are far too high for the channels beside them.

    These allow for some: of a line, or of the shape that the mean spectrum has there.

    Parameters
    ----------
    rows
        (n, E) spectra.
    noise
        Noise model.
    width
        Full width at half maximum of a line, in channels.
    mean
        (E,) mean spectrum.
    """
    n_channels = rows.shape[1]
    if width < NARROWEST_LINE or n_channels < 2 * width:
        return np.empty(0, int), np.empty(0, int), np.empty(0)
    channel, limit = np.arange(n_channels), -ndtri_exp(np.log(SPIKE_CHANCE / rows.size))
    first, last = channels_beside(channel, channel + 1, np.full(n_channels, width), 0, n_channels)
    ratio = largest_line_ratio(np.full(n_channels, width), channel - first, last - 1 - channel)
    total = np.append(0.0, np.cumsum(mean))
    typical = np.stack([mean, total[last] - total[first] - mean])
    found = []
    for some in row_slabs(rows.shape, _SLAB):
        values = rows[some].astype(np.float64)
        below = np.zeros((len(values), n_channels + 1))
        np.cumsum(values, axis=1, out=below[:, 1:])
        around = below[:, last] - below[:, first] - values
        line, base = _allowed(around, typical, ratio, noise)
        row, at = np.nonzero(values - base > (1 + _HOT * NARROWEST_LINE / width) * line)
        expected = (base + line)[row, at]
        certain = squares_of_sums(values[row, at], expected, noise) > limit**2
        row, at = row[certain], at[certain]
        found.append((some.start + row, at, _usual(around[row, at], typical[:, at], (last - first - 1)[at], noise)))
    row, at, expected = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return row, at, expected


def _allowed(
    around: np.ndarray, typical: np.ndarray, ratio: np.ndarray, noise: NoiseModel
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, E) the most that a line adds to a value, given the sums of its neighbours, and what is there without.

    Parameters
    ----------
    around
        (n, E) sums of the neighbouring channels.
    typical
        (2, E) mean spectrum, and the sum of its neighbours.
    ratio
        (E,) counts of a line in a channel over those in its neighbours, at most.
    noise
        Noise model.
    """
    spread = _DEVIATIONS * np.sqrt(noise.variance(np.maximum(around, 0)) + gain_of(noise) ** 2)
    if gain_of(noise):
        own, beside = typical
        line = np.maximum(around + spread, 0) * np.maximum(ratio, own / np.maximum(beside, 1e-300))
        return line, np.zeros_like(line)
    own, beside = typical
    return np.maximum(around - beside + spread, 0) * ratio, np.broadcast_to(own, around.shape)


def _usual(around: np.ndarray, typical: np.ndarray, n_beside: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return what values are by the mean spectrum, and by how the channels beside them differ from it."""
    own, beside = typical
    if gain_of(noise):
        return np.maximum(around, 0) * own / np.maximum(beside, 1e-300)
    return own + (around - beside) / np.maximum(n_beside, 1)


def _repeated(
    rows: np.ndarray,
    noise: NoiseModel,
    mean: np.ndarray,
    row: np.ndarray,
    channel: np.ndarray,
    pixels: np.ndarray,
    shape: tuple[int, ...],
) -> np.ndarray:
    """Return (m,) bool: the pixels around a hot value have an excess in its channel, too.

    Parameters
    ----------
    rows, mean
        (n, E) spectra, and (E,) their mean.
    noise
        Noise model.
    row, channel
        (m,) of the values.
    pixels, shape
        (n,) rising flat indices of the spectra, and the shape of the navigation.
    """
    index = np.full(tuple(n + 2 for n in shape), len(rows))
    index[tuple(place + 1 for place in np.unravel_index(pixels, shape))] = np.arange(len(rows))
    steps = np.array([step for step in np.ndindex((3,) * len(shape)) if step != (1,) * len(shape)])
    place = np.stack(np.unravel_index(pixels[row], shape), axis=-1)[:, None] + steps  # (m, neighbours, axes)
    near = index[tuple(np.moveaxis(place, -1, 0))]
    there = near < len(rows)
    typical = mean[channel]
    excess = (rows[np.where(there, near, 0), channel[:, None]] - typical[:, None]) * there
    own, beside = rows[row, channel] - typical, excess.sum(axis=1)
    variance = noise.variance(np.maximum(typical, 0)) * there.sum(axis=1)
    return (beside > _REPEATED * np.sqrt(variance)) & (beside > _LEAST_REPEATED * own)


def channels_beside(
    channel: np.ndarray, stop: np.ndarray, width: np.ndarray, least: np.ndarray | int, most: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first channel within half a line width of some, and the one after the last, within these limits."""
    half = np.maximum(1, np.rint(width / 2)).astype(int)
    return np.maximum(channel - half, least), np.minimum(stop + half, most)


def line_in_channels(
    around: np.ndarray, excess: np.ndarray, width: np.ndarray, reach: tuple, noise: NoiseModel, n_channels: Number = 1
) -> np.ndarray:
    """Return the most counts that channels can have of a line, given the counts of their neighbours.

    Parameters
    ----------
    around, excess
        Sums of the neighbours, and beyond what is expected of them.
    width, reach
        Line width, and the number of neighbours on each side.
    noise
        Noise model of a pixel.
    n_channels
        Neighbouring channels whose counts are summed.
    """
    spread = noise.variance(np.maximum(around, 0)) + gain_of(noise) ** 2
    ratio = largest_line_ratio(width, reach[0], reach[1], n_channels)
    return np.maximum(excess + _DEVIATIONS * np.sqrt(spread), 0) * ratio


def largest_line_ratio(
    width: np.ndarray, below: np.ndarray, above: np.ndarray, n_channels: np.ndarray | int = 1
) -> np.ndarray:
    """Return the largest ratio of a line's counts in some channels to those in the neighbours below and above.

    At the end of the axis a line that is centred beside the channels can have more of its counts there.
    """
    table = np.stack(np.broadcast_arrays(width, below, above, n_channels))
    kinds, which = np.unique(table, axis=1, return_inverse=True)
    most = np.array([_largest_ratio(*kind) for kind in kinds.T]) if kinds.size else np.empty(0)
    return most[which.reshape(-1)]


def _largest_ratio(width: float, below: float, above: float, n: float) -> float:
    at = np.arange(-below, above + n)
    edges = np.append(at - 0.5, above + n - 0.5) - at[:, None]  # of the channels, relative to lines centred in each
    parts = np.diff(erf(edges * np.sqrt(4 * np.log(2)) / width), axis=1)
    own = parts[:, int(below) : int(below + n)].sum(axis=1)
    return float((own / np.maximum(parts.sum(axis=1) - own, 1e-12)).max())


def squares_of_sums(
    value: np.ndarray, mean: np.ndarray, noise: NoiseModel, n_channels: np.ndarray | int = 1
) -> np.ndarray:
    """Return signed squares of z of sums over so many channels."""
    variance = np.maximum(n_channels * noise.variance(mean / n_channels), _LEAST_VARIANCE * gain_of(noise) ** 2)
    unit = unit_of(variance, noise)
    scaled = variance / unit**2
    return signed_squares(np.maximum(scaled + (value - mean) / unit, 0), scaled)


def sums_between(values: np.ndarray, row: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return (m,) sums of (n, E) values in these rows, over channels from the first to before the last."""
    below = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=below[:, 1:])
    return below[row, last] - below[row, first]
