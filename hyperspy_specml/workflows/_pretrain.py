"""`specml.pretrain`: signals and files in, an encoder out; its latents, its predictors, and their native maps."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_specml.exceptions import DataTypeError, OptionError, TooFewSpectraError
from hyperspy_specml.pretraining import (
    NORMALISATIONS,
    OBJECTIVES,
    EdgePhysics,
    Instruments,
    LibraryPhysics,
    Masking,
    PatchShape,
    Physics,
    Source,
    SpectralGrid,
    SpectrumEncoder,
    XrayPhysics,
    train_encoder,
)
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.signals import axis_spec, energy_axis, spectra_of, spectral_lines
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.train import choose_device
from hyperspy_specml.workflows._call import _progress, _shown, whole_number
from hyperspy_specml.workflows._encoded import energies_of
from hyperspy_specml.workflows._encoder import Encoder

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from hyperspy_specml.progress import Progress
    from hyperspy_specml.signals import Line
    from hyperspy_specml.train import History

_logger = logging.getLogger(__name__)

# Settings of the training that are not said.
_DEFAULTS = TrainConfig(
    learning_rate=2e-3, batch_size=128, max_steps=1500, evaluate_every=100, patience=3, restarts=1, comparison_share=0.2
)
# Learning rate of hidden patches: with larger steps, kinds that take turns keep each other at their mean spectra.
_MASKED_RATE = 1e-3
# Spectra kept of the whole corpus; of larger ones an even part of each source.
_CORPUS = 200_000
# Bytes of kept spectra, at most.
_MOST_BYTES = 500_000_000
# Channels of a patch and patches of a grid, about.
_PATCH, _PATCHES = 32, 64
# Energies differ in kind where their dispersions differ by this factor.
_SAME_KIND = 3.0
# Edges that begin with a white line, of transition metals and rare earths.
_WHITE = ("L3", "L2", "M5", "M4")
# Elements that X-ray spectra are simulated with where the metadata list none.
_COMMON = tuple("C N O Na Mg Al Si P S Cl K Ca Ti Cr Mn Fe Ni Cu Zn Nb".split())


def pretrain(
    signals: BaseSignal | str | os.PathLike[str] | Sequence[BaseSignal | str | os.PathLike[str]],
    objective: str = "simulated",
    *,
    library: BaseSignal | None = None,
    shape: PatchShape | None = None,
    normalisation: str | None = None,
    config: TrainConfig | None = None,
    masking: Masking | None = None,
    start: Encoder | None = None,
    instruments: Instruments | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
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
        random: X-ray spectra or energy losses of the elements in the metadata (or of common ones), or mixtures of
        `library`.
        "masked": three quarters of the patches of each spectrum from the others, or as `masking` says.
    library : Signal1D, optional
        Noise-free spectra (n | E), of valences, say, whose mixtures are simulated instead.
    shape : PatchShape, optional
        Sizes of the network; by default those of `start`, or patches of 32 channels (fewer on short axes), 4 layers of
        128.
    normalisation : str, optional
        "square root" of the shares of the channels (default), "total" (the shares), or "per spectrum" (mean 0,
        deviation 1).
    config : TrainConfig, optional
        Of the training; 1,500 steps of 128 spectra at most by default.
    masking : Masking, optional
        How much "masked" hides, and how it judges: ``specml.Masking(hidden=0.9, scored="all", error="counts")``.
    start : Encoder, optional
        To go on from, with its sizes, its normalisation, and the spectra that it knows. What it reads parameters off
        its latents with, or predicts hidden patches with, is gone on with where the objective is the same.
    instruments : Instruments, optional
        Spectra are also moved to other instruments, of other offset, dispersion, resolution and efficiency, as
        drawn at random: for an encoder that travels. ``specml.Instruments()`` are usual ones.
    checkpoint : path, optional
        File that is replaced whenever the held-out score is the best so far, for a machine that may stop:
        ``start=specml.Encoder.load(path)`` goes on from there.
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
    Masked pretraining at this budget is behind principal components on most sets it was tried on; simulated spectra
    with known parameters pay where the physics is right (K. He et al., CVPR 2022, for the masks).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> config = specml.TrainConfig(max_steps=2, batch_size=16)
    >>> encoder = specml.pretrain([s], config=config, show_progressbar=False)
    >>> encoder.embed(s)
    <BaseSignal, title: Latents of Simulated Fe-Cr-Ni map, dimensions: (128|16, 16)>
    """
    inner = _inner(start)
    if inner is not None:
        shape, normalisation = _as_started(inner, shape, normalisation)
    normalisation = normalisation or NORMALISATIONS[0]
    for name, value, known in (("objective", objective, OBJECTIVES), ("normalisation", normalisation, NORMALISATIONS)):
        if value not in known:
            raise OptionError.unknown(f"pretrain({name}=...)", value, known)
    if masking is not None and objective != "masked":
        raise OptionError(f"pretrain(objective={objective!r}, masking=...): only objective='masked' hides patches.")
    usual = _DEFAULTS if objective == "simulated" else replace(_DEFAULTS, learning_rate=_MASKED_RATE)
    settings = (config or TrainConfig()).over(usual)
    opened = _all_opened(signals)
    grids = _grids(opened, shape)
    shape = shape or PatchShape(patch=min(_PATCH, max(2, min(grid.size for grid in grids) // 8)))
    keep = None if checkpoint is None else partial(_keep, checkpoint, {"objective": objective, "corpus": _hash(opened)})
    trainer = partial(train_encoder, shape, normalisation, start=inner, instruments=instruments, keep=keep)
    with _progress("pretrain", _shown(show_progressbar)) as progress:
        with progress.enter("Load PyTorch", 0.0):
            device = choose_device(device)
        run = Run(settings, whole_number("random_state", random_state, least=0), device, progress)
        if objective == "masked":
            with progress.enter("Read spectra", 0.1):
                sources = _sources(opened, grids, shape)
            _check_counts(masking or Masking(), sources, normalisation)
            with progress.enter("Train"):
                trained, history = trainer(run, sources=sources, masking=masking or Masking())
        else:
            physics = [_library(library)] if library is not None else _physics(opened, grids)
            with progress.enter("Train"):
                trained, history = trainer(run, physics=physics)
    _logger.info("pretrain(): %s, best of %d steps at %d", objective, history.steps[-1], history.best_step)
    about = {"objective": objective, "corpus": _hash(opened), "random_state": run.seed}
    return Encoder(replace(trained, about=about | _course(history)))


def _check_counts(masking: Masking, sources: Sequence[Source], normalisation: str) -> None:
    """Refuse the deviance of what are no counts, or of values that do not say how many."""
    if masking.error != "counts":
        return
    if normalisation == "per spectrum":
        raise OptionError(
            "pretrain(masking=Masking(error='counts')) needs values that say how many counts there are, but "
            "normalisation='per spectrum' does not. Take normalisation='square root'."
        )
    if not all(source.counts for source in sources):
        raise OptionError(
            "pretrain(masking=Masking(error='counts')) needs spectra of counts, whole numbers from 0, and some are "
            "not. Take Masking(error='squared')."
        )


def _course(history: History) -> dict[str, Any]:
    """Return the fields of a report that say how the training went."""
    return {
        "best_step": history.best_step,
        "steps": list(history.steps),
        "scores": [float(score) for score in history.scores],
        "interrupted": history.interrupted,
    }


def _keep(path: str | os.PathLike[str], about: dict[str, Any], encoder: SpectrumEncoder) -> None:
    Encoder(replace(encoder, about=about)).save(path, overwrite=True)


def _inner(start: Encoder | None) -> SpectrumEncoder | None:
    return None if start is None else start.encoder


def _as_started(
    start: SpectrumEncoder, shape: PatchShape | None, normalisation: str | None
) -> tuple[PatchShape, str | None]:
    """Return sizes and normalisation of the encoder that is gone on from; refuse others."""
    for name, asked, own in (("shape", shape, start.shape), ("normalisation", normalisation, start.normalisation)):
        if asked is not None and asked != own:
            raise OptionError(
                f"pretrain(start=..., {name}={asked!r}): the encoder to go on from has {name}={own!r}. Leave {name} "
                "out, or begin anew without start."
            )
    return start.shape, start.normalisation


def _all_opened(signals: Any) -> list[BaseSignal]:
    several = isinstance(signals, Iterable) and not isinstance(signals, BaseSignal | str)
    given = list(signals) if several else [signals]
    if not given:
        raise TooFewSpectraError("pretrain([]): there are no signals. Pass signals or paths of files, pretrain([s]).")
    return [_opened(one) for one in given]


def _opened(one: BaseSignal | str | os.PathLike[str]) -> BaseSignal:
    if not isinstance(one, BaseSignal):
        import hyperspy.api as hs

        one = hs.load(Path(one), lazy=True)
    if not isinstance(one, BaseSignal) or one.axes_manager.signal_dimension != 1:
        raise OptionError(f"pretrain([{one!r}]) needs signals of spectra, s.axes_manager.signal_dimension == 1.")
    if one.data.dtype.kind not in "uif":
        raise DataTypeError(f"pretrain([{one!r}]) needs real numbers, but got {one.data.dtype}.")
    return one


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
        counts = rows.size > 0 and bool(rows.min() >= 0) and np.dtype(array.dtype).kind in "ui"
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
    found = np.empty((sum(map(len, parts)), matrix.shape[1]), np.float32)
    start = 0
    for k, part in enumerate(parts):
        found[start : start + len(part)] = part
        start, parts[k] = start + len(part), found[:0]  # let go: all spectra are never there twice
    return found


def _physics(opened: Sequence[BaseSignal], grids: Sequence[SpectralGrid]) -> list[Physics]:
    """Return the simulator of X-ray spectra, or of energy losses, on each grid of such signals."""
    found: dict[SpectralGrid, tuple[tuple[str, ...], float, tuple[Line, ...]]] = {}
    for signal in opened:
        lines = spectral_lines(signal)
        if not lines:
            continue
        grid = _grid_of(signal, grids)
        listed = tuple(str(one) for one in signal.metadata.get_item("Sample.elements", ()))
        scale = float(energies_of(signal)[1][-1] / max(abs(float(energy_axis(signal).axis[-1])), 1e-30))
        names = found[grid][0] if grid in found else ()
        found[grid] = (tuple(dict.fromkeys((*names, *(listed or _COMMON)))), scale, lines)
    physics = [simulator for grid, known in found.items() if (simulator := _simulator(grid, *known))]
    if not physics:
        raise OptionError(
            "pretrain(objective='simulated') simulates X-ray spectra and energy losses, and none of the signals has a "
            "line or an edge (signal type EDS or EELS, energies in keV or eV). Pass noise-free spectra of your kind, "
            "library=..., or objective='masked'."
        )
    return physics


def _simulator(grid: SpectralGrid, names: tuple[str, ...], scale: float, lines: Sequence[Line]) -> Physics | None:
    """Return the simulator of the elements that have lines, or major edges, on a grid; None where none has."""
    within = [line for line in lines if not line.edge or grid.first < line.energy * scale < grid.centres[-1]]
    names = tuple(name for name in names if any(line.element == name for line in within))
    own = [line for line in within if line.element in names]
    if not own:
        return None
    if own[0].edge:
        rows = [[names.index(e.element), e.energy * scale, e.weight, e.name.startswith(_WHITE)] for e in own]
        return EdgePhysics(grid, names, np.array(rows, float))
    families = {key: k for k, key in enumerate(dict.fromkeys((line.element, line.family) for line in own))}
    table = np.array([[names.index(line.element), line.energy * scale, line.weight] for line in own])
    return XrayPhysics(grid, names, table, np.array([families[line.element, line.family] for line in own]))


def _library(library: BaseSignal) -> LibraryPhysics:
    units, centres = energies_of(library)
    spectra = np.asarray(library.data, float).reshape(-1, len(centres))
    if len(spectra) < 2 or not np.isfinite(spectra).all() or (spectra < 0).any() or (spectra.sum(axis=1) <= 0).any():
        raise OptionError(
            f"pretrain(library={library!r}) needs two noise-free spectra (n | E) at least, finite and not negative."
        )
    order = np.argsort(centres)
    grid = SpectralGrid(units, float(centres[order][0]), _step(centres), len(centres))
    xrays = any(not line.edge for line in spectral_lines(library))
    return (LibraryPhysics.of_xrays if xrays else LibraryPhysics)(grid, spectra[:, order] @ grid.matrix(centres[order]))


def _hash(opened: Sequence[BaseSignal]) -> str:
    """Return a fingerprint of the corpus: titles, shapes, axes."""
    digest = hashlib.sha256()
    for signal in opened:
        title = signal.metadata.get_item("General.title", "")
        digest.update(repr((title, signal.data.shape, str(signal.data.dtype), axis_spec(energy_axis(signal)))).encode())
    return digest.hexdigest()[:16]
