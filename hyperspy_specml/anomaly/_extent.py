"""Regions as large as they are: once they stand, pixels are scored by what their residual looks like.

The scan sums over squares of pixels, which finds a region and blurs it. Where the residual of a region is strong
enough, a matched filter made of it tells pixel by pixel what belongs to it: the logarithm of the likelihood ratio
of a spectrum with and without this residual. The pixel itself is left out of its filter. A region then is what
exceeds a low limit and is connected with what exceeds a high one (hysteresis).

References
----------
J. Canny, IEEE Trans. Pattern Anal. Mach. Intell. 8 (1986) 679 (hysteresis);
D. Manolakis, G. Shaw, IEEE Signal Process. Mag. 19 (2002) 29 (matched filters).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from scipy.ndimage import gaussian_filter1d
from scipy.special import log_ndtr, ndtri

from hyperspy_specml.anomaly._scan import CERTAIN, correlation_factor
from hyperspy_specml.anomaly._significance import LARGEST_LOG_P, equivalent_z
from hyperspy_specml.statistics import MOST_COUNTS, gain_of, plausible_mean, signed_squares, unit_of
from hyperspy_specml.streaming import Block

if TYPE_CHECKING:
    from hyperspy_specml.anomaly._reference import ReferenceModel
    from hyperspy_specml.anomaly._score import PixelScores
    from hyperspy_specml.anomaly._setup import ScanSetup
    from hyperspy_specml.statistics import NoiseModel

# Pixels around a region that are scored with it: as far as the largest square reaches beyond one.
_MARGIN = 5
# Fraction of the ordinary pixels around a region that are taken for a part of it by chance.
_FALSE_PIXELS = 0.005
# Median z of the pixels of regions, by a filter that was made without them, from which pixels are told apart one
# by one. Below it squares of pixels are needed to see the region at all.
_SEPARATED = 4.5
# Line widths between the strongest windows of neighbouring pixels from which they may belong to different regions.
_SAME_LINE = 2.0
# Cosine of the angle between two residuals, each channel in units of its noise, from which they are of one kind.
_ALIKE = 0.5
# Standard deviations of a filter's noise that are taken off it.
_SHRUNK = 2.0
# Line widths, standard deviation of the smoothing of a filter.
_SMOOTHING = 0.2
# Smallest part of what is expected in a channel that a deficit leaves.
_LEAST_LEFT = 0.1
# Ordinary pixels around a region from whose z the spread is measured, at least; and the fraction of them that it
# is measured by.
_LEAST_ORDINARY, _SPREAD = 20, 0.9
# Smallest noise variance of a value, relative to the mean of all.
_LEAST_VARIANCE = 1e-4
# Rounds of making a filter and finding its pixels.
_ROUNDS = 2
# Values of the spectra that are worked on at a time: some float32 copies of them are held.
_MOST_VALUES = 1 << 24


@dataclass(frozen=True)
class NearPixels:
    """Spectra of pixels in and near regions. n pixels, E channels in use.

    Attributes
    ----------
    pixels
        (n,) flat indices, rising.
    rows, residual, variance
        (n, E) spectra without spikes, their differences to the model, and the noise variances of what is expected.
    smoothing
        Channels, standard deviation of the smoothing of a filter.
    noise
        Noise model of a pixel.
    """

    pixels: np.ndarray
    rows: np.ndarray
    residual: np.ndarray
    variance: np.ndarray
    smoothing: float
    noise: NoiseModel

    def only(self, some: np.ndarray) -> NearPixels:
        """Return some of the pixels."""
        kept = {name: getattr(self, name)[some] for name in ("pixels", "rows", "residual", "variance")}
        return replace(self, **kept)

    def template(self, members: np.ndarray) -> np.ndarray:
        """Return (E,) the summed residual of some pixels, smooth and without what may be noise."""
        return self._shrunk(*(values[members].sum(axis=0) for values in (self.residual, self.variance)))

    def scores(self, members: np.ndarray) -> np.ndarray:
        """Return (n,) z of each pixel by the filter of some of them without the pixel; NaN for a single one.

        Parameters
        ----------
        members
            (n,) bool.
        """
        z = self._filtered(self.template(members) / members.sum(), slice(None))
        total, spread = (values[members].sum(axis=0) for values in (self.residual, self.variance))
        places = np.flatnonzero(members)
        step = max(1, _MOST_VALUES // len(total) // 8)
        for start in range(0, len(places), step):
            own = places[start : start + step]
            others = self._shrunk(total - self.residual[own], spread - self.variance[own])
            z[own] = self._filtered(others / max(1, len(places) - 1), own)
        ordinary = z[~members]
        if len(ordinary) >= _LEAST_ORDINARY:  # errors of the model make z of ordinary pixels larger
            z /= max(1.0, np.quantile(np.abs(ordinary), _SPREAD) / ndtri(0.5 + _SPREAD / 2))
        return z if len(places) > 1 else np.where(members, np.nan, z)

    def _shrunk(self, total: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return the sums of residuals smoothed, and lowered by what noise alone makes of them."""
        smooth = gaussian_filter1d(total.astype(np.float64), self.smoothing, axis=-1)
        # Counts of the residual are noisy too: where nothing is expected, one count is no line.
        spread = np.maximum(variance, 0) + gain_of(self.noise) * np.maximum(smooth, 0)
        noise = gaussian_filter1d(spread.astype(np.float64), self.smoothing / np.sqrt(2), axis=-1)
        noise *= _SHRUNK**2 / (2 * np.sqrt(np.pi) * self.smoothing)
        return smooth * np.maximum(1 - noise / np.maximum(smooth**2, 1e-300), 0)

    def _filtered(self, template: np.ndarray, some: slice | np.ndarray) -> np.ndarray:
        """Return z of the residuals of some pixels, summed with the weights of templates.

        The sum is scored as the shifted and scaled Poisson variable with the same variance and skewness.
        """
        variance = np.maximum(self.variance[some], _LEAST_VARIANCE * self.variance.mean())
        unit = unit_of(variance, self.noise)
        mean = variance / unit**2
        weights = np.log1p(np.maximum(template / unit / mean, _LEAST_LEFT - 1))
        value = np.einsum("ij,ij->i", weights, self.residual[some] / unit)
        second, third = (np.einsum("ij,ij->i", weights**k, mean) for k in (2, 3))
        second *= correlation_factor(np.atleast_2d(weights).mean(axis=0), self.noise)
        scale = np.maximum(np.abs(third) / np.maximum(second, 1e-30), np.sqrt(second / MOST_COUNTS))
        scale, sign = np.maximum(scale, 1e-15), np.where(third < 0, -1.0, 1.0)
        counts = np.maximum(second, 1e-30) / scale**2
        squares = sign * signed_squares(np.maximum(counts + sign * value / scale, 0), counts)
        return np.where(second > 0, np.sign(squares) * np.sqrt(np.abs(squares)), 0)


