"""A model on another map: one shift and one dispersion of its energy axis by likelihood, and how well it describes it.

The model is resampled, never the counts. Chemistry shifts edges too, so the calibration as it stands has to be beaten
clearly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from hyperspy_specml.models import CLEAR
from hyperspy_specml.statistics import PREDICTION_FLOOR, moments_of, paired, principal_basis

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.statistics import NoiseModel

# Largest shift, as a share of the energy axis, and largest relative change of the dispersion that are looked for.
MOST_SHIFTED, MOST_STRETCHED = 0.06, 0.04
# Points of the first grid along either.
_GRID = 17, 5
# Channels and relative dispersion in which curvatures are measured: small beside features of spectra.
_SMALL = 0.5, 0.002
# Standard errors by which the calibration as it stands has to be beaten.
_BEATEN = 2 * CLEAR
# Share of the deviance that is not worth moving a model for: chemistry explains as much.
_TRIFLING = 2e-3
# Share of the range from which a value lies at its end.
_END = 0.98


@dataclass(frozen=True)
class Alignment:
    """One shift and one dispersion of a map against the axis of a model.

    Attributes
    ----------
    shift, shift_error
        By how much spectra lie too high, at the middle of the axis, in units of the model's axis.
    stretch, stretch_error
        By how much one channel is wider than the axis of the map says, relative to it.
    gain, gain_error
        Change of the deviance of a spectrum by it, and the standard error of that; negative is better.
    applied
        Whether that is clear enough to be used.
    """

    shift: float
    shift_error: float
    stretch: float
    stretch_error: float
    gain: float
    gain_error: float
    applied: bool

    @property
    def at_end(self) -> bool:
        """Whether the best dispersion lies at the end of the range."""
        return abs(self.stretch) >= _END * MOST_STRETCHED


def find_alignment(deviances: Callable[[float, float], np.ndarray], reach: float, width: float) -> Alignment:
    """Find the shift and the stretch of smallest deviance.

    Parameters
    ----------
    deviances
        From shift and stretch to the (n,) deviances of spectra under the model there, of the same channels always.
    reach
        Largest shift, in the unit of shifts.
    width
        Of a channel, in that unit.
    """
    size = np.array([reach, MOST_STRETCHED])

    def total(point: np.ndarray) -> float:
        beyond = np.maximum(np.abs(point) - 1, 0).sum()
        return float(deviances(*(np.clip(point, -1, 1) * size)).sum()) * (1 + beyond)

    shifts, stretches = (np.linspace(-1, 1, n) for n in _GRID)
    near = min(shifts, key=lambda shift: total(np.array([shift, 0.0])))
    step = shifts[1] - shifts[0]
    alone = minimize_scalar(
        lambda shift: total(np.array([shift, 0.0])), bounds=(near - step, near + step), options={"xatol": 1e-3}
    ).x
    first = min(itertools.product(shifts, stretches), key=lambda point: total(np.array(point)))
    simplex = np.array(first) + np.array([[0, 0], [step, 0], [0, 0.25 if first[1] <= 0 else -0.25]])
    options = {"initial_simplex": simplex, "maxfev": 60, "xatol": 2e-3}
    both = minimize(total, first, method="Nelder-Mead", options=options).x
    # A stretch is hard to tell from other things that spectra differ by: a shift alone has to be beaten too.
    points = [tuple(map(float, np.clip(point, -1, 1) * size)) for point in ((0.0, 0.0), (alone, 0.0), both)]
    nothing, moved, stretched = (deviances(*point) for point in points)
    use_both = _clearly(stretched, moved) and _clearly(stretched, nothing)
    shift, stretch = points[2 if use_both else 1]
    pair = paired(stretched if use_both else moved, nothing)
    errors = _errors(deviances, shift, stretch, np.array([_SMALL[0] * width, _SMALL[1]]))
    applied = use_both or _clearly(moved, nothing)
    return Alignment(shift, errors[0], stretch, errors[1], pair.difference, pair.standard_error, applied)


def _clearly(own: np.ndarray, other: np.ndarray) -> bool:
    """Return whether deviances are smaller than others by far more than chance, and by more than what is trifling."""
    pair = paired(own, other)
    return bool(pair.difference < -max(_BEATEN * pair.standard_error, _TRIFLING * float(other.mean())))


def _errors(
    deviances: Callable[[float, float], np.ndarray], shift: float, stretch: float, steps: np.ndarray
) -> tuple[float, float]:
    """Return the standard errors of both, from the curvature of the deviance, minus twice the log-likelihood."""
    at = {
        (i, j): float(deviances(shift + i * steps[0], stretch + j * steps[1]).sum())
        for i, j in itertools.product((-1, 0, 1), repeat=2)
    }
    mixed = (at[1, 1] - at[1, -1] - at[-1, 1] + at[-1, -1]) / 4
    along = at[1, 0] + at[-1, 0] - 2 * at[0, 0], at[0, 1] + at[0, -1] - 2 * at[0, 0]
    curvature = np.array([[along[0], mixed], [mixed, along[1]]])
    if np.linalg.eigvalsh(curvature)[0] > 0:
        shift_error, stretch_error = np.sqrt(2 * np.diag(np.linalg.inv(curvature))) * steps
    else:  # the two together do not tell: each as if the other were known
        shift_error, stretch_error = (
            np.sqrt(2 / one) * step if one > 0 else np.inf for one, step in zip(along, steps, strict=True)
        )
    return float(shift_error), float(stretch_error)


def deviances_under(model: FittedModel, rows: np.ndarray, noise: NoiseModel, channels: np.ndarray) -> np.ndarray:
    """Return the (n,) deviances of spectra from what a model makes of them.

    Parameters
    ----------
    model, rows, noise
        (n, E) spectra in the channels of the model.
    channels
        (E,) bool, those that are compared.
    """
    predicted = model.expect(rows)[:, channels]
    values = rows[:, channels]
    predicted = _plausible(predicted, values, noise)
    return noise.deviance(values, predicted, noise.variance(np.broadcast_to(predicted.mean(axis=0), predicted.shape)))


def described(
    model: FittedModel, rows: np.ndarray, pixels: np.ndarray, noise: NoiseModel, seed: int
) -> tuple[float, float, float]:
    """Score a model on half of the counts of a map beside PCA of the same size that is fitted on the other half.

    Parameters
    ----------
    model, rows, noise
        (n, E) spectra in the channels of the model.
    pixels
        (n,) flat indices of the spectra.
    seed
        Of the split.

    Returns
    -------
    mean deviance of a spectrum under the model, that under PCA, and the standard error of the difference
    """
    half, other = noise.split(rows, pixels, (0.5, 0.5), seed=seed, mean=rows.mean(axis=0))
    k = min(model.n_components, rows.shape[1] - 1)
    basis = principal_basis(moments_of(half).scaled(2.0), noise, n_vectors=k)
    predictions = (
        model.expect(2.0 * half.astype(np.float32)),
        basis.spectra(basis.project(2.0 * half.astype(np.float32))),
    )
    variance = 0.5 * noise.variance(np.broadcast_to(rows.mean(axis=0), rows.shape))
    own, pca = (noise.deviance(other, 0.5 * _plausible(p, rows, noise), variance) for p in predictions)
    pair = paired(own, pca)
    return float(own.mean()), float(pca.mean()), float(pair.standard_error)


def _plausible(predicted: np.ndarray, values: np.ndarray, noise: NoiseModel) -> np.ndarray:
    if noise.name != "poisson":
        return predicted
    mean = values.mean(axis=0)
    return np.maximum(predicted, PREDICTION_FLOOR * np.maximum(mean, 1e-3 * mean.mean() + 1e-12))
