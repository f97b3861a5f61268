"""`specml.pretrain`: signals and files in, an encoder out; its latents, its predictors, and their native maps."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pint
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import DataTypeError, EnergyAxisMismatchError, OptionError, TooFewSpectraError
from hyperspy_specml.models import as_html, as_text, pack, read_model_file, unpack, write_model_file
from hyperspy_specml.pretraining import (
    METHODS,
    NORMALISATIONS,
    OBJECTIVES,
    Contest,
    Features,
    Head,
    Inputs,
    LibraryPhysics,
    PatchShape,
    Source,
    SpectralGrid,
    SpectrumEncoder,
    Task,
    Tuned,
    XrayPhysics,
    contest,
    train_encoder,
    tune,
)
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.signals import axis_spec, energy_axis, navigation_map, score_maps, spectra_of, spectral_lines
from hyperspy_specml.streaming import SpectrumStream, plain_array
from hyperspy_specml.train import choose_device
from hyperspy_specml.workflows._call import _progress, _shown, whole_number
from hyperspy_specml.workflows._labels import labels_of_areas

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.signals import Line

_logger = logging.getLogger(__name__)

# Settings of the training that are not said.
_DEFAULTS = TrainConfig(
    learning_rate=1e-3, batch_size=128, max_steps=1500, evaluate_every=100, patience=3, restarts=1, comparison_share=0.2
)
# Spectra kept of the whole corpus; of larger ones an even part of each source.
_CORPUS = 200_000
# Bytes of kept spectra, at most.
_MOST_BYTES = 800_000_000
# Channels of a patch and patches of a grid, about.
_PATCH, _PATCHES = 32, 64
# Energies differ in kind where their dispersions differ by this factor.
_SAME_KIND = 3.0
# Elements that X-ray spectra are simulated with where the metadata list none.
_COMMON = tuple("C N O Na Mg Al Si P S Cl K Ca Ti Cr Mn Fe Ni Cu Zn Nb".split())


def pretrain(
    signals: BaseSignal | str | os.PathLike[str] | Sequence[BaseSignal | str | os.PathLike[str]],
    objective: str = "simulated",
    *,
    library: BaseSignal | None = None,
    shape: PatchShape | None = None,
    normalisation: str = "square root",
    config: TrainConfig | None = None,
    start: Encoder | None = None,
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | Progress | None = None,
) -> Encoder:
    """Train an encoder of spectra without labels, for `Encoder.fine_tune` with a hundred of them.

    Parameters
    ----------
    signals : list of signals or paths
        Spectra of any kind: EELS, EDS, Raman, XRD, pooled; files are read block by block. They give the energies that
        the encoder knows, and with "masked" also what it learns from.
    objective : str
        "simulated": the parameters of simulated spectra, whose composition, instrument, shift and dose are drawn at
        random: X-ray spectra of the elements in the metadata (or of twenty common ones), or mixtures of `library`.
        "masked": three quarters of the patches of each spectrum from the others.
    library : Signal1D, optional
        Noise-free spectra (n | E), of valences, say, whose mixtures are simulated instead.
    shape : PatchShape, optional
        Sizes of the network; by default patches of 32 channels (fewer on short axes), 4 layers of 128.
    normalisation : str
        "square root" of the shares of the channels, "total" (the shares), or "per spectrum" (mean 0, deviation 1).
    config : TrainConfig, optional
        Of the training; 1,500 steps of 128 spectra at most by default.
    start : Encoder, optional
        To go on from.
    random_state : int
        Seed of everything random.
    device : str
        "auto", "cpu", "cuda" ...
    show_progressbar : bool, optional
        None takes HyperSpy's preference.

    Returns
    -------
    Encoder

    Raises
    ------
    OptionError
        An argument has no possible value, or nothing can be simulated for these signals.
    TooFewSpectraError
        There are no spectra.

    Notes
    -----
    Masked pretraining at this budget loses to principal components on the sets it was tried on; simulated spectra with
    known parameters pay where the physics is right (K. He et al., CVPR 2022, for the masks).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> config = specml.TrainConfig(max_steps=2, batch_size=16)
    >>> encoder = specml.pretrain([s], config=config, show_progressbar=False)
    >>> encoder.embed(s)
    <BaseSignal, title: Latents of Simulated Fe-Cr-Ni map, dimensions: (128|16, 16)>
    """
    for name, value, known in (("objective", objective, OBJECTIVES), ("normalisation", normalisation, NORMALISATIONS)):
        if value not in known:
            raise OptionError.unknown(f"pretrain({name}=...)", value, known)
    several = isinstance(signals, Iterable) and not isinstance(signals, BaseSignal | str)
    given: list[Any] = list(signals) if several else [signals]  # type: ignore[arg-type]
    if not given:
        raise TooFewSpectraError("pretrain([]): there are no signals. Pass signals or paths of files, pretrain([s]).")
    settings = (config or TrainConfig()).over(_DEFAULTS)
    opened = [_opened(one) for one in given]
    grids = _grids(opened, shape)
    shape = shape or PatchShape(patch=min(_PATCH, max(2, min(grid.size for grid in grids) // 8)))
    with _progress("pretrain", _shown(show_progressbar)) as progress:
        run = Run(settings, whole_number("random_state", random_state, least=0), choose_device(device), progress)
        if objective == "masked":
            with progress.enter("Read spectra", 0.1):
                sources = _sources(opened, grids, shape)
            with progress.enter("Train"):
                trained, history = train_encoder(shape, normalisation, run, sources=sources, start=_inner(start))
        else:
            physics = [_library(library)] if library is not None else _physics(opened, grids)
            with progress.enter("Train"):
                trained, history = train_encoder(shape, normalisation, run, physics=physics, start=_inner(start))
    about = {
        "objective": objective,
        "corpus": _hash(opened),
        "random_state": run.seed,
        "best_step": history.best_step,
        "steps": list(history.steps),
        "scores": [float(score) for score in history.scores],
        "interrupted": history.interrupted,
    }
    _logger.info("pretrain(): %s, best of %d steps at %d", objective, history.steps[-1], history.best_step)
    return Encoder(replace(trained, about=about))


def _inner(start: Encoder | None) -> SpectrumEncoder | None:
    return None if start is None else start.encoder


def _opened(one: BaseSignal | str | os.PathLike[str]) -> BaseSignal:
    if not isinstance(one, BaseSignal):
        import hyperspy.api as hs

        one = hs.load(Path(one), lazy=True)
    if not isinstance(one, BaseSignal) or one.axes_manager.signal_dimension != 1:
        raise OptionError(f"pretrain([{one!r}]) needs signals of spectra, s.axes_manager.signal_dimension == 1.")
    if one.data.dtype.kind not in "uif":
        raise DataTypeError(f"pretrain([{one!r}]) needs real numbers, but got {one.data.dtype}.")
    return one


def energies_of(signal: BaseSignal) -> tuple[str, np.ndarray]:
    """Return the unit and the (E,) energies of a signal, in eV where they are energies."""
    axis = energy_axis(signal)
    units, values = axis_spec(axis)["units"] or "", np.asarray(axis.axis, float)
    try:
        factor = float(pint.Quantity(1.0, units).to("eV").magnitude)
    except (pint.PintError, AttributeError, TypeError, ValueError):
        return units, values
    return "eV", values * factor


def _grids(opened: Sequence[BaseSignal], shape: PatchShape | None) -> tuple[SpectralGrid, ...]:
    """Return one grid for all signals with the same units and about the same dispersion."""
    kinds: list[list[tuple[str, np.ndarray]]] = []
    for signal in opened:
        units, values = energies_of(signal)
        for kind in kinds:
            if kind[0][0] == units and abs(np.log(_step(values) / _step(kind[0][1]))) < np.log(_SAME_KIND):
                kind.append((units, values))
                break
        else:
            kinds.append([(units, values)])
    grids = []
    for kind in kinds:
        low, high = min(v.min() for _, v in kind), max(v.max() for _, v in kind)
        patch = _PATCH if shape is None else shape.patch
        finest = min(_step(values) for _, values in kind)
        step = max(finest, (high - low) / (2 * _PATCHES * patch))
        grids.append(SpectralGrid(kind[0][0], float(low), float(step), int(np.ceil((high - low) / step)) + 1))
    return tuple(grids)


def _step(values: np.ndarray) -> float:
    return max(abs(float(values[-1] - values[0])) / max(1, len(values) - 1), 1e-30)


def _grid_of(signal: BaseSignal, grids: Sequence[SpectralGrid]) -> SpectralGrid:
    units, values = energies_of(signal)
    fitting = [grid for grid in grids if grid.units == units and grid.overlap(values) > 0]
    return min(fitting, key=lambda grid: abs(np.log(grid.step / _step(values))))


def _sources(opened: Sequence[BaseSignal], grids: Sequence[SpectralGrid], shape: PatchShape) -> list[Source]:
    """Read an even part of every signal, block by block."""
    per_signal = max(16, _CORPUS // len(opened))
    found = []
    for signal in opened:
        grid, (_, centres) = _grid_of(signal, grids), energies_of(signal)
        spectra = spectra_of(signal, method="pretrain").array if signal.axes_manager.navigation_dimension else None
        array = signal.data.reshape(1, -1) if spectra is None else spectra
        most = min(per_signal, max(16, _MOST_BYTES // (4 * grid.size * len(opened))))
        rows = _some(array, most, grid.matrix(centres))
        counts = rows.size > 0 and bool((rows >= 0).all()) and np.dtype(array.dtype).kind in "ui"
        if len(rows) < 2:
            raise TooFewSpectraError(f"pretrain([{signal!r}]): fewer than two spectra hold finite values.")
        found.append(Source(grid, grid.covered(centres, shape.patch), rows, counts))
    return found


@dataclass(frozen=True)
class _Laid:
    """The block function that lays every `step`-th spectrum on a grid."""

    step: int
    matrix: Any

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> list[np.ndarray]:
        some = rows[pixels % self.step == 0].astype(np.float32)
        return [(some[np.isfinite(some).all(axis=1)] @ self.matrix).astype(np.float32)]


def _some(array: Any, most: int, matrix: Any) -> np.ndarray:
    stream = SpectrumStream(array)
    step = -(-stream.n_pixels // most)
    parts = stream.fold(_Laid(step, matrix), list.__add__, label="Read spectra")
    return np.concatenate(parts)


def _physics(opened: Sequence[BaseSignal], grids: Sequence[SpectralGrid]) -> list[XrayPhysics]:
    """Return the simulator of X-ray spectra on each grid of an EDS signal."""
    found: dict[SpectralGrid, tuple[tuple[str, ...], float, tuple[Line, ...]]] = {}
    for signal in opened:
        lines = spectral_lines(signal)
        if not lines or lines[0].edge:
            continue
        grid = _grid_of(signal, grids)
        listed = tuple(str(one) for one in signal.metadata.get_item("Sample.elements", ()))
        scale = float(energies_of(signal)[1][-1] / max(abs(float(energy_axis(signal).axis[-1])), 1e-30))
        names = found[grid][0] if grid in found else ()
        found[grid] = (tuple(dict.fromkeys((*names, *(listed or _COMMON)))), scale, lines)
    physics = []
    for grid, (names, scale, lines) in found.items():
        own = [line for line in lines if line.element in names]
        names = tuple(name for name in names if any(line.element == name for line in own))
        families = {key: k for k, key in enumerate(dict.fromkeys((line.element, line.family) for line in own))}
        table = np.array([[names.index(line.element), line.energy * scale, line.weight] for line in own])
        numbers = np.array([families[line.element, line.family] for line in own])
        physics.append(XrayPhysics(grid, names, table, numbers))
    if not physics:
        raise OptionError(
            "pretrain(objective='simulated') simulates X-ray spectra, and none of the signals is one (signal type EDS, "
            "energies in keV or eV). Pass noise-free spectra of your kind, library=..., or objective='masked'."
        )
    return physics


def _library(library: BaseSignal) -> LibraryPhysics:
    units, centres = energies_of(library)
    spectra = np.asarray(library.data, float).reshape(-1, len(centres))
    if len(spectra) < 2 or not np.isfinite(spectra).all() or (spectra < 0).any() or (spectra.sum(axis=1) <= 0).any():
        raise OptionError(
            f"pretrain(library={library!r}) needs two noise-free spectra (n | E) at least, finite and not negative."
        )
    order = np.argsort(centres)
    grid = SpectralGrid(units, float(centres[order][0]), _step(centres), len(centres))
    return LibraryPhysics(grid, spectra[:, order] @ grid.matrix(centres[order]))


def _hash(opened: Sequence[BaseSignal]) -> str:
    """Return a fingerprint of the corpus: titles, shapes, axes."""
    digest = hashlib.sha256()
    for signal in opened:
        title = signal.metadata.get_item("General.title", "")
        digest.update(repr((title, signal.data.shape, str(signal.data.dtype), axis_spec(energy_axis(signal)))).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained encoder.

    Attributes
    ----------
    encoder
        The network and the grids that spectra are laid on.
    """

    encoder: SpectrumEncoder = field(repr=False)

    @property
    def report(self) -> dict[str, Any]:
        """How it was trained: objective, held-out scores by step, fingerprint of the corpus."""
        return copy.deepcopy(self.encoder.about)

    def embed(self, signal: BaseSignal) -> BaseSignal:
        """Return the latents of spectra.

        Parameters
        ----------
        signal : Signal1D
            The spectra, lazy or not; read block by block.

        Returns
        -------
        BaseSignal
            Maps (latents | scan axes), in memory; NaN where a spectrum is not finite.

        Raises
        ------
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        values = _mapped(signal, self.encoder.shape.width, _Embedded(self.encoder, *energies_of(signal)))
        shape = _scan_shape(signal)
        if not signal.axes_manager.navigation_dimension:
            return BaseSignal(values[0])
        return score_maps(signal, values.reshape(*shape, -1), title=f"Latents of {_title(signal)}")

    def fine_tune(self, signal: BaseSignal, labels: Any, method: str = "auto", *, random_state: int = 0) -> Predictor:
        """Learn classes or values from labelled spectra.

        Parameters
        ----------
        signal : Signal1D
            The spectra, of which some are labelled.
        labels : array, signal or dict
            For every spectrum (array order of the scan) a class as a whole number (-1: no label) or text ("": none), or
            a value (NaN: none); or areas of named classes, ``{"ferrite": roi or mask}``.
        method : str
            "raw" and "pca": spectra or their principal components, "aligned": these of aligned spectra; "linear": on
            the latents; "lora": low-rank adapters of the attention are trained; "full": the whole network is. "auto"
            cross-validates the first five on the labels and takes the best.
        random_state : int
            Seed of folds and trainings.

        Returns
        -------
        Predictor

        Raises
        ------
        OptionError
            Unknown method, no labels, one class, or too few labels for a cross-validation.
        EnergyAxisMismatchError
            The encoder knows no such energies.
        """
        if method not in METHODS:
            raise OptionError.unknown("fine_tune(method=...)", method, METHODS)
        units, centres = energies_of(signal)
        encoder, inputs = self.encoder, _inputs(self.encoder, units, centres)
        truth, names, known = _truth(signal, labels)
        rows = _rows(signal)
        laid = rows.astype(np.float32) @ inputs.grid.matrix(centres)
        known &= np.isfinite(laid).all(axis=1)
        pool = laid[np.isfinite(laid).all(axis=1)]
        pool = pool[:: -(-len(pool) // 4000)]
        some, own = laid[known], truth[known]
        table: tuple[Contest, ...] = ()
        task = Task(some, own, pool, inputs, encoder, len(names), random_state)
        if method == "auto":
            table = contest(task)
            method = max(table, key=lambda one: one.score).method
        tuned = tune(method, task)
        spread = 0.0 if names else _spread(tuned.method, task)
        return Predictor(tuned, encoder, names, spread, table)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save it in a .specml file; `Encoder.load` reads it.

        Parameters
        ----------
        path : path
            Without a suffix it gets ".specml".
        overwrite : bool, optional
            What to do with a file that is there: True replaces it, False leaves it, None is an error.

        Returns
        -------
        where the file is
        """
        return write_model_file(path, self.encoder.to_bytes(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Encoder:
        """Return a saved encoder.

        Parameters
        ----------
        path : path
            Of the file.

        Raises
        ------
        ModelFileError
            It holds something else, or is damaged.
        """
        return cls(SpectrumEncoder.from_bytes(read_model_file(path), str(path)))

    def __repr__(self) -> str:
        """Say what it knows."""
        known = "; ".join(f"{g.first:g} to {g.centres[-1]:g} {g.units}" for g in self.encoder.grids)
        return f"<Encoder: {self.encoder.about.get('objective', 'untrained')}, {known}>"


@dataclass(frozen=True, eq=False)
class Predictor:
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
        shape, title = _scan_shape(signal), _title(signal)
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
        values = self._values(signal, 1).reshape(_scan_shape(signal))
        error = np.where(np.isfinite(values), self.spread, np.nan).astype(np.float32)
        title = _title(signal)
        return Regressed(
            navigation_map(signal, values, title=f"Values of {title}"),
            navigation_map(signal, error, title=f"Errors of the values of {title}"),
        )

    def _values(self, signal: BaseSignal, n: int) -> np.ndarray:
        units, centres = energies_of(signal)
        return _mapped(signal, n, _Predicted(self.tuned, _inputs(self.encoder, units, centres), centres))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save it in a .specml file, with the encoder where that predicts; `Predictor.load` reads it.

        Parameters
        ----------
        path : path
            Without a suffix it gets ".specml".
        overwrite : bool, optional
            What to do with a file that is there: True replaces it, False leaves it, None is an error.

        Returns
        -------
        where the file is
        """
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
        return write_model_file(path, pack(description, arrays), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Return a saved predictor.

        Parameters
        ----------
        path : path
            Of the file.

        Raises
        ------
        ModelFileError
            It holds something else, or is damaged.
        """
        from hyperspy_specml.exceptions import ModelFileError

        plain, arrays = unpack(read_model_file(path), str(path))
        try:
            own = {name[8:]: value for name, value in arrays.items() if name.startswith("network.")}
            encoder = SpectrumEncoder.from_parts(plain["encoder_of"], own, name=str(path))
            features = Features(str(plain["kind"]), *(arrays[f"features.{name}"] for name in _FEATURES))
            gamma, support = float(plain["gamma"]), arrays.get("head.support")
            head = Head(arrays["head.weights"], arrays["head.constant"], support, gamma)
            cheap = plain["kind"] in ("raw", "pca", "aligned")
            tuned = Tuned(str(plain["method"]), head, features, None if cheap else encoder)
            table = tuple(Contest(str(m), float(s), float(e)) for m, s, e in plain["table"])
            return cls(tuned, encoder, tuple(map(str, plain["names"])), float(plain["spread"]), table)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"load({str(path)!r}): the file holds no predictor ({error!r:.100}).") from error

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


_FEATURES = ("mean", "scale", "basis", "centre")


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


def _inputs(encoder: SpectrumEncoder, units: str, centres: np.ndarray) -> Inputs:
    grid = encoder.grid_for(units, centres)
    visible = grid.covered(centres, encoder.shape.patch)
    if not visible.any():
        raise EnergyAxisMismatchError("the data cover no patch of the encoder. Pretrain one with such spectra.")
    return Inputs(encoder.shape.patch, encoder.normalisation, grid, visible)


@dataclass(frozen=True, eq=False)
class _Embedded:
    """The block function of `embed`."""

    encoder: SpectrumEncoder
    units: str
    centres: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        return _finite(rows, self.encoder.shape.width, lambda some: self.encoder.encode(some, self.units, self.centres))


@dataclass(frozen=True, eq=False)
class _Predicted:
    """The block function of `classify` and `regress`."""

    tuned: Tuned
    inputs: Inputs
    centres: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        matrix = self.inputs.grid.matrix(self.centres)
        n = self.tuned.head.constant.size
        return _finite(rows, n, lambda some: self.tuned((some.astype(np.float32) @ matrix), self.inputs))


def _finite(rows: np.ndarray, n: int, function: Any) -> np.ndarray:
    """Return (n_rows, n) what a function says of finite rows, NaN for others."""
    found = np.full((len(rows), n), np.nan, np.float32)
    good = np.isfinite(rows).all(axis=1) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
    if good.any():
        found[good] = function(rows[good])
    return found


def _mapped(signal: BaseSignal, n: int, function: Any) -> np.ndarray:
    """Return (n_pixels, n) numbers of all spectra, read block by block."""
    if not signal.axes_manager.navigation_dimension:
        rows = np.asarray(signal.data).reshape(1, -1)
        return function(rows, np.zeros(1, int))
    return SpectrumStream(spectra_of(signal, method="embed").array).map_rows(function, n_columns=n, label="Encode")


def _rows(signal: BaseSignal) -> np.ndarray:
    if not signal.axes_manager.navigation_dimension:
        return np.asarray(signal.data).reshape(1, -1)
    array = spectra_of(signal, method="fine_tune").array
    return plain_array(array if isinstance(array, np.ndarray) else array.compute()).reshape(-1, array.shape[-1])


def _scan_shape(signal: BaseSignal) -> tuple[int, ...]:
    return tuple(signal.axes_manager.navigation_shape[::-1])


def _title(signal: BaseSignal) -> str:
    return signal.metadata.get_item("General.title", "") or type(signal).__name__


def _truth(signal: BaseSignal, labels: Any) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Return labels of all spectra, names of the classes (none: values), and which spectra have one."""
    shape = _scan_shape(signal) or (1,)
    if hasattr(labels, "items"):
        found, names = labels_of_areas(signal, labels, shape, "fine_tune")
        values, known = found, found >= 0
    else:
        array = np.asarray(labels.data if isinstance(labels, BaseSignal) else labels)
        if array.size != int(np.prod(shape)):
            raise OptionError(
                f"fine_tune(labels of shape {array.shape}) needs one label for each spectrum, shape {shape} in array "
                "order; -1, '' or NaN where there is none."
            )
        array = array.reshape(-1)
        if array.dtype.kind == "f":
            return _checked(array.astype(float), (), np.isfinite(array))
        if array.dtype.kind in "US":
            names = tuple(str(name) for name in np.unique(array) if str(name))
            values = np.array([names.index(str(one)) if str(one) else -1 for one in array])
        elif array.dtype.kind in "uib":
            every = np.unique(array[array >= 0]) if array.dtype.kind == "i" else np.unique(array)
            place = {int(value): k for k, value in enumerate(every)}
            values, names = np.array([place.get(int(one), -1) for one in array]), tuple(str(one) for one in every)
        else:
            raise OptionError(f"fine_tune(labels of {array.dtype}) needs numbers, text, or areas by name.")
        known = values >= 0
    return _checked(values, names, known)


def _checked(
    values: np.ndarray, names: tuple[str, ...], known: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    if known.sum() < 2:
        raise OptionError(f"fine_tune(labels=...): {int(known.sum())} spectra have a label. Two at least are needed.")
    if names and len(np.unique(values[known])) < 2:
        raise OptionError(
            f"fine_tune(labels=...): all labels are of one class, {names[int(values[known][0])]!r}. Label spectra of "
            "another class, too, or find strangers with s.anomaly_map()."
        )
    return values, names, known


def _spread(method: str, task: Task) -> float:
    """Return the standard deviation of the errors of values left out in five folds."""
    order, errors = np.random.default_rng(task.seed).permutation(len(task.truth)), []
    for test in np.array_split(order, min(5, len(order))):
        train = np.setdiff1d(order, test)
        if len(train) > 1:
            again = tune(method, task.of(train))
            errors.append(again(task.laid[test], task.inputs)[:, 0] - task.truth[test])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) if errors else float("nan")
