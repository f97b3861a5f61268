"""Whitening and the principal basis of spectra: the linear algebra behind PCA and every compressed space.

References
----------
M. R. Keenan, P. G. Kotula, "Accounting for Poisson noise in the multivariate analysis of ToF-SIMS
spectrum images", Surf. Interface Anal. 36 (2004) 203, doi:10.1002/sia.1657. Only its channel weights
are used: weights per pixel would have to be known before the one pass over the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from scipy.ndimage import gaussian_filter1d

from hyperspy_specml.statistics._moments import row_slabs
from hyperspy_specml.statistics._states import USED
from hyperspy_specml.streaming import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyperspy_specml.statistics._moments import Moments
    from hyperspy_specml.statistics._noise import NoiseModel
    from hyperspy_specml.statistics._summary import MapSummary
    from hyperspy_specml.streaming import SpectrumStream

# Number of spectra converted to float at a time: they stay in the cache.
_SLAB_ROWS = 512
# Number of values that are whitened at a time.
_SLAB = 1 << 22
# Added to the diagonal of a matrix, relative to its trace: the Cholesky factorisation needs positive
# eigenvalues.
_TINY = 1e-9
# Number of channels up to which a full eigendecomposition is as fast as a reduction to tridiagonal form.
_SMALL = 64
# Number of channels from which the leading vectors are found by iteration.
_LARGE = 1024
# Smallest variance of the signal along a vector, in units of the noise variance.
_LEAST_SIGNAL = 1e-2
# Vectors iterated beyond those wanted, and number of iterations.
_OVERSAMPLING, _ITERATIONS = 16, 6
# Smallest variance of a channel, relative to the mean variance: a channel with two counts in the whole map
# would get a weight that dominates the basis.
_VARIANCE_FLOOR = 1e-3


@dataclass(frozen=True)
class PrincipalBasis:
    """Orthonormal basis of whitened spectra. E channels, P vectors.

    Attributes
    ----------
    weights
        (E,) one over the noise standard deviation of each channel.
    offset
        (E,) spectrum subtracted first; zeros unless centred.
    vectors
        (E, P) orthonormal, by falling eigenvalue.
    eigenvalues
        Variances along the vectors in units of the noise variance, falling; all of them, or the P largest.
    completion
        (P, P) what projections are multiplied with where channels are missing, so that scores are what they would be
        with the most likely spectrum there; None where none are.
    """

    weights: np.ndarray
    offset: np.ndarray
    vectors: np.ndarray
    eigenvalues: np.ndarray
    completion: np.ndarray | None = None

    @property
    def n_vectors(self) -> int:
        """Number of vectors P."""
        return self.vectors.shape[1]

    def first(self, n_vectors: int) -> PrincipalBasis:
        """Return the basis of the first vectors alone."""
        completion = None if self.completion is None else self.completion[:n_vectors, :n_vectors]
        return replace(self, vectors=self.vectors[:, :n_vectors], completion=completion)

    def aligned_with(self, other: PrincipalBasis) -> PrincipalBasis:
        """Return the basis of the same space that is closest to another one.

        The orthogonal Procrustes problem; eigenvalues no longer belong to single vectors.
        """
        rotation, _ = scipy.linalg.polar(self.vectors.T @ other.vectors)
        return replace(self, vectors=self.vectors @ rotation)

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> PrincipalBasis:
        """Return the basis of the same spectra recorded in other channels.

        Spectra and noise variances are resampled as counts are. The whitened vectors are then no longer quite
        orthonormal; the nearest ones that are keep the noise of every score what it was.

        Parameters
        ----------
        resample
            From (n, E) to (n, E of the other channels). Where it is a `Resampling` of data that lack some of them, the
            vectors stay as they are, and scores are completed.
        """
        variance = resample(1 / self.weights[None] ** 2)[0]
        weights = 1 / np.sqrt(np.maximum(variance, _VARIANCE_FLOOR * variance.mean()))
        vectors, offset = (resample(self.components()) * weights).T, resample(self.offset[None])[0]
        if not getattr(resample, "partly", False):
            return PrincipalBasis(weights, offset, scipy.linalg.polar(vectors)[0], self.eigenvalues)
        # The most likely scores s of what is there are G V' x with a normal prior; V' x lacks (1 - V' V) s.
        there = vectors.T @ vectors
        signal = np.maximum(self.eigenvalues[: self.n_vectors] - 1, _LEAST_SIGNAL)
        likely = np.linalg.inv(there + np.diag(1 / signal))
        completion = np.eye(self.n_vectors) + (np.eye(self.n_vectors) - there) @ likely
        return PrincipalBasis(weights, offset, vectors, self.eigenvalues, completion)

    def projector(self) -> np.ndarray:
        """Return the (E, P) linear map from spectra, less the offset, to scores."""
        to_scores = self.vectors * self.weights[:, None]
        return np.ascontiguousarray(to_scores if self.completion is None else to_scores @ self.completion.T)

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, P) float32 scores of (n, E) spectra of any real dtype."""
        return project_on(rows, (self,))[0]

    def spectra(self, scores: np.ndarray) -> np.ndarray:
        """Return the (n, E) spectra, in signal units, of (n, P) scores."""
        return scores @ self.components().astype(scores.dtype) + self.offset.astype(scores.dtype)

    def components(self) -> np.ndarray:
        """Return the (P, E) spectra that a score of one stands for, in signal units, without offset."""
        return np.ascontiguousarray((self.vectors / self.weights[:, None]).T)


