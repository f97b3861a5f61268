"""The noise of measured maps: the model that is chosen, and whether folds split with it are independent."""

from __future__ import annotations

import warnings

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.statistics import (
    TRAIN,
    Moments,
    estimate_noise,
    fold_correlation,
    make_folds,
    moments_of,
    principal_basis,
    rank_curve,
    summarise_map,
)
from hyperspy_specml.streaming import SpectrumStream

pytestmark = pytest.mark.realdata


@pytest.fixture
def sample(data_folder):
    def load(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the readers
            found = hs.load(data_folder / name)
        signal = found[-1] if isinstance(found, list) else found  # a file may begin with images
        return summarise_map(SpectrumStream(np.asarray(signal.data)))

    return load


def correlation_of_halves(summary, estimate):
    """Return what the prepared of a map computes: rank by the validation fold, then its residuals."""
    folds = make_folds(summary.sample, summary.sample_pixels, estimate.model, seed=0, mean=estimate.mean)
    train = moments_of(folds.train(slice(None)))
    moments = Moments(train.n, train.sums / TRAIN, train.products / TRAIN**2)
    basis = principal_basis(moments, estimate.model, n_vectors=16)
    parts = [basis.project(part) for part in folds.parts]
    basis = basis.first(rank_curve(folds, basis, sum(parts) / np.float32(TRAIN)).chosen)
    halves = [sum(half)[:, : basis.n_vectors] / np.float32(TRAIN / 2) for half in (parts[:2], parts[2:])]
    return fold_correlation(folds, *[basis.spectra(half).__getitem__ for half in halves])


@pytest.mark.parametrize(
    "name",
    [
        "espm/88_ES-LP_G8_selection2_cropped2.hspy",
        "usnist-tutorial/bare_core.hspy",
        "rosettasciio/test_TEM.bcf",
        "eels-unmix/oxide_interface_d1000.hspy",
    ],
)
def test_counts_are_poisson_and_split_exactly(name, sample):
    summary = sample(name)
    estimate = estimate_noise(summary.sample, minimum=summary.minimum)

    assert estimate.model.name == "poisson"
    assert estimate.fano == pytest.approx(1, abs=0.03)
    assert abs(correlation_of_halves(summary, estimate)) < 0.01


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("pangroup/Example_BTO_deleted.dm4", "poisson-gaussian"),
        ("lumispy/nanoparticles.hspy", "gaussian"),
        ("ramanspy/THP1_map_001_L5.hspy", "poisson-gaussian"),
    ],
)
def test_other_maps_are_not_poisson_and_their_split_holds(name, model, sample):
    summary = sample(name)
    estimate = estimate_noise(summary.sample, minimum=summary.minimum)

    assert estimate.model.name == model
    assert abs(correlation_of_halves(summary, estimate)) < 0.03


def test_a_map_without_noise_is_known_to_have_no_valid_split(sample):
    summary = sample("motokishiga/mn3o4_f2.hspy")
    estimate = estimate_noise(summary.sample, minimum=summary.minimum)

    assert estimate.model.name == "gaussian"
    assert estimate.model.readout < 1e-6 * summary.sample.max()
    assert correlation_of_halves(summary, estimate) < -0.5  # less noise than even rounding would make
