"""What a user gets back: native signals that fit together, save, print and plot."""

from __future__ import annotations

import dataclasses

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.signals import axis_spec

pytestmark = pytest.mark.parametrize("architecture", ["pca", "dense"])

MAPS = {1: "<Signal1D, {}(3|71)>", 2: "<Signal2D, {}(3|17, 12)>", 3: "<BaseSignal, {}(3|10, 8, 3)>"}
SCANS = {1: "71", 2: "17, 12", 3: "10, 8, 3"}


def scan_axes(signal):
    return [axis_spec(axis) for axis in signal.axes_manager.navigation_axes]


def signal_axes(signal):
    return [axis_spec(axis) for axis in signal.axes_manager.signal_axes]


def every_signal(dec):
    return [dec.scores, dec.components, dec.reconstruction, dec.residual]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_results_have_the_shapes_and_classes_of_the_contract(fitted, architecture, n_navigation, lazy):
    _, dec = fitted(architecture, 3, n_navigation, lazy=lazy)
    kind, scan = "Lazy" * lazy + "EELSSpectrum", SCANS[n_navigation]

    for one in (dec, dec.baseline):
        name = one.report.architecture
        assert [str(signal) for signal in every_signal(one)] == [
            MAPS[n_navigation].format("title: Scores of steel, dimensions: "),
            "<EELSSpectrum, title: Components of steel, dimensions: (3|61)>",
            f"<{kind}, title: steel reconstructed ({name}), dimensions: ({scan}|61)>",
            f"<{kind}, title: steel residual ({name}), dimensions: ({scan}|61)>",
        ]
        assert [signal._lazy for signal in every_signal(one)] == [False, False, lazy, lazy]
        assert not hasattr(one, "loadings")  # maps in HyperSpy 2, spectra in chemometrics


@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_every_axis_keeps_its_calibration(fitted, architecture, n_navigation):
    signal, dec = fitted(architecture, 3, n_navigation)

    assert signal_axes(dec.scores) == scan_axes(signal)
    assert signal_axes(dec.components) == signal_axes(signal)
    for full in (dec.reconstruction, dec.residual):
        assert scan_axes(full) == scan_axes(signal)
        assert signal_axes(full) == signal_axes(signal)
        assert full.metadata.Acquisition_instrument.TEM.beam_energy == 200


def test_the_baseline_is_pca_of_the_same_size_and_has_none_itself(fitted, architecture):
    _, dec = fitted(architecture)
    _, pca = fitted("pca")

    assert type(dec.baseline) is type(dec)
    assert dec.baseline.baseline is None
    assert dec.baseline.report.architecture == "pca"
    assert dec.baseline.report.n_components == 3
    np.testing.assert_array_equal(dec.baseline.scores.data, pca.scores.data)
    np.testing.assert_array_equal(dec.baseline.components.data, pca.components.data)
    np.testing.assert_array_equal(dec.baseline.residual.data, pca.residual.data)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_residual_is_the_signal_minus_the_reconstruction(fitted, architecture, lazy):
    signal, dec = fitted(architecture, lazy=lazy)

    difference = signal - dec.reconstruction

    assert dec.residual.data.dtype == np.float32
    np.testing.assert_allclose(np.asarray(dec.residual.data), np.asarray(difference.data), atol=1e-4)
    assert abs(float(np.asarray(dec.residual.data).mean())) < 0.1  # of about 20 counts


def test_one_component_is_as_good_as_any_number(fitted, architecture):
    signal, dec = fitted(architecture, 1)

    assert str(dec.scores) == "<Signal2D, title: Scores of steel, dimensions: (1|17, 12)>"
    assert str(dec.components) == "<EELSSpectrum, title: Components of steel, dimensions: (1|61)>"
    assert signal_axes(dec.scores) == scan_axes(signal)
    assert not np.shares_memory(dec.scores.data, dec.baseline.scores.data)
    # one score is not enough here, but it explains a good part of the variance
    assert dec.residual.data.std() < 0.8 * signal.data.std()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("n_navigation", [1, 2, 3])
@pytest.mark.parametrize("lazy", [False, True])
def test_every_signal_reopens_with_axes_and_provenance(fitted, architecture, tmp_path, k, n_navigation, lazy):
    _, dec = fitted(architecture, k, n_navigation, lazy=lazy)

    for signal in every_signal(dec):
        signal.save(tmp_path / "result.hspy", overwrite=True)
        again = hs.load(tmp_path / "result.hspy")
        assert again.__class__.__name__ == signal.__class__.__name__.removeprefix("Lazy")
        assert scan_axes(again) == scan_axes(signal)
        assert signal_axes(again) == signal_axes(signal)
        assert again.metadata.General.title == signal.metadata.General.title
        assert specml.provenance(again) == specml.provenance(signal) != {}
        np.testing.assert_array_equal(again.data, np.asarray(signal.data))


