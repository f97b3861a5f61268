"""Which places are behind a direction of the scores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hyperspy_specml.anomaly._components import largest_contribution


@pytest.mark.parametrize("grid", [(11,), (7, 5), (4, 3, 5)])
def test_the_fraction_is_the_largest_of_all_directions(grid):
    scores = np.random.default_rng(0).standard_normal((*grid, 3)) * [100, 1, 0.01]

    found = largest_contribution(scores, 3)

    total = np.linalg.inv(scores.reshape(-1, 3).T @ scores.reshape(-1, 3))
    for place in itertools.product(*map(range, grid)):
        square = scores[tuple(slice(max(0, k - 1), k + 2) for k in place)].reshape(-1, 3)
        largest = np.linalg.eigvals(total @ square.T @ square).real.max()
        assert found[place] == pytest.approx(largest, rel=1e-6)


def test_a_direction_of_one_place_is_its_contribution_alone():
    scores = np.zeros((9, 9, 3))  # the third is not used at all
    scores[..., 0] = 1
    scores[4, 4, 1] = 1e-3

    found = largest_contribution(scores, 3)

    assert found[4, 4] == pytest.approx(1)
    assert found[3, 5] == pytest.approx(1)
    assert found[3, 6] == pytest.approx(9 / 81, rel=0.1)
