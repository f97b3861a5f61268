"""The first pass over a file: moments, sums, the states of pixels and channels, a sample of whole spectra."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.statistics._moments import Moments, are_whole, moments_of, sum_exactly, wide_moments
from hyperspy_specml.statistics._states import BELOW_LINES, EMPTY, MASKED, NOT_FINITE, SATURATED, STATE_NAMES, USED

if TYPE_CHECKING:
    from hyperspy_specml.streaming import SpectrumStream

_logger = logging.getLogger(__name__)

# Number of channels up to which (E, E) products are computed whatever the memory budget.
_NARROW = 4096
# Number of (E, E) products in memory at a time: the sum and the newest block of each of two workers.
_STATES = 4
# Part of the memory budget for the sample and its folds: one in two.
_BUDGETS_PER_SAMPLE = 2
# Number of spectra in the sample, at most.
_MAX_SAMPLED = 100_000
# Number of values in the sample, at most: 16384 spectra of 2048 channels give small standard errors.
_MAX_VALUES = 1 << 25
# Fraction of the spectra, because of values that are not finite, from which leaving them out is worth a warning.
_MANY_LEFT_OUT = 0.1
# Fraction of the spectra at the largest value of the dtype from which a channel is saturated.
_SATURATED = 0.1


@dataclass(frozen=True)
class MapSummary:
    """What one pass over N spectra of E channels found.

    Attributes
    ----------
    moments
        Of the used spectra, over the used channels only. Of wide spectra, whose products would exceed the
        memory budget, second moments are those of the sample.
    pixel_state, channel_state
        (n_pixels,) and (E,) uint8: USED, MASKED (by the user), NOT_FINITE, EMPTY (all zero; a channel:
        dead), SATURATED or BELOW_LINES (channels only). A spectrum of zeros is not EMPTY but USED where the map
        holds counts (whole numbers, none negative): no count is what a detector in the vacuum counts.
    pixel_sums
        (n_pixels,) float64 sums over the channels that are neither masked nor not finite; 0 where the pixel
        is not used.
    sample, sample_pixels
        (n, E used) spectra in the data's own precision, and their flat indices. All used spectra if
        they fit into the memory budget, else a random sample that the seed alone decides.
    minimum
        Smallest finite value.
    n_hot
        Values of the sample that were replaced: see `without_hot_values`.
    """

    moments: Moments
    pixel_state: np.ndarray
    channel_state: np.ndarray
    pixel_sums: np.ndarray
    sample: np.ndarray = field(repr=False)
    sample_pixels: np.ndarray = field(repr=False)
    minimum: float = 0.0
    n_hot: int = 0

    @property
    def channels(self) -> np.ndarray:
        """(E,) bool, the channels in use."""
        return self.channel_state == USED

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many pixels, channels and values are in which state, states that do not occur left out."""
        counts = {"pixels": count_states(self.pixel_state), "channels": count_states(self.channel_state)}
        return counts | ({"values": {"hot": self.n_hot}} if self.n_hot else {})


def count_states(state: np.ndarray) -> dict[str, int]:
    """Return how many pixels or channels are in which state, states that do not occur left out.

    Parameters
    ----------
    state
        (n,) uint8.
    """
    return {STATE_NAMES[code]: int(n) for code, n in enumerate(np.bincount(state)) if n}


