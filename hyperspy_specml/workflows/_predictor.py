"""A predictor: classes or values of spectra as native maps, and its file."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hyperspy_specml.exceptions import ModelFileError, OptionError
from hyperspy_specml.latent import Grid, posterior, predicted_strength
from hyperspy_specml.models import Stored, as_html, as_text, pack, read_model_file, unpack, write_model_file
from hyperspy_specml.pretraining import (
    Blend,
    Contest,
    Errors,
    Features,
    Head,
    Inputs,
    SpectralGrid,
    SpectrumEncoder,
    Tuned,
    adapted,
)
from hyperspy_specml.signals import navigation_map, score_maps
from hyperspy_specml.workflows._call import watching
from hyperspy_specml.workflows._encoded import (
    energies_of,
    inputs_for,
    mapped,
    of_finite,
    require_spectra,
    scan_shape,
    title_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.workflows._call import Shown

# Arrays of the features, in the order of their class.
_FEATURES = ("mean", "scale", "basis", "centre")
_VERSION = 4
_CONTEXTS = ("auto", "spectral")


class HasEncoder(Protocol):
    """An encoder as users have it."""

    @property
    def encoder(self) -> SpectrumEncoder:
        """That on arrays."""
        ...


@dataclass(frozen=True, eq=False)
class Predictor(Stored):
    """Classes or a value for every spectrum, learnt from some.

    Attributes
    ----------
    tuned
        What predicts: one method, or several with their shares.
    encoder
        That it was made with.
    names
        Of the classes; none for values.
    errors
        Of values, by the counts in a spectrum; None of classes, or where there were too few labels to tell.
    table
        The cross-validation of "auto".
    grid
        Of the encoder, on which the labelled spectra were laid: others are laid there, too.
    """

    tuned: Blend = field(repr=False)
    encoder: SpectrumEncoder = field(repr=False)
    names: tuple[str, ...]
    errors: Errors | None
    table: tuple[Contest, ...]
    grid: SpectralGrid

    @property
    def method(self) -> str:
        """The method that predicts, or several, the largest share first."""
        return self.tuned.method

    def classify(self, signal: BaseSignal, *, context: str = "auto", show_progressbar: Shown = None) -> Classified:
        """Return the classes of spectra.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not.
        context : str
            "spectral": each spectrum by itself. "auto": neighbouring pixels of a map are likely to be of one class; how
            likely is what best predicts the spectra of pixels that were left out, and nothing where their order tells
            nothing. With less than two scan axes it is "spectral": lists of spectra are often sorted by class. At few
            counts a class of single pixels may be outvoted by its neighbours: "spectral" shows it.
        show_progressbar : bool or Progress, optional
            By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.

        Returns
        -------
        Classified

        Raises
        ------
        OptionError
            It is no signal, the predictor was learnt for values, or there is no such context.
        DataTypeError, SpectraRequiredError
            The data are not real numbers; not exactly one signal axis.
        EnergyAxisMismatchError
            The encoder knows no such energies.

        References
        ----------
        J. Besag, "On the statistical analysis of dirty pictures", J. R. Stat. Soc. B 48 (1986) 259.
        """
        if not self.names:
            raise OptionError("classify(): this predictor was learnt for values. Use predictor.regress(s).")
        if context not in _CONTEXTS:
            raise OptionError.unknown("classify(context=...)", context, _CONTEXTS)
        require_spectra(signal, "classify")
        shape, title, strength = scan_shape(signal), title_of(signal), 0.0
        is_map = sum(n > 1 for n in shape) > 1
        with watching("classify", show_progressbar) as progress:
            with progress.enter("", 0.8):
                logits = self._values(signal, len(self.names), progress)
            finite = np.isfinite(logits).all(axis=1)
            probability = np.exp(logits)
            if context == "auto" and is_map and finite.any():
                grid = Grid(shape, tuple(range(len(shape))), finite)
                evidence = np.where(finite, logits.T, np.float32(0))
                with progress.enter("Compare neighbours"):
                    strength = predicted_strength(evidence, grid, 0, progress)
                if strength:
                    probability[finite] = posterior(evidence, grid, strength).T[finite]
        labels = np.where(finite, np.nan_to_num(probability, nan=-1.0).argmax(axis=1), -1)
        return Classified(
            navigation_map(signal, labels.astype(np.int16).reshape(shape), title=f"Classes of {title}"),
            score_maps(signal, probability.reshape(*shape, -1), title=f"Class probabilities of {title}"),
            self.names,
            strength,
        )

    def regress(self, signal: BaseSignal, *, show_progressbar: Shown = None) -> Regressed:
        """Return the value of each spectrum.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not.
        show_progressbar : bool or Progress, optional
            By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.

        Returns
        -------
        Regressed

        Raises
        ------
        OptionError
            It is no signal, or the predictor was learnt for classes.
        DataTypeError, SpectraRequiredError
            The data are not real numbers; not exactly one signal axis.
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        if self.names:
            raise OptionError("regress(): this predictor was learnt for classes. Use predictor.classify(s).")
        require_spectra(signal, "regress")
        shape = scan_shape(signal)
        with watching("regress", show_progressbar) as progress:
            values, counts = (column.reshape(shape) for column in self._values(signal, 2, progress).T)
        error = np.full(shape, np.nan, np.float32)
        if self.errors is not None:
            error = np.where(np.isfinite(values), self.errors(counts), np.nan).astype(np.float32)
        title = title_of(signal)
        return Regressed(
            navigation_map(signal, values, title=f"Values of {title}"),
            navigation_map(signal, error, title=f"Errors of the values of {title}"),
        )

    def _values(self, signal: BaseSignal, n: int, progress: Progress) -> np.ndarray:
        units, centres = energies_of(signal)
        inputs = inputs_for(self.encoder, units, centres, among=(self.grid,))
        predicted = _Predicted(self.tuned, inputs, centres, classes=bool(self.names))
        return mapped(signal, n, predicted, progress)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None, with_encoder: bool = True) -> Path:
        """Save it in one file, with all that it needs, or beside the file of its encoder.

        Parameters
        ----------
        path : path
            Without a suffix it gets ".specml".
        overwrite : bool, optional
            What to do with a file that is there: True replaces it, False leaves it as it is, as in HyperSpy.
            By default it is an error.
        with_encoder : bool
            False leaves the encoder out, of which there is a file: adapters and heads take some kilobytes. Then
            ``Predictor.load(path, encoder=specml.Encoder.load(...))`` reads it.

        Returns
        -------
        where the file is

        Raises
        ------
        ModelFileExistsError
            There is a file, and `overwrite` was not said.
        """
        return write_model_file(path, self.to_bytes(with_encoder=with_encoder), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, encoder: HasEncoder | None = None) -> Predictor:
        """Return what was saved.

        Parameters
        ----------
        path : path
            Of the file.
        encoder : Encoder, optional
            That it was made with, of files that were saved without.

        Raises
        ------
        ModelFileError
            It holds something else, is damaged, or needs an encoder that was not given, or another one.
        """
        own = None if encoder is None else encoder.encoder
        return cls._read(read_model_file(path), os.fspath(path), own)

    def to_bytes(self, *, with_encoder: bool = True) -> bytes:
        """Return the content of its file, with the networks that predict or, of the encoder, its fingerprint."""
        own = [one.encoder for one in self.tuned.members if one.encoder is not None and one.adapters is None]
        networks = list({id(one): one for one in (self.encoder, *own)}.values())
        inner: list[dict[str, Any] | None] = []
        arrays: dict[str, np.ndarray] = {}
        for k, network in enumerate(networks):
            if k == 0 and not with_encoder:
                inner.append(None)
                continue
            plain, values = unpack(network.to_bytes(), "encoder")
            inner.append(plain)
            arrays |= {f"network {k}.{name}": value for name, value in values.items()}
        members = []
        for k, one in enumerate(self.tuned.members):
            number = -1 if one.encoder is None else 0
            if one.adapters is None and one.encoder is not None:
                number = next(i for i, n in enumerate(networks) if n is one.encoder)
            members.append([one.method, self.tuned.shares[k], one.features.kind, one.head.gamma, number])
            arrays |= {f"member {k}.{name}": value for name, value in _arrays(one).items()}
        description = {
            "predictor": _VERSION,
            "encoder": self.encoder.fingerprint,
            "encoders": inner,
            "members": members,
            "names": list(self.names),
            "errors": None if self.errors is None else [self.errors.counts, self.errors.sizes],
            "grid": self.encoder.grids.index(self.grid),
            "table": [[c.method, c.score, c.error, c.share] for c in self.table],
        }
        return pack(description, arrays)

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "from_bytes(...)") -> Predictor:
        """Return the predictor that `to_bytes` wrote."""
        return cls._read(content, name, None)

    @classmethod
    def _read(cls, content: bytes, name: str, encoder: SpectrumEncoder | None) -> Predictor:
        plain, arrays = unpack(content, name)
        try:
            if plain["predictor"] != _VERSION:
                raise ModelFileError(
                    f"load({name!r}): the predictor is of version {plain['predictor']!r}, and this is version "
                    f"{_VERSION}, which shows spectra otherwise to it. Make it anew, encoder.fine_tune(s, labels)."
                )
            if encoder is None and plain["encoders"][0] is None:
                raise ModelFileError(
                    f"load({name!r}): the file was saved without its encoder. Pass that, "
                    f"Predictor.load({name!r}, encoder=specml.Encoder.load(...))."
                )
            if encoder is not None and encoder.fingerprint != plain["encoder"]:
                raise ModelFileError(f"load({name!r}, encoder=...): the predictor was made with another encoder.")
            networks = [
                encoder if k == 0 and encoder else SpectrumEncoder.from_parts(one, parts, name=name)
                for k, one in enumerate(plain["encoders"])
                for parts in (_within(arrays, f"network {k}."),)
            ]
            members = [
                _member(one, _within(arrays, f"member {k}."), networks) for k, one in enumerate(plain["members"])
            ]
            blend = Blend(tuple(members), tuple(float(one[1]) for one in plain["members"]))
            table = tuple(Contest(str(m), float(s), float(e), float(w)) for m, s, e, w in plain["table"])
            grid = networks[0].grids[int(plain["grid"])]
            names = tuple(map(str, plain["names"]))
            known = plain["errors"]
            errors = None if known is None else Errors(*(tuple(map(float, one)) for one in known))
            return cls(blend, networks[0], names, errors, table, grid)
        except ModelFileError:
            raise
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"load({name!r}): the file holds no predictor ({error!r:.100}).") from error

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (one.method, f"{one.score:.3f}", f"{one.error:.3f}", f"{one.share:.2f}" if one.share else "")
            for one in self.table
        ]

    def __repr__(self) -> str:
        """Return the table of the cross-validation, or the method."""
        what = f"{len(self.names)} classes" if self.names else "values"
        if not self.table:
            return f"<Predictor of {what}: {self.method}>"
        score = "balanced accuracy" if self.names else "R2"
        return as_text(("method", score, "standard error", "share"), self._rows())

    def _repr_html_(self) -> str:
        score = "balanced accuracy" if self.names else "R2"
        if not self.table:
            return html.escape(repr(self))
        return as_html(("method", score, "standard error", "share"), self._rows())


