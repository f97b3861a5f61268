"""Deviates from phases and their mixtures, and how unlikely they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hyperspy_specml.latent import LineLaw, MultinomialLaw
from hyperspy_specml.live import Library, window_deviates

from .conftest import COUNTS, spectra


@pytest.fixture(scope="module")
def library() -> Library:
    rng = np.random.default_rng(1)
    sums = rng.poisson(40 * COUNTS * spectra()[:2]).astype(float)
    values = drawn(np.repeat([0, 1], 200))
    return Library(sums, np.array([40, 40]), MultinomialLaw()).with_null(values, seed=0)


def drawn(phases: np.ndarray, *, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).poisson(COUNTS * spectra()[phases]).astype(np.float32)


def test_deviates_are_those_of_the_best_window() -> None:
    values = np.zeros((1, 24), np.float32)
    values[0, 9:12] = 5
    found, window = window_deviates(values, np.zeros_like(values), counts=False, error=0.0, doubt=np.zeros(1))
    assert found[0] == pytest.approx(15**2 / 3)
    assert window[0].tolist() == [9, 11]


def test_errors_of_the_model_and_of_the_phases_make_deviates_smaller() -> None:
    values = np.full((1, 12), 7.0, np.float32)
    mean = np.full((1, 12), 5.0, np.float32)
    none, error, doubt = (
        window_deviates(values, mean, counts=False, error=e, doubt=np.array([d]))[0][0]
        for e, d in ((0.0, 0.0), (0.1, 0.0), (0.0, 1.0))
    )
    assert none == pytest.approx(24**2 / 12)
    assert error == pytest.approx(24**2 / (12 + 0.01 * 60**2))
    assert doubt == pytest.approx(24**2 / 24)


def test_p_values_of_known_phases_are_uniform(library: Library) -> None:
    p = library.p_values(library.look(drawn(np.repeat([0, 1], 500), seed=3)).deviate)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert p.min() > 1e-6


def test_a_mixture_of_two_phases_is_not_new(library: Library) -> None:
    rng = np.random.default_rng(4)
    values = rng.poisson(COUNTS * 0.5 * (spectra()[0] + spectra()[1]), (200, spectra().shape[1])).astype(np.float32)
    found = library.look(values)
    assert (library.p_values(found.deviate) < 1e-3).mean() < 0.02
    clear = found.shares.max(axis=1) < 1
    assert np.abs(found.shares[clear, 0] - 0.5).max() < 0.2


def test_an_unknown_phase_is_new_and_its_line_is_named(library: Library) -> None:
    found = library.look(drawn(np.full(50, 2)))
    assert (library.p_values(found.deviate) < 1e-9).all()
    assert np.abs(np.median(found.window.mean(axis=1)) - 75) <= 3


def test_a_phase_of_one_spectrum_does_not_make_its_next_ones_new(library: Library) -> None:
    """Its spectrum has noise of its own, as large as theirs."""
    values = drawn(np.full(200, 2), seed=5)
    grown = library.with_phase(values[:1].astype(float), 1)
    p = grown.p_values(grown.look(values[1:]).deviate)
    assert (p < 1e-4).mean() < 0.02


def test_white_noise_has_the_same_rate() -> None:
    rng = np.random.default_rng(6)
    spectrum = 10 * spectra()[:1] / np.linalg.norm(spectra()[0])
    values = (spectrum + rng.standard_normal((400, spectrum.shape[1]))).astype(np.float32)
    library = Library(100 * spectrum, np.array([100.0]), LineLaw()).with_null(values, seed=0)
    fresh = (spectrum + rng.standard_normal((1000, spectrum.shape[1]))).astype(np.float32)
    p = library.p_values(library.look(fresh).deviate)
    assert 0.02 < (p < 0.05).mean() < 0.09
