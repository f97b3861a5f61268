"""From spectra to what mixtures are fitted to: channels in groups, in memory, of all pixels or of boxes of them.

A line is wider than a channel, so groups of channels a third of its width tell as much about phases as the channels
do, and take a third to a tenth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.latent._grid import Grid
from hyperspy_specml.latent._laws import LineLaw, MultinomialLaw
from hyperspy_specml.statistics import TEST, TRAIN, VALIDATION, PoissonGaussianNoise, PoissonNoise

if TYPE_CHECKING:
    from hyperspy_specml.latent._laws import Law
    from hyperspy_specml.statistics import NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

# Groups in the width of a line.
PER_LINE = 3
# Values of a map that mixtures are fitted to as a whole, at most, and those in boxes of a larger one, which are enough.
_MOST_VALUES, _BOX_VALUES = 1 << 23, 1 << 22
# Pixels along each side of a box, by the number of scan axes.
_BOX = {1: 1024, 2: 32, 3: 10}
# Fractions of the counts that fit, that choose, and that test.
FRACTIONS = TRAIN, VALIDATION, TEST


@dataclass(frozen=True, eq=False)
class Recipe:
    """From spectra in the data's own channels to values of a law. E channels, G groups.

    Attributes
    ----------
    channels
        (whole axis,) bool, the E channels in use.
    width
        Channels in a group.
    deviation
        (G,) standard deviation of the noise of each group at the mean spectrum; None for counts.
    mean
        (G,) mean spectrum.
    noise
        Noise model of a channel.
    """

    channels: np.ndarray
    width: int
    deviation: np.ndarray | None
    mean: np.ndarray
    noise: NoiseModel = field(repr=False)

    @classmethod
    def of(cls, mean: np.ndarray, noise: NoiseModel, channels: np.ndarray, line_width: float) -> Recipe:
        """Return the recipe for spectra with lines of this width in channels, of (E,) mean."""
        width = int(np.clip(round(line_width / PER_LINE), 1, max(1, len(mean) // 8)))
        return cls.with_width(mean, noise, channels, width)

    @classmethod
    def with_width(cls, mean: np.ndarray, noise: NoiseModel, channels: np.ndarray, width: int) -> Recipe:
        """Return the recipe with so many channels in a group."""
        grouped = group(mean[None], width)[0]
        if isinstance(noise, PoissonNoise):
            return cls(channels, width, None, grouped, noise)
        # Neighbouring channels whose noise is correlated tell less than so many independent ones.
        power = max(1.0, 2 * sum(noise.correlation) - 1)
        variance = power * group(np.broadcast_to(noise.variance(mean), mean.shape)[None], width)[0]
        variance = np.maximum(variance, 1e-6 * variance.mean())
        return cls(channels, width, np.sqrt(variance), grouped, noise)

    @property
    def law(self) -> Law:
        """The law of the values, of all counts."""
        return MultinomialLaw() if self.deviation is None else LineLaw()

    @property
    def fold_law(self) -> Law:
        """The law of the values of the training fold."""
        return MultinomialLaw() if self.deviation is None else LineLaw(FRACTIONS[:2])

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, G) float32 values of (n, whole axis) spectra; of channels in use that are finite."""
        rows = np.asarray(rows, rows.dtype.newbyteorder("="))
        return self.whitened(group(rows if self.channels.all() else rows[:, self.channels], self.width))

    def whitened(self, grouped: np.ndarray) -> np.ndarray:
        """Return (n, G) sums over groups as values of the law."""
        return grouped if self.deviation is None else (grouped / self.noise_of(grouped)).astype(np.float32)

    def noise_of(self, grouped: np.ndarray) -> np.ndarray:
        """Return the (n, G) or (G,) standard deviations of the noise of (n, G) sums over groups."""
        assert isinstance(self.noise, PoissonGaussianNoise)
        assert self.deviation is not None
        if not self.noise.gain:
            return self.deviation
        mean = self.mean / self.deviation  # spectra of more counts have more noise
        intensity = np.maximum((grouped / self.deviation) @ mean / max(mean @ mean, 1e-30), 0)[:, None]
        level = float(np.abs(self.mean).mean()) / self.width
        return self.deviation * np.sqrt(self.noise.variance(intensity * level) / self.noise.variance(np.array(level)))

    def phases(self, spectra: np.ndarray) -> np.ndarray:
        """Return the (K, G) values of (K, E) spectra of phases, of whatever scale."""
        grouped = group(spectra, self.width).astype(np.float64)
        if self.deviation is None:
            return grouped + np.maximum(1e-6 * grouped.sum(axis=1, keepdims=True), 1e-12) * self.mean / self.mean.sum()
        return grouped / self.deviation


