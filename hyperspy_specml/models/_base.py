"""What every fitted model is, and the one form in which it is stored.

n spectra, E channels in use, P compressed scores, K components.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperspy_specml.statistics import PrincipalBasis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

ANY = -1  # in a shape: whatever it is
_BASIS = ("weights", "offset", "vectors", "eigenvalues")


class FittedModel(ABC):
    """A fitted model: from spectra to a few numbers each and back, on arrays.

    A class of models is stored and loaded as soon as it is defined: its `kind` is its name in model files, and
    `settings` and `arrays` are all that a file holds of it.

    Attributes
    ----------
    kind
        Name of the class of models.
    basis
        The compressing basis.
    """

    kind: ClassVar[str]
    basis: PrincipalBasis

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            KINDS[cls.kind] = cls

    @property
    def architecture(self) -> str:
        """Name of the architecture, as users give it."""
        return self.kind

    @property
    @abstractmethod
    def n_components(self) -> int:
        """Number of components K."""

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

    @abstractmethod
    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores on the basis to (n, K + outputs) scores, float32."""

    @abstractmethod
    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K + outputs) scores to (n, E) spectra, float32."""

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, P) scores on the basis to (n, E) spectra, float32."""
        return self.decode(self.encode_scores(scores))

    @abstractmethod
    def components(self) -> np.ndarray:
        """Return the (K, E) spectra that stand for the components, float64."""

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
        """Return the rest of the model, as arrays by name."""
        return basis_arrays(self.basis)

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these settings and arrays, on the CPU.

        Raises
        ------
        ValueError
            They do not make up one.
        """


KINDS: dict[str, type[FittedModel]] = {}
"""The classes of models that files may hold, by name."""


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

    def array(self, name: str, *shape: int) -> np.ndarray:
        """Return one of the arrays: single or double precision, finite, of this shape (-1: any size).

        Raises
        ------
        ValueError
            It is not there or not so.
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
        return array

    def positive(self, name: str, *shape: int) -> np.ndarray:
        """Return one of the arrays, whose values are all positive; see `array`."""
        array = self.array(name, *shape)
        if not (array > 0).all():
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
        weights = self.positive("basis.weights", len(vectors))
        return PrincipalBasis(
            weights, self.array("basis.offset", len(vectors)), vectors, self.array("basis.eigenvalues", ANY)
        )

    def model(self) -> FittedModel:
        """Return the model, of whatever kind it is.

        Raises
        ------
        ValueError
            The kind is unknown, or settings and arrays do not make up a model of it.
        """
        kind = self.setting("kind", str)
        if kind not in KINDS:
            raise ValueError(f"kind of model {kind!r} is not one of {', '.join(map(repr, KINDS))}")
        return KINDS[kind].from_parts(self)


def parts_of(model: FittedModel) -> Parts:
    """Take a model apart: settings with its kind, and arrays.

    Parameters
    ----------
    model
        Of any kind.
    """
    return Parts({"kind": model.kind} | model.settings(), model.arrays())


def basis_arrays(basis: PrincipalBasis) -> dict[str, np.ndarray]:
    """Return a basis as named arrays; `Parts.basis` reads them."""
    return {f"basis.{name}": getattr(basis, name) for name in _BASIS}


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

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.basis.n_vectors

    def encode_scores(self, scores: np.ndarray) -> np.ndarray:
        """Return the first K scores: they are those of the components."""
        return scores[:, : self.n_components]

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Map (n, K) scores to (n, E) spectra, float32."""
        return self.basis.spectra(np.asarray(scores, dtype=np.float32))

    def components(self) -> np.ndarray:
        """Return the (K, E) component spectra."""
        return self.basis.components()

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Return the model with these arrays."""
        return cls(parts.basis())
