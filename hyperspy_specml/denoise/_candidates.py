"""The candidates of a denoising, plain PCA, filtered score maps, networks, and their held-out errors.

A new kind of candidates is one function, which yields an `Entry` for each of `CandidateData`, and one line of `KINDS`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose import DenseOptions, choose_architecture, choose_number
from hyperspy_specml.denoise._held_out import HeldOutError
from hyperspy_specml.denoise._spatial import fit_filters, fit_mixture, on_all_counts
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.models import Candidate, LatentModel, SpectralDenoiser, UnfilteredScores, filters
from hyperspy_specml.progress import STOPPED
from hyperspy_specml.statistics import paired
from hyperspy_specml.train import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyperspy_specml.denoise._options import DenoiseOptions
    from hyperspy_specml.models import FilteredScores, FittedDenoiser, Tiles
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.run import Run

_logger = logging.getLogger(__name__)
# Pixels of the sample from which on the spatial network is trained: on fewer it learns nothing beyond the filters.
_LEAST_PIXELS = 256


@dataclass(frozen=True)
class CandidateData:
    """What candidates are fitted to, and how.

    Attributes
    ----------
    plain, smooth
        Training data of the map on its principal basis, and on one that may be smooth along energy.
    tiles
        The sample laid out.
    context
        What candidates may see: "auto", "spectral" or "spatial".
    options
        Of the networks.
    run
        Settings, seed, device and progress.
    """

    plain: TrainingData
    smooth: TrainingData
    tiles: Tiles
    context: str
    options: DenoiseOptions
    run: Run


@dataclass(frozen=True)
class Entry:
    """A candidate.

    Attributes
    ----------
    name
        For the report.
    data
        Has the scores of the training fold on the basis of the candidate.
    fold
        Fitted on the training fold.
    scores
        Computes the (n, P) scores that it predicts from the training fold, along the basis of `fold`.
    on_all_counts
        Fits it on all counts.
    history
        Of its training; empty for what is not trained.
    """

    name: str
    data: TrainingData
    fold: FittedDenoiser
    scores: Callable[[], np.ndarray]
    on_all_counts: Callable[[], FittedDenoiser]
    history: History = field(default_factory=History)


@dataclass(frozen=True)
class Kind:
    """A kind of candidates.

    Attributes
    ----------
    stage
        What is done, for the progress.
    contexts
        In which it takes part.
    weight
        Time that it takes, relative to the others (measured at 128 x 128 pixels and 2048 channels).
    fit
        Fits and yields them, one after the other. Those that are ready when a training is interrupted are kept, and
        the kinds after it are left out; those that are ready when one diverges are kept, too.
    """

    stage: str
    contexts: tuple[str, ...]
    weight: float
    fit: Callable[[CandidateData], Iterator[Entry]]


def filtered_maps(data: CandidateData) -> Iterator[Entry]:
    """Yield score maps behind single filters, a mixture of them, and a network that mixes them."""
    smooth, tiles, progress = data.smooth, data.tiles, data.run.progress
    with progress.enter("Filter score maps", 0.05):
        found = fit_filters(smooth, tiles, HeldOutError(smooth, "validation").scores, progress)
    unit, bank = found.mixture.unit(smooth.fraction), filters(found.mixture.n_scan_axes)
    n = len(unit)

    def entry(name: str, fold: FilteredScores, clean: np.ndarray, **more: History) -> Entry:
        return Entry(name, smooth, fold, lambda: tiles.flat(clean) * unit, lambda: on_all_counts(smooth, fold), **more)

    # Without the first two: no filter is PCA, and the mean alone is no candidate.
    for s, one in enumerate(bank[2:], start=2):
        yield entry(f"pca ({n}), {one.name}", found.single(s), found.stack[s])
    mixed = np.einsum("s...p,sp->...p", found.stack, found.mixture.weights.astype(np.float32))
    yield entry(f"pca ({n}), mixed filters", found.mixture, mixed)
    if tiles.valid.sum() >= _LEAST_PIXELS:
        network, history = fit_mixture(smooth, tiles, found, data.options.n_hidden_spatial, data.run)
        clean = network.mixed(found.stack, tiles.valid, smooth.fraction)
        yield entry(f"spatial network ({n})", network, clean, history=history)


def spectral_network(data: CandidateData) -> Iterator[Entry]:
    """Yield an autoencoder of single spectra.

    Beside candidates that see neighbours, a brief training tells whether these matter at all.
    """
    smooth, options = data.smooth, data.options
    architecture = choose_architecture("dense", DenseOptions(options.n_hidden, options.n_layers, options.centre))
    run = architecture.completed(data.run, smooth)
    run = run.brief() if data.context == "auto" else run
    with run.progress.enter("Choose the number of components", 0.4):
        rank, stopped = choose_number(architecture, smooth, run, race=False)
    run = run.brief() if stopped else run  # who stops a search does not want to wait
    with run.progress.enter("Train the spectral network"):
        fitted = architecture.fit(smooth, rank.chosen, run)
    fitted.history.interrupted |= stopped
    assert isinstance(fitted.fold_model, LatentModel)
    assert isinstance(fitted.model, LatentModel)
    fold, whole = SpectralDenoiser(fitted.fold_model), SpectralDenoiser(fitted.model)
    name, history = f"spectral network ({rank.chosen})", fitted.history
    yield Entry(name, smooth, fold, lambda: fold.denoise_rows(smooth.fold_scores), lambda: whole, history)


def plain_pca(data: CandidateData) -> Entry:
    """Return plain PCA of the rank that held-out counts choose."""
    plain, k = data.plain, data.plain.rank.chosen
    fold, whole = (UnfilteredScores(basis.first(k)) for basis in (plain.fold_basis, plain.basis))
    return Entry(f"pca ({k})", plain, fold, lambda: plain.fold_scores[:, :k], lambda: whole)


KINDS = [
    Kind("Fit filters and the spatial network", ("auto", "spatial"), 2.0, filtered_maps),
    Kind("Fit the spectral network", ("auto", "spectral"), 1.0, spectral_network),
]


def fit_candidates(data: CandidateData) -> list[Entry]:
    """Return the candidates of a context, plain PCA, which all are compared with, last.

    Parameters
    ----------
    data
        Data and settings.
    """
    kinds = [kind for kind in KINDS if data.context in kind.contexts]
    whole = sum(kind.weight for kind in kinds)
    entries: list[Entry] = []
    for kind in kinds:
        if any(entry.history.interrupted for entry in entries):
            break
        found: list[Entry] = []
        try:
            with data.run.progress.enter(kind.stage, kind.weight / whole):
                for entry in kind.fit(data):
                    found.append(entry)  # at once: the next one may raise
        except TrainingDivergedError as error:
            _logger.warning("%s: the network diverged (%s); the other candidates remain.", kind.stage, error)
        except STOPPED:
            if not (ready := [*entries, *found]):
                raise
            ready[-1].history.interrupted = True
        entries += sorted(found, key=lambda entry: not entry.history.steps)  # what was trained comes first
    return [*entries, plain_pca(data)]


def compare(
    entries: list[Entry], validation: HeldOutError, test: HeldOutError, progress: Progress
) -> tuple[Candidate, ...]:
    """Score candidates on both folds; the last one is what they are compared with."""
    errors = []
    for i in progress.steps(range(len(entries))):
        basis, scores = entries[i].fold.basis, entries[i].scores()
        errors.append((float(validation.of(basis, scores).mean()), test.of(basis, scores)))
        progress.record(f"candidate: {entries[i].name}", 0, errors[-1][0])
    pairs = [paired(own, errors[-1][1]) for _, own in errors]
    return tuple(
        Candidate(entry.name, pair.mean, pair.difference, pair.standard_error, validation_score)
        for entry, pair, (validation_score, _) in zip(entries, pairs, errors, strict=True)
    )
