"""How many components the data support: noise edge, held-out rank curve, bi-cross-validation.

References
----------
A. B. Owen, P. O. Perry, "Bi-cross-validation of the SVD and the nonnegative matrix factorization",
Ann. Appl. Stat. 3 (2009) 564, doi:10.1214/08-AOAS227.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from hyperspy_specml.statistics._folds import Folds, paired
from hyperspy_specml.streaming import side_by_side

if TYPE_CHECKING:
    from hyperspy_specml.statistics._basis import PrincipalBasis
    from hyperspy_specml.statistics._noise import NoiseModel

# Number of spectra that the noise edge is estimated from, at most.
_EDGE_ROWS = 4096
# Number of deviances computed per rank, at most: of enough spectra for a small standard error.
_CURVE_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class RankCurve:
    """Held-out score against the number of components.

    Attributes
    ----------
    ranks
        (n,) numbers of components, rising.
    scores
        (n,) mean score, smaller is better.
    standard_errors
        (n,) standard error of the paired difference to the best rank; 0 at the best.
    chosen
        The smallest rank that is not worse than the best by more than one standard error.
    method
        "held-out counts" or "bi-cross-validation".
    """

    ranks: np.ndarray
    scores: np.ndarray
    standard_errors: np.ndarray
    chosen: int
    method: str


def choose_rank(ranks: np.ndarray, scores: np.ndarray, method: str) -> RankCurve:
    """Build the curve from (n ranks, m) scores of the same m spectra or blocks."""
    means = scores.mean(axis=1)
    best = int(np.argmin(means))
    errors = np.array([paired(row, scores[best]).standard_error for row in scores])
    errors[best] = 0.0
    good = means - means[best] <= np.nan_to_num(errors)
    return RankCurve(np.asarray(ranks), means, errors, int(ranks[int(np.argmax(good))]), method)


def rank_curve(folds: Folds, basis: PrincipalBasis, scores: np.ndarray) -> RankCurve:
    """Score PCA of rank 1, 2, ... P on the validation fold.

    Parameters
    ----------
    folds
        The split spectra.
    basis
        Principal basis of the training fold, on the scale of the whole data.
    scores
        (n, P) scores of the training fold on that scale.
    """
    every = max(1, folds.validation.size // _CURVE_ELEMENTS)
    folds, scores = folds.every(every), scores[::every]
    components = basis.components().astype(np.float32)
    curve = np.empty((basis.n_vectors, len(scores)))

    def score(rows: slice) -> None:
        prediction = np.tile(basis.offset.astype(np.float32), (len(scores[rows]), 1))
        for k in range(basis.n_vectors):
            prediction += scores[rows, k : k + 1] * components[k]
            curve[k, rows] = folds.score_slab("validation", rows, prediction)

    side_by_side(*(partial(score, rows) for rows in folds.slabs()))
    return choose_rank(np.arange(1, basis.n_vectors + 1), curve, "held-out counts")


def noise_edge(
    rows: np.ndarray,
    pixels: np.ndarray,
    noise: NoiseModel,
    weights: np.ndarray,
    *,
    n_spectra: int,
    seed: int,
    mean: np.ndarray | None = None,
) -> float:
    """Return the largest eigenvalue that noise alone makes in the scree of a map.

    The difference of two independent halves of the data holds no signal and exactly the data's noise,
    however unequal its pixels and channels are. The largest eigenvalue of a sample of it is converted to the
    number of spectra in the map by the Marchenko-Pastur law.

    Parameters
    ----------
    rows, pixels
        (n, E) sample of the spectra and their flat indices.
    noise, mean
        Noise model, and the (n, E) mean of the values where it needs that.
    weights
        (E,) one over the noise standard deviation of each channel.
    n_spectra
        Number of spectra in the map.
    seed
        Of the halves.
    """
    some = slice(None, None, -(-len(rows) // _EDGE_ROWS))
    rows, pixels, mean = rows[some], pixels[some], None if mean is None else mean[some]
    first, second = noise.split(rows, pixels, (0.5, 0.5), seed=seed, stream=100, mean=mean)
    white = (first.astype(np.float32) - second.astype(np.float32)) * weights.astype(np.float32)
    n, n_channels = white.shape
    gram = white.T @ white if n_channels <= n else white @ white.T
    size = len(gram)
    gram = gram.astype(np.float64) / n
    if size > 64:  # Lanczos iterations: a hundred products with a vector instead of a full reduction
        top = scipy.sparse.linalg.eigsh(gram, k=1, v0=np.ones(size), tol=1e-5, return_eigenvectors=False)[0]
    else:
        top = scipy.linalg.eigvalsh(gram)[-1]
    return float(top * ((1 + np.sqrt(n_channels / n_spectra)) / (1 + np.sqrt(n_channels / n))) ** 2)


def bi_cross_validation(white: np.ndarray, *, max_rank: int, block: int, seed: int) -> RankCurve:
    """Choose a rank by predicting held-out channel blocks of held-out spectra.

    For data that cannot be split into independent folds: the held-out part is predicted from the other
    channels of the same spectra and the same channels of other spectra, so nothing predicts itself.

    Parameters
    ----------
    white
        (n, E) whitened spectra.
    max_rank
        Largest rank tried.
    block
        Channels in a block; more than the noise is correlated over.
    seed
        Shuffles spectra into two halves.
    """
    n, n_channels = white.shape
    order = np.random.default_rng(seed).permutation(n)
    groups = np.arange(n_channels) // max(1, min(block, n_channels // 4 or 1)) % 2 == 0
    ranks = np.arange(1, max(1, min(max_rank, n // 4, n_channels // 4)) + 1)
    errors = []
    for held_rows, kept_rows in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        for held in (groups, ~groups):
            errors.append(_predict_block(white, held_rows, kept_rows, held, ranks))
    return choose_rank(ranks, np.concatenate(errors, axis=1), "bi-cross-validation")


def _predict_block(
    white: np.ndarray, held_rows: np.ndarray, kept_rows: np.ndarray, held: np.ndarray, ranks: np.ndarray
) -> np.ndarray:
    target = white[np.ix_(held_rows, held)]
    left = white[np.ix_(held_rows, ~held)]
    above = white[np.ix_(kept_rows, held)]
    u, s, vt = scipy.linalg.svd(white[np.ix_(kept_rows, ~held)], full_matrices=False)
    smallest = s[0] * max(white.shape) * np.finfo(s.dtype).eps  # smaller singular values are rounding
    prediction = np.zeros_like(target)
    errors = np.empty((len(ranks), len(held_rows)))
    for k in range(len(ranks)):
        if s[k] > smallest:
            prediction = prediction + np.outer(left @ vt[k] / s[k], u[:, k] @ above)
        errors[k] = ((target - prediction) ** 2).sum(axis=1)
    return errors


def n_compressed(eigenvalues: np.ndarray, edge: float, *, least: int = 16, most: int = 128) -> int:
    """Return how many vectors P a network is given: half as many again as are above the noise edge, and 8."""
    above = int((eigenvalues > edge).sum())
    return int(min(np.clip(1.5 * above + 8, least, most), len(eigenvalues)))
