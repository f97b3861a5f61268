"""What the width of the sharpest line decides in denoising."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.denoise import Asked, apply_denoiser, denoise, overlapping_windows
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import PoissonNoise
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from hyperspy_specml.denoise import Denoising

SCAN, N_CHANNELS = (17, 23), 211


def few_counts(width: float, seed: int = 0) -> np.ndarray:
    channel = np.arange(N_CHANNELS)
    spectra = [0.5 + np.exp(-4 * np.log(2) * ((channel - centre) / width) ** 2) for centre in (67, 131)]
    mixing = np.linspace(0, 1, SCAN[1])[:, None]
    mean = 4 * np.tile(mixing * spectra[0] + (1 - mixing) * spectra[1], (SCAN[0], 1, 1))
    return np.random.default_rng(seed).poisson(mean)


def found(counts: np.ndarray, detector: np.ndarray | None = None) -> Denoising:
    run = Run(specml.TrainConfig(max_steps=20, evaluate_every=10))
    return denoise(SpectrumStream(counts), run, Asked(context="spectral"), detector=detector)


def test_wide_lines_are_smoothed_along_energy_at_few_counts() -> None:
    report = found(few_counts(16.0)).report
    assert report.line_width == pytest.approx(16, rel=0.2)
    assert 0 < report.smoothing <= report.line_width / 8


def test_lines_as_narrow_as_the_detector_says_are_not_smoothed() -> None:
    report = found(few_counts(16.0), detector=np.linspace(4.0, 9.0, N_CHANNELS)).report
    assert report.line_width == 4.0
    assert report.smoothing == 0.0


def test_an_applied_denoiser_finds_the_width_of_the_other_map() -> None:
    trained = found(few_counts(16.0))
    known = {"channels": np.ones(N_CHANNELS, bool), "noise": PoissonNoise(), "mean": few_counts(16.0).mean(axis=(0, 1))}
    stream = SpectrumStream(few_counts(16.0, seed=1))
    assert apply_denoiser(stream, trained.denoiser, **known).line_width == pytest.approx(16, rel=0.25)
    detector = np.full(N_CHANNELS, 5.0)
    assert apply_denoiser(stream, trained.denoiser, detector=detector, **known).line_width == 5.0


def test_windows_are_one_and_a_half_line_widths_wide_and_overlap_by_half() -> None:
    windows = overlapping_windows(N_CHANNELS, 12.0)
    assert set(windows.widths[:-1]) == {18}
    assert set(np.diff(windows.starts)) == {9}
    assert windows.stops[-1] == N_CHANNELS
