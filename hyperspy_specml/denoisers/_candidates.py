"""The candidates of a denoising: plain PCA, filtered score maps, networks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.denoisers._denoisers import DenoisedSpectra, Denoiser, FilteredScores, Unchanged
from hyperspy_specml.denoisers._judge import Judge
from hyperspy_specml.denoisers._spatial import SpatialFit, fit_filters, fit_mixture, on_all_counts
from hyperspy_specml.estimators._dense import brief, fit_dense
from hyperspy_specml.estimators._networks import choose_latents
from hyperspy_specml.exceptions import TrainingDivergedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from hyperspy_specml.denoisers._tiles import Tiles
    from hyperspy_specml.estimators._dense import Track
    from hyperspy_specml.estimators._study import Study
    from hyperspy_specml.train._loop import History
    from hyperspy_specml.train.config import TrainConfig

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A candidate.

    Attributes
    ----------
    name
        For the report.
    study
        Has the scores of the parts of the training fold along these axes.
    fold
        Fitted on the training fold.
    scores
        Makes the (n, P) scores that it predicts from the training fold, along the axes of `fold`.
    on_all_counts
        Fits it on all counts.
    history
        Of its training; None for filters.
    """

    name: str
    study: Study
    fold: Denoiser
    scores: Callable[[], np.ndarray]
    on_all_counts: Callable[[], Denoiser]
    history: History | None = None


@dataclass(frozen=True)
class Setting:
    """What candidates are fitted to, and how.

    Attributes
    ----------
    plain, study
        What is known of the map, along principal axes and along axes that may be smooth.
    tiles
        The sample laid out.
    config, seed, device, track
        Settings, seed, torch device, and the progress bar around training steps.
    """

    plain: Study
    study: Study
    tiles: Tiles
    config: TrainConfig
    seed: int
    device: torch.device
    track: Track


def fit_candidates(setting: Setting, context: str) -> list[Entry]:
    """Return the candidates of a context, plain PCA last.

    Parameters
    ----------
    setting
        Data and settings.
    context
        "auto", "spectral" or "spatial".
    """
    entries: list[Entry] = []
    if context != "spectral":
        entries += _spatial(setting)
    if context != "spatial":
        # Beside spatial candidates a brief training tells whether neighbours matter at all.
        entries += _spectral(setting, brief(setting.config) if context == "auto" else setting.config)
    return [*entries, _pca(setting.plain)]


def _pca(study: Study) -> Entry:
    k = study.rank.chosen
    return Entry(
        f"pca ({k})", study, Unchanged(study.fold_axes.first(k)), lambda: study.fold_scores[:, :k],
        lambda: Unchanged(study.axes.first(k)),
    )  # fmt: skip


def _spatial(setting: Setting) -> list[Entry]:
    study, tiles = setting.study, setting.tiles
    spatial = fit_filters(study, tiles, Judge(study))
    n = len(spatial.unit)
    entries = [
        _filtered(setting, f"pca ({n}), {one.name}", spatial, spatial.simple(s), spatial.stack[s])
        for s, one in enumerate(spatial.bank)
        if one.name not in ("unfiltered", "mean")
    ]
    mixed = np.einsum("s...p,sp->...p", spatial.stack, spatial.mixture.weights.astype(np.float32))
    entries.append(_filtered(setting, f"pca ({n}), mixed filters", spatial, spatial.mixture, mixed))
    try:
        found = fit_mixture(
            study,
            tiles,
            spatial,
            setting.config,
            seed=setting.seed,
            device=setting.device,
            track=setting.track,
        )
    except TrainingDivergedError as error:
        _logger.warning("The spatial network diverged (%s); the filters remain.", error)
        return entries
    if found is None:
        return entries
    network, history = found
    clean = network.mixed(spatial.stack, tiles.valid, study.share)
    return [_filtered(setting, f"spatial network ({n})", spatial, network, clean, history), *entries]


def _filtered(
    setting: Setting, name: str, spatial: SpatialFit, fold: FilteredScores, clean: np.ndarray,
    history: History | None = None,
) -> Entry:  # fmt: skip
    return Entry(
        name, setting.study, fold, lambda: setting.tiles.flat(clean) * spatial.unit,
        lambda: on_all_counts(setting.study, fold), history,
    )  # fmt: skip


def _spectral(setting: Setting, config: TrainConfig) -> list[Entry]:
    study = setting.study
    seed, device, track = setting.seed, setting.device, setting.track
    try:
        rank, stopped = choose_latents(study, "dense", config, seed=seed, device=device, track=track)
        config = brief(config) if stopped else config  # who stops a search does not want to wait
        fitted = fit_dense(study, rank.chosen, config, seed=seed, device=device, track=track)
    except TrainingDivergedError as error:
        _logger.warning("The spectral network diverged (%s); the other candidates remain.", error)
        return []
    fold = DenoisedSpectra(fitted.fold_model)
    return [
        Entry(
            f"spectral network ({rank.chosen})", study, fold, lambda: fold.denoise_rows(study.fold_scores),
            lambda: DenoisedSpectra(fitted.model), fitted.history,
        )
    ]  # fmt: skip
