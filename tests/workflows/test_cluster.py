"""The same calls with an active distributed client: the same numbers, and only scores come back."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from dask.sizeof import sizeof

from hyperspy_specml.models import LinearModel
from hyperspy_specml.run import TrainConfig

distributed = pytest.importorskip("distributed")

SCAN, CHUNKS = (24, 30), (6, 10, 20)  # the chunks cut the energy axis; 12 blocks of whole spectra
SMALL_BLOCKS = TrainConfig(max_steps=60, evaluate_every=20, memory_budget=16 * 60 * 61 * 2)
BLOCKS = TrainConfig(memory_budget=16 * 60 * 61 * 2)


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "60s"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def lazy(make_map, make_counts):
    return make_map(data=da.from_array(make_counts(SCAN), chunks=CHUNKS))


@pytest.fixture
def gathered(monkeypatch):
    """Collect what comes back from the cluster, as bytes per result."""
    sizes: list[int] = []
    gather = distributed.Client.gather

    def watch(self, futures, *args, **options):
        found = gather(self, futures, *args, **options)
        sizes.extend(sizeof(item) for item in found)
        return found

    monkeypatch.setattr(distributed.Client, "gather", watch)
    return sizes


@pytest.mark.parametrize("architecture", ["pca", "dense"])
def test_a_cluster_gives_what_threads_give(lazy, decompose, cluster, architecture):
    def run():
        dec = decompose(lazy, architecture=architecture, config=SMALL_BLOCKS)
        again = lazy.decomposition_ae(model=dec.model, show_progressbar=False)
        return dec, again, dec.reconstruction.data.compute(), again.residual.data.compute()

    expected = run()
    with distributed.Client(cluster):
        found = run()

    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(one.scores.data, other.scores.data, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(one.baseline.scores.data, other.baseline.scores.data, rtol=1e-5, atol=1e-4)
        assert one.report.n_components == other.report.n_components
        assert one.report.chosen == other.report.chosen
    for one, other in zip(found[2:], expected[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_applying_a_model_brings_back_scores_only(lazy, decompose, fitted, client, gathered):
    _, dec = fitted("dense")

    lazy.decomposition_ae(model=dec.model, config=BLOCKS, show_progressbar=False)

    n_columns = 3 + 3 + 1  # scores of the model and of its baseline, and the state of each spectrum
    assert len(gathered) == 12
    scores = 4 * n_columns * 24 * 30
    assert scores <= sum(gathered) < 2.2 * scores + 12 * 200  # block results may be float64; a head for each
    assert sum(gathered) < 0.6 * lazy.data.nbytes


def test_a_fit_brings_back_moments_the_sample_and_scores(lazy, decompose, client, gathered):
    decompose(lazy, architecture="pca", config=SMALL_BLOCKS)

    n_pixels, n_chains = 24 * 30, 2
    moments = 8 * 61 * 61 * n_chains
    sample = min(n_pixels, 256) * 61 * 2  # uint16, what the memory budget has room for
    rest = n_pixels * (8 + 8 + 8 + 1 + 8 * 4)  # indices, sums and states of the pixels, and the scores
    assert sum(gathered) < moments + sample + rest + 20_000
    assert sum(gathered) < lazy.data.nbytes + moments


class CountedModel(LinearModel):
    """A model that counts how often this process pickles it."""

    pickled = 0

    def __reduce__(self):
        type(self).pickled += 1
        return LinearModel, (self.basis,)


@pytest.mark.parametrize("what", ["scores", "residual"])
def test_the_model_is_sent_once_whatever_the_number_of_blocks(lazy, fitted, client, what):
    from dataclasses import replace

    _, dec = fitted("pca")
    trained = replace(dec.model, model=CountedModel(dec.model.model.basis), baseline=None)
    CountedModel.pickled = 0

    applied = lazy.decomposition_ae(model=trained, config=BLOCKS, show_progressbar=False)
    if what == "residual":
        CountedModel.pickled = 0
        assert applied.residual.data.npartitions == 12
        applied.residual.data.sum().compute()

    assert 1 <= CountedModel.pickled <= 2  # one is dask's, which looks whether it can be pickled


def test_a_map_in_memory_is_not_sent(make_map, make_counts, decompose, client, gathered):
    signal = make_map(data=make_counts(SCAN))

    decompose(signal, architecture="pca")

    assert gathered == []
