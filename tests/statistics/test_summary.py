"""The first pass: moments, unusable pixels and channels, the same for any chunks, laziness and dtype."""

from __future__ import annotations

import dataclasses

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.statistics import EMPTY, MASKED, NOT_FINITE, SATURATED, USED, moments_of, summarise_map
from hyperspy_specml.statistics import _summary as module
from hyperspy_specml.streaming import SpectrumStream

SHAPE = 7, 5, 11


def spectra(dtype="float64", shape=SHAPE, low=1):
    return np.random.default_rng(0).integers(low, 60, shape).astype(dtype)


def summary(array, *, budget=10**9, **options):
    return summarise_map(SpectrumStream(array, memory_budget=budget), **options)


def assert_same(found, expected, **tolerance):
    for part in ("sums", "products"):
        np.testing.assert_allclose(getattr(found.moments, part), getattr(expected.moments, part), **tolerance)
    assert found.moments.n == expected.moments.n
    assert found.minimum == expected.minimum
    for name in ("pixel_state", "channel_state", "sample", "sample_pixels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.pixel_sums, expected.pixel_sums, **tolerance)


def test_a_clean_map_is_used_whole():
    data = spectra()
    found = summary(data)
    rows = data.reshape(-1, 11)

    assert found.counts() == {"pixels": {"used": 35}, "channels": {"used": 11}}
    np.testing.assert_allclose(found.moments.products, rows.T @ rows)
    np.testing.assert_allclose(found.pixel_sums, rows.sum(axis=1))
    np.testing.assert_array_equal(found.sample, rows)
    np.testing.assert_array_equal(found.sample_pixels, np.arange(35))
    assert found.minimum == rows.min()


def damaged():
    """Spectra with one of everything: NaN, infinity, empty, cancelling, a dead and an unreadable channel."""
    data = spectra(low=2)
    data[0, 1, 3] = np.nan
    data[6, 4, 0] = np.inf
    data[2, 2] = np.nan  # not recorded at all
    data[3, 3] = 0
    data[4, 0] = 0
    data[4, 0, :2] = -1, 1  # a sum of zero is not yet an empty spectrum
    data[..., 7] = 0
    data[..., 9] = np.nan
    return data


def test_unusable_pixels_and_channels_are_found_and_classified():
    found = summary(damaged())
    pixels = np.zeros((7, 5), int)
    pixels[0, 1] = pixels[6, 4] = pixels[2, 2] = NOT_FINITE
    pixels[3, 3] = EMPTY
    channels = np.zeros(11, int)
    channels[7], channels[9] = EMPTY, NOT_FINITE
    used = damaged()[pixels == USED][:, channels == USED]

    np.testing.assert_array_equal(found.pixel_state, pixels.reshape(-1))
    np.testing.assert_array_equal(found.channel_state, channels)
    np.testing.assert_array_equal(found.channels, channels == USED)
    np.testing.assert_array_equal(found.sample, used)
    np.testing.assert_allclose(found.moments.products, used.T @ used)
    assert found.moments.n == len(used) == 31
    assert found.minimum == -1
    assert found.counts() == {
        "pixels": {"used": 31, "not finite": 3, "empty": 1},
        "channels": {"used": 9, "not finite": 1, "empty": 1},
    }


def test_a_map_with_few_recorded_spectra_keeps_its_channels():
    data = spectra()
    data[:5] = np.nan
    found = summary(data)

    assert found.channels.all()
    assert found.moments.n == 10


def test_a_channel_that_is_clipped_in_many_spectra_is_saturated():
    data = spectra("uint8")
    data[:, :2, 4] = 255  # in 14 of 35 spectra
    data[0, 0, 8] = 255  # one is no reason
    found = summary(data)

    np.testing.assert_array_equal(np.flatnonzero(found.channel_state), [4])
    assert found.channel_state[4] == SATURATED
    np.testing.assert_array_equal(found.sample, np.delete(data, 4, axis=-1).reshape(-1, 10))
    assert len(found.moments.sums) == 10


def test_masks_take_out_their_spectra_and_channels():
    data = damaged()
    navigation, signal = np.zeros((7, 5), bool), np.zeros(11, bool)
    navigation[0, 1] = navigation[1, 2] = True
    signal[[0, 7]] = True
    found = summary(data, navigation_mask=navigation, signal_mask=signal)

    assert (found.pixel_state.reshape(7, 5) == MASKED).sum() == 2
    assert found.pixel_state.reshape(7, 5)[navigation].tolist() == [MASKED] * 2
    assert found.channel_state[[0, 7]].tolist() == [MASKED] * 2
    assert found.pixel_state.reshape(7, 5)[6, 4] == USED  # its infinity lies in a masked channel
    assert (found.pixel_sums[found.pixel_state != USED] == 0).all()
    assert not np.isin(np.flatnonzero(navigation), found.sample_pixels).any()


def test_everything_masked_is_no_error_here():
    found = summary(spectra(), navigation_mask=np.ones((7, 5), bool))

    assert found.moments.n == 0
    assert len(found.sample) == 0


CHUNKS = [(7, 5, 11), (2, 5, 11), (3, 2, 11), (3, 2, 4), (1, 1, 1), ((1, 6), (4, 1), (10, 1))]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("budget", [10**9, 16 * 11 * 8 * 4])  # the second: blocks of four spectra
def test_lazy_chunked_and_merged_maps_give_what_the_array_gives(chunks, budget):
    data = damaged()

    assert_same(summary(da.from_array(data, chunks), budget=budget), summary(data), rtol=1e-12)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", ">u2", ">i4", "uint64", "float16", "float32", ">f4", ">f8"]
)
def test_every_type_gives_what_float64_gives(dtype):
    found, expected = summary(spectra(dtype)), summary(spectra("float64"))

    assert_same(found, expected, rtol=1e-12)
    assert found.sample.dtype.isnative


