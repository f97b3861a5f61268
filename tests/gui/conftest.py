"""What tests of tools share: a small map of counts, and quick settings."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="module")
def _few_draws(few_drawn_pixels):
    """No test of a tool looks at a precise p-value."""


@pytest.fixture
def counts(make_map):
    """Counts of three mixed spectra on 9 x 11 pixels, with one pixel that has a line of its own."""
    rng = np.random.default_rng(0)
    peaks = np.exp(-0.5 * ((np.arange(31) - np.array([[7], [15], [24]])) / 2) ** 2) + 0.1
    rates = 40 * rng.dirichlet(np.ones(3), (11, 9)) @ peaks
    rates[4, 6, 18:21] += 18
    return make_map(data=rng.poisson(rates).astype(np.uint16))


@pytest.fixture
def shrink():
    """Return the function that makes the file of a screenshot small: few colours are enough."""
    from PIL import Image

    def shrink_picture(path):
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        small.save(path, optimize=True)

    return shrink_picture


@pytest.fixture
def slow(monkeypatch):
    """Make every report of progress take 5 ms, so that a cancel comes in the middle."""
    import time

    from hyperspy_specml.gui import _tool

    show = _tool.ToolProgress.show

    def late(self):
        time.sleep(0.005)
        show(self)

    monkeypatch.setattr(_tool.ToolProgress, "show", late)
