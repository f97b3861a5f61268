"""What every fitted model is, and the one form in which it is stored.

n spectra, E channels in use, P compressed scores, K components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperspy_specml.exceptions import TooFewSpectraError
from hyperspy_specml.statistics import (
    EMPTY,
    MASKED,
    NOT_FINITE,
    SATURATED,
    USED,
    PrincipalBasis,
    count_states,
    project_on,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from hyperspy_specml.streaming import SpectrumStream

    Models = Sequence["FittedModel"]
    State = np.ndarray | None

ANY = -1  # in a shape: whatever it is
_NO_COUNTS = 255  # state of a used spectrum with a value that is negative or no whole number


class FittedModel:
    """A fitted model: from spectra to a few numbers each and back, on arrays. As it is, linear on its basis.

    A class of models is stored and loaded as soon as it is defined: its `kind` is its name in model files, and
    `settings` and `arrays` are all that a file holds of it.

    Attributes
    ----------
    kind
        Name of the class of models.
    stored
        Names of its arrays beside those of the basis and of its `network`, if it has one.
    score_range
        Smallest and largest value that a score can have.
    basis
        The compressing basis.
    """

    kind: ClassVar[str]
    stored: ClassVar[tuple[str, ...]] = ()
    score_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    basis: PrincipalBasis

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            KINDS[cls.kind] = cls

    @property
    def architecture(self) -> str:
        """Name of the architecture, as users give it."""
        return self.kind

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.basis.n_vectors

    @property
    def outputs(self) -> dict[str, str]:
        """Further numbers for each spectrum, in columns after the K scores, and their units.

        "signal" (units of the data), "channels" (along energy) or "" for a pure number.
        """
        return {}

    @property
    def n_columns(self) -> int:
        """Numbers for each spectrum: scores and further outputs."""
        return self.n_components + len(self.outputs)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra of any real dtype to (n, K + outputs) scores, float32."""
        return self.encode_scores(self.basis.project(rows))

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores on the basis to (n, K + outputs) scores, float32: the first K are those of the model."""
        return scores[:, : self.n_components]

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + outputs) scores to (n, E) spectra, float32."""
        return self.basis.spectra(np.asarray(scores, np.float32))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores on the basis to (n, E) spectra, float32."""
        return self.decode(self.encode_scores(scores))

    def expect(self, rows: np.ndarray) -> np.ndarray:
        """Return what the model makes of (n, E) spectra, float32."""
        return self.decode(self.encode(rows))

    def components(self) -> np.ndarray:
        """Return the (K, E) spectra that stand for the components, float64."""
        return self.basis.components()

    def resampled(self, resample: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Return the model of the same spectra recorded in other channels.

        Parameters
        ----------
        resample
            From (n, E) to (n, E of the other channels), counts conserved.

        Raises
        ------
        ValueError
            That cannot be done soundly; the message says why.
        """
        return replace(self, basis=self.basis.resampled(resample))  # type: ignore[type-var]  # a dataclass

    def settings(self) -> dict[str, Any]:
        """Return what JSON can hold of the model: numbers, text and lists."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the rest of the model, as arrays by name; weights of a network on whatever device."""
        own = {name: getattr(self, name) for name in self.stored} | prefixed("basis", given(self.basis))
        network = getattr(self, "network", None)
        weights = network.state_dict() if network else {}
        return own | {f"network.{name}": tensor.cpu().numpy() for name, tensor in weights.items()}

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays, on the CPU.

        Raises
        ------
        ValueError
            They do not make up one.
        """
        return cls(parts.basis())  # type: ignore[call-arg]  # a dataclass


# The classes of models that files may hold, by name.
KINDS: dict[str, type[FittedModel]] = {}


@dataclass(frozen=True)
class Parts:
    """Settings and arrays of a model, checked on their way back from a file.

    Attributes
    ----------
    settings, arrays
        As the model gave them, then read from the file.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def array(self, name: str, *shape: int, positive: bool = False) -> np.ndarray:
        """Return one of the arrays: single or double precision, finite, of this shape (-1: any size).

        Raises
        ------
        ValueError
            It is not there or not so, or has values that are not positive where all should be.
        """
        if name not in self.arrays:
            raise ValueError(f"array {name!r} is missing")
        array = self.arrays[name]
        if array.ndim != len(shape) or any(n not in (ANY, m) for n, m in zip(shape, array.shape, strict=True)):
            raise ValueError(f"array {name!r} has shape {array.shape}, not {shape} (-1: any)")
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"array {name!r} has dtype {array.dtype}, not float32 or float64")
        if not np.isfinite(array).all():
            raise ValueError(f"array {name!r} holds values that are not finite")
        if positive and not (array > 0).all():
            raise ValueError(f"array {name!r} holds values that are not positive")
        return array

    def setting(self, name: str, kind: type) -> Any:
        """Return one of the settings.

        Raises
        ------
        ValueError
            It is not there, not of this type, or a number that is not finite.
        """
        value = self.settings.get(name)
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise ValueError(f"setting {name!r} is {value!r:.60}, not of type {kind.__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"setting {name!r} is {value}, not finite")
        return value

    def named(self, name: str, known: Mapping[str, Any], what: str = "") -> Any:
        """Return what one of the settings is the name of; the message calls it `what`."""
        found = self.setting(name, str)
        if found not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(
                f"{what or name} {found!r} is not one of {names}; import the package that registers it first"
            )
        return known[found]

    def size(self, name: str, *, least: int = 1, most: int = 1 << 20) -> int:
        """Return one of the settings, a whole number in this range."""
        value = self.setting(name, int)
        if not least <= value <= most:
            raise ValueError(f"setting {name!r} is {value}, not {least} to {most}")
        return value

    def within(self, name: str) -> Parts:
        """Return the parts of a model inside the model."""
        arrays = {n.removeprefix(f"{name}."): a for n, a in self.arrays.items() if n.startswith(f"{name}.")}
        return Parts(self.setting(name, dict), arrays)

    def basis(self) -> PrincipalBasis:
        """Return the compressing basis."""
        vectors = self.array("basis.vectors", ANY, ANY)
        weights = self.array("basis.weights", len(vectors), positive=True)
        offset, eigenvalues = self.array("basis.offset", len(vectors)), self.array("basis.eigenvalues", ANY)
        p, completed = vectors.shape[1], "basis.completion" in self.arrays
        return PrincipalBasis(
            weights, offset, vectors, eigenvalues, self.array("basis.completion", p, p) if completed else None
        )

    def model(self) -> FittedModel:
        """Return the model, of whatever kind it is.

        Raises
        ------
        ValueError
            The kind is unknown, or settings and arrays do not make up a model of it.
        """
        return self.named("kind", KINDS, "kind of model").from_parts(self)


def parts_of(model: FittedModel) -> Parts:
    """Take a model apart: settings with its kind, and arrays.

    Parameters
    ----------
    model
        Of any kind.
    """
    return Parts({"kind": model.kind} | model.settings(), model.arrays())


def given(basis: PrincipalBasis) -> dict[str, np.ndarray]:
    """Return the arrays of a basis by name, those that it has."""
    return {name: array for name, array in vars(basis).items() if array is not None}


def prefixed(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a model inside a model; `Parts.within` reads them."""
    return {f"{name}.{own}": array for own, array in arrays.items()}


@dataclass(frozen=True)
class LinearModel(FittedModel):
    """Principal components: ``spectra = scores @ components + offset``.

    Attributes
    ----------
    basis
        The K principal vectors.
    """

    basis: PrincipalBasis
    kind = "pca"


def encode_map(
    stream: SpectrumStream, models: Models, channels: np.ndarray, state: State = None, *, masked: State = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Score every spectrum under each model, in one pass over the file.

    Parameters
    ----------
    stream
        The spectra.
    models
        Fitted models; the same one twice is computed once.
    channels
        (E,) bool, the channels they use; no others are looked at.
    state
        (n_pixels,) state of every spectrum; None finds it out in the same pass, for a map that nobody has looked
        at yet. There, spectra with saturated channels are scored too, and those of zeros where the map holds counts.
    masked
        (*navigation,) bool, pixels to leave out, where the states are not known.

    Returns
    -------
    one (n_pixels, K + outputs) float32 array per model, NaN for spectra not used and 0 for empty ones; and the
    (n_pixels,) uint8 state of the spectra
    """
    different = list({id(model): model for model in models}.values())
    ends = np.cumsum([model.n_columns for model in different])
    look = state is None
    block = partial(_encode_rows, models=different, channels=channels, look=look)
    table = stream.map_rows(block, n_columns=int(ends[-1]) + look, label="Project")
    used = [USED]
    if state is None:
        table, state, used = table[:, :-1], table[:, -1].astype(np.uint8), [USED, SATURATED]
        if masked is not None:
            state[masked.reshape(-1)] = MASKED
        if np.isin(state, used).any() and not (state == _NO_COUNTS).any():
            state[state == EMPTY] = USED
        state[state == _NO_COUNTS] = USED
    table[~np.isin(state, used)] = np.nan
    table[state == EMPTY] = 0
    parts = dict(zip(map(id, different), np.split(table, ends[:-1], axis=1), strict=True))
    return [parts[id(model)] for model in models], state


def encode_new_map(
    stream: SpectrumStream, models: Models, channels: np.ndarray, masked: State, *, method: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """Score the spectra of another map than that of the training; see `encode_map`.

    Parameters
    ----------
    stream, models, channels
        As there.
    masked
        (*navigation,) bool, pixels to leave out.
    method
        Name of the method that asks, for the message.

    Raises
    ------
    TooFewSpectraError
        No spectrum can be used.
    """
    scores, state = encode_map(stream, models, channels, masked=masked)
    if not np.isin(state, (USED, SATURATED)).any():
        raise TooFewSpectraError(
            f"{method}(model=...): no spectrum of the map can be used ({count_states(state)}). A channel that is "
            "not finite is enough: train without it, signal_mask=..., or mend it, s.data = np.nan_to_num(s.data)."
        )
    return scores, state


def _encode_rows(
    rows: np.ndarray, pixels: np.ndarray, *, models: Models, channels: np.ndarray, look: bool
) -> np.ndarray:
    """Return the columns of a block, with `look` the state of its spectra in a last one."""
    rows = np.asarray(rows, rows.dtype.newbyteorder("="))
    with np.errstate(invalid="ignore", over="ignore"):  # not finite spectra become NaN scores
        along = project_on(rows, [model.basis for model in models], channels)
        columns = [model.encode_scores(own) for model, own in zip(models, along, strict=True)]
    return np.concatenate([*columns, _state(rows[:, channels])[:, None]] if look else columns, axis=1)


def _state(values: np.ndarray) -> np.ndarray:
    """Return the (n,) state of spectra that nobody has looked at yet."""
    state = np.full(len(values), USED)
    state[(values < 0).any(axis=1)] = _NO_COUNTS
    if values.dtype.kind == "f":
        state[(values != np.floor(values)).any(axis=1)] = _NO_COUNTS
        state[~np.isfinite(values).all(axis=1)] = NOT_FINITE
    else:
        state[(values == np.iinfo(values.dtype).max).any(axis=1)] = SATURATED
    state[~values.any(axis=1)] = EMPTY
    return state
