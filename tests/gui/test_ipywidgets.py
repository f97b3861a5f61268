"""The view in notebooks, without a browser: widgets and tool hold the same, buttons do what they say."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

import hyperspy_specml as specml

pytest.importorskip("hyperspy_gui_ipywidgets", reason="pip install 'hyperspy_specml[gui-jupyter]'")
HOW = {"interactive": True, "display": False, "toolkit": "ipywidgets"}
QUICK = specml.TrainConfig(max_steps=60, evaluate_every=10)


def opened(method, *arguments, **options):
    return method(*arguments, **HOW, **options)["ipywidgets"]["wdict"]


def run(widgets):
    widgets["run_button"].click()
    wait(widgets)


def wait(widgets):
    deadline = time.monotonic() + 300
    while widgets["run_button"].disabled:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_decomposition_from_open_to_learning_results(counts):
    widgets = opened(counts.decomposition_ae, 2, noise="poisson", config=QUICK)
    assert widgets["cancel_button"].disabled
    assert widgets["create_button"].disabled
    assert widgets["output_dimension"].value == 2
    widgets["architecture"].value = "pca"
    assert "n_layers" in widgets
    assert widgets["centre"].value is False

    run(widgets)

    assert widgets["stage"].value == "Done", widgets["message"].value
    assert (widgets["fraction"].value, widgets["component"].max) == (1, 1)
    assert "PCA with 2 components" in widgets["summary"].value
    widgets["create_button"].click()
    assert counts.learning_results.output_dimension == 2
    widgets["close_button"].click()
    assert not counts.axes_manager.events.indices_changed.connected


def test_the_canvas_is_drawn_again_when_the_navigator_moves(counts, monkeypatch):
    widgets = opened(counts.decomposition_ae, 2, architecture="pca", noise="poisson")
    run(widgets)
    drawn = []
    monkeypatch.setattr(type(widgets["canvas"]), "send_picture", lambda canvas: drawn.append(canvas))

    counts.axes_manager.indices = (2, 3)

    assert drawn == [widgets["canvas"]]


def test_every_picture_is_whole_since_the_page_may_have_dropped_the_one_before(counts):
    canvas = opened(counts.decomposition_ae, 2)["canvas"]
    pictures = []
    for width in (3, 9):
        canvas.figure.axes[0].axvline(0.5, linewidth=width)
        canvas.overlay.forget()
        canvas.draw()
        canvas._png_is_old = True
        pictures.append(np.asarray(Image.open(io.BytesIO(canvas.get_diff_image()))))

    assert (pictures[1][..., 3] == 255).all()
    assert (pictures[0] != pictures[1]).any()


def test_a_page_that_asks_for_the_picture_before_it_says_that_it_is_there_gets_no_picture_in_the_state(counts):
    canvas = opened(counts.decomposition_ae, 2)["canvas"]
    width, height = canvas.get_width_height()
    assert canvas._size == (width, height)

    for kind in ("draw", "initialized"):
        canvas._handle_message(canvas, {"type": kind}, [])

    assert canvas._data_url is None
    assert canvas._size == (width, height)


def test_a_denoised_signal_is_created(counts):
    widgets = opened(counts.denoise_dae, noise="poisson", context="spatial", config=QUICK)
    run(widgets)
    widgets["protect"].value = True
    wait(widgets)
    widgets["channel"].value = 3
    widgets["create_button"].click()

    assert "Created" in widgets["message"].value, widgets["stage"].value
    assert "restored" in widgets["summary"].value


def test_the_table_of_regions_and_the_slider_of_the_false_discovery_rate(counts):
    widgets = opened(counts.anomaly_map, noise="poisson")
    run(widgets)
    assert widgets["include_known_button"].disabled
    n = len(widgets["rows"].options)
    widgets["rows"].value = 0
    assert counts.axes_manager.indices == (6, 4)
    assert not widgets["include_known_button"].disabled

    widgets["fdr"].value = 0.4
    wait(widgets)

    assert len(widgets["rows"].options) >= n
    assert widgets["rows"].value is None


def test_the_explorer_of_a_result(counts):
    dec = counts.decomposition_ae(3, architecture="pca", noise="poisson", show_progressbar=False)
    widgets = dec.explore(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
    assert (widgets["x"].max, widgets["y"].value) == (2, 1)
    assert widgets["save_phase_button"].disabled
    found = counts.anomaly_map(noise="poisson", show_progressbar=False)
    widgets = found.explore(counts, display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
    assert len(widgets["rows"].options) == len(found.regions)


def test_phases_from_open_to_created_signals(counts):
    widgets = opened(counts.phase_map, 2, noise="poisson")
    run(widgets)
    assert widgets["stage"].value == "Done", widgets["message"].value
    assert (widgets["number"].min, widgets["number"].value, widgets["number"].max) == (1, 2, 2)
    widgets["number"].value = 1
    wait(widgets)
    assert len(widgets["rows"].options) == 1
    widgets["rows"].value = 0
    assert widgets["called"].value == "phase 0"
    widgets["called"].value = "matrix"
    assert "matrix" in widgets["rows"].options[0][0]
    widgets["create_button"].click()
    assert ".created[-2]" in widgets["message"].value


def test_a_value_out_of_range_is_refused_with_a_message(counts):
    widgets = opened(counts.decomposition_ae, 2)
    widgets["n_hidden"].value = 7
    widgets["component"].max = 9
    tool_value = widgets["random_state"].value
    widgets["random_state"].max = 2**40
    widgets["random_state"].value = 2**35

    assert widgets["random_state"].value == tool_value
    assert "TraitError" in widgets["message"].value
