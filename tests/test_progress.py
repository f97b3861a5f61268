"""One progress for every long call: shares of nested stages, cancels from any thread, and what they leave."""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from tqdm import tqdm

import hyperspy_specml as specml
from hyperspy_specml.exceptions import Cancelled, SpecMLWarning
from hyperspy_specml.progress import STOPPED, Progress, ProgressBar

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal


class Recorder(Progress):
    """Record every change, and stop the call when a stage shows itself for the n-th time."""

    def __init__(self, stage: str | None = None, n: int = 1, how: str = "cancel") -> None:
        super().__init__()
        self.where, self.n, self.how = stage, n, how
        self.seen: list[tuple[str, float]] = []

    def show(self) -> None:
        self.seen.append((self.stage, self.fraction))
        if self.stage == self.where:
            self.n -= 1
            if self.n == 0 and self.how == "Ctrl-C":
                raise KeyboardInterrupt
            if self.n == 0:
                self.cancel()

    @property
    def stages(self) -> list[str]:
        """Names in the order of their first appearance."""
        return [stage for stage in dict.fromkeys(stage for stage, _ in self.seen) if stage]

    @property
    def fractions(self) -> list[float]:
        return [fraction for _, fraction in self.seen]


def test_shares_are_parts_of_the_stage_around_them_from_where_it_stands():
    progress = Recorder()

    with progress.enter("", 1.0):
        with progress.enter("read", 0.25):
            with progress.enter("header", 0.5):
                progress.advance(0.5)
                assert progress.fraction == 0.0625
            assert (progress.stage, progress.fraction) == ("read", 0.125)
            with progress.enter("body", 0.25):
                progress.advance(0.5)
            assert progress.fraction == 0.125 + 0.25 * 0.25
        assert progress.fraction == 0.25  # what was not spoken for is done when the stage ends
        with progress.enter("train", 0.5):
            progress.advance(0.75)
            assert progress.fraction == 0.25 + 0.5 * 0.75

    assert progress.fractions == sorted(progress.fractions)
    assert progress.fraction == 1
    assert progress.stage == ""
    assert progress.stages == ["read", "header", "body", "train"]