def test_half_precision_and_large_integers_do_not_overflow():
    half = np.full(SHAPE, 6e4, np.float16)
    large = np.full(SHAPE, 2**61, np.uint64)

    np.testing.assert_allclose(summary(half).pixel_sums, 11 * float(np.float16(6e4)))
    np.testing.assert_allclose(summary(large).pixel_sums, 11 * 2.0**61)


@pytest.mark.parametrize("shape", [(35, 11), (7, 5, 11), (7, 5, 1, 11)])
def test_any_number_of_navigation_axes_gives_the_same_statistics(shape):
    assert_same(summary(spectra().reshape(shape)), summary(spectra().reshape(35, 11)), rtol=1e-12)


def test_a_map_larger_than_the_sample_is_sampled_by_the_seed_alone(monkeypatch):
    monkeypatch.setattr(module, "sample_size", lambda stream: 12)
    data = spectra()
    mask = np.zeros((7, 5), bool)
    mask[:4] = True
    found = summary(data)
    others = [summary(da.from_array(data, chunks), budget=16 * 11 * 8 * 4) for chunks in CHUNKS]

    assert len(found.sample_pixels) == 12
    np.testing.assert_array_equal(found.sample, data.reshape(-1, 11)[found.sample_pixels])
    for other in others:
        assert_same(other, found, rtol=1e-12)
    assert summary(data, seed=1).sample_pixels.tolist() != found.sample_pixels.tolist()
    assert summary(data, navigation_mask=mask).sample_pixels.tolist() != found.sample_pixels.tolist()
    assert len(summary(data, navigation_mask=mask).sample_pixels) == 12  # a mask does not thin the sample


def test_the_order_of_the_blocks_is_not_that_of_the_sample():
    stream = SpectrumStream(spectra(), memory_budget=16 * 11 * 8 * 4)
    object.__setattr__(stream, "blocks", stream.blocks[::-1])

    assert_same(summarise_map(stream), summary(spectra()), rtol=1e-12)


