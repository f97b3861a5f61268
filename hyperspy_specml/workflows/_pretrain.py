"""`specml.pretrain`: signals and files in, an encoder out; its latents, its predictors, and their native maps."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import chain
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
    Source,
    SpectralGrid,
    SpectrumEncoder,
    XrayPhysics,
    train_encoder,
)
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.signals import energy_axis, spectral_lines
from hyperspy_specml.train import choose_device
from hyperspy_specml.workflows._call import _progress, _shown, checked_config, whole_number
from hyperspy_specml.workflows._corpus import fingerprint, read
from hyperspy_specml.workflows._encoded import energies_of, title_of
from hyperspy_specml.workflows._encoder import Encoder

if TYPE_CHECKING:
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
# What arguments must be, and examples.
_CLASSES: dict[str, tuple[type, str]] = {
    "library": (BaseSignal, "hs.signals.Signal1D(spectra), with the energy axis of the signals"),
    "shape": (PatchShape, "specml.PatchShape(patch=16)"),
    "masking": (Masking, "specml.Masking(hidden=0.9)"),
    "start": (Encoder, "specml.Encoder.load('best.specml')"),
    "instruments": (Instruments, "specml.Instruments(offset=1.0)"),
}
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
        Sizes of the network; by default those of `start`, or patches of 32 channels (an eighth of the longest axis if
        that is less) and 4 layers of 128.
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
        An argument has no possible value, or the folder of `checkpoint` is not there; nothing can be simulated for
        these signals, or `library` has other energies than they; or spectra have one patch only, and "masked" nothing
        to hide.
    TooFewSpectraError
        There are no spectra, or fewer than two of a signal that "masked" learns from are finite.
    DataTypeError
        Spectra are no real numbers.

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
    _check_classes({"library": library, "shape": shape, "masking": masking, "start": start, "instruments": instruments})
    inner = _inner(start)
    if inner is not None:
        shape, normalisation = _as_started(inner, shape, normalisation)
    normalisation = normalisation or NORMALISATIONS[0]
    for name, value, known in (("objective", objective, OBJECTIVES), ("normalisation", normalisation, NORMALISATIONS)):
        if value not in known:
            raise OptionError.unknown(f"pretrain({name}=...)", value, known)
    if masking is not None and objective != "masked":
        raise OptionError(f"pretrain(objective={objective!r}, masking=...): only objective='masked' hides patches.")
    if library is not None and objective != "simulated":
        raise OptionError(f"pretrain(objective={objective!r}, library=...): only objective='simulated' takes mixtures.")
    if checkpoint is not None:
        _check_folder(checkpoint)
    usual = _DEFAULTS if objective == "simulated" else replace(_DEFAULTS, learning_rate=_MASKED_RATE)
    settings = checked_config("pretrain", config).over(usual)
    opened = _all_opened(signals)
    grids = _grids(opened, shape)
    shape = shape or PatchShape(patch=min(_PATCH, max(2, max(grid.size for grid in grids) // 8)))
    with _progress("pretrain", _shown(show_progressbar)) as progress:
        with progress.enter("Load PyTorch", 0.0):
            device = choose_device(device)
        run = Run(settings, whole_number("random_state", random_state, least=0), device, progress)
        if objective == "masked":
            _check_patches(opened, grids, shape, anew=inner is None)
            with progress.enter("Read spectra", 0.1):
                sources, digests = read(opened, [_grid_of(signal, grids) for signal in opened], shape.patch)
            _check_counts(masking or Masking(), sources, normalisation)
            what: dict[str, Any] = {"sources": sources, "masking": masking or Masking()}
            corpus = fingerprint(opened, digests)
        elif library is not None:
            what = {"physics": [_library(library, opened)]}
            corpus = fingerprint([*opened, library], [np.asarray(library.data)])
        else:
            what = {"physics": _physics(opened, grids)}
            corpus = fingerprint(opened, chain.from_iterable(map(_contents, what["physics"])))
        about = {"objective": objective, "corpus": corpus}
        keep = None if checkpoint is None else partial(_keep, checkpoint, about)
        more: dict[str, Any] = {"start": inner, "instruments": instruments, "keep": keep}
        with progress.enter("Train"):
            trained, history = train_encoder(shape, normalisation, run, **what, **more)
    _logger.info("pretrain(): %s, best of %d steps at %d", objective, history.steps[-1], history.best_step)
    return Encoder(replace(trained, about=about | {"random_state": run.seed} | _course(history)))


def _check_classes(given: dict[str, object]) -> None:
    """Refuse arguments of another class than they must be."""
    for name, (kind, example) in _CLASSES.items():
        if given[name] is not None and not isinstance(given[name], kind):
            came = type(given[name]).__name__
            raise OptionError(
                f"pretrain({name}=...) must be of class {kind.__name__}, not {came}, e.g. {name}={example}."
            )


def _check_folder(checkpoint: object) -> None:
    """Refuse a file that cannot be written, before hours of training."""
    if not isinstance(checkpoint, str | os.PathLike):
        raise OptionError(f"pretrain(checkpoint={checkpoint!r}) must be a path, e.g. checkpoint='best.specml'.")
    folder = Path(checkpoint).parent
    if Path(checkpoint).is_dir():
        raise OptionError(
            f"pretrain(checkpoint={str(checkpoint)!r}): this is a folder. Name a file in it, e.g. "
            f"checkpoint={str(Path(checkpoint) / 'best.specml')!r}."
        )
    if not folder.is_dir():
        raise OptionError(
            f"pretrain(checkpoint={str(checkpoint)!r}): there is no folder {str(folder)!r}. Make it first, "
            f"pathlib.Path({str(folder)!r}).mkdir(parents=True)."
        )


def _check_patches(
    opened: Sequence[BaseSignal], grids: Sequence[SpectralGrid], shape: PatchShape, *, anew: bool
) -> None:
    """Refuse spectra of one patch: there is none to hide, or none to see."""
    for signal in opened:
        grid, (_, centres) = _grid_of(signal, grids), energies_of(signal)
        n_patches = int(grid.covered(centres, shape.patch).sum())
        if n_patches > 1:
            continue
        smaller = PatchShape(patch=max(1, (round(np.ptp(centres) / grid.step) + 1) // 8))
        finer = _grid_of(signal, _grids(opened, smaller))
        helps = finer.covered(centres, smaller.patch).sum() > 1
        patches = f"{n_patches or 'no'} patch of {shape.patch} channels on the grid"
        repair = f"Take shape=specml.PatchShape(patch={smaller.patch}), or leave" if helps else "Leave"
        if helps and not anew:
            repair = f"Begin anew, without start and with shape=specml.PatchShape(patch={smaller.patch}), or leave"
        raise OptionError(
            f"pretrain([{signal!r}], objective='masked') hides patches of a spectrum and shows the others, but its "
            f"{len(centres)} channels make {patches}. {repair} this signal out."
        )


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
    if isinstance(one, str | os.PathLike):
        import hyperspy.api as hs

        one = hs.load(Path(one), lazy=True)
    if not isinstance(one, BaseSignal):
        raise OptionError(
            f"pretrain([...]) needs signals of spectra, or paths of files that hold one, not {type(one).__name__}: "
            "pretrain([s, 'map.hspy']). hs.signals.Signal1D(array) makes a signal of an array."
        )
    if one.axes_manager.signal_dimension != 1:
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
    """Return the grid of about the signal's dispersion, of those that it has channels of where there is one."""
    units, values = energies_of(signal)
    same = [grid for grid in grids if grid.units == units]
    return min(same, key=lambda grid: (grid.overlap(values) == 0, abs(np.log(grid.step / _step(values)))))


