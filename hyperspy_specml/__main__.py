"""The main job from the command line: ``python -m hyperspy_specml map.dm4``.

Without a file it decomposes a simulated map and shows the truth beside what was found.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hyperspy.exceptions import VisibleDeprecationWarning

from hyperspy_specml import _demo
from hyperspy_specml.decompose import architecture_names, choose_architecture
from hyperspy_specml.exceptions import BaselineBetterWarning, OptionError, SpecMLError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.results import DecompositionResult

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
}


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
        # The report says the first; the second is about old files and how exspy uses HyperSpy.
        for category in (BaselineBetterWarning, VisibleDeprecationWarning):
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
        description="Decompose a spectrum image, scored beside PCA on counts that no model has seen.",
    )
    add = parser.add_argument
    add("file", nargs="?", type=Path, help="any file that HyperSpy reads; default: a simulated map")
    add("--lazy", action="store_true", help="read in pieces, for maps larger than memory")
    add("--output-dimension", type=int, metavar="K", help="components; default: by held-out score")
    add("--architecture", choices=architecture_names(), default="dense", help="default: dense")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="of the architecture; repeatable")
    add("--signal", metavar="NAME_OR_NUMBER", help="of a file with several; default: the most spectra")
    add("--output", type=Path, default=Path("specml_output"), metavar="FOLDER",
        help="where to write, over the last run's files; default: specml_output")  # fmt: skip
    add("--reconstruction", action="store_true", help=f"save it also if above {_SMALL // 10**6} MB")
    add("--shape", nargs=2, type=int, default=_demo.SHAPE, help=argparse.SUPPRESS)  # a small map for tests
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
    _prepare(options.output, options.file)
    simulated, k = None, options.output_dimension
    if options.file is None:
        simulated = _demo.simulated_map(options.shape, lazy=options.lazy)
        signal, k = simulated.signal, k or _demo.N_FIELDS
        print(f"{signal}, {simulated.dose:g} counts per channel\n")
    else:
        signal = _choose(_load(options.file, lazy=options.lazy), options.signal)
    chosen = {"architecture": options.architecture, "options": _options(options.architecture, options.option)}
    result = signal.decomposition_ae(k, **chosen, show_progressbar=sys.stderr.isatty())
    print(result, flush=True)
    for name in _FILES:  # files of two maps must not lie side by side
        (options.output / name).unlink(missing_ok=True)
    if simulated is not None:
        text, figure = _demo.beside_truth(simulated, result)
        print(f"\n{text}")
        figure.savefig(options.output / "truth.png", dpi=90)
    _write(result, options.output, reconstruction=options.reconstruction)
    print(f"\nIn {options.output} after {time.perf_counter() - start:.0f} s:")
    for name, content in _FILES.items():
        if (options.output / name).exists():
            print(f"  {name:<20} {content}")


def _prepare(folder: Path, file: Path | None) -> None:
    """Make the folder before anything is computed for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecMLError(f"--output {folder} cannot be a folder ({error}): name another one.") from error
    if file is not None and file.resolve() in [(folder / name).resolve() for name in _FILES]:
        raise SpecMLError(f"this would replace its own input {file}: name another folder with --output.")


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
    sizes = [_n_values(signal) for signal in signals]
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


def _n_values(signal: BaseSignal) -> int:
    """Return the size of a map of spectra, 0 for anything else."""
    manager = signal.axes_manager
    return signal.data.size if manager.signal_dimension == 1 and manager.navigation_dimension else 0


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


if __name__ == "__main__":
    sys.exit(main())
