"""Arrays that are no plain ones in memory give what their plain copies give."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.streaming import plain_array

sparse = pytest.importorskip("sparse")
pytestmark = pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.RemovedSignalWarning")


def mapped(array, folder):
    file = np.memmap(folder / "counts.raw", array.dtype, "w+", shape=array.shape)
    file[:] = array
    file.flush()
    return np.memmap(folder / "counts.raw", array.dtype, "r", shape=array.shape)


def read_only(array, _):
    array = array.copy()
    array.flags.writeable = False
    return array


def in_sparse_blocks(array, _):
    parts = [da.from_array(sparse.COO.from_numpy(part), chunks=(5, 6, 40)) for part in (array[:, :9], array[:, 9:])]
    return da.concatenate(parts, axis=1)


OTHERS = {
    "energy turned": lambda array, _: array[..., ::-1].copy()[..., ::-1],
    "scan turned": lambda array, _: array[::-1, ::-1].copy()[::-1, ::-1],
    "every other pixel": lambda array, _: np.repeat(array, 2, axis=1)[:, ::2],
    "read-only": read_only,
    "big-endian": lambda array, _: array.astype(">u2"),
    "mapped": mapped,
    "sparse": in_sparse_blocks,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_pca_of_other_arrays_is_that_of_their_copies(make_map, make_counts, decompose, tmp_path, kind):
    counts = make_counts()
    dec, expected = (
        decompose(make_map(data=array), 2, architecture="pca") for array in (OTHERS[kind](counts, tmp_path), counts)
    )
    close = {"rtol": 1e-5, "atol": 1e-4}
    np.testing.assert_allclose(dec.scores.data, expected.scores.data, **close)
    np.testing.assert_allclose(dec.components.data, expected.components.data, **close)
    residual = dec.residual
    if residual._lazy:
        residual.compute(show_progressbar=False)
    np.testing.assert_allclose(residual.data, expected.residual.data, **close)


@pytest.mark.parametrize("kind", ["energy turned", "scan turned", "sparse"])
def test_denoising_and_anomalies_of_other_arrays_are_those_of_their_copies(make_map, make_counts, tmp_path, kind):
    counts = make_counts((9, 11))
    signals = [make_map(data=array) for array in (OTHERS[kind](counts, tmp_path), counts)]
    quiet = {"show_progressbar": False}
    clean, expected = (np.asarray(s.denoise_dae(context="spatial", **quiet).data) for s in signals)
    np.testing.assert_allclose(clean, expected, rtol=1e-4, atol=1e-3)
    found, wanted = (s.anomaly_map(output_dimension=3, **quiet) for s in signals)
    np.testing.assert_allclose(found.score.data, wanted.score.data, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("array", [np.arange(24.0).reshape(4, 6)[::-1, ::2], np.arange(6, dtype=">f4")[::-1]])
def test_plain_arrays_are_copied_only_where_they_are_not_plain(array):
    plain = plain_array(array)
    assert plain.flags.c_contiguous
    assert plain.dtype.isnative
    np.testing.assert_array_equal(plain, array)
    assert np.shares_memory(plain_array(plain), plain)
