from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.prepare import TrainingData


def planted_counts(shape=(24, 20), n_channels=64, rank=3, dose=4.0, seed=0):
    """Counts of a map with `rank` endmembers whose abundances vary freely, and their expected values."""
    rng = np.random.default_rng(seed)
    centres = np.linspace(8, n_channels - 8, rank)
    endmembers = 0.2 + 5 * np.exp(-0.5 * ((np.arange(n_channels) - centres[:, None]) / 3) ** 2)
    abundances = rng.dirichlet(np.ones(rank), size=shape)
    expected = dose * abundances @ endmembers
    return rng.poisson(expected), expected


@pytest.fixture(name="planted_counts", scope="session")
def _planted_counts() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return planted_counts


@pytest.fixture(scope="session")
def short() -> Run:
    """Few steps: enough for every statement that is not about how good a network is."""
    return Run(TrainConfig(max_steps=60, evaluate_every=20))


@pytest.fixture(scope="session")
def prepared(short) -> TrainingData:
    """Training data of counts with three endmembers; nobody may write to them."""
    counts, _ = planted_counts()
    return prepare(SpectrumStream(counts.astype(np.uint16)), short, n_needed=3)
