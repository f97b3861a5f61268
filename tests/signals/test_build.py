from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from traits.api import Undefined

from hyperspy_specml.signals import component_spectra, navigation_map, provenance, score_maps, spectra_of, stamp
from hyperspy_specml.signals._source import like

RNG = np.random.default_rng(3)
WAVELENGTH = {"name": "Wavelength", "units": "nm", "axis": 1239.8 / np.linspace(3.0, 1.5, 11)}


def axes_of(signal):
    """Every axis as HyperSpy describes it, except on which side of the bar it stands."""
    manager = signal.axes_manager
    described = [axis.get_axis_dictionary() for axis in manager.navigation_axes + manager.signal_axes]
    return [{key: np.asarray(value).tolist() for key, value in axis.items() if key != "navigate"} for axis in described]


def reload(signal, folder):
    signal.save(folder / "signal.hspy")
    return hs.load(folder / "signal.hspy")


def assert_same(signal, other):
    assert type(other) is type(signal)
    assert axes_of(other) == axes_of(signal)
    assert other.axes_manager.navigation_shape == signal.axes_manager.navigation_shape
    assert other.axes_manager.signal_shape == signal.axes_manager.signal_shape
    assert other.metadata.General.title == signal.metadata.General.title
    assert other.metadata.Signal.signal_type == signal.metadata.Signal.signal_type
    np.testing.assert_array_equal(other.data, signal.data)


def results_of(signal, n_components):
    """One result of every kind, with random data that fit *signal*."""
    array = np.asarray(spectra_of(signal, method="test").array)
    navigation, n_channels = array.shape[:-1], array.shape[-1]
    return [
        like(signal, RNG.random(array.shape, np.float32), title="new"),
        score_maps(signal, RNG.random((*navigation, n_components), np.float32), title="scores"),
        component_spectra(signal, RNG.random((n_components, n_channels), np.float32), title="components"),
        navigation_map(signal, RNG.random(navigation, np.float32), title="map"),
    ]


@pytest.mark.parametrize("n_components", [1, 4])
@pytest.mark.parametrize("n_navigation", [1, 2, 3])
@pytest.mark.parametrize(("energy", "signal_type"), [(None, "EELS"), (WAVELENGTH, "")])
def test_every_result_survives_its_file(make_map, unchanged, tmp_path, n_components, n_navigation, energy, signal_type):
    options = {"energy": energy} if energy else {}
    signal = unchanged(make_map(n_navigation, signal_type=signal_type, **options))

    for result in results_of(signal, n_components):
        assert_same(result, reload(result, tmp_path))
        (tmp_path / "signal.hspy").unlink()


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_results_of_odd_axes_survive_their_files(make_map, unchanged, tmp_path, order):
    signal = make_map(order=order)
    for axis, name in zip(signal.axes_manager._axes, ["Component index", "x", "x"], strict=True):
        axis.name, axis.units = name, Undefined
    unchanged(signal)

    for result in results_of(signal, 2):
        again = reload(result, tmp_path)
        assert_same(result, again)
        assert again.axes_manager._axes[-1].units is Undefined
        (tmp_path / "signal.hspy").unlink()


@pytest.mark.parametrize("lazy", [False, True])
def test_results_have_the_shapes_and_classes_of_the_contract(make_map, unchanged, lazy):
    signal = unchanged(make_map().as_lazy() if lazy else make_map())

    described = [str(result) for result in results_of(signal, 4)]

    assert described == [
        "<EELSSpectrum, title: new, dimensions: (5, 7|11)>",
        "<Signal2D, title: scores, dimensions: (4|5, 7)>",
        "<EELSSpectrum, title: components, dimensions: (4|11)>",
        "<BaseSignal, title: map, dimensions: (5, 7|)>",
    ]


@pytest.mark.parametrize(
    ("n_navigation", "described"),
    [(1, "<Signal1D, title: t, dimensions: (2|7)>"), (3, "<BaseSignal, title: t, dimensions: (2|5, 7, 3)>")],
)
def test_score_maps_of_lines_and_volumes_keep_all_scan_axes_together(make_map, n_navigation, described):
    signal = make_map(n_navigation)

    maps = score_maps(signal, RNG.random((*signal.data.shape[:-1], 2)), title="t")

    assert str(maps) == described
    assert axes_of(maps)[1:] == axes_of(signal)[:-1]


def test_score_maps_are_calibrated_and_have_no_signal_type(make_map):
    scores = RNG.random((7, 5, 4))

    maps = score_maps(make_map(), scores, title="t")

    assert maps.metadata.Signal.signal_type == ""
    assert axes_of(maps)[1:] == axes_of(make_map())[:-1]
    index = maps.axes_manager.navigation_axes[0]
    assert (index.name, index.offset, index.scale) == ("Component index", 0, 1)
    np.testing.assert_array_equal(maps.inav[3].data, scores[..., 3])
    assert maps.inav[3].isig[4.15, -2.6].data == scores[2, 1, 3]  # x = 4.0 + 0.1, y = -3.0 + 2 * 0.2


