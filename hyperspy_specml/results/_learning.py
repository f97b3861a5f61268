"""A decomposition as HyperSpy's own learning results."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import LearningResultsError, LinearApproximationWarning

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.results._decomposition import DecompositionResult
    from hyperspy_specml.signals import Decoder

_logger = logging.getLogger(__name__)

_MOST_ROWS = 16384  # spectra that a straight line is fitted to
_STRAIGHT = 1e-4  # of the largest value: decoders that differ less from a plane are one, but for rounding


def write_learning_results(result: DecompositionResult, signal: BaseSignal) -> None:
    """Write a result to a signal; see `DecompositionResult.to_learning_results`."""
    n_components, navigation = len(result.scores.data), result.scores.data.shape[1:]
    _check(signal, n_components, (*navigation, result.components.data.shape[-1]))
    columns = result._source.columns(result.scores, result._extras).reshape(
        -1, n_components + len(result._extras)
    )
    scores = columns[:, :n_components]
    if result.intensity is not None:  # a mixture is the intensity times abundances times components
        scores = scores * result.intensity.data.reshape(-1, 1)
    loadings, factors = _linear_form(result._decoder, columns, scores)
    variance = np.nanmean(np.square(loadings, dtype=np.float64), axis=0) * np.nansum(factors**2, axis=0)
    unknown, unused = np.isnan(scores).any(axis=1), np.isnan(factors).any(axis=1)
    _say_what_needs_masks(unknown.any(), unused.any())
    # HyperSpy 3 and hyperspy-ml say scores and components; whichever names the class has are the right ones.
    fields = vars(type(signal.learning_results))
    names = ("scores", "components") if {"scores", "components"} <= fields.keys() else ("loadings", "factors")
    written = vars(signal.learning_results)
    written.clear()  # unmixing and clusters of an earlier decomposition
    written.update(zip(names, (loadings, factors), strict=True))
    written.update(
        explained_variance=variance,
        explained_variance_ratio=variance / variance.sum(),
        number_significant_components=n_components,
        output_dimension=factors.shape[1],
        decomposition_algorithm=f"hyperspy_specml {result.report.architecture}",
        poissonian_noise_normalized=False,
        unfolded=False,
        navigation_mask=unknown.reshape(navigation) if unknown.any() else None,
        signal_mask=unused if unused.any() else None,
    )


def _check(signal: Any, n_components: int, shape: tuple[int, ...]) -> None:
    if not hasattr(signal, "learning_results"):
        raise LearningResultsError(
            f"to_learning_results() writes to a HyperSpy signal, not to {type(signal).__name__}: pass s."
        )
    if n_components < 2:
        raise LearningResultsError(
            "to_learning_results() needs 2 components or more: of one HyperSpy can neither plot factors nor "
            "separate sources. dec.plot(), dec.scores and dec.reconstruction work with one component too."
        )
    manager = signal.axes_manager
    found = manager.navigation_shape[::-1] + manager.signal_shape[::-1]
    if found != shape:
        raise LearningResultsError(
            f"to_learning_results({signal!r}): the signal has shape {found} in array order, but the result "
            f"{shape}. Pass the signal that was decomposed, or decompose this one, "
            "s.decomposition_ae(model=dec.model)."
        )
    if signal.data.shape != shape:
        raise LearningResultsError(
            f"to_learning_results({signal!r}): HyperSpy's models need energy as the last axis in memory, but "
            f"these data have shape {signal.data.shape}. Pass a copy in that order: "
            "s.transpose(signal_axes=[-1], optimize=True)."
        )


def _linear_form(decoder: Decoder, columns: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return loadings (n, K) and factors (E, K) whose product is the reconstruction, as nearly as can be.

    The decoder takes columns; the loadings shall be the scores. Where there is an offset it becomes one more
    component, the same in all spectra that are not empty.
    """
    known = np.flatnonzero(np.isfinite(scores).all(axis=1) & scores.any(axis=1))
    known = known[:: -(-len(known) // _MOST_ROWS)]
    rows, spectra = scores[known].astype(np.float64), decoder.model.decode(columns[known]).astype(np.float64)
    components = decoder.model.components()
    offset = (spectra - rows @ components).mean(axis=0)
    largest = np.abs(spectra).max()
    curved = np.abs(spectra - rows @ components - offset).max() > _STRAIGHT * largest
    if curved:
        plane = np.linalg.lstsq(np.column_stack([rows, np.ones(len(rows))]), spectra, rcond=None)[0]
        components, offset = plane[:-1], plane[-1]
        _warn(spectra, rows @ components + offset)
    if curved or np.abs(offset).max() > _STRAIGHT * largest:
        components = np.vstack([components, offset])
        known = np.isfinite(scores).all(axis=1)
        constant = np.where(known, scores.any(axis=1), np.nan)
        scores = np.column_stack([scores, constant.astype(scores.dtype)])
    return scores.copy(), decoder.expand(components).T.copy()


def _warn(spectra: np.ndarray, plane: np.ndarray) -> None:
    share = 1 - np.sum((spectra - plane) ** 2) / np.sum((spectra - spectra.mean(axis=0)) ** 2)
    warnings.warn(
        "to_learning_results(): the decoder is curved, HyperSpy's results are not. The linear components "
        f"written instead give {100 * share:.1f} % of the variance of dec.reconstruction; the last is a "
        "constant.",
        LinearApproximationWarning,
        stacklevel=5,  # the user's line
    )


def _say_what_needs_masks(pixels: bool, channels: bool) -> None:
    if pixels:
        _logger.warning(
            "to_learning_results(): masked and not finite pixels are NaN, as in HyperSpy. Clustering needs "
            "s.cluster_analysis(..., navigation_mask=s.learning_results.navigation_mask)."
        )
    if channels:
        _logger.warning(
            "to_learning_results(): channels that were left out are NaN, as in HyperSpy. Source separation "
            "needs s.blind_source_separation(..., mask=hs.signals.Signal1D(s.learning_results.signal_mask))."
        )
