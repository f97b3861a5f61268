"""`estimate_shift` and `align` on signals: native, lazy, conserving, teaching."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import ArrayShapeError, DataTypeError, OptionError

SCALE = 0.2


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    values = np.round(np.random.default_rng(0).normal(0, 1.2, (7, 5)))
    return SCALE * (values - np.round(values.mean()))


@pytest.fixture(scope="module")
def signal(truth: np.ndarray) -> hs.signals.Signal1D:
    """Return a map (5, 7|48) of a peak that is shifted by whole channels."""
    x = np.arange(48) - truth[..., None] / SCALE
    clean = 20 + 400 * np.exp(-0.5 * ((x - 24) / 2.5) ** 2)
    s = hs.signals.Signal1D(np.random.default_rng(1).poisson(clean).astype(np.uint16))
    s.metadata.General.title = "peak"
    s.metadata.set_item("Sample.description", "kept")
    s.axes_manager[-1].scale, s.axes_manager[-1].offset, s.axes_manager[-1].units = SCALE, 700, "eV"
    s.axes_manager[0].scale, s.axes_manager[0].units = 3.0, "nm"
    return s


@pytest.fixture(scope="module")
def found(signal: hs.signals.Signal1D) -> specml.results.ShiftResult:
    return specml.estimate_shift(signal, n_templates=1, show_progressbar=False)


def test_maps_are_native_and_right(found, truth: np.ndarray) -> None:
    for one in (found.shift, found.error):
        assert one.axes_manager.navigation_shape == (5, 7)
        assert one.axes_manager[0].scale == 3.0
        assert one.metadata.Signal.signal_type == ""
    error = found.shift.data - truth
    assert np.std(error) < SCALE / 4  # of few spectra the template is not known better
    assert specml.provenance(found.shift)["method"] == "estimate_shift"
    assert "for each pixel" in str(found.report)


def test_lazy_is_eager_in_any_chunks(signal, found) -> None:
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((3, 2, 11))
    again = specml.estimate_shift(lazy, n_templates=1, show_progressbar=False)
    np.testing.assert_allclose(again.shift.data, found.shift.data, atol=1e-6)
    aligned = specml.align(lazy, found)
    assert aligned._lazy
    np.testing.assert_array_equal(aligned.data.compute(), specml.align(signal, found).data)


def test_aligned_counts_are_the_counts_in_other_channels(signal, found, truth: np.ndarray, caplog) -> None:
    before = signal.data.copy()
    aligned = specml.align(signal, found.shift)
    np.testing.assert_array_equal(signal.data, before)
    assert aligned.data.dtype == np.uint16
    assert aligned.metadata.Sample.description == "kept"
    assert aligned.axes_manager[-1].offset == 700
    by = np.rint(found.shift.data / SCALE).astype(int)
    for index in np.ndindex(by.shape):  # by brute force
        k, row = by[index], signal.data[index]
        expected = np.zeros_like(row)
        expected[max(0, -k) : 48 - max(0, k)] = row[max(0, k) : 48 - max(0, -k)]
        np.testing.assert_array_equal(aligned.data[index], expected)
    lost = 1 - aligned.data.sum() / signal.data.sum()
    assert f"{lost:.2%} of the sum" in caplog.text
    cropped = specml.align(signal, found.shift, crop=True)
    assert (cropped.data > 0).all()
    assert cropped.axes_manager[-1].size == 48 - max(0, by.max()) - max(0, -by.min())


def test_float_data_may_be_moved_by_parts_of_a_channel(signal) -> None:
    x = np.arange(48.0)
    smooth = hs.signals.Signal1D(np.tile(np.sin(0.2 * x), (2, 3, 1)))
    shift = hs.signals.BaseSignal(np.array([[0.5, 0, -1.25], [2, np.nan, 0.1]])).T
    moved = specml.align(smooth, shift, subchannel=True).data
    expected = np.sin(0.2 * (x + np.nan_to_num(shift.data)[..., None]))
    np.testing.assert_allclose(moved[..., 4:-4], expected[..., 4:-4], atol=1e-4)
    assert np.isnan(moved[0, 0, -1])
    with pytest.raises(DataTypeError, match="counts would be none"):
        specml.align(signal, shift, subchannel=True)


def test_lines_have_one_shift_each(signal, truth: np.ndarray) -> None:
    rows = np.repeat(signal.data[:, :1], 5, axis=1)  # all pixels of a line alike
    same = signal._deepcopy_with_new_data(rows)
    found = specml.estimate_shift(same, per="line", n_templates=1, show_progressbar=False)
    assert (np.ptp(found.shift.data, axis=1) == 0).all()
    expected = truth[:, 0] - truth[:, 0].mean()
    np.testing.assert_allclose(found.shift.data[:, 0] - found.shift.data[:, 0].mean(), expected, atol=0.1)


def test_masked_pixels_are_nan_and_stay_where_they_are(signal) -> None:
    mask = np.zeros((7, 5), bool)
    mask[2, 3] = True
    found = specml.estimate_shift(signal, n_templates=1, navigation_mask=mask, show_progressbar=False)
    np.testing.assert_array_equal(np.isnan(found.shift.data), mask)
    np.testing.assert_array_equal(specml.align(signal, found).data[2, 3], signal.data[2, 3])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"per": "row"}, "use one of 'pixel', 'line'"),
        ({"max_shift": -1}, "max_shift=-1 must be a number above 0, up to 3.8"),
        ({"n_templates": 9}, "must be 1 to 4"),
        ({"noise": "poison"}, "Did you mean 'poisson'"),
    ],
)
def test_impossible_requests_say_what_is_possible(signal, asked: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        specml.estimate_shift(signal, show_progressbar=False, **asked)


def test_other_shapes_and_axes_are_refused(signal, found) -> None:
    with pytest.raises(ArrayShapeError, match=r"has shape \(5, 7\), but the scan has \(7, 5\)"):
        specml.align(signal, hs.signals.BaseSignal(np.zeros((5, 7))).T)
    with pytest.raises(ArrayShapeError, match="not ndarray"):
        specml.align(signal, found.shift.data)
    with pytest.raises(OptionError, match="several scan lines"):
        specml.estimate_shift(signal.inav[:, 0], per="line", show_progressbar=False)
    with pytest.raises(OptionError, match="no channel is left"):
        specml.align(signal, found.shift * 100)
