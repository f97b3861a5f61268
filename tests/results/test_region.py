"""How a region is put into words."""

from __future__ import annotations

import pytest

from hyperspy_specml.anomaly import Candidate
from hyperspy_specml.results import Region


def candidate(element: str, *, listed: bool = False, close: bool = True) -> Candidate:
    return Candidate(element, "Ka", 2.3, 0.0, 10.0, listed, close)


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ((), ""),
        ((candidate("S"), candidate("Os", close=False)), "S Ka"),
        ((candidate("S", listed=True), candidate("Mo"), candidate("Pb")), "S Ka*, Mo Ka or Pb Ka"),
        ((candidate("S"), candidate("Mo", listed=True)), "S Ka or Mo Ka*"),
    ],
)
def test_candidates_of_like_evidence_are_said_together(candidates, words):
    region = Region((1.0,), ((1,),), 1.0, "nm", 0.01, 2.3, "keV", "excess", 9.0, float("nan"), float("nan"), candidates)

    assert region.elements == words
    assert [one["listed"] for one in region.to_dict()["candidates"]] == [one.listed for one in candidates]
