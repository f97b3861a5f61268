"""The benchmarks run, at sizes too small to measure anything, and say what they did."""

from __future__ import annotations

import datetime
import importlib
import json
import re
import runpy
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hyperspy.api as hs
import numpy as np
import pytest
from PIL import Image

import hyperspy_specml as specml

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks._harness")


@pytest.fixture
def benchmark(harness, tmp_path, monkeypatch, capsys, brief_training, few_drawn_pixels) -> Callable[..., str]:
    """Run a benchmark in this process, contenders too, with short trainings and few draws; return what it printed.

    New processes would import torch again and again. Contenders still get what JSON makes of their arguments.
    """

    def run_here(contender: Any) -> Any:
        answer = tmp_path / "answer.json"
        harness._run_here(contender.function, json.dumps(contender.arguments), str(answer))
        found = json.loads(answer.read_text())
        return harness.Run(found["seconds"], found["cpu_seconds"], found["seconds"], 1_000_000, found["facts"])

    main = importlib.import_module("benchmarks.__main__").main
    for name in ("_harness", "_cost", "field", "lazy"):
        monkeypatch.setattr(importlib.import_module(f"benchmarks.{name}"), "run_contender", run_here)

    def run(*arguments: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(arguments)
        return capsys.readouterr().out

    return run


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


def tables(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return the cells of a record by table, first cell of the row, and column."""
    return {
        one["name"]: {row[0]: dict(zip(one["columns"], row, strict=True)) for row in one["rows"]}
        for one in json.loads(path.read_text())["tables"]
    }


def test_without_a_name_the_benchmarks_are_listed():
    listed = subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "lazy " in listed.stdout
    assert "fe-l " in listed.stdout


def test_lazy_prints_ratios_to_hyperspy_writes_a_record_and_removes_its_file(benchmark, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    printed = benchmark("lazy", "--size", "20", "--channels", "128", "--quick", "--results", str(tmp_path))

    assert "This needs 0.00 GB" in printed
    assert "/ HyperSpy" in printed
    assert not list(scratch.glob("specml*"))
    record = json.loads((tmp_path / "lazy-quick.json").read_text())
    assert record["benchmark"] == "lazy-quick"
    assert record["command"] == "python -m benchmarks lazy --size 20 --channels 128 --quick"
    assert datetime.date.fromisoformat(record["date"])
    assert {"package_version", "commit", "versions", "machine"} <= {*record}
    assert str(tmp_path) not in json.dumps(record)
    found = tables(tmp_path / "lazy-quick.json")
    assert found["time and memory"].keys() > found["stages"].keys()
    rows = found["time and memory"].values()
    assert next(iter(rows))["s / HyperSpy"] == "1.00"
    assert all(float(row["CPU s"]) >= 0 for row in rows)


@pytest.mark.usefixtures("brief_training")
def test_ours_see_the_same_channels_of_a_file_and_all_their_eigenvalues(harness, tmp_path):
    lazy, path = importlib.import_module("benchmarks.lazy"), str(tmp_path / "map.hspy")
    lazy.write_map(path, 20, 128)()

    contenders = lazy._contenders(path)[1:]
    (scree,) = {lazy.ours(**contender.arguments)()["n_scree"] for contender in contenders}

    assert len(contenders) == 3
    assert scree > lazy.COMPONENTS


def test_fe_l_measures_every_dose_and_seed(benchmark, tmp_path):
    size = ["--size", "14", "--channels", "64", "--doses", "5", "50", "--seeds", "2"]

    printed = benchmark("fe-l", *size, "--results", str(tmp_path))

    assert "dense / best PCA" in printed
    rows = tables(tmp_path / "fe-l.json")["errors"]
    assert [*rows] == ["5", "50"]
    assert all(row["collapsed"].endswith(" of 2") for row in rows.values())
    assert all(0 < float(row["best PCA"]) <= float(row["PCA (4)"]) * 1.2 for row in rows.values())
    assert all(float(row["stop / best"]) >= 1 for row in rows.values())
    assert all(float(row["counts kept"]) == pytest.approx(1, abs=0.01) for row in rows.values())
    assert all(0 < float(row["Fe3+ read-out"]) <= 1 for row in rows.values())


@pytest.mark.usefixtures("early_plateaus")
def test_the_figure_of_the_first_page_has_its_numbers_in_it(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("hyperspy_specml.__main__.SHAPE", (9, 12))
    file = tmp_path / "figure.png"

    printed = benchmark("fe-l", "--parts", "figure", "--figure", str(file), "--results", str(tmp_path))

    rows = tables(tmp_path / "fe-l-figure.json")["figure"]
    assert [[*row.values()] for row in rows.values()] == numbers_in(file)
    assert "fe3_fraction" in printed
    assert "errors" not in printed


def numbers_in(file: Path) -> list[list[str]]:
    """Return model and numbers of each row of panels of the figure of the first page."""
    with Image.open(file) as image:
        return json.loads(image.text["numbers"])


def test_the_figure_of_the_first_page_shows_the_recorded_numbers():
    rows = tables(ROOT / "benchmarks" / "results" / "fe-l-figure.json")["figure"]

    assert [[*row.values()] for row in rows.values()] == numbers_in(ROOT / "docs/_static/truth.png")
    assert float(rows["dense (4)"]["fe3_fraction"]) >= 0.86


def test_the_path_of_fe_l_belongs_to_the_training_of_decomposition_ae(harness):
    fe_l = importlib.import_module("benchmarks.fe_l")
    simulated = specml.datasets.fe_l_map((14, 12), n_channels=64, dose=50.0, random_state=1)

    path = fe_l.errors_on_the_way(simulated, 1)

    dec = simulated.signal.decomposition_ae(fe_l.LATENTS, random_state=1, show_progressbar=False)
    assert len(path) == len(dec.report.steps)
    # The score ended both trainings, no limit of steps: others would have ended elsewhere.
    assert dec.report.best_step < dec.report.steps[-1] < 3000


QUICK_ANOMALY = [
    "anomaly", "--quick", "--size", "36", "--channels", "256", "--kinds", "grains", "--null-maps", "1",
    "--planted-maps", "1", "--doses", "400",
]  # fmt: skip


def test_anomaly_compares_rivals_and_numbers_of_components(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.anomaly.CONTAMINANTS", (1.0,))
    printed = benchmark(*QUICK_ANOMALY, "--parts", "rivals", "contamination", "--results", str(tmp_path))

    assert "isolation forest" in printed
    rivals = json.loads((tmp_path / "anomaly-rivals-quick.json").read_text())["tables"]
    scores = {name: float(precision) for _, name, precision, *_ in rivals[0]["rows"]}
    assert scores["anomaly_map"] > scores["PCA squared_error"]
    assert scores["anomaly_map"] >= scores["PCA rx"]
    (row,) = tables(tmp_path / "anomaly-rivals-quick.json")["best rivals, grains"].values()
    assert float(row["ours"]) == scores["anomaly_map"]
    assert scores[row["the rival"]] == float(row["best rival"])
    spare = tables(tmp_path / "anomaly-contamination-quick.json")["components to spare"]
    assert {*spare["grains, dose 400, fraction 1"]} == {"map", "chosen", "rank 5", "rank 8"}


def test_anomaly_counts_false_alarms_and_measures_its_cost(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks._cost._TIMES", 2)
    printed = benchmark(*QUICK_ANOMALY, "--parts", "calibration", "cost", "--results", str(tmp_path))

    assert "anomaly_map(), lazy 72 x 72" in printed
    assert "cosmic rays listed" in printed
    calibration = tables(tmp_path / "anomaly-calibration-quick.json")
    assert calibration["null maps"]["grains, dose 400"]["maps with regions"].endswith(" of 1")
    found, false = (
        calibration["planted phases"]["grains, dose 400"][key].split(" of ")
        for key in ("phases found", "regions false")
    )
    assert found[1] == "6"
    assert int(found[0]) <= 6
    assert int(false[0]) <= int(false[1])
    assert [*calibration["planted phases"]] == ["grains, dose 400", "all"]


@pytest.fixture
def field(harness, tmp_path, monkeypatch):
    """The benchmark of measured maps, in a folder with a small map and one of complex numbers."""
    found = importlib.import_module("benchmarks.field")
    monkeypatch.setattr(found, "FOLDER", tmp_path)
    monkeypatch.setattr(found, "MAPS", {"small": "small.hspy", "complex": "complex.hspy", "missing": "missing.hspy"})
    signal = specml.datasets.fe_cr_ni_map((9, 11), n_channels=64, dose=300).signal
    signal.data[3:5, 4:6, 50:53] += 30
    signal.save(tmp_path / "small.hspy")
    hs.signals.ComplexSignal1D(np.ones((9, 11, 64), complex)).save(tmp_path / "complex.hspy")
    return found


@pytest.mark.parametrize("lazy", [False, True])
def test_a_measured_map_has_a_row_of_what_was_found(field, harness, lazy):
    facts = field.analyse("small", lazy, ["anomaly_map"])()

    row = field._cells(harness.Run(1.0, 1.0, 2.0, 5_000_000, facts))
    assert facts["anomaly_map"]["regions"] == 1
    share = facts["anomaly_map"]["share"]
    assert 4 / 99 <= share <= 6 / 99
    assert any(cell.startswith(f"{100 * share:.2f} % (flood: ") for cell in row)
    assert row[-1] == "5 MB"
    assert row[1:3] == ["-", "-"]  # of the decomposition that was not asked for


def test_measured_maps_are_recorded_and_those_that_are_missing_named(field, benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(field, "_LARGE", ("small",))

    printed = benchmark("field", "--methods", "anomaly_map", "--reading", "eager", "--results", str(tmp_path))

    rows = tables(tmp_path / "field.json")["measured maps"]
    assert {name: row["read"] for name, row in rows.items()} == {"small": "lazy", "complex": "eager"}
    assert rows["small"]["regions"] == "1"
    assert "Anomaly map of " in printed
    assert "missing is left out" in printed


def test_a_method_that_fails_on_a_measured_map_stands_in_its_row(field, harness):
    facts = field.analyse("complex", False, ["anomaly_map"])()

    row = field._cells(harness.Run(1.0, 1.0, 2.0, None, facts))
    assert any("anomaly_map: " in cell and "omplex" in cell for cell in row)


def test_line_width_compares_estimates_with_the_truth(benchmark, tmp_path):
    asked = ["--cases", "lines", "close lines", "--widths", "5", "9", "--counts", "40", "--seeds", "1"]

    printed = benchmark("line-width", *asked, "--results", str(tmp_path))

    assert "9 channels" in printed
    found = tables(tmp_path / "line-width.json")
    assert int(found["within 20 %"]["ours"]["maps"].split(" of ")[0]) >= 2  # close lines come out too narrow
    assert found["within 20 %"]["ours"]["maps"].endswith(" of 4")
    assert found["no line"] == {"40": {"counts per channel": "40", "channels": "3.0-3.0"}}
    assert [*found["Fe-L"]] == ["96", "192", "384"]


def test_phases_are_scored_on_maps_with_known_truth(benchmark, tmp_path):
    sizes = ["--size", "18", "--channels", "96", "--seeds", "1", "--doses", "200"]

    benchmark("phases", *sizes, "--kinds", "alloy", "--parts", "repeats", "--results", str(tmp_path))

    found = tables(tmp_path / "phases-repeats.json")["repeats"]["alloy, 200"]
    assert found["adjusted Rand index"] == found["smallest"]
    assert 0 < float(found["smallest"]) <= 1


def test_a_lazy_map_counts_how_often_it_is_read(harness):
    import hyperspy.api as hs

    from benchmarks._phases_rivals import counted

    lazy, read = counted(hs.signals.Signal1D(np.ones((70, 3, 5))))
    lazy.data[:2].compute()
    assert read == [64 * 3]  # the chunk that holds them


def test_spectra_that_bend_have_grains_of_three_valences(harness):
    from benchmarks._phases_maps import valence_map

    sizes = {"size": 14, "channels": 64}
    plain, labels = valence_map(30.0, 0, **sizes)
    assert plain.data.shape == (14, 14, 64)
    assert set(np.unique(labels)) == {0, 1, 2}
    for how in ({"drift": True}, {"charging": 0.3}, {"thick": True}):
        bent, same = valence_map(30.0, 0, **how, **sizes)
        np.testing.assert_array_equal(same, labels)
        assert (bent.data != plain.data).any()


def test_the_best_pca_finds_the_rank_of_the_truth(harness):
    fe_l = importlib.import_module("benchmarks.fe_l")
    rng = np.random.default_rng(0)
    clean = rng.gamma(1.0, size=(700, 3)) @ rng.gamma(1.0, 40.0, size=(3, 50))

    error, rank = fe_l.best_pca(rng.poisson(clean).astype(np.float64), clean)

    assert rank == 3
    assert 0 < error < 0.2


def test_counts_are_kept_where_every_quarter_has_them_and_a_read_out_is_linear(harness):
    fe_l = importlib.import_module("benchmarks.fe_l")
    clean = np.random.default_rng(0).gamma(2.0, size=(40, 7))
    bright = clean.sum(axis=1) >= np.sort(clean.sum(axis=1))[30]

    assert fe_l.kept(clean, clean, clean) == 1
    assert fe_l.kept(np.where(bright[:, None], 0.8, 1.01) * clean, clean, clean) == pytest.approx(0.8)
    assert fe_l.read_out(clean[:, :3], 5 - clean[:, 1]) == pytest.approx(1)
    assert fe_l.read_out(clean[:, :1], clean[:, 6]) < 0.5


def test_rows_that_would_replace_each_other_are_refused(harness):
    records = importlib.import_module("benchmarks._records")
    with pytest.raises(ValueError, match="would replace each other"):
        records.Table("t", "c", ["task", "method", "score"], [["a", "raw", "1"], ["a", "pca", "2"]])
    records.Table("t", "c", ["task", "method", "score"], [["a", "raw", "1"], ["a", "pca", "2"]], keys=2)


def test_control_charts_alarm_where_a_line_decays_and_rarely_where_it_stays(harness):
    rivals = importlib.import_module("benchmarks._live_rivals")
    total = np.full((200, 40), 1e4)
    stays = np.random.default_rng(0).binomial(10_000, 0.05, (200, 40))
    undamaged, damaged = rivals.charts(stays, total), rivals.charts(np.where(np.arange(40) < 20, stays, 400), total)

    for name, statistics in undamaged.items():
        assert int(rivals.alarms(statistics, statistics).split(" of ")[0]) <= 10  # 5 % of 200
        found = rivals.alarms(damaged[name], statistics)
        assert found.startswith("200 of 200")
        assert 20 <= float(found.split("frame ")[1].split(",")[0]) <= 25
    # From one frame with three standard errors less: a fifth of it, and what the slack leaves.
    once = rivals.charts(np.array([[500] * 5 + [500 - 3 * np.sqrt(1e4 * 0.05 * 0.95), 500]]), np.full((1, 7), 1e4))
    np.testing.assert_allclose(once["EWMA"][0, 5:], [0.6, 0.48], atol=1e-9)
    np.testing.assert_allclose(once["CUSUM"][0, 5:], [2.5, 2.0], atol=1e-9)


@pytest.fixture
def pretraining(harness: ModuleType) -> ModuleType:
    return importlib.import_module("benchmarks._pretrain_more")


def test_an_instrument_moves_stretches_and_blurs_a_line_and_loses_counts(pretraining):
    line = np.exp(-(((np.arange(200) - 150.0) / 3) ** 2) / 2)[None]
    place = np.arange(200)

    (same,), (moved,) = (pretraining._Instrument(*how).of(line) for how in ((0, 0, 0, 0), (2, 0.1, 4, 0.2)))

    np.testing.assert_allclose(same, line[0], atol=1e-12)
    mean = (place * moved).sum() / moved.sum()
    assert mean == pytest.approx(99.5 + 50.5 * 1.1 + 2, abs=0.1)
    width = np.sqrt(((place - mean) ** 2 * moved).sum() / moved.sum())
    assert width == pytest.approx(np.hypot(3 * 1.1, 4), rel=0.01)
    assert moved.sum() / line.sum() == pytest.approx(1 - 0.2 * mean / 199, abs=0.005)


@pytest.mark.parametrize("case", ["scattered", "patch"])
def test_planted_strangers_are_found_where_their_spectra_are_known(pretraining, case):
    signal, truth, expected = pretraining._planted(128, 500.0, 0, case)

    assert truth.sum() == {"scattered": 32, "patch": 16}[case]
    np.testing.assert_allclose(expected[0].sum(axis=1), expected[1].sum(axis=1), rtol=1e-6)
    area, found, false, away = pretraining._found(pretraining._ceiling(*expected, signal), truth)
    assert area > 0.99
    assert found > 0.9
    assert max(false, away) < 0.03


def test_p_values_of_a_rival_count_ordinary_spectra_that_are_as_strange(pretraining):
    found = pretraining._p_value(np.array([0.0, 2.0, 9.0]), np.array([3.0, 1.0, 2.0]))

    np.testing.assert_allclose(found, [1, 3 / 4, 1 / 4])


def test_losses_of_each_kind_are_those_whose_mean_is_reported(pretraining):
    kinds = [specml.datasets.fe_cr_ni_map((6, 6), n_channels=96).signal, specml.datasets.fe_l_map((6, 6)).signal]

    before, best = pretraining._losses(kinds, 2)  # checks the mean, step by step

    assert before.shape == best.shape == (2,)
    assert best.mean() < before.mean()
    assert (best > 0).all()


def test_the_memory_of_a_training_on_files_is_told_beside_that_of_imports(pretraining, tmp_path):
    path = tmp_path / "map.hspy"
    specml.datasets.fe_cr_ni_map((8, 8), n_channels=64).signal.save(path)

    facts = pretraining.of_files([str(path)])()

    if facts["largest"] is not None:
        assert 0 < facts["imports"] <= facts["largest"]


def test_only_the_call_is_timed_and_the_process_beside_it(harness, contenders):
    run = harness.run_contender(harness.Contender("sleeper", f"{contenders}:sleep", {"seconds": 1.6}))

    assert 0.4 <= run.seconds < 1.6  # a busy machine lets a sleeper lie
    assert run.process_seconds >= 2.0
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

    assert text.splitlines() == ["name          s", "---------  ----", "long name  1.50", "b             -"]


def test_a_median_or_ratio_of_something_missing_is_missing(harness):
    assert harness.median([3.0, 1.0, 2.0]) == 2.0
    assert harness.median([1.0, None]) is None
    assert harness.ratio(None, 2.0) is None
    assert harness.ratio(3.0, 2.0) == 1.5


def test_decompositions_are_compared_on_maps_with_known_truth(benchmark, tmp_path):
    size = ["--size", "13", "--channels", "64", "--seeds", "1", "--maps", "grains"]

    printed = benchmark("decomposition", *size, "--results", str(tmp_path))

    assert "linear floor" in printed
    found = tables(tmp_path / "decomposition.json")["grains, 200 counts"]
    assert float(found["best PCA"]["error"]) <= float(found["pca"]["error"]) * 1.2
    assert all(float(row["error"]) > 0 for row in found.values())
    unmixed = ("linear floor", "HyperSpy NMF", "simplex")
    assert all(0 <= float(found[name]["angle"]) <= 90 for name in unmixed)
    assert found["pca"]["angle"] == "-"  # principal components are no spectra of phases


def test_architectures_are_compared_by_error_coverage_and_drawn_maps(benchmark, tmp_path):
    size = ["--size", "10", "--channels", "64", "--seeds", "1", "--maps", "Fe-L", "--doses", "30", "--steps", "2"]

    printed = benchmark("architectures", *size, "--architectures", "pca", "--results", str(tmp_path))

    assert "two-sample: 10 x 10 pixels, 64 channels; maps: 1" in printed
    found = {
        part: tables(tmp_path / f"architectures-{part}.json")[part]
        for part in ("errors", "coverage", "two-sample", "drift")
    }
    row = found["errors"]["Fe-L, 30 counts"]
    assert float(row["excess"]) > 0
    assert row["of dense"] == "-"
    assert 0.3 < float(found["coverage"]["Fe-L, 30 counts"]["coverage"]) <= 1
    assert float(found["coverage"]["Fe-L, 30 counts"]["width / PCA"]) == 1
    assert 0.3 < float(found["two-sample"]["Fe-L, 30 counts"]["floor"]) < 0.7
    assert float(found["drift"]["Fe-L, 30 counts"]["second, +2"]) > 0


def test_architectures_are_compared_on_a_moving_peak_by_their_errors_alone(benchmark, tmp_path):
    size = ["--size", "10", "--channels", "64", "--seeds", "1", "--maps", "moving peak", "--doses", "30"]

    benchmark("architectures", *size, "--architectures", "pca", "--results", str(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["architectures-errors.json"]
    found = tables(tmp_path / "architectures-errors.json")["errors"]
    two, one = (found[f"moving peak, 30 counts, {n}"] for n in ("2 latents", "1 latent"))
    assert float(one["excess"]) > float(two["excess"]) > 100  # no line that moves is a sum of two spectra


def chosen_numbers(benchmark: Callable[..., str], folder: Path, *architectures: str) -> dict[str, dict[str, str]]:
    size = ["--size", "11", "--channels", "48", "--seeds", "1", "--maps", "alloy"]

    printed = benchmark("rank", *size, "--architectures", *architectures, "--results", str(folder))

    assert "within one" in printed
    ((table,),) = (json.loads((folder / "rank.json").read_text())["tables"],)
    found = {row[1]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert {*found} == {*architectures}
    assert all(1 <= int(row["chosen"]) <= 4 for row in found.values())
    return found


def test_the_numbers_of_components_chosen_stand_beside_those_expected(benchmark, tmp_path):
    found = chosen_numbers(benchmark, tmp_path, "pca", "simplex")

    assert found["simplex"]["expected"] == "3"
    assert found["simplex"]["least error"] == "-"


def test_the_number_of_latents_chosen_stands_beside_that_of_the_least_error(benchmark, tmp_path):
    found = chosen_numbers(benchmark, tmp_path, "dense")

    assert int(found["dense"]["least error"]) >= 1


def test_the_number_chosen_is_within_one_standard_error_of_the_best(harness):
    rank = importlib.import_module("benchmarks.rank")
    where = {"name": "alloy", "dose": 200.0, "size": 11, "channels": 48, "seed": 0}

    found = rank.chosen(where, "pca")()

    ranks, worse, errors = zip(*found["curve"], strict=True)
    assert list(ranks) == [*range(1, len(ranks) + 1)]
    assert errors[worse.index(0)] == 0
    assert worse[found["chosen"] - 1] <= errors[found["chosen"] - 1]


def test_maps_that_are_not_here_are_left_out_with_the_reason(benchmark, tmp_path, monkeypatch):
    monkeypatch.setenv("SPECML_DATA", str(tmp_path))
    assert runpy.run_path(str(ROOT / "benchmarks" / "_maps.py"))["FOLDER"] == tmp_path
    monkeypatch.setattr("benchmarks._maps.FOLDER", tmp_path)

    printed = benchmark("decomposition", "--maps", "espm", "--results", str(tmp_path))

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
    from hyperspy_specml.denoise import _spatial

    quick = specml.TrainConfig(max_steps=40, evaluate_every=20)
    monkeypatch.setattr(specml.Autoencoder, "defaults", quick.over(specml.Autoencoder.defaults))
    monkeypatch.setattr(_spatial, "DEFAULTS", quick.over(_spatial.DEFAULTS))
    rivals = importlib.import_module("benchmarks._denoise_rivals")
    monkeypatch.setattr(rivals, "RANKS", (1, 3, 5))
    size = ["--size", "20", "--channels", "64", "--maps", "grains", "--doses", "300"]

    importlib.import_module("benchmarks.__main__").main(
        ["denoise", "--quick", "--parts", "errors", "choice", "rare", *size, "--results", str(tmp_path)]
    )

    assert "ours / tuned rival" in capsys.readouterr().out
    (row,) = tables(tmp_path / "denoise-errors-quick.json")["errors"].values()
    assert float(row["ours"]) < float(row["best PCA"])
    assert float(row["ours / it"]) >= float(row["ours / tuned rival"])  # who knows the truth is not beaten
    (choice,) = tables(tmp_path / "denoise-choice-quick.json")["choice"].values()
    assert choice["chosen"] == row["chosen"]  # the same candidate
    assert float(choice["chosen / best"]) >= 1
    kept = tables(tmp_path / "denoise-rare-quick.json")["excess"]
    assert len(kept) == 10
    assert all(row["removed, says the report"].endswith(" of 1") for row in kept.values())
    errors = importlib.import_module("benchmarks._denoise_choice")._measure("grains", 300.0, 20, 64, 0)
    # The method goes on: it puts back what noise cannot explain, and neighbours say better what totals are.
    assert 0.9 < float(row["ours"]) / errors["errors"][choice["chosen"]] < 1.02


def test_the_valence_is_fitted_without_an_error_of_its_own(harness, monkeypatch):
    valence = importlib.import_module("benchmarks._denoise_valence")
    monkeypatch.setattr(valence, "QUICK_DOSES", (30.0, 300.0))
    monkeypatch.setattr(valence, "METHODS", ("raw", "pca"))
    monkeypatch.setattr(valence, "_THICKNESSES", (0.2, 1.4, 4))
    monkeypatch.setattr(valence, "_SHIFTS", (-2.0, 2.0, 41))
    monkeypatch.setattr(valence, "_library", lambda quick: None)

    for table in valence.measure(7, True):
        assert table.columns[-1] == "reaches raw 300 at"
        raw, _, free = ([[float(x) for x in re.findall(r"[\d.]+", cell)] for cell in row[1:3]] for row in table.rows)
        assert free[0][0] < 0.03
        assert raw[1][0] < 0.6 * raw[0][0]
        for rmse, bias, spread in raw:
            assert rmse**2 == pytest.approx(bias**2 + spread**2, rel=0.6)


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


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A package of three folders with a circle, two private imports, and a longest chain of five modules."""
    files = {
        "__init__.py": '"""Nothing."""\n',
        "top.py": "from planted.left import name\n\n\ndef call():\n    from planted.right import other\n",
        "left/__init__.py": "from planted.left._a import name\n",
        "left/_a.py": (
            '"""Two\nlines."""\n\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n'
            "    from planted.right import other\n    from planted.right._b import other as again\n\n"
            "name = [\n    1,  # a comment behind\n]  # fmt: skip\n"
        ),
        "right/__init__.py": "from planted.right._b import other\n",
        "right/_b.py": "from planted.right import _c\n\nother = 1\n",
        "right/_c.py": (
            "import planted.left._a\n\n\nclass Some:\n    'A docstring.'\n\n    def long(self):\n"
            '        """Another."""\n        # a comment\n        text = """two\n        lines"""\n\n'
            "        return text\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / "planted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "planted"


def test_the_structure_of_a_planted_package_is_counted(harness, planted):
    found = importlib.import_module("benchmarks._structure").structure(planted)

    assert found["files"] == 7
    assert found["lines of code"] == 3 + 1 + 7 + 1 + 2 + 6
    assert found["without a comment"] == found["lines of code"] - 2
    assert (found["functions"], found["longest function"], found["# fmt: skip"]) == (2, 4, 1)
    assert len(found["private imports"]) == found["private names"] == 2  # one is for types
    chain = ["top", "right", "right._b", "right._c", "left._a"]
    assert found["longest chain"] == [f"planted.{name}" for name in chain]
    assert len(found["longest chain, followed"]) == 4  # right only passes on
    assert found["longest chain of folders"] == ["top", "right", "left"]
    circle = ", ".join(f"planted.{name}" for name in ("left._a", "right", "right._b", "right._c"))
    assert found["circles"] == [circle]
    assert found["circles of folders"] == ["left, right"]


def test_imports_that_never_run_are_in_circles_and_in_no_chain(harness, planted):
    structure = importlib.import_module("benchmarks._structure")
    package = structure.Package(planted)

    assert structure.circles(package.graph(types=False)) == []
    assert structure.circles(package.graph(types=True)) != []


def test_names_of_a_stub_and_relative_imports_lead_to_their_module(harness, planted):
    (planted / "left" / "__init__.py").write_text("")
    (planted / "left" / "__init__.pyi").write_text("from ._a import name as name\n")
    (planted / "left" / "_a.py").write_text("from ..right import _b\n\nname = _b\n")
    package = importlib.import_module("benchmarks._structure").Package(planted)

    origins = package.graph(types=False, origins=True)

    assert set(origins["planted.top"]) == {"planted.left._a", "planted.right._b"}
    assert set(package.graph(types=False)["planted.left"]) == {"planted.left._a"}
    assert {one.written for one in package.private_imports()} == {"planted.right._b", "planted.left._a"}


@pytest.mark.parametrize(("share", "value"), [(0.5, 3), (0.9, 5), (1.0, 5)])
def test_a_quantile_is_a_value_that_this_share_does_not_exceed(harness, share, value):
    assert importlib.import_module("benchmarks._structure").quantile([5, 1, 4, 2, 3], share) == value


def a_run(date: str) -> dict[str, Any]:
    return {
        "command": f"python -m benchmarks some --on {date}", "date": date, "package_version": "0.1",
        "commit": None, "versions": {"numpy": "2"}, "machine": {"cores": 3},
    }  # fmt: skip


@pytest.fixture
def records(harness: ModuleType) -> ModuleType:
    return importlib.import_module("benchmarks._records")


def dates(path: Path, name: str) -> dict[str, str]:
    """Return the date of each row of a table."""
    record = json.loads(path.read_text())
    (table,) = (one for one in record["tables"] if one["name"] == name)
    runs = [record, *record.get("earlier", [])]
    numbers = table.get("runs", [0] * len(table["rows"]))
    return {row[0]: runs[number]["date"] for row, number in zip(table["rows"], numbers, strict=True)}


def test_rows_that_were_not_measured_again_keep_their_run(records, tmp_path):
    path, head = tmp_path / "some.json", ["map", "error", "found"]
    first = [["a", "0.1", "1 of 5"], ["b", "0.2", "2 of 5"], ["c", "0.3", "3 of 5"]]
    table = partial(records.Table, "one", "7 x 5 pixels", head)
    other = records.Table("other", "", ["map"], [["z"]])
    records.save_tables(path, [table(first, total=True), other], a_run("2026-01-01"))
    again = [["b", "0.7", "4 of 5"], ["d", "0.9", "5 of 5"]]
    records.save_tables(path, [table(again, total=True)], a_run("2026-02-02"))

    record = json.loads(path.read_text())
    assert record["tables"][0]["rows"] == [first[0], again[0], first[2], again[1], ["all", "-", "13 of 20"]]
    old, new = "2026-01-01", "2026-02-02"
    assert dates(path, "one") == {"a": old, "b": new, "c": old, "d": new, "all": new}
    assert dates(path, "other") == {"z": old}
    assert record["earlier"] == [a_run(old)]
    assert {key: record[key] for key in a_run(new)} == a_run(new)

    records.save_tables(path, [table([first[0], *again, first[2]], total=True), other], a_run("2026-03-03"))

    assert "earlier" not in json.loads(path.read_text())  # no row is of these runs any more


def test_rows_of_other_conditions_or_without_a_name_are_not_mixed(records, tmp_path, capsys):
    path = tmp_path / "some.json"
    old = [
        records.Table(name, "7 x 5 pixels", ["map"], [["a"]], keys=keys)
        for name, keys in zip("xy", (1, 0), strict=True)
    ]
    new = [
        records.Table("x", "9 x 5 pixels", ["map"], [["b"]]),
        records.Table("y", "7 x 5 pixels", ["map"], [["b"]], keys=0),
    ]
    records.save_tables(path, old, a_run("2026-01-01"))
    records.save_tables(path, new, a_run("2026-02-02"))

    assert dates(path, "x") == dates(path, "y") == {"b": "2026-02-02"}
    assert "7 x 5 pixels" in capsys.readouterr().out  # the one with a caption of its own says what goes


def test_every_row_is_a_line_of_the_file(records, tmp_path):
    rows = [["[a]", '"b"'], ["", "µ, {c}"]]
    records.save_tables(tmp_path / "some.json", [records.Table("t", "", "xy", rows)], a_run("2026-01-01"))

    text = (tmp_path / "some.json").read_text(encoding="utf-8")
    assert json.loads(text)["tables"][0]["rows"] == rows
    assert '["x", "y"]' in text


PAGE = ROOT / "docs" / "benchmarks.rst"


def test_the_page_shows_tables_that_are_there_and_each_once():
    shown = re.findall(r"^\.\. benchmark-table:: (.+) / (.+)$(\n   :pending:)?", PAGE.read_text(), re.MULTILINE)

    assert len(shown) == len({one[:2] for one in shown}) == PAGE.read_text().count("benchmark-table::") > 20
    for file, name, pending in shown:
        path = ROOT / "benchmarks" / "results" / f"{file}.json"
        assert (pending and not path.exists()) or name in tables(path), (file, name)


def test_every_record_says_when_with_what_and_of_which_version_it_was_measured():
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text())
        assert record["benchmark"] == path.stem
        for run in [record, *record.get("earlier", [])]:
            assert datetime.date.fromisoformat(run["date"])
            assert run["command"].startswith("python -m benchmarks ")
            assert run["package_version"]
            assert run["versions"] or "recorded" in run


def test_the_prose_of_the_page_has_no_numbers():
    text = re.sub(r"^\.\. benchmark-table::.*$|^    .*$|^(``.*``|=+) .*$", "", PAGE.read_text(), flags=re.M)
    text = re.sub(r"``[^`]*``|Fe[23]\+", "", text)

    assert re.findall(r".*\d.*", text) == []


@pytest.mark.parametrize(("name", "expected"), [("errors", 0), ("gone", 1), ("gone\n   :pending:", 0)])
def test_the_page_is_built_from_the_record_and_warns_of_what_is_not_there(records, tmp_path, name, expected):
    docs = tmp_path / "docs"
    docs.mkdir()
    path = tmp_path / "benchmarks" / "results" / "some.json"
    table = partial(records.Table, "errors", "7 x 5 pixels", ["map", "error"])
    records.save_tables(path, [table([["*a", "0.25"], ["b", "-"]])], a_run("2026-01-01"))
    records.save_tables(path, [table([["b", "0.75"]])], a_run("2026-02-02"))
    extension = ROOT / "docs" / "_ext"
    (docs / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(extension)!r})\nextensions = ['benchmark_tables']"
    )
    (docs / "index.rst").write_text(f"Page\n====\n\n.. benchmark-table:: some / {name}\n")

    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "text", str(docs), str(tmp_path / "built")]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert built.returncode == expected, built.stderr
    if expected:
        assert "some.json has no table 'gone'" in built.stderr
        return
    text = (tmp_path / "built" / "index.txt").read_text()
    if "pending" in name:
        assert "gone: not measured yet" in text
        return
    assert re.search(r"\*a +\| 0\.25 +\| 2026-01-01 ", text)
    assert re.search(r"b +\| 0\.75 +\| 2026-02-02 ", text)
    assert "7 x 5 pixels" in text
    assert 'Measured 2026-01-01 with "python -m benchmarks some --on 2026-01-01"' in text
    assert "version 0.1, 3 cores" in text
