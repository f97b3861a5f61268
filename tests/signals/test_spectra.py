from __future__ import annotations

import itertools
import logging

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.exceptions import NavigationDimensionError, SignalDimensionError

from hyperspy_specml.exceptions import (
    DataTypeError,
    MaskError,
    MaskOrderWarning,
    NavigationRequiredError,
    OptionError,
    SpectraRequiredError,
)
from hyperspy_specml.signals import spectra_of

MASK = np.zeros((7, 5), bool)
MASK[6, 1] = MASK[0, 4] = True  # not symmetric: swapped axes show


@pytest.mark.parametrize("n_navigation", [1, 2, 3])
@pytest.mark.parametrize("lazy", [False, True])
def test_spectra_of_any_number_of_navigation_axes_come_in_array_order(make_map, unchanged, n_navigation, lazy):
    signal = make_map(n_navigation)
    signal = unchanged(signal.as_lazy() if lazy else signal)

    spectra = spectra_of(signal, method="test")

    assert isinstance(spectra.array, da.Array if lazy else np.ndarray)
    assert spectra.array.dtype == np.uint8
    np.testing.assert_array_equal(spectra.array, signal.data)
    assert spectra.navigation_mask is None
    assert spectra.signal_mask is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("lazy", [False, True])
def test_the_spectrum_of_a_pixel_is_found_wherever_its_axes_lie_in_memory(make_map, unchanged, order, lazy):
    signal = make_map(order=order)
    signal = unchanged(signal.as_lazy() if lazy else signal)

    array = np.asarray(spectra_of(signal, method="test").array)

    assert array.shape == (*signal.axes_manager.navigation_shape[::-1], 11)
    for x, y in np.ndindex(signal.axes_manager.navigation_shape):
        np.testing.assert_array_equal(array[y, x], signal.inav[x, y].data)


def test_a_signal_transposed_by_hyperspy_swaps_its_scan_axes(make_map, unchanged):
    signal = unchanged(make_map().transpose(navigation_axes=["y", "x"]))

    array = spectra_of(signal, method="test").array

    np.testing.assert_array_equal(array, make_map().data.swapaxes(0, 1))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_eager_spectra_are_a_view_of_the_data(make_map, order):
    signal = make_map(order=order)

    assert np.shares_memory(spectra_of(signal, method="test").array, signal.data)


@pytest.mark.parametrize("chunks", [(7, 5, 11), (3, 2, 11), (3, 2, 4)])
def test_lazy_spectra_keep_their_chunks_and_compute_nothing(make_map, no_compute, chunks):
    signal = make_map().as_lazy(chunks=chunks)

    spectra = spectra_of(signal, method="test")

    assert spectra.array.chunks == signal.data.chunks


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "f2", "f4", "f8", ">f4"])
def test_a_real_dtype_is_left_as_it_is(make_map, dtype):
    data = np.ones((7, 5, 11), dtype)

    assert spectra_of(make_map(data=data), method="test").array.dtype == data.dtype


def test_booleans_become_counts_without_a_copy(make_map):
    signal = make_map(data=np.random.default_rng(1).random((7, 5, 11)) > 0.5)

    array = spectra_of(signal, method="test").array

    assert array.dtype == np.uint8
    assert np.shares_memory(array, signal.data)
    assert array.sum() == signal.data.sum()


def test_values_of_a_masked_array_count_as_not_measured(make_map, unchanged):
    data = np.ma.MaskedArray(np.ones((7, 5, 11), np.uint8), mask=False)
    data[6, 1, 3] = np.ma.masked

    array = spectra_of(make_map(data=data), method="test").array

    assert type(array) is np.ndarray
    assert np.argwhere(np.isnan(array)).tolist() == [[6, 1, 3]]


@pytest.mark.parametrize(
    ("signal", "repair"),
    [
        (hs.signals.ComplexSignal1D(np.ones((7, 5, 11), "c8")), r"complex64.*s\.real"),
        (hs.signals.BaseSignal(np.zeros((7, 5), "u1,u1,u1")), r"s\.change_dtype\('uint8'\)"),
        (hs.signals.BaseSignal(np.array([[1], [2, 3]], dtype=object), ragged=True), r"object.*s\.ragged"),
        (hs.signals.BaseSignal(np.zeros((7, 5), "M8[s]")), r"datetime64.*s\.change_dtype"),
    ],
)
def test_what_is_not_a_real_number_is_refused_with_the_repair(signal, repair):
    with pytest.raises(DataTypeError, match=repair) as caught:
        spectra_of(signal, method="decomposition_ae")

    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("n_axes", "signal"),
    [(2, hs.signals.Signal2D(np.zeros((3, 7, 5)))), (0, hs.signals.BaseSignal(np.zeros((7, 5))).T)],
)
def test_a_signal_without_exactly_one_signal_axis_is_refused(n_axes, signal):
    with pytest.raises(SpectraRequiredError, match=rf"has {n_axes} signal axes.*s\.transpose") as caught:
        spectra_of(signal, method="decomposition_ae")

    assert isinstance(caught.value, SignalDimensionError)


def test_a_single_spectrum_is_refused():
    with pytest.raises(NavigationRequiredError, match=r"decomposition_ae\(\).*hs\.stack") as caught:
        spectra_of(hs.signals.Signal1D(np.zeros(11)), method="decomposition_ae")

    assert isinstance(caught.value, NavigationDimensionError)


NAVIGATION_MASKS = {
    "navigation axes, as of s.sum(-1) > 3": hs.signals.BaseSignal(MASK).T,
    "signal axes": hs.signals.BaseSignal(MASK),
    "image": hs.signals.Signal2D(MASK),
    "one of each": hs.signals.Signal1D(MASK),
    "lazy": hs.signals.BaseSignal(MASK).T.as_lazy(),
    "NumPy": MASK,
    "dask": da.from_array(MASK, chunks=(2, 3)),
    "list": MASK.tolist(),
}


