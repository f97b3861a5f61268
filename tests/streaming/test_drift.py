"""Passes over a map whose scan lines have drifted see its spectra shifted back."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.streaming import Block, SpectrumStream, map_with_halo, patch_sums, shift_channels

SHAPE, N_CHANNELS = (7, 5), 11
DRIFT = np.array([0, 2, -3, 0, 1, 10, -10])
DATA = np.arange(1, 7 * 5 * 11 + 1, dtype=np.uint16).reshape(*SHAPE, N_CHANNELS)


def shifted_back():
    """By hand: channel c of the result is channel c + drift of the data, if there is one."""
    out = np.zeros_like(DATA)
    for line, drift in enumerate(DRIFT):
        for channel in range(N_CHANNELS):
            if 0 <= channel + drift < N_CHANNELS:
                out[line, :, channel] = DATA[line, :, channel + drift]
    return out


@pytest.fixture(params=["array", "lines", "columns"])
def stream(request):
    chunks = {"lines": (2, 5, 4), "columns": (3, 2, 11)}
    data = DATA if request.param == "array" else da.from_array(DATA, chunks=chunks[request.param])
    return SpectrumStream(data, drift=DRIFT)


def test_shifting_there_and_back_keeps_the_channels_that_stay_inside():
    rows, by = np.arange(1, 34).reshape(3, 11), np.array([3, 0, -4])

    there_and_back = shift_channels(shift_channels(rows, by), -by)

    np.testing.assert_array_equal(there_and_back[0, :-3], rows[0, :-3])
    np.testing.assert_array_equal(there_and_back[1], rows[1])
    np.testing.assert_array_equal(there_and_back[2, 4:], rows[2, 4:])
    assert there_and_back[0, -3:].sum() == there_and_back[2, :4].sum() == 0


def test_every_spectrum_is_shifted(stream):
    rows = stream.map_rows(lambda rows, pixels: rows, n_columns=N_CHANNELS, label="test")

    np.testing.assert_array_equal(rows.reshape(*SHAPE, -1), shifted_back())


def test_sums_over_patches_are_of_shifted_spectra(stream):
    used, channels = np.ones(35, bool), np.ones(N_CHANNELS, bool)

    sums, counts = patch_sums(stream, used, channels, sides=(1, 3), label="test")

    by_hand = np.stack([shifted_back()[:, :3].sum(axis=1), shifted_back()[:, 3:].sum(axis=1)], axis=1)
    np.testing.assert_array_equal(sums, by_hand)
    np.testing.assert_array_equal(counts, np.tile([3, 2], (7, 1)))


def test_blocks_with_a_halo_are_shifted(stream):
    parts = map_with_halo(stream, lambda values, pixels, inner: values[inner], halo=1, label="test")

    for pixels, values in parts:
        np.testing.assert_array_equal(values.reshape(-1, N_CHANNELS), shifted_back().reshape(35, -1)[pixels])


def test_boxes_are_shifted(stream):
    box = Block((slice(4, 7), slice(1, 3)))

    (rows,) = stream.map_blocks([box], lambda rows, pixels: rows, label="test")

    np.testing.assert_array_equal(rows, shifted_back()[4:7, 1:3].reshape(6, -1))
    np.testing.assert_array_equal(DATA.ravel(), np.arange(1, DATA.size + 1))  # the user's data
