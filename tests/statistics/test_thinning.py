"""Splits: the folds sum to the data, have the right distribution and are independent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import toeplitz

from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise
from hyperspy_specml.statistics._noise import uniform

FRACTIONS = (0.7, 0.15, 0.15)
SIX = (0.175,) * 4 + (0.15, 0.15)


def split(counts, fractions=FRACTIONS, *, pixels=None, seed=0, stream=0):
    pixels = np.arange(len(counts)) if pixels is None else pixels
    return PoissonNoise().split(counts, pixels, fractions, seed=seed, stream=stream)


def split_gaussian(values, pixels, *, variance, correlation, seed):
    noise = PoissonGaussianNoise(1.0, 0.0, tuple(correlation))
    return noise.split(values, pixels, FRACTIONS, seed=seed, mean=variance)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "float32", "int64", "float64"])
def test_folds_keep_the_dtype_and_sum_to_the_counts(dtype):
    counts = np.random.default_rng(0).poisson(3, (7, 11)).astype(dtype)
    folds = split(counts)

    assert {fold.dtype for fold in folds} == {np.dtype(dtype)}
    np.testing.assert_array_equal(sum(fold.astype(np.int64) for fold in folds), counts.astype(np.int64))


def test_folds_do_not_depend_on_the_dtype():
    counts = np.random.default_rng(0).poisson(3, (7, 11))

    for narrow, wide in zip(split(counts.astype(np.uint8)), split(counts.astype(np.float32)), strict=True):
        np.testing.assert_array_equal(narrow, wide)


@pytest.mark.parametrize("n", [1, 2, 3, 50, 4095, 4096, 5000, 100_000])
def test_each_fold_is_binomial(n):
    n_draws = 40_000
    folds = split(np.full((200, n_draws // 200), n), SIX, seed=3)

    for fold, fraction in zip(folds, SIX, strict=True):
        law = stats.binom(n, fraction)
        edges = np.unique(law.ppf(np.linspace(0.05, 0.95, 10)))
        expected = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * n_draws
        observed = np.bincount(np.searchsorted(edges, fold.reshape(-1)), minlength=len(expected))
        possible = expected > 0
        assert observed[~possible].sum() == 0
        if possible.sum() > 1:
            assert stats.chisquare(observed[possible], expected[possible]).pvalue > 1e-4


@pytest.mark.parametrize("n", [1 << 30, (1 << 40) + 12345, 1 << 60])
def test_huge_counts_keep_mean_and_variance(n):
    fold, _ = split(np.full((40, 500), n), (0.3, 0.7))
    z = (fold.astype(float) - 0.3 * n) / np.sqrt(0.21 * n)

    assert abs(z.mean()) < 0.03
    assert z.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("mean", [0.2, 3.0, 400.0])
def test_folds_of_poisson_counts_are_independent_poisson_counts(mean):
    counts = np.random.default_rng(1).poisson(mean, (300, 400))
    folds = [fold.reshape(-1).astype(float) for fold in split(counts)]
    error = 4 / np.sqrt(counts.size)

    for fold, fraction in zip(folds, FRACTIONS, strict=True):
        assert fold.mean() == pytest.approx(fraction * mean, rel=error / np.sqrt(fraction * mean))
        assert fold.var() == pytest.approx(fraction * mean, rel=error * (2 + 1 / (fraction * mean)) ** 0.5)
    correlation = np.corrcoef(folds)
    assert np.abs(correlation - np.eye(3)).max() < error


def test_a_split_is_a_function_of_pixel_and_channel_alone():
    counts = np.random.default_rng(2).poisson(2000, (13, 11)) * np.array([[0, 1, 3] + [1] * 8])
    pixels = np.arange(13) + 10**9
    whole = split(counts, pixels=pixels)
    order = np.random.default_rng(3).permutation(13)
    pieces = [split(counts[part], pixels=pixels[part]) for part in np.array_split(order, 5)]

    for k, fold in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([piece[k] for piece in pieces]), fold[order])


def test_a_large_split_does_not_depend_on_its_slabs():
    counts = np.ones((700, 2048), np.uint8)
    fold = split(counts)[0]

    np.testing.assert_array_equal(split(counts[650:], pixels=np.arange(650, 700))[0], fold[650:])


@pytest.mark.parametrize("other", [{"seed": 1}, {"stream": 100}, {"pixels": np.arange(200) + 200}])
def test_other_seeds_streams_and_pixels_are_independent(other):
    counts = np.full((200, 500), 9)
    here, there = split(counts)[0], split(counts, **other)[0]

    assert abs(np.corrcoef(here.reshape(-1), there.reshape(-1))[0, 1]) < 4 / np.sqrt(counts.size)


def test_neighbouring_addresses_give_independent_uniform_numbers():
    u = uniform(5, 0, np.arange(400)[:, None], np.arange(500)[None])

    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u.reshape(-1), "uniform").pvalue > 1e-3
    for a, b in ((u[1:], u[:-1]), (u[:, 1:], u[:, :-1])):
        assert abs(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]) < 4 / np.sqrt(u.size)


@pytest.mark.parametrize("correlation", [(1.0,), (1.0, 0.5), (1.0, 0.6, 0.25, 0.1), (1.0, -0.3)])
def test_folds_of_gaussian_values_have_their_fraction_of_the_covariance(correlation, noisy):
    n, n_channels = 20_000, 11
    mean, spread = np.linspace(5, 300, n_channels), np.linspace(1, 7, n_channels)
    unit = noisy(np.zeros((n, n_channels)), gain=0, readout=1, correlation=correlation)
    folds = split_gaussian(mean + spread * unit, np.arange(n), variance=spread**2, correlation=correlation, seed=0)
    expected = toeplitz(np.pad(correlation, (0, n_channels - len(correlation))))
    error = 6 / np.sqrt(n)
    white = [(fold - f * mean) / (spread * np.sqrt(f)) for fold, f in zip(folds, FRACTIONS, strict=True)]

    np.testing.assert_allclose(sum(folds), mean + spread * unit, rtol=1e-5, atol=1e-4)
    for k, a in enumerate(white):
        assert np.abs(a.mean(axis=0)).max() < error
        np.testing.assert_allclose(a.T @ a / n, expected, atol=error)
        for b in white[:k]:
            np.testing.assert_allclose(a.T @ b / n, 0, atol=error)


def test_a_gaussian_split_is_a_function_of_pixel_and_channel_alone():
    values = np.random.default_rng(4).normal(size=(13, 11))
    variance = np.random.default_rng(5).random((13, 11))

    def fold(rows):
        return split_gaussian(
            values[rows], np.arange(13)[rows], variance=variance[rows], correlation=np.array([1, 0.4]), seed=6
        )[1]

    np.testing.assert_array_equal(fold(slice(5, 9)), fold(slice(None))[5:9])
