"""The report of a decomposition: its table, its verdict and the evidence that this needs, its figure."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hyperspy_specml.models import Candidate, DecompositionReport, Report
from hyperspy_specml.statistics import RankCurve

RANK = RankCurve(np.arange(1, 4), np.array([9.0, 5.0, 5.1]), np.array([1.0, 0.0, 0.2]), 2, "held-out counts")
DENSE = Candidate("dense (2)", score=4.75, difference=-0.5, standard_error=0.1, validation_score=4.5)
PCA = Candidate("pca (2)", score=5.25, difference=0.0, standard_error=0.0, validation_score=5.0)


@pytest.fixture
def report():
    return DecompositionReport(
        architecture="dense",
        n_components=2,
        candidates=(DENSE, PCA),
        chosen="dense (2)",
        noise_model={"name": "poisson-gaussian", "gain": 1.5, "readout": 0.25, "correlation": [1.0, 0.41]},
        hold_out="exact",
        correlation=0.004,
        rank=RANK,
        baseline_rank=dataclasses.replace(RANK, chosen=3),
        scree=np.array([9.0, 4.0, 1.5, 1.0, -1e-16]),
        noise_edge=2.0,
        used={"pixels": {"used": 30, "empty": 5}, "channels": {"used": 11}},
        n_sampled=30,
        random_state=7,
        steps=(0, 20, 40),
        step_scores=(5.0, 4.5, 4.6),
        best_step=20,
        interrupted=False,
        seconds={"prepared": 0.25, "training": 12.0},
    )


def judged(report, difference, standard_error=1.0, **changes):
    model = dataclasses.replace(DENSE, difference=difference, standard_error=standard_error)
    return dataclasses.replace(report, candidates=(model, PCA), **changes)


def test_the_text_is_a_table_of_facts_a_table_of_scores_and_a_verdict(report):
    assert (
        str(report)
        == """\
architecture  dense, 2 components
noise model   poisson-gaussian (gain 1.5, readout 0.25, correlation [1.00, 0.41])
hold-out      exact; residuals of halves correlate by 0.004
rank          2 by held-out counts; 2 above the noise edge
pixels        30 used, 5 empty
channels      11 used
scored on     30 spectra
training      step 20 of 40 (best held-out score)
time          prepared 0.2 s, training 12.0 s

candidate  held-out deviance  difference to PCA
dense (2)  4.7500             -0.5000 ± 0.1000   best
pca (2)    5.2500