def group(rows: np.ndarray, width: int) -> np.ndarray:
    """Return (n, G) float32 sums over groups of so many neighbouring channels; the last one may have fewer.

    Parameters
    ----------
    rows
        (n, E) spectra of any real dtype.
    width
        Channels in a group.
    """
    if width == 1:
        return rows.astype(np.float32)
    sums = np.zeros((len(rows), -(-rows.shape[1] // width)), np.float32)
    for first in range(min(width, rows.shape[1])):
        part = rows[:, first::width]
        np.add(sums[:, : part.shape[1]], part, out=sums[:, : part.shape[1]], casting="unsafe")
    return sums


@dataclass(frozen=True, eq=False)
class Table:
    """The spectra that mixtures are fitted to.

    Attributes
    ----------
    values
        (n, G) values of the law, 0 where a pixel is not used.
    pixels
        (n,) their flat indices in the map.
    grid
        Their order.
    whole
        Whether they are all pixels of the map, in its order.
    """

    values: np.ndarray = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    grid: Grid
    whole: bool

    def folds(self, recipe: Recipe, seed: int) -> list[np.ndarray]:
        """Return the (n, G) values of the training, validation and test fold."""
        noise = PoissonNoise() if recipe.deviation is None else PoissonGaussianNoise(0.0, 1.0)
        return [fold.astype(np.float32) for fold in noise.split(self.values, self.pixels, FRACTIONS, seed=seed)]


def read_table(stream: SpectrumStream, recipe: Recipe, used: np.ndarray) -> Table:
    """Read the spectra that mixtures are fitted to, in one pass.

    Parameters
    ----------
    stream
        The map.
    recipe
        From its spectra to values.
    used
        (n_pixels,) bool.
    """
    shape, n_groups = stream.navigation_shape, len(recipe.mean)
    pixels, boxes = boxes_of(shape, most_pixels(n_groups, stream.n_pixels), used)
    place = np.full(stream.n_pixels, -1)
    place[pixels] = np.arange(len(pixels))
    values = np.zeros((len(pixels), n_groups), np.float32)
    for where, part in stream.map_blocks(stream.blocks, _ReadValues(recipe, place, used), label="Read pixels"):
        values[where] = part
    return Table(values, pixels, grid_of(shape, boxes, used[pixels]), boxes == shape)


def most_pixels(n_groups: int, n_pixels: int) -> int:
    """Return how many pixels of a map a table may have.

    Parameters
    ----------
    n_groups
        Values for each.
    n_pixels
        Of the map.
    """
    if n_pixels * n_groups <= _MOST_VALUES:
        return n_pixels
    return max(1, min(_MOST_VALUES, _BOX_VALUES) // n_groups)


def grid_of(shape: tuple[int, ...], boxes: tuple[int, ...], used: np.ndarray) -> Grid:
    """Return the order of the pixels of a map, or of several boxes of it.

    Parameters
    ----------
    shape
        Of the map.
    boxes
        The same, or with the number of boxes before the shape of each.
    used
        (n,) bool.
    """
    return Grid(boxes, tuple(axis for axis in range(len(boxes) - len(shape), len(boxes)) if boxes[axis] > 1), used)


@dataclass(frozen=True, eq=False)
class _ReadValues:
    """The block function of the pass: places in the table, and values."""

    recipe: Recipe
    place: np.ndarray
    used: np.ndarray

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = (self.place[pixels] >= 0) & self.used[pixels]
        return self.place[pixels[wanted]], self.recipe.values(rows if wanted.all() else rows[wanted])


def boxes_of(shape: tuple[int, ...], most: int, used: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return flat indices of pixels and their shape: all of a small map, else boxes spread evenly over it.

    Parameters
    ----------
    shape
        Of the map.
    most
        Pixels at most.
    used
        (n_pixels,) bool; boxes of which less than half is used are left out.
    """
    n = int(np.prod(shape))
    if n <= most:
        return np.arange(n), shape
    sides = [min(size, _BOX.get(len(shape), 8)) for size in shape]
    grid = [size // side for size, side in zip(shape, sides, strict=True)]
    n_boxes = max(1, min(int(np.prod(grid)), most // int(np.prod(sides))))
    indices = np.arange(n).reshape(shape)
    corners = np.stack(np.unravel_index(np.arange(int(np.prod(grid))), grid), axis=1) * sides
    boxes = [indices[tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True))] for corner in corners]
    boxes = [box for box in boxes if used[box].mean() > 0.5] or boxes
    some = np.linspace(0, len(boxes) - 1, min(n_boxes, len(boxes))).round().astype(int)
    chosen = np.stack([boxes[k] for k in some])
    return chosen.reshape(-1), chosen.shape
