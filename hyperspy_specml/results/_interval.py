"""Intervals of numbers of each spectrum: behind ``dec.interval()``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import norm

from hyperspy_specml.decompose import Certainty, Quantity, Replica, decompose, inflation, make_replica
from hyperspy_specml.exceptions import Cancelled, DataRequiredError, OptionError
from hyperspy_specml.run import Run
from hyperspy_specml.signals import energy_axis, line_width, navigation_map, spectral_lines, stamp
from hyperspy_specml.statistics import noise_from_dict
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.signals import Source

_logger = logging.getLogger(__name__)

# Energies that belong to an edge, from its onset, in eV: the white lines and their surroundings.
_EDGE = 50.0
_SEED_STEP = 104729  # between the seeds of replicas; a prime


class Interval(NamedTuple):
    """Maps between which the truth lies; ``low, high = dec.interval(...)``.

    Parameters
    ----------
    low, high
        Native maps ``(scan axes |)``. ``specml.provenance(low)["inflation"]`` says by how much replicas widened them.
    """

    low: BaseSignal
    high: BaseSignal


@dataclass(eq=False)
class Uncertainty:
    """What the intervals of one result have in common: a model that knows how sure it is, and its replicas.

    Attributes
    ----------
    source
        The input of the result.
    trained
        Its model.
    columns
        (n_pixels, K + outputs) of all pixels; see `mark_empty`.
    replicas
        Those that were made until now.
    """

    source: Source
    trained: TrainedModel
    columns: np.ndarray
    replicas: list[Replica] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source, trained: TrainedModel, columns: np.ndarray, progress: Progress) -> Uncertainty:
        """Start with the model of a result; that of the dense architecture is a variational one of the same data."""
        moves = "stretch" in trained.model.outputs  # each spectrum: a variational one would not know of that
        if trained.model.architecture == "dense" and not moves:
            if not source.known:
                raise DataRequiredError(
                    "dec.interval(...) of architecture='dense' trains a variational autoencoder on the data, which the "
                    "file of a result does not hold: specml.load_result(path, signal=s)."
                )
            states, masked = trained.channel_state, source.spectra.navigation_mask
            _logger.info("dec.interval(...): a variational autoencoder is trained, which starts as this dense one")
            found = decompose(
                SpectrumStream(source.spectra.array, trained.config.memory_budget, progress),
                Run(trained.config, trained.report.random_state, progress=progress),
                architecture="vae",
                n_components=trained.model.n_components,
                noise=trained.report.noise_model["name"],
                masks=(masked, states),
            )
            if found.report.interrupted:
                raise Cancelled("the training of the variational autoencoder was ended: there are no intervals.")
            trained, columns = replace(trained, model=found.model, report=found.report), found.scores
        return cls(source, trained, columns)

    @cached_property
    def certainty(self) -> Certainty:
        """How sure the model is."""
        return Certainty(self.trained.model, noise_from_dict(self.trained.report.noise_model))

    def interval(self, quantity: Any, level: float, n_replicas: int, progress: Progress) -> Interval:
        """Return the interval of a quantity; see `DecompositionResult.interval`."""
        certainty = self.certainty
        wanted, name = self._quantity(quantity)
        known = np.isfinite(self.columns).all(axis=1)
        rows = self.columns[known]
        while len(self.replicas) < n_replicas:
            seed = self.trained.report.random_state + _SEED_STEP * (1 + len(self.replicas))
            run, share = Run(self.trained.config, seed, progress=progress), 1 / (n_replicas - len(self.replicas))
            with progress.enter("Fit a replica", share):
                self.replicas.append(make_replica(certainty, rows, self.trained.report.n_sampled, run))
        factor = inflation(self.replicas[:n_replicas], wanted, level) if n_replicas else 1.0
        middle, wide = np.full((2, len(self.columns)), np.nan)
        middle[known] = certainty.values(rows, wanted)
        wide[known] = factor * norm.ppf(0.5 * (1 + level)) * certainty.deviations(rows, wanted)
        empty = np.isposinf(self.columns).all(axis=1)
        middle[empty] = wide[empty] = 0
        _logger.info("dec.interval(%r, level=%g): replicas widen the intervals by %.3g", quantity, level, factor)
        said = self.trained.report.to_dict() | {"quantity": name, "level": level, "inflation": factor}
        limits = (-np.inf, np.inf) if wanted.component is None else self.trained.model.score_range
        ends = np.clip((middle - wide, middle + wide), *limits)  # no abundance is negative, or larger than one
        low = self._map(ends[0], f"Lower end of {name}", said)
        return Interval(low, self._map(ends[1], f"Upper end of {name}", said))

    def _map(self, values: np.ndarray, title: str, said: dict[str, Any]) -> BaseSignal:
        array = values.astype(np.float32).reshape(self.source.spectra.array.shape[:-1])
        return stamp(navigation_map(self.source.template, array, title=f"{title} of {self.source.title}"), said)

    def _quantity(self, asked: Any) -> tuple[Quantity, str]:
        """Return a quantity and its name."""
        k = self.trained.model.n_components
        if isinstance(asked, Integral) and not isinstance(asked, bool):
            if not 0 <= int(asked) < k:
                raise _error(asked, f"there are components 0 to {k - 1}")
            return Quantity(component=int(asked)), f"score {asked}"
        if isinstance(asked, str) or _is_window(asked):
            return Quantity(self._weights(asked)), _named(asked)
        if isinstance(asked, tuple | list) and len(asked) == 2:
            above, below = map(self._weights, asked)
            return Quantity(above, below), " / ".join(map(_named, asked))
        raise _error(asked, "this is none of them")

    def _weights(self, asked: Any) -> np.ndarray:
        """Return (E in use,) 1 in the channels of a window, else 0."""
        axis = energy_axis(self.source.template)
        if isinstance(asked, str):
            low, high = self._line(asked)
        elif _is_window(asked):
            low, high = sorted(map(float, asked))
        else:
            raise _error(asked, "this is none of them")
        inside = ((axis.axis >= low) & (axis.axis <= high))[self.trained.channels]
        if not inside.any():
            first, last = axis.axis.min(), axis.axis.max()
            raise _error(asked, f"no channel in use lies between {low:g} and {high:g} of {first:g} to {last:g}")
        return inside.astype(np.float64)

    def _line(self, name: str) -> tuple[float, float]:
        """Return the ends of the window of a line or an edge."""
        lines = {f"{line.element}_{line.name}": line for line in spectral_lines(self.source.template)}
        if name not in lines:
            listed = [n for n, line in lines.items() if line.rank == 0]
            raise _error(name, f"lines of the sample's elements here are {', '.join(listed) or 'none'}")
        line, axis = lines[name], energy_axis(self.source.template)
        if line.edge:
            return line.energy, line.energy + _EDGE
        widths = line_width(self.source.template)
        assert widths is not None
        where = int(np.argmin(np.abs(axis.axis - line.energy)))
        width = float(widths[where] * np.abs(np.gradient(axis.axis))[where])
        return line.energy - width, line.energy + width


def check_interval(level: object, replicas: object) -> None:
    """Refuse what is no level, or no number of replicas.

    Raises
    ------
    OptionError
        That is so.
    """
    if not (isinstance(level, Real) and 0 < float(level) < 1):
        raise OptionError(f"dec.interval(level={level!r}) must be between 0 and 1, such as 0.9.")
    if not (isinstance(replicas, Integral) and int(replicas) >= 0):
        raise OptionError(f"dec.interval(replicas={replicas!r}) must be a whole number, 0 or more.")


def _is_window(asked: Any) -> bool:
    return isinstance(asked, tuple | list) and len(asked) == 2 and all(isinstance(one, Real) for one in asked)


def _named(asked: Any) -> str:
    return asked if isinstance(asked, str) else f"{asked[0]:g} to {asked[1]:g}"


def _error(asked: Any, why: str) -> OptionError:
    return OptionError(
        f"dec.interval({asked!r}) needs a window of the energy axis, (700, 720), a line or an edge, 'Fe_Ka', two of "
        f"these for their ratio, ('Fe_Ka', 'Cr_Ka'), or the index of a score; {why}."
    )