@pytest.mark.parametrize("form", NAVIGATION_MASKS)
def test_a_navigation_mask_of_any_usual_form_hides_the_same_pixels(make_map, unchanged, form):
    spectra = spectra_of(unchanged(make_map()), method="test", navigation_mask=NAVIGATION_MASKS[form])

    assert type(spectra.navigation_mask) is np.ndarray
    np.testing.assert_array_equal(spectra.navigation_mask, MASK)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_mask_made_from_the_signal_itself_fits_any_axis_order(make_map, unchanged, order, lazy):
    signal = make_map(order=order)
    signal = unchanged(signal.as_lazy() if lazy else signal)
    dim = signal.sum(signal.axes_manager.signal_axes) < 40

    spectra = spectra_of(signal, method="test", navigation_mask=dim)

    expected = np.asarray(spectra.array).sum(axis=-1) < 40
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(spectra.navigation_mask, expected)


@pytest.mark.parametrize("n_navigation", [1, 3])
def test_masks_work_on_lines_and_volumes(make_map, n_navigation):
    signal = make_map(n_navigation)
    mask = np.zeros(signal.data.shape[:-1], bool)
    mask[1] = True

    for form in (mask, hs.signals.BaseSignal(mask), hs.signals.BaseSignal(mask).T):
        spectra = spectra_of(signal, method="test", navigation_mask=form)
        np.testing.assert_array_equal(spectra.navigation_mask, mask)


def test_a_mask_changed_later_does_not_change_what_was_asked_for(make_map):
    mask = MASK.copy()
    spectra = spectra_of(make_map(), method="test", navigation_mask=mask)

    mask[:] = True

    np.testing.assert_array_equal(spectra.navigation_mask, MASK)


@pytest.mark.parametrize("form", [np.asarray, hs.signals.Signal1D, hs.signals.BaseSignal])
def test_a_signal_mask_hides_channels(make_map, form):
    mask = np.arange(11) < 2

    spectra = spectra_of(make_map(), method="test", signal_mask=form(mask))

    np.testing.assert_array_equal(spectra.signal_mask, mask)


def test_the_order_in_which_a_numpy_mask_is_read_is_said_in_the_log(make_map, caplog):
    with caplog.at_level(logging.INFO, logger="hyperspy_specml"):
        spectra_of(make_map(), method="denoise_dae", navigation_mask=MASK)

    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "denoise_dae(navigation_mask=...)" in caplog.text
    assert "(7, 5) = s.data.shape[:-1]" in caplog.text


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"navigation_mask": np.zeros((7, 11), bool)}, r"\(7, 11\), but \(7, 5\).*needed\.$"),
        ({"navigation_mask": MASK.T}, r"\(5, 7\), but \(7, 5\).*pass mask\.T\."),
        ({"navigation_mask": hs.signals.Signal2D(MASK.T)}, r"\(5, 7\), but \(7, 5\).*pass mask\.data\.T\."),
        ({"signal_mask": np.zeros(12, bool)}, r"signal_mask.*\(12,\), but \(11,\)"),
        ({"navigation_mask": MASK.astype(np.uint8)}, r"needs booleans, True = masked, but got uint8"),
        ({"signal_mask": np.ones(11)}, r"needs booleans.*float64"),
        ({"navigation_mask": np.ones((7, 5), bool)}, r"masks everything.*~mask"),
        ({"signal_mask": hs.signals.Signal1D(np.ones(11, bool))}, r"masks everything"),
    ],
)
def test_an_invalid_mask_is_refused_with_the_reason(make_map, masks, message):
    with pytest.raises(MaskError, match=message) as caught:
        spectra_of(make_map(), method="decomposition_ae", **masks)

    assert isinstance(caught.value, ValueError)


def test_a_numpy_mask_that_fits_a_square_map_turned_too_is_a_warning():
    signal = hs.signals.Signal1D(np.ones((7, 7, 11)))
    mask = np.zeros((7, 7), bool)
    mask[6, 1] = True
    with pytest.warns(
        MaskOrderWarning, match=r"^Pass .*BaseSignal\(mask\)\.T.*mask\.T both fit.*array order, \(y, x\)"
    ):
        read = spectra_of(signal, method="test", navigation_mask=mask)
    np.testing.assert_array_equal(read.navigation_mask, mask)
    by_signal = spectra_of(signal, method="test", navigation_mask=hs.signals.BaseSignal(mask).T)
    np.testing.assert_array_equal(by_signal.navigation_mask, mask)
    spectra_of(signal, method="test", navigation_mask=mask | mask.T)  # the same in both orders: nothing to say


def test_the_warning_about_a_mask_names_the_line_of_the_user(make_map):
    signal, mask = hs.signals.Signal1D(np.random.default_rng(0).poisson(9, (7, 7, 11))), np.zeros((7, 7), bool)
    mask[6, 1] = True
    for method in (signal.decomposition_ae, signal.anomaly_map, signal.denoise_dae):
        with pytest.warns(MaskOrderWarning) as caught, pytest.raises(OptionError):
            method(navigation_mask=mask, noise="nonsense")
        assert caught[0].filename == __file__


def test_spectra_of_one_channel_are_refused_with_the_cause():
    signal = hs.signals.Signal1D(np.ones((7, 5, 11))).isig[3:4]
    with pytest.raises(SpectraRequiredError, match=r"\(5, 7\|1\)> have one channel.*s\.isig\[a:b\]"):
        spectra_of(signal, method="test")
