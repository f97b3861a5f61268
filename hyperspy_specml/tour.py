"""All methods on one map, and the page that shows what they say: ``python -m hyperspy_specml map.dm4 --all``."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.results import denoise_report, draw_anomalies, draw_map, draw_phase_map
from hyperspy_specml.signals import energy_axis, spectral_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.results import AnomalyResult, DecompositionResult, PhaseResult

FILES = {
    "report.html": "the page: open it in a browser",
    "overview.png": "counts, denoised counts, phases and anomalies side by side",
    "decomposition.png": "score maps above component spectra",
    "denoising.png": "what the candidates scored",
    "anomalies.png": "score map, and spectra of the strongest regions",
    "phases.png": "map of phases, and their spectra",
    "decomposition.hspy": "the decomposition: specml.load_result reads it",
    "denoised.hspy": "the denoised signal",
    "anomalies.hspy": "the anomaly map: specml.load_result reads it",
    "phases.hspy": "the phase map: specml.load_result reads it",
}
# Part of the largest variance, in units of the mean, down to which channels belong to the line that is shown.
_FLANK = 0.3

_STYLE = """body {font: 16px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222}
img {max-width: 100%} table {border-collapse: collapse; font-size: 90%} td, th {padding: .15em .6em; text-align: left}
pre {overflow-x: auto; background: #f4f4f4; padding: .6em} section {overflow-x: auto}"""


@dataclass(frozen=True)
class Section:
    """One method on the page.

    Attributes
    ----------
    title, call
        What it is, and what a user types for it.
    figure
        Name of its picture.
    body
        HTML of its result.
    """

    title: str
    call: str
    figure: str
    body: str


def tour(
    signal: BaseSignal, dec: DecompositionResult, folder: Path, *, save_denoised: bool, show_progressbar: bool
) -> Iterator[tuple[str, Any]]:
    """Run the other three methods, write all results and the page, and yield each as it is there.

    Parameters
    ----------
    signal, dec
        The map and its decomposition.
    folder
        Where files are written, those of `FILES`.
    save_denoised
        Whether the denoised signal, as large as the map, is one of them.
    show_progressbar
        Whether the methods show theirs.

    Yields
    ------
    title and result of each method
    """
    call = f"dec = s.decomposition_ae({dec.report.n_components})"
    parts = [_kept(dec, dec.plot, "decomposition", "Decomposition", call, folder)]
    yield parts[-1].title, dec
    clean = signal.denoise_dae(show_progressbar=show_progressbar)
    report = denoise_report(clean)
    if save_denoised:
        clean.save(folder / "denoised.hspy", overwrite=True)
    _save(report.plot(), folder / "denoising.png")
    body = report._repr_html_()
    parts.append(Section("Denoising", "clean = s.denoise_dae()", "denoising.png", body))
    yield parts[-1].title, report
    found = signal.anomaly_map(show_progressbar=show_progressbar)
    parts.append(_kept(found, found.plot, "anomalies", "Anomalies", "found = s.anomaly_map()", folder))
    yield parts[-1].title, found
    phases = signal.phase_map(show_progressbar=show_progressbar)
    parts.append(_kept(phases, phases.plot, "phases", "Phases", "phases = s.phase_map()", folder))
    yield parts[-1].title, phases
    _save(overview(signal, dec, clean, phases, found), folder / "overview.png")
    (folder / "report.html").write_text(_page(signal, parts), encoding="utf-8")


def overview(
    signal: BaseSignal, dec: DecompositionResult, clean: BaseSignal, phases: PhaseResult, found: AnomalyResult
) -> Figure:
    """Draw a map in the line that varies most, as counted and denoised, with its phases and anomalies.

    Parameters
    ----------
    signal, clean
        Before and after denoising.
    dec
        Its decomposition, which says what varies.
    phases, found
        Its phases and anomalies.
    """
    from matplotlib.figure import Figure

    scan = signal.axes_manager.navigation_axes
    window, name = line_that_varies(signal, dec)
    raw, smooth = (np.asarray(s.isig[window].data.sum(axis=-1)) for s in (signal, clean))
    figure = Figure(figsize=(14, 3.1), layout="constrained")
    axes = figure.subplots(1, 4)
    for panel, values, title in zip(axes, (raw, smooth), ("as recorded", "denoised"), strict=False):
        draw_map(panel, values, scan, label=name, like=smooth)
        panel.set_title(title)
    draw_phase_map(axes[2], phases.labels, phases.names)
    axes[2].set_title("phases")
    named = {r.candidates[0].element if r.candidates else f"{r.energy:.4g}": r.position for r in found.regions[::-1]}
    draw_anomalies(axes[3], found.score, found.detections, named)
    axes[3].set_title("what the map does not explain")
    return figure


def line_that_varies(signal: BaseSignal, dec: DecompositionResult) -> tuple[slice, str]:
    """Return the channels of the line that varies most beside its noise, and its name.

    Parameters
    ----------
    signal
        The map.
    dec
        A decomposition of it.
    """
    pca = dec.baseline or dec
    scores = np.asarray(pca.scores.data, float).reshape(len(pca.scores.data), -1)
    scores = scores[:, np.isfinite(scores).all(axis=0)]
    components = np.nan_to_num(np.asarray(pca.components.data, float))
    variance = np.einsum("ke,kl,le->e", components, np.atleast_2d(np.cov(scores)), components)
    mean = np.abs(scores.mean(axis=1) @ components)
    shown = np.convolve(variance / np.maximum(mean, 0.01 * max(mean.mean(), 1e-30)), np.ones(3) / 3, mode="same")
    top = int(shown.argmax())
    low = top - int(np.argmax(np.append(shown[top::-1] < _FLANK * shown[top], True))) + 1
    high = top + int(np.argmax(np.append(shown[top:] < _FLANK * shown[top], True)))
    axis = energy_axis(signal)
    energies = np.asarray(axis.axis)[low:high]
    listed = set(signal.metadata.get_item("Sample.elements", ()))
    within = [e for e in spectral_lines(signal) if e.element in listed and energies[0] <= e.energy <= energies[-1]]
    strongest = max(within, key=lambda e: e.weight, default=None)
    what = f"{strongest.element} {strongest.name}" if strongest else f"{energies.mean():.4g} {axis.units}"
    return slice(low, high), f"counts, {what}"


def _kept(result: Any, plot: Callable[[], Figure], name: str, title: str, call: str, folder: Path) -> Section:
    """Save a result and its picture, and return its section."""
    result.save(folder / f"{name}.hspy", overwrite=True)
    _save(plot(), folder / f"{name}.png")
    return Section(title, call, f"{name}.png", result._repr_html_())


def _save(figure: Figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=100)
    plt.close("all")


def _page(signal: BaseSignal, parts: list[Section]) -> str:
    title = html.escape(signal.metadata.get_item("General.title", "") or "Spectrum image")
    sections = "\n".join(
        f"<section><h2>{part.title}</h2><pre>{html.escape(part.call)}</pre>"
        f"<img src='{part.figure}' alt='{part.title}'/>{part.body}</section>"
        for part in parts
    )
    return (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'/><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'/><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{html.escape(repr(signal))}</p><img src='overview.png' alt='Overview'/>\n{sections}</body></html>\n"
    )
