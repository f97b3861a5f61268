"""Denoisers for maps to be measured, trained on simulated spectra."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.denoise import LibraryOptions, fit_library
from hyperspy_specml.exceptions import NegativeCountsError, OptionError
from hyperspy_specml.models import Candidate, DenoiseReport, Fingerprint, TrainedModel
from hyperspy_specml.statistics import EMPTY, USED, PoissonNoise, count_states, paired
from hyperspy_specml.workflows._call import Call

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.denoise import LibraryFit
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.run import TrainConfig


def train_denoiser(
    library: BaseSignal,
    *,
    doses: tuple[float, float] = (2.0, 500.0),
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | Progress | None = None,
    config: TrainConfig | None = None,
    options: LibraryOptions | None = None,
) -> TrainedModel:
    """Train a denoiser on simulated, noise-free spectra; ``s.denoise_dae(model=...)`` applies it to counts.

    Every batch draws new counts of library spectra, at random mean counts of the range, and has the
    noise-free spectra as targets. The network is given the noise of each spectrum. It sees one spectrum at a
    time.

    Parameters
    ----------
    library
        Noise-free spectra (n | E), e.g. ``specml.datasets.fe_l_library()``. The denoiser removes, as noise,
        what is unlike all of them; of a map, the report and a warning say what and where that was.
    doses
        Smallest and largest mean counts per channel of the maps to come.
    random_state
        Seed of weights, noise and batches.
    device
        "auto", "cpu", "cuda", "mps": where the network is trained.
    show_progressbar
        By default HyperSpy's preference; a ``hyperspy_specml.Progress`` follows and cancels the call.
    config
        Settings of training and computation: ``hyperspy_specml.TrainConfig``.
    options
        Of the network: ``hyperspy_specml.LibraryOptions``.

    Returns
    -------
    TrainedModel
        Its report scores the network on library spectra that it has not seen, at the middle of the
        range of counts, beside the best linear denoiser and PCA.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError, DataTypeError
        The library does not hold real spectra.
    NegativeCountsError
        It has negative or infinite values, or a spectrum without intensity.
    TooFewSpectraError
        It has fewer than 16 spectra.
    OptionError
        The doses are no range of positive numbers; an unknown device; an impossible number; options or
        settings of another class.
    TrainingDivergedError
        The loss diverged.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> library = specml.datasets.fe_l_library(200, n_channels=64)
    >>> quick = specml.TrainConfig(max_steps=50)
    >>> specml.train_denoiser(library, doses=(10, 100), config=quick, show_progressbar=False)
    <TrainedModel library, K = 12, 64 channels, of 'Library of Fe-L2,3 spectra'>
    """
    how: dict[str, Any] = {"random_state": random_state, "device": device, "show_progressbar": show_progressbar}
    call = Call.on(library, "train_denoiser", config=config, **how)
    (low, high), options = _checked(doses), LibraryOptions.checked(options, call.method)
    shape = call.source.spectra.array.shape
    with call.running() as (run, _):
        spectra = np.asarray(call.source.spectra.array, np.float64).reshape(-1, shape[-1])
        _check_spectra(library, spectra)
        state = np.where(spectra.any(axis=0), USED, EMPTY).astype(np.uint8)
        spectra, start = spectra[:, state == USED], time.perf_counter()
        n_channels = spectra.shape[1]
        found = fit_library(spectra, (low * n_channels, high * n_channels), run, options)
    used = {"pixels": {"used": len(spectra)}, "channels": count_states(state)}
    facts = {"random_state": call.seed, "shape": shape[:-1], "n_sampled": len(spectra)}
    seconds = {"training": time.perf_counter() - start}
    report = _report(found, (low, high), used=used, seconds=seconds, **facts)
    fingerprint = Fingerprint(shape, len(spectra), found.mean * len(spectra))
    return TrainedModel(found.denoiser, state, call.axis, call.source.title, call.config, fingerprint, report)


def _checked(doses: object) -> tuple[float, float]:
    try:
        low, high = (float(dose) for dose in doses)  # type: ignore[attr-defined]  # the TypeError is the answer
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low <= high < np.inf:
        raise OptionError(
            f"train_denoiser(doses={doses!r}) must be the smallest and the largest mean counts per channel, "
            "e.g. doses=(5, 300)."
        )
    return low, high


def _check_spectra(library: BaseSignal, spectra: np.ndarray) -> None:
    if not (spectra >= 0).all() or not np.isfinite(spectra).all() or not spectra.any(axis=1).all():
        raise NegativeCountsError(
            f"train_denoiser({library!r}) draws counts with the spectra as means, but some values are "
            "negative or not finite, or a spectrum is 0 everywhere. Clip or leave out such spectra first."
        )


def _report(found: LibraryFit, doses: tuple[float, float], **facts: Any) -> DenoiseReport:
    """Return the report of a training, with further facts about the library."""
    plain, own, history = list(found.errors.values())[-1], found.errors["library network"], found.history
    candidates = []
    for name, errors in found.errors.items():
        pair = paired(errors, plain)
        candidates.append(Candidate(name, pair.mean, pair.difference, pair.standard_error, pair.mean))
    n_channels, middle = len(found.mean), float(np.sqrt(doses[0] * doses[1]))
    return DenoiseReport(
        chosen="library network",
        candidates=tuple(candidates),
        context="spectral",
        corruption=f"counts at {doses[0]:g} to {doses[1]:g} per channel",
        noise_reduction=float(np.sqrt(n_channels / own.mean())),
        error=float(own.mean()),
        error_standard_error=float(own.std() / np.sqrt(len(own))),
        error_variance=float(own.mean()),
        signal_variance=float(found.denoiser.variance.sum() * middle * n_channels),
        noise_model=PoissonNoise().to_dict() | {"fano": 1.0},
        hold_out="simulated",
        n_components=found.denoiser.n_components,
        steps=tuple(history.steps),
        step_scores=tuple(history.scores),
        best_step=history.best_step,
        n_steps=history.steps[-1],
        interrupted=history.interrupted,
        **facts,
    )
