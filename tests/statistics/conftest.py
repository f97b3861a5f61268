"""Simulated spectra that several tests share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import cholesky, toeplitz


@pytest.fixture(scope="session")
def planted():
    """Return a function that makes (n, E) expected counts of a given rank, with an edge and two peaks."""

    def make(n, n_channels, *, level, rank=3, seed=0):
        rng = np.random.default_rng(seed)
        channel = np.arange(n_channels) / n_channels
        shapes = np.stack(
            [
                np.exp(-2 * channel) + 0.05,
                np.exp(-(((channel - 0.3) / 0.02) ** 2)),
                np.where(channel > 0.6, np.exp(-3 * np.abs(channel - 0.6)), 0),
                np.exp(-(((channel - 0.8) / 0.05) ** 2)),
            ]
        )
        mean = (rng.dirichlet(np.ones(rank), n) + 0.3) @ shapes[:rank]
        return level * mean / mean.mean()

    return make


@pytest.fixture(scope="session")
def noisy():
    """Return a function that adds normal noise of variance gain * mean + readout**2 and a lag correlation."""

    def make(mean, *, gain, readout, correlation=(1.0,), seed=1):
        n_channels = mean.shape[1]
        column = np.zeros(n_channels)
        column[: len(correlation)] = correlation
        # The Cholesky factor of the correlation matrix: independent of the package's own filter.
        factor = cholesky(toeplitz(column) + 1e-9 * np.eye(n_channels), lower=True)
        noise = np.random.default_rng(seed).standard_normal(mean.shape) @ factor.T
        return mean + np.sqrt(gain * np.maximum(mean, 0) + readout**2) * noise

    return make
