"""The tool of ``result.explore()``: scores and map side by side, a selection on either shows on the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import traits.api as t
from matplotlib.widgets import LassoSelector

from hyperspy_specml.gui._guard import with_gui
from hyperspy_specml.gui._tool import SAME, Action, Control, RunTool
from hyperspy_specml.results import amount, draw_map, draw_overlay, draw_spectra
from hyperspy_specml.signals import component_spectra, navigation_map, spectra_of
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy.signal import BaseSignal
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hyperspy_specml.progress import Progress

# Bins along each axis of the density plot at most, and selected pixels that are drawn as points, at most.
_BINS, _POINTS = 120, 4000


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return which points lie in a polygon, by the parity of the edges to their right.

    Each edge looks only at the points between its ends, so the time grows with the number of crossings, not with
    points times edges.

    Parameters
    ----------
    polygon
        (m, 2) corners; the last one is joined with the first.
    points
        (n, 2); what is not finite is outside.

    Returns
    -------
    (n,) bool
    """
    found = np.zeros(len(points), bool)
    order = np.argsort(points[:, 1], kind="stable")
    order = order[np.isfinite(points[order]).all(axis=1)]
    x, y = points[order].T
    odd = np.zeros(len(order), bool)
    ends = np.roll(polygon, -1, axis=0)
    low, high = np.minimum(polygon[:, 1], ends[:, 1]), np.maximum(polygon[:, 1], ends[:, 1])
    starts, stops = np.searchsorted(y, low), np.searchsorted(y, high)
    for i in np.flatnonzero(stops > starts):
        rows, (x0, y0), (x1, y1) = slice(starts[i], stops[i]), polygon[i], ends[i]
        odd[rows] ^= x[rows] < x0 + (y[rows] - y0) * ((x1 - x0) / (y1 - y0))
    found[order] = odd
    return found


