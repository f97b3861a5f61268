"""Dataclasses to plain data and back: what model files say of a model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from hyperspy_specml.models._file import from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    values: np.ndarray
    name: str = "x"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    several: tuple[Inner, ...]
    counts: dict[str, dict[str, int]]
    ratio: float
    flag: bool
    maybe: Inner | None
    anything: dict[str, Any]
    later: tuple[float, ...] = field(default=())


INNER = Inner(np.array([0.1, np.nan, 1e300]))
OUTER = Outer(INNER, (INNER,), {"pixels": {"used": 7}}, 1 / 3, True, None, {"a": [1, None, "b"]})


def there_and_back(plain):
    return from_plain(Outer, json.loads(json.dumps(plain)), "model")


def test_every_number_comes_back_bit_for_bit():
    again = there_and_back(to_plain(OUTER))

    np.testing.assert_array_equal(again.inner.values, INNER.values)
    np.testing.assert_array_equal(again.several[0].values, INNER.values)
    assert replace(again, inner=INNER, several=(INNER,)) == OUTER


def test_whole_numbers_stay_whole_and_others_do_not_become_so():
    arrays = Inner(np.array([1, 2])), Inner(np.array([1.0, 2.0]))

    again = there_and_back(to_plain(replace(OUTER, several=arrays))).several

    assert [inner.values.dtype.kind for inner in again] == ["i", "f"]


def test_what_has_a_default_may_be_missing():
    plain = to_plain(OUTER)
    del plain["later"], plain["inner"]["name"]

    assert there_and_back(plain).inner.name == "x"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("ratio",), "0.3", r"^model\.ratio is '0\.3', of the wrong type$"),
        (("ratio",), True, r"^model\.ratio is True, of"),
        (("flag",), 1, r"^model\.flag is 1, of"),
        (("inner", "values"), [1, "2"], r"^model\.inner\.values is '2', of"),
        (("inner", "values"), 3, r"^model\.inner\.values is 3, of"),
        (("several",), [[]], r"^model\.several\[0\] is \[\], of"),
        (("counts", "pixels", "used"), 0.5, r"^model\.counts\.pixels\.used is 0\.5, of"),
        (("maybe",), "nothing", r"^model\.maybe is 'nothing', of"),
        (("more",), 1, r"^model has more, which this version does not know$"),
    ],
)
def test_what_is_of_another_type_is_named_with_its_place(path, value, message):
    plain = to_plain(OUTER)
    place = plain
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(ValueError, match=message):
        there_and_back(plain)


def test_what_is_missing_is_named():
    plain = to_plain(OUTER)
    del plain["inner"]["values"]

    with pytest.raises(ValueError, match=r"^model\.inner\.values is missing$"):
        there_and_back(plain)