dense (2) is better than PCA of the same size, by 5.0 standard errors."""
    )


class Cells(HTMLParser):
    """Collect the texts and check that every tag is closed."""

    def __init__(self):
        super().__init__()
        self.texts, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_says_the_same_as_the_text_and_escapes_names(report):
    report = dataclasses.replace(report, trained_on="<b>Fe & Cr</b>")
    page = Cells()

    page.feed(report._repr_html_())

    assert page.open == []
    said = " ".join(page.texts)
    assert "<b>Fe & Cr</b>: noise" in said
    for line in str(report).splitlines():
        assert all(word in said for word in line.split())


@pytest.mark.parametrize(
    ("difference", "standard_error", "verdict"),
    [
        (-2.5, 1.0, "dense (2) is better than PCA of the same size, by 2.5 standard errors."),
        (-1.5, 1.0, "dense (2) and PCA of the same size cannot be told apart (1.5 standard errors)."),
        (1.5, 1.0, "dense (2) and PCA of the same size cannot be told apart (1.5 standard errors)."),
        (2.5, 1.0, "Prefer result.baseline: PCA of the same size is better, by 2.5 standard errors."),
        (0.0, 0.0, "dense (2) and PCA of the same size cannot be told apart (0.0 standard errors)."),
    ],
)
def test_the_verdict_needs_two_standard_errors(report, difference, standard_error, verdict):
    report = judged(report, difference, standard_error)

    assert report.verdict() == verdict
    assert report.baseline_is_better() == (difference > 2)


@pytest.mark.parametrize(
    ("name", "score", "said"),
    [
        ("dense (2), other", 4.70, "But dense (2), other is better still."),  # as many components: no word on these
        ("dense (2), other", 4.80, ""),  # the validation fold chose it, the test fold does not say that it is better
        ("pca (1)", 4.70, "But pca (1) is better still: the counts support no more components."),
        ("pca (5)", 4.70, "But pca (5) is better still: the counts support more components."),
    ],
)
def test_another_candidate_is_better_still_if_the_test_fold_says_so(report, name, score, said):
    other = Candidate(name, score, difference=-0.6, standard_error=0.1, validation_score=4.4)
    rank = dataclasses.replace(RANK, chosen=int(name[-2])) if name.startswith("pca") else RANK
    report = judged(report, -2.5, chosen=name, baseline_rank=rank)
    report = dataclasses.replace(report, candidates=(report.candidates[0], other, PCA))

    assert report.verdict() == f"dense (2) is better than PCA of the same size, by 2.5 standard errors. {said}".strip()


def test_a_network_that_stayed_at_its_start_is_said_to_be_pca(report):
    report = judged(report, 0.0, 0.0, best_step=0)

    assert report.verdict() == ("dense (2) learnt nothing that predicts better than PCA of the same size, its start.")


def test_without_a_valid_hold_out_nothing_is_better(report):
    report = judged(report, 9.0, hold_out="none", correlation=0.31)

    assert report.verdict().startswith("No valid hold-out: residuals of halves correlate by 0.31")
    assert not report.baseline_is_better()


def test_an_interrupted_training_and_a_foreign_map_are_named(report):
    text = str(dataclasses.replace(report, interrupted=True, trained_on="steel"))

    assert "step 20 of 40 (interrupted: the best until then)" in text
    assert "trained on    steel: noise, scores and rank below are of that map" in text


def test_the_baselines_report_is_about_pca_alone(report):
    pca = dataclasses.replace(report, interrupted=True).of_baseline()

    assert (pca.architecture, pca.candidates, pca.chosen) == ("pca", (PCA,), "pca (2)")
    assert (pca.steps, pca.best_step, pca.interrupted) == ((), 0, False)
    assert pca.verdict() == "PCA with 2 components; held-out counts would choose 3."
    assert "training  " not in str(pca).replace("training 12.0 s", "")


def test_the_provenance_is_plain_data(report):
    stored = report.to_dict()

    assert json.loads(json.dumps(stored)) == stored
    assert stored["method"] == "decomposition_ae"
    assert stored["candidates"][0] == dataclasses.asdict(DENSE)
    assert stored["random_state"] == 7
    assert stored.keys().isdisjoint({"scree", "steps", "step_scores"})  # too long
    assert stored["rank"] == {"chosen": 2, "method": "held-out counts"}


def test_the_figure_shows_curve_scree_and_training(report):
    rank, scree, training = report.plot().axes

    np.testing.assert_array_equal(rank.lines[0].get_xydata(), [[1, 9], [2, 5], [3, 5.1]])
    assert [text.get_text() for text in rank.get_legend().get_texts()] == ["chosen: 2"]
    np.testing.assert_array_equal(scree.lines[0].get_ydata(), [9, 4, 1.5, 1, np.nan])
    assert scree.lines[1].get_ydata()[0] == 2
    np.testing.assert_array_equal(training.lines[0].get_xydata(), [[0, 5], [20, 4.5], [40, 4.6]])
    assert training.lines[1].get_xdata()[0] == 20


def test_the_figure_of_pca_has_no_training(report):
    figure = report.of_baseline().plot()

    figure.canvas.draw()
    assert len(figure.axes) == 2


def test_a_report_is_drawn_into_one_half_of_a_given_figure(report):
    whole = plt.figure()
    left, right = whole.subfigures(1, 2)

    assert report.plot(left) is left

    assert (len(left.axes), len(right.axes)) == (3, 0)
    assert plt.get_fignums() == [whole.number]


def test_candidates_are_drawn_with_the_best_at_the_top(report):
    (axes,) = Report.plot(report).axes

    assert [label.get_text() for label in axes.get_yticklabels()] == ["pca (2)", "dense (2)"]
    assert [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1] == [0.0, -0.5]
    assert axes.get_title() == report.verdict()
    assert axes.get_xlabel() == "held-out score, difference to plain PCA"


def test_a_training_whose_score_still_fell_says_that_more_may_help(report):
    last = dataclasses.replace(report, best_step=40, step_scores=(5.0, 4.5, 4.4))
    steps = tuple(range(0, 240, 20))
    chance = dataclasses.replace(report, best_step=220, steps=steps, step_scores=(9.0, *[4.5, 4.4] * 5, 4.3))

    assert "step 40 of 40 (still getting better: more may help, config=specml.TrainConfig(max_steps=80))" in str(last)
    assert "interrupted" in str(dataclasses.replace(last, interrupted=True))
    assert "step 220 of 220 (best held-out score)" in str(chance)
    assert "more may help" not in str(report)


def test_components_that_were_added_are_in_the_table_and_without_a_valid_hold_out_one_method_chooses(report):
    assert "added         1 by full trainings, or for what is left in many places" in str(
        dataclasses.replace(report, n_added=1)
    )
    assert "added" not in str(report)
    rank = dataclasses.replace(report.rank, method="bi-cross-validation", chosen=3)
    text = str(dataclasses.replace(report, hold_out="none", rank=rank))
    assert "3 by bi-cross-validation" in text
    assert "chose nothing; bi-cross-validation chooses rank 3" in text
    assert "by held-out counts" not in text


def test_it_comes_back_from_metadata_without_its_curves(report):
    again = DecompositionReport.from_dict(json.loads(json.dumps(report.to_dict())))

    curves = ("; 2 above the noise edge", "training      step 20 of 40 (best held-out score)\n")
    assert str(again) == str(report).replace(curves[0], "").replace(curves[1], "")
    assert (again.rank.chosen, again.baseline_rank.chosen, again.rank.method) == (2, 3, "held-out counts")
    assert again.scree.size == again.rank.scores.size == len(again.steps) == 0
