"""Noise that neighbouring pixels share is no evidence of anything rare, and the log says so."""

from __future__ import annotations

import logging

import hyperspy.api as hs
import numpy as np
import pytest
import scipy.ndimage

from hyperspy_specml.signals import stamp
from hyperspy_specml.workflows._anomaly import scan_area


def counts() -> np.ndarray:
    y, x = np.indices((20, 24))
    channel = np.arange(64)
    share = (0.5 + 0.4 * np.sin(y / 4) * np.cos(x / 5))[..., None]
    peaks = [np.exp(-0.5 * ((channel - centre) / 4) ** 2) for centre in (20, 40)]
    return np.random.default_rng(0).poisson(20 * share * peaks[0] + 20 * (1 - share) * peaks[1] + 2).astype(float)


pytestmark = pytest.mark.usefixtures("few_drawn_pixels")
WARNED = "esiduals of neighbouring pixels correlate by"


def said(data: np.ndarray, caplog) -> str:
    with caplog.at_level(logging.WARNING, "hyperspy_specml"):
        hs.signals.Signal1D(data).anomaly_map(show_progressbar=False)
    return caplog.text


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda m: (m[:, 1:] + m[:, :-1]) / 2, 0.4),  # moved by half a pixel
        (lambda m: scipy.ndimage.gaussian_filter(m, (1, 1, 0)), 0.4),
        (lambda m: scipy.ndimage.uniform_filter(m, (3, 3, 1)) * 9, 0.35),
    ],
)
def test_noise_that_neighbours_share_is_said_with_the_repair(change, least, caplog):
    text = said(change(counts()), caplog)

    assert WARNED in text
    assert "Search the raw counts" in text
    assert float(text.split(WARNED)[1].split(",")[0]) > least


def test_counts_as_they_are_share_none(caplog):
    assert WARNED not in said(counts(), caplog)


def test_a_denoised_signal_says_so(caplog):
    s = stamp(hs.signals.Signal1D(counts()), {"method": "denoise_dae"})
    with caplog.at_level(logging.WARNING, "hyperspy_specml"):
        s.anomaly_map(show_progressbar=False)

    assert "The signal was denoised" in caplog.text
    assert "Search the raw counts" in caplog.text


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (4, 5)])
def test_area_of_a_map_of_one_row_or_column_takes_the_scale_of_both_axes(shape):
    s = hs.signals.Signal1D(np.zeros((*shape, 3)))
    for axis in s.axes_manager.navigation_axes:
        axis.scale, axis.units = 0.02, "µm"

    assert scan_area(6, s.axes_manager.navigation_axes) == (pytest.approx(0.0024), "µm²")
