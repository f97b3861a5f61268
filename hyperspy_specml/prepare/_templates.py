"""Templates of spectra that may lie between channels: cubic splines with a knot at every channel.

n spectra, E channels, W of them compared, K templates, G shifted mixtures of templates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from collections.abc import Iterator

# Knots before the first channel and beyond the last one.
_BEFORE, _BEYOND = 2, 3
N_BEYOND = _BEFORE + _BEYOND
# Splines that are not zero at a place.
_ORDER = 4
# Smallest diagonal of the normal equations, relative to the typical one: knots that no spectrum reaches.
_RIDGE = 1e-6
# Channels, standard deviation of the Gaussian that a first template is smoothed with.
_FIRST_SMOOTHING = 1.0


@dataclass(frozen=True)
class Templates:
    """K spectra as functions of the channel.

    Attributes
    ----------
    knots
        (K, E + 5) coefficients of cubic B-splines.
    """

    knots: np.ndarray

    @classmethod
    def of(cls, spectra: np.ndarray) -> Templates:
        """Return the templates that are smooth versions of (K, E) spectra, to begin with."""
        smooth = gaussian_filter1d(spectra, _FIRST_SMOOTHING, axis=1)
        return cls(np.pad(smooth, ((0, 0), (_BEFORE, _BEYOND)), mode="edge"))

    def shifted(self, shifts: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Return the (K, S, W) values in these channels of the templates moved up by S shifts, in channels."""
        values = np.empty((len(self.knots), len(shifts), len(channels)))
        for number, (weights, first) in enumerate(_between(shifts)):
            at = channels + first
            values[:, number] = sum(w * self.knots[:, at + q] for q, w in enumerate(weights))
        return values


def _between(shifts: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yield, for each shift, the weights of four neighbouring knots and the first of them, relative to a channel."""
    for shift in shifts:
        whole = int(np.floor(-shift))
        f = -shift - whole
        weights = np.array([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
        yield weights, whole - 1 + _BEFORE


def fit_templates(
    sums: np.ndarray, weights: np.ndarray, mixing: np.ndarray, shifts: np.ndarray, channels: np.ndarray, *,
    n_channels: int, smoothing: float,
) -> Templates:  # fmt: skip
    """Fit templates to sums of spectra that were assigned to shifted mixtures, by weighted least squares.

    Parameters
    ----------
    sums, weights
        (M, S, W) spectra of mixtures and shifts, times their weight, and these weights: inverse noise variances.
    mixing
        (M, K) shares of the templates in each mixture.
    shifts, channels
        (S,) in channels, and (W,) the channels that are compared.
    n_channels
        Number of all channels E.
    smoothing
        Channels over which templates are smooth: the fourth power weighs the squared second differences.
    """
    n_templates, n_knots = mixing.shape[1], n_channels + N_BEYOND
    products = np.einsum("mk,ml,msw->sklw", mixing, mixing, weights)
    right = np.einsum("mk,msw->skw", mixing, sums)
    band, target = np.zeros((_ORDER * n_templates, n_knots, n_templates)), np.zeros((n_knots, n_templates))
    for number, (values, first) in enumerate(_between(shifts)):
        at = channels + first
        for q in range(_ORDER):
            target[at + q] += values[q] * right[number].T
            for p in range(q + 1):
                for k, m in np.ndindex(n_templates, n_templates):
                    if (below := (q - p) * n_templates + k - m) >= 0:  # the lower triangle
                        band[below, at + p, m] += values[q] * values[p] * products[number, k, m]
    scale = max(float(np.median(band[0])), 1e-300)
    band[0] += _RIDGE * scale
    for apart, strength in enumerate(_roughness(n_knots)):
        band[apart * n_templates] += smoothing**4 * scale * strength[:, None]
    solved = solveh_banded(band.reshape(len(band), -1), target.reshape(-1), lower=True)
    return Templates(solved.reshape(n_knots, n_templates).T)


def _roughness(n: int) -> np.ndarray:
    """Return the (3, n) diagonals of the sum of squared second differences, main one first."""
    diagonals = np.zeros((3, n))
    for first, one in enumerate((1.0, -2.0, 1.0)):
        for second, other in enumerate((1.0, -2.0, 1.0)):
            if second >= first:
                diagonals[second - first, first : n - 2 + first] += one * other
    return diagonals
