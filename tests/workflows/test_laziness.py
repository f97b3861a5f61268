"""Lazy equals eager in any chunking, and the file is read twice, whatever its size."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

pytestmark = pytest.mark.parametrize("architecture", ["pca", "dense"])

CHUNKS = {
    "one": (12, 17, 61),
    "scan only": (5, 4, 61),
    "energy too": (5, 4, 20),
    "ragged": ((1, 8, 3), (9, 8), (30, 1, 30)),
    "energy only": (12, 17, 7),
}


@pytest.mark.parametrize("chunks", CHUNKS)
def test_lazy_equals_eager_in_any_chunking(make_map, make_counts, decompose, fitted, architecture, chunks):
    _, eager = fitted(architecture)
    data = make_counts()

    dec = decompose(make_map(data=da.from_array(data, chunks=CHUNKS[chunks])), architecture=architecture)

    np.testing.assert_allclose(dec.scores.data, eager.scores.data, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dec.components.data, eager.components.data, rtol=1e-4, atol=1e-4)
    for name in ("reconstruction", "residual"):
        lazy = getattr(dec, name)
        assert lazy._lazy
        lazy.compute(show_progressbar=False)
        np.testing.assert_allclose(lazy.data, getattr(eager, name).data, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(data, make_counts())


def test_a_lazy_map_with_the_energy_elsewhere_in_memory_is_the_same(
    make_map, make_counts, decompose, fitted, unchanged, architecture
):
    _, expected = fitted(architecture)
    signal = unchanged(make_map(data=da.from_array(make_counts(), chunks=(5, 4, 20)), order=(2, 0, 1)))

    dec = decompose(signal, architecture=architecture)

    np.testing.assert_allclose(dec.scores.data, expected.scores.data, rtol=1e-4, atol=1e-3)
    residual = np.asarray(dec.residual.data)
    np.testing.assert_allclose(residual, expected.residual.data, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("chunks", [(5, 4, 61), (5, 4, 20)])
def test_the_file_is_read_twice_and_once_more_for_the_residual(
    make_map, make_counts, decompose, counted, unchanged, architecture, chunks
):
    file = counted(make_counts())
    signal = unchanged(make_map(data=file.dask(chunks)))

    dec = decompose(signal, architecture=architecture)
    assert np.all(file.reads == 2), "summary and projection"

    reconstruction, residual, _ = dec.reconstruction, dec.residual, dec.baseline.residual
    str(dec), dec._repr_html_(), dec.plot(), dec.report.plot()
    assert np.all(file.reads == 2), "building and showing read nothing"

    reconstruction.compute(show_progressbar=False)
    assert np.all(file.reads == 2), "a reconstruction is made from scores"

    residual.compute(show_progressbar=False)
    assert np.all(file.reads == 3)


def test_masks_and_a_chosen_size_cost_no_further_reading(make_map, make_counts, decompose, counted, architecture):
    file = counted(make_counts())
    mask = np.zeros((12, 17), bool)
    mask[3] = True

    decompose(make_map(data=file.dask((5, 4, 20))), None, architecture=architecture, navigation_mask=mask)

    assert file.reads.max() == 2


def test_dask_computes_two_graphs_and_none_while_results_are_built(
    make_map, make_counts, decompose, computations, architecture
):
    dec = decompose(make_map(data=da.from_array(make_counts(), chunks=(5, 4, 20))), architecture=architecture)
    built = [dec.reconstruction, dec.residual, dec.baseline.residual]

    assert all(signal._lazy for signal in built)
    assert len(computations) == 2


def test_full_size_outputs_follow_the_chunks_of_the_file_within_a_block(
    make_map, make_counts, decompose, architecture, monkeypatch
):
    dec = decompose(make_map(data=da.from_array(make_counts(), chunks=(5, 4, 20))), architecture=architecture)
    assert dec.residual.data.chunks == ((5, 5, 2), (4, 4, 4, 4, 1), (61,))

    monkeypatch.setattr("hyperspy_specml.signals._source._BLOCK_BYTES", 6 * 61 * 4)
    reconstruction = dec.baseline.reconstruction.data
    sizes = [max(sizes) for sizes in reconstruction.chunks]
    assert sizes[0] * sizes[1] <= 6
    assert sizes[2] == 61
    product = np.tensordot(dec.baseline.scores.data, dec.baseline.components.data, (0, 0))
    np.testing.assert_allclose(reconstruction.compute(), product, rtol=1e-4, atol=1e-3)


def test_an_eager_map_in_small_blocks_is_the_same(make_map, make_counts, decompose, fitted, architecture, monkeypatch):
    _, expected = fitted(architecture)
    monkeypatch.setattr("hyperspy_specml.signals._source._BLOCK_BYTES", 5 * 61 * 4)

    dec = decompose(make_map(data=make_counts()), architecture=architecture)

    np.testing.assert_allclose(dec.residual.data, expected.residual.data, rtol=1e-5, atol=1e-3)