@dataclass(frozen=True, eq=False)
class Classified:
    """Classes of the spectra of a map.

    Attributes
    ----------
    labels
        Int map ``(scan axes |)`` of indices into `names`, not of the numbers of your labels; -1 where a spectrum is not
        finite or holds no counts at all. ``np.array([*found.names, ""])[found.labels.data]`` are the names.
    probability
        Maps (classes | scan axes), 0 to 1; NaN at such spectra.
    names
        Of the classes, as text: sorted, of named areas in the order in which these were given.
    neighbour
        Logarithm of the odds that a neighbour of the same class adds; 0 where each spectrum speaks for itself.
    """

    labels: BaseSignal
    probability: BaseSignal
    names: tuple[str, ...]
    neighbour: float = 0.0


@dataclass(frozen=True, eq=False)
class Regressed:
    """Values of the spectra of a map.

    Attributes
    ----------
    value
        Map ``(scan axes |)``, NaN where a spectrum is not finite or holds no counts at all.
    error
        Map of standard errors: root mean square of those of labels that were left out, predicted from as many counts as
        the spectrum has, or from all that the labelled spectra have where it has more. The same everywhere where
        spectra are no counts; NaN where there is no value, and everywhere where there were less than three labels.
    """

    value: BaseSignal
    error: BaseSignal


