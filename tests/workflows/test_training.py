"""What the user sees of the training: progress, interrupts, divergence, and a warning when PCA is better."""

from __future__ import annotations

import dataclasses
import logging
import warnings

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.exceptions import BaselineBetterWarning, TrainingDivergedError
from hyperspy_specml.train import _pairs
from hyperspy_specml.workflows import _call, _decomposition


@pytest.fixture
def signal(make_map, make_counts, unchanged):
    return unchanged(make_map(data=make_counts()))


def interrupt_at(monkeypatch, step):
    """Press Ctrl-C once, at a step of the training."""
    pressed = []

    def track(self, steps):
        for number in steps:
            if number == step and not pressed:
                pressed.append(number)
                raise KeyboardInterrupt
            yield number

    monkeypatch.setattr(_call.Call, "track", track)


@pytest.mark.parametrize(("step", "best"), [(1, {0}), (45, {0, 20, 40})])
def test_an_interrupt_keeps_the_best_model_so_far_and_says_so(signal, decompose, monkeypatch, step, best):
    interrupt_at(monkeypatch, step)

    dec = decompose(signal)

    assert dec.report.interrupted
    assert "interrupted" in str(dec.report)
    assert dec.report.best_step in best
    assert np.isfinite(dec.residual.data).all()
    assert not dec.baseline.report.interrupted
    assert dec.scores.metadata.Specml.interrupted


def test_an_interrupt_of_the_search_for_a_size_ends_it_and_says_so(signal, decompose, monkeypatch):
    interrupt_at(monkeypatch, 5)

    dec = decompose(signal, None)

    assert dec.report.interrupted
    assert np.isfinite(dec.residual.data).all()


def test_a_second_interrupt_ends_the_call(signal, decompose, monkeypatch):
    interrupt_at(monkeypatch, 45)

    def pressed_again(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperspy_specml.decompose._run.encode_all", pressed_again)

    with pytest.raises(KeyboardInterrupt):
        decompose(signal)


def test_a_training_that_diverges_tries_other_seeds_then_names_pca(signal, decompose, monkeypatch, caplog):
    def not_a_number(self, network):
        return float("nan") * sum(p.sum() for p in network.parameters())

    monkeypatch.setattr(_pairs.SplitPairs, "__call__", not_a_number)

    with pytest.raises(
        TrainingDivergedError, match=r"all 3 trainings.*decomposition_ae\(architecture='pca'\)"
    ):
        decompose(signal)

    assert caplog.text.count("trying another start") >= 2
    assert np.isfinite(decompose(signal, architecture="pca").scores.data).all()


def test_one_divergence_is_mended_by_another_seed(signal, decompose, monkeypatch):
    draw, calls = _pairs.SplitPairs.__call__, []

    def sometimes(self, network):
        calls.append(1)
        return draw(self, network) * (float("nan") if len(calls) < 5 else 1)

    monkeypatch.setattr(_pairs.SplitPairs, "__call__", sometimes)

    assert np.isfinite(decompose(signal).scores.data).all()


def judged(monkeypatch, *, difference, hold_out="exact"):
    """Let the held-out scores of the next fits come out as wished, with a standard error of one."""
    decompose = _decomposition.decompose

    def judge(*args, **options):
        found = decompose(*args, **options)
        model, *others = found.candidates
        model = dataclasses.replace(model, difference=difference, standard_error=1.0)
        prepared = dataclasses.replace(found.prepared, hold_out=hold_out)
        return dataclasses.replace(found, candidates=(model, *others), prepared=prepared)

    monkeypatch.setattr(_decomposition, "decompose", judge)


def test_the_user_is_warned_at_his_line_when_pca_is_better(signal, quick, monkeypatch):
    judged(monkeypatch, difference=2.5)

    with pytest.warns(
        BaselineBetterWarning, match=r"2\.5 standard errors: prefer (result\.baseline|.*centre=True)"
    ) as caught:
        dec = signal.decomposition_ae(2, noise="poisson", show_progressbar=False, config=quick)

    assert caught[0].filename == __file__
    assert dec.report.verdict() in str(caught[0].message)


@pytest.mark.parametrize(
    ("difference", "hold_out", "verdict"),
    [
        (1.5, "exact", r"cannot be told apart \(1\.5"),
        (-1.5, "exact", r"cannot be told apart \(1\.5"),
        (-3, "approximate", r"dense \(3\) is better than PCA of the same size, by 3\.0"),
        (9, "none", "No valid hold-out"),
    ],
)
def test_no_warning_without_evidence(signal, decompose, monkeypatch, difference, hold_out, verdict):
    judged(monkeypatch, difference=difference, hold_out=hold_out)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dec = decompose(signal)

    assert verdict.replace("\\", "") in dec.report.verdict()


@pytest.mark.parametrize("architecture", ["pca", "dense"])
def test_one_line_of_log_says_what_was_found(signal, decompose, caplog, architecture):
    with caplog.at_level(logging.INFO, logger="hyperspy_specml.workflows._decomposition"):
        dec = decompose(signal, architecture=architecture)

    lines = [r.getMessage() for r in caplog.records if r.name == "hyperspy_specml.workflows._decomposition"]
    assert lines == [f"decomposition_ae(architecture={architecture!r}): {dec.report.verdict()}"]


@pytest.mark.parametrize("preference", [False, True])
@pytest.mark.parametrize("argument", [None, False, True])
def test_progress_is_shown_as_asked_or_as_hyperspy_prefers(
    signal, decompose, monkeypatch, capsys, preference, argument
):
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", preference)

    decompose(signal, show_progressbar=argument)

    out, err = capsys.readouterr()
    assert out == ""
    shown = preference if argument is None else argument
    assert [label in err for label in ("MapSummary", "Train", "Project")] == [shown] * 3
    assert shown or err == ""
