"""What `golden` runs on each map, and which numbers of the results it records, by words for users.

Names of the package stand in the tables and in the function of each method, nowhere else: where the package
renames something, the right-hand sides change and the record names stay.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import hyperspy_specml as specml
from benchmarks._golden_records import numbers, of_signals, pick, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyperspy.signals import BaseSignal

    from benchmarks._golden_records import Records, Table

    Case = tuple[str, Callable[[], Records]]


def _rank_curve(name: str, place: str) -> Table:
    return (
        (f"{name} numbers", f"{place}.ranks"),
        (f"{name} scores", f"{place}.scores"),
        (f"{name} standard errors", f"{place}.standard_errors"),
        (f"{name} chosen", f"{place}.chosen"),
        (f"{name} method", f"{place}.method"),
    )


_CANDIDATES: Table = (
    ("candidates", "candidates.name"),
    ("test score", "candidates.score"),
    ("difference to PCA", "candidates.difference"),
    ("standard error", "candidates.standard_error"),
    ("validation score", "candidates.validation_score"),
)
_COMMON: Table = (
    *_CANDIDATES,
    ("chosen", "chosen"),
    ("noise model", "noise_model"),
    ("hold-out", "hold_out"),
    ("correlation of halves", "correlation"),
    ("pixels and channels", "used"),
    ("spectra scored", "n_sampled"),
    ("smoothing", "smoothing"),
    ("best step", "best_step"),
    ("trained on", "trained_on"),
)
DECOMPOSITION_REPORT: Table = (
    *_COMMON,
    ("number of components", "n_components"),
    *_rank_curve("rank curve", "rank"),
    *_rank_curve("rank curve of PCA", "baseline_rank"),
    ("scree", "scree"),
    ("noise edge", "noise_edge"),
    ("training steps", "steps"),
    ("training scores", "step_scores"),
    ("starts", "attempts.name"),
    ("starts score", "attempts.score"),
    ("starts collapsed", "attempts.collapsed"),
)
DENOISING_REPORT: Table = (
    *_COMMON,
    ("noise reduction", "noise_reduction"),
    ("error", "error"),
    ("error standard error", "error_standard_error"),
    ("error variance", "error_variance"),
    ("signal variance", "signal_variance"),
    ("removed energy", "removed.energy"),
    ("removed position", "removed.position"),
    ("removed number of pixels", "removed.n_pixels"),
    ("removed z", "removed.z"),
    ("removed sum", "removed.excess"),
    ("removed pixels", "removed.pixels"),
    ("boxes", "n_boxes"),
    ("number of components", "n_components"),
    ("training steps", "n_steps"),
    ("intensity over that of the training", "relative_intensity"),
)
ANOMALY_REPORT: Table = (
    ("model", "model"),
    ("number of components", "n_components"),
    ("noise model", "noise_model"),
    ("patch side", "patch_side"),
    ("patches left out", "patches_left_out"),
    ("drift of scan lines", "drift"),
    ("pixels and channels", "used"),
    ("number of windows", "n_windows"),
    ("smallest p", "smallest_p"),
)
NETWORK: Table = (
    ("autoencoder score", "score"),
    ("autoencoder difference to PCA", "difference"),
    ("autoencoder standard error", "standard_error"),
)
REGIONS: Table = (
    ("regions position", "position"),
    ("regions number of pixels", "n_pixels"),
    ("regions pixels", "pixels"),
    ("regions area", "area"),
    ("regions area units", "area_units"),
    ("regions p", "p"),
    ("regions energy", "energy"),
    ("regions energy units", "energy_units"),
    ("regions direction", "direction"),
    ("regions excess", "excess"),
    ("regions shift", "shift"),
    ("regions shift error", "shift_error"),
    ("candidate elements", "candidates.element"),
    ("candidate lines", "candidates.line"),
    ("candidate energies", "candidates.energy"),
    ("candidate distances", "candidates.distance"),
    ("candidate evidence", "candidates.evidence"),
)
_WARNINGS = {"RemovedSignalWarning": "ErasedFeaturesWarning"}  # as records have it
SPIKES: Table = tuple((f"spikes {name}", name) for name in ("position", "energy", "value", "expected"))


def options(signal: BaseSignal, *, trained: bool = True, short: bool = True) -> dict[str, Any]:
    """Return the arguments that calls share: training shortened where asked, small blocks if lazy."""
    settings: dict[str, Any] = {"memory_budget": 2_000_000} if signal._lazy else {}
    settings |= {"max_steps": 150, "evaluate_every": 50} if short else {}
    shared: dict[str, Any] = {"config": specml.TrainConfig(**settings), "show_progressbar": False}
    return shared | ({"device": "cpu"} if trained else {})


def decomposition(signal: BaseSignal, other: BaseSignal, *, k: int | None, **asked: Any) -> Records:
    """Decompose a map, and apply the model to another one."""
    result = signal.decomposition_ae(k, **asked, **options(signal))
    applied = other.decomposition_ae(model=result.model, show_progressbar=False)
    records = of_decomposition(result)
    if result.components.data.shape[0] > 1:
        copy = signal.deepcopy()
        result.to_learning_results(copy)
        learnt = copy.learning_results
        records |= {f"learning results {name}": numbers(getattr(learnt, name)) for name in ("loadings", "factors")}
    records |= within("baseline", of_decomposition(result.baseline, full_size=False))
    return records | within("applied", of_decomposition(applied))


def of_decomposition(result: Any, *, full_size: bool = True) -> Records:
    """Return the numbers of a result of ``s.decomposition_ae()``."""
    signals = {
        "scores": result.scores,
        "components": result.components,
        "intensity": result.intensity,
        "shift": result.shift,
    }
    if full_size:
        signals |= {"reconstruction": result.reconstruction, "residual": result.residual}
    return of_signals(signals) | within("report", pick(result.report, DECOMPOSITION_REPORT))


def denoising(signal: BaseSignal, other: BaseSignal | None = None, **asked: Any) -> Records:
    """Denoise a map, and apply the denoiser to another one if there is one."""
    clean = signal.denoise_dae(**asked, **options(signal, short=False))
    records = of_denoised(clean)
    if other is not None:
        again = other.denoise_dae(model=specml.denoise_model(clean), show_progressbar=False)
        records |= within("applied", of_denoised(again))
    return records


def library_denoising(signal: BaseSignal, library: BaseSignal) -> Records:
    """Train a denoiser on simulated spectra and apply it to a map."""
    trained = specml.train_denoiser(library, doses=(10, 200), **options(library, short=False))
    clean = signal.denoise_dae(model=trained, show_progressbar=False)
    return within("training report", pick(trained.report, DENOISING_REPORT)) | of_denoised(clean)


def of_denoised(clean: BaseSignal) -> Records:
    """Return the numbers of a denoised signal."""
    report = specml.denoise_report(clean)
    found = {"removed regions": numbers(report.removed_map()), **of_signals({"denoised": clean})}
    return found | within("report", pick(report, DENOISING_REPORT))


def anomalies(signal: BaseSignal, **asked: Any) -> Records:
    """Look for anomalies of a map."""
    trained = asked.get("architecture", "pca") != "pca"
    return of_anomalies(signal.anomaly_map(**asked, **options(signal, trained=trained, short=trained)))


def anomalies_beside_known(signal: BaseSignal) -> Records:
    """Look for anomalies where the strongest one found before, or else a corner, counts as normal."""
    found = signal.anomaly_map(**options(signal, trained=False, short=False))
    known = found.spectra.inav[0] if found.spectra is not None else signal.inav[:3, :3].mean()
    return anomalies(signal, known=known)


def anomalies_by_model(signal: BaseSignal, other: BaseSignal) -> Records:
    """Look for anomalies of a map with the model of another one."""
    model = other.decomposition_ae(3, architecture="pca", **options(other)).model
    return of_anomalies(signal.anomaly_map(model=model, show_progressbar=False))


def of_anomalies(found: Any) -> Records:
    """Return the numbers of a result of ``s.anomaly_map()``."""
    signals = {
        "score": found.score,
        "p-value": found.p_value,
        "energy": found.energy,
        "detections": found.detections,
        "region spectra": found.spectra,
        "region residuals": found.residuals,
    }
    records = of_signals(signals) | {"number of regions": numbers(len(found.regions))}
    records |= pick([region.to_dict() for region in found.regions], REGIONS) | pick(found.spikes, SPIKES)
    report = found.report
    network = report.candidates[0] if report.candidates else None
    better = None if network is None else network.difference < -2 * network.standard_error
    of_network = pick(network, NETWORK) | {"autoencoder better": numbers(better)}
    return records | within("report", pick(report, ANOMALY_REPORT) | of_network)


def cases(name: str, signal: BaseSignal, other: BaseSignal) -> Iterator[Case]:
    """Yield the name of each case of a map and what runs it."""
    for kind, k in (("dense", 4), ("simplex", 3), ("pca", 4)):
        call = partial(decomposition, signal, other, k=k, architecture=kind)
        yield f"decomposition {kind}", call
    yield "denoising auto", partial(denoising, signal, other)
    yield "denoising spectral", partial(denoising, signal, context="spectral")
    yield "denoising spatial", partial(denoising, signal, context="spatial")
    yield "denoising protect", partial(denoising, signal, protect=True)
    yield "anomalies", partial(anomalies, signal)
    yield "anomalies known", partial(anomalies_beside_known, signal)
    yield "anomalies model", partial(anomalies_by_model, signal, other)
    yield "anomalies rx", partial(anomalies, signal, statistic="rx", threshold=20.0)
    yield "anomalies dense", partial(anomalies, signal, architecture="dense")
    if name == "Fe-L":
        yield from _of_edges(signal, other)
    if name == "alloy" and not signal._lazy:
        some = signal.inav[:18, :14].deepcopy()
        for kind in ("dense", "simplex", "pca"):
            call = partial(decomposition, some, other, k=None, architecture=kind)
            yield f"decomposition {kind} number chosen", call
    if name == "alloy" and signal._lazy:
        wide = specml.datasets.fe_cr_ni_map((52, 58), n_channels=48, dose=100.0, lazy=True).signal
        yield "denoising boxes", partial(denoising, wide)  # more than one box, which `options` makes small
    if name == "grains":
        yield from _masked(signal, other)


def _of_edges(signal: BaseSignal, other: BaseSignal) -> Iterator[Case]:
    """Yield cases with shifts along energy, a library of spectra, and a model in other channels."""
    call = partial(decomposition, signal, other, k=3, architecture="simplex", energy_shift=True)
    yield "decomposition simplex energy shift", call
    n_channels = signal.data.shape[-1]
    library = specml.datasets.fe_l_library(200, n_channels=n_channels)
    yield "denoising library", partial(library_denoising, signal, library)
    finer = specml.datasets.fe_l_map((9, 11), n_channels=n_channels * 5 // 4, random_state=2).signal
    yield "decomposition other channels", partial(decomposition, signal, finer, k=4, architecture="dense")


def _masked(signal: BaseSignal, other: BaseSignal) -> Iterator[Case]:
    pixels = np.zeros(signal.data.shape[:-1], bool)
    pixels[2:7, 11:15] = True
    masks = {"navigation_mask": pixels, "signal_mask": np.arange(signal.data.shape[-1]) > 140}
    call = partial(decomposition, signal, other, k=3, architecture="dense", **masks)
    yield "decomposition masked", call
    yield "denoising masked", partial(denoising, signal, **masks)
    yield "anomalies masked", partial(anomalies, signal, **masks)


def run_case(call: Callable[[], Records]) -> Records:
    """Run a case; what the package warns of is recorded by the names of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = call()
    named = {w.category.__name__ for w in caught if w.category.__module__.startswith("hyperspy_specml")}
    named = {_WARNINGS.get(name, name) for name in named}
    return records | {"warnings": numbers(sorted(named))}