@with_gui("hyperspy_specml.LatentExplorer")
class LatentExplorer(RunTool):
    """Look at scores and their map together; select pixels on either by a lasso.

    Parameters
    ----------
    signal
        Whose spectra are summed over the selection.
    scores
        Maps (K | scan axes) of the same pixels, such as ``dec.scores``.

    Attributes
    ----------
    x, y
        The scores of the density plot; the map is that of `x`.
    selected
        (n_pixels,) bool, in array order.
    result
        (2, E) sums of the spectra: of the selection and of the rest.
    phases, labels, known, mask
        What the buttons saved: summed spectra (phases | E), int map, mean spectra (n | E), bool map; None before.
    """

    title = "Latent explorer"
    controls = (Control("x", "across", most="last_score"), Control("y", "upwards", most="last_score"))
    actions = (
        Action("clear", "Clear", "Select nothing"),
        Action("save_phase", "Save as phase", "Keep its summed spectrum in .phases, its pixels in .labels", "some"),
        Action("save_label", "Save as label", "Number its pixels in .labels, for phase_map(labels=...)", "some"),
        Action("save_known", "Save as known spectrum", "Keep its mean in .known, for anomaly_map(known=...)", "some"),
        Action("save_mask", "Save as mask", "Keep its pixels in .mask, for navigation_mask=...", "some"),
        RunTool.actions[-1],
    )

    x = t.Int(0)
    y = t.Int(0)
    last_score = t.Int(0)
    some = t.Bool(False)
    phases = t.Any(comparison_mode=SAME)
    labels = t.Any(comparison_mode=SAME)
    known = t.Any(comparison_mode=SAME)
    mask = t.Any(comparison_mode=SAME)

    def __init__(self, signal: BaseSignal, scores: BaseSignal) -> None:
        super().__init__(signal)
        self.maps = np.asarray(scores.data, np.float64)  # (K, *navigation)
        self.scan_axes = scores.axes_manager.signal_axes
        self.selected = np.zeros(self.maps[0].size, bool)
        self.last_score, self.y = len(self.maps) - 1, min(1, len(self.maps) - 1)
        self._summed = self.selected
        self._lassos: list[LassoSelector] = []
        self._marks: list[Any] = []  # of the selection, in the overlay
        self.observe(lambda event: self.draw(), "x, y")
        self.draw()

    def __repr__(self) -> str:
        """Say how to go on from here."""
        return f"<LatentExplorer of {self.name}; .phases, .labels, .known and .mask are what its buttons saved>"

    # What is selected.

    def select_scores(self, polygon: np.ndarray) -> None:
        """Select the pixels whose scores lie in a polygon (m, 2) of the density plot."""
        self.select(inside(np.asarray(polygon, float), self._points()))

    def select_map(self, polygon: np.ndarray) -> None:
        """Select the pixels whose centres lie in a polygon (m, 2) on the map, in units of the scan axes."""
        self.select(inside(np.asarray(polygon, float), self._places()))

    def select(self, selected: np.ndarray) -> None:
        """Select pixels and show them at once; the spectra are summed in the worker."""
        usable = np.isfinite(self.maps).all(axis=0).reshape(-1)
        self.selected = np.asarray(selected, bool) & usable
        self.some = bool(self.selected.any())
        with self.drawing(over=True):
            self._show_selection()
        n = int(self.selected.sum())
        self.summary = f"{n} of {self.selected.size} pixels selected"
        if self.some:
            self.start(self.compute)

    def clear(self) -> None:
        """Select nothing."""
        self.select(np.zeros_like(self.selected))
        self.show_result()

    def _points(self) -> np.ndarray:
        return np.stack([self.maps[self.x].reshape(-1), self.maps[self.y].reshape(-1)], axis=1)

    def _places(self) -> np.ndarray:
        """Return the (n, 2) centres of the pixels along the two fastest scan axes; of a line, with the score."""
        grids = np.meshgrid(*(axis.axis for axis in self.scan_axes[::-1]), indexing="ij")
        along = grids[-2] if len(grids) > 1 else self.maps[self.x]
        return np.stack([grids[-1].reshape(-1), along.reshape(-1)], axis=1)

    # Its spectra.

    def compute(self, snapshot: BaseSignal, progress: Progress) -> np.ndarray:
        """Return the (2, E) sums of the selected spectra and of the others."""
        selected = self._summed = self.selected
        stream = SpectrumStream(spectra_of(snapshot, method="explore").array, progress=progress)
        usable = np.isfinite(self.maps).all(axis=0).reshape(-1)
        return stream.fold(partial(_sums, selected, usable & ~selected), np.add, label="Sum spectra")

    def show_result(self) -> None:
        """Draw the spectra."""
        with self.drawing():
            self.fill_spectra()

    def finished(self) -> None:
        """Sum the spectra of a selection that came meanwhile."""
        if self.some and self._summed is not self.selected:
            self.start(self.compute)

    def fill_spectra(self) -> None:
        """Draw the mean spectra of the selection and of the rest."""
        axes = self._spectra
        axes.clear()
        if self.result is None or not self.some:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "Draw a lasso round points of the density or of the map", ha="center")
            return
        axes.set_axis_on()
        n, others = int(self.selected.sum()), int((~self.selected).sum())
        means = self.result / np.maximum([[n], [others]], 1)
        shown = {f"selection, {n} pixels": means[0], f"rest, {others} pixels": means[1]}
        draw_spectra(axes, self.signal, shown, label=f"{amount(self.signal)} per pixel")

    # What is shown.

    def fill(self, figure: Figure) -> None:
        """Draw density plot, map and spectra."""
        panels = figure.subplot_mosaic([["density", "map"], ["spectra", "spectra"]], height_ratios=[1.4, 1])
        self._density, chart, self._spectra = panels["density"], panels["map"], panels["spectra"]
        points = self._points()
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            density, *edges = np.histogram2d(points[:, 0], points[:, 1], bins=min(_BINS, int(np.sqrt(len(points)))))
            self._density.pcolormesh(*edges, np.log1p(density.T), cmap="Greys", rasterized=True)
        self._density.set(xlabel=f"score of component {self.x}", ylabel=f"score of component {self.y}")
        draw_map(chart, self.maps[self.x], self.scan_axes, label=f"score of component {self.x}")
        self._maps = [chart]
        self._marks = []
        self._lassos = [self._lasso(self._density, self.select_scores), self._lasso(chart, self.select_map)]
        self._show_selection()
        self.mark_pixel()
        self.fill_spectra()

    def _lasso(self, axes: Axes, select: Any) -> LassoSelector:
        lasso = LassoSelector(
            axes, lambda corners: self._lassoed(select, corners), useblit=False, props={"color": "C3"}
        )
        self._put_over(lasso.artists)
        return lasso

    def _lassoed(self, select: Any, corners: list[tuple[float, float]]) -> None:
        if len(corners) > 2:  # else it was a click
            select(np.array(corners))

    def _show_selection(self) -> None:
        for old in self._marks:
            old.remove()
            self.overlay.artists.remove(old)
        self._marks, (chart,) = [], self._maps
        rows = np.flatnonzero(self.selected)
        if not len(rows):
            return
        some = rows[:: -(-len(rows) // _POINTS)]
        self._marks += self._density.plot(*self._points()[some].T, ".", color="C3", markersize=2)
        if len(self.scan_axes) > 1:
            self._marks.append(draw_overlay(chart, self.selected.reshape(self.maps[0].shape)))
        else:
            self._marks += chart.plot(*self._places()[some].T, ".", color="C3", markersize=3)
        self._put_over(self._marks)

    def _put_over(self, artists: Sequence[Artist]) -> None:
        """Draw artists over the figure, which need not be drawn again when they change."""
        for artist in artists:
            artist.set_animated(True)
        self.overlay.artists += artists

    # What is kept.

    def save_label(self) -> None:
        """Give the selected pixels the next number from 0 on the map of labels; -1 is what has none."""
        labels = np.full(self.maps[0].shape, -1) if self.labels is None else self.labels.data.copy()
        labels.reshape(-1)[self.selected] = number = int(labels.max()) + 1
        self.labels = navigation_map(self.signal, labels, title=f"Labels of {self.name}")
        pixels = f"{int(self.selected.sum())} pixels"
        self.message = f"Label {number} in .labels: {pixels}. s.phase_map(labels=tool.labels) takes it as a phase."

    def save_phase(self) -> None:
        """Keep the summed spectrum of the selection, and number its pixels."""
        self.save_label()
        self.phases = self._kept(self.phases, self._sum(), "Summed spectra of selections")
        self.message = f"Phase {self.phases.data.shape[0] - 1} in .phases. {self.message}"

    def save_known(self) -> None:
        """Keep the mean spectrum of the selection."""
        mean = self._sum() / self.selected.sum()
        self.known = self._kept(self.known, mean, "Mean spectra of selections")
        self.message = f"Spectrum {self.known.data.shape[0] - 1} in .known: s.anomaly_map(known=tool.known)."

    def save_mask(self) -> None:
        """Keep the selection as a mask, True = selected."""
        shown = self.selected.reshape(self.maps[0].shape)
        self.mask = navigation_map(self.signal, shown, title=f"Selection of {self.name}")
        self.message = "The selection is .mask: navigation_mask=tool.mask leaves these pixels out."

    def _sum(self) -> np.ndarray:
        self.wait()
        return self.result[0]

    def _kept(self, before: BaseSignal | None, spectrum: np.ndarray, title: str) -> BaseSignal:
        rows = spectrum[None] if before is None else np.concatenate([before.data, spectrum[None]])
        return component_spectra(self.signal, rows, title=f"{title} of {self.name}")


def _sums(selected: np.ndarray, rest: np.ndarray, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the (2, E) sums of the selected spectra of a block and of the rest."""
    return np.stack([rows[mask[pixels]].sum(axis=0, dtype=np.float64) for mask in (selected, rest)])
