"""Maps and settings that the tests of denoising share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hyperspy_specml as specml

N_CHANNELS = 31
SCAN = (17, 19)


def two_spectra(scan: tuple[int, ...] = SCAN) -> np.ndarray:
    """Two peaks that mix smoothly."""
    mixing = 0.5 + 0.5 * np.sin(np.arange(np.prod(scan)) / 29).reshape(scan)[..., None]
    channel = np.arange(N_CHANNELS)
    one, other = (np.exp(-((channel - centre) ** 2) / 18) + 0.1 for centre in (9, 20))
    return mixing * one + (1 - mixing) * other


@pytest.fixture(scope="session")
def smooth_counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(6 * two_spectra()).astype(np.uint16)


@pytest.fixture(scope="session")
def counts_with_line() -> tuple[np.ndarray, np.ndarray]:
    """Counts with a line at channel 28 in four pixels, and the flat indices of these."""
    mean = 30 * two_spectra()
    mean[12:14, 5:7] += 40 * np.exp(-((np.arange(N_CHANNELS) - 28) ** 2) / 2)
    pixels = np.arange(17 * 19).reshape(SCAN)[12:14, 5:7].ravel()
    return np.random.default_rng(2).poisson(mean).astype(np.uint16), pixels


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    """Arguments of a call that takes a second."""
    return {
        "config": specml.TrainConfig(max_steps=40, evaluate_every=20),
        "options": specml.DenoiseOptions(n_hidden=16, n_hidden_spatial=4),
        "show_progressbar": False,
        "noise": "poisson",
    }
