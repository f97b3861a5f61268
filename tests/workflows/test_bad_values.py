"""Spectra and channels that cannot be used: left out, counted in the report, marked in the outputs."""

from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml

pytestmark = pytest.mark.parametrize("architecture", ["pca", "dense"])

MASK = np.zeros((12, 17), bool)
MASK[0, 5] = MASK[7, 16] = MASK[11] = True


def full_size(dec):
    return [np.asarray(signal.data) for signal in (dec.reconstruction, dec.residual)]


@pytest.fixture(params=[False, True], ids=["eager", "lazy"])
def as_map(request, make_map, unchanged):
    """A signal of counts, eager and in chunks that cut every axis, that must stay as it is."""

    def build(data, **options):
        array = da.from_array(data, chunks=(5, 4, 20)) if request.param else data
        return unchanged(make_map(data=array, **options))

    return build


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_spectra_that_are_not_finite_are_nan_and_spoil_no_other(as_map, make_counts, decompose, architecture, bad):
    data = make_counts().astype(np.float32)
    data[2, 3, 7] = data[9, 16] = bad
    hidden = np.zeros((12, 17), bool)
    hidden[2, 3] = hidden[9, 16] = True

    dec = decompose(as_map(data), architecture=architecture)
    masked = decompose(as_map(make_counts()), architecture=architecture, navigation_mask=hidden)

    assert dec.report.used["pixels"] == {"used": 202, "not finite": 2}
    for one, other in ((dec, masked), (dec.baseline, masked.baseline)):
        np.testing.assert_allclose(one.scores.data, other.scores.data, rtol=1e-4, atol=1e-3)
        for values in (np.moveaxis(one.scores.data, 0, -1), *full_size(one)):
            np.testing.assert_array_equal(np.isnan(values).all(axis=-1), hidden)
            np.testing.assert_array_equal(np.isnan(values).any(axis=-1), hidden)


def test_channels_that_are_mostly_not_finite_are_left_out_as_if_masked(as_map, make_counts, decompose, architecture):
    data = make_counts().astype(np.float32)
    data[..., 40] = np.nan
    data[:9, :, 0] = np.inf
    channels = np.isin(np.arange(61), [0, 40])

    dec = decompose(as_map(data), architecture=architecture)
    masked = decompose(as_map(make_counts()), architecture=architecture, signal_mask=channels)

    assert dec.report.used == {"pixels": {"used": 204}, "channels": {"used": 59, "not finite": 2}}
    np.testing.assert_allclose(dec.scores.data, masked.scores.data, rtol=1e-4, atol=1e-3)
    for values in (dec.components.data, *full_size(dec)):
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(channels, values.shape))


def test_empty_spectra_and_dead_channels_are_zero_everywhere(as_map, make_counts, decompose, architecture):
    data = make_counts() / 4
    data[4, 2] = data[11, 16] = 0
    data[..., [3, 60]] = 0

    dec = decompose(as_map(data), architecture=architecture, noise="auto")

    assert dec.report.used == {"pixels": {"used": 202, "empty": 2}, "channels": {"used": 59, "empty": 2}}
    for one in (dec, dec.baseline):
        assert not one.scores.data[:, [4, 11], [2, 16]].any()
        assert not one.components.data[:, [3, 60]].any()
        assert np.count_nonzero(one.scores.data.any(axis=0)) == 202
        for values in full_size(one):
            assert not values[[4, 11], [2, 16]].any()
            assert not values[..., [3, 60]].any()


def test_spectra_without_counts_are_data(as_map, make_counts, decompose, architecture):
    data = make_counts()
    data[4, 2] = data[11, 16] = 0

    dec = decompose(as_map(data), architecture=architecture)

    assert dec.report.used["pixels"] == {"used": 204}
    for values in full_size(dec):
        assert np.abs(values[[4, 11], [2, 16]]).sum() < 0.05 * data.sum() / 102


