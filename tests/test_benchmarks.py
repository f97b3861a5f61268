"""The benchmarks run, at sizes too small to measure anything, and say what they did."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import hyperspy_specml as specml

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks._harness")


@pytest.fixture
def contenders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with contenders, on the path of the processes that the harness starts."""
    code = """
import time
from functools import partial

def sleep(seconds):
    time.sleep(seconds)                     # preparation is not timed
    return partial(time.sleep, seconds / 4)

def allocate(n_bytes):
    return partial(_hold, n_bytes)

def _hold(n_bytes):
    held = bytearray(b"1") * n_bytes
    time.sleep(0.2)
    return {"held": len(held)}

def fail():
    raise ValueError("no such luck")
"""
    (tmp_path / "some_contenders.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "some_contenders"


def benchmark(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_without_a_name_the_benchmarks_are_listed():
    listed = benchmark()

    assert "lazy " in listed
    assert "fe-l " in listed


def test_lazy_prints_ratios_to_hyperspy_writes_a_record_and_removes_its_file(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))

    printed = benchmark(
        "lazy", "--size", "20", "--channels", "128", "--quick", "--json", str(tmp_path / "record.json")
    )

    assert "This needs 0.00 GB" in printed
    assert "/ HyperSpy" in printed
    assert not list(scratch.glob("specml*"))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["benchmark"] == "lazy"
    runs = record["results"]["runs"]
    assert len(runs) == 4
    assert all(len(run["seconds"]) == 1 for run in runs.values())
    scree = {run["facts"]["n_scree"] for run in runs.values() if run["facts"]}
    assert len(scree) == 1  # all three of ours see the same channels, and all eigenvalues of them
    assert scree.pop() > 8
    assert str(tmp_path) not in json.dumps(record)


def test_fe_l_measures_every_dose_and_seed(tmp_path):
    path = tmp_path / "record.json"

    printed = benchmark(
        "fe-l", "--size", "14", "--channels", "64", "--doses", "5", "50", "--seeds", "2", "--json", str(path)
    )

    assert "dense / best PCA" in printed
    results = json.loads(path.read_text())["results"]
    assert {dose: len(runs) for dose, runs in results.items()} == {"5": 2, "50": 2}
    measured = [run for runs in results.values() for run in runs]
    assert all(0 < run["best_pca"] <= run["pca"] * 1.2 for run in measured)
    assert all(run["stop_over_best"] >= 1 for run in measured)


def test_the_path_of_fe_l_belongs_to_the_training_of_decomposition_ae(harness):
    fe_l = importlib.import_module("benchmarks.fe_l")
    simulated = specml.datasets.fe_l_map((14, 12), n_channels=64, dose=50.0, random_state=1)

    path = fe_l.errors_on_the_way(simulated, 1)

    dec = simulated.signal.decomposition_ae(fe_l.LATENTS, random_state=1, show_progressbar=False)
    assert len(path) == len(dec.report.steps)


def test_anomaly_compares_rivals_and_counts_false_alarms(tmp_path):
    path = tmp_path / "record.json"

    printed = benchmark(
        "anomaly", "--quick", "--size", "36", "--channels", "256", "--kinds", "grains", "--null-maps", "1",
        "--planted-maps", "1", "--doses", "400", "--parts", "rivals", "contamination", "calibration",
        "cost", "--json", str(path),
    )  # fmt: skip

    assert "isolation forest" in printed
    assert "anomaly_map(), lazy 144 x 144" in printed
    assert "over it" in printed
    assert "cosmic rays listed" in printed
    results = json.loads(path.read_text())["results"]
    scores = results["rivals"][0]["runs"][0]["average_precision"]
    assert scores["anomaly_map"] > scores["PCA squared_error"]
    assert scores["anomaly_map"] >= scores["PCA rx"]
    assert set(results["contamination"][0]["runs"][0]) == {"None", "5", "8"}
    assert results["calibration"]["null"][0]["maps"] == 1
    (planted,) = results["calibration"]["planted"]
    assert planted["phases"] == 6
    assert planted["found"] <= planted["phases"]
    assert planted["false"] <= planted["regions"]


def test_the_best_pca_finds_the_rank_of_the_truth(harness):
    fe_l = importlib.import_module("benchmarks.fe_l")
    rng = np.random.default_rng(0)
    clean = rng.gamma(1.0, size=(700, 3)) @ rng.gamma(1.0, 40.0, size=(3, 50))

    error, rank = fe_l.best_pca(rng.poisson(clean).astype(np.float64), clean)

    assert rank == 3
    assert 0 < error < 0.2


def test_only_the_call_is_timed_and_the_process_beside_it(harness, contenders):
    run = harness.run_contender(harness.Contender("sleeper", f"{contenders}:sleep", {"seconds": 0.8}))

    assert 0.2 <= run.seconds < 0.7
    assert run.process_seconds >= 1.0
    assert run.facts == {}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the anonymous memory")
def test_the_peak_of_the_anonymous_memory_is_seen(harness, contenders):
    n_bytes = 300_000_000
    run = harness.run_contender(harness.Contender("holder", f"{contenders}:allocate", {"n_bytes": n_bytes}))

    assert run.facts == {"held": n_bytes}
    assert n_bytes <= run.peak < 2 * n_bytes


def test_a_contender_that_fails_says_why(harness, contenders):
    with pytest.raises(RuntimeError, match=r"(?s)unlucky failed.*no such luck"):
        harness.run_contender(harness.Contender("unlucky", f"{contenders}:fail"))


def test_contenders_run_in_turn(harness, contenders):
    sleepers = [harness.Contender(name, f"{contenders}:sleep", {"seconds": 0.01}) for name in "ab"]

    runs = harness.run_all(sleepers, repeats=2)

    assert {name: len(found) for name, found in runs.items()} == {"a": 2, "b": 2}


def test_a_table_is_aligned_and_missing_numbers_are_dashes(harness):
    text = harness.table(["name", "s"], [["long name", harness.number(1.5)], ["b", harness.number(None)]])

    assert text.splitlines() == [
        "name          s",
        "---------  ----",
        "long name  1.50",
        "b             -",
    ]


def test_a_median_or_ratio_of_something_missing_is_missing(harness):
    assert harness.median([3.0, 1.0, 2.0]) == 2.0
    assert harness.median([1.0, None]) is None
    assert harness.ratio(None, 2.0) is None
    assert harness.ratio(3.0, 2.0) == 1.5


def test_decompositions_are_compared_on_maps_with_known_truth(tmp_path):
    path = tmp_path / "record.json"
    size = ["--size", "13", "--channels", "64", "--seeds", "1", "--maps", "grains"]

    printed = benchmark("decomposition", *size, "--json", str(path))

    assert "linear floor" in printed
    (runs,) = json.loads(path.read_text())["results"].values()
    found = {name: one for name, (one,) in runs.items()}
    assert found["best PCA"]["error"] <= found["pca"]["error"] * 1.2
    assert all(one["error"] > 0 for one in found.values())
    assert all(0 <= found[name]["angle"] <= 90 for name in ("linear floor", "HyperSpy NMF", "simplex"))
    assert found["pca"]["angle"] is None  # principal components are no spectra of phases


def test_the_numbers_of_components_chosen_stand_beside_those_expected(tmp_path):
    path = tmp_path / "record.json"
    size = ["--size", "11", "--channels", "48", "--seeds", "1", "--maps", "alloy"]

    printed = benchmark("rank", *size, "--json", str(path))

    assert "within one" in printed
    (found,) = json.loads(path.read_text())["results"].values()
    assert found["simplex"][0]["expected"] == [3, 3]
    assert all(1 <= run["chosen"] <= 4 for runs in found.values() for run in runs)
    assert found["dense"][0]["best"] >= 1
    for (run,) in found.values():
        ranks, worse, errors = zip(*run["curve"], strict=True)
        assert list(ranks) == [*range(1, len(ranks) + 1)]
        best = worse.index(0)
        assert errors[best] == 0
        assert worse[run["chosen"] - 1] <= errors[run["chosen"] - 1]  # within one error of the best


def test_maps_that_are_not_here_are_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECML_DATA", str(tmp_path))

    printed = benchmark("decomposition", "--maps", "espm", "--json", str(tmp_path / "record.json"))

    assert "espm is left out" in printed
    assert "SPECML_DATA" in printed


def test_spectra_are_matched_with_the_truth_whatever_their_order_and_scale(harness):
    decomposition = importlib.import_module("benchmarks.decomposition")
    truth = np.random.default_rng(0).gamma(1.0, size=(3, 17))

    order, angle = decomposition.matched(truth[[2, 0, 1]] * [[5.0], [1.0], [0.1]], truth)

    assert order == [1, 2, 0]
    assert angle == pytest.approx(0, abs=1e-5)


def test_thinned_maps_keep_their_truth(data_folder, harness, monkeypatch):
    maps = importlib.import_module("benchmarks._maps")
    monkeypatch.setattr(maps, "FOLDER", data_folder)

    known = maps.known_map("eels-unmix", dose=200, size=64)

    residual = (known.counts - known.clean) ** 2 / known.clean
    assert known.counts.sum(axis=1).mean() == pytest.approx(200, rel=0.01)
    assert residual.mean() == pytest.approx(1, abs=0.01)  # Poisson about the expectation
    assert np.allclose(known.amounts.sum(axis=1).mean(), 200, rtol=0.01)
    dec = known.signal.decomposition_ae(2, architecture="pca", random_state=0, show_progressbar=False)
    assert dec.report.hold_out == "exact"  # thinned by other random numbers than those of the folds


def test_denoise_compares_rivals_on_maps_with_known_truth(tmp_path, harness, monkeypatch, capsys):
    path = tmp_path / "record.json"
    for name, value in {"max_steps": 40, "evaluate_every": 20}.items():
        monkeypatch.setitem(specml.TrainConfig.__init__.__kwdefaults__, name, value)
    rivals = importlib.import_module("benchmarks._denoise_rivals")
    monkeypatch.setattr(rivals, "RANKS", (1, 3, 5))
    size = ["--size", "20", "--channels", "64", "--maps", "grains", "--doses", "300"]

    importlib.import_module("benchmarks.__main__").main(
        ["denoise", "--quick", "--parts", "errors", "choice", "rare", *size, "--json", str(path)]
    )

    assert "ours / tuned rival" in capsys.readouterr().out
    results = json.loads(path.read_text())["results"]
    ((run,),) = results["errors"].values()
    assert run["ours"] < run["known"]["pca"]
    assert run["tuned"]["error"] >= min(run["known"].values())  # who knows the truth cannot be beaten
    ((choice,),) = results["choice"].values()
    assert choice["chosen"] in choice["errors"]
    assert choice["errors"][choice["chosen"]] == pytest.approx(run["ours"], rel=1e-4)  # the same candidate
    assert {found["pixels"] for runs in results["rare"].values() for found in runs} == {24}


def test_the_valence_is_fitted_without_an_error_of_its_own(harness, monkeypatch, capsys):
    valence = importlib.import_module("benchmarks._denoise_valence")
    monkeypatch.setattr(valence, "QUICK_DOSES", (30.0, 300.0))
    monkeypatch.setattr(valence, "METHODS", ("raw", "pca"))
    monkeypatch.setattr(valence, "_THICKNESSES", (0.2, 1.4, 4))
    monkeypatch.setattr(valence, "_SHIFTS", (-2.0, 2.0, 41))
    monkeypatch.setattr(valence, "_library", lambda quick: None)

    still, drifting = valence.measure(7, True).values()

    assert "reaches raw 300 at" in capsys.readouterr().out
    for rows in (still, drifting):
        assert rows["noise-free"][0]["rmse"] < 0.03
        assert rows["raw"][1]["rmse"] < 0.6 * rows["raw"][0]["rmse"]
        for one in rows["raw"]:
            assert one["rmse"] ** 2 == pytest.approx(one["bias"] ** 2 + one["spread"] ** 2, rel=0.6)


def test_the_dose_that_reaches_an_accuracy_is_found_between_doses(harness):
    valence = importlib.import_module("benchmarks._denoise_valence")

    assert valence.dose_for([1.0, 0.1, 0.01, 0.001, 0.0001], 0.1, valence.DOSES) == pytest.approx(10)
    assert valence.dose_for([1.0, 0.5, 0.25, 0.1, 0.05], 0.07, valence.DOSES) == pytest.approx(180, rel=0.05)
    assert valence.dose_for([1.0, 0.5, 0.25, 0.1, 0.08], 0.07, valence.DOSES) is None


def test_measured_maps_are_scored_on_counts_that_were_not_denoised(data_folder, harness, monkeypatch):
    measured = importlib.import_module("benchmarks._denoise_measured")
    path = data_folder / measured.FILES["velox"]

    (_, odd, even), (_, again, _) = measured._velox(path)

    assert odd.data.shape == even.shape == (50, 10, 3856)
    assert (again.data == even).all()
    one, other = float(odd.data.sum()), float(even.sum())
    assert abs(one - other) < 5 * np.sqrt(one + other)
    assert not np.array_equal(odd.data, even)


def test_golden_finds_a_planted_difference_and_passes_equal_results(tmp_path):
    path, only = tmp_path / "numbers.npz", ["--only", "CL/lazy/decomposition pca"]
    record = ["--json", str(tmp_path / "record.json")]
    benchmark("golden", "--save", str(path), *only, *record)

    assert "greatest difference 0.0e+00" in benchmark("golden", "--compare", str(path), *only, *record)

    with np.load(path, allow_pickle=False) as file:
        numbers = dict(file)
    place = "CL/lazy/decomposition pca/"
    assert {len(name.split("/")) for name in numbers} <= {4, 5, 6}
    assert numbers[f"{place}reconstruction"].shape == (20, 24, 160)
    assert numbers[f"{place}report/chosen"].dtype.kind == "U"
    assert not any("seconds" in name for name in numbers)
    numbers[f"{place}components"][1, 70] += 1e-3 * numbers[f"{place}components"].std()
    numbers[f"{place}report/hold-out"] = np.array("guessed")
    numbers["CL/lazy/decomposition pca/gone"] = numbers.pop(f"{place}scores")
    np.savez(path, **numbers)
    with pytest.raises(AssertionError, match=r"4 records differ"):  # with exit code 1
        benchmark("golden", "--compare", str(path), *only, *record)
    assert json.loads((tmp_path / "record.json").read_text())["results"]["differing"] == {
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
def test_differences_of_golden_numbers_are_relative_to_the_spread(harness, reference, values, expected):
    golden = importlib.import_module("benchmarks.golden")

    found = golden.differences({"a": np.array(reference), "gone": np.array(1.0)}, {"a": np.array(values)})

    assert found == {"a": pytest.approx(expected)}
