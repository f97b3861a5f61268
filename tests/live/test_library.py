"""Deviates from phases and their mixtures, and how unlikely they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hyperspy_specml.latent import LineLaw, MultinomialLaw
from hyperspy_specml.live import Library, Spectra, find_new, windows_of

from .conftest import COUNTS, line, spectra


@pytest.fixture(scope="module")
def library() -> Library:
    rng = np.random.default_rng(1)
    sums = rng.poisson(40 * COUNTS * spectra()[:2]).astype(float)
    values = drawn(np.repeat([0, 1], 200))
    return Library(sums, np.array([40, 40]), MultinomialLaw()).with_null(values, seed=0)


def drawn(phases: np.ndarray, *, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).poisson(COUNTS * spectra()[phases]).astype(np.float32)


def squares(values: np.ndarray, mean: np.ndarray, *, error: float = 0.0, doubt: float = 0.0) -> np.ndarray:
    windows = windows_of(values.shape[1])
    both = windows.sums(values), windows.sums(mean)
    return windows.squares(*both, counts=False, error=error, doubt=np.full(len(values), doubt))


def test_deviates_are_those_of_windows() -> None:
    values, windows = np.zeros((1, 24), np.float32), windows_of(24)
    values[0, 9:12] = 5
    found = squares(values, np.zeros_like(values))[0]
    assert found.max() == pytest.approx(15**2 / 3)
    at = found.argmax()
    assert (windows.starts[at], windows.stops[at]) == (9, 12)
    sums = [values[0, start:stop].sum() for start, stop in zip(windows.starts, windows.stops, strict=True)]
    assert windows.sums(values)[0].tolist() == sums
    assert len(windows_of(2)) == 1


@pytest.mark.parametrize("n_groups", [1, 2, 5, 11, 12, 13, 64, 97])
def test_sums_of_windows_are_exact(n_groups: int) -> None:
    table, windows = np.random.default_rng(9).poisson(2.0, (4, n_groups)), windows_of(n_groups)
    every = zip(windows.starts, windows.stops, strict=True)
    assert windows.sums(table).T.tolist() == [table[:, start:stop].sum(axis=1).tolist() for start, stop in every]


def test_errors_of_the_model_and_of_the_phases_make_deviates_smaller() -> None:
    values = np.full((1, 12), 7.0, np.float32)
    mean = np.full((1, 12), 5.0, np.float32)
    none, error, doubt = (
        squares(values, mean, error=e, doubt=d)[0, -1] for e, d in ((0.0, 0.0), (0.1, 0.0), (0.0, 1.0))
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
    assert abs(library.excess(drawn(np.array([2]))).mean() - 75) <= 3


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


def test_a_line_that_varies_within_a_phase_is_not_new_and_others_still_are(library: Library) -> None:
    rng, n = np.random.default_rng(7), 1000
    varying = spectra()[0] + rng.normal(0, 0.4, (n, 1)) * line(55) / line(55).sum() * spectra()[0, 50:60].sum()
    values = rng.poisson(COUNTS * np.maximum(varying, 0)).astype(np.float32)
    learnt = library.with_errors(values[:500])
    level = 0.05 / n
    before, after = (one.p_values(one.look(values[500:]).deviate) < level for one in (library, learnt))
    assert before.sum() > 5
    assert after.sum() <= 1
    strange = learnt.look(drawn(np.full(50, 2)))
    assert (learnt.p_values(strange.deviate) < 1e-9).all()


def test_few_spectra_of_a_phase_to_come_do_not_hide_it(library: Library) -> None:
    values = drawn(np.r_[np.zeros(500, int), np.full(5, 2)])
    learnt = library.with_errors(values)
    assert (learnt.p_values(learnt.look(values[-5:]).deviate) < 1e-9).all()


def test_one_strange_spectrum_waits_for_a_second_unless_chance_is_out_of_the_question(library: Library) -> None:
    faint = spectra()[:1] + 0.1 * line(75) / line(75).sum()
    values = np.random.default_rng(8).poisson(COUNTS * np.repeat(faint, 2, axis=0)).astype(np.float32)
    p = library.p_values(library.look(values).deviate)
    level = min(10 * float(p.max()), 1e-3)
    assert find_new(library, Spectra(values[:1]), library.look(values[:1]), level) is None
    both = find_new(library, Spectra(values), library.look(values), level)
    assert both is not None
    assert sorted(both.members) == [0, 1]
    assert both.library.n_phases == 3
    alone = find_new(library, Spectra(values[:1]), library.look(values[:1]), 1e7 * p[0])
    assert alone is not None
    assert alone.members.tolist() == [0]
