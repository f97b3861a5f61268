"""Passes over a map: one read of everything, a fixed order, bounded blocks, progress and cancelling."""

from __future__ import annotations

import functools
import itertools
import math
import pickle
import threading
import time
from collections import Counter

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import threadpoolctl

from hyperspy_specml.exceptions import Cancelled
from hyperspy_specml.progress import Progress
from hyperspy_specml.streaming import SpectrumStream, side_by_side

SHAPE = 9, 7, 11
CHUNKS = [(9, 7, 11), (4, 7, 11), (2, 3, 11), (3, 3, 4), (1, 1, 1)]


def n_pixels(block):
    return math.prod(s.stop - s.start for s in block.region)


class CountingFile:
    """Stands for a file: counts how much of it is read, and how often each chunk is touched."""

    def __init__(self, data, chunks):
        self.data, self.chunks = data, chunks
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.n_elements, self.touched = 0, Counter()
        self.lock = threading.Lock()

    def __getitem__(self, region):
        with self.lock:
            part = self.data[region]
            if part.size:  # dask looks at an empty part while it builds the graph
                self.n_elements += part.size
                self.touched[tuple(s.start // n for s, n in zip(region, self.chunks, strict=True))] += 1
            return part

    def lazy(self):
        return da.from_array(self, chunks=self.chunks, name=False)

    def computed(self):
        """Return a graph whose chunks are the results of tasks, of which no part can be read alone."""

        def read(block_info):
            return self[tuple(slice(a, b) for a, b in block_info[None]["array-location"])]

        chunks = da.core.normalize_chunks(self.chunks, self.shape)
        return da.map_blocks(read, chunks=chunks, dtype=self.dtype)


def numbers(shape=SHAPE):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def rows_and_pixels(rows, pixels):
    return [(pixels.copy(), rows.copy())]


def collect(stream):
    parts = stream.fold(rows_and_pixels, list.__add__, label="test")
    pixels = np.concatenate([part[0] for part in parts])
    return pixels, np.concatenate([part[1] for part in parts])


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("rows_per_block", [1, 10, 10**6])
def test_a_fold_sees_every_spectrum_once_and_whole(chunks, rows_per_block):
    data = numbers()
    for array in (data, da.from_array(data, chunks)):
        stream = SpectrumStream(array, memory_budget=16 * rows_per_block * 11 * 8)
        pixels, rows = collect(stream)

        np.testing.assert_array_equal(np.sort(pixels), np.arange(63))
        np.testing.assert_array_equal(rows, data.reshape(63, 11)[pixels])
        assert max(n_pixels(block) for block in stream.blocks) <= rows_per_block


@pytest.mark.parametrize("shape", [(61, 11), (9, 7, 11), (3, 5, 7, 11)])
def test_a_map_of_rows_is_in_the_order_of_the_pixels(shape):
    data = numbers(shape)
    array = da.from_array(data, (2,) * (len(shape) - 1) + (4,))
    found = SpectrumStream(array, memory_budget=16 * 5 * 11 * 8).map_rows(
        lambda rows, pixels: np.stack([rows.sum(axis=1), pixels], axis=1), n_columns=2, label="test"
    )

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], data.sum(axis=-1).reshape(-1))
    np.testing.assert_array_equal(found[:, 1], np.arange(found.shape[0]))


def test_a_fold_combines_in_a_fixed_order():
    stream = SpectrumStream(da.from_array(numbers(), (2, 3, 11)), memory_budget=16 * 6 * 11 * 8)
    order = collect(stream)[0]
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler):
            np.testing.assert_array_equal(collect(stream)[0], order)


@pytest.mark.parametrize("kind", ["lazy", "computed"])
@pytest.mark.parametrize("run", ["fold", "map_rows"])
def test_a_pass_reads_everything_once(kind, run):
    file = CountingFile(numbers((16, 12, 11)), (4, 4, 4))
    stream = SpectrumStream(getattr(file, kind)())
    assert file.n_elements == 0  # planning reads nothing
    if run == "fold":
        stream.fold(lambda rows, pixels: rows.sum(), float.__add__, label="test")
    else:
        stream.map_rows(lambda rows, pixels: rows[:, :1], n_columns=1, label="test")

    assert file.n_elements == 16 * 12 * 11
    assert set(file.touched.values()) == {1}


