"""Results as HyperSpy's own learning results: its plots, models, source separation and clustering work."""

from __future__ import annotations

import logging
import warnings

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.decompose import PCAOptions
from hyperspy_specml.exceptions import LearningResultsError, LinearApproximationWarning

ARCHITECTURES = ("pca", "dense")


@pytest.fixture
def write():
    """Write a result to a copy of its signal and return the copy."""

    def run(signal, dec):
        signal = signal.deepcopy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LinearApproximationWarning)
            dec.to_learning_results(signal)
        return signal

    return run


def data_of(signal):
    return np.asarray(signal.data)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_hyperspys_model_of_linear_results_is_the_reconstruction(fitted, write, n_navigation, lazy):
    signal, dec = fitted("pca", 3, n_navigation, lazy=lazy)

    written = write(signal, dec)
    model = written.get_decomposition_model()

    assert model._lazy == lazy
    np.testing.assert_allclose(data_of(model), data_of(dec.reconstruction), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(written.get_decomposition_loadings().data, dec.scores.data)
    np.testing.assert_allclose(written.get_decomposition_factors().data, dec.components.data)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_curved_decoder_is_written_as_the_plane_through_its_reconstruction(fitted, lazy):
    signal, dec = fitted("dense", lazy=lazy)
    signal = signal.deepcopy()

    with pytest.warns(LinearApproximationWarning, match=r"give (9\d\.\d|100\.0) % of the variance") as caught:
        dec.to_learning_results(signal)

    assert caught[0].filename == __file__
    assert signal.learning_results.output_dimension == 4
    wanted = data_of(dec.reconstruction).reshape(-1, 61).astype(float)
    scores = dec.scores.data.reshape(3, -1).T
    design = np.column_stack([scores, dec.intensity.data.reshape(-1)])
    plane = design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    np.testing.assert_allclose(data_of(signal.get_decomposition_model()).reshape(-1, 61), plane, atol=1e-2)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_loadings_of_a_mixture_are_intensities_times_abundances(fitted, write, lazy):
    signal, dec = fitted("simplex", lazy=lazy)

    written = write(signal, dec)

    loadings = written.learning_results.loadings
    np.testing.assert_allclose(loadings, (dec.intensity.data * dec.scores.data).reshape(3, -1).T, rtol=1e-6)
    model = data_of(written.get_decomposition_model())
    np.testing.assert_allclose(model, data_of(dec.reconstruction), rtol=1e-4, atol=1e-3)


def test_a_mixture_whose_spectra_move_is_written_as_the_plane_through_it(make_map, make_counts, decompose):
    signal = make_map(data=make_counts((7, 13)))
    dec = decompose(signal, architecture="simplex", energy_shift=True)

    with pytest.warns(LinearApproximationWarning, match="curved"):
        dec.to_learning_results(signal)

    assert signal.learning_results.output_dimension == 4


def test_the_mean_of_centred_pca_is_one_more_component(make_map, make_counts, decompose, write):
    signal = make_map(data=make_counts())
    dec = decompose(signal, architecture="pca", options=PCAOptions(centre=True))

    written = write(signal, dec)

    assert written.learning_results.loadings.shape == (204, 4)
    assert written.learning_results.number_significant_components == 3
    assert np.all(written.learning_results.loadings[:, 3] == 1)
    model = written.get_decomposition_model()
    np.testing.assert_allclose(model.data, dec.reconstruction.data, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("n_navigation", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hyperspys_plots_and_analyses_work(fitted, write, architecture, n_navigation, k, lazy):
    written = write(*fitted(architecture, k, n_navigation, lazy=lazy))

    written.plot_decomposition_results()
    written.plot_decomposition_factors()
    written.plot_decomposition_loadings()
    written.plot_scree_plot()
    written.plot_cumulative_scree_plot()
    written.blind_source_separation(number_of_components=k, algorithm="orthomax", print_info=False)
    assert written.get_bss_model().data.shape == written.data.shape
    written.cluster_analysis("decomposition", n_clusters=2, algorithm="kmeans", n_init=2, random_state=0)
    assert written.get_cluster_labels().data.shape[0] == 2


def test_three_scan_axes_have_all_but_two_plots(fitted, write):
    written = write(*fitted("pca", 3, 3))

    written.plot_decomposition_results()
    written.plot_decomposition_factors()
    written.blind_source_separation(algorithm="orthomax", print_info=False)
    written.cluster_analysis("bss", n_clusters=2, n_init=2)
    with pytest.raises(NotImplementedError, match="higher than 2"):  # documented: HyperSpy's own limit
        written.plot_decomposition_loadings()


def test_masked_pixels_are_nan_and_hyperspys_mask_leaves_them_out(make_map, make_counts, decompose, write, caplog):
    signal, mask = make_map(data=make_counts()), np.zeros((12, 17), bool)
    mask[:4] = True
    dec = decompose(signal, architecture="pca", navigation_mask=mask)

    with caplog.at_level(logging.WARNING, logger="hyperspy_specml"):
        written = write(signal, dec)

    assert "navigation_mask=s.learning_results.navigation_mask" in caplog.text
    np.testing.assert_array_equal(written.learning_results.navigation_mask, mask)
    model = written.get_decomposition_model().data
    np.testing.assert_allclose(model, dec.reconstruction.data, rtol=1e-4, atol=1e-3)
    written.plot_decomposition_results()
    written.cluster_analysis(
        "decomposition", n_clusters=2, n_init=2, navigation_mask=written.learning_results.navigation_mask
    )
    assert not written.learning_results.cluster_labels[:, mask.reshape(-1)].any()


def test_channels_left_out_are_nan_and_hyperspys_mask_leaves_them_out(make_map, make_counts, decompose, write, caplog):
    signal = make_map(data=make_counts())
    dec = decompose(signal, architecture="pca", signal_mask=np.arange(61) < 5)

    with caplog.at_level(logging.WARNING, logger="hyperspy_specml"):
        written = write(signal, dec)

    assert "mask=hs.signals.Signal1D(s.learning_results.signal_mask)" in caplog.text
    mask = hs.signals.Signal1D(written.learning_results.signal_mask)
    written.blind_source_separation(algorithm="orthomax", print_info=False, mask=mask)
    assert np.isnan(written.get_decomposition_factors().data[:, :5]).all()


def test_the_explained_variance_falls_and_sums_to_one(fitted, write):
    signal, dec = fitted("pca")

    results = write(signal, dec).learning_results

    assert np.all(np.diff(results.explained_variance) < 0)
    assert results.explained_variance_ratio.sum() == pytest.approx(1)
    parts = [np.outer(results.loadings[:, i], results.factors[:, i]) for i in range(3)]
    np.testing.assert_allclose(results.explained_variance, [np.sum(p**2) / 204 for p in parts], rtol=1e-5)


def test_earlier_learning_results_are_replaced(fitted, write):
    signal, dec = fitted("pca")
    signal = signal.deepcopy()
    signal.change_dtype("float64")
    signal.decomposition(output_dimension=5, print_info=False)
    signal.blind_source_separation(algorithm="orthomax", print_info=False)

    results = write(signal, dec).learning_results

    assert results.bss_factors is None
    assert results.unmixing_matrix is None
    assert results.output_dimension == 3
    assert results.decomposition_algorithm == "hyperspy_specml pca"


def test_the_result_does_not_share_memory_with_the_signal(fitted, write):
    signal, dec = fitted("pca")
    before = dec.scores.data.copy()

    written = write(signal, dec)
    written.learning_results.loadings[:] = 0

    np.testing.assert_array_equal(dec.scores.data, before)


def test_learning_results_survive_a_file(fitted, write, tmp_path):
    signal, dec = fitted("dense")
    written = write(signal, dec)

    written.save(tmp_path / "s.hspy")

    again = hs.load(tmp_path / "s.hspy").learning_results
    np.testing.assert_array_equal(again.factors, written.learning_results.factors)
    assert again.decomposition_algorithm == "hyperspy_specml dense"


def test_the_coming_names_are_used_where_the_class_has_them(fitted, write, monkeypatch):
    signal, dec = fitted("pca")
    for name in ("scores", "components"):
        monkeypatch.setattr(type(signal.learning_results), name, None, raising=False)

    results = write(signal, dec).learning_results

    assert results.scores.shape == (204, 3)
    assert results.components.shape == (61, 3)
    assert results.loadings is None


def test_only_the_learning_results_of_the_signal_change(fitted, write, unchanged):
    signal, dec = fitted("pca")

    written = write(unchanged(signal), dec)

    written.learning_results = type(written.learning_results)()
    assert str(written.axes_manager) == str(signal.axes_manager)
    kept, original = written.metadata.as_dictionary(), signal.metadata.as_dictionary()
    for metadata in (kept, original):  # exspy gives a copied EELSSpectrum its elements in the order of a set
        metadata["Sample"]["elements"] = sorted(metadata["Sample"]["elements"])
    assert kept == original
    np.testing.assert_array_equal(written.data, signal.data)


def test_one_component_is_written_too(fitted, write):
    signal, dec = fitted("pca", 1)

    written = write(signal, dec)

    assert written.learning_results.factors.shape == (61, 1)
    model = data_of(written.get_decomposition_model())
    np.testing.assert_allclose(model, data_of(dec.reconstruction), rtol=1e-4, atol=1e-3)


def test_a_signal_of_another_shape_is_refused_with_both(fitted):
    signal, dec = fitted("pca")

    with pytest.raises(LearningResultsError, match=r"has shape \(12, 16, 61\) .* the result \(12, 17, 61\)"):
        dec.to_learning_results(signal.inav[1:])


def test_what_is_no_signal_is_refused(fitted):
    _, dec = fitted("pca")

    with pytest.raises(LearningResultsError, match=r"writes to a HyperSpy signal, not to ndarray: pass s"):
        dec.to_learning_results(np.zeros((12, 17, 61)))


@pytest.mark.parametrize("lazy", [False, True])
def test_energy_first_in_memory_is_refused_with_the_way_out(make_map, make_counts, decompose, write, lazy):
    data = make_counts()
    signal = make_map(data=da.from_array(data, chunks=20) if lazy else data, order=(2, 0, 1))
    dec = decompose(signal, architecture="pca")

    with pytest.raises(LearningResultsError, match=r"shape \(61, 12, 17\).*s\.transpose\(signal_axes=\[-1\]"):
        dec.to_learning_results(signal)

    written = write(signal.transpose(signal_axes=[-1], optimize=True), dec)
    model = data_of(written.get_decomposition_model())
    np.testing.assert_allclose(model, data_of(dec.reconstruction), rtol=1e-4, atol=1e-3)
