"""The latent explorer on a large map answers at once: until the new picture is on its way to the page."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hyperspy.signals import Signal1D, Signal2D

from hyperspy_specml.gui import LatentExplorer

pytest.importorskip("hyperspy_gui_ipywidgets", reason="pip install 'hyperspy_specml[gui-jupyter]'")


@pytest.fixture
def explorer():
    maps = np.random.default_rng(0).normal(size=(3, 256, 256)).astype(np.float32)
    return LatentExplorer(Signal1D(np.ones((256, 256, 8), np.uint8)), Signal2D(maps))


@pytest.fixture
def canvas(explorer):
    """The canvas of a page that has drawn the tool."""
    canvas = explorer.open(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]["canvas"]
    canvas._handle_message(canvas, {"type": "initialized"}, [])
    canvas.draw()
    return canvas


def lasso(size):
    angle = np.linspace(0, 2 * np.pi, 1000)
    return size * (1 + 0.3 * np.sin(9 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_a_lasso_of_1000_points_on_65536_pixels_answers_in_100_ms(explorer, canvas):
    seconds = []
    for size in (1.0, 1.1, 1.2):
        with explorer.lock:  # the sums of the spectra come later
            start = time.thread_time()  # of the thread that answers, whatever else the machine does
            explorer.select_scores(lasso(size))
            canvas.draw()
            seconds.append(time.thread_time() - start)
        explorer.wait()
        canvas.draw()

    assert 10_000 < explorer.selected.sum() < 50_000
    assert min(seconds) < 0.1, seconds


def test_what_is_drawn_over_the_picture_is_what_a_new_picture_shows(explorer, canvas):
    explorer.select_scores(lasso(1.0))
    explorer.wait()
    canvas.draw()
    with explorer.lock:
        explorer.select_scores(lasso(0.7))
        assert explorer.overlay.draw()
        quick = np.array(canvas.buffer_rgba())
        explorer.overlay.forget()
        canvas.draw()
        np.testing.assert_array_equal(np.array(canvas.buffer_rgba()), quick)
    explorer.wait()
    assert not explorer.overlay.draw()  # the spectra changed
