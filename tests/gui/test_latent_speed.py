"""The latent explorer on a large map answers at once."""

from __future__ import annotations

import time

import numpy as np
from hyperspy.signals import Signal1D, Signal2D

from hyperspy_specml.gui import LatentExplorer


def test_a_lasso_of_1000_points_on_65536_pixels_answers_in_100_ms():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 256, 256)).astype(np.float32)
    tool = LatentExplorer(Signal1D(np.ones((256, 256, 8), np.uint8)), Signal2D(maps))
    angle = np.linspace(0, 2 * np.pi, 1000)
    lasso = (1 + 0.3 * np.sin(9 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    seconds = []
    for size in (1.0, 1.1, 1.2):
        start = time.process_time()
        tool.select_scores(size * lasso)
        seconds.append(time.process_time() - start)
        tool.wait()

    assert 10_000 < tool.selected.sum() < 50_000
    assert min(seconds) < 0.1, seconds
