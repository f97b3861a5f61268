"""Non-negative factors: amounts and angles against independent answers, and when they are preferred."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import nnls

from hyperspy_specml.decompose import _factors
from hyperspy_specml.decompose._endmembers import factorise
from hyperspy_specml.decompose._factors import (
    _best_scores,
    angle_between,
    factorise_apart,
    fit_factors,
    on_all_counts,
    prefer_factors,
)
from hyperspy_specml.models import FactorModel
from hyperspy_specml.models._factors import nearest_amounts
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import USED
from hyperspy_specml.streaming import SpectrumStream

RNG = np.random.default_rng


def test_amounts_are_those_of_the_smallest_squared_error_that_are_not_negative():
    rng = RNG(0)
    seen = rng.random((4, 7))
    scores = np.vstack([rng.normal(size=(23, 7)), -seen, np.zeros((1, 7)), np.full((1, 7), np.nan)])

    found = nearest_amounts(scores, seen)

    expected = [nnls(seen.T, row)[0] for row in scores[:-1]]
    np.testing.assert_allclose(found[:-1], expected, atol=1e-3)
    assert np.isnan(found[-1]).all()


def test_angles_are_between_the_spectra_that_belong_together():
    one = np.eye(3)
    turned = np.array([[0, 0, 2.0], [np.cos(0.3), np.sin(0.3), 0], [0, 5, 0]])

    assert angle_between(one, turned) == pytest.approx(0.1)


def planted(shape=(31, 17), counts=400.0):
    rng, channels = RNG(2), np.arange(29)
    endmembers = 0.02 + np.exp(-0.5 * ((channels - np.array([[6], [14], [22]])) / 2) ** 2)
    endmembers /= endmembers.sum(axis=1, keepdims=True)
    shares = rng.dirichlet(np.full(3, 0.3), shape)
    intensity = counts * rng.uniform(0.5, 1.5, shape)
    return endmembers, shares, intensity, rng.poisson(intensity[..., None] * (shares @ endmembers)).astype(np.uint16)


def test_factors_of_phases_that_are_pure_somewhere_are_found_with_abundances_and_intensities():
    endmembers, shares, intensity, counts = planted()
    data = prepare(SpectrumStream(counts), Run(), n_needed=3)

    model = on_all_counts(data, fit_factors(data, 3, seed=0))

    found = model.encode(counts.reshape(-1, 29))
    order = np.argmax(model.components() @ endmembers.T, axis=0)
    assert np.degrees(angle_between(model.components(), endmembers)) < 3  # they are 60 to 90 degrees apart
    assert np.sqrt(np.mean((found[:, order] - shares.reshape(-1, 3)) ** 2)) < 0.05
    np.testing.assert_allclose(found[:, 3].mean(), intensity.mean(), rtol=0.01)
    np.testing.assert_allclose(found[:, :3].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.decode(found).mean(axis=0), counts.reshape(-1, 29).mean(axis=0), rtol=0.05)


def test_the_test_fold_chooses_no_factor():
    data = prepare(SpectrumStream(planted()[-1]), Run(), n_needed=3)
    one = fit_factors(data, 3, seed=0).components()
    data.folds.test[:] = data.folds.test[::-1].copy()

    np.testing.assert_array_equal(fit_factors(data, 3, seed=0).components(), one)


def spectra(angle):
    """Return two endmembers, the first turned by an angle."""
    return np.array([[np.cos(angle), np.sin(angle), 0], [0, 0, 1.0]])


def test_a_prior_keeps_channels_from_becoming_zero_by_chance_and_hardly_changes_angles():
    channel, rng = np.arange(60), RNG(0)
    truth = np.array([0.02 + np.exp(-0.5 * ((channel - centre) / 2) ** 2) for centre in (15, 25, 40)])
    truth /= truth.sum(axis=1, keepdims=True)
    counts = rng.poisson(100 * rng.dirichlet(np.ones(3), 600) @ truth).astype(np.float32)
    priors = (0.0, 0.01 * counts.sum() / truth.size)
    free, drawn = (factorise(counts, 0.7 * truth + 0.1, 400, prior=prior)[1].astype(float) for prior in priors)
    assert free.min() < 1e-6
    assert drawn.min() > 0.3 * truth.min()
    assert angle_between(drawn, truth) < 1.2 * angle_between(free, truth)


def impure(n_channels=400, shape=(19, 23), counts=120.0):
    """Return endmembers of three lines each, and few counts of mixtures in which no phase is pure."""
    rng, channel = RNG(0), np.arange(n_channels)
    lines = np.exp(-0.5 * ((channel - rng.uniform(0.05, 0.95, (3, 3, 1)) * n_channels) / 6) ** 2)
    endmembers = 0.02 + lines.sum(axis=1)
    endmembers /= endmembers.sum(axis=1, keepdims=True)
    shares = 0.13 + 0.61 * rng.dirichlet(np.full(3, 0.3), shape)
    return endmembers, rng.poisson(counts * shares @ endmembers).astype(np.uint16)


def test_phases_that_are_nowhere_pure_are_nearer_where_no_spectrum_is_judged_by_its_own_counts():
    endmembers, counts = impure()
    data = prepare(SpectrumStream(counts), Run(), n_needed=3)
    used = data.summary.channel_state == USED
    spectra, truth = counts.reshape(-1, 400)[:, used].astype(np.float32), endmembers[:, used]

    found = on_all_counts(data, fit_factors(data, 3, seed=0)).components()

    by_its_own_counts = factorise(spectra, found, 400, prior=0.01 * spectra.sum() / truth.size)[1].astype(float)
    assert angle_between(found, truth) < 0.85 * angle_between(by_its_own_counts, truth)


def test_with_many_counts_it_does_not_matter_which_spectra_judge():
    endmembers, _, _, counts = planted(counts=1e6)
    spectra = counts.reshape(-1, 29).astype(np.float32)

    apart, joint = (found(spectra, endmembers, 30, prior=0.0) for found in (factorise_apart, factorise))

    np.testing.assert_allclose(apart[0], joint[0], atol=2e-3)
    np.testing.assert_allclose(apart[1], joint[1], rtol=2e-2, atol=1e-4)


def test_a_layer_along_a_scan_axis_is_found():
    endmembers = planted()[0]
    shares = np.zeros((48, 32, 3))
    shares[..., :16, 0] = shares[..., 16:, 1] = 1
    shares[:, 16] = 0, 0, 1  # one column of the scan
    counts = RNG(0).poisson(300 * shares @ endmembers).astype(np.float32).reshape(-1, 29)

    found = factorise_apart(counts, 0.8 * endmembers + 0.2 * endmembers.mean(axis=0), 200, 0.01 * counts.sum() / 87)

    assert np.degrees(angle_between(found[1].astype(float), endmembers)) < 3
    assert found[0].reshape(48, 32, 3)[:, 16, 2].mean() > 0.9


def drawn_to_mean(phases, prior):
    """Return the endmembers of pixels whose phase is known, with a part of their counts drawn to the mean."""
    mean, added = phases.sum(axis=0) / phases.sum(), prior * phases.sum() / phases.size
    found = (phases + added) / (phases.sum(axis=1, keepdims=True) + added / mean)
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [(0.0, 0.0), (0.03, 0.03), (0.1, 0.1), (1.0, 0.1)],  # the last one is beyond what is tried
)
def test_factors_are_compared_with_as_much_of_the_mean_as_predicts_best(wanted, nearest):
    counts = np.zeros((8, 7))
    counts[:5, :4], counts[5:, 4:] = RNG(3).poisson(9, (5, 4)), RNG(4).poisson(9, (3, 3))  # no channel in common
    phases = np.array([counts[:5].sum(axis=0), counts[5:].sum(axis=0)])
    parts = [0.7 * share * counts for share in (0.4, 0.3, 0.2, 0.1)]

    def scores_of(endmembers):
        return np.square(endmembers - drawn_to_mean(phases, wanted)).sum(axis=0)

    data = SimpleNamespace(
        folds=SimpleNamespace(parts=parts),
        fold_scores=np.zeros((8, 2)),
        fold_basis=None,
        scores_of=lambda model: scores_of(model.endmembers),
    )

    found = _best_scores(data, FactorModel(None, drawn_to_mean(phases, 0.0)))  # type: ignore[arg-type]

    np.testing.assert_allclose(found, scores_of(drawn_to_mean(phases, nearest)), rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(
    ("better", "own", "rival", "expected"),
    [
        (0.5, 0.3, 0.1, True),  # held-out counts decide
        (-0.5, 0.1, 0.3, False),
        (0.0, 0.1, 0.3, True),  # a tie: what repeats
        (0.0, 0.3, 0.1, False),
    ],
)
def test_held_out_counts_choose_and_ties_go_to_what_repeats(monkeypatch, better, own, rival, expected):
    factors, other = FactorModel(None, spectra(0.0)), FactorModel(None, spectra(0.2))  # type: ignore[arg-type]
    noise = RNG(1).normal(size=99)

    def scores_of(model):
        return noise - better if model is factors else noise + 0.01 * RNG(2).normal(size=99)

    data = SimpleNamespace(scores_of=scores_of, turned=lambda part: part)
    monkeypatch.setattr(_factors, "_best_scores", lambda data, model: data.scores_of(model))
    monkeypatch.setattr(_factors, "fit_factors", lambda part, k, seed: FactorModel(None, spectra(own * part)))  # type: ignore[arg-type]

    def brief(part):
        return FactorModel(None, spectra(rival * part))  # type: ignore[arg-type]

    assert prefer_factors(data, factors, other, brief, 0) is expected  # type: ignore[arg-type]
