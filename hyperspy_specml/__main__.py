"""The main job from the command line: ``python -m hyperspy_specml map.dm4``; with ``--all``, all methods and a page.

Without a file it decomposes a simulated map and shows the truth beside what was found.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.exceptions import VisibleDeprecationWarning

from hyperspy_specml.datasets import RarePhase, fe_cr_ni_map, fe_l_map
from hyperspy_specml.decompose import architecture_names, choose_architecture
from hyperspy_specml.exceptions import BaselineBetterWarning, OptionError, RemovedSignalWarning, SpecMLError
from hyperspy_specml.tour import FILES, tour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.datasets import SimulatedMap
    from hyperspy_specml.results import DecompositionResult, PhaseResult

# The demo's map: an Fe-L2,3 edge whose shape and position vary, which no few components can follow.
SHAPE = (64, 64)
N_FIELDS = 4  # that the map is made of: valence, thickness, iron, drift
DOSE = 300.0  # counts per channel: enough for the curvature of the data to show
# The map of --all: grains of an alloy at a low dose, with a rare phase.
ALL_CHANNELS, ALL_DOSE, ALL_COMPONENTS, RARE_PIXELS = 1024, 100.0, 4, 24

_INTRODUCTION = """\
Beside the truth: error of the spectra (root mean square, over the standard deviation of the noise-free map),
then the share of each field's variance that the best linear combination of the score maps explains."""

_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SMALL = 200_000_000  # bytes of a reconstruction that is saved unasked
_FILES = {
    "result.png": "score maps above component spectra",
    "pca.png": "the same for PCA",
    "report.png": "held-out scores by rank, scree, training",
    "truth.png": "the fields behind the map, and what score maps tell of them",
    "scores.hspy": "score maps",
    "components.hspy": "component spectra",
    "pca_scores.hspy": "score maps of PCA",
    "pca_components.hspy": "component spectra of PCA",
    "reconstruction.hspy": "the model of every spectrum",
} | FILES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Without the program's name; None reads them from the command line.

    Returns
    -------
    0, or 1 with a message on stderr if the file or the request is no good; misspelt options exit with 2.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        # The reports say the first two; the third is about old files and how exspy uses HyperSpy.
        for category in (BaselineBetterWarning, RemovedSignalWarning, VisibleDeprecationWarning):
            warnings.simplefilter("ignore", category)
        try:
            _run(options)
        except (SpecMLError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130  # as shells report it
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hyperspy_specml",
        description="Decompose a spectrum image, or find its phases, scored beside PCA on held-out counts.",
    )
    add = parser.add_argument
    add("file", nargs="?", type=Path, help="any file that HyperSpy reads; default: a simulated map")
    add("--lazy", action="store_true", help="read in pieces, for maps larger than memory")
    add("--output-dimension", type=int, metavar="K", help="components; default: by held-out score")
    add("--all", action="store_true", help="all methods, and one page that shows what they say: report.html")
    add("--phases", action="store_true", help="find the phases instead; --output-dimension is their number")
    add("--architecture", choices=architecture_names(), default="dense", help="default: dense")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="of the architecture; repeatable")
    add("--signal", metavar="NAME_OR_NUMBER", help="of a file with several; default: the most spectra")
    where = "where to write, over the last run's files; default: specml_output"
    add("--output", type=Path, default=Path("specml_output"), metavar="FOLDER", help=where)
    add(
        "--reconstruction",
        action="store_true",
        help=f"save it, or with --all the denoised map, also if above {_SMALL // 10**6} MB",
    )
    add("--shape", nargs=2, type=int, default=SHAPE, help=argparse.SUPPRESS)  # a small map for tests
    return parser


def _options(architecture: str, given: Sequence[str]) -> object:
    """Return the options of an architecture with values that were given as NAME=VALUE."""
    options = choose_architecture(architecture).options
    defaults = {field.name: getattr(options, field.name) for field in fields(options)}
    for text in given:
        name, _, value = text.partition("=")
        if name not in defaults:
            raise OptionError.unknown("--option", name, defaults)
        kind = type(defaults[name])
        try:
            defaults[name] = _YES_NO[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError) as error:
            raise OptionError(
                f"--option {text}: {name} needs {kind.__name__}, e.g. {name}={defaults[name]}."
            ) from error
    return type(options)(**defaults)