def summarise_map(
    stream: SpectrumStream,
    *,
    navigation_mask: np.ndarray | None = None,
    signal_mask: np.ndarray | None = None,
    seed: int = 0,
    kernel: str = "auto",
    sample: np.ndarray | None = None,
    products: bool = True,
) -> MapSummary:
    """Pass once over the spectra (twice where whole channels are not finite).

    Parameters
    ----------
    stream
        The spectra.
    navigation_mask, signal_mask
        Bool arrays of the navigation shape and of shape (E,), True = masked; the second may hold the states
        of the channels instead, of which only those that are USED are looked at.
    seed
        Chooses the sample of pixels.
    kernel
        See `moments_of`.
    sample
        (n_pixels,) bool, the pixels that make up the sample where they can be used, `sample_size` of them at
        most; None draws them at random.
    products
        Whether the (E, E) second moments of all spectra are needed; otherwise they are those of the sample.
    """
    channel_state = np.zeros(stream.n_channels, np.uint8)
    if signal_mask is not None:
        channel_state |= signal_mask  # True is MASKED
    masked = np.zeros(stream.n_pixels, bool) if navigation_mask is None else navigation_mask.reshape(-1)
    if sample is None:
        inside, n_wanted = np.flatnonzero(~masked), sample_size(stream)
        if len(inside) > n_wanted:
            rng = np.random.default_rng([seed & 0xFFFFFFFF, len(inside)])
            inside = inside[rng.choice(len(inside), n_wanted, replace=False)]
        sample = np.zeros(stream.n_pixels, bool)
        sample[inside] = True
    while True:
        seen = channel_state == USED
        # Spectra are wide if the (E, E) products of several blocks exceed the memory budget.
        wide = seen.sum() > _NARROW and _STATES * 8 * int(seen.sum()) ** 2 > stream.memory_budget
        exactly = partial(moments_of, kernel=kernel, n_spectra=stream.n_pixels)
        measure = wide_moments if wide or not products else exactly
        block = partial(_summarise, masked=masked, channels=seen, wanted=sample, measure=measure)
        moments, parts = stream.fold(block, _merge, label="Summarise")
        *found, minima, n_recorded, n_whole, not_finite, saturated, counts = zip(*parts, strict=True)
        # A spectrum with one value that is not finite is left out, or such channels are, and then the spectra are
        # looked at again.
        bad = _bad_channels(sum(not_finite), sum(n_recorded), sum(n_recorded) - sum(n_whole))
        if not bad.any():
            n_saturated, pieces = sum(saturated), [np.concatenate(some) for some in found]
            summary = _finish(moments, n_saturated, pieces, channel_state, counts=all(counts))
            return replace(summary, minimum=min(minima))
        channel_state[np.flatnonzero(channel_state == USED)[bad]] = NOT_FINITE


def _bad_channels(not_finite: np.ndarray, n_recorded: int, n_damaged: int) -> np.ndarray:
    """Return the channels that are left out, so that as many values as possible are used.

    Those are the ends of spectra that were aligned without cropping, or channels that are not finite anywhere.

    Parameters
    ----------
    not_finite
        (E,) number of spectra in which each channel is not finite.
    n_recorded, n_damaged
        Spectra with any finite value, and those of them with one that is not.
    """
    n_channels = max(1, len(not_finite))
    often = not_finite * n_channels > n_recorded
    left = min(n_damaged, int(not_finite[~often].sum()))  # at most
    pays = often.sum() * n_recorded < (n_damaged - left) * n_channels
    if (lost := left if pays else n_damaged) > _MANY_LEFT_OUT * n_recorded:
        _logger.warning(
            "%d of %d spectra hold values that are not finite and are left out. Crop the channels that are not finite, "
            "s.isig[...], or mask them, signal_mask=...",
            lost,
            n_recorded,
        )
    if pays:
        _logger.info("%d channels that are not finite in %d spectra are left out", often.sum(), n_damaged - left)
    return often & pays


def _summarise(
    rows: np.ndarray, pixels: np.ndarray, *, masked: np.ndarray, channels: np.ndarray, wanted: np.ndarray, measure: Any
) -> tuple[Moments, list[tuple[Any, ...]]]:
    """Summarise a block.

    Parameters
    ----------
    rows, pixels
        The spectra and their flat indices.
    masked, wanted
        (n_pixels,) bool, the pixels that are masked and those of the sample.
    channels
        (E,) bool, the channels that are neither masked nor not finite.
    measure
        Function from spectra to their `Moments`.

    Returns
    -------
    the moments of the used spectra over these channels, and in a list of one: flat indices of the pixels, their
    states and sums, sampled spectra and their indices; then the smallest value, the numbers of spectra with any
    finite value and without any other, the (E,) numbers of spectra that are not finite, or at the largest value of
    the dtype, and whether all values are whole numbers and none is negative
    """
    state = np.where(masked[pixels], MASKED, USED).astype(np.uint8)
    rows = rows if not state.any() else rows[state == USED]
    rows = _native(rows if channels.all() else rows[:, channels])
    n_recorded, not_finite, whole = _find_not_finite(rows)
    if not whole.all():
        state[np.flatnonzero(state == USED)[~whole]] = NOT_FINITE
        rows = rows[whole]
    seen = np.flatnonzero(state == USED)
    sums = np.zeros(len(state))
    sums[seen] = sum_exactly(rows, axis=1)
    zero = np.flatnonzero(sums[seen] == 0)
    state[seen[zero[~rows[zero].any(axis=1)]]] = EMPTY
    chosen = wanted[pixels[seen]]
    minimum = float(rows.min()) if rows.size else np.inf
    pieces = pixels, state, sums, rows[chosen], pixels[seen[chosen]]
    counts = minimum >= 0 and are_whole(rows)
    return measure(rows), [(*pieces, minimum, n_recorded, len(rows), not_finite, _n_saturated(rows), counts)]


