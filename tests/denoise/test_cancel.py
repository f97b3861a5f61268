"""Progress of a denoising, and what it leaves when it is cancelled anywhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy.signal import BaseSignal

pytestmark = pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.RemovedSignalWarning")
SHORT = {"config": specml.TrainConfig(max_steps=10, evaluate_every=5), "protect": True, "noise": "poisson"}


class Recorder(specml.Progress):
    """Records all that is shown, and cancels when a stage begins."""

    def __init__(self, cancel_at: str | None = None, count: int = 0) -> None:
        super().__init__()
        self.seen: list[tuple[str, float]] = []
        self.cancel_at, self.count = cancel_at, count

    def show(self) -> None:
        self.seen.append((self.stage, self.fraction))
        if self.stage == self.cancel_at:
            self.count -= 1
            if self.count == 0:
                self.cancel()


def stages(make_map: Callable[..., BaseSignal], data: np.ndarray) -> list[str]:
    recorder = Recorder()
    make_map(data=data).denoise_dae(show_progressbar=recorder, **SHORT)
    return list(dict.fromkeys(stage for stage, _ in recorder.seen if stage))


def in_a_thread(signal: BaseSignal, progress: specml.Progress) -> Any:
    """Denoise as a widget would, and return the answer or the error."""
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(signal.denoise_dae(show_progressbar=progress, **SHORT))
        except Cancelled as error:
            answer.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return answer[0]


def test_the_fraction_rises_to_one_through_named_stages(
    make_map: Callable[..., BaseSignal], counts_with_line: Any
) -> None:
    recorder = Recorder()
    make_map(data=counts_with_line[0]).denoise_dae(show_progressbar=recorder, **SHORT)
    fractions = np.array([fraction for _, fraction in recorder.seen])
    assert (np.diff(fractions) >= 0).all()
    assert fractions[0] == 0
    assert recorder.fraction == 1
    named = {stage for stage, _ in recorder.seen}
    assert named >= {
        "Prepare", "Filter score maps", "Train the spatial network", "Train the spectral network",
        "Score candidates", "Apply", "Check", "Look for removed signal", "Restore removed signal",
    }  # fmt: skip
    assert np.diff(fractions).max() < 0.3  # one pass over the file in one block


def test_a_cancel_in_any_stage_gives_the_best_so_far_or_an_error(
    make_map: Callable[..., BaseSignal], counts_with_line: Any, unchanged: Callable[..., Any]
) -> None:
    kept = set()
    for stage in stages(make_map, counts_with_line[0]):
        for count in (1, 2):  # where it begins, and at its next step
            signal = unchanged(make_map(data=counts_with_line[0]))
            answer = in_a_thread(signal, Recorder(stage, count))
            if isinstance(answer, Cancelled):
                continue
            kept.add(stage)
            report = specml.denoise_report(answer)
            assert np.isfinite(answer.data).all()
            assert report.interrupted, stage
            assert "interrupted" in str(report)
    assert {"Train the spatial network", "Train the spectral network", "Fit the spectral network"} <= kept
    assert not kept & {"Prepare", "Filter score maps", "Score candidates", "Check"}


@pytest.mark.parametrize(("context", "name"), [("spatial", "spatial network"), ("spectral", "spectral network")])
def test_an_interrupted_training_keeps_its_best_network(
    make_map: Callable[..., BaseSignal],
    smooth_counts: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    context: str,
    name: str,
) -> None:
    from hyperspy_specml.train import Trainer

    steps, step = [], Trainer.step

    def interrupted(self: Trainer, *args: Any) -> Any:
        steps.append(1)
        if len(steps) > 30:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Trainer, "step", interrupted)
    clean = make_map(data=smooth_counts).denoise_dae(
        context=context,
        noise="poisson",
        show_progressbar=False,
        config=specml.TrainConfig(max_steps=1000, evaluate_every=10),
    )
    report = specml.denoise_report(clean)
    assert report.interrupted
    assert any(candidate.name.startswith(name) for candidate in report.candidates)
