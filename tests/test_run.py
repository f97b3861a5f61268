"""Settings: None means the network's own default, and what cannot work is refused at once."""

from __future__ import annotations

import dataclasses

import pytest

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.run import ComputeConfig, Run, TrainConfig

DEFAULTS = TrainConfig(
    learning_rate=0.01, batch_size=64, max_steps=500, extension=2.0, evaluate_every=50, patience=3,
    restarts=2, comparison_share=0.25,
)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, r"TrainConfig\(max_steps=0\) must be a positive number, e\.g\. TrainConfig\(max_steps=1\)"),
        ({"learning_rate": -1e-3}, r"TrainConfig\(learning_rate=-0\.001\) must be a positive number"),
        ({"patience": float("nan")}, r"TrainConfig\(patience=nan\) must be a positive number"),
        ({"memory_budget": 0}, r"TrainConfig\(memory_budget=0\) must be a positive number"),
        ({"extension": -1}, r"TrainConfig\(extension=-1\) must be no negative number"),
        ({"kernel": "float16"}, r"TrainConfig\(kernel=\.\.\.\)='float16' is unknown.*'float32'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        TrainConfig(**settings)


def test_settings_of_computing_alone_are_checked_by_their_own_name():
    with pytest.raises(OptionError, match=r"ComputeConfig\(memory_budget=-1\) must be a positive number"):
        ComputeConfig(memory_budget=-1)


def test_nothing_of_a_training_is_set_unless_the_user_says_so():
    config = TrainConfig()

    assert config.of_training() == []
    unset = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) is None]
    assert unset == TrainConfig(**{name: 1 for name in unset}).of_training()
    assert {"learning_rate", "max_steps", "restarts"} < {*unset}
    assert TrainConfig(patience=3, max_steps=7, memory_budget=9).of_training() == ["max_steps", "patience"]


def test_what_is_set_stands_and_what_is_not_comes_from_the_network():
    config = TrainConfig(max_steps=7, learning_rate=3e-3, memory_budget=10**6, kernel="float32")

    run = Run(config, seed=5, device="cpu").over(DEFAULTS)

    assert run.config == dataclasses.replace(
        DEFAULTS, max_steps=7, extension=0, learning_rate=3e-3, memory_budget=10**6, kernel="float32"
    )  # no extension beyond a bound that was set
    assert Run(TrainConfig(max_steps=7, extension=3)).over(DEFAULTS).config.extension == 3
    assert Run().over(DEFAULTS).config == DEFAULTS
    assert (run.seed, run.device) == (5, "cpu")


@pytest.mark.parametrize(("max_steps", "share", "brief"), [(500, 0.25, 125), (3, 0.2, 1), (10, 0.39, 3)])
def test_a_brief_run_takes_the_share_of_the_steps_and_at_least_one(max_steps, share, brief):
    run = Run(dataclasses.replace(DEFAULTS, max_steps=max_steps, comparison_share=share))

    assert run.brief().config == dataclasses.replace(run.config, max_steps=brief, extension=0)
