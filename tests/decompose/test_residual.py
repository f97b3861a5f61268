"""What a model leaves in many places asks for another component; what is in one place does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hyperspy_specml.decompose import PCA, decompose
from hyperspy_specml.decompose._architecture import Fit
from hyperspy_specml.decompose._residual import Residual, add_components
from hyperspy_specml.models import LinearModel
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import Run
from hyperspy_specml.streaming import SpectrumStream

SHAPE, N_CHANNELS = (24, 28), 96


def peak(centre, width=2.5):
    return np.exp(-0.5 * ((np.arange(N_CHANNELS) - centre) / width) ** 2)


def counts_of(share, *, height=1.2, seed=3):
    """A map of one phase, whose spectrum has a further line in a share of its 3 x 3 squares, drawn at random."""
    rng = np.random.default_rng(seed)
    squares = rng.permutation(np.arange(72) < round(72 * share)).reshape(8, 9)
    there = np.kron(squares, np.ones((3, 3)))[: SHAPE[0], : SHAPE[1]]
    there = np.pad(there, ((0, 0), (0, SHAPE[1] - there.shape[1])))
    mean = 0.4 + 3 * peak(25) + 2 * peak(50) + there[..., None] * height * 3 * peak(75)
    return rng.poisson(mean).astype(np.uint8)


def residual_of(counts):
    data = prepare(SpectrumStream(counts), Run(), n_needed=3)
    return Residual(data, SHAPE), [Fit(LinearModel(data.fold_basis.first(k)), lambda: None) for k in (1, 2)]


def test_a_phase_in_many_places_is_coherent_in_what_one_component_leaves_and_not_in_what_two_leave():
    residual, (one, two) = residual_of(counts_of(0.25))

    assert residual.coherent(one) >= residual.many()
    assert residual.coherent(two) == 0


def test_the_test_fold_chooses_nothing():
    residual, (one, _) = residual_of(counts_of(0.25))
    folds = residual.data.folds
    other = dataclasses.replace(residual.data, folds=dataclasses.replace(folds, test=folds.test[::-1].copy()))

    assert Residual(other, SHAPE).coherent(one) == residual.coherent(one)


@pytest.mark.parametrize("share", [0.0, 2 / 72])
def test_noise_and_single_particles_ask_for_no_component(share):
    residual, (one, _) = residual_of(counts_of(share, height=1.5))

    assert residual.coherent(one) < residual.many()
    assert (residual.coherent(one) > 0) == (share > 0)


def test_components_are_added_to_a_fit_until_nothing_is_left_and_not_beyond_the_most():
    residual, (one, _) = residual_of(counts_of(0.25))

    assert add_components(PCA(), residual, one, 12, Run()).fold_model.n_components == 2
    assert add_components(PCA(), residual, one, 1, Run()) is one


class Useless(PCA):
    """The second component is the last vector of the basis, which explains nothing."""

    def fit(self, data, n_components, run):
        first, basis = [0, -1][:n_components], data.fold_basis
        assert n_components <= 2, "another component was added although the last one left as much"
        return Fit(LinearModel(dataclasses.replace(basis.first(2), vectors=basis.vectors[:, first])), lambda: None)


def test_no_component_is_added_that_explains_nothing_of_what_is_left():
    residual, (one, _) = residual_of(counts_of(0.25))

    assert add_components(Useless(), residual, one, 12, Run()) is one


def test_the_report_says_how_many_were_added():
    found = decompose(SpectrumStream(counts_of(0.25)), architecture="pca")

    assert found.report.n_components == 2
    assert found.report.n_added == 2 - found.report.rank.chosen
