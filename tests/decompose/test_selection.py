"""The number of components: who is out of the race, who wins, and on which counts it is run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hyperspy_specml.decompose import Architecture, DenseOptions, choose_number
from hyperspy_specml.decompose import _run as selection
from hyperspy_specml.decompose._run import joined, run_race, running
from hyperspy_specml.run import Run

SIGNS = np.array([1.0, -1.0] * 50)  # 100 spectra: an error of 0.1005
BEST = np.random.default_rng(0).normal(50, 20, 100)  # common to all runners: it pairs away


def test_who_is_clearly_worse_than_the_best_is_out_and_does_not_come_back():
    rounds = [[BEST + 0.19 + SIGNS], [BEST], [BEST + 0.21 + SIGNS], [BEST + 0.01 + SIGNS]]
    assert running(rounds) == [0, 1, 3]

    for i in (0, 1, 3):
        rounds[i].append(BEST + i)
    assert running(rounds) == [0]  # the differences of both rounds count, and 2, which ran one, is out


def test_differences_are_those_of_rounds_that_both_ran():
    later = BEST + 30  # other counts: another level
    rounds = [[BEST + 1, later + 2], [BEST, later], [BEST + 7]]

    np.testing.assert_allclose(joined(rounds), np.array([[1.5], [0], [7]]) + (BEST + later) / 2)


def test_in_each_round_other_counts_are_held_out_and_the_test_fold_never(prepared):
    seen = []

    def compare(other, k):
        seen.append((k, other.folds))
        return BEST, False

    rounds = [[BEST], [BEST + SIGNS], [BEST + 9]]
    assert not run_race(rounds, prepared, compare, Run())

    assert [k for k, _ in seen] == [1, 2] * 4
    held = [prepared.folds.validation, *[folds.validation for _, folds in seen[::2]]]
    assert (sum(held) + prepared.folds.test == prepared.summary.sample).all()
    assert all((folds.test == prepared.folds.test).all() for _, folds in seen)


def test_an_interrupted_round_does_not_count(prepared):
    rounds = [[BEST], [BEST + SIGNS]]

    assert run_race(rounds, prepared, lambda _, k: (BEST, k == 2), Run())
    assert [len(own) for own in rounds] == [1, 1]


@dataclasses.dataclass(frozen=True)
class OneMore(Architecture):
    """Two latents are better than one by a difference that no single fold is sure of."""

    gain: float
    name: str = "one more"
    options: object = DenseOptions()
    smooth: bool = True
    more_components: int = 1
    calls: list[int] = dataclasses.field(default_factory=list)
    stop_after: int = 1000

    def fit(self, data, n_components, run):
        raise AssertionError("a search trains briefly")

    def compare(self, data, n_components, run):
        self.calls.append(n_components)
        noise = np.random.default_rng(len(self.calls)).normal(0, 1, 400)
        more = n_components > 1
        scores = 10 - self.gain * more + (noise - noise.mean()) * more + 0.3 * (n_components > 2)
        return scores, len(self.calls) >= self.stop_after


def chosen(architecture, prepared, **options):
    return choose_number(architecture, prepared, Run(), **options)[0].chosen


def test_a_race_sees_what_one_fold_is_not_sure_of(prepared):
    gain = 0.04  # 0.8 standard errors of one fold, 1.8 of five

    assert chosen(OneMore(gain), prepared, race=False) == 1
    assert chosen(OneMore(gain), prepared) == 2


def test_an_architecture_without_a_smooth_basis_is_not_raced(prepared):
    assert chosen(OneMore(0.04, smooth=False), prepared) == 1


def test_one_latent_more_than_pca_has_components_may_win_but_not_where_nothing_is_held_out(prepared):
    one = dataclasses.replace(prepared, rank=dataclasses.replace(prepared.rank, chosen=1))
    assert chosen(OneMore(0.04), one) == 2

    architecture = OneMore(0.04)
    assert chosen(architecture, dataclasses.replace(one, hold_out="none")) == 1
    assert architecture.calls == [1]


def test_an_architecture_that_may_carry_no_more_than_pca_is_not_tried_with_more(prepared):
    one = dataclasses.replace(prepared, rank=dataclasses.replace(prepared.rank, chosen=1))
    architecture = OneMore(0.04, more_components=0)

    assert chosen(architecture, one) == 1
    assert architecture.calls == [1]


def test_a_large_map_is_not_raced(prepared, monkeypatch):
    architecture = OneMore(0.04)
    monkeypatch.setattr(selection, "_RACED", prepared.folds.validation.size - 1)

    assert chosen(architecture, prepared) == 1
    assert architecture.calls == [1, 2, 3, 4]


def test_two_numbers_that_are_no_better_end_the_search(prepared):
    many = dataclasses.replace(prepared, rank=dataclasses.replace(prepared.rank, chosen=9))
    architecture = OneMore(1.0)

    assert chosen(architecture, many, race=False) == 2
    assert architecture.calls == [1, 2, 3, 4]


@dataclasses.dataclass(frozen=True)
class BestAt(OneMore):
    """So many latents are the best, by so much for each that is missing or too many."""

    best: int = 1

    def compare(self, data, n_components, run):
        self.calls.append(n_components)
        noise = np.random.default_rng(len(self.calls)).normal(0, 1, 400) * (n_components != self.best)
        return 10 + self.gain * abs(n_components - self.best) + noise - noise.mean(), False


@pytest.mark.parametrize(
    ("best", "gain", "tried"),
    [(12, 1.0, [10, 11, 12]), (9, 1.0, [7, 8, 9, 10, 11, 12]), (11, 0.04, [7, 8, 9, 10, 11, 12])],
    ids=["all pay", "some are too many", "hardly any difference"],
)
def test_where_pca_carries_more_than_are_tried_the_largest_number_comes_first(prepared, best, gain, tried):
    basis = prepared.basis
    many = dataclasses.replace(prepared, rank=dataclasses.replace(prepared.rank, chosen=37))
    assert basis.n_vectors >= 12
    architecture = BestAt(gain, best=best)

    curve, _ = choose_number(architecture, many, Run(), race=False)

    assert architecture.calls == tried[::-1]
    assert list(curve.ranks) == tried
    assert curve.chosen == (best if gain > 0.1 else 10)  # 10 is worse by less than a standard error, .05

    raced = BestAt(0.04, best=11)
    assert choose_number(raced, many, Run())[0].ranks[-1] == 12
    assert set(raced.calls[6:]) <= {9, 10, 11, 12}  # the race is among those that the first round cannot tell apart


def test_a_stopped_search_says_so_and_chooses_of_what_was_tried(prepared):
    # In the search, then in the second training of the race: the round that it belongs to does not count.
    for gain, stop_after, tried, best in ((0.5, 2, [1, 2], 2), (0.04, 6, [1, 2, 3, 4], 1)):
        architecture = OneMore(gain, stop_after=stop_after)
        curve, stopped = choose_number(architecture, prepared, Run())

        assert stopped
        assert len(architecture.calls) == stop_after
        assert list(curve.ranks) == tried
        assert curve.chosen == best


def test_the_search_is_one_stage_whose_shares_sum_to_the_whole(prepared):
    for race in (False, True):
        run = Run()
        with run.progress.enter("Choose", 0.5):
            choose_number(OneMore(0.04), prepared, run, race=race)
        assert run.progress.fraction == 0.5