def test_the_sample_and_its_folds_fit_into_the_budget():
    array = da.zeros((4000, 4000, 2048), dtype=np.uint16, chunks=(100, 100, 2048))
    stream = SpectrumStream(array, memory_budget=200_000_000)

    assert 256 <= module.sample_size(stream) <= 200_000_000 / (7 * 2 * 2048)


def test_the_summary_runs_on_processes_too():
    data = damaged()
    with dask.config.set(scheduler="processes", num_workers=1):
        found = summary(da.from_array(data, (4, 5, 11)))

    assert_same(found, summary(data), rtol=1e-12)


def test_the_summary_does_not_change_its_input():
    data = damaged()
    before = data.copy()
    summary(data)

    np.testing.assert_array_equal(data, before)


def test_moments_are_those_of_all_used_spectra_not_of_the_sample(monkeypatch):
    monkeypatch.setattr(module, "sample_size", lambda stream: 3)
    data = spectra()

    expected = dataclasses.asdict(moments_of(data.reshape(-1, 11)))
    np.testing.assert_allclose(summary(data).moments.products, expected["products"])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_a_spectrum_without_counts_is_data_where_the_map_holds_counts(dtype):
    data = spectra(dtype, low=0)
    data[3, 3] = data[6, 0] = 0
    found = summary(data)

    assert found.counts() == {"pixels": {"used": 35}, "channels": {"used": 11}}
    np.testing.assert_array_equal(found.sample, data.reshape(-1, 11))
    assert found.moments.n == 35
    assert_same(summary(da.from_array(data, (1, 2, 4))), found, rtol=1e-12)


@pytest.mark.parametrize(("change", "where"), [(0.5, (0, 0, 2)), (-1, (6, 4, 10))])
def test_one_value_that_is_no_count_makes_spectra_of_zeros_empty(change, where):
    data = spectra(low=2)
    data[3, 3] = 0
    data[where] = change
    found = summary(data)

    assert found.counts()["pixels"] == {"used": 34, "empty": 1}
    assert found.moments.n == len(found.sample) == 34
    assert 18 not in found.sample_pixels


def test_a_map_of_zeros_is_empty():
    assert summary(np.zeros(SHAPE, np.uint8)).counts() == {"pixels": {"empty": 35}, "channels": {"empty": 11}}


def aligned(shape=(24, 28, 100), reach=5):
    """Spectra that were moved by up to five channels without cropping, and where they have no values."""
    y, x, channel = np.indices(shape)
    shift = np.round(reach * np.sin(y / 5) * np.cos(x / 7)).astype(int)
    missing = (channel < shift) | (channel >= shape[-1] + shift)
    return np.where(missing, np.nan, spectra(shape=shape)), missing


def test_ends_that_are_not_finite_in_aligned_spectra_are_left_out_and_all_pixels_are_used(caplog):
    data, missing = aligned()
    ends = missing.any(axis=(0, 1))
    assert missing.any(axis=-1).mean() > 0.6
    with caplog.at_level("INFO", logger="hyperspy_specml"):
        found = summary(data)

    assert ends.sum() == 10
    assert found.counts() == {"pixels": {"used": 24 * 28}, "channels": {"used": 90, "not finite": 10}}
    np.testing.assert_array_equal(found.channels, ~ends)
    np.testing.assert_array_equal(found.sample, data.reshape(-1, 100)[:, ~ends])
    assert "10 channels that are not finite in" in caplog.text
    assert_same(summary(da.from_array(data, (5, 9, 33))), found, rtol=1e-12)


def test_pixels_are_left_out_where_that_costs_less_and_many_are_said(caplog):
    data = spectra()
    data[:2, :, 2:9] = np.nan  # two of seven lines lack seven of eleven channels
    found = summary(data)

    assert found.counts() == {"pixels": {"used": 25, "not finite": 10}, "channels": {"used": 11}}
    assert "10 of 35 spectra hold values that are not finite and are left out" in caplog.text
