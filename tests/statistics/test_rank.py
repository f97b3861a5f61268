"""Bi-cross-validation and the noise edge, against simulated noise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hyperspy_specml.statistics import (
    NoiseEstimate,
    PoissonGaussianNoise,
    PoissonNoise,
    bi_cross_validation,
    n_compressed,
    noise_edge,
)
from hyperspy_specml.statistics._basis import channel_weights


@pytest.mark.parametrize("correlation", [(1.0,), (1.0, 0.5), (1.0, 0.6, 0.25, 0.1)])
@pytest.mark.parametrize("rank", [1, 3])
def test_bi_cross_validation_finds_the_planted_rank_in_correlated_noise(rank, correlation, planted, noisy):
    white = noisy(planted(500, 200, level=10.0, rank=rank), gain=0, readout=1.0, correlation=correlation)
    curve = bi_cross_validation(white, max_rank=12, block=16, seed=0)

    assert curve.chosen == rank
    assert curve.method == "bi-cross-validation"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bi_cross_validation_of_data_without_noise_finds_their_rank(dtype, planted):
    clean = planted(60, 40, level=1.0, rank=3).astype(dtype)

    assert bi_cross_validation(clean, max_rank=8, block=4, seed=0).chosen == 3


@pytest.mark.parametrize("shape", [(5, 4), (9, 3), (4, 50)])
def test_bi_cross_validation_of_few_spectra_or_channels_gives_some_rank(shape):
    curve = bi_cross_validation(np.random.default_rng(0).normal(size=shape), max_rank=8, block=8, seed=0)

    assert 1 <= curve.chosen <= min(shape)


def largest_eigenvalue(rows, weights):
    return np.linalg.svd((rows - rows.mean(axis=0)) * weights, compute_uv=False)[0] ** 2 / len(rows)


def edge_of(rows, noise, mean, *, n_spectra, means=None):
    """Return the noise edge of a map of so many spectra with this mean, of which some are given."""
    moments = SimpleNamespace(mean=mean, n_second=n_spectra)
    summary = SimpleNamespace(sample=rows, sample_pixels=np.arange(len(rows)), moments=moments)
    return noise_edge(summary, NoiseEstimate(noise, 1.0, means), seed=0)


@pytest.mark.parametrize(("n", "n_channels", "n_spectra"), [(600, 150, 600), (150, 600, 150), (500, 100, 5000)])
def test_the_noise_edge_of_counts_is_the_largest_eigenvalue_of_pure_noise(n, n_channels, n_spectra):
    mean = np.linspace(0.3, 6, n_channels)
    counts = np.random.default_rng(1).poisson(mean, (n_spectra, n_channels))
    weights = channel_weights(mean, PoissonNoise())
    found = edge_of(counts[:n], PoissonNoise(), mean, n_spectra=n_spectra)

    assert found == pytest.approx(largest_eigenvalue(counts, weights), rel=0.06)


def test_the_noise_edge_depends_on_the_correlation_and_not_on_the_signal(planted, noisy):
    noise = PoissonGaussianNoise(3.0, 5.0, (1.0, 0.5))
    mean = planted(700, 150, level=100.0)
    pure = noisy(mean, gain=3, readout=5, correlation=(1, 0.5), seed=3) - mean
    weights = channel_weights(mean.mean(axis=0), noise)
    rows = noisy(mean, gain=3, readout=5, correlation=(1, 0.5))
    found = edge_of(rows, noise, mean.mean(axis=0), n_spectra=700, means=mean)

    assert found == pytest.approx(largest_eigenvalue(pure, weights), rel=0.06)


def test_the_noise_edge_looks_at_the_whole_sample(monkeypatch):
    monkeypatch.setattr("hyperspy_specml.statistics._folds._EDGE_ROWS", 200)
    dose = np.repeat([0.1, 5.0], 400)[:, None]  # the first half of the sample is nearly vacuum
    counts = np.random.default_rng(1).poisson(dose, (800, 50))
    weights = channel_weights(counts.mean(axis=0), PoissonNoise())
    found = edge_of(counts, PoissonNoise(), counts.mean(axis=0), n_spectra=800)

    assert found == pytest.approx(largest_eigenvalue(counts - dose, weights), rel=0.15)


@pytest.mark.parametrize(("above", "expected"), [(0, 16), (20, 38), (100, 128)])
def test_a_network_gets_the_vectors_above_the_noise_edge_and_some_more(above, expected):
    eigenvalues = np.where(np.arange(300) < above, 5.0, 1.0)

    assert n_compressed(eigenvalues, 2.0) == expected
    assert n_compressed(eigenvalues[:7], 2.0) == 7