def project_on(
    rows: np.ndarray, bases: Sequence[PrincipalBasis], channels: np.ndarray | None = None
) -> list[np.ndarray]:
    """Project spectra on several bases at once: most of the time goes into the conversion of the counts.

    Parameters
    ----------
    rows
        (n, E') spectra of any real dtype.
    bases
        Of E channels each.
    channels
        (E',) bool, the E channels that the bases have; all of them by default.

    Returns
    -------
    one (n, P) float32 array of scores per basis
    """
    # In one memory order, whatever that of the vectors: a model read from a file gives the same bits.
    to_scores = [b.projector() for b in bases]
    constants = [(b.offset @ t).astype(np.float32) for b, t in zip(bases, to_scores, strict=True)]
    index = None
    if channels is not None and not channels.all():
        if rows.dtype.kind == "f":  # what is left out may be NaN
            index = np.flatnonzero(channels)
        else:  # multiplying the other channels by 0 is faster than leaving them out
            to_scores = [t[np.cumsum(channels) - 1] * channels[:, None] for t in to_scores]
    projectors = [t.astype(np.float32) for t in to_scores]
    scores = [np.empty((len(rows), b.n_vectors), dtype=np.float32) for b in bases]
    for start in range(0, len(rows), _SLAB_ROWS):
        slab = rows[start : start + _SLAB_ROWS]
        scale, slab = _safe_float32(slab if index is None else slab[:, index])
        for out, projector, constant in zip(scores, projectors, constants, strict=True):
            out[start : start + _SLAB_ROWS] = slab @ projector * np.float32(scale) - constant
    return scores


