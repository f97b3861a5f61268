"""The simplex autoencoder on arrays: planted mixtures, intensities and shifts are found."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from hyperspy_specml.decompose import SimplexOptions, choose_architecture, decompose
from hyperspy_specml.decompose import _simplex as simplex_module
from hyperspy_specml.decompose._endmembers import factorise, find_vertices, first_endmembers
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.prepare import prepare
from hyperspy_specml.progress import Progress
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.streaming import SpectrumStream

RUN = Run(TrainConfig(max_steps=400, evaluate_every=40, patience=2, batch_size=128))
BRIEF = Run(TrainConfig(max_steps=60, evaluate_every=20))
SIMPLEX = choose_architecture("simplex", SimplexOptions(n_hidden=32))
SMALL = choose_architecture("simplex", SimplexOptions(n_hidden=16))
MOVING = choose_architecture("simplex", SimplexOptions(n_hidden=32, energy_shift=True))
SHAPE, N_CHANNELS = (29, 23), 67


def planted(rank=3, shift=0.0, seed=0, shape=SHAPE):
    """Expected spectra whose pure pixels are few, their truth, and shifts in channels."""
    rng = np.random.default_rng(seed)
    channels = np.arange(N_CHANNELS)
    centres = np.linspace(15, N_CHANNELS - 15, rank)[:, None]
    endmembers = 0.3 + np.exp(-0.5 * ((channels - centres) / 4) ** 2)
    endmembers /= endmembers.sum(axis=1, keepdims=True)
    abundances = rng.dirichlet(np.full(rank, 0.4), size=shape)
    intensity = 600 * rng.uniform(0.5, 1.5, shape)
    moved = shift * rng.standard_normal(shape)
    moved -= moved.reshape(-1)[:32].mean()  # drift is counted from where the scan begins
    spectra = (abundances @ endmembers).reshape(-1, N_CHANNELS)
    spectra = np.array([np.interp(channels - d, channels, s) for d, s in zip(moved.flat, spectra, strict=True)])
    return intensity[..., None] * spectra.reshape(*shape, -1), endmembers, abundances, intensity, moved


def angles(found, truth):
    """Return spectral angles in degrees of the best matching, and the matching."""
    unit = [spectra / np.linalg.norm(spectra, axis=1, keepdims=True) for spectra in (found, truth)]
    table = np.degrees(np.arccos(np.clip(unit[0] @ unit[1].T, -1, 1)))
    columns = range(len(truth))
    order = min(itertools.permutations(columns), key=lambda p: table[list(p), columns].sum())
    return table[list(order), columns], list(order)


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).poisson(planted()[0]).astype(np.uint16)


@pytest.fixture(scope="module")
def prepared(counts):
    return prepare(SpectrumStream(counts), BRIEF, n_needed=3)


@pytest.fixture(scope="module")
def found(counts):
    return decompose(SpectrumStream(counts), RUN, architecture=SIMPLEX, n_components=3)


@pytest.fixture
def network_alone(monkeypatch):
    """Leave out the comparison with factors, which is slow where held-out counts cannot decide."""
    monkeypatch.setattr(simplex_module, "prefer_factors", lambda *_: False)


def test_a_planted_mixture_is_found(found):
    _, endmembers, abundances, intensity, _ = planted()

    angle, order = angles(found.model.components(), endmembers)

    assert angle.max() < 4
    error = found.scores[:, order] - abundances.reshape(-1, 3)
    assert np.sqrt(np.square(error).mean()) < 0.07
    np.testing.assert_allclose(found.scores[:, 3].mean(), intensity.mean(), rtol=0.02)
    assert found.model.outputs == {"intensity": "signal"}


def test_it_predicts_no_worse_than_pca_where_the_truth_is_a_simplex(found):
    assert found.report.candidates[0].name == "simplex (3)"
    assert found.report.candidates[0].difference < found.report.candidates[0].standard_error


def test_both_ways_of_unmixing_are_scored_and_the_report_says_what_the_chosen_one_supposes(found):
    names = {candidate.name for candidate in found.report.candidates}

    assert len(names & {"simplex (3), factors", "simplex (3), smallest"}) == 1
    which = "non-negative factors" if "simplex (3), smallest" in names else "the smallest simplex"
    assert f"supposes      {which}" in str(found.report)


def test_counts_that_move_and_values_that_are_no_counts_have_no_factors(prepared):
    training = simplex_module._Training(prepared, 3, BRIEF, MOVING.options)

    assert not training.has_factors()
    still = dataclasses.replace(training, options=SMALL.options)
    assert still.has_factors()
    assert not dataclasses.replace(still, data=dataclasses.replace(prepared, hold_out="none")).has_factors()
    assert not dataclasses.replace(still, n_components=1).has_factors()


def test_all_starts_are_remembered_and_none_collapsed(found):
    assert [attempt.name for attempt in found.report.attempts] == ["vertices", "vertex means", "random", "nmf"]
    assert not any(attempt.collapsed for attempt in found.report.attempts)


def test_components_come_in_the_order_of_their_use(found):
    usage = found.scores[:, :3].mean(axis=0)

    assert (np.diff(usage) < 0.02).all()


def test_a_planted_shift_is_found():
    expected, endmembers, _, _, shift = planted(shift=3.0)
    counts = np.random.default_rng(2).poisson(expected).astype(np.uint16)

    fits = [
        decompose(SpectrumStream(counts), RUN, architecture=architecture, n_components=3)
        for architecture in (MOVING, SIMPLEX)
    ]

    found = fits[0].scores[:, 4]
    assert np.corrcoef(found, shift.flat)[0, 1] > 0.9
    assert np.polyfit(found, shift.reshape(-1), 1)[0] == pytest.approx(1, abs=0.2)  # shrunken, not biased
    assert abs(shift.mean()) > 0.4  # so that shifts about their mean would not do
    assert found.mean() == pytest.approx(shift.mean(), abs=0.1)
    assert fits[0].report.candidates[0].score < fits[1].report.candidates[0].score
    aware, blind = (angles(fit.model.components(), endmembers)[0].mean() for fit in fits)
    assert aware < min(blind, 5)


@pytest.mark.usefixtures("network_alone")
def test_endmembers_are_in_the_end_those_that_all_counts_tell(monkeypatch):
    expected, truth, *_ = planted()
    few = np.random.default_rng(2).poisson(expected / 8).astype(np.uint16)
    prepared = prepare(SpectrumStream(few), BRIEF, n_needed=3)
    fits = []
    for without in (False, True):
        if without:
            monkeypatch.setattr(simplex_module, "fit_endmembers", lambda *_: None)
        fit = SMALL.fit(prepared, 3, BRIEF)
        fits.append(angles(fit.model.components(), truth)[0].mean())

    assert fits[0] < 0.95 * fits[1]


def test_gaussian_noise_of_any_unit_is_unmixed_too():
    expected, endmembers, _, intensity, _ = planted()
    values = 1e-6 * (expected + 2 * np.random.default_rng(3).standard_normal(expected.shape))

    found = decompose(SpectrumStream(values), RUN, architecture=SIMPLEX, n_components=3, noise="gaussian")

    assert angles(found.model.components(), endmembers)[0].max() < 4
    ratio = found.scores[:, 3] / (1e-6 * intensity.reshape(-1))
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.std() < 0.1


@pytest.mark.usefixtures("network_alone")
def test_a_seed_repeats_the_fit_bit_for_bit(prepared):
    fits = [SMALL.fit(prepared, 3, dataclasses.replace(BRIEF, seed=4)) for _ in range(2)]

    np.testing.assert_array_equal(fits[0].model.components(), fits[1].model.components())
    assert fits[0].attempts == fits[1].attempts


@pytest.mark.usefixtures("network_alone")
def test_the_test_fold_chooses_nothing(prepared):
    garbage = dataclasses.replace(prepared, folds=dataclasses.replace(prepared.folds, test=prepared.folds.test[::-1]))
    fits = [SMALL.fit(s, 2, BRIEF) for s in (prepared, garbage)]

    np.testing.assert_array_equal(fits[0].fold_model.components(), fits[1].fold_model.components())


def test_held_out_counts_choose_the_planted_number_of_endmembers():
    rank = 3
    counts = np.random.default_rng(5).poisson(planted(rank)[0]).astype(np.uint16)
    found = decompose(SpectrumStream(counts), RUN, architecture=SIMPLEX)

    assert abs(found.model.n_components - rank) <= 1
    assert found.report.rank.ranks[0] == 1


def test_too_many_endmembers_are_a_collapse_that_is_told(prepared):
    fit = SMALL.fit(prepared, 6, BRIEF)

    assert any(attempt.collapsed for attempt in fit.attempts)


class Stopped(Progress):
    """Is cancelled after so many steps of a stage."""

    def __init__(self, stage, after):
        super().__init__()
        self.where, self.after = stage, after

    def show(self):
        self.after -= self.stage == self.where
        if self.after == 0 and self.stage == self.where:
            self.cancel()


@pytest.mark.parametrize(
    ("stage", "after", "n_starts"), [("Try starts", 5, 1), ("Try starts", 12, 2), ("Train simplex", 25, 4)]
)
def test_an_interrupt_keeps_what_was_learnt(prepared, stage, after, n_starts):
    fit = SMALL.fit(prepared, 3, dataclasses.replace(BRIEF, progress=Stopped(stage, after)))

    assert fit.history.interrupted
    assert len(fit.attempts) == n_starts
    assert fit.model is fit.fold_model  # what is left is not trained
    assert np.isfinite(fit.model.components()).all()


@pytest.mark.usefixtures("network_alone")
def test_an_interrupt_of_the_training_on_all_counts_keeps_the_model_of_the_fold(prepared):
    fit = SMALL.fit(prepared, 3, dataclasses.replace(BRIEF, progress=Stopped("Train on all counts", 3)))

    assert not fit.history.interrupted
    assert fit.model is fit.fold_model
    assert fit.history.interrupted


@pytest.mark.parametrize("architecture", ["dense", "pca"])
def test_only_the_simplex_architecture_knows_shifts(architecture):
    with pytest.raises(OptionError, match=r"energy_shift=True\) is not known to .*only to 'simplex'"):
        choose_architecture(architecture, also={"energy_shift": True})


def test_a_simplex_knows_no_centre():
    with pytest.raises(OptionError, match=r"centre=True\) is not known to architecture='simplex'"):
        choose_architecture("simplex", also={"centre": True})


def test_batches_of_many_channels_are_smaller_unless_the_user_says_otherwise(prepared):
    assert SMALL.completed(Run(), prepared).config.batch_size == 512

    wide = dataclasses.replace(prepared.folds, mean=np.ones(4096))
    prepared = dataclasses.replace(prepared, folds=wide)

    assert SMALL.completed(Run(), prepared).config.batch_size == 64
    assert SMALL.completed(Run(TrainConfig(batch_size=300)), prepared).config.batch_size == 300


def test_vertices_of_a_noise_free_simplex_are_its_pure_spectra():
    rng = np.random.default_rng(6)
    corners = rng.random((4, 4)) + 4 * np.eye(4)
    shares = np.vstack([rng.dirichlet(np.ones(4), 77), np.eye(4)])
    scores = shares @ corners * rng.uniform(0.5, 2, (81, 1))

    weights = find_vertices(scores, 4)

    assert set(weights.argmax(axis=1)) == {77, 78, 79, 80}


def test_first_endmembers_are_spectra_of_sum_one_that_are_nowhere_zero():
    spectra, *_ = planted(shape=(7, 5))
    spectra = spectra.reshape(35, -1)
    spectra[:, 3] = 0
    scores = spectra @ np.linalg.svd(spectra, full_matrices=False)[2].T

    for endmembers in first_endmembers(spectra, scores, 3, seed=0).values():
        assert endmembers.shape == (3, N_CHANNELS)
        assert endmembers.min() > 0
        np.testing.assert_allclose(endmembers.sum(axis=1), 1)


def test_abundances_of_known_endmembers_are_found():
    spectra, endmembers, abundances, *_ = planted(shape=(7, 5))

    found = factorise(spectra.reshape(35, -1).astype(np.float32), endmembers, 2000, fixed=True)[0]

    np.testing.assert_allclose(found, abundances.reshape(35, 3), atol=0.01)
