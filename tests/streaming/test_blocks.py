"""Blocks cover a map, follow its chunks, and keep to their size."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.streaming import plan_blocks

MAPS = [
    ((61,), (7,)),
    ((7, 5), (2, 5)),
    ((7, 5), (3, 2)),
    ((13, 17), ((1, 9, 3), (17,))),
    ((3, 7, 5), (2, 3, 4)),
    ((40, 30), (40, 30)),
]


def n_pixels(block):
    return math.prod(s.stop - s.start for s in block.region)


def chunked(shape, chunks, energy=4):
    return da.zeros((*shape, 11), dtype=np.float32, chunks=(*chunks, energy))


def edges(intervals):
    return {bound for part in intervals for bound in (part.start, part.stop)}


@pytest.mark.parametrize(("shape", "chunks"), MAPS)
@pytest.mark.parametrize("n_rows", [1, 6, 35, 10**6])
def test_blocks_cover_every_pixel_once(shape, chunks, n_rows):
    for array in (chunked(shape, chunks), np.zeros((*shape, 11))):
        blocks = plan_blocks(array, n_rows=n_rows)
        pixels = np.concatenate([block.pixels(shape) for block in blocks])

        np.testing.assert_array_equal(np.sort(pixels), np.arange(np.prod(shape)))
        assert max(n_pixels(block) for block in blocks) <= n_rows
        assert [n_pixels(block) for block in blocks] == [len(block.pixels(shape)) for block in blocks]


@pytest.mark.parametrize(("shape", "chunks"), MAPS)
def test_the_pixels_of_a_block_come_in_the_order_of_its_rows(shape, chunks):
    numbers = np.arange(np.prod(shape)).reshape(shape)
    for block in plan_blocks(chunked(shape, chunks), n_rows=9):
        np.testing.assert_array_equal(numbers[block.region].reshape(-1), block.pixels(shape))


def test_small_chunks_are_merged_and_their_bounds_kept():
    array = chunked((12, 20), (3, 5))
    for most_rows in (None, 10**6):
        blocks = plan_blocks(array, n_rows=130, most_rows=most_rows)

        assert len(blocks) == 2
        assert edges(block.region[0] for block in blocks) == {0, 6, 12}


def test_chunks_are_not_cut_unless_they_are_too_large():
    array = chunked((12, 20), (6, 20))

    assert len(plan_blocks(array, n_rows=10, most_rows=120)) == 2
    assert len(plan_blocks(array, n_rows=10, most_rows=60)) == 4
    assert len(plan_blocks(array, n_rows=10)) == 24


@pytest.mark.parametrize(("chunks", "most_rows"), [((64, 64), 15258), ((8, 32), 300), ((50, 1), 60), ((1, 16), 100)])
def test_merging_along_the_fast_axis_cuts_no_chunk_that_fits(chunks, most_rows):
    shape = (200, 256)
    for block in plan_blocks(chunked(shape, chunks), n_rows=most_rows, most_rows=most_rows):
        for s, chunk, size in zip(block.region, chunks, shape, strict=True):
            assert s.start % chunk == 0
            assert s.stop % chunk == 0 or s.stop == size
        assert np.prod([s.stop - s.start for s in block.region]) <= most_rows


def test_an_array_in_memory_is_cut_as_asked():
    assert len(plan_blocks(np.zeros((12, 20, 11)), n_rows=60, most_rows=10**6)) == 4
