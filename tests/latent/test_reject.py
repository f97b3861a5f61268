"""Pixels that are none of the known phases, and the error of the phases' own spectra."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.latent._laws import MultinomialLaw
from hyperspy_specml.latent._reject import expected_mixture, model_error, tail_probability

CHANNEL = np.arange(48)


def line(centre):
    return np.exp(-0.5 * ((CHANNEL - centre) / 2) ** 2)


PHASES = np.array([0.05 + line(12), 0.05 + line(30)])


def test_spectra_of_phases_and_of_mixtures_are_what_they_are_expected_to_be():
    counts = 1e6 * np.array([[0.3, 0.7], [1.0, 0.0]]) @ (PHASES / PHASES.sum(axis=1, keepdims=True))

    found = expected_mixture(counts, PHASES, MultinomialLaw())

    np.testing.assert_allclose(found, counts, atol=5e-3 * counts.max())


@pytest.mark.parametrize(("error", "least", "most"), [(0.0, 0.0, 0.01), (0.1, 0.03, 0.1)])
def test_the_error_of_spectra_is_that_by_which_the_height_of_a_line_scatters(error, least, most):
    rng = np.random.default_rng(0)
    height = 1 + error * rng.standard_normal((1500, 1))
    mean = 0.05 + line(12) + 0.5 * height * line(40)
    known = np.array([0.05 + line(12) + 0.5 * line(40), PHASES[1]])
    values = rng.poisson(4000 * mean / mean.sum(axis=1, keepdims=True)).astype(np.float32)

    assert least <= model_error(values, known, MultinomialLaw(), seed=1) <= most


def test_deviates_beyond_all_drawn_ones_are_no_rarer_than_counts_can_be():
    """Drawn deviates that hardly differ, as those of few counts: one more count is no miracle."""
    rng = np.random.default_rng(0)
    alike = 9 + 1e-3 * rng.random(2000)
    assert tail_probability(alike, np.array([13.0]))[0] > np.exp(-0.5 * 13)
    squares = rng.standard_normal((4000, 50)).max(axis=1) ** 2  # a tail that is as wide stays what it is
    more = rng.standard_normal((200_000, 50)).max(axis=1) ** 2
    assert (tail_probability(squares, more) < 1e-3).mean() == pytest.approx(1e-3, rel=0.5)
