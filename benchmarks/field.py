"""The three methods with no arguments on every measured map, in memory and lazy: what they choose, find and cost.

Each map is read and analysed in a process of its own; an error of a method stands in the table with its name. "Left"
are the features that the denoised signal has lost, of those that noise cannot explain; "restored" are put back into
it. "Pixels" is the share of the pixels that lie in a region, and how the reference model was learnt where that is
large; the regions are printed above the row. The iron particle of `bare_core` is checked by the counts that the
denoised map holds in its 5 x 5 pixels, within 0.3 keV about the Fe Ka line.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._harness import Contender, Run, megabytes, run_contender
from benchmarks._maps import FOLDER
from benchmarks._records import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

MAPS = {
    "88_ES-LP": "espm/88_ES-LP_G8_selection2_cropped2.hspy",
    "dev_particles": "espm-generated/dev_particles_N200_seed91.hspy",
    "bare_core": "usnist-tutorial/bare_core.hspy",
    "tilt_0": "openncem/tilt_0.bcf",
    "tilt_10": "openncem/tilt_10.bcf",
    "Velox": "hyperspy-1.7.6/fei_SI_SuperX-HAADF_10frames_10x50.emd",
    "JEOL": "hyperspy-1.7.6/JEOL_Sample/00_View000/View000_0000006.pts",
    "bcf_v2": "rosettasciio/bcf_v2_50x50px.bcf",
    "test_TEM": "rosettasciio/test_TEM.bcf",
    "mn3o4": "motokishiga/mn3o4_f2.hspy",
    "BTO": "pangroup/Example_BTO_deleted.dm4",
    "oxide interface": "eels-unmix/oxide_interface_d1000.hspy",
    "nanoparticles": "lumispy/nanoparticles.hspy",
    "asymmetric peak": "lumispy/asymmetric_peak_map.hspy",
    "streamline": "rosettasciio/renishaw_test_streamline.wdf",
    "MonoCL": "rosettasciio/test-MonoCL_spectrum-SI.dm4",
    "THP1": "ramanspy/THP1_map_001_L5.hspy",
    "FTIR": "labelled/ftir_collagen.hspy",
}
_LARGE = ("JEOL",)  # files that grow in memory, and are read lazily only
METHODS = ("decomposition_ae", "denoise_dae", "anomaly_map")
_HEAD = ["map", "read", "noise", "K dense", "K PCA", "left", "restored", "particle", "regions", "pixels", "elements",
         "s, decomposition", "s, denoising", "s, anomalies", "peak"]  # fmt: skip
_FLOOD = 0.03  # share of the pixels in regions above which a map is said to be flooded
_WITH_PARTICLE = "Bare core"  # title of the map with an iron particle
_PARTICLE = (7.0, 36.5)  # nm (x, y)
_FE_KA = (6.25, 6.55)  # keV


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--maps", nargs="+", default=[*MAPS], choices=[*MAPS], help="which (all)")
    parser.add_argument("--reading", nargs="+", default=["eager", "lazy"], choices=["eager", "lazy"], help="how (both)")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="which (all)")


def run(options: argparse.Namespace) -> Iterator[tuple[str, list[Table]]]:
    """Analyse map by map."""
    for name in options.maps:
        if not (FOLDER / MAPS[name]).is_file():
            print(f"{name} is left out: the folder of measured maps has no {MAPS[name]} (set SPECML_DATA to it)")
            continue
        rows = []
        for reading in options.reading if name not in _LARGE else ["lazy"]:
            asked = {"name": name, "lazy": reading == "lazy", "methods": [*options.methods]}
            done = run_contender(Contender(name, "benchmarks.field:analyse", asked))
            rows.append([name, reading, *_cells(done)])
            print(*[found["text"] for found in done.facts.values() if "text" in found], flush=True)
        yield "", [Table("measured maps", "no arguments; seconds of each call", _HEAD, rows, keys=2)]  # saved at once


def analyse(name: str, lazy: bool, methods: list[str]) -> Callable[[], dict[str, Any]]:
    """Prepare the methods on a map."""
    import hyperspy.api as hs

    warnings.simplefilter("ignore")
    loaded: Any
    try:
        loaded = hs.load(FOLDER / MAPS[name], lazy=lazy)
    except NotImplementedError:  # some formats have no lazy reader
        loaded = hs.load(FOLDER / MAPS[name])
    signals = loaded if isinstance(loaded, list) else [loaded]
    signal = next(
        one for one in signals if one.axes_manager.signal_dimension == 1 and one.axes_manager.navigation_dimension
    )
    return partial(_analyse, signal.as_lazy() if lazy and not signal._lazy else signal, methods)


def _analyse(signal: Any, methods: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for method in methods:
        start = time.perf_counter()
        try:
            found = _FACTS[method](signal)
        except Exception as error:  # the benchmark shows it and goes on
            found = {"error": f"{method}: {type(error).__name__}: {str(error).splitlines()[0][:90]}"}
        facts[method] = found | {"seconds": time.perf_counter() - start}
    return facts


def _decomposed(signal: Any) -> dict[str, Any]:
    report = signal.decomposition_ae(show_progressbar=False).report
    dense, pca = report.n_components, report.baseline_rank.chosen
    return {"noise": report.noise_model["name"], "dense": dense, "pca": pca}


def _denoised(signal: Any) -> dict[str, Any]:
    import hyperspy_specml as specml

    clean = signal.denoise_dae(show_progressbar=False)
    report = specml.denoise_report(clean)
    n_removed = len(report.removed)
    found: dict[str, Any] = {
        "left": 0 if report.restored else n_removed,
        "restored": n_removed if report.restored else 0,
    }
    if signal.metadata.General.title == _WITH_PARTICLE:
        found["particle"] = [_particle(signal), _particle(clean)]
    return found


def _particle(signal: Any) -> float:
    """Return the counts in the window of Fe Ka in the 5 x 5 pixels of the particle."""
    x, y = (axis.value2index(where) for axis, where in zip(signal.axes_manager.navigation_axes, _PARTICLE, strict=True))
    part = signal.inav[x - 2 : x + 3, y - 2 : y + 3].isig[_FE_KA[0] : _FE_KA[1]]
    return float(part.data.sum())


def _anomalies(signal: Any) -> dict[str, Any]:
    found = signal.anomaly_map(show_progressbar=False)
    elements = dict.fromkeys(region.candidates[0].element for region in found.regions if region.candidates)
    share, left_out = float(found.detections.data.mean()), found.report.patches_left_out
    return {
        "text": f"\n{found}\n",
        "regions": len(found.regions),
        "elements": ", ".join(elements) or "-",
        "share": share,
        "reason": f"{found.report.n_components} components, without {left_out} patches" if share > _FLOOD else "",
    }


_FACTS = {"decomposition_ae": _decomposed, "denoise_dae": _denoised, "anomaly_map": _anomalies}


def _cells(run: Run) -> list[str]:
    merged = {key: value for found in run.facts.values() for key, value in found.items()}
    particle = " of ".join(f"{counts:.1f}" for counts in reversed(merged.get("particle", []))) or "-"
    share = merged.get("share")
    pixels = (
        "-" if share is None else f"{100 * share:.2f} %" + (f" (flood: {merged['reason']})" if merged["reason"] else "")
    )
    errors = [found["error"] for found in run.facts.values() if "error" in found]
    seconds = [f"{run.facts[m]['seconds']:.1f}" if m in run.facts else "-" for m in METHODS]
    numbers = [str(merged.get(key, "-")) for key in ("noise", "dense", "pca", "left", "restored")]
    elements = "; ".join(filter(None, [merged.get("elements", ""), *errors])) or "-"
    return [*numbers, particle, str(merged.get("regions", "-")), pixels, elements, *seconds, megabytes(run.peak)]
