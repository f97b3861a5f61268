"""Find the phases of a map in the latents of a decomposition that was fitted to it or to another map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from hyperspy_specml.latent._assign import (
    Split,
    candidates_of,
    expanded,
    labels_of,
    model_error_of,
    ordered,
    probability_of,
    sum_spectra,
)
from hyperspy_specml.latent._choose import Folds, choose
from hyperspy_specml.latent._latent_law import LatentLaw
from hyperspy_specml.latent._mixture import Data, classify, fit_classes
from hyperspy_specml.latent._run import STEPS, Phases, PhaseTask, first_mixture, line_width_of, model_of, number_of
from hyperspy_specml.latent._table import FRACTIONS, Recipe, Table, boxes_of, grid_of, group, most_pixels
from hyperspy_specml.latent._view import find_view
from hyperspy_specml.prepare import check_enough
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import USED, gain_of, summarise_map

if TYPE_CHECKING:
    from hyperspy_specml.latent._choose import Choice
    from hyperspy_specml.latent._grid import Grid
    from hyperspy_specml.latent._mixture import Classes, Mixture
    from hyperspy_specml.models import Candidate, FittedModel
    from hyperspy_specml.prepare import Masks
    from hyperspy_specml.statistics import MapSummary, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

# Shares of the time of a call.
_STAGES = {"read": 0.5, "choose": 0.3, "fit": 0.1}
# Smallest intensity of a spectrum, relative to the mean, up to which it is scaled to that.
_LEAST_INTENSITY = 0.02
_CUT = 4.0  # standard deviations of the error, beyond which there are few


@dataclass(frozen=True, eq=False)
class Latents:
    """A decomposition, and the spectra that it is asked for.

    Attributes
    ----------
    model
        Encodes spectra of the E channels in use.
    channels
        (whole axis,) bool, these channels.
    noise
        Noise model of a channel.
    widths
        (whole axis,) full width at half maximum of a line in channels; None estimates one from the spectra.
    """

    model: FittedModel
    channels: np.ndarray
    noise: NoiseModel
    widths: np.ndarray | None


@threadpool_limits.wrap(limits=1, user_api="blas")
def find_phases_of_latents(
    stream: SpectrumStream, latents: Latents, task: PhaseTask, run: Run | None = None, *,
    masks: Masks = (None, None), choice: Choice | None = None,
) -> Phases:  # fmt: skip
    """Find phases by where the latents of spectra lie, in three passes.

    Parameters
    ----------
    stream
        The spectra.
    latents
        The decomposition.
    task
        Number of phases, and labelled pixels.
    run
        Settings, seed and progress.
    masks
        Navigation mask, True = masked.
    choice
        What an earlier call with the same arguments found, with another number chosen.

    Raises
    ------
    TooFewSpectraError
        Not enough usable spectra.
    Cancelled
        The progress was asked to end the call.
    """
    run, clock = run or Run(), Clock()
    with run.progress.enter("Read spectra", _STAGES["read"]):
        mask = ~latents.channels
        summary = summarise_map(stream, navigation_mask=masks[0], signal_mask=mask, seed=run.seed, products=False)
        check_enough(summary, task.n_phases or 1, of="phase", argument="n_phases")
        width = line_width_of(summary, latents.noise, latents.widths)
        recipe = Recipe.of(_mean(summary)[latents.channels], latents.noise, latents.channels, width)
        read = _read(stream, latents, recipe, summary, run.seed)
    clock.stop("preparation")
    train = Data(read.train, read.law, read.table.grid, task.given_to(read.table.pixels))
    if choice is None:
        with run.progress.enter("Choose the number", _STAGES["choose"]):
            start = first_mixture(train, train.values[:0], mixed=False)
            choice = choose(Folds(train, read.validation), start, run, n_phases=number_of(task))
    clock.stop("choice")
    with run.progress.enter("Fit", _STAGES["fit"]):
        part = replace(train, values=read.values[read.table.pixels])
        mixture, _ = fit_classes(part, choice.chosen, steps=STEPS, start=choice.classes.pure)
        mixture = ordered(mixture, len(task.names))
        candidates = _candidates(read, recipe, choice)
        whole = Data(read.values, read.law, read.grid, task.given_to(np.arange(stream.n_pixels)))
        classes = classify(whole, mixture, read.law.evidence(read.values, mixture.spectra))
        error = model_error_of(read.table, _mean_spectra(read, recipe, classes, mixture), recipe, run.seed)
    clock.stop("fit")
    with run.progress.enter("Sum spectra"):
        labels, second, areas, errors = labels_of(classes, read.grid)
        summed = sum_spectra(stream, labels, second, mixture.n_phases, latents.channels)
    clock.stop("spectra")
    view = find_view(read.table.values, read.table.grid.used, recipe)
    model = model_of(task, recipe, mixture, summed, error=error, view=view)
    maps = labels, probability_of(classes, read.grid.used), second, areas, errors, read.values[:, :-1], None
    return Phases(*maps, model, summary, choice, candidates, seconds=clock.seconds)


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read from the map: latents in units of their error, and grouped spectra of some pixels.

    Attributes
    ----------
    law
        Of the latents.
    values, grid
        (n_pixels, P + 1) values of the law, and all pixels in their order.
    train, validation
        (n, P + 1) values of the law of two folds of the pixels of the table.
    table, folds
        Grouped spectra of these pixels, and their three folds.
    """

    law: LatentLaw
    values: np.ndarray
    grid: Grid
    train: np.ndarray
    validation: np.ndarray
    table: Table
    folds: list[np.ndarray]


def _mean(summary: MapSummary) -> np.ndarray:
    """Return the (whole axis,) mean spectrum, 0 in channels that are not used."""
    mean = np.zeros(len(summary.channel_state))
    mean[summary.channels] = summary.moments.mean
    return mean


