from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.decompose import ConvOptions, DenseOptions, SimplexOptions, VariationalOptions
from hyperspy_specml.exceptions import BaselineBetterWarning
from hyperspy_specml.run import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy.signal import BaseSignal

    from hyperspy_specml.results import DecompositionResult

SCANS = {1: (71,), 2: (12, 17), 3: (3, 8, 10)}
N_CHANNELS = 61
QUICK = TrainConfig(max_steps=60, evaluate_every=20)
SMALL = {
    "dense": DenseOptions(n_hidden=32),
    "conv": ConvOptions(n_filters=4, n_hidden=16, augment=1.5),
    "simplex": SimplexOptions(n_hidden=32),
    "vae": VariationalOptions(n_hidden=32),
}


def make_counts(scan: tuple[int, ...] = SCANS[2], *, dose: float = 40.0, seed: int = 0) -> np.ndarray:
    """Poisson counts of two mixed spectra and a third whose peak moves: PCA needs more than K = 3 for it."""
    pixel = np.arange(np.prod(scan)).reshape(scan)
    mixing, shift = np.sin(pixel / 23.0) ** 2, 4 * np.cos(pixel / 7.0)
    channel = np.arange(N_CHANNELS)

    def peak(centre: Any, width: float) -> np.ndarray:
        return np.exp(-((channel - np.asarray(centre)[..., None]) ** 2) / (2 * width**2))

    mean = mixing[..., None] * peak(15, 3) + (1 - mixing)[..., None] * peak(25, 4)
    mean = mean + peak(44 + shift, 3) + 0.2
    return np.random.default_rng(seed).poisson(dose * mean).astype(np.uint16)


@pytest.fixture(autouse=True, scope="module")
def _few_draws(few_drawn_pixels: None) -> None:
    """No test of what is around the methods looks at a precise p-value."""


@pytest.fixture(name="make_counts", scope="session")
def _make_counts() -> Callable[..., np.ndarray]:
    return make_counts


@pytest.fixture(scope="session")
def quick() -> TrainConfig:
    """Few steps: enough for every statement that is not about how good a network is."""
    return QUICK


@pytest.fixture(scope="session")
def fitted(make_map: Callable[..., BaseSignal]) -> Callable[..., tuple[BaseSignal, DecompositionResult]]:
    """Fit once per combination; nobody may write to what comes back."""
    known: dict[tuple[object, ...], tuple[BaseSignal, DecompositionResult]] = {}

    def fit(
        architecture: str = "dense", k: int = 3, n_navigation: int = 2, *, lazy: bool = False
    ) -> tuple[BaseSignal, DecompositionResult]:
        key = (architecture, k, n_navigation, lazy)
        if key not in known:
            data = make_counts(SCANS[n_navigation])
            signal = make_map(data=da.from_array(data, chunks=5) if lazy else data)
            with warnings.catch_warnings():  # so brief a training may lose against PCA
                warnings.simplefilter("ignore", BaselineBetterWarning)
                known[key] = signal, decompose(signal, k, architecture=architecture)
        return known[key]

    return fit


def decompose(signal: BaseSignal, k: int | None = 3, **options: Any) -> DecompositionResult:
    small = SMALL.get(options.get("architecture", "dense"))
    defaults = {"noise": "poisson", "show_progressbar": False, "config": QUICK, "options": small}
    return signal.decomposition_ae(k, **{**defaults, **options})


@pytest.fixture(name="decompose", scope="session")
def _decompose() -> Callable[..., DecompositionResult]:
    """Call the method quietly and quickly on counts."""
    return decompose
