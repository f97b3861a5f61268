"""Figures of maps and spectra: what they show, and that they stay inside what they are given."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hyperspy_specml.results._figures import axis_limits, draw_map, result_figure
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

    figure = result_figure(scores, components, title="steel")
    figure.canvas.draw()

    assert figure.get_suptitle() == "steel"
    assert len(figure.axes) == 2 * n_components
    drawn = [panel.lines[0].get_ydata() for panel in figure.axes if panel.get_xlabel() == "Energy loss (eV)"]
    np.testing.assert_array_equal(drawn, components.data)


def test_a_result_is_drawn_into_one_half_of_a_given_figure(make_map):
    scores, components = maps_and_spectra(make_map(), 2)
    whole = plt.figure()
    left, right = whole.subfigures(1, 2)

    assert result_figure(scores, components, title="steel", figure=left) is left

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


def test_a_new_figure_is_shown_once_in_notebooks(make_map, monkeypatch):
    """pyplot shows what a cell drew; the value of the cell is shown by us only after that, in later cells."""
    shown = []
    fake = SimpleNamespace(Image=lambda content: content[:4], display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=fake))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    figure = result_figure(*maps_and_spectra(make_map(), 2), title="steel")

    figure._ipython_display_()
    assert shown == []
    plt.close(figure)  # as notebooks do at the end of a cell
    figure._ipython_display_()
    assert shown == [b"\x89PNG"]
