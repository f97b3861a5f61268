"""Find the phases of a map, or recognise known ones, in at most four passes over the file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from hyperspy_specml.anomaly import align_to_spectra, common_channels, scan_line_drift
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
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
from hyperspy_specml.latent._choose import Choice, Folds, choose, one_phase
from hyperspy_specml.latent._compress import compression
from hyperspy_specml.latent._mixture import Data, Mixture, Pixels, alike, classify, fit_classes, pairs_of, with_mixtures
from hyperspy_specml.latent._model import PhaseModel
from hyperspy_specml.latent._reject import deviations, expected_mixture, n_drawn, p_values
from hyperspy_specml.latent._table import PER_LINE, Recipe, Table, grid_of, read_table
from hyperspy_specml.latent._view import ViewAxes, find_view, view_axes
from hyperspy_specml.prepare import check_enough
from hyperspy_specml.run import Clock, Run
from hyperspy_specml.statistics import (
    MASKED,
    NOISE_NAMES,
    USED,
    estimate_noise,
    line_width,
    summarise_map,
    typical_mean,
)
from hyperspy_specml.streaming import shift_channels

if TYPE_CHECKING:
    from hyperspy_specml.latent._grid import Grid
    from hyperspy_specml.models import Candidate
    from hyperspy_specml.prepare import Masks
    from hyperspy_specml.statistics import MapSummary, NoiseEstimate, NoiseModel
    from hyperspy_specml.streaming import SpectrumStream

# Shares of the time of a call, measured on maps of 96 x 96 x 1024.
_STAGES = {"read": 0.15, "choose": 0.65, "fit": 0.1, "assign": 0.05}
# Iterations on all counts, which begin with what was fitted to 70 % of them.
STEPS = 8
# Largest number of values of likelihoods of mixtures of all pixels, held beside those of phases.
_MOST_LIKELIHOODS = 1 << 26
# Part of the scan lines that must have all channels of a model after their drift was taken back.
_LEAST_COMPLETE = 0.5
NONE_OF_THESE = -2


@dataclass(frozen=True, eq=False)
class PhaseTask:
    """What is asked of a map.

    Attributes
    ----------
    n_phases
        Number of phases, known ones included; None leaves it to held-out counts.
    mixed
        Whether pixels near a border may be mixtures of two phases.
    noise
        See `statistics.estimate_noise`.
    known
        (N, whole axis) spectra of phases that are there, however rare.
    given
        (n_pixels,) int, the phase of pixels that the user labelled, else -1; None for none.
    names
        Of the first phases: those of `given`, then of `known`.
    drift
        Whether a drift of scan lines is looked for.
    """

    n_phases: int | None = None
    mixed: bool = True
    noise: str = "auto"
    known: np.ndarray | None = None
    given: np.ndarray | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()
    drift: bool = True

    def given_to(self, pixels: np.ndarray) -> np.ndarray:
        """Return the phase of these pixels that the user labelled, else -1."""
        return np.full(len(pixels), -1) if self.given is None else self.given[pixels]


@dataclass(frozen=True, eq=False)
class Phases:
    """What was found. n pixels, K phases, E channels in use.

    Attributes
    ----------
    labels
        (n,) int: the phase with the largest share; -1 not used, -2 none of these.
    probability
        (K, n) probability that this phase has the largest share; NaN where a pixel is not used.
    second
        (n,) expected share of the phase with the second largest share.
    areas, errors
        (K,) shares of the used pixels, and their standard errors.
    coordinates
        (n, P) scores without the dose, for pictures.
    p_value
        (n,) of known phases; else None.
    model
        The phases, for other maps.
    summary
        First pass over the map.
    choice
        Mixtures of other numbers of phases; None where nothing was chosen.
    candidates
        Scores beside PCA.
    estimate
        Noise; None for known phases.
    drift
        Of scan lines, in channels; None where there is none.
    mixed
        Part of the pixels near a border that are mixtures.
    seconds
        Of the stages.
    """

    labels: np.ndarray
    probability: np.ndarray = field(repr=False)
    second: np.ndarray = field(repr=False)
    areas: np.ndarray
    errors: np.ndarray
    coordinates: np.ndarray = field(repr=False)
    p_value: np.ndarray | None = field(repr=False)
    model: PhaseModel
    summary: MapSummary = field(repr=False)
    choice: Choice | None = None
    candidates: tuple[Candidate, ...] = ()
    estimate: NoiseEstimate | None = field(default=None, repr=False)
    drift: np.ndarray | None = None
    mixed: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


@threadpool_limits.wrap(limits=1, user_api="blas")
def find_phases(
    stream: SpectrumStream, task: PhaseTask, run: Run | None = None, *, widths: np.ndarray | None = None,
    masks: Masks = (None, None), choice: Choice | None = None,
) -> Phases:  # fmt: skip
    """Find the phases of a map.

    Parameters
    ----------
    stream
        The spectra; read three or four times.
    task
        What is asked.
    run
        Settings, seed and progress.
    widths
        (whole axis,) full width at half maximum of a line in channels; None estimates one from the spectra.
    masks
        Navigation and signal mask, True = masked.
    choice
        What an earlier call with the same arguments found, with another number chosen: nothing is searched for.

    Raises
    ------
    OptionError
        Unknown noise, or fewer phases than known ones.
    TooFewSpectraError, NegativeCountsError, NotCountsError
        Not enough usable spectra; see `estimate_noise`.
    Cancelled
        The progress was asked to end the call, before or after the number of phases was searched for.
    """
    run, clock = run or Run(), Clock()
    if task.noise not in NOISE_NAMES:
        raise OptionError.unknown("noise", task.noise, NOISE_NAMES)
    with run.progress.enter("Read spectra", _STAGES["read"]):
        stream, summary, estimate, recipe, table = _prepare(stream, task, run, widths, masks)
    used, channels = summary.pixel_state == USED, summary.channels
    clock.stop("preparation")
    folds = _folds(table, recipe, task, run.seed)
    known = _known(task, recipe)
    if choice is None:
        with run.progress.enter("Choose the number", _STAGES["choose"]):
            choice = _choose(folds, known, task, run)
    clock.stop("choice")
    with run.progress.enter("Fit", _STAGES["fit"]):
        candidates = candidates_of(folds, expanded(folds.train, choice, known), choice.classes, recipe)
        run.progress.advance(0.4)
        whole = Data(table.values, recipe.law, table.grid, folds.train.given)
        mixture = ordered(_on_all_counts(whole, choice, known), len(task.names))
        run.progress.advance(0.8)
        error = model_error_of(table, mixture, recipe, run.seed)
    clock.stop("fit")
    pixels: Pixels
    with run.progress.enter("Assign pixels", _STAGES["assign"]):
        view = find_view(table.values, table.grid.used, recipe)
        axes = view_axes(view, recipe)
        if table.whole:
            evidence, pixels = recipe.law.evidence(table.values, mixture.spectra), whole
            coordinates, _ = axes.coordinates(table.values)
        else:
            given = task.given_to(np.arange(stream.n_pixels))
            evidence, coordinates, _, pixels = _read_evidence(stream, recipe, mixture, axes, used, given)
        classes = classify(pixels, mixture, evidence)
    clock.stop("assignment")
    with run.progress.enter("Sum spectra"):
        labels, second, areas, errors = labels_of(classes, pixels.grid)
        summed = sum_spectra(stream, labels, second, mixture.n_phases, channels)
    model = model_of(task, recipe, mixture, summed, error=error, view=view)
    clock.stop("spectra")
    maps = labels, probability_of(classes, used), second, areas, errors, coordinates, None
    found = choice, candidates, estimate, stream.drift, classes.mixed_part
    return Phases(*maps, model, summary, *found, clock.seconds)


@threadpool_limits.wrap(limits=1, user_api="blas")
def recognise_phases(
    stream: SpectrumStream, model: PhaseModel, channels: np.ndarray, run: Run | None = None, *, level: float = 0.01,
    masks: Masks = (None, None), drift: bool = False,
) -> Phases:  # fmt: skip
    """Recognise known phases in a map, in three or four passes; nothing is fitted.

    Parameters
    ----------
    stream
        The spectra.
    model
        The phases, for the channels of the map.
    channels
        (whole axis,) bool, the channels of the model.
    run
        Settings, seed and progress.
    level
        p-value below which a pixel is none of the phases.
    masks
        Navigation and signal mask.
    drift
        Whether a drift of scan lines is looked for.

    Raises
    ------
    TooFewSpectraError
        No spectrum can be used.
    """
    run, clock = run or Run(), Clock()
    with run.progress.enter("Read spectra", 0.3):
        summary = summarise_map(stream, navigation_mask=masks[0], signal_mask=~channels, seed=run.seed, products=False)
    used = summary.pixel_state == USED
    if not used.any():
        raise TooFewSpectraError(
            f"phase_map(model=...): no spectrum can be used ({summary.counts()['pixels']}). Mask fewer pixels, or "
            "find the phases anew without model."
        )
    if drift:
        stream, summary = _aligned(stream, model, channels, summary)
        used = summary.pixel_state == USED
    clock.stop("preparation")
    recipe = model.recipe(channels)
    mixture = model.mixture(recipe)
    axes = view_axes(model.view, recipe)
    with run.progress.enter("Compare", 0.5):
        given = np.full(stream.n_pixels, -1)
        scanned = _read_evidence(stream, recipe, mixture, axes, used, given, error=model.error)
        evidence, coordinates, (intensity, deviates), pixels = scanned
        p = np.full(stream.n_pixels, np.nan)
        members, expected = _expected_sample(stream, summary, mixture, recipe)
        of_phases: Any = {"phases": mixture.spectra, "law": recipe.law, "error": model.error, "seed": run.seed}
        members = np.searchsorted(np.flatnonzero(used), members)
        p[used] = p_values(deviates[used], intensity[used], expected, members, **of_phases)
    clock.stop("comparison")
    with run.progress.enter("Sum spectra"):
        classes = classify(pixels, mixture, evidence)
        labels, second, areas, errors = labels_of(classes, pixels.grid)
        labels[p < level] = NONE_OF_THESE
        areas = np.bincount(labels[labels >= 0], minlength=mixture.n_phases) / max(1, int(used.sum()))
        spectra, n_spectra = sum_spectra(stream, labels, second, mixture.n_phases, channels)
    clock.stop("spectra")
    here = replace(model, spectra=np.where(n_spectra[:, None] > 0.5, spectra, model.spectra), n_spectra=n_spectra)
    maps = labels, probability_of(classes, used), second, areas, errors, coordinates, p
    return Phases(*maps, here, summary, drift=stream.drift, seconds=clock.seconds)


def _prepare(
    stream: SpectrumStream, task: PhaseTask, run: Run, widths: np.ndarray | None, masks: Masks
) -> tuple[SpectrumStream, MapSummary, NoiseEstimate, Recipe, Table]:
    """Read the map: the stream with its scan lines aligned, what is known of it, and what mixtures are fitted to."""
    summary = summarise_map(
        stream, navigation_mask=masks[0], signal_mask=masks[1], seed=run.seed, kernel=run.config.kernel, products=False
    )
    check_enough(summary, task.n_phases or 1, of="phase", argument="n_phases")
    estimate = estimate_noise(summary.sample, noise=task.noise, minimum=summary.minimum)
    used, channels = summary.pixel_state == USED, summary.channels
    width = line_width_of(summary, estimate.model, widths)
    if task.drift and widths is None:
        drift = scan_line_drift(stream, used, channels, estimate.model, width)
        if drift is not None:
            stream = replace(stream, drift=drift)
            summary = _within(summary, common_channels(channels, drift))
    recipe = Recipe.of(summary.moments.mean, estimate.model, summary.channels, width)
    return stream, summary, estimate, recipe, read_table(stream, recipe, used)


def _within(summary: MapSummary, channels: np.ndarray) -> MapSummary:
    """Return what is known of a map in channels that all of its scan lines have; the others count as masked."""
    keep = channels[summary.channels]
    state = np.where((summary.channel_state == USED) & ~channels, MASKED, summary.channel_state).astype(np.uint8)
    moments, sample = summary.moments.select(keep), summary.sample[:, keep]
    return replace(summary, channel_state=state, moments=moments, sample=sample)


def line_width_of(summary: MapSummary, noise: NoiseModel, widths: np.ndarray | None) -> float:
    """Return a typical width of a line in channels: where the counts are.

    Parameters
    ----------
    summary
        Of the map.
    noise
        Noise model of a channel.
    widths
        (whole axis,) widths of lines where the resolution of the detector is known; None estimates one.
    """
    mean = np.maximum(summary.moments.mean, 0)
    if widths is not None and mean.sum() > 0:
        return float(np.average(widths[summary.channels], weights=mean))
    n = len(summary.sample)
    return float(line_width(typical_mean(summary.sample), noise, n_spectra=n, channels=summary.channels))


def number_of(task: PhaseTask) -> int | None:
    if task.n_phases is None and task.given is not None:
        return len(task.names)  # who labels pixels of all phases wants no others
    return task.n_phases


def _folds(table: Table, recipe: Recipe, task: PhaseTask, seed: int) -> Split:
    train, validation, test = table.folds(recipe, seed)
    return Split(Data(train, recipe.fold_law, table.grid, task.given_to(table.pixels)), validation, test)


def _choose(folds: Split, known: np.ndarray, task: PhaseTask, run: Run) -> Choice:
    """Choose the mixture among those of fewer values, which tell phases apart as well."""
    matrix = compression(folds.train, known)
    small = replace(folds.train, values=folds.train.values @ matrix)
    start = first_mixture(small, known @ matrix, mixed=task.mixed)
    return choose(Folds(small, folds.validation @ matrix), start, run, n_phases=number_of(task))


def _known(task: PhaseTask, recipe: Recipe) -> np.ndarray:
    """Return the (N, G) spectra of known phases as values of the law."""
    if task.known is None:
        return np.empty((0, len(recipe.mean)))
    return recipe.phases(np.nan_to_num(task.known[:, recipe.channels]))


def first_mixture(data: Data, known: np.ndarray, *, mixed: bool) -> Mixture:
    """Return the mixture that the search begins with: labelled phases, known ones, and one for all others.

    Parameters
    ----------
    data
        Training fold, with the labels.
    known
        (N, G) spectra of known phases, as values of the law; of latents there are none.
    mixed
        Whether pixels may be mixtures.
    """
    one = one_phase(data, mixed=mixed)
    known = known * one.spectra.sum() / np.maximum(np.abs(known.sum(axis=1, keepdims=True)), 1e-30)
    n_given = int(data.given.max(initial=-1)) + 1
    if n_given:
        weights = (data.given == np.arange(n_given)[:, None]).astype(np.float32)
        labelled = data.law.update(data.values, weights, np.repeat(one.spectra, n_given, axis=0))
        spectra = np.vstack([labelled, known]) if len(known) else labelled
        return replace(one, spectra=spectra, prior=np.full(len(spectra), 1 / len(spectra)))
    if not len(known):
        return one
    spectra = np.vstack([known, one.spectra])
    prior = np.append(np.full(len(known), 1e-3), 1.0)
    return replace(one, spectra=spectra, prior=prior / prior.sum(), n_fixed=len(known))


def _on_all_counts(whole: Data, choice: Choice, known: np.ndarray) -> Mixture:
    """Return the chosen mixture, fitted on from where the training fold left it."""
    mixture, classes = fit_classes(whole, expanded(whole, choice, known), steps=STEPS, start=choice.classes.pure)
    likely = whole.law.evidence(whole.values, mixture.spectra)
    return with_mixtures(whole, mixture, likely, start=classes.pure)[0]


def model_of(
    task: PhaseTask, recipe: Recipe, mixture: Mixture, summed: tuple[np.ndarray, np.ndarray], *, error: float,
    view: np.ndarray,
) -> PhaseModel:  # fmt: skip
    """Return the phases that were found, for other maps.

    Parameters
    ----------
    task, recipe, mixture
        What was asked, how spectra became values, and what was found.
    summed
        (K, E) summed spectra of the phases, and (K,) of how many.
    error, view
        See `PhaseModel`.
    """
    names = task.names + tuple(f"phase {k}" for k in range(len(task.names), mixture.n_phases))
    mixed = -1.0 if mixture.mixed is None else float(mixture.mixed)
    prior, strength, width = mixture.prior, float(mixture.strength), recipe.width
    return PhaseModel(*summed, prior, strength, mixed, width, error, names, recipe.noise, view)


@dataclass(frozen=True, eq=False)
class _Scored:
    """Pixels whose likelihoods under all mixtures were read from the file."""

    grid: Grid
    given: np.ndarray
    mixtures: np.ndarray

    def of_mixtures(self, mixture: Mixture, shares: np.ndarray, border: np.ndarray) -> np.ndarray:
        """See `Pixels`."""
        return self.mixtures[border].T.copy()


def _read_evidence(
    stream: SpectrumStream, recipe: Recipe, mixture: Mixture, axes: ViewAxes, used: np.ndarray, given: np.ndarray, *,
    error: float | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], _Scored]:  # fmt: skip
    """Read the likelihoods of all pixels under phases and mixtures, in one pass.

    Returns
    -------
    (K, n) log likelihoods, (n, P) coordinates, (n,) intensities and largest deviates (0 without
    `error`), and the pixels
    """
    k, p = mixture.n_phases, axes.projector.shape[1]
    both = pairs_of(k)
    if mixture.mixed is None or len(both) * stream.n_pixels > _MOST_LIKELIHOODS:
        both = both[:0]
    function = _Evidence(recipe, mixture, both, axes, error)
    columns = stream.map_rows(function, n_columns=k + len(both) + p + 2, label="Compare")
    columns[~used] = 0
    evidence, mixtures, coordinates, rest = np.split(columns, [k, k + len(both), k + len(both) + p], axis=1)
    grid = grid_of(stream.navigation_shape, stream.navigation_shape, used)
    return np.ascontiguousarray(evidence.T), coordinates, (rest[:, 0], rest[:, 1]), _Scored(grid, given, mixtures)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The block function of the pass."""

    recipe: Recipe
    mixture: Mixture
    both: np.ndarray
    axes: ViewAxes
    error: float | None

    def __call__(self, rows: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        law, phases = self.recipe.law, self.mixture.spectra
        with np.errstate(invalid="ignore", over="ignore"):  # spectra that are not finite are not used
            values = np.nan_to_num(self.recipe.values(rows), nan=0.0, posinf=0.0, neginf=0.0)
            parts = [law.evidence(values, phases).T]
            parts.append(law.evidence(values, self.both @ alike(phases)).T if len(self.both) else values[:, :0])
            coordinates, intensity = self.axes.coordinates(values)
            far = np.zeros(len(rows)) if self.error is None else deviations(values, phases, law, self.error)
        return np.concatenate([*parts, coordinates, intensity[:, None], far[:, None]], axis=1)


def _expected_sample(
    stream: SpectrumStream, summary: MapSummary, mixture: Mixture, recipe: Recipe
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels of the sample that are used, and their expected values."""
    still = summary.pixel_state[summary.sample_pixels] == USED
    rows, members = _whole_sample(stream, summary)
    step = -(-int(still.sum()) // n_drawn())
    rows, members = rows[still][::step], members[still][::step]
    return members, expected_mixture(recipe.values(rows), mixture.spectra, recipe.law)


def _whole_sample(stream: SpectrumStream, summary: MapSummary) -> tuple[np.ndarray, np.ndarray]:
    """Return the sample on the whole axis, drift of scan lines taken back, and its pixels."""
    rows, members = summary.sample, summary.sample_pixels
    whole = np.zeros((len(rows), len(summary.channel_state)), rows.dtype)
    whole[:, summary.channels] = rows
    if stream.drift is None:
        return whole, members
    return shift_channels(whole, -stream.drift[members // stream.navigation_shape[-1]]), members


def _aligned(
    stream: SpectrumStream, model: PhaseModel, channels: np.ndarray, summary: MapSummary
) -> tuple[SpectrumStream, MapSummary]:
    """Return a map whose scan lines were moved to where the model has its spectra, if they drift at all.

    Lines that then lack channels of the model are masked, unless most do: then none is moved.
    """
    used, width = summary.pixel_state == USED, float(model.width * PER_LINE)
    drift = scan_line_drift(stream, used, summary.channels, model.noise, width)
    if drift is None:
        return stream, summary
    rows, _ = _whole_sample(replace(stream, drift=drift), summary)
    total = rows.sum(axis=0, dtype=np.float64)[channels]
    drift, complete = align_to_spectra(total, model.spectra, channels, drift, width)
    if complete.mean() < _LEAST_COMPLETE:
        return stream, summary
    lacking = np.repeat(~complete, stream.navigation_shape[-1])
    state = np.where((summary.pixel_state == USED) & lacking, MASKED, summary.pixel_state).astype(np.uint8)
    return replace(stream, drift=drift), replace(summary, pixel_state=state)
