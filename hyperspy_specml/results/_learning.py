"""A decomposition as HyperSpy's own learning results."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import LearningResultsError, LinearApproximationWarning
from hyperspy_specml.models import FactorModel, SimplexModel
from hyperspy_specml.signals import marked_empty
from hyperspy_specml.statistics import expand_channels

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models import TrainedModel

_logger = logging.getLogger(__name__)

# Number of spectra that a linear approximation of the decoder is fitted to, at most: enough for a plane.
_MAX_ROWS = 16384
# Distance of decoded spectra from a linear model, relative to their largest value, that is rounding.
_LINEAR = 1e-4


def write_learning_results(signal: BaseSignal, trained: TrainedModel, columns: np.ndarray) -> None:
    """Write a decomposition to a signal; see `DecompositionResult.to_learning_results`.

    Parameters
    ----------
    signal
        The one that was decomposed.
    trained
        The model.
    columns
        (*navigation, K + outputs) scores and outputs of every spectrum, as the model decodes them; see `mark_empty`.
    """
    model, navigation = trained.model, columns.shape[:-1]
    _check(signal, (*navigation, len(trained.channel_state)))
    columns = columns.reshape(-1, model.n_columns)
    empty = marked_empty(columns)
    columns = np.where(empty[:, None], np.float32(0), columns)
    scores, level = columns[:, : model.n_components], np.ones(len(columns), np.float32)
    if "intensity" in model.outputs:  # the mean spectrum is there as often as there are counts
        level = columns[:, model.n_components + list(model.outputs).index("intensity")]
    if isinstance(model, SimplexModel | FactorModel):  # a mixture is the intensity times abundances times components
        scores = scores * level[:, None]
    loadings, factors = _linear_form(trained, columns, scores, np.where(empty, 0, level))
    variance = np.nanmean(np.square(loadings, dtype=np.float64), axis=0) * np.nansum(factors**2, axis=0)
    unknown, unused = np.isnan(scores).any(axis=1), np.isnan(factors).any(axis=1)
    if unknown.any():
        _logger.warning(
            "to_learning_results(): masked and not finite pixels are NaN, as in HyperSpy. Clustering needs "
            "s.cluster_analysis(..., navigation_mask=s.learning_results.navigation_mask)."
        )
    if unused.any():
        _logger.warning(
            "to_learning_results(): channels that were left out are NaN, as in HyperSpy. Source separation "
            "needs s.blind_source_separation(..., mask=hs.signals.Signal1D(s.learning_results.signal_mask))."
        )
    # HyperSpy 3 and hyperspy-ml say scores and components; whichever names the class has are the right ones.
    fields = vars(type(signal.learning_results))
    names = ("scores", "components") if {"scores", "components"} <= fields.keys() else ("loadings", "factors")
    written = vars(signal.learning_results)
    written.clear()  # unmixing and clusters of an earlier decomposition
    written.update(
        zip(names, (loadings, factors), strict=True),
        explained_variance=variance,
        explained_variance_ratio=variance / variance.sum(),
        number_significant_components=model.n_components,
        output_dimension=factors.shape[1],
        decomposition_algorithm=f"hyperspy_specml {model.architecture}",
        poissonian_noise_normalized=False,
        unfolded=False,
        navigation_mask=unknown.reshape(navigation) if unknown.any() else None,
        signal_mask=unused if unused.any() else None,
    )


def _check(signal: Any, shape: tuple[int, ...]) -> None:
    if not hasattr(signal, "learning_results"):
        raise LearningResultsError(
            f"to_learning_results() writes to a HyperSpy signal, not to {type(signal).__name__}: pass s."
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


def _linear_form(
    trained: TrainedModel, columns: np.ndarray, scores: np.ndarray, level: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return loadings (n, K) and factors (E, K) whose product is the reconstruction, or the nearest to it.

    The model decodes columns; the loadings are the scores. A constant spectrum, if there is one, becomes one
    more component whose loading is the (n,) level: 1, or the intensity, and 0 for empty spectra.
    """
    known = np.flatnonzero(np.isfinite(scores).all(axis=1) & (level > 0))
    known = known[:: -(-len(known) // _MAX_ROWS)]
    rows, spectra = scores[known].astype(np.float64), trained.model.decode(columns[known]).astype(np.float64)
    components = trained.model.components()
    constant = level[known, None].astype(np.float64)
    offset = (spectra - rows @ components).mean(axis=0) / constant.mean()
    largest = np.abs(spectra).max()
    curved = np.abs(spectra - rows @ components - constant * offset).max() > _LINEAR * largest
    if curved:
        plane = np.linalg.lstsq(np.column_stack([rows, constant]), spectra, rcond=None)[0]
        components, offset = plane[:-1], plane[-1]
        rest, centred = spectra - rows @ components - constant * offset, spectra - spectra.mean(axis=0)
        left = np.sum(rest**2) / np.sum(centred**2)
        warnings.warn(
            "Use dec.reconstruction where all of it counts: the decoder is curved, and the linear components that "
            f"HyperSpy can hold give {100 * (1 - left):.1f} % of the variance. The last one is a constant.",
            LinearApproximationWarning,
            stacklevel=4,  # the user's line
        )
    if curved or np.abs(offset).max() * constant.mean() > _LINEAR * largest:
        components = np.vstack([components, offset])
        everywhere = np.where(np.isfinite(scores).all(axis=1), level, np.nan)
        scores = np.column_stack([scores, everywhere.astype(scores.dtype)])
    return scores.copy(), expand_channels(components, trained.channel_state).T.copy()