def _physics(opened: Sequence[BaseSignal], grids: Sequence[SpectralGrid]) -> list[XrayPhysics | EdgePhysics]:
    """Return the simulator of X-ray spectra, or of energy losses, on each grid of such signals."""
    found: dict[SpectralGrid, tuple[tuple[str, ...], float, tuple[Line, ...]]] = {}
    laid_on: list[SpectralGrid | None] = []
    for signal in opened:
        lines = spectral_lines(signal)
        grid = _grid_of(signal, grids)
        laid_on.append(grid if lines else None)
        if not lines:
            continue
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
    simulated = [one.grid for one in physics]
    without = [title_of(signal) for signal, grid in zip(opened, laid_on, strict=True) if grid not in simulated]
    if without:
        _logger.warning(
            "pretrain(objective='simulated'): nothing is simulated for %s: no element has lines or edges there. "
            "objective='masked' learns from all spectra; library=... are noise-free spectra to simulate instead",
            ", ".join(map(repr, without)),
        )
    return physics


def _contents(physics: XrayPhysics | EdgePhysics) -> tuple[str, np.ndarray]:
    """Return what tells a simulator from others: elements, and their lines or edges."""
    return " ".join(physics.elements), physics.lines if isinstance(physics, XrayPhysics) else physics.edges


def _simulator(
    grid: SpectralGrid, names: tuple[str, ...], scale: float, lines: Sequence[Line]
) -> XrayPhysics | EdgePhysics | None:
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


def _library(library: BaseSignal, opened: Sequence[BaseSignal]) -> LibraryPhysics:
    refused = OptionError(
        f"pretrain(library={library!r}) needs two noise-free spectra (n | E) at least, finite and not negative."
    )
    if library.axes_manager.signal_dimension != 1 or library.data.dtype.kind not in "uif":
        raise refused
    units, centres = energies_of(library)
    spectra = np.asarray(library.data, float).reshape(-1, len(centres))
    if len(spectra) < 2 or not np.isfinite(spectra).all() or (spectra < 0).any() or (spectra.sum(axis=1) <= 0).any():
        raise refused
    order = np.argsort(centres)
    grid = SpectralGrid(units, float(centres[order][0]), _step(centres), len(centres))
    _check_library(library, grid, opened)
    xrays = any(not line.edge for line in spectral_lines(library))
    return (LibraryPhysics.of_xrays if xrays else LibraryPhysics)(grid, spectra[:, order] @ grid.matrix(centres[order]))


def _check_library(library: BaseSignal, grid: SpectralGrid, opened: Sequence[BaseSignal]) -> None:
    """Refuse a library of energies that no signal has, and name the signals that have others."""
    known = [energies_of(signal) for signal in opened]
    fits = [units == grid.units and grid.overlap(energies) > 0 for units, energies in known]
    if not any(fits):
        covered = "; ".join(dict.fromkeys(_covered(*one) for one in known))
        raise OptionError(
            f"pretrain(library={library!r}) covers {_covered(grid.units, grid.centres)}, but the signals {covered}: an "
            "encoder of it could not read them. Set offset, scale and units of library.axes_manager[-1], or pass a "
            "library of the energies of the signals."
        )
    if not all(fits):
        _logger.warning(
            "pretrain(library=...): nothing is simulated for %s, with other energies than the library. Pretrain an "
            "encoder for each kind, with a library of its own, or with objective='masked' one for all",
            ", ".join(repr(title_of(signal)) for signal, one in zip(opened, fits, strict=True) if not one),
        )


def _covered(units: str, energies: np.ndarray) -> str:
    return f"{energies.min():g} to {energies.max():g} {units or '(no units)'}"