def test_a_fraction_never_falls_nor_leaves_its_stage():
    progress = Recorder()
    with progress.enter("half", 0.5):
        for done in (0.5, 0.25, 0.75, 0.0, 7.0, -3.0):
            progress.advance(done)

    assert progress.fractions == [0, 0.25, 0.25, 0.375, 0.375, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("n", [3, 7, 10])
def test_equal_shares_end_at_one_whatever_their_rounding(n):
    progress = Recorder()
    with progress.enter(""):
        for _ in range(n):
            with progress.enter("part", 1 / n):
                for _ in progress.steps(range(n)):
                    pass

    assert progress.fraction == 1
    assert max(progress.fractions) == 1
    assert progress.fractions == sorted(progress.fractions)


def test_steps_are_equal_parts_of_the_stage_and_done_after_their_work():
    progress = Recorder()
    with progress.enter("all", 0.5):
        at_work = [(step, progress.fraction) for step in progress.steps([7, 8, 9, 10])]

    assert at_work == [(7, 0.0), (8, 0.125), (9, 0.25), (10, 0.375)]
    assert progress.fraction == 0.5


@pytest.mark.parametrize("how", ["cancel", "Ctrl-C"])
def test_a_stop_leaves_every_stage_and_the_next_begins_where_it_stood(how):
    progress = Recorder("inner", 2, how)

    with pytest.raises(STOPPED), progress.enter("outer", 0.5), progress.enter("inner", 0.5):
        progress.advance(0.5)

    assert (progress.stage, progress.fraction) == ("", 0.125)
    with progress.enter("after", 1.0):
        progress.advance(0.5)
        assert progress.fraction == 0.125 + 0.5 * 0.875
    assert progress.fraction == 1


def test_a_cancel_says_where_and_is_answered_once():
    progress = Progress()
    progress.cancel()

    with pytest.raises(Cancelled, match="cancelled in the stage 'read', 0% of the call done"), progress.enter("read"):
        raise AssertionError("nothing is done")
    with progress.enter("again"):
        progress.advance(0.5)
        progress.cancel()
        progress.cancel()  # twice before it is answered is once
        with pytest.raises(Cancelled, match="'again', 75%"):
            progress.advance(0.75)
        progress.advance(0.8)


@pytest.mark.parametrize("total", [1, 100])
def test_a_bar_of_any_total_is_moved_to_its_end_and_says_the_stage(total):
    text = io.StringIO()
    with tqdm(total=total, file=text, mininterval=0) as bar:
        progress, places = ProgressBar(bar), []
        with progress.enter(""):
            for stage, share in (("read", 0.25), ("train", 0.75)):
                with progress.enter(stage, share):
                    for _ in progress.steps(range(3)):
                        places.append(bar.n)
            assert bar.desc == "train"

        assert places == pytest.approx([total * part for part in (0, 1 / 12, 1 / 6, 0.25, 0.5, 0.75)])
        assert bar.n == total  # exactly: else notebooks show it in red
    assert "read:  " in text.getvalue()
    assert "100%" in text.getvalue()


def test_a_bar_can_be_cancelled():
    with tqdm(total=1, disable=True) as bar:
        progress = ProgressBar(bar)
        progress.cancel()
        with pytest.raises(Cancelled), progress.enter("read"):
            pass


# ---- The methods: each case is run to its end, then stopped in every stage that it reported.


@dataclass(frozen=True)
class Case:
    """A call of a method.

    Attributes
    ----------
    method, options
        Name and arguments, without `show_progressbar`.
    stages
        Some that are reported, in this order.
    kept
        With what the names of stages begin whose stop leaves a result: trainings.
    interrupted
        Whether a result says that it was interrupted.
    """

    method: str
    options: dict[str, Any]
    stages: tuple[str, ...]
    kept: tuple[str, ...] = ()
    interrupted: Any = field(default=lambda result: result.report.interrupted)

    def run(self, signal: BaseSignal, progress: Progress) -> Any:
        """Call the method in a thread, as a widget does, and return the result or the exception."""
        answer: list[Any] = []

        def call() -> None:
            try:
                answer.append(getattr(signal, self.method)(show_progressbar=progress, **self.options))
            except BaseException as error:
                answer.append(error)

        thread = threading.Thread(target=call)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpecMLWarning)  # so brief a training may lose against PCA
            thread.start()
            thread.join(timeout=300)
        assert not thread.is_alive()
        return answer[0]


QUICK = {"config": specml.TrainConfig(max_steps=20, evaluate_every=10), "noise": "poisson"}
CASES = {
    "dense": Case(
        "decomposition_ae", {"output_dimension": 2, **QUICK},
        ("Read spectra", "Train dense", "Train on all counts", "Straighten the latents", "Score", "Project"),
        ("Train", "Straighten"),
    ),
    "dense, number chosen": Case(
        "decomposition_ae", QUICK,
        (
            "Read spectra", "Choose the number", "Try 1 components", "Try 2 components", "Train dense", "Score",
            "Project",
        ),
        ("Try", "Train", "Straighten"),
    ),
    "simplex, number chosen": Case(
        "decomposition_ae", {"architecture": "simplex", **QUICK},
        (
            "Read spectra", "Choose the number", "Try starts", "Train simplex", "Compare with factors", "Score",
            "Project",
        ),
        ("Try", "Train", "Compare"),
    ),
    "pca": Case(
        "decomposition_ae", {"output_dimension": 2, "architecture": "pca", "noise": "poisson"},
        ("Read spectra", "Score", "Project"),
    ),
    "pca, number chosen": Case(
        "decomposition_ae", {"architecture": "pca", "noise": "poisson"}, ("Read spectra", "Score", "Project"),
    ),
}  # fmt: skip

TRAINED = {name: case for name, case in CASES.items() if case.kept}


