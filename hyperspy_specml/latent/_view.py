"""Two coordinates for each pixel, to be looked at: scores without the dose, or UMAP of them.

References
----------
L. McInnes, J. Healy, J. Melville, "UMAP: Uniform manifold approximation and projection for dimension reduction",
arXiv:1802.03426 (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._table import group

if TYPE_CHECKING:
    from hyperspy_specml.latent._table import Recipe

# Directions that are kept, and spectra that they are found from, at most.
DIRECTIONS = 8
_MOST_ROWS = 2048
VIEW_METHODS = ("scores", "umap")


@dataclass(frozen=True, eq=False)
class ViewAxes:
    """Directions in which spectra of one intensity differ most. G groups of channels.

    Attributes
    ----------
    projector
        (G, P) from values to scores.
    mean
        (G,) mean spectrum as values of the law.
    counts
        Whether values are counts.
    """

    projector: np.ndarray
    mean: np.ndarray
    counts: bool

    def coordinates(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the (n, P) scores of (n, G) values for the mean intensity, and the (n,) intensities."""
        if self.counts:
            unit, intensity = self.mean / self.mean.sum(), values.sum(axis=1)
            typical = self.mean.sum()
        else:
            typical = float(np.linalg.norm(self.mean))
            unit = self.mean / max(typical, 1e-30)
            intensity = values @ unit.astype(np.float32)
        safe = np.where(np.abs(intensity) > 1e-30, intensity, 1.0)[:, None]
        scores = values @ self.projector.astype(np.float32) / safe - (unit @ self.projector).astype(np.float32)
        return (scores * np.sqrt(max(typical, 1e-30)) if self.counts else scores * typical), intensity


def find_view(values: np.ndarray, used: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return the (P, E) differences of spectra along which pixels differ most, whatever their intensity.

    Parameters
    ----------
    values, used
        (n, G) spectra, and (n,) bool which of them to look at.
    recipe
        How spectra became values.
    """
    some = np.flatnonzero(used)
    some = some[:: -(-len(some) // _MOST_ROWS)]
    rows = values[some].astype(np.float64)
    mean = np.maximum(rows.mean(axis=0), 1e-12 * np.abs(rows).mean()) if recipe.deviation is None else rows.mean(axis=0)
    if isinstance(recipe.law, MultinomialLaw):
        total = rows.sum(axis=1, keepdims=True)
        rest = (rows - total * mean / mean.sum()) / np.sqrt(np.maximum(total, 1e-30) * mean / mean.sum())
        scale = np.sqrt(mean / mean.sum())
    else:
        unit = mean / max(float(np.linalg.norm(mean)), 1e-30)
        rest = rows - (rows @ unit)[:, None] * unit
        scale = np.asarray(recipe.deviation)
    _, vectors = np.linalg.eigh(rest.T @ rest)
    axes = vectors[:, ::-1][:, :DIRECTIONS].T * scale
    n_channels = int(recipe.channels.sum())
    sizes = np.diff(np.append(np.arange(0, n_channels, recipe.width), n_channels))
    return np.repeat(axes / sizes, sizes, axis=1)


def view_axes(view: np.ndarray, recipe: Recipe) -> ViewAxes:
    """Return the axes of what `find_view` found, for values of a recipe.

    Parameters
    ----------
    view
        (P, E) differences of spectra.
    recipe
        Of the values.
    """
    grouped = group(view, recipe.width).astype(np.float64)
    if recipe.deviation is None:
        mean = np.maximum(recipe.mean, 1e-9 * recipe.mean.mean())
        return ViewAxes((grouped / (mean / mean.sum())).T, recipe.mean, counts=True)
    return ViewAxes((grouped / recipe.deviation).T, recipe.mean / recipe.deviation, counts=False)


def umap_coordinates(scores: np.ndarray, *, seed: int, most: int) -> np.ndarray:
    """Return the (n, 2) UMAP coordinates of (n, P) scores: fitted to `most` of them, the others transformed.

    Parameters
    ----------
    scores
        Finite.
    seed
        Of the choice and of the optimisation.
    most
        Pixels that the picture is fitted to.

    Raises
    ------
    OptionError
        ``umap-learn`` is not installed.
    """
    try:
        import umap
    except ImportError as error:
        raise OptionError(
            "latent_view(method='umap') needs umap-learn, which is not installed: pip install 'hyperspy_specml[umap]'. "
            "method='scores' needs nothing."
        ) from error
    rng = np.random.default_rng(seed)
    some = np.arange(len(scores)) if len(scores) <= most else np.sort(rng.choice(len(scores), most, replace=False))
    reducer = umap.UMAP(n_components=2, random_state=seed, n_jobs=1)
    found = np.empty((len(scores), 2), np.float32)
    found[some] = reducer.fit_transform(scores[some])
    rest = np.setdiff1d(np.arange(len(scores)), some)
    if len(rest):
        found[rest] = reducer.transform(scores[rest])
    return found
