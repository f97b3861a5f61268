"""A predictor: classes or values of spectra as native maps, and its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import ModelFileError, OptionError
from hyperspy_specml.models import Stored, as_html, as_text, pack, unpack
from hyperspy_specml.pretraining import Contest, Features, Head, Inputs, SpectrumEncoder, Tuned
from hyperspy_specml.signals import navigation_map, score_maps
from hyperspy_specml.workflows._encoded import energies_of, inputs_for, mapped, of_finite, scan_shape, title_of

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

# Arrays of the features, in the order of their class.
_FEATURES = ("mean", "scale", "basis", "centre")


@dataclass(frozen=True, eq=False)
class Predictor(Stored):
    """Classes or a value for every spectrum, learnt from some.

    Attributes
    ----------
    tuned
        What predicts.
    encoder
        That it was made with.
    names
        Of the classes; none for values.
    spread
        Standard deviation of the error of values, by cross-validation.
    table
        The cross-validation of "auto".
    """

    tuned: Tuned = field(repr=False)
    encoder: SpectrumEncoder = field(repr=False)
    names: tuple[str, ...]
    spread: float
    table: tuple[Contest, ...] = ()

    @property
    def method(self) -> str:
        """The method that predicts."""
        return self.tuned.method

    def classify(self, signal: BaseSignal) -> Classified:
        """Return the classes of spectra.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not.

        Returns
        -------
        Classified

        Raises
        ------
        OptionError
            The predictor was learnt for values.
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        if not self.names:
            raise OptionError("classify(): this predictor was learnt for values. Use predictor.regress(s).")
        logits = self._values(signal, len(self.names))
        with np.errstate(invalid="ignore"):
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            probability = odds / odds.sum(axis=1, keepdims=True)
        labels = np.where(np.isfinite(logits).all(axis=1), np.nan_to_num(logits, nan=-np.inf).argmax(axis=1), -1)
        shape, title = scan_shape(signal), title_of(signal)
        return Classified(
            navigation_map(signal, labels.astype(np.int16).reshape(shape), title=f"Classes of {title}"),
            score_maps(signal, probability.reshape(*shape, -1), title=f"Class probabilities of {title}"),
            self.names,
        )

    def regress(self, signal: BaseSignal) -> Regressed:
        """Return the value of each spectrum.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not.

        Returns
        -------
        Regressed

        Raises
        ------
        OptionError
            The predictor was learnt for classes.
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        if self.names:
            raise OptionError("regress(): this predictor was learnt for classes. Use predictor.classify(s).")
        values = self._values(signal, 1).reshape(scan_shape(signal))
        error = np.where(np.isfinite(values), self.spread, np.nan).astype(np.float32)
        title = title_of(signal)
        return Regressed(
            navigation_map(signal, values, title=f"Values of {title}"),
            navigation_map(signal, error, title=f"Errors of the values of {title}"),
        )

    def _values(self, signal: BaseSignal, n: int) -> np.ndarray:
        units, centres = energies_of(signal)
        return mapped(signal, n, _Predicted(self.tuned, inputs_for(self.encoder, units, centres), centres))

    def to_bytes(self) -> bytes:
        """Return the content of its file, with the encoder where that predicts."""
        network = self.tuned.encoder or self.encoder
        inner, arrays = unpack(network.to_bytes(), "encoder")
        head, features = self.tuned.head, self.tuned.features
        arrays = {f"network.{name}": value for name, value in arrays.items()}
        arrays |= {"head.weights": head.weights, "head.constant": head.constant}
        if head.support is not None:
            arrays["head.support"] = head.support
        arrays |= {f"features.{name}": getattr(features, name) for name in _FEATURES}
        description = {
            "predictor": 1,
            "encoder_of": inner,
            "method": self.method,
            "gamma": head.gamma,
            "kind": features.kind,
            "names": list(self.names),
            "spread": self.spread,
            "table": [[c.method, c.score, c.error] for c in self.table],
        }
        return pack(description, arrays)

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "from_bytes(...)") -> Predictor:
        """Return the predictor that `to_bytes` wrote."""
        plain, arrays = unpack(content, name)
        try:
            own = {key[8:]: value for key, value in arrays.items() if key.startswith("network.")}
            encoder = SpectrumEncoder.from_parts(plain["encoder_of"], own, name=name)
            features = Features(str(plain["kind"]), *(arrays[f"features.{key}"] for key in _FEATURES))
            gamma, support = float(plain["gamma"]), arrays.get("head.support")
            head = Head(arrays["head.weights"], arrays["head.constant"], support, gamma)
            cheap = plain["kind"] in ("raw", "pca", "aligned")
            tuned = Tuned(str(plain["method"]), head, features, None if cheap else encoder)
            table = tuple(Contest(str(m), float(s), float(e)) for m, s, e in plain["table"])
            return cls(tuned, encoder, tuple(map(str, plain["names"])), float(plain["spread"]), table)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"load({name!r}): the file holds no predictor ({error!r:.100}).") from error

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (one.method, f"{one.score:.3f}", f"{one.error:.3f}", "chosen" if one.method == self.method else "")
            for one in self.table
        ]

    def __repr__(self) -> str:
        """Return the table of the cross-validation, or the method."""
        what = f"{len(self.names)} classes" if self.names else "values"
        if not self.table:
            return f"<Predictor of {what}: {self.method}>"
        score = "balanced accuracy" if self.names else "R2"
        return as_text(("method", score, "standard error", ""), self._rows())

    def _repr_html_(self) -> str:
        score = "balanced accuracy" if self.names else "R2"
        return as_html(("method", score, "standard error", ""), self._rows()) if self.table else repr(self)


@dataclass(frozen=True, eq=False)
class Classified:
    """Classes of the spectra of a map.

    Attributes
    ----------
    labels
        Int map ``(scan axes |)``; -1 where a spectrum is not finite.
    probability
        Maps (classes | scan axes), 0 to 1.
    names
        Of the classes.
    """

    labels: BaseSignal
    probability: BaseSignal
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Regressed:
    """Values of the spectra of a map.

    Attributes
    ----------
    value
        Map ``(scan axes |)``, NaN where a spectrum is not finite.
    error
        Map of standard errors, by cross-validation on the labels.
    """

    value: BaseSignal
    error: BaseSignal


@dataclass(frozen=True, eq=False)
class _Predicted:
    """The block function of `classify` and `regress`."""

    tuned: Tuned
    inputs: Inputs
    centres: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        matrix = self.inputs.grid.matrix(self.centres)
        n = self.tuned.head.constant.size
        return of_finite(rows, n, lambda some: self.tuned((some.astype(np.float32) @ matrix), self.inputs))
