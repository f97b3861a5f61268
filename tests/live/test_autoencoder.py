"""The autoencoder that is trained while spectra arrive."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hyperspy_specml.live import OnlineAutoencoder

from .conftest import N_CHANNELS, line


@pytest.fixture(scope="module")
def shifting() -> np.ndarray:
    """(n, E) counts of a line that moves along energy: a curve, which planes describe badly."""
    rng = np.random.default_rng(0)
    mean = np.stack([line(centre) for centre in rng.uniform(30, 60, 1000)])
    return rng.poisson(30 * mean + 0.5).astype(np.float32)


@pytest.mark.parametrize("counts", [True, False])
def test_it_begins_as_pca_and_becomes_better(shifting: np.ndarray, counts: bool) -> None:
    values = shifting if counts else shifting / np.float32(np.sqrt(shifting.mean()))
    online = OnlineAutoencoder(values[:300], counts=counts, n_latent=2, seed=0)
    seen = np.arange(len(values)) < 800
    first = online.residuals(values[800:]).mean()
    white = values * online.weight
    two = white @ online.vectors[:, :2]
    centred = two - online.centre[:2]
    rest = white - (online.centre + np.pad(centred, ((0, 0), (0, 12)))) @ online.vectors.T
    assert online.residuals(values) == pytest.approx(np.square(rest).mean(axis=1), rel=1e-3)
    for _ in range(150):
        online.train(values, seen, 0.0)
    assert online.n_accepted >= 1
    assert online.residuals(values[800:]).mean() < 0.99 * first


def test_what_describes_held_out_pixels_worse_is_not_taken_over() -> None:
    values = np.random.default_rng(1).poisson(2.0, (800, N_CHANNELS)).astype(np.float32)
    online = OnlineAutoencoder(values, counts=True, n_latent=2, seed=0)
    before = online.residuals(values).mean()
    for _ in range(101):
        online.train(values, np.ones(800, bool), 0.0)
    assert online.residuals(values).mean() == pytest.approx(before, rel=0.02)


def test_training_keeps_to_its_time(shifting: np.ndarray) -> None:
    online = OnlineAutoencoder(shifting[:300], counts=True, n_latent=2, seed=0)
    online.train(shifting, np.ones(len(shifting), bool), 0.0)
    start = time.perf_counter()
    online.train(shifting, np.ones(len(shifting), bool), 0.2)
    assert 0.2 <= time.perf_counter() - start < 2.0