def _find_not_finite(rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many spectra were recorded, in how many each channel is not finite, and which are finite."""
    whole = np.ones(len(rows), bool)
    if rows.dtype.kind != "f":
        return len(rows), np.zeros(rows.shape[1], np.int64), whole
    with np.errstate(invalid="ignore", over="ignore"):
        suspect = np.flatnonzero(~np.isfinite(rows.sum(axis=1)))
    finite = np.isfinite(rows[suspect])
    whole[suspect] = finite.all(axis=1)
    recorded = finite.any(axis=1)  # the others do not count against the channels
    return len(rows) - int((~recorded).sum()), (~finite[recorded]).sum(axis=0), whole


def _native(rows: np.ndarray) -> np.ndarray:
    """Return the rows, bool as bytes, half precision as single, whose sums do not overflow."""
    if rows.dtype.kind == "b":
        return rows.view(np.uint8)
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


def _n_saturated(rows: np.ndarray) -> np.ndarray:
    """Return the number of spectra at the largest value of an integer dtype, per channel."""
    if rows.dtype.kind in "ui" and rows.size and rows.max() == np.iinfo(rows.dtype).max:
        return (rows == rows.max()).sum(axis=0)
    return np.zeros(rows.shape[1], np.int64)


def _merge(a: tuple[Moments, list], b: tuple[Moments, list]) -> tuple[Moments, list]:
    return a[0].absorb(b[0]), a[1] + b[1]


def _finish(
    moments: Moments, saturated: np.ndarray, pieces: list[np.ndarray], channel_state: np.ndarray, *, counts: bool
) -> MapSummary:
    inside = np.flatnonzero(channel_state == USED)
    channel_state[inside[moments.squares == 0]] = EMPTY
    channel_state[inside[saturated > _SATURATED * max(1, moments.n)]] = SATURATED
    keep = channel_state[inside] == USED
    pixels, states, sums, sample, sample_pixels = pieces
    place, order = np.argsort(pixels), np.argsort(sample_pixels)  # blocks come in any order, the sample must not
    states, sums = states[place], sums[place]
    if counts and moments.squares.any():
        states[states == EMPTY] = USED
    else:
        moments = replace(moments, n=int((states == USED).sum()))  # empty spectra change no sum
        order = order[states[sample_pixels[order]] == USED]
    sample = sample[order] if keep.all() else sample[np.ix_(order, keep)]
    moments = moments if keep.all() else moments.select(keep)
    if moments.products.ndim == 1:
        moments = replace(moments, rows=sample)
    return MapSummary(moments, states, channel_state, sums, sample, sample_pixels[order])


def sample_size(stream: SpectrumStream) -> int:
    """Return the largest number of spectra that may be held in memory with their folds."""
    # The sample and its folds in six parts; of values that are not counts these are float32, and so are the
    # mean and the variance that belong to each.
    itemsize = stream.array.dtype.itemsize
    bytes_per_value = 7 * itemsize if stream.array.dtype.kind in "bui" else itemsize + 8 * 4
    room = stream.memory_budget // _BUDGETS_PER_SAMPLE // (bytes_per_value * stream.n_channels)
    return int(np.clip(min(room, _MAX_VALUES // stream.n_channels), 256, _MAX_SAMPLED))


def expand_channels(spectra: np.ndarray, channel_state: np.ndarray) -> np.ndarray:
    """Put (n, E in use) spectra into all E channels: 0 where there is no signal, NaN in others that were not used.

    Dead channels and those below the first line of the detector have no signal.
    """
    used = channel_state == USED
    if used.all():
        return spectra
    out = np.full((len(spectra), len(used)), np.nan, spectra.dtype)
    out[:, np.isin(channel_state, (EMPTY, BELOW_LINES))] = 0
    out[:, used] = spectra
    return out
