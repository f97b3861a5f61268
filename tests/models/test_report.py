"""What all reports do: facts become a table, plain data and a report again, and say which map they are of."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from hyperspy_specml.models import AnomalyReport, Attempt, Candidate, Report
from hyperspy_specml.models._report import CURVE


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ToyReport(Report):
    """A report with a field of every sort that reports have."""

    method: ClassVar[str] = "toy"

    size: int
    attempts: tuple[Attempt, ...] = ()
    curve: np.ndarray | None = dataclasses.field(default=None, metadata=CURVE)
    note: str | None = None

    def facts(self):
        return [("size", f"{self.size} <units>"), ("noise model", self._noise()), *self._counts(), self._times()]

    def rows(self):
        return ("candidate", "score"), [(c.name, f"{c.score:.2f}") for c in self.candidates]

    def words(self):
        return [f"Trained to {self._training()}."]


@pytest.fixture
def report():
    return ToyReport(
        size=3,
        noise_model={"name": "poisson", "fano": 1.0},
        used={"channels": {"used": 11}, "pixels": {"masked": 5, "used": 30}},
        random_state=7,
        seconds={"training": 1.25},
        candidates=(Candidate("a & b", 4.75, -0.5, 0.1, 4.5),),
        chosen="a & b",
        steps=(0, 20, 40),
        step_scores=(5.0, 4.5, 4.6),
        best_step=20,
        attempts=(Attempt("seed 0", 4.5), Attempt("seed 1", float("nan"), "diverged")),
        curve=np.arange(3.0),
    )


def test_a_subclass_says_its_facts_and_the_table_comes_for_free(report):
    assert str(report) == (
        "size         3 <units>\n"
        "noise model  poisson (fano 1)\n"
        "pixels       30 used, 5 masked\n"
        "channels     11 used\n"
        "time         training 1.2 s\n"
        "\n"
        "candidate  score\n"
        "a & b      4.75\n"
        "\n"
        "Trained to step 20 of 40 (best held-out score)."
    )
    html = report._repr_html_()
    assert "<td>3 &lt;units&gt;</td>" in html
    assert "a &amp; b" in html


def test_it_becomes_plain_data_without_its_curves_and_a_report_again(report):
    plain = report.to_dict()

    assert plain["method"] == "toy"
    assert plain.keys().isdisjoint({"curve", "steps", "step_scores"})
    again = ToyReport.from_dict(json.loads(json.dumps(plain)))
    assert again.steps == again.step_scores == ()
    assert again.curve is None
    for field in dataclasses.fields(report):
        if field.name not in {"curve", "steps", "step_scores", "attempts"}:
            assert again[field.name] == report[field.name], field.name
    assert again.attempts[0] == report.attempts[0]
    assert np.isnan(again.attempts[1].score)


def test_numbers_of_numpy_are_numbers_of_a_report(report):
    plain = report.to_dict() | {"random_state": np.int64(8), "correlation": np.float64(0.5), "unknown": 3}

    again = ToyReport.from_dict(plain)

    assert (again.random_state, again.correlation) == (8, 0.5)
    assert type(again.random_state) is int


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "3"}, r"toy\.size is '3', of the wrong type"),
        ({"interrupted": 1}, r"toy\.interrupted is 1, of the wrong type"),
        ({"candidates": [{"name": "a"}]}, r"toy\.candidates\[0\]\.score is missing"),
        ({"used": {"pixels": {"used": 0.5}}}, r"toy\.used\.pixels\.used is 0\.5"),
        ({"noise_model": None}, r"toy\.noise_model is None"),
    ],
)
def test_what_is_no_such_report_is_refused_with_the_place(report, change, message):
    with pytest.raises(ValueError, match=message):
        ToyReport.from_dict(report.to_dict() | change)


def test_a_missing_fact_is_named(report):
    plain = report.to_dict()
    del plain["size"]

    with pytest.raises(ValueError, match=r"toy\.size is missing"):
        ToyReport.from_dict(plain)


def test_applied_to_other_maps_it_keeps_the_name_of_the_first(report):
    other = report.applied({"pixels": {"used": 9}}, {"projection": 0.5}, "steel", size=4)
    third = other.applied({"pixels": {"used": 8}}, {"projection": 0.25}, "other")

    assert (other.trained_on, other.size, other.seconds) == ("steel", 4, {"projection": 0.5})
    assert other.used == {"pixels": {"used": 9}, "channels": {"used": 11}}
    assert third.trained_on == "steel"
    assert third.used["pixels"] == {"used": 8}
    assert report.trained_on is None


def test_facts_are_read_by_their_name(report):
    assert report["size"] == 3
    assert report["random_state"] == 7
    for name in ("nothing", "facts", "to_dict"):
        with pytest.raises(KeyError, match=name):
            report[name]


def test_the_report_of_an_anomaly_map_comes_back_from_metadata():
    report = AnomalyReport(
        noise_model={"name": "poisson"}, used={"pixels": {"used": 9}}, statistic="scan", threshold="FDR 5 %",
        model="pca", n_components=3, smallest_p=1e-5, drift=(0.0, 0.25),
    )  # fmt: skip

    again = AnomalyReport.from_dict(json.loads(json.dumps(report.to_dict())))

    assert str(again) == str(report)
    assert again.drift == (0.0, 0.25)