def _read(stream: SpectrumStream, latents: Latents, recipe: Recipe, summary: MapSummary, seed: int) -> _Read:
    used, k = summary.pixel_state == USED, latents.model.n_components
    pixels, boxes = boxes_of(stream.navigation_shape, most_pixels(len(recipe.mean), stream.n_pixels), used)
    place = np.full(stream.n_pixels, -1)
    place[pixels] = np.arange(len(pixels))
    intensity = float(_mean(summary)[latents.channels].sum())
    function = _Encoded(latents, recipe, place, used, intensity, seed)
    values = np.zeros((stream.n_pixels, k + 1), np.float32)
    folds = np.zeros((2, len(pixels), k + 1), np.float32)
    grouped = np.zeros((4, len(pixels), len(recipe.mean)), np.float32)
    for mine, found, where, of_folds, four in stream.map_blocks(stream.blocks, function, label="Encode"):
        values[mine], folds[:, where], grouped[:, where] = found, of_folds, four
    of_table = used[pixels]
    whiten = _whitening(folds[:, of_table])
    for rows, some in ((values, used), *((fold, of_table) for fold in folds)):
        rows[:, :-1] = (rows[:, :-1] - whiten[0]) @ whiten[1]
        rows[~some] = np.append(np.zeros(k), 1)  # they tell nothing
    table = Table(grouped[0], pixels, grid_of(stream.navigation_shape, boxes, of_table), len(pixels) == len(used))
    grid = grid_of(stream.navigation_shape, stream.navigation_shape, used)
    return _Read(LatentLaw(k), values, grid, folds[0], folds[1], table, list(grouped[1:]))


def _whitening(folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean latents, and the (P, P) matrix after which errors are white and the first latents vary most.

    Parameters
    ----------
    folds
        (2, n, P + 1) latents of two independent folds; their last column is the variance of the error relative to
        that of a spectrum of mean intensity.
    """
    (one, other), error = folds[..., :-1].astype(np.float64), folds[..., -1].astype(np.float64)
    apart = (one - other) / np.sqrt(error.sum(axis=0))[:, None]
    # Glitches differ by far more than noise: they are cut where few normal numbers are.
    limit = _CUT * 1.4826 * np.median(np.abs(apart), axis=0)
    apart = np.clip(apart, -limit, limit)
    values, axes = np.linalg.eigh(apart.T @ apart / len(apart))
    white = axes / np.sqrt(np.maximum(values, 1e-9 * max(float(values.max()), 1e-300)))
    mean = one.mean(axis=0)
    _, turned = np.linalg.eigh(np.cov((one - mean) @ white, rowvar=False).reshape(len(mean), -1))
    return mean, white @ turned[:, ::-1]


@dataclass(frozen=True, eq=False)
class _Encoded:
    """The block function of the pass over the spectra, all scaled to the mean intensity.

    It returns pixels that are used and their latents; places in the table, latents of two folds there, and grouped
    spectra with their three folds.
    """

    latents: Latents
    recipe: Recipe
    place: np.ndarray
    used: np.ndarray
    intensity: float
    seed: int

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, pixels = rows[self.used[pixels]][:, self.latents.channels], pixels[self.used[pixels]]
        scale = self._scale(rows)
        of_table = self.place[pixels] >= 0
        some, scaled = rows[of_table], scale[of_table]
        model, noise = self.latents.model, self.latents.noise
        counts = self.recipe.deviation is None
        mean = None if counts or not len(some) else model.decode(model.encode(some))
        parts = noise.split(some, pixels[of_table], FRACTIONS, seed=self.seed, mean=mean)
        folds = np.stack([self._encode(parts[i], scaled, FRACTIONS[i]) for i in (0, 1)])
        grouped = [group(np.asarray(part), self.recipe.width) for part in (some, *parts)]
        if not counts:
            deviation = self.recipe.noise_of(grouped[0])
            grouped = [(part / deviation).astype(np.float32) for part in grouped]
        return pixels, self._encode(rows, scale, 1.0), self.place[pixels[of_table]], folds, np.stack(grouped)

    def _scale(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n,) factors to the mean intensity; 1 where that is no positive sum."""
        if self.intensity <= 0:
            return np.ones(len(rows), np.float32)
        sums = np.maximum(rows.sum(axis=1, dtype=np.float64), _LEAST_INTENSITY * self.intensity)
        return (self.intensity / sums).astype(np.float32)

    def _encode(self, rows: np.ndarray, scale: np.ndarray, fraction: float) -> np.ndarray:
        """Return (n, P + 1) latents and the relative variance of their error."""
        model = self.latents.model
        found = model.encode(rows * (scale / np.float32(fraction))[:, None])[:, : model.n_components]
        error = scale if gain_of(self.latents.noise) else scale**2  # counts: noise grows with the intensity
        return np.column_stack([found, error / np.float32(fraction)])


def _candidates(read: _Read, recipe: Recipe, choice: Choice) -> tuple[Candidate, ...]:
    """Score mean spectra of the phases beside PCA of the same size, as without a decomposition."""
    train, validation, test = read.folds
    data = Data(train, recipe.fold_law, read.table.grid, np.full(len(train), -1))
    mixture = expanded(data, choice, np.empty((0, train.shape[1])))
    return candidates_of(Split(data, validation, test), mixture, choice.classes, recipe)


def _mean_spectra(read: _Read, recipe: Recipe, classes: Classes, mixture: Mixture) -> Mixture:
    """Return the mixture with the mean spectra of its phases instead of their latents."""
    weights, values = classes.weights[:, read.table.pixels], read.table.values
    return replace(mixture, spectra=recipe.law.update(values, weights, (weights @ values).astype(np.float64)))
