"""Denoisers for maps that nobody has measured yet, trained on simulated spectra."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from hyperspy_specml.decompose import Candidate
from hyperspy_specml.denoise import LibraryFit, fit_library
from hyperspy_specml.exceptions import NegativeCountsError, OptionError
from hyperspy_specml.models import ERASED, DenoiseReport, Fingerprint, TrainedDenoiser
from hyperspy_specml.signals import axis_spec, energy_axis
from hyperspy_specml.statistics import EMPTY, PoissonNoise, count_states, paired
from hyperspy_specml.workflows._call import Call, whole_number

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.run import TrainConfig


def train_denoiser(
    library: BaseSignal,
    *,
    doses: tuple[float, float] = (2.0, 500.0),
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | None = None,
    config: TrainConfig | None = None,
) -> TrainedDenoiser:
    """Train a denoiser on simulated, noise-free spectra; ``s.denoise_dae(model=...)`` applies it to counts.

    Every batch draws counts of library spectra anew, at a random dose of the range, and has the noise-free
    spectra as targets. The network is told how noisy a spectrum is. It sees one spectrum at a time.

    Parameters
    ----------
    library
        Noise-free spectra (n | E), e.g. ``specml.datasets.fe_l_library()``. What is not in
        there, the denoiser takes for noise; on maps the report and a warning say what and where that was.
    doses
        Smallest and largest mean counts per channel of the maps to come.
    random_state
        Seed of weights, noise and batches.
    device
        "auto", "cpu", "cuda", "mps": where the network is trained.
    show_progressbar
        By default HyperSpy's preference.
    config
        Everything else: ``hyperspy_specml.TrainConfig``.

    Returns
    -------
    TrainedDenoiser
        Its report scores the network on library spectra that it has not seen, at the middle of the dose
        range, beside the best linear denoiser and PCA.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError, DataTypeError
        The library does not hold real spectra.
    NegativeCountsError
        It has negative or infinite values, or a spectrum without intensity.
    TooFewSpectraError
        It has fewer than 16 spectra.
    OptionError
        The doses are no range of positive numbers; an unknown device; an impossible number.
    TrainingDivergedError
        The loss diverged.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> library = specml.datasets.fe_l_library(200, n_channels=64)
    >>> quick = specml.TrainConfig(max_steps=50)
    >>> specml.train_denoiser(library, doses=(10, 100), config=quick, show_progressbar=False)
    <TrainedDenoiser library network, 64 channels, of 'Library of Fe-L2,3 spectra'>
    """
    from hyperspy_specml.train import choose_device

    call = Call.on(
        library, method="train_denoiser", navigation_mask=None, signal_mask=None, config=config,
        show_progressbar=show_progressbar,
    )  # fmt: skip
    low, high = _checked(doses)
    seed = whole_number("random_state", random_state, least=0)
    shape = call.source.spectra.array.shape
    spectra = np.asarray(call.source.spectra.array, np.float64).reshape(-1, shape[-1])
    _check_spectra(library, spectra)
    state = np.where(spectra.any(axis=0), 0, EMPTY).astype(np.uint8)
    spectra = spectra[:, state == 0]
    start, n_channels = time.perf_counter(), spectra.shape[1]
    found = fit_library(
        spectra, (low * n_channels, high * n_channels), call.config, seed=seed,
        device=choose_device(device), track=call.track,
    )  # fmt: skip
    report = _report(found, shape, state, (low, high), seed, time.perf_counter() - start)
    return TrainedDenoiser(
        found.denoiser, state, axis_spec(energy_axis(library)), call.source.title, call.config,
        Fingerprint(shape, len(spectra), found.mean * len(spectra)), report,
    )  # fmt: skip


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


def _report(
    found: LibraryFit, shape: tuple[int, ...], state: np.ndarray, doses: tuple[float, float], seed: int,
    seconds: float,
) -> DenoiseReport:  # fmt: skip
    plain = list(found.errors.values())[-1]
    candidates = []
    for name, errors in found.errors.items():
        pair = paired(errors, plain)
        candidates.append(Candidate(name, pair.mean, pair.difference, pair.standard_error, pair.mean))
    n_channels, axes = int((state == 0).sum()), found.denoiser.axes
    own = found.errors["library network"]
    middle = np.sqrt(doses[0] * doses[1])
    return DenoiseReport(
        chosen="library network",
        candidates=tuple(candidates),
        context="spectral",
        noise_reduction=float(np.sqrt(n_channels / own.mean())),
        error=float(own.mean()),
        error_standard_error=float(own.std() / np.sqrt(len(own))),
        error_variance=float(own.mean()),
        signal_variance=float(found.denoiser.variance.sum() * middle * n_channels),
        noise_model=PoissonNoise().to_dict() | {"fano": 1.0},
        hold_out="simulated",
        correlation=0.0,
        erased={name: [] for name in ERASED},
        erased_pixels=[],
        protected=False,
        shape=shape[:-1],
        used={"pixels": {"used": int(np.prod(shape[:-1]))}, "channels": count_states(state)},
        n_sampled=int(np.prod(shape[:-1])),
        n_tiles=1,
        n_components=axes.n_axes,
        smoothing=0.0,
        best_step=found.history.best_step,
        n_steps=found.history.steps[-1],
        interrupted=found.history.interrupted,
        random_state=seed,
        seconds={"training": seconds},
        corruption=f"counts at {doses[0]:g} to {doses[1]:g} per channel",
    )
