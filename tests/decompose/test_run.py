"""Decompositions of arrays: what they find, and what they leave alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hyperspy_specml.datasets import fe_l_map
from hyperspy_specml.decompose import DenseOptions, choose_architecture, decompose
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.streaming import SpectrumStream

SMALL = choose_architecture("dense", DenseOptions(n_hidden=16))


@pytest.mark.parametrize("shape", [(32, 32), (100,)])
def test_pure_noise_has_rank_one(short, shape):
    counts = np.random.default_rng(1).poisson(0.1, (*shape, 2048)).astype(np.uint8)
    found = decompose(SpectrumStream(counts), short, architecture="pca")

    assert found.prepared.estimate.model.name == "poisson"
    assert found.report.rank.chosen == found.model.n_components == 1
    assert found.report.hold_out == "exact"


@pytest.mark.parametrize("gaussian", [False, True])
def test_pure_noise_needs_one_latent(short, gaussian):
    rng = np.random.default_rng(3)
    mean = np.linspace(2, 6, 64)
    noise = rng.normal(50 + mean, 3, (20, 20, 64)).astype(np.float32) if gaussian else None
    longer = dataclasses.replace(short, config=dataclasses.replace(short.config, max_steps=300))
    values = rng.poisson(mean, (20, 20, 64)) if noise is None else noise
    found = decompose(SpectrumStream(values), longer, architecture=SMALL)

    assert found.report.rank.chosen == found.model.n_components == 1
    assert len(found.report.rank.ranks) == 2  # it was tried


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_planted_rank_is_chosen_on_held_out_counts(planted_counts, short, rank):
    counts, _ = planted_counts(rank=rank, dose=8.0)
    found = decompose(SpectrumStream(counts), short, architecture="pca")

    assert found.report.rank.chosen == rank
    assert found.report.n_above_edge() == rank
    assert int((found.prepared.basis.eigenvalues > found.prepared.edge).sum()) == rank


def test_the_number_of_latents_is_chosen_by_held_out_score(planted_counts, short):
    counts, _ = planted_counts(rank=2, dose=8.0)
    found = decompose(SpectrumStream(counts), short, architecture=SMALL)

    assert found.model.n_components == found.report.n_components == found.report.rank.chosen <= 2


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(planted_counts, short):
    stream = SpectrumStream(planted_counts()[0])
    runs = [
        decompose(stream, dataclasses.replace(short, seed=seed), architecture=SMALL, n_components=2)
        for seed in (0, 0, 1)
    ]

    np.testing.assert_array_equal(runs[0].scores, runs[1].scores)
    assert not np.array_equal(runs[0].scores, runs[2].scores)


def test_a_fit_leaves_the_global_random_state_alone(planted_counts, short):
    counts, _ = planted_counts()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state of users who rely on it
    expected = torch.rand(1), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    decompose(SpectrumStream(counts), short, architecture=SMALL, n_components=2)

    assert torch.rand(1) == expected[0]
    np.testing.assert_array_equal(np.random.get_state()[1], expected[1])  # noqa: NPY002


def test_the_autoencoder_beats_the_best_pca_on_an_edge_that_shifts(short):
    simulated = fe_l_map((40, 40), n_channels=256, dose=60.0)
    counts, clean = simulated.signal.data, simulated.clean.data.reshape(-1, 256)
    found = decompose(SpectrumStream(counts), Run(TrainConfig(max_steps=1500)), n_components=4)
    error = np.sqrt(np.mean((found.model.decode(found.scores) - clean) ** 2))

    rows = counts.reshape(-1, 256)
    baseline = decompose(SpectrumStream(counts), short, architecture="pca", n_components=10)
    basis = baseline.prepared.basis
    best_pca = min(
        np.sqrt(np.mean((basis.first(k).spectra(basis.first(k).project(rows)) - clean) ** 2)) for k in range(1, 11)
    )
    assert error < 0.95 * best_pca
    model, pca = found.report.candidates[0], found.report.candidates[-1]
    assert model.difference < -5 * model.standard_error  # the held-out score says so too
    assert pca.difference == 0


def test_a_sample_smaller_than_the_map_finds_nearly_the_same(planted_counts, short):
    counts, _ = planted_counts(shape=(60, 50), dose=8.0)
    budget = 3 * 7 * 64 * 8 * 1000  # room for 1000 of 3000 spectra of 64 channels, 8 bytes each
    found, whole = (
        decompose(stream, short, architecture="pca", n_components=3)
        for stream in (SpectrumStream(counts, memory_budget=budget), SpectrumStream(counts))
    )

    assert 256 <= len(found.prepared.summary.sample_pixels) < 3000
    assert found.report.n_sampled == len(found.prepared.summary.sample_pixels)
    assert found.report.rank.chosen == 3
    # The basis is that of all spectra.
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-4, atol=1e-3)


def test_a_result_holds_no_counts(planted_counts, short):
    counts, _ = planted_counts(shape=(30, 20), dose=8.0)

    prepared = decompose(SpectrumStream(counts), short, architecture="pca", n_components=3).prepared

    folds = prepared.folds
    held = [prepared.summary.sample, *folds.parts, folds.validation, folds.test, prepared.fold_parts]
    assert not any(array.size or array.base is not None for array in held)  # a view would hold all of it


def test_too_few_spectra_for_the_components_are_refused_with_the_numbers(planted_counts, short):
    counts, _ = planted_counts(shape=(5,))
    with pytest.raises(TooFewSpectraError, match="at least 9 spectra and 9 channels"):
        decompose(SpectrumStream(counts), short, n_components=8)


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_number_of_components_that_is_none_is_refused(planted_counts, short, k):
    counts, _ = planted_counts(shape=(5,))
    with pytest.raises(OptionError, match="whole number"):
        decompose(SpectrumStream(counts), short, n_components=k)


@pytest.mark.parametrize("wrong", [{"architecture": "densse"}, {"noise": "poison"}, {"n_components": 0}], ids=str)
def test_what_is_wrong_is_refused_before_the_file_is_read(counted, short, wrong):
    file = counted(np.ones((7, 5, 11), np.uint8))

    with pytest.raises(OptionError):
        decompose(SpectrumStream(file.dask((7, 5, 11))), short, **wrong)

    assert not file.reads.any()
