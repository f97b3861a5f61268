"""The simplex architecture as users see it: scores, intensity, shift and reconstruction as native signals."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.BaselineBetterWarning")


@pytest.fixture(scope="module")
def simplex(make_map, make_counts, decompose):
    counts = make_counts()
    counts[2, 3] = 0
    signal = make_map(data=counts)
    return signal, decompose(signal, architecture="simplex")


@pytest.fixture(scope="module")
def shifted(make_map, make_counts, decompose):
    signal = make_map(data=make_counts())
    return signal, decompose(signal, architecture="simplex", energy_shift=True)


def model_of(result):
    """Return intensity * scores @ components, (ny, nx, E)."""
    scores = np.moveaxis(result.scores.data, 0, -1)
    return result.intensity.data[..., None] * (scores @ result.components.data)


def test_scores_are_shares_and_components_are_non_negative_spectra_of_sum_one(simplex):
    _, result = simplex
    sums = result.scores.data.sum(axis=0)

    assert result.scores.data.min() >= 0
    np.testing.assert_allclose(np.delete(sums.reshape(-1), 2 * 17 + 3), 1, rtol=1e-5)
    assert result.components.data.min() >= 0
    np.testing.assert_allclose(result.components.data.sum(axis=1), 1, rtol=1e-5)


def test_the_reconstruction_is_intensity_times_scores_times_components(simplex):
    _, result = simplex

    np.testing.assert_allclose(result.reconstruction.data, model_of(result), rtol=1e-4, atol=1e-5)


def test_the_intensity_is_a_native_map_of_the_sums(simplex):
    signal, result = simplex
    sums = signal.data.sum(axis=-1)

    assert result.intensity.axes_manager.navigation_shape == (17, 12)
    assert result.intensity.axes_manager.signal_dimension == 0
    assert result.intensity.axes_manager[0].units == signal.axes_manager[0].units
    np.testing.assert_allclose(result.intensity.data, sums, rtol=0.05)
    assert specml.provenance(result.intensity)["architecture"] == "simplex"
    assert result.shift is None


def test_a_spectrum_without_counts_has_no_intensity_and_any_shares(simplex):
    _, result = simplex

    np.testing.assert_allclose(result.scores.data[:, 2, 3].sum(), 1, rtol=1e-4)
    assert result.intensity.data[2, 3] < 1e-3 * result.intensity.data.mean()
    assert result.reconstruction.data[2, 3].sum() < 1e-3 * result.intensity.data.mean()


def test_the_shift_is_in_units_of_the_energy_axis_and_zero_where_the_scan_begins(shifted):
    signal, result = shifted
    scale = signal.axes_manager[-1].scale
    shift = result.shift.data

    assert result.shift.axes_manager.navigation_shape == (17, 12)
    assert abs(shift.reshape(-1)[:32].mean()) < 0.3 * scale
    mixtures = model_of(result).reshape(shift.size, -1)
    energy = np.arange(mixtures.shape[1])
    moved = [np.interp(energy - d, energy, m) for d, m in zip(shift.reshape(-1) / scale, mixtures, strict=True)]
    found = result.reconstruction.data.reshape(shift.size, -1)
    np.testing.assert_allclose(found, moved, rtol=1e-3, atol=1e-4)


def test_masked_and_not_finite_spectra_are_nan_in_all_maps(make_map, make_counts, decompose):
    values = make_counts().astype(np.float32)
    values[1, 2, 5] = np.nan
    mask = np.zeros((12, 17), bool)
    mask[4, :3] = True
    result = decompose(make_map(data=values), architecture="simplex", navigation_mask=mask, energy_shift=True)

    for data in (result.intensity.data, result.shift.data, result.reconstruction.data[..., 0]):
        assert np.isnan(data[mask]).all()
        assert np.isnan(data[1, 2])
        assert np.isnan(data).sum() == 4


def test_a_lazy_signal_gives_the_same_and_a_lazy_reconstruction(shifted, make_map, decompose):
    signal, result = shifted
    lazy = make_map(data=da.from_array(signal.data, chunks=(5, 7, 20)))
    other = decompose(lazy, architecture="simplex", energy_shift=True)

    np.testing.assert_array_equal(other.components.data, result.components.data)
    np.testing.assert_allclose(other.intensity.data, result.intensity.data, rtol=1e-5)
    assert not other.intensity._lazy
    assert other.residual._lazy
    np.testing.assert_allclose(other.residual.data.compute(), result.residual.data, rtol=1e-3, atol=1e-3)


def test_a_model_applied_to_its_own_map_gives_the_same_maps(shifted, decompose):
    signal, result = shifted
    again = signal.decomposition_ae(model=result.model, show_progressbar=False)

    for name in ("scores", "intensity", "shift"):
        np.testing.assert_allclose(getattr(again, name).data, getattr(result, name).data, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(again.baseline.scores.data, result.baseline.scores.data, rtol=1e-3, atol=1e-2)


def test_a_brighter_map_has_the_same_abundances(simplex, make_map, make_counts):
    _, result = simplex
    brighter = make_map(data=make_counts(dose=160.0, seed=3)).decomposition_ae(
        model=result.model, architecture="simplex", show_progressbar=False
    )

    assert brighter.intensity.data.mean() == pytest.approx(4 * result.intensity.data.mean(), rel=0.03)
    difference = brighter.scores.data - result.scores.data
    assert np.sqrt(np.square(difference).mean()) < 0.15


def test_one_component_is_a_spectrum_times_a_intensity(make_map, make_counts, decompose):
    result = decompose(make_map(data=make_counts()), 1, architecture="simplex")

    assert (result.scores.data == 1).all()
    np.testing.assert_allclose(result.reconstruction.data, model_of(result), rtol=1e-4)
    assert len(result.report.attempts) == 1


@pytest.mark.parametrize("n_navigation", [1, 3])
def test_lines_and_volumes_have_maps_of_their_scan(fitted, n_navigation):
    signal, result = fitted("simplex", 2, n_navigation)

    assert result.intensity.data.shape == signal.data.shape[:-1]
    np.testing.assert_allclose(result.reconstruction.data, model_of(result), rtol=1e-4, atol=1e-5)


def test_the_smallest_maps_can_be_unmixed(make_map, decompose):
    data = np.random.default_rng(0).poisson(9, (7, 5, 11)).astype(np.uint8)
    result = decompose(make_map(data=data), 2, architecture="simplex", energy_shift=True)

    assert result.scores.data.shape == (2, 7, 5)
    assert np.isfinite(result.reconstruction.data).all()


def test_the_report_lists_the_starts(simplex):
    _, result = simplex

    assert "restarts" in str(result.report)
    assert "4 tried" in str(result.report)
    assert {attempt.name for attempt in result.report.attempts} == {"vertices", "vertex means", "random", "nmf"}
    assert not result.baseline.report.attempts
    assert result.baseline.intensity is None


def test_a_shift_needs_a_uniform_energy_axis(make_map, make_counts, decompose):
    signal = make_map(data=make_counts())
    signal.axes_manager[-1].convert_to_non_uniform_axis()

    with pytest.raises(OptionError, match=r"energy axis is not uniform.*interpolate_on_axis"):
        decompose(signal, architecture="simplex", energy_shift=True)


def test_a_model_without_shifts_cannot_be_asked_for_them(simplex):
    signal, result = simplex

    with pytest.raises(OptionError, match=r"decomposition_ae\(energy_shift="):
        signal.decomposition_ae(model=result.model, energy_shift=True, show_progressbar=False)
