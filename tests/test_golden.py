"""Golden numbers: a planted difference is found, equal results pass."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def golden(monkeypatch):
    """The benchmark, with the one map that the test asks for."""
    monkeypatch.syspath_prepend(ROOT)
    found = importlib.import_module("benchmarks.golden")
    maps = found.maps
    monkeypatch.setattr(found, "maps", lambda: {"CL": maps()["CL"]})
    return found


@pytest.fixture
def benchmark(golden, capsys):
    main = importlib.import_module("benchmarks.__main__").main

    def run(*arguments):
        code = 0
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().out

    return run


def test_golden_finds_a_planted_difference_and_passes_equal_results(benchmark, tmp_path):
    path, only = tmp_path / "numbers.npz", ["--only", "CL/lazy/decomposition pca"]
    assert benchmark("golden", "--save", str(path), *only)[0] == 0

    code, printed = benchmark("golden", "--compare", str(path), *only)
    assert code == 0
    assert "greatest difference 0.0e+00" in printed

    with np.load(path, allow_pickle=False) as file:
        numbers = dict(file)
    place = "CL/lazy/decomposition pca/"
    assert {len(name.split("/")) for name in numbers} <= {4, 5, 6}
    assert numbers[f"{place}reconstruction"].shape == (20, 24, 160)
    assert numbers[f"{place}report/chosen"].dtype.kind == "U"
    assert not any("seconds" in name for name in numbers)
    numbers[f"{place}components"][1, 70] += 1e-3 * numbers[f"{place}components"].std()
    numbers[f"{place}report/hold-out"] = np.array("guessed")
    numbers[f"{place}gone"] = numbers.pop(f"{place}scores")
    np.savez(path, **numbers)
    code, printed = benchmark("golden", "--compare", str(path), *only)
    assert code == 1
    assert "4 records differ" in printed
    listed = {
        line.rsplit("  ", 1)[0].strip(): line.split()[-1]
        for line in printed.splitlines()
        if place in line or "/gone" in line
    }
    assert {
        name: listed[name]
        for name in (f"{place}components", f"{place}report/hold-out", f"{place}gone", f"{place}scores")
    } == {
        f"{place}components": "1.0e-03",
        f"{place}report/hold-out": "inf",
        f"{place}gone": "missing",
        f"{place}scores": "new",
    }


@pytest.mark.parametrize(
    ("reference", "values", "expected"),
    [
        ([1.0, 3.0, np.nan], [1.0, 3.1, np.nan], 0.1),  # over the standard deviation
        (-4.0, -5.0, 0.25),  # over its own size
        ([0.1] * 7, [0.2] * 7, 1.0),  # equal values have a spread of rounding only
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([1.0, 2.0], [[1.0, 2.0]], np.inf),
        (0.0, 1e-9, np.inf),
        ("exact", "none", np.inf),
        ("1", 1.0, np.inf),
        (["a", "b"], ["a", "b"], 0.0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
    ],
)
def test_differences_are_relative_to_the_spread(golden, reference, values, expected):
    found = golden.differences({"a": np.array(reference), "gone": np.array(1.0)}, {"a": np.array(values)})

    assert found == {"a": pytest.approx(expected)}