@dataclass(frozen=True, eq=False)
class _Predicted:
    """The block function of `classify` and `regress`."""

    tuned: Blend
    inputs: Inputs
    centres: np.ndarray
    classes: bool

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        return of_finite(rows, self.tuned.n_outputs if self.classes else 2, self._predicted)

    def _predicted(self, some: np.ndarray) -> np.ndarray:
        laid = some.astype(np.float32) @ self.inputs.grid.matrix(self.centres)
        found = self.tuned(laid, self.inputs, classes=self.classes)
        found = found if self.classes else np.column_stack([found, laid.sum(axis=1)])
        return np.where(laid.any(axis=1, keepdims=True), found, np.nan)  # no counts say nothing


def _arrays(one: Tuned) -> dict[str, np.ndarray]:
    """Return the arrays of a method by name."""
    found = {name: getattr(one.features, name) for name in _FEATURES}
    found |= {"weights": one.head.weights, "constant": one.head.constant}
    found |= {f"adapter {name}": value for name, value in (one.adapters or {}).items()}
    return found if one.head.support is None else found | {"support": one.head.support}


def _member(described: Sequence[Any], arrays: dict[str, np.ndarray], networks: Sequence[SpectrumEncoder]) -> Tuned:
    """Return the method that a file describes."""
    method, _, kind, gamma, number = described
    head = Head(arrays["weights"], arrays["constant"], arrays.get("support"), float(gamma))
    features = Features(str(kind), *(arrays[name] for name in _FEATURES))
    adapters, encoder = _within(arrays, "adapter "), None if number < 0 else networks[int(number)]
    if adapters and encoder is not None:
        return Tuned(str(method), head, features, adapted(encoder, adapters), adapters)
    return Tuned(str(method), head, features, encoder)


def _within(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
