"""A picture of the latent space: two coordinates for each pixel, as a native signal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.latent import VIEW_METHODS, umap_coordinates
from hyperspy_specml.models import new_figure
from hyperspy_specml.results._figures import phase_colour
from hyperspy_specml.signals import score_maps

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Expected share of the second phase from which a pixel is marked as a bridge between two.
_BRIDGE = 0.25
_LEAST_INTENSITY = 0.05  # of the median one: scores of spectra that are nearly empty are noise
_FEWEST_CELLS, _CELLS = 12, 80  # of the density, along each side
_SMOOTHED, _MARGIN = 1.0, 3  # cells: standard deviation of the blur below outlines of phases, and where these close


def dose_free(scores: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    """Return (n, K) scores for one intensity, along the directions in which they vary most; NaN where there is none.

    Parameters
    ----------
    scores
        (n, K) scores that grow with the intensity.
    intensity
        (n,) expected sums of the spectra.
    """
    with np.errstate(invalid="ignore"):
        fine = np.isfinite(scores).all(axis=1) & (intensity > _LEAST_INTENSITY * np.nanmedian(intensity))
    free = scores[fine].astype(np.float64) / intensity[fine, None]
    free -= np.average(free, axis=0, weights=intensity[fine])
    _, axes = np.linalg.eigh((free * intensity[fine, None]).T @ free)
    found = np.full(scores.shape, np.nan, np.float32)
    found[fine] = free @ axes[:, ::-1]
    return found


@dataclass(frozen=True, eq=False)
class LatentView:
    """Two coordinates for each pixel.

    Attributes
    ----------
    coordinates
        Maps (2 | scan axes); NaN where a pixel was not used.
    labels
        Int map of phases that colours the picture; None without phases.
    bridges, outliers
        Bool maps: pixels that mix two phases, by their expected shares; pixels that are none of the known phases.
        None without phases.
    method
        "scores" or "umap".
    names
        Of the phases.
    """

    coordinates: BaseSignal
    labels: BaseSignal | None
    bridges: BaseSignal | None
    outliers: BaseSignal | None
    method: str
    names: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls, template: BaseSignal, scores: np.ndarray, *, method: str, seed: int, most: int,
        names: tuple[str, ...] = (), mixed: BaseSignal | None = None,
    ) -> LatentView:  # fmt: skip
        """Make the view of (n, P) scores.

        Parameters
        ----------
        template
            Map of the same pixels; with `mixed`, that of the labels of phases.
        scores
            Without the dose; NaN where a pixel was not used.
        method, seed, most
            How two coordinates are made of them, the seed, and the pixels that UMAP is fitted to at most.
        names, mixed
            Names of the phases, and the map of the second largest shares.

        Raises
        ------
        OptionError
            Unknown method, or umap-learn is not installed.
        """
        if method not in VIEW_METHODS:
            raise OptionError.unknown("method", method, VIEW_METHODS)
        fine = np.isfinite(scores).all(axis=1)
        found = np.full((len(scores), 2), np.nan, np.float32)
        if method == "umap":
            found[fine] = umap_coordinates(scores[fine], seed=seed, most=most)
        else:
            found[:, : min(2, scores.shape[1])] = scores[:, :2]
            found[fine] = np.nan_to_num(found[fine])
        title = template.metadata.General.title
        maps = score_maps(template, found.reshape(*template.data.shape, 2), title=f"Latent view of {title}")
        if mixed is None:
            return cls(maps, None, None, None, method)
        bridges, outliers = mixed.deepcopy(), template.deepcopy()
        bridges.data, outliers.data = mixed.data > _BRIDGE, template.data == -2
        bridges.metadata.General.title, outliers.metadata.General.title = "Mixed pixels", "None of the phases"
        return cls(maps, template, bridges, outliers, method, names)

    def plot(self, figure: Figure | SubFigure | None = None, *, axes: Axes | None = None) -> Figure | SubFigure:
        """Plot the density of pixels, and in the colours of the phases where each of them has most of its pixels.

        Parameters
        ----------
        figure, axes
            Empty matplotlib figure or subfigure, or the axes, to plot into; by default a new figure of pyplot.

        Returns
        -------
        the figure
        """
        if axes is None:
            axes = (figure or new_figure(6.4, 4.6)).subplots()
        x, y = self.coordinates.data.reshape(2, -1)
        fine = np.isfinite(x) & np.isfinite(y)
        limits = [np.percentile(values[fine], (0.2, 99.8)) if fine.any() else np.array([0.0, 1.0]) for values in (x, y)]
        spans = [(low - 0.05 * (high - low + 1e-9), high + 0.05 * (high - low + 1e-9)) for low, high in limits]
        n_cells = int(np.clip(np.sqrt(fine.sum()), _FEWEST_CELLS, _CELLS))
        density, across, up = np.histogram2d(x[fine], y[fine], bins=n_cells, range=spans)
        axes.pcolormesh(across, up, np.log1p(density).T, cmap="Greys")
        if self.labels is not None and self.bridges is not None and self.outliers is not None:
            labels = self.labels.data.reshape(-1)
            for k, name in enumerate(self.names):
                some = fine & (labels == k)
                part = np.histogram2d(x[some], y[some], bins=n_cells, range=spans)[0]
                if part.max() > 1:
                    part = gaussian_filter(np.pad(part, _MARGIN), _SMOOTHED)
                    inside = np.arange(-_MARGIN, n_cells + _MARGIN) + 0.5
                    centres = [edges[0] + inside * (edges[1] - edges[0]) for edges in (across, up)]
                    axes.contour(*centres, part.T, levels=[0.3 * part.max()], colors=phase_colour(k), linewidths=1.2)
                axes.plot([], [], color=phase_colour(k), label=name)
            for marked, marker, name in ((self.bridges, ".", "mixed"), (self.outliers, "x", "none of these")):
                some = fine & marked.data.reshape(-1)
                if some.any():
                    axes.plot(x[some], y[some], marker, color="k", markersize=2.5, alpha=0.5, label=name)
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        what = "UMAP" if self.method == "umap" else "score"
        axes.set(xlabel=f"{what} 0", ylabel=f"{what} 1", xlim=spans[0], ylim=spans[1])
        axes.set_title(self.coordinates.metadata.General.title, fontsize="small", wrap=True)
        return axes.figure