def test_spectra_that_are_exactly_the_mean_are_not_empty(as_map, decompose, architecture):
    profile = 20 + 40 * np.exp(-0.5 * ((np.arange(61) - 25) / 6) ** 2)
    data = np.resize([1.0, 2.0, 3.0], 204).reshape(12, 17)[..., None] * profile
    data[4, 2] = 0
    options = {"pca": specml.PCAOptions, "dense": specml.DenseOptions}[architecture]

    dec = decompose(as_map(data), 1, architecture=architecture, noise="gaussian", options=options(centre=True))

    assert dec.report.used["pixels"] == {"used": 203, "empty": 1}
    for one in (dec, dec.baseline):
        zero = ~np.asarray(one.reconstruction.data).any(axis=-1)
        assert np.argwhere(zero).tolist() == [[4, 2]]


def test_saturated_channels_are_left_out(as_map, make_counts, decompose, architecture):
    data = make_counts().astype(np.uint8)
    data[:4, :, 15] = 255
    data[0, 0, 30] = 255  # one cosmic ray is no reason to lose a channel

    dec = decompose(as_map(data), architecture=architecture)

    assert dec.report.used["channels"] == {"used": 60, "saturated": 1}
    for values in (dec.components.data, *full_size(dec)):
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(np.arange(61) == 15, values.shape))


MASKS = {
    "signal of navigation axes": hs.signals.BaseSignal(MASK).T,
    "signal of signal axes": hs.signals.BaseSignal(MASK),
    "lazy signal": hs.signals.BaseSignal(MASK).T.as_lazy(),
    "image": hs.signals.Signal2D(MASK),
    "array in array order": MASK,
    "list": MASK.tolist(),
}


@pytest.mark.parametrize("form", MASKS)
def test_masked_pixels_are_nan_whatever_form_the_mask_has(as_map, make_counts, decompose, architecture, form):
    data = make_counts()
    spoilt = data.copy()
    spoilt[MASK] = 60000  # what is masked must not matter

    dec = decompose(as_map(spoilt), architecture=architecture, navigation_mask=MASKS[form])
    clean = decompose(as_map(data), architecture=architecture, navigation_mask=MASK)

    assert dec.report.used["pixels"] == {"used": 204 - 19, "masked": 19}
    np.testing.assert_array_equal(dec.scores.data, clean.scores.data)
    for values in (np.moveaxis(dec.scores.data, 0, -1), *full_size(dec)):
        np.testing.assert_array_equal(np.isnan(values).all(axis=-1), MASK)


@pytest.mark.parametrize("form", [np.asarray, hs.signals.Signal1D, hs.signals.BaseSignal])
def test_masked_channels_are_nan(as_map, make_counts, decompose, architecture, form):
    data = make_counts()
    channels = np.arange(61) < 12
    data[..., channels] = 60000

    dec = decompose(as_map(data), architecture=architecture, signal_mask=form(channels))

    assert dec.report.used["channels"] == {"used": 49, "masked": 12}
    for values in (dec.components.data, *full_size(dec)):
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(channels, values.shape))


@pytest.mark.parametrize("n_navigation", [1, 3])
def test_masks_work_on_lines_and_volumes(make_map, make_counts, decompose, architecture, n_navigation):
    scan = {1: (71,), 3: (3, 8, 10)}[n_navigation]
    mask = np.arange(np.prod(scan)).reshape(scan) % 9 == 4

    dec = decompose(make_map(data=make_counts(scan)), architecture=architecture, navigation_mask=mask)

    np.testing.assert_array_equal(np.isnan(dec.scores.data).all(axis=0), mask)
    np.testing.assert_array_equal(np.isnan(dec.residual.data).all(axis=-1), mask)


def test_a_non_uniform_axis_and_odd_names_work(as_map, make_counts, decompose, fitted, architecture):
    _, expected = fitted(architecture, 2)
    wavelength = {"name": "Component index", "units": "nm", "axis": 1239.8 / np.linspace(3.0, 1.5, 61)}
    signal = as_map(make_counts(), energy=wavelength, signal_type="", order=(1, 0, 2))

    dec = decompose(signal, 2, architecture=architecture)

    difference = np.asarray(dec.reconstruction.data) - expected.reconstruction.data.swapaxes(0, 1)
    assert difference.std() < 0.3 * expected.residual.data.std()  # pixels in another order split differently
    for result in (dec.components, dec.residual):
        np.testing.assert_array_equal(result.axes_manager.signal_axes[0].axis, wavelength["axis"])
    dec.plot().canvas.draw()
