"""Which element a residual belongs to."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.anomaly._elements import line_evidence
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise

CHANNELS, WIDTH = np.arange(120), np.full(120, 7.0)
FAMILIES = {"true": [[(50.0, 0.9), (80.0, 0.1)]], "beside it": [[(53.0, 1.0)]], "elsewhere": [[(20.0, 1.0)]]}


def lines(element: str) -> np.ndarray:
    sigma = 7.0 / np.sqrt(8 * np.log(2))
    return sum(
        weight * np.exp(-0.5 * ((CHANNELS - channel) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        for channel, weight in FAMILIES[element][0]
    )


@pytest.mark.parametrize("level", [0.1, 10.0])
def test_counts_far_from_a_line_do_not_outweigh_it_where_nothing_is_expected(level):
    rng, right = np.random.default_rng(0), 0
    background = np.where(CHANNELS < 54, level, 1e-6)  # nothing is expected beside the line
    for _ in range(50):
        residual = rng.poisson(background + 40 * lines("true")) - background
        evidence = line_evidence(residual, background, WIDTH, FAMILIES, PoissonNoise())
        right += max(evidence, key=lambda element: evidence[element]) == "true"

    assert right >= 48


@pytest.mark.parametrize("noise", [PoissonNoise(), PoissonGaussianNoise(0.0, 1e3), PoissonGaussianNoise(1e-9, 1e3)])
def test_evidence_is_the_drop_of_chi_squared_where_noise_is_normal(noise):
    residual = 30 * lines("true")
    variance = np.full(120, 1e6)

    evidence = line_evidence(residual, variance, WIDTH, FAMILIES, noise)

    assert evidence["true"] == pytest.approx(float(residual @ residual) / 1e6 - 2, abs=1e-3)
    assert evidence["elsewhere"] == pytest.approx(-2, abs=1e-3)