@pytest.fixture(params=[False, True], ids=["eager", "lazy"])
def signal(request, make_map, unchanged):
    """A map of three mixed spectra that must stay as it is."""
    rng = np.random.default_rng(0)
    peaks = np.exp(-0.5 * ((np.arange(31) - np.array([[7], [15], [24]])) / 2) ** 2) + 0.1
    counts = rng.poisson(20 * rng.dirichlet(np.ones(3), (13, 11)) @ peaks).astype(np.uint16)
    return unchanged(make_map(data=da.from_array(counts, chunks=(5, 4, 20)) if request.param else counts))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_fraction_of_a_call_rises_to_one_through_its_stages(signal, case):
    progress = Recorder()

    result = case.run(signal, progress)

    assert not isinstance(result, BaseException), result
    assert not case.interrupted(result)
    assert [stage for stage in progress.stages if stage in case.stages] == list(case.stages)
    assert progress.fractions == sorted(progress.fractions)
    assert progress.fraction == 1
    assert len({*progress.fractions}) > len(case.stages)


def assert_left_in_order(case, progress, outcome, error):
    """Check that a stopped call gave the error, or a result with the fraction at its end."""
    assert progress.fractions == sorted(progress.fractions)
    if isinstance(outcome, BaseException):
        assert type(outcome) is error, outcome
        assert progress.fraction <= 1
    else:
        assert case.interrupted(outcome)
        assert progress.fraction == 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_cancel_in_any_stage_gives_the_best_so_far_or_ends_the_call(signal, case):
    progress = Recorder()
    case.run(signal, progress)

    kept = set()
    for stage in progress.stages:
        # At the beginning of the stage, and in its middle, where the first of two of the same name has begun.
        middle = max(2, sum(name == stage for name, _ in progress.seen) // 2)
        for n in {middle} if signal._lazy else {1, middle}:
            stopped = Recorder(stage, n)
            outcome = case.run(signal, stopped)
            assert_left_in_order(case, stopped, outcome, Cancelled)
            if not isinstance(outcome, BaseException):
                kept.add(stage)

    assert kept == {stage for stage in progress.stages if stage.startswith(case.kept)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("signal", [False], ids=["eager"], indirect=True)
def test_ctrl_c_is_a_cancel(signal, case):
    progress = Recorder()
    case.run(signal, progress)

    for stage in progress.stages:
        n = max(1, sum(name == stage for name, _ in progress.seen) // 2)
        pressed = case.run(signal, Recorder(stage, n, "Ctrl-C"))
        if not stage.startswith(case.kept):
            assert isinstance(pressed, KeyboardInterrupt)
        else:
            cancelled = case.run(signal, Recorder(stage, n))
            np.testing.assert_array_equal(np.asarray(cancelled.scores.data), np.asarray(pressed.scores.data))


@pytest.mark.parametrize("case", TRAINED.values(), ids=TRAINED)
def test_a_second_cancel_ends_the_rest_of_the_call_too(signal, case):
    class Twice(Recorder):
        def show(self) -> None:
            super().show()
            if self.n <= 0 and self.stage == case.stages[-1]:
                self.cancel()

    first = next(stage for stage in case.stages if stage.startswith(case.kept))
    stopped = Twice(first, 3)  # in a training, not before or after it
    outcome = case.run(signal, stopped)

    assert isinstance(outcome, Cancelled)
    assert case.stages[-1] in str(outcome)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_another_thread_may_cancel_at_any_time(signal, case):
    class Waiting(Progress):
        """Lets the other thread cancel while the call is busy."""

        def __init__(self) -> None:
            super().__init__()
            self.busy, self.go_on = threading.Event(), threading.Event()

        def show(self) -> None:
            if self.stage and self.fraction > 0.1 and not self.busy.is_set():
                self.busy.set()
                assert self.go_on.wait(300)

    progress, outcome = Waiting(), []
    thread = threading.Thread(target=lambda: outcome.append(case.run(signal, progress)))
    thread.start()
    assert progress.busy.wait(300)
    progress.cancel()
    progress.go_on.set()
    thread.join(300)

    assert isinstance(outcome[0], Cancelled) or case.interrupted(outcome[0])


def test_a_model_is_applied_in_one_stage_and_not_at_all_when_cancelled(signal):
    model = CASES["pca"].run(signal, Progress()).model
    case = Case("decomposition_ae", {"model": model}, ("Project",))
    progress = Recorder()

    assert case.run(signal, progress).report.trained_on == "steel"

    assert progress.stages == ["Project"]
    assert progress.fraction == 1
    assert isinstance(case.run(signal, Recorder("Project")), Cancelled)
