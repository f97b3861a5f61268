"""The candidates of a denoising: plain PCA, filtered score maps, networks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose import brief, choose_latents, fit_dense
from hyperspy_specml.denoise._held_out_error import HeldOutError
from hyperspy_specml.denoise._spatial import SpatialFit, fit_filters, fit_mixture, on_all_counts
from hyperspy_specml.exceptions import TrainingDivergedError
from hyperspy_specml.models import DenoisedSpectra, Denoiser, FilteredScores, Unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from hyperspy_specml.decompose import Track
    from hyperspy_specml.models import Tiles
    from hyperspy_specml.prepare import TrainingData
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.train import History

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A candidate.

    Attributes
    ----------
    name
        For the report.
    prepared
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
    prepared: TrainingData
    fold: Denoiser
    scores: Callable[[], np.ndarray]
    on_all_counts: Callable[[], Denoiser]
    history: History | None = None


@dataclass(frozen=True)
class Setting:
    """What candidates are fitted to, and how.

    Attributes
    ----------
    plain, prepared
        What is known of the map, along principal axes and along axes that may be smooth.
    tiles
        The sample laid out.
    config, seed, device, track
        Settings, seed, torch device, and the progress bar around training steps.
    """

    plain: TrainingData
    prepared: TrainingData
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


def _pca(prepared: TrainingData) -> Entry:
    k = prepared.rank.chosen
    return Entry(
        f"pca ({k})", prepared, Unchanged(prepared.fold_basis.first(k)), lambda: prepared.fold_scores[:, :k],
        lambda: Unchanged(prepared.basis.first(k)),
    )  # fmt: skip


def _spatial(setting: Setting) -> list[Entry]:
    prepared, tiles = setting.prepared, setting.tiles
    spatial = fit_filters(prepared, tiles, HeldOutError(prepared))
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
            prepared,
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
    clean = network.mixed(spatial.stack, tiles.valid, prepared.share)
    return [_filtered(setting, f"spatial network ({n})", spatial, network, clean, history), *entries]


def _filtered(
    setting: Setting, name: str, spatial: SpatialFit, fold: FilteredScores, clean: np.ndarray,
    history: History | None = None,
) -> Entry:  # fmt: skip
    return Entry(
        name, setting.prepared, fold, lambda: setting.tiles.flat(clean) * spatial.unit,
        lambda: on_all_counts(setting.prepared, fold), history,
    )  # fmt: skip


def _spectral(setting: Setting, config: TrainConfig) -> list[Entry]:
    prepared = setting.prepared
    seed, device, track = setting.seed, setting.device, setting.track
    try:
        rank, stopped = choose_latents(prepared, "dense", config, seed=seed, device=device, track=track)
        config = brief(config) if stopped else config  # who stops a search does not want to wait
        fitted = fit_dense(prepared, rank.chosen, config, seed=seed, device=device, track=track)
    except TrainingDivergedError as error:
        _logger.warning("The spectral network diverged (%s); the other candidates remain.", error)
        return []
    fold = DenoisedSpectra(fitted.fold_model)
    return [
        Entry(
            f"spectral network ({rank.chosen})", prepared, fold, lambda: fold.denoise_rows(prepared.fold_scores),
            lambda: DenoisedSpectra(fitted.model), fitted.history,
        )
    ]  # fmt: skip