def test_metadata_say_where_a_result_comes_from(fitted, architecture):
    _, dec = fitted(architecture)

    for signal in every_signal(dec):
        stamp = specml.provenance(signal)
        assert stamp["method"] == signal.metadata.Specml.method == "decomposition_ae"
        assert stamp["architecture"] == architecture
        assert stamp["random_state"] == 0
        assert stamp["noise_model"]["name"] == "poisson"
        assert len(str(signal.metadata.Specml).splitlines()) < 8  # a report is one entry of the metadata
        assert stamp.used.as_dictionary() == {"pixels": {"used": 204}, "channels": {"used": 61}}


def test_a_result_prints_its_signals_and_its_report(fitted, architecture):
    _, dec = fitted(architecture)

    text, page = repr(dec), dec._repr_html_()

    assert text.startswith(f"{architecture} decomposition of steel, K = 3")
    assert str(dec.report) in text
    assert str(dec.scores) in text
    assert "&lt;Signal2D, title: Scores of steel" in page
    assert dec.report._repr_html_() in page
    assert repr(dec.model) == f"<TrainedModel {architecture}, K = 3, 61 channels, of 'steel'>"


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_a_result_plots_one_map_and_one_spectrum_per_component(fitted, architecture, n_navigation, k):
    _, dec = fitted(architecture, k, n_navigation)

    figure = dec.plot()

    figure.canvas.draw()
    above, below = figure.axes[:k], figure.axes[k:]
    assert len(below) == k
    assert {axes.get_xlabel() for axes in above} == {"x (µm)"}
    assert {axes.get_xlabel() for axes in below} == {"Energy loss (eV)"}
    assert [bool(axes.images) for axes in above] == [n_navigation > 1] * k
    assert all(axes.get_title().endswith("time (s) 2.5") == (n_navigation == 3) for axes in above)
    energy, spectrum = below[-1].lines[0].get_data()
    np.testing.assert_array_equal(spectrum, dec.components.data[-1])
    np.testing.assert_array_equal(energy, dec.components.axes_manager[-1].axis)


def test_many_components_are_drawn_in_rows(make_map, make_counts, decompose, architecture):
    dec = decompose(make_map(data=make_counts()), 8, architecture=architecture)

    figure = dec.plot()

    figure.canvas.draw()
    assert len(figure.axes) == 16


def test_the_signal_is_left_bit_identical(make_map, make_counts, decompose, unchanged, architecture):
    signal = make_map(data=make_counts().astype(np.float64), order=(2, 0, 1))
    signal.decomposition(output_dimension=2, print_info=False)
    unchanged(signal)

    dec = decompose(signal, architecture=architecture)
    for result in every_signal(dec):
        result.data[...] = 0
        result.metadata.General.title = "changed"
        result.axes_manager[-1].offset = -1


def test_what_the_user_does_to_the_signal_later_does_not_reach_the_result(
    make_map, make_counts, decompose, architecture
):
    signal = make_map(data=make_counts())
    expected = decompose(signal, architecture=architecture).residual
    dec = decompose(signal, architecture=architecture)

    signal.metadata.General.title = "renamed"
    signal.axes_manager[-1].offset = 0
    signal.crop("x", 0, 3)

    assert str(dec.residual) == str(expected)
    assert signal_axes(dec.residual) == signal_axes(expected)
    np.testing.assert_array_equal(dec.residual.data, expected.data)


def test_the_same_seed_repeats_every_bit_and_another_one_the_answer(
    make_map, make_counts, decompose, fitted, architecture
):
    signal, first = fitted(architecture, 2)

    again = decompose(make_map(data=make_counts()), 2, architecture=architecture)
    other = decompose(signal, 2, architecture=architecture, random_state=1)

    for a, b in zip(every_signal(first), every_signal(again), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert first.report.candidates == again.report.candidates
    assert other.report.candidates != first.report.candidates
    difference = other.reconstruction.data - first.reconstruction.data
    assert difference.std() < 0.3 * first.residual.data.std()


def test_results_are_frozen(fitted, architecture):
    _, dec = fitted(architecture)

    with pytest.raises(dataclasses.FrozenInstanceError):
        dec.scores = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        dec.report.chosen = "mine"
