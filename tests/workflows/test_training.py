"""What the user sees of the training: progress, interrupts, divergence, and a warning when PCA is better."""

from __future__ import annotations

import dataclasses
import functools
import logging
import warnings

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.external import progressbar

import hyperspy_specml as specml
from hyperspy_specml.decompose import _autoencoder
from hyperspy_specml.exceptions import BaselineBetterWarning, TrainingDivergedError
from hyperspy_specml.workflows import _decomposition


@pytest.fixture
def signal(make_map, make_counts, unchanged):
    return unchanged(make_map(data=make_counts()))


class CtrlC(specml.Progress):
    """Press Ctrl-C when a stage has shown itself so often, as many times as asked."""

    def __init__(self, stage, after, times=1):
        super().__init__()
        self.where, self.after, self.times = stage, after, times

    def show(self):
        self.after -= self.stage == self.where
        if self.stage == self.where and self.after <= 0 and self.times:
            self.times -= 1
            raise KeyboardInterrupt


@pytest.mark.parametrize(("step", "best"), [(1, {0}), (45, {0, 20, 40})])
def test_an_interrupt_keeps_the_best_model_so_far_and_says_so(signal, decompose, step, best):
    # Two stages are called so, one in the other: both show themselves before the first step.
    dec = decompose(signal, show_progressbar=CtrlC("Train dense", 2 + step))

    assert dec.report.interrupted
    assert "interrupted" in str(dec.report)
    assert dec.report.best_step in best
    assert np.isfinite(dec.residual.data).all()
    assert not dec.baseline.report.interrupted
    assert specml.provenance(dec.scores)["interrupted"]


def test_an_interrupt_of_the_search_for_a_size_ends_it_and_says_so(signal, decompose):
    dec = decompose(signal, None, show_progressbar=CtrlC("Try 1 components", 5))

    assert dec.report.interrupted
    assert np.isfinite(dec.residual.data).all()
    assert len(dec.report.rank.ranks) == 1  # no other size was tried
    assert dec.report.steps[-1] <= 12  # and the training that follows is brief


def test_an_interrupt_of_the_training_on_all_counts_keeps_the_model_of_the_fold(signal, decompose):
    dec = decompose(signal, show_progressbar=CtrlC("Train on all counts", 2))

    assert dec.report.interrupted
    assert dec.report.steps[-1] == 60
    assert np.isfinite(dec.residual.data).all()


def test_a_second_interrupt_ends_the_call(signal, decompose):
    class Twice(CtrlC):
        def show(self):
            super().show()
            if not self.times and self.stage == "Project":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decompose(signal, show_progressbar=Twice("Train dense", 20))


def diverging(monkeypatch, bad):
    """Let the loss of some steps be no number."""
    loss, calls = _autoencoder.reconstruction_error, []

    def spoilt(network, batch, step):
        calls.append(step)
        terms = loss(network, batch, step)
        return {name: term * (float("nan") if bad(len(calls)) else 1) for name, term in terms.items()}

    monkeypatch.setattr(_autoencoder, "reconstruction_error", spoilt)


def test_a_training_that_diverges_tries_other_seeds_then_names_pca(signal, decompose, monkeypatch, caplog):
    diverging(monkeypatch, lambda call: True)

    with pytest.raises(
        TrainingDivergedError,
        match=r"architecture='dense': all 3 trainings.*learning_rate=0\.0005\).*architecture='pca'",
    ):
        decompose(signal)

    assert caplog.text.count("trying another start") >= 2
    assert np.isfinite(decompose(signal, architecture="pca").scores.data).all()


def test_one_divergence_is_mended_by_another_seed(signal, decompose, monkeypatch):
    diverging(monkeypatch, lambda call: call < 5)

    dec = decompose(signal)

    assert np.isfinite(dec.scores.data).all()
    assert "diverged" in dec.report.attempts[0].collapsed
    assert not dec.report.attempts[1].collapsed


def judged(monkeypatch, *, difference, hold_out="exact"):
    """Let the held-out scores of the next fits come out as wished, with a standard error of one."""
    decompose = _decomposition.decompose

    def judge(*args, **options):
        found = decompose(*args, **options)
        model, *others = found.report.candidates
        model = dataclasses.replace(model, difference=difference, standard_error=1.0)
        report = dataclasses.replace(found.report, candidates=(model, *others), hold_out=hold_out)
        return dataclasses.replace(found, report=report)

    monkeypatch.setattr(_decomposition, "decompose", judge)


def test_the_user_is_warned_at_his_line_when_pca_is_better(signal, quick, monkeypatch):
    judged(monkeypatch, difference=2.5)

    with pytest.warns(
        BaselineBetterWarning, match=r"^Prefer (result\.baseline|.*centre=True).*2\.5 standard errors"
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
    drawn_always = functools.partial(progressbar.progressbar, mininterval=0)  # stages take milliseconds here
    monkeypatch.setattr(progressbar, "progressbar", drawn_always)

    decompose(signal, show_progressbar=argument)

    out, err = capsys.readouterr()
    assert out == ""
    shown = preference if argument is None else argument
    assert [label in err for label in ("Read spectra", "Train", "Project", "100%")] == [shown] * 4
    assert shown or err == ""


@pytest.mark.parametrize("options", [{"device": "cpu"}, {"config": specml.TrainConfig(max_steps=9)}])
def test_settings_of_a_training_that_does_not_happen_are_named_in_the_log(signal, caplog, options):
    signal.decomposition_ae(2, architecture="pca", show_progressbar=False, **options)

    assert "no network is trained, so device and training settings have no effect" in caplog.text
    caplog.clear()
    memory = specml.TrainConfig(memory_budget=10**6)
    signal.decomposition_ae(2, architecture="pca", show_progressbar=False, config=memory)
    assert "no effect" not in caplog.text
