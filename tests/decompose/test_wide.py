"""Spectra so wide that products of channels do not fit: a sample stands for them, then one more pass."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.linalg

from hyperspy_specml.decompose import decompose
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.statistics import PoissonNoise, _summary, principal_basis, refine_basis, summarise_map
from hyperspy_specml.streaming import SpectrumStream

SHAPE, N_CHANNELS, RANK = (60, 50), 97, 3
RUN = Run(TrainConfig(max_steps=60, evaluate_every=20))


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    energy = np.arange(N_CHANNELS)
    spectra = 0.1 + np.exp(-0.5 * ((energy - np.array([20, 45, 80])[:, None]) / 5) ** 2)
    shares = rng.dirichlet([1, 1, 1], SHAPE)
    counts = rng.poisson(4 * shares @ spectra).astype(np.uint8)
    counts[..., 11] = 0
    counts[3, 4] = 0
    return counts


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr(_summary, "_NARROW", 0)
    monkeypatch.setattr(_summary, "_STATES", 1 << 20)  # as if there were a hundred times as many channels
    monkeypatch.setattr(_summary, "_MAX_VALUES", 400 * N_CHANNELS)  # 400 of 3000 spectra


def angle(a, b, rank):
    return np.rad2deg(scipy.linalg.subspace_angles(a.vectors[:, :rank], b.vectors[:, :rank]).max())


@pytest.mark.parametrize("centre", [False, True])
def test_one_more_pass_makes_the_basis_that_of_all_spectra(counts, wide, monkeypatch, centre):
    stream, noise = SpectrumStream(counts), PoissonNoise()
    summary = summarise_map(stream)
    assert summary.moments.products.shape == (N_CHANNELS - 1,)
    of_sample = principal_basis(summary.moments, noise, n_vectors=20, centre=centre)

    refined = refine_basis(stream, summary, of_sample)

    monkeypatch.setattr(_summary, "_STATES", 0)
    exact = principal_basis(summarise_map(stream).moments, noise, n_vectors=20, centre=centre)
    np.testing.assert_allclose(refined.vectors.T @ refined.vectors, np.eye(20), atol=1e-6)
    rank = RANK - centre
    assert angle(of_sample, exact, rank) > 5
    assert angle(refined, exact, rank) < 0.2 * angle(of_sample, exact, rank)


def test_a_wide_map_is_summarised_like_any_other(counts, wide, monkeypatch):
    found = summarise_map(SpectrumStream(counts))

    monkeypatch.setattr(_summary, "_STATES", 0)
    expected = summarise_map(SpectrumStream(counts))
    np.testing.assert_array_equal(found.pixel_state, expected.pixel_state)
    np.testing.assert_array_equal(found.channel_state, expected.channel_state)
    np.testing.assert_array_equal(found.moments.sums, expected.moments.sums)
    np.testing.assert_array_equal(found.moments.squares, expected.moments.squares)
    np.testing.assert_array_equal(found.moments.rows, found.sample)


@pytest.mark.parametrize("architecture", ["pca", "dense", "simplex"])
def test_a_wide_map_is_decomposed_lazy_or_not(counts, wide, architecture):
    arrays = counts, da.from_array(counts, chunks=(13, 50, 40))

    eager, lazy = (
        decompose(SpectrumStream(array), RUN, architecture=architecture, n_components=RANK) for array in arrays
    )

    np.testing.assert_allclose(lazy.scores, eager.scores, rtol=1e-4, atol=1e-3)
    expected = 4 * N_CHANNELS * 0.25
    assert eager.report.candidates[-1].score < expected  # a deviance, of a model that fits
    assert eager.model.decode(eager.scores[:1]).shape == (1, N_CHANNELS - 1)


def test_the_number_of_components_of_a_wide_map_is_chosen(counts, wide):
    found = decompose(SpectrumStream(counts), RUN, architecture="pca")

    assert found.report.rank.chosen == RANK
    assert (found.prepared.basis.eigenvalues > 1.1 * found.prepared.edge).sum() == RANK
