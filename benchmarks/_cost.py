"""Time and memory: a map in memory, and a file of 16 times as many pixels beside PCA of the same file."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._harness import Contender, megabytes, run_contender
from benchmarks._records import Table

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMES = 4  # as many pixels along each scan axis of the file


def measure(method: str, size: int, channels: int) -> list[Table]:
    """Measure a method, beside PCA on the file."""
    module = "benchmarks._cost"
    folder = Path(tempfile.mkdtemp(prefix="specml-benchmark-"))
    path = str(folder / "map.hspy")
    large = _TIMES * size
    contenders = [Contender(f"{method}(), {size} x {size}", f"{module}:in_memory",
                            {"size": size, "channels": channels, "method": method})]  # fmt: skip
    for name, one in (("decomposition_ae(pca)", "pca"), (f"{method}()", method)):
        contenders.append(Contender(f"{name}, lazy {large} x {large}", f"{module}:lazy", {"path": path, "method": one}))
    try:
        run_contender(
            Contender("file", "benchmarks.lazy:write_map", {"path": path, "size": large, "channels": channels})
        )
        runs = {contender.name: run_contender(contender) for contender in contenders}
    finally:
        shutil.rmtree(folder)
    rows = [[name, f"{r.seconds:.1f}", f"{r.cpu_seconds:.1f}", megabytes(r.peak)] for name, r in runs.items()]
    return [Table("time and memory", f"{channels} channels; one run", ["method", "s", "CPU s", "peak"], rows)]


def in_memory(size: int, channels: int, method: str) -> Callable[[], dict[str, Any]]:
    """Prepare a map in memory."""
    from hyperspy_specml import datasets

    return partial(_METHODS[method], datasets.fe_cr_ni_map((size, size), n_channels=channels, dose=200).signal)


def lazy(path: str, method: str) -> Callable[[], dict[str, Any]]:
    """Prepare a file."""
    import hyperspy.api as hs

    return partial(_METHODS[method], hs.load(path, lazy=True))


def _denoise(signal: Any) -> dict[str, Any]:
    import hyperspy_specml as specml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = signal.denoise_dae(show_progressbar=False)
        if clean._lazy:  # what the graph costs belongs to it
            clean.data.mean(axis=-1).compute()
    return {"stages": specml.denoise_report(clean).seconds}


def _decompose(signal: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = signal.decomposition_ae(architecture="pca", show_progressbar=False)
        found.reconstruction.data.mean(axis=-1).compute()
    return {"stages": found.report.seconds}


def _scan(signal: Any) -> dict[str, Any]:
    found = signal.anomaly_map(show_progressbar=False)
    return {"stages": found.report["seconds"], "regions": len(found.regions)}


_METHODS = {"denoise_dae": _denoise, "pca": _decompose, "anomaly_map": _scan}
