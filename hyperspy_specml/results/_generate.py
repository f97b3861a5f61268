"""New spectra like those of a map: behind ``dec.generate()``."""

from __future__ import annotations

import logging
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose import Generator, told_apart
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.signals import new_scan, stamp
from hyperspy_specml.statistics import USED, draw_noise

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models import FittedModel
    from hyperspy_specml.results._interval import Uncertainty

_logger = logging.getLogger(__name__)

_TESTED = 2000  # real spectra that are told from drawn ones, at most
_LEAST = 50  # of them, below which nothing can be told


def check_generate(shape: Any, intensity: object, model: FittedModel) -> None:
    """Refuse what no map can have; see `DecompositionResult.generate`.

    Raises
    ------
    OptionError
        That is so.
    """
    if not (isinstance(shape, tuple | list) and shape and all(isinstance(n, Integral) and int(n) > 0 for n in shape)):
        raise OptionError(f"dec.generate({shape!r}) needs the shape of a scan in array order, such as (64, 64).")
    if intensity is None:
        return
    if not (isinstance(intensity, Real) and 0 < float(intensity) < math.inf):
        raise OptionError(f"dec.generate(intensity={intensity!r}) needs a positive number of counts per spectrum.")
    if "intensity" not in model.outputs:
        raise OptionError(
            f"dec.generate(intensity={intensity!r}) is for models of counts that know the intensity; "
            f"{model.architecture!r} draws it with the scores: leave it out."
        )


def generated(sure: Uncertainty, shape: tuple[int, ...], intensity: float | None, seed: int) -> BaseSignal:
    """Return a new map and say how well it can be told from the old one.

    Parameters
    ----------
    sure
        Of the result.
    shape, intensity, seed
        See `DecompositionResult.generate`.
    """
    rng, known = np.random.default_rng(seed), np.flatnonzero(np.isfinite(sure.columns).all(axis=1))
    fitted, held = np.array_split(rng.permutation(known), 2)
    score = _score(sure, fitted, held, seed) if sure.source.known and len(held) >= _LEAST else {}
    spectra = _spectra(Generator(sure.certainty, sure.columns[known], rng), math.prod(shape), intensity)
    state = sure.trained.channel_state
    whole = np.zeros((len(spectra), len(state)), spectra.dtype)
    whole[:, state == USED] = spectra
    said = sure.trained.report.to_dict() | {"generated": {"random_state": seed, "intensity": intensity}} | score
    signal = new_scan(sure.source.template, whole.reshape(*shape, -1), title=f"Drawn like {sure.source.title}")
    _logger.info("dec.generate(): %s", score or "not compared with real spectra, which are not there or too few")
    return stamp(signal, said)


def _spectra(generator: Generator, n: int, intensity: float | None = None) -> np.ndarray:
    """Return (n, E in use) new spectra with noise."""
    sure = generator.certainty
    return draw_noise(sure.model.decode(generator.columns(n, intensity)), sure.noise, generator.rng)


def _score(sure: Uncertainty, fitted: np.ndarray, held: np.ndarray, seed: int) -> dict[str, float]:
    """Return how well real spectra are told from drawn ones, and drawn ones from others."""
    held = held[:_TESTED]
    data: Any = sure.source.spectra.array
    where = np.unravel_index(held, data.shape[:-1])
    rows = data[where] if isinstance(data, np.ndarray) else data.vindex[where].compute()
    real = np.asarray(rows, np.float64)[:, sure.trained.channels]
    generator = Generator(sure.certainty, sure.columns[fitted], np.random.default_rng([seed, 1]))
    drawn, other, third = (_spectra(generator, len(real)).astype(np.float64) for _ in range(3))
    k = sure.certainty.model.n_components
    return {
        "two_sample": told_apart(real, drawn, third, k, seed=seed),
        "floor": told_apart(other, drawn, third, k, seed=seed),
    }