@pytest.mark.parametrize("run", ["fold", "map_rows"])
def test_blocks_are_not_read_ahead_of_the_work(run):
    file = CountingFile(np.ones((160, 4096, 1), np.uint8), (1, 4096, 1))
    stream, waiting, started = SpectrumStream(file.lazy()), [], itertools.count(1)

    def slow(rows, pixels):
        waiting.append(sum(file.touched.values()) / 4 - next(started))
        time.sleep(0.01)
        return rows

    with dask.config.set(num_workers=2):
        if run == "fold":
            stream.fold(slow, np.add, label="test")
        else:
            stream.map_rows(slow, n_columns=1, label="test")

    assert len(waiting) == 40
    assert max(waiting) <= 4  # one that each worker reads, and one that it has just read


def in_another_process(dsk, keys, **_):
    return dask.threaded.get(pickle.loads(cloudpickle.dumps(dsk)), keys)


def test_a_table_is_filled_by_workers_in_another_process_too():
    values = numbers((9, 2048, 3))
    lazy = da.from_array(values, chunks=(1, 2048, 3))

    with dask.config.set(scheduler=in_another_process):
        table = SpectrumStream(lazy).map_rows(lambda rows, pixels: rows, n_columns=3, label="test")

    np.testing.assert_array_equal(table, values.reshape(-1, 3))


@pytest.mark.parametrize("kind", ["lazy", "computed"])
def test_a_chunk_larger_than_a_block_is_touched_once_for_each_part_of_it(kind):
    shape, chunks = (64, 64, 64), (48, 48, 16)
    file = CountingFile(np.ones(shape, np.uint16), chunks)
    bytes_per_chunk_column = 48 * 48 * 64 * 2
    stream = SpectrumStream(getattr(file, kind)(), memory_budget=16 * bytes_per_chunk_column // 4)
    stream.map_rows(lambda rows, pixels: rows[:, :1], n_columns=1, label="test")

    assert max(n_pixels(block) * 64 * 2 for block in stream.blocks) <= bytes_per_chunk_column // 4
    assert max(file.touched.values()) <= 8
    if kind == "lazy":
        assert file.n_elements == np.prod(shape)  # a file gives the part alone


def test_jeol_like_chunks_keep_blocks_within_a_sixteenth_of_the_budget():
    array = da.zeros((512, 512, 4096), dtype=np.uint16, chunks=(406, 406, 406))
    stream = SpectrumStream(array, memory_budget=1_000_000_000)

    assert max(n_pixels(block) for block in stream.blocks) * 4096 * 2 <= 1_000_000_000 / 16
    assert len(stream.blocks) < 100


def test_a_large_map_of_small_chunks_has_few_large_blocks():
    array = da.zeros((512, 512, 2048), dtype=np.uint8, chunks=(32, 32, 2048))

    assert len(SpectrumStream(array).blocks) == 16


class Stages(Progress):
    """Collect stages and fractions."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def show(self):
        self.seen.append((self.stage, self.fraction))


@pytest.mark.parametrize("chunks", [None, (2, 7, 11)])
def test_a_pass_is_a_stage_of_the_progress_that_rises_to_its_end(chunks):
    progress, data = Stages(), numbers()
    array = da.from_array(data, chunks) if chunks else data
    stream = SpectrumStream(array, memory_budget=16 * 10 * 11 * 8, progress=progress)

    stream.map_rows(lambda rows, pixels: rows[:, :1], n_columns=1, label="Look at spectra")

    stages, fractions = zip(*progress.seen, strict=True)
    assert set(stages) == {"Look at spectra"}
    assert list(fractions) == sorted(fractions)
    assert len(set(fractions)) > len(stream.blocks)
    assert fractions[-1] == 1


def test_a_pass_ends_when_its_progress_is_cancelled():
    progress, done = Progress(), []
    stream = SpectrumStream(numbers(), memory_budget=16 * 11 * 8, progress=progress)

    def cancel(rows, pixels):
        done.append(len(rows))
        progress.cancel()
        return rows

    with pytest.raises(Cancelled, match="Look at spectra"):
        stream.map_rows(cancel, n_columns=11, label="Look at spectra")
    assert sum(done) < 63


def test_work_side_by_side_keeps_its_order_and_takes_one_core_each():
    barrier = threading.Barrier(2, timeout=300)  # both are at work at the same time

    def work(name):
        if name in "ab":
            barrier.wait()
        return name, {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    with dask.config.set(num_workers=2):
        found = side_by_side(*(functools.partial(work, name) for name in "abc"))

    assert [name for name, _ in found] == ["a", "b", "c"]
    assert {tuple(threads) for _, threads in found} == {(1,)}


def test_the_shape_of_a_stream_is_that_of_its_array():
    stream = SpectrumStream(numbers((3, 5, 7, 11)))

    assert (stream.navigation_shape, stream.n_pixels, stream.n_channels) == ((3, 5, 7), 105, 11)