def read_near(
    setup: ScanSetup, reference: ReferenceModel, scores: PixelScores, spikes: np.ndarray, pixels: np.ndarray
) -> NearPixels:
    """Read the spectra of some pixels, whose flat indices rise."""
    shape = setup.stream.navigation_shape
    near = np.zeros(shape, bool)
    near.reshape(-1)[pixels] = True
    labels, n = scipy.ndimage.label(near, np.ones((3,) * len(shape)))
    blocks = [Block(box) for box in scipy.ndimage.find_objects(labels)]
    read, more = partial(_labelled, labels.reshape(-1), setup.channels), [(k,) for k in range(1, n + 1)]
    found = setup.stream.map_blocks(blocks, read, label="Read regions", more=more)
    order = np.argsort(np.concatenate([where for where, _ in found]))
    rows = np.concatenate([values for _, values in found])[order].astype(np.float32)
    replace_values(rows, pixels, spikes, setup.channels)
    model = reference.scan_model()
    expected = scores.coefficients[pixels] @ model.spectra.astype(np.float32) + model.offset.astype(np.float32)
    variance = reference.noise.variance(plausible_mean(expected, reference.noise)).astype(np.float32)
    smoothing = max(1.0, _SMOOTHING * float(setup.line_width[setup.channels].min()))
    return NearPixels(pixels, rows, rows - expected, variance, smoothing, reference.noise)


