"""Training data: bases and scores of the folds know the training counts alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hyperspy_specml.exceptions import NegativeCountsError, TooFewSpectraError
from hyperspy_specml.prepare import prepare, smooth_basis
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import principal_basis
from hyperspy_specml.streaming import SpectrumStream


def planted(dose=4.0, shape=(20, 18), n_channels=60, width=3.0):
    rng = np.random.default_rng(0)
    peaks = np.exp(-0.5 * ((np.arange(n_channels) - np.array([[15], [30], [45]])) / width) ** 2)
    return rng.poisson(dose * (0.1 + rng.dirichlet(np.ones(3), size=shape) @ peaks)).astype(np.uint16)


@pytest.fixture(scope="module")
def prepared():
    return prepare(SpectrumStream(planted()), Run(), n_needed=3)


def basis_of(prepared, train):
    """Return the three first principal vectors of a training fold, on the scale of the whole data."""
    moments = dataclasses.replace(
        prepared.summary.moments, n=len(train), sums=train.sum(axis=0), products=train.T @ train
    )
    return principal_basis(moments, prepared.estimate.model, n_vectors=3)


def test_the_basis_of_the_folds_comes_from_the_training_counts_alone(prepared):
    train = sum(part.astype(np.float64) for part in prepared.folds.parts) / 0.7
    expected = basis_of(prepared, train)

    np.testing.assert_allclose(prepared.fold_basis.first(3).vectors, expected.vectors, atol=1e-7)
    np.testing.assert_allclose(prepared.fold_scores[:, :3], expected.project(train), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("part", [0, 3])
def test_with_a_part_in_the_place_of_the_validation_fold_it_knows_the_others_alone(prepared, part):
    other = prepared.turned(part)
    assert (other.folds.validation == prepared.folds.parts[part]).all()
    assert (other.folds.test == prepared.folds.test).all()

    train = sum(values.astype(np.float64) for values in other.folds.parts) / 0.675
    assert train.sum() == pytest.approx(prepared.summary.sample.sum(), rel=0.02)
    expected = basis_of(prepared, train)
    np.testing.assert_allclose(other.fold_basis.first(3).vectors, expected.vectors, atol=1e-7)
    np.testing.assert_allclose(other.fold_scores[:, :3], expected.project(train), rtol=1e-4, atol=1e-3)


def test_the_parts_of_all_counts_sum_to_the_scores_of_the_data(prepared):
    scores = prepared.aligned.project(prepared.summary.sample)

    np.testing.assert_allclose(prepared.parts.sum(axis=1), scores, rtol=1e-3, atol=2e-3)


def test_about_the_mean_too_each_part_carries_its_share_of_it():
    prepared = prepare(SpectrumStream(planted()), Run(), n_needed=3, centre=True)

    assert prepared.centre
    scores = prepared.aligned.project(prepared.summary.sample)
    np.testing.assert_allclose(prepared.parts.sum(axis=1), scores, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-3)


def test_the_aligned_basis_spans_the_space_of_the_basis_of_all_counts(prepared):
    a, b = prepared.basis.vectors, prepared.aligned.vectors

    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-9)


def test_all_noise_of_counts_is_proportional_to_the_intensity(prepared):
    assert prepared.shot == 1


def test_every_count_of_the_sample_is_in_one_fold(prepared):
    folds = prepared.folds

    assert (sum(folds.parts) + folds.validation + folds.test == prepared.summary.sample).all()
    assert prepared.hold_out == "exact"


@pytest.mark.parametrize(("dose", "width", "smooth"), [(1.0, 6.0, True), (400.0, 0.3, False)])
def test_a_basis_is_made_smooth_where_noise_hides_broad_peaks_and_never_where_lines_are_sharp(dose, width, smooth):
    prepared = prepare(SpectrumStream(planted(dose, (40, 30), width=width)), Run(), n_needed=3)

    found = smooth_basis(prepared, 3)

    assert (found.smoothing > 0) == smooth
    assert (found is prepared) == (not smooth)
    if smooth:
        expected = prepared.fold_basis.n_vectors
        assert found.fold_basis.n_vectors == found.basis.n_vectors == expected
        roughness = [np.abs(np.diff(b.vectors[:, :3], 2, axis=0)).sum() for b in (found.basis, prepared.basis)]
        assert roughness[0] < roughness[1]
        none = dataclasses.replace(prepared, hold_out="none")
        assert smooth_basis(none, 3) is none  # nothing valid is held out that could choose


def test_a_noise_model_that_does_not_hold_is_noticed_and_the_rank_chosen_in_another_way(caplog):
    # Whole numbers, but of three times the variance of counts, in more channels than a basis has vectors.
    values = 3 * planted(50.0, n_channels=300)

    prepared = prepare(SpectrumStream(values), Run(), noise="poisson")

    assert prepared.hold_out == "none"
    assert prepared.rank.method != "held-out counts"
    assert "noise model does not hold" in caplog.text


def test_without_counts_it_knows_the_rest_as_before(prepared):
    bare = prepared.without_counts()

    assert bare.summary.sample.size == bare.fold_parts.size == 0
    assert bare.edge == prepared.edge
    assert bare.rank is prepared.rank
    assert bare.basis is prepared.basis


def test_negative_values_are_no_counts():
    values = planted().astype(np.float32)
    values[3, 4, 5] = -7

    with pytest.raises(NegativeCountsError, match=r"the smallest value is -7\. Use noise='auto'"):
        prepare(SpectrumStream(values), Run(), noise="poisson")


@pytest.mark.parametrize(
    ("shape", "n_needed", "message"),
    [
        ((3, 11), 1, r"1 component needs at least 4 spectra and 2 channels .* there are 3 and 11 "),
        ((7, 5), 5, r"5 components need at least 6 spectra and 6 channels .* there are 7 and 5 .*ask for fewer"),
    ],
)
def test_too_few_spectra_or_channels_are_counted(shape, n_needed, message):
    counts = np.random.default_rng(0).poisson(9, shape)

    with pytest.raises(TooFewSpectraError, match=message):
        prepare(SpectrumStream(counts), Run(), n_needed=n_needed)
