"""The drift of scan lines is found, and differences of the specimen are not taken for drift."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.anomaly._setup import best_shifts, estimate_line_shift
from hyperspy_specml.statistics import PoissonNoise

N_LINES, N_SEGMENTS, N_CHANNELS = 40, 8, 200
CHANNELS = np.arange(N_CHANNELS, dtype=float)


def peak(centre, width=6.0):
    return np.exp(-0.5 * ((CHANNELS - centre) / width) ** 2)


def counts(drift, mixture, *, dose=2e5, seed=0):
    """Draw lines of two phases whose edges lie four channels apart, on a background."""
    phases = np.stack([peak(90) + 0.4 * peak(130), peak(94) + 0.6 * peak(131)])
    rows = np.empty((N_LINES, N_SEGMENTS, N_CHANNELS))
    for line, by in enumerate(drift):
        for segment in range(N_SEGMENTS):
            fraction = mixture[line, segment]
            spectrum = (1 - fraction) * phases[0] + fraction * phases[1] + 0.2
            rows[line, segment] = np.interp(CHANNELS - by, CHANNELS, spectrum)
    return np.random.default_rng(seed).poisson(dose / N_CHANNELS * rows).astype(np.float32)


def found_in(segments, n_pixels=8):
    pixels = np.full(segments.shape[:2], n_pixels) if np.isscalar(n_pixels) else n_pixels
    return estimate_line_shift(segments, pixels, PoissonNoise(), 14.0)


def mixtures(seed=1):
    return np.random.default_rng(seed).uniform(0, 1, (N_LINES, N_SEGMENTS))


def planted(seed=2):
    drift = np.random.default_rng(seed).integers(-8, 9, N_LINES)
    return drift - int(np.median(drift))


@pytest.mark.parametrize(("dose", "error"), [(2e5, 0), (2e3, 2)])
def test_planted_drift_is_found_whatever_the_phases_in_the_lines(dose, error):
    found = found_in(counts(planted(), mixtures(), dose=dose))

    assert found.dtype.kind == "i"
    assert np.abs(found - planted()).max() <= error


@pytest.mark.parametrize("dose", [20, 2e3, 2e5])
def test_lines_without_drift_are_not_moved(dose):
    assert found_in(counts(np.zeros(N_LINES), mixtures(), dose=dose)) is None


def test_phases_that_change_along_and_across_the_lines_are_no_drift():
    mixture = np.linspace(0, 1, N_LINES)[:, None] * np.linspace(0, 1, N_SEGMENTS)

    assert found_in(counts(np.zeros(N_LINES), mixture)) is None


def test_inconsistent_halves_of_all_lines_give_no_drift():
    """Two maps beside each other, each with a drift of its own: it is not that of lines."""
    half = N_SEGMENTS // 2
    segments = counts(planted(2), mixtures())
    segments[:, half:] = counts(planted(3), mixtures())[:, half:]

    assert found_in(segments) is None


def test_a_line_with_inconsistent_halves_is_not_moved():
    segments = counts(planted(), mixtures())
    half = N_SEGMENTS // 2
    segments[7, half:] = counts(np.full(N_LINES, planted()[7] - 12), mixtures())[7, half:]

    assert found_in(segments)[7] == 0


def test_masked_segments_are_ignored():
    segments, n_pixels = counts(planted(), mixtures()), np.full((N_LINES, N_SEGMENTS), 8)
    segments[4], n_pixels[4] = 0, 0
    segments[11, :3], n_pixels[11, :3] = 0, 0

    found = found_in(segments, n_pixels)

    assert found[4] == 0
    others = np.arange(N_LINES) != 4
    assert np.abs(found - planted())[others].max() <= 1


@pytest.mark.parametrize("value", [0, 5])
def test_spectra_without_structure_have_no_drift(value):
    assert found_in(np.full((N_LINES, N_SEGMENTS, N_CHANNELS), value, np.float32)) is None


@pytest.mark.parametrize("shape", [(8, 8, 200), (40, 3, 200), (40, 8, 5)])
def test_too_few_lines_segments_or_channels_give_no_drift(shape):
    segments = np.random.default_rng(0).poisson(50, shape).astype(np.float32)

    assert found_in(segments) is None


@pytest.mark.parametrize("shift", [-7, 0, 4])
def test_patterns_are_moved_to_where_they_describe_a_mixture_best(shift):
    patterns = np.stack([peak(90) + 0.2, peak(110) + 0.1])
    moved = np.stack([np.interp(CHANNELS - shift, CHANNELS, pattern) for pattern in patterns])

    found = best_shifts(moved[:1] + 3 * moved[1:], patterns, np.ones(N_CHANNELS), 10)

    assert found.tolist() == [shift]