def _labelled(
    flat: np.ndarray, channels: np.ndarray, rows: np.ndarray, pixels: np.ndarray, label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of a block that have a label in the flat map, and their spectra."""
    some = flat[pixels] == label
    return pixels[some], rows[some][:, channels]


def strongest_first(scores: PixelScores, labels: np.ndarray) -> np.ndarray:
    """Return the labels of a map's regions, that of the strongest pixel first."""
    found = np.unique(labels[labels > 0])
    return found[np.argsort(-scipy.ndimage.maximum(scores.score.reshape(labels.shape), labels, found), kind="stable")]


def grow_regions(
    setup: ScanSetup, reference: ReferenceModel, scores: PixelScores, labels: np.ndarray, order: np.ndarray,
    spikes: np.ndarray, thresholds: tuple[float, float],
) -> tuple[PixelScores, np.ndarray, dict[int, np.ndarray]]:  # fmt: skip
    """Read regions and the pixels around them, and score these one by one where the statistic is the scan.

    Parameters
    ----------
    setup, reference, scores
        The map, what is expected, and its scores.
    labels, order
        Map of regions, and the labels of those that are read, the strongest first.
    spikes
        (m, 4) pixel, channel of the moved spectra, value and prediction.
    thresholds
        Score that a region has at least, and that every pixel of one has in the end.

    Returns
    -------
    the scores, the map of regions that have their true extent, and the (E,) summed spectra of those that were read
    """
    grows, spectra = bool(np.isfinite(scores.z).any()), dict[int, np.ndarray]()
    boxes, most = scipy.ndimage.find_objects(labels), max(1, _MOST_VALUES // int(setup.channels.sum()))
    sizes = [np.prod([s.stop - s.start + 2 * _MARGIN for s in boxes[label - 1]]) for label in order]
    group = np.cumsum(sizes) // most
    pieces = _pieces(setup, scores, labels)
    for which in np.unique(group):
        mine, last = order[group == which], labels.max()
        inside = np.isin(labels, mine)
        wanted = np.flatnonzero(setup.used & (_around(inside) if grows else inside.reshape(-1)))
        parts = np.array_split(wanted, -(-len(wanted) // (2 * most)))  # more than one of a flood alone
        for part in parts:
            near = read_near(setup, reference, scores, spikes, part)
            if grows and len(parts) == 1:
                some = strongest_first(scores, np.where(inside, pieces, 0))
                scores, labels = _Growth(near, pieces, some, thresholds[0]).grown(scores, labels)
                labels = np.where(scores.score.reshape(labels.shape) >= thresholds[1], labels, 0)
                mine = np.unique(labels[labels > last])
            there = labels.reshape(-1)[near.pixels]
            for label in mine.tolist():
                spectra[label] = spectra.get(label, 0) + near.rows[there == label].sum(axis=0, dtype=np.float64)
    return scores, labels, spectra


def _pieces(setup: ScanSetup, scores: PixelScores, labels: np.ndarray) -> np.ndarray:
    """Return the map of connected pixels of regions that are strongest at neighbouring energies, numbered."""
    inside, pieces = labels > 0, np.zeros(labels.shape, int)
    centres, which = np.unique(setup.windows.centres[scores.window].reshape(labels.shape)[inside], return_inverse=True)
    apart = np.diff(centres) > _SAME_LINE * float(setup.line_width.max())
    part = np.append(0, np.cumsum(apart))[which]
    for k in np.unique(part):
        mask = np.zeros(labels.shape, bool)
        mask[inside] = part == k
        pieces[mask] = pieces.max() + scipy.ndimage.label(mask, np.ones((3,) * mask.ndim))[0][mask]
    return pieces


def _around(inside: np.ndarray) -> np.ndarray:
    """Return the flat map of the pixels in and near some."""
    return scipy.ndimage.maximum_filter(inside, 2 * _MARGIN + 1).reshape(-1)


@dataclass(frozen=True)
class _Growth:
    """Pieces of regions that grow to their size.

    Attributes
    ----------
    near
        The pixels in and around them.
    pieces
        Map of the numbers of all pieces.
    group
        Those that grow, the strongest first.
    threshold
        Score that a region has at least.
    """

    near: NearPixels
    pieces: np.ndarray
    group: np.ndarray
    threshold: float

    def grown(self, scores: PixelScores, labels: np.ndarray) -> tuple[PixelScores, np.ndarray]:
        """Return the scores and the labels with the pieces grown."""
        pixels, shape = self.near.pixels, labels.shape
        flat = labels.reshape(-1).copy()
        of = self.pieces.reshape(-1)[pixels]
        free = (flat[pixels] == 0) | np.isin(of, self.group)
        matched, by_itself = np.full((2, len(pixels)), np.inf)
        best = np.full(len(pixels), -np.inf)
        owner, keeps = np.zeros(len(pixels), int), np.zeros(len(pixels), bool)
        for i, kind in enumerate(self._kinds(labels), 1):
            members = np.isin(of, kind)
            around = _around(np.isin(self.pieces, kind))[pixels]
            z, inside = self._extent(scores, members, around & free, shape)
            # Squares of pixels are needed to see these regions: they stay as the scan has them.
            region = labels.reshape(-1)[pixels]
            faint = members & ~np.isin(region, region[inside & members])
            keeps |= faint
            owner[faint] = -i * (labels.max() + 1) - flat[pixels[faint]]
            if not inside.any():
                continue
            # Beside the region it is a search, over all pixels around it.
            searched = np.where(inside, 0, np.log(around.sum()))
            matched = np.fmin(matched, np.where(around, log_ndtr(-z) + searched, np.inf))
            by_itself = np.fmin(by_itself, np.where(around, log_ndtr(-z), np.inf))
            mine = inside & (z > best)
            best[mine], owner[mine] = z[mine], i
        touched = np.isfinite(matched) & ~keeps
        new, some = scores.log_p.copy(), pixels[touched]
        new[some] = _combined(scores, some, matched[touched])
        score = equivalent_z(np.minimum(new, LARGEST_LOG_P))
        left = touched & free & (owner == 0) & (score[pixels] >= self.threshold)
        owner[left] = owner.max() + 1
        # What is of no region has its own p-value, not that of the search, which is 1 nearly everywhere.
        none = np.flatnonzero(touched & (owner == 0))
        own = _combined(scores, pixels[none], by_itself[none])
        quiet = equivalent_z(own) < self.threshold
        new[pixels[none[quiet]]] = own[quiet]
        score = equivalent_z(np.minimum(new, LARGEST_LOG_P))
        last = flat.max()
        flat[pixels[free]] = 0
        for i in np.unique(owner[owner != 0]):
            mask = np.zeros(shape, bool)
            mask.reshape(-1)[pixels[owner == i]] = True
            parts = mask.astype(int)
            if i > 0:  # those of the scan are known already
                parts = scipy.ndimage.label(scipy.ndimage.maximum_filter(mask, 3), np.ones((3,) * mask.ndim))[0]
            flat[mask.reshape(-1)] = last + parts[mask]
            last = flat.max()
        return replace(scores, log_p=new, score=score), flat.reshape(shape)

    def _kinds(self, labels: np.ndarray) -> list[list[int]]:
        """Return the pieces in kinds that have the same residual; of weak ones, those of one region."""
        of, near = self.pieces.reshape(-1)[self.near.pixels], self.near
        weights = 1 / np.sqrt(np.maximum(near.variance.mean(axis=0), _LEAST_VARIANCE * near.variance.mean()))
        kinds: list[list[int]] = []
        shapes: list[np.ndarray] = []
        regions: list[set[int]] = []
        for piece in self.group.tolist():
            shape = near.template(of == piece) * weights
            size, region = np.linalg.norm(shape), int(labels[self.pieces == piece][0])
            alike = [shape @ other / max(size, 1e-300) for other in shapes]
            if size == 0:
                alike = [float(region in known) for known in regions]
            if max(alike, default=0.0) > _ALIKE:
                k = int(np.argmax(alike))
                kinds[k].append(piece)
                regions[k].add(region)
            else:
                kinds.append([piece])
                shapes.append(shape / max(size, 1e-300))
                regions.append({region})
        return kinds

    def _extent(
        self, scores: PixelScores, members: np.ndarray, around: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return z of the pixels around a kind, NaN elsewhere, and which of them are of it; none if it is too weak."""
        some, pixels = np.flatnonzero(around), self.near.pixels[around]
        near, inside, z = self.near.only(some), members[around], np.full(len(around), np.nan)
        alone = np.where(scores.radius[pixels] == 0, np.abs(scores.z[pixels]), 0)
        found, core = np.zeros(len(around), bool), inside
        for _ in range(_ROUNDS):
            single, own = inside.sum() == 1, near.scores(inside)
            own = np.where(np.isnan(own), alone, own)
            high = equivalent_z(_combined(scores, pixels, log_ndtr(-own))) >= self.threshold
            inside = _hysteresis(own >= -ndtri(_FALSE_PIXELS), high & core, pixels, shape)
            if not inside.any() or (single and own[core].max() < CERTAIN):
                return z, found
        z[some] = own
        found[some] = inside & (np.median(own[inside]) >= _SEPARATED)
        return z, found


def _combined(scores: PixelScores, pixels: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """Return the logarithm of p of pixels: by the filter, and by the scan where it saw the pixel by itself."""
    alone = np.minimum(scores.log_p[pixels], matched + np.log(2))
    return np.minimum(np.where(scores.radius[pixels] == 0, alone, matched), LARGEST_LOG_P)


def _hysteresis(low: np.ndarray, high: np.ndarray, pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels above a low limit that are connected, also by corners, with one above a high limit."""
    above = np.zeros(shape, bool)
    above.reshape(-1)[pixels] = low | high
    parts = scipy.ndimage.label(above, np.ones((3,) * len(shape)))[0].reshape(-1)[pixels]
    return np.isin(parts, parts[high]) & (parts > 0)


def replace_values(rows: np.ndarray, pixels: np.ndarray, spikes: np.ndarray, channels: np.ndarray) -> None:
    """Replace spikes in (n, E) spectra of these pixels, which rise, by their predictions."""
    at = np.searchsorted(pixels, spikes[:, 0])
    place = np.cumsum(channels) - 1
    there = (at < len(pixels)) & channels[spikes[:, 1].astype(int)]
    there &= pixels[np.minimum(at, len(pixels) - 1)] == spikes[:, 0]
    rows[at[there], place[spikes[there, 1].astype(int)]] = spikes[there, 3]