def channel_weights(mean: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return (E,) one over the noise standard deviation of each channel; finite also for dead channels."""
    variance = noise.variance(np.asarray(mean, dtype=np.float64))
    if variance.mean() <= 0:
        return np.ones_like(variance)
    return 1 / np.sqrt(np.maximum(variance, _VARIANCE_FLOOR * variance.mean()))


def principal_basis(
    moments: Moments,
    noise: NoiseModel,
    *,
    n_vectors: int,
    centre: bool = False,
    scree: bool = False,
    smoothing: float = 0.0,
) -> PrincipalBasis:
    """Return the leading principal vectors of noise-whitened spectra.

    Parameters
    ----------
    moments
        Moments of the spectra.
    noise
        Noise model; sets the channel weights at the mean spectrum.
    n_vectors
        Number of vectors P wanted, at most E.
    centre
        Subtract the mean spectrum (the textbook's PCA) or not (HyperSpy's default).
    scree
        Return all E eigenvalues, not only P; of wide spectra, whose moments have rows, P in any case.
    smoothing
        Standard deviation, in channels, of the Gaussian along energy that the spectra are smoothed with
        before their leading vectors are computed (principal components of smooth functions, B. W. Silverman,
        Ann. Stat. 24 (1996) 1); 0 for none. The eigenvalues are those of the smoothed spectra.
    """
    weights = channel_weights(moments.mean, noise)
    offset = moments.mean if centre else np.zeros(len(weights))
    n_vectors = min(n_vectors, len(weights))
    if moments.rows is None:
        matrix = moments.covariance(centre=centre) * weights[:, None] * weights[None]
        for axis in (0, 1) if smoothing else ():
            matrix = gaussian_filter1d(matrix, smoothing, axis=axis)
        values, vectors = (all_eigenvalues if scree else leading_vectors)(matrix, n_vectors)
    else:  # of the (m, m) products of the (m, E) rows
        white = _whiten(moments.rows, weights, offset)
        if smoothing:
            white = gaussian_filter1d(white, smoothing, axis=1)
        n = len(white)
        values, left = leading_vectors((white @ white.T).astype(np.float64) / n, min(n_vectors, n))
        vectors = np.linalg.qr(white.T @ left)[0]  # they are orthogonal already, but for rounding
    return PrincipalBasis(weights, offset, canonical_signs(vectors.T, weights).T, values)


def _whiten(rows: np.ndarray, weights: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return spectra less an offset, in units of the noise."""
    return (rows - offset.astype(np.float32)) * weights.astype(np.float32)


def leading_vectors(matrix: np.ndarray, n_vectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, falling, and their (E, n_vectors) eigenvectors of a covariance.

    Of a large matrix by subspace iteration: vectors above the noise are exact to rounding, those of the
    noise, which are arbitrary anyway, span a typical part of it.
    """
    size = len(matrix)
    if size < _LARGE or n_vectors > size // 8:
        subset = (size - n_vectors, size - 1)
        with one_blas_thread():  # see all_eigenvalues
            values, vectors = scipy.linalg.eigh(matrix, subset_by_index=subset, check_finite=False)
        return values[::-1], vectors[:, ::-1]
    basis = np.random.default_rng(0).standard_normal((size, n_vectors + _OVERSAMPLING))
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(matrix @ basis)[0]
    values, rotation = scipy.linalg.eigh(basis.T @ matrix @ basis)
    return values[: -n_vectors - 1 : -1], basis @ rotation[:, : -n_vectors - 1 : -1]


def all_eigenvalues(matrix: np.ndarray, n_vectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all eigenvalues of a covariance, falling, and the leading (E, n_vectors) eigenvectors.

    SciPy's `eigh` gives as many values as vectors. Here the matrix is reduced to tridiagonal form once, which
    is nearly all the work, and values and vectors are those of that form.
    """
    size = len(matrix)
    if size < _SMALL:
        values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
        return values[::-1], vectors[:, : -n_vectors - 1 : -1]
    # The reduction is limited by memory: a second thread gains nothing on an idle machine, and on a busy one
    # the two wait for each other at every column.
    with one_blas_thread():
        work = int(scipy.linalg.lapack.dsytrd_lwork(size, lower=1)[0])
        reflectors, diagonal, beside, tau, _ = scipy.linalg.lapack.dsytrd(matrix, lower=1, lwork=work)
        values = scipy.linalg.eigvalsh_tridiagonal(diagonal, beside)
        last = (size - n_vectors, size - 1)
        _, turned = scipy.linalg.eigh_tridiagonal(diagonal, beside, select="i", select_range=last)
        # The reflectors of a lower reduction are those of a QR of what lies below the first row.
        below = np.asfortranarray(reflectors[1:, :-1])
        turned[1:] = scipy.linalg.lapack.dormqr("L", "N", below, tau, turned[1:], 64 * n_vectors)[0]
    return values[::-1], turned[:, ::-1]


def canonical_signs(components: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return (K, E) components with the sign that makes the sum of their cubes positive.

    Cubes are dominated by peaks, so an edge points up whatever the background.
    """
    spectra = components if weights is None else components / weights
    scale = np.abs(spectra).max(axis=1, keepdims=True)
    cubes = np.sum((spectra / np.where(scale > 0, scale, 1)) ** 3, axis=1)
    return components * np.where(cubes < 0, -1.0, 1.0)[:, None]


def _safe_float32(rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Return float32 spectra and the factor taken out of them where float32 could overflow."""
    if rows.dtype.itemsize <= 4:
        return 1.0, rows.astype(np.float32, copy=False)
    # One bad spectrum must not scale the others away.
    largest = float(np.abs(rows).max(initial=0, where=np.isfinite(rows)))
    if largest == 0 or 1e-30 < largest < 1e30:
        return 1.0, rows.astype(np.float32)
    return largest, (rows / largest).astype(np.float32)


def refine_basis(stream: SpectrumStream, summary: MapSummary, basis: PrincipalBasis) -> PrincipalBasis:
    """Return the principal basis of all used spectra, close to that of a sample.

    The second moments C of all spectra are only multiplied by the given vectors V: ``Y = C V`` is one step of
    subspace iteration, and ``C = Y (V' Y)^-1 Y'`` on its span. (E, P) numbers are in memory, never (E, E).

    Parameters
    ----------
    stream
        The spectra; read once.
    summary
        Of the same stream.
    basis
        Principal basis of the sample. Its eigenvalues are kept: they are compared with the sample's noise
        edge.

    References
    ----------
    N. Halko, P. G. Martinsson, J. A. Tropp, SIAM Rev. 53 (2011) 217, section 5.5.
    """
    used, channels = summary.pixel_state == USED, summary.channels

    def times_moments(rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        total, chosen = np.zeros(basis.vectors.shape), np.flatnonzero(used[pixels])
        for some in row_slabs((len(chosen), len(basis.weights)), _SLAB):
            white = _whiten(rows[chosen[some]][:, channels].astype(np.float32), basis.weights, basis.offset)
            total += white.T @ (white @ basis.vectors.astype(np.float32))
        return total

    image = stream.fold(times_moments, np.add, label="Refine") / summary.moments.n
    small = basis.vectors.T @ image
    small = 0.5 * (small + small.T)
    small[np.diag_indices(len(small))] += _TINY * max(np.trace(small), 1e-300)
    root = scipy.linalg.solve_triangular(scipy.linalg.cholesky(small, lower=True), image.T, lower=True)
    _, _, vectors = scipy.linalg.svd(root, full_matrices=False)
    return replace(basis, vectors=canonical_signs(vectors, basis.weights).T)
