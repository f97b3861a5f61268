"""What the tests of anomaly maps share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.results import AnomalyResult


@pytest.fixture
def read_again() -> Callable[[AnomalyResult, int], float]:
    """Return the function that says which share of a file in chunks of whole lines lies near regions.

    The spectra of a region and of the five pixels around it are read once more than the others.
    """

    def share(found: AnomalyResult, lines: int) -> float:
        n = found.score.data.shape[0]
        near = {y // lines for r in found.regions for _, at in r.pixels for y in range(max(0, at - 5), min(at + 6, n))}
        return sum(min(lines, n - lines * k) for k in near) / n

    return share