def _run(options: argparse.Namespace) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # figures go to files: no display is needed
    # The first repeats that numba is not installed, the second asks to report files that cannot be read.
    for name in ("hyperspy.decorators", "hyperspy.io"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    start = time.perf_counter()
    folder, file, simulated, k = options.output, options.file, None, options.output_dimension
    try:  # before anything is computed for it
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecMLError(f"--output {folder} cannot be a folder ({error}): name another one.") from error
    if file is not None and file.resolve() in [(folder / name).resolve() for name in _FILES]:
        raise SpecMLError(f"this would replace its own input {file}: name another folder with --output.")
    if options.phases:
        _refuse_beside_phases(options)
    if file is None:
        simulated = _simulated(options)
        signal, k = simulated.signal, k or (ALL_COMPONENTS if options.all else N_FIELDS)
        print(f"{signal}, {simulated.dose:g} counts per {'pixel' if options.all else 'channel'}\n")
    else:
        signal = _choose(_load(file, lazy=options.lazy), options.signal)
    bars = sys.stderr.isatty()
    if options.phases:
        phases = signal.phase_map(k, show_progressbar=bars)
        print(f"{phases}\n\n{phases.report}", flush=True)
        _clear(folder)
        _write_phases(phases, folder)
    else:
        chosen = {"architecture": options.architecture, "options": _options(options.architecture, options.option)}
        decompose = partial(signal.decomposition_ae, k, **chosen, show_progressbar=bars)
        if options.all:
            dec = decompose()
            _clear(folder)  # not before: what fails leaves the files of the last run
            save = options.reconstruction or signal.data.nbytes <= _SMALL
            for title, one in tour(signal, dec, folder, save_denoised=save, show_progressbar=bars):
                print(f"{title}\n{'-' * len(title)}\n{one}\n", flush=True)
        else:
            _decompose(decompose, simulated, folder, reconstruction=options.reconstruction)
    print(f"\nIn {folder} after {time.perf_counter() - start:.0f} s:")
    for name, content in _FILES.items():
        if (folder / name).exists():
            print(f"  {name:<20} {content}")


def _simulated(options: argparse.Namespace) -> SimulatedMap:
    shape = tuple(options.shape)
    if not options.all:
        return fe_l_map(shape, dose=DOSE, lazy=options.lazy)
    rare = RarePhase(max(1, min(RARE_PIXELS, shape[0] * shape[1] // 50)))
    return fe_cr_ni_map(
        shape, n_channels=ALL_CHANNELS, dose=ALL_DOSE, texture="grains", rare_phase=rare, lazy=options.lazy
    )


def _clear(folder: Path) -> None:
    """Delete the files of the run before: files of two maps must not lie side by side."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _decompose(
    decompose: Callable[[], DecompositionResult], simulated: SimulatedMap | None, folder: Path, *, reconstruction: bool
) -> None:
    result = decompose()
    print(result, flush=True)
    _clear(folder)
    if simulated is not None:
        rows, figure = beside_truth(simulated, result)
        lines = [f"{row[0]:<10}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows]
        print("\n" + "\n".join([_INTRODUCTION, "", *lines]))
        figure.savefig(folder / "truth.png", dpi=90)
    _write(result, folder, reconstruction=reconstruction)


def _refuse_beside_phases(options: argparse.Namespace) -> None:
    if options.file is None:
        raise SpecMLError(
            "--phases needs a file: the simulated map has none. python -m hyperspy_specml map.dm4 --phases"
        )
    others = {"--architecture": options.architecture != "dense", "--option": options.option}
    others |= {"--reconstruction": options.reconstruction, "--all": options.all}
    given = [name for name, is_given in others.items() if is_given]
    if given:
        raise SpecMLError(f"{', '.join(given)} beside --phases: phases are not decomposed. Leave one of them out.")


def _write_phases(result: PhaseResult, folder: Path) -> None:
    import matplotlib.pyplot as plt

    figure: Any = result.plot()
    figure.savefig(folder / "phases.png", dpi=100)
    result.report.plot().savefig(folder / "report.png", dpi=100)
    plt.close("all")
    result.save(folder / "phases.hspy", overwrite=True)


def _load(file: Path, *, lazy: bool) -> list[BaseSignal]:
    import hyperspy.api as hs

    if not file.exists():
        raise SpecMLError(f"there is no file {file}.")
    try:
        loaded = hs.load(file, lazy=lazy)  # a Path: in text, HyperSpy would read [1] in a name as a pattern
    except ImportError as error:
        raise SpecMLError(
            f"{file} needs a reader that is not installed ({error}). "
            "pip install 'hyperspy_specml[formats]' brings those of EDS event streams (.emd, .pts)."
        ) from error
    except MemoryError as error:
        raise SpecMLError(f"{file} does not fit into memory: add --lazy. ({error})") from error
    except Exception as error:  # readers meet a damaged or foreign file with any exception
        advice = " Leave out --lazy." if lazy and isinstance(error, NotImplementedError) else ""
        raise SpecMLError(f"HyperSpy cannot read {file} ({type(error).__name__}: {error}).{advice}") from error
    return loaded if isinstance(loaded, list) else [loaded]


def _choose(signals: list[BaseSignal], wanted: str | None) -> BaseSignal:
    """Return the signal that is asked for, or the largest map of spectra; say which if there are several."""
    listed = "\n".join(f"  {number}  {signal}" for number, signal in enumerate(signals))
    titles = [signal.metadata.get_item("General.title", "") for signal in signals]
    managers = [signal.axes_manager for signal in signals]
    sizes = [m.signal_size * m.navigation_size * (m.signal_dimension == 1) for m in managers]  # 0 if no map of spectra
    if wanted in titles:
        number = titles.index(wanted)
    elif wanted is None:
        number = int(np.argmax(sizes)) if sizes else 0
    elif wanted.isdecimal() and int(wanted) < len(signals):
        number = int(wanted)
    else:
        raise SpecMLError(f"--signal {wanted} is neither a title nor a number of these:\n{listed}")
    if not any(sizes[number : number + 1]):
        raise SpecMLError(
            f"a map of spectra has one signal axis (energy) and one or more scan axes; here is\n{listed}\n"
            "If the energy axis has another role, change that in Python: "
            "s.transpose(signal_axes=['Energy']).save('map.hspy')."
        )
    if len(signals) > 1:
        print(f"The file holds\n{listed}\nTaken: {number} (--signal takes another)\n")
    return signals[number]


def _write(result: DecompositionResult, folder: Path, *, reconstruction: bool) -> None:
    import matplotlib.pyplot as plt

    result.plot().savefig(folder / "result.png", dpi=100)
    result.report.plot().savefig(folder / "report.png", dpi=100)
    results = {"": result}
    if result.baseline is not None and result.report.architecture != "pca":
        results["pca_"] = result.baseline
        result.baseline.plot().savefig(folder / "pca.png", dpi=100)
    plt.close("all")
    for prefix, decomposition in results.items():
        decomposition.scores.save(folder / f"{prefix}scores.hspy", overwrite=True)
        decomposition.components.save(folder / f"{prefix}components.hspy", overwrite=True)
    n_bytes = 4 * result.scores.data[0].size * result.components.data.shape[1]  # float32
    if reconstruction or n_bytes <= _SMALL:
        # A lazy one is written chunk by chunk.
        result.reconstruction.save(folder / "reconstruction.hspy", overwrite=True, show_progressbar=False)


def beside_truth(simulated: SimulatedMap, result: DecompositionResult) -> tuple[list[tuple[str, ...]], Figure]:
    """Compare a result, and PCA, with the truth: the rows of a table, the first its head, and a figure.

    PCA comes twice: of the size of the result, and of the size that held-out counts choose for it.

    Parameters
    ----------
    simulated
        The map.
    result
        Of ``simulated.signal``.
    """
    pca = simulated.signal.decomposition_ae(architecture="pca", show_progressbar=False)
    models = [model for model in (result, result.baseline, pca) if model is not None]
    named = {f"{m.report.architecture} ({m.report.n_components})": m for m in models}
    truth = simulated.truth.values()
    readouts = {name: [_readout(model.scores, field) for field in truth] for name, model in named.items()}
    clean = simulated.clean.data
    rows: list[tuple[str, ...]] = [
        ("", "spectra", *simulated.truth),
        ("counts", f"{_error(simulated.signal.data, clean):.4f}"),
    ]
    for name, model in named.items():
        error = _error(model.reconstruction.data, clean)
        rows.append((name, f"{error:.4f}", *(f"{share:.2f}" for _, share in readouts[name])))
    return rows, _draw(simulated.truth, readouts)


def _error(data: np.ndarray, clean: np.ndarray) -> float:
    return float(np.sqrt(((data - clean) ** 2).mean()) / clean.std())  # float() computes a lazy one


def _readout(scores: BaseSignal, field: BaseSignal) -> tuple[np.ndarray, float]:
    """Return the linear combination of score maps nearest to a field, and the share of variance explained."""
    maps = scores.data.reshape(len(scores.data), -1).T.astype(np.float64)  # (pixels, K)
    maps = np.column_stack([maps, np.ones(len(maps))])
    truth = field.data.reshape(-1)
    found = maps @ np.linalg.lstsq(maps, truth, rcond=None)[0]
    return found.reshape(field.data.shape), 1 - np.var(truth - found) / np.var(truth)


def _draw(truth: Mapping[str, BaseSignal], readouts: Mapping[str, list[tuple[np.ndarray, float]]]) -> Figure:
    """Draw the fields, and below them what each model's score maps tell of them, on the same colour scale."""
    import matplotlib.pyplot as plt

    rows = {"truth": [(field.data, 1.0) for field in truth.values()], **readouts}
    size = (2.1 * len(truth), 2.3 * len(rows))
    figure, axes = plt.subplots(len(rows), len(truth), figsize=size, layout="constrained")
    for panels, (label, row) in zip(axes, rows.items(), strict=True):
        panels[0].set_ylabel(label)
        for panel, (image, share), (name, field) in zip(panels, row, truth.items(), strict=True):
            panel.imshow(image, vmin=field.data.min(), vmax=field.data.max(), interpolation="nearest")
            title = name.replace("_", " ") if label == "truth" else f"{share:.2f}"
            panel.set(title=title, xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    sys.exit(main())
