"""Figures of maps and spectra: what they show, and that they stay inside what they are given."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.results._figures import (
    axis_limits,
    draw_map,
    draw_overlay,
    draw_spectra,
    phase_colour,
    result_figure,
)
from hyperspy_specml.signals import component_spectra, score_maps


def maps_and_spectra(signal, n_components):
    scan, n_channels = signal.data.shape[:-1], signal.data.shape[-1]
    scores = np.random.default_rng(0).random((*scan, n_components), np.float32)
    components = np.random.default_rng(1).random((n_components, n_channels))
    return (score_maps(signal, scores, title="scores"), component_spectra(signal, components, title="components"))


@pytest.mark.parametrize("n_navigation", [1, 2, 3])
@pytest.mark.parametrize("n_components", [1, 3, 7])  # 7: a second row that is not full
def test_every_component_is_a_map_above_its_spectrum(make_map, n_navigation, n_components):
    scores, components = maps_and_spectra(make_map(n_navigation), n_components)

    figure = result_figure(scores, components, "steel", None, None)
    figure.canvas.draw()

    assert figure.get_suptitle() == "steel"
    assert len(figure.axes) == 2 * n_components
    drawn = [panel.lines[0].get_ydata() for panel in figure.axes if panel.get_xlabel() == "Energy loss (eV)"]
    np.testing.assert_array_equal(drawn, components.data)


def test_a_result_is_drawn_into_one_half_of_a_given_figure(make_map):
    scores, components = maps_and_spectra(make_map(), 2)
    whole = plt.figure()
    left, right = whole.subfigures(1, 2)

    assert result_figure(scores, components, "steel", None, left) is left

    assert len(left.axes) == 4
    assert right.axes == []
    assert plt.get_fignums() == [whole.number]


def test_an_image_lies_on_the_calibrated_axes_and_one_bright_pixel_does_not_set_its_contrast(make_map):
    x, y = make_map().axes_manager.navigation_axes  # 5 and 7 pixels of 0.1 µm and 0.2 nm
    values = np.arange(35.0).reshape(7, 5)
    values[3, 2] = 1e9
    axes = plt.figure().subplots()

    draw_map(axes, values, (x, y))

    (image,) = axes.images
    np.testing.assert_allclose(image.get_extent(), [3.95, 4.45, -1.7, -3.1])
    assert image.get_clim()[1] < 1e9
    assert axes.get_aspect() == "auto"  # µm and nm are not to scale


def test_pixels_of_equal_units_are_drawn_to_scale_unless_the_map_would_be_a_line(make_map):
    x, y = make_map().axes_manager.navigation_axes
    x.units = y.units
    equal, line = plt.figure().subplots(1, 2)

    draw_map(equal, np.zeros((7, 5)), (x, y))
    y.scale = 20 * x.scale
    draw_map(line, np.zeros((7, 5)), (x, y))

    assert (equal.get_aspect(), line.get_aspect()) == (1, "auto")


def test_of_three_scan_axes_the_middle_slice_is_drawn_and_named(make_map):
    scan_axes = make_map(3).axes_manager.navigation_axes
    values = np.random.default_rng(0).random((3, 7, 5))
    plain, titled = plt.figure().subplots(1, 2)
    titled.set_title("component 0")

    draw_map(plain, values, scan_axes)
    draw_map(titled, values, scan_axes)

    np.testing.assert_array_equal(plain.images[0].get_array(), values[1])
    assert plain.get_title() == "time (s) 2.5"
    assert titled.get_title() == "component 0, time (s) 2.5"


def test_a_map_without_any_finite_value_is_drawn(make_map):
    axes = plt.figure().subplots()

    draw_map(axes, np.full((7, 5), np.nan), make_map().axes_manager.navigation_axes)

    axes.figure.canvas.draw()


def test_the_border_of_a_pixel_lies_half_a_pixel_from_its_centre(make_map):
    (axis,) = make_map(1).axes_manager.navigation_axes

    assert axis_limits(axis) == pytest.approx((axis.axis[0] - axis.scale / 2, axis.axis[-1] + axis.scale / 2))


def test_maps_to_scale_have_a_bar_of_a_round_length_and_colours_with_their_unit(make_map):
    x, y = make_map().axes_manager.navigation_axes
    x.units, x.scale = "nm", 2.0
    y.scale = 2.0
    axes = plt.figure().subplots()

    draw_map(axes, np.arange(35.0).reshape(7, 5), (x, y), label="score (counts)")

    (bar,) = [artist for artist in axes.artists if hasattr(artist, "size_bar")]
    assert bar.txt_label.get_text() == "2 nm"  # of 10 nm, at most two fifths
    assert bar.size_bar.get_children()[0].get_width() == 2
    assert axes.child_axes[0].get_ylabel() == "score (counts)"
    assert (axes.get_xlabel(), len(axes.get_xticks())) == ("", 0)


@pytest.mark.parametrize(
    ("values", "colours"), [((-3.0, 5.0), "RdBu_r"), ((-0.1, 5.0), "viridis"), ((1.0, 5.0), "viridis")]
)
def test_colours_diverge_from_zero_where_values_have_both_signs(make_map, values, colours):
    axes = plt.figure().subplots()

    draw_map(axes, np.linspace(*values, 35).reshape(7, 5), make_map().axes_manager.navigation_axes)

    (image,) = axes.images
    assert image.get_cmap().name == colours
    assert (sum(image.get_clim()) == 0) == (colours == "RdBu_r")


def test_components_are_chosen_by_index_and_others_refused(make_map):
    dec = make_map().decomposition_ae(3, architecture="pca", noise="poisson", show_progressbar=False)

    figure = dec.plot(components=[2, 0])

    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert titles == ["component 2", "component 0"]
    for wrong in ([3], [-1], [], ["0"]):
        with pytest.raises(OptionError, match="indices from 0 to 2"):
            dec.plot(components=wrong)


def test_lines_of_the_elements_are_labelled_the_highest_first_and_never_on_top_of_each_other(make_map):
    energy = {"name": "Energy", "units": "keV", "scale": 0.02, "offset": 0.0}
    signal = make_map(data=np.ones((7, 5, 500), np.uint8), energy=energy, signal_type="EDS_TEM")
    signal.metadata.Sample.elements = ["Cr", "Fe", "Mn"]  # Mn Ka lies 5.9 keV, Cr Ka 5.41, Fe Ka 6.40
    places = np.array([[5.9], [6.4], [6.49], [0.7]])  # Mn Kb lies on top of Fe Ka
    heights = ([[4], [3], [3], [1]] * np.exp(-0.5 * ((np.arange(500) * 0.02 - places) / 0.05) ** 2)).sum(axis=0)
    axes = plt.figure().subplots()

    draw_spectra(axes, signal, {"": heights})

    places = sorted(text.xy[0] for text in axes.texts)
    assert np.diff(places).min() > 0.02 * 10
    assert [text.get_text() for text in axes.texts] == ["Mn Ka", "Fe Ka", "Fe La"]  # no Cr: there is no peak


def test_the_likeliest_lines_are_labelled_as_guesses_where_no_element_is_listed(make_map):
    energy = {"name": "Energy", "units": "keV", "scale": 0.02, "offset": 0.0}
    signal = make_map(data=np.ones((7, 5, 500), np.uint8), energy=energy, signal_type="EDS_TEM")
    signal.metadata.Sample.elements = []
    heights = np.exp(-0.5 * ((np.arange(500) * 0.02 - 6.4) / 0.05) ** 2)
    axes = plt.figure().subplots()

    draw_spectra(axes, signal, {"": heights})

    assert [text.get_text() for text in axes.texts] == ["Fe Ka?"]


def test_a_selection_is_laid_over_its_pixels(make_map):
    axes, mask = plt.figure().subplots(), np.zeros((3, 7, 5), bool)
    draw_map(axes, np.zeros((3, 7, 5)), make_map(3).axes_manager.navigation_axes)
    mask[1, 2, 3] = mask[0, 0, 0] = True  # the second is on another slice

    layer = draw_overlay(axes, mask)

    np.testing.assert_array_equal(layer.get_array()[..., 3] > 0, mask[1])
    assert layer.get_extent() == axes.images[0].get_extent()


def test_a_new_figure_is_shown_once_in_notebooks(make_map, monkeypatch):
    """pyplot shows what a cell drew; the value of the cell is shown by us only after that, in later cells."""
    shown = []
    fake = SimpleNamespace(Image=lambda content: content[:4], display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=fake))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    figure = result_figure(*maps_and_spectra(make_map(), 2), "steel", None, None)

    figure._ipython_display_()
    assert shown == []
    plt.close(figure)  # as notebooks do at the end of a cell
    figure._ipython_display_()
    assert shown == [b"\x89PNG"]


def test_twenty_phases_have_colours_of_their_own():
    assert len({phase_colour(k) for k in range(20)}) == 20