def test_component_spectra_keep_the_energy_axis_and_the_metadata_of_the_microscope(make_map):
    components = RNG.random((4, 11))

    spectra = component_spectra(make_map(), components, title="t")

    assert axes_of(spectra)[1] == axes_of(make_map())[-1]
    assert spectra.metadata.Acquisition_instrument.TEM.beam_energy == 200
    assert set(spectra.metadata.Sample.elements) == {"Cr", "Fe"}  # exspy keeps them as a set
    assert len(spectra.original_metadata) == 0
    np.testing.assert_array_equal(spectra.inav[2].data, components[2])


def test_a_navigation_map_masks_the_signal_it_was_made_for(make_map):
    signal = make_map()
    array = RNG.random((7, 5))

    found = navigation_map(signal, array, title="t")

    assert found.metadata.Signal.signal_type == ""
    assert axes_of(found) == axes_of(signal)[:-1]
    spectra = spectra_of(signal, method="test", navigation_mask=found > 0.5)
    np.testing.assert_array_equal(spectra.navigation_mask, array > 0.5)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_array_alone_decides_whether_a_full_size_result_is_lazy(make_map, unchanged, no_compute, lazy):
    signal = make_map().as_lazy() if lazy else make_map()

    eager = like(signal, np.zeros((7, 5, 11), np.float32), title="t")
    graph = like(signal, da.zeros((7, 5, 11), chunks=(3, 2, 4), dtype=np.float32), title="t")

    assert type(eager).__name__ == "EELSSpectrum"
    assert not eager._lazy
    assert type(graph).__name__ == "LazyEELSSpectrum"
    assert graph._lazy
    assert graph.data.chunks == ((3, 3, 1), (2, 2, 1), (4, 4, 3))
    assert eager.data.dtype == graph.data.dtype == np.float32


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_new_spectra_stand_at_the_same_coordinates_whatever_the_order_of_the_axes(make_map, unchanged, order):
    signal = unchanged(make_map(order=order))
    array = spectra_of(signal, method="test").array

    copy = like(signal, array, title="t")

    assert axes_of(copy) == axes_of(signal)
    assert copy.data.shape == array.shape
    x, y = signal.axes_manager.navigation_axes
    for i, j in np.ndindex(signal.axes_manager.navigation_shape):
        here = copy.inav[float(x.axis[i]), float(y.axis[j])].data
        np.testing.assert_array_equal(here, signal.inav[i, j].data)
    assert (signal - copy).data.any() == np.False_


def test_new_spectra_have_no_metadata_that_describe_the_old_data(make_map, unchanged):
    signal = make_map(data=RNG.poisson(9, (7, 5, 11)).astype(np.float32))
    signal.estimate_poissonian_noise_variance()
    signal.decomposition(output_dimension=2, print_info=False)
    signal.add_marker(hs.plot.markers.VerticalLines([701.0]), permanent=True, plot_marker=False)
    signal.metadata.set_item("_HyperSpy.navigator", "slider")
    unchanged(signal)

    copy = like(signal, signal.data, title="t")

    assert copy.learning_results.factors is None
    assert copy.get_noise_variance() is None
    assert not copy.metadata.has_item("Markers")
    assert not copy.metadata.has_item("_HyperSpy.navigator")
    assert copy.metadata.General.authors == "A. Nonymous"
    assert copy.original_metadata.File.version == 3


def test_a_result_shares_no_axis_and_no_metadata_with_its_source(make_map, unchanged):
    signal = unchanged(make_map(energy=WAVELENGTH, signal_type=""))

    for result in results_of(signal, 2):
        for axis in result.axes_manager._axes:
            axis.name = "changed"
            if not axis.is_uniform:
                axis.axis[:] = np.arange(11)
        result.metadata.set_item("Sample.elements", [])
        result.original_metadata.set_item("File.version", 4)


def test_an_array_that_does_not_fit_the_axes_is_refused(make_map):
    with pytest.raises(ValueError, match=r"\(5, 7\) does not fit the axes \(5, 7\)"):
        navigation_map(make_map(), np.zeros((5, 7)), title="t")


def test_provenance_comes_back_from_the_file(make_map, tmp_path):
    signal = make_map()
    stamp(signal, {"replaced": True})

    stamp(
        signal,
        {
            "method": "decomposition_ae",
            "noise": {"model": "poisson", "gain": np.float32(1.5)},
            "lag": np.arange(3),
            "shape": (7, 5, 11),
            "candidates": [{"name": "pca", "score": 1.25}, {"name": "dense", "score": 1.0}],
            "masked": 0,
            "seed": None,
            "warnings": [],
        },
    )

    signal.metadata.Specml.report = np.append(signal.metadata.Specml.report, np.full(70_000, 32, np.uint8))  # > 64 kB
    again = reload(signal, tmp_path)
    assert sorted(again.metadata.Specml.as_dictionary()) == ["method", "report"]
    assert provenance(again) == {
        "method": "decomposition_ae",
        "noise": {"model": "poisson", "gain": 1.5},
        "lag": [0, 1, 2],
        "shape": [7, 5, 11],
        "candidates": [{"name": "pca", "score": 1.25}, {"name": "dense", "score": 1.0}],
        "masked": 0,
        "seed": None,
        "warnings": [],
    }
