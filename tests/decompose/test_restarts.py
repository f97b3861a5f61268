"""Several trainings: the best sound one is kept, the others are remembered."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hyperspy_specml.decompose._architecture import best_of, collapse
from hyperspy_specml.exceptions import TrainingDivergedError

SCORES = np.random.default_rng(0).normal(size=77) + 10


def starts(*values):
    def train(value):
        if value is None:
            raise TrainingDivergedError("the loss became nan")
        return value

    return [(str(i), lambda value=value: train(value)) for i, value in enumerate(values)]


def judge(value):
    score, reason = value
    return score, reason


def test_the_best_of_those_that_did_not_collapse_is_kept():
    best, attempts = best_of(starts((3.0, ""), (1.0, "component 0 explains nothing"), (2.0, ""), None), judge)

    assert best == (2.0, "")
    assert [a.name for a in attempts] == ["0", "1", "2", "3"]
    assert attempts[1].collapsed == "component 0 explains nothing"
    assert math.isnan(attempts[3].score)
    assert attempts[3].collapsed == "diverged: the loss became nan"


def test_where_all_collapsed_the_best_of_them_is_kept_and_the_log_says_so(caplog):
    best, _ = best_of(starts((3.0, "a"), (1.0, "b")), judge)

    assert best == (1.0, "b")
    assert "All 2 trainings collapsed (b): fewer components are enough" in caplog.text


def test_one_sound_attempt_can_be_enough(caplog):
    def sound(value, attempts):
        assert value[0] == attempts[-1].score
        return not attempts[-1].collapsed

    _, attempts = best_of(starts(None, (3.0, "a"), (2.0, ""), (1.0, "")), judge, enough=sound)

    assert len(attempts) == 3
    assert caplog.text.count("trying another start") == 1


def test_an_error_says_that_all_diverged():
    with pytest.raises(TrainingDivergedError, match=r"all 2 trainings diverged \(diverged: the loss became"):
        best_of(starts(None, None), judge)


def test_a_component_that_nobody_misses_is_a_collapse():
    noise = np.random.default_rng(1).normal(size=77)

    assert collapse(SCORES, {"component 1": SCORES + 1, "component 2": SCORES + 1e-9 * noise}, None)
    assert not collapse(SCORES, {"component 1": SCORES + 1 + 0.1 * noise}, None)


def test_scores_worse_than_a_smaller_pca_are_a_collapse():
    noise = np.random.default_rng(2).normal(size=77)

    assert collapse(SCORES + 1 + noise, {}, SCORES) == "worse than PCA with one component less"
    assert not collapse(SCORES, {}, SCORES + 0.01 * noise)
