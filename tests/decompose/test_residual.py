"""What a model leaves in many places asks for another component; what is in one place does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hyperspy_specml.decompose import PCA, decompose
from hyperspy_specml.decompose._architecture import Fit
from hyperspy_specml.decompose._residual import Residual, add_components
from hyperspy_specml.models import Attempt, LinearModel
from hyperspy_specml.prepare import prepare
from hyperspy_specml.run import Run
from hyperspy_specml.statistics import RankCurve, paired
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


def residual_of(counts, **options):
    data = prepare(SpectrumStream(counts), Run(), n_needed=3)
    return Residual(data, counts.shape[:-1], **options), [
        Fit(LinearModel(data.fold_basis.first(k)), lambda: None) for k in (1, 2)
    ]


def test_a_phase_in_many_places_is_coherent_in_what_one_component_leaves_and_not_in_what_two_leave():
    residual, (one, two) = residual_of(counts_of(0.25))

    assert max(residual.coherent(one)) >= residual.many()
    assert not any(residual.coherent(two))


def test_the_test_fold_chooses_nothing():
    residual, (one, _) = residual_of(counts_of(0.25))
    folds = residual.data.folds
    other = dataclasses.replace(residual.data, folds=dataclasses.replace(folds, test=folds.test[::-1].copy()))

    assert Residual(other, SHAPE).coherent(one) == residual.coherent(one)


@pytest.mark.parametrize("share", [0.0, 2 / 72])
def test_noise_and_single_particles_ask_for_no_component(share):
    residual, (one, _) = residual_of(counts_of(share, height=1.5))

    assert max(residual.coherent(one)) < residual.many()
    assert any(residual.coherent(one)) == (share > 0)


@dataclasses.dataclass
class Known:
    """Predicts what it was told, in slices of the spectra as they come."""

    spectra: np.ndarray
    n_components: int = 1
    row: int = 0

    def predict(self, scores):
        start = self.row % len(self.spectra)
        self.row = start + len(scores)
        return self.spectra[start : self.row].astype(np.float32)


def known(spectra):
    return Fit(Known(spectra.reshape(-1, spectra.shape[-1])), lambda: None)


def large_areas(strength):
    """Expected counts of 48 x 44 pixels: 4 in a line that is stronger and weaker by this share in 12 x 11 squares."""
    sign = np.kron((-1.0) ** np.add.outer(np.arange(4), np.arange(4)), np.ones((12, 11)))
    return 0.1 + 2 * peak(30)[None, None] + 0.6 * peak(70) * (1 + strength * sign[..., None])


def test_a_weak_contrast_of_large_areas_is_seen_in_large_blocks_of_most_counts_and_not_where_it_is_described():
    truth = large_areas(0.25)
    counts = np.random.default_rng(0).poisson(truth).astype(np.uint8)
    weak, _ = residual_of(counts)
    plain, _ = residual_of(counts, weak=False)
    flat = known(np.broadcast_to(truth.mean(axis=(0, 1)), truth.shape))

    assert max(weak.coherent(flat)) >= weak.many()
    assert max(plain.coherent(flat)) < plain.many()
    assert sum(weak.coherent(known(truth))) <= 1  # .05 are expected for each size


def test_noise_that_is_correlated_along_energy_is_not_taken_for_what_a_model_leaves():
    truth = np.broadcast_to(20 + 40 * peak(30, 4), (40, 36, N_CHANNELS))
    white = np.random.default_rng(1).normal(0, 1, (*truth.shape[:2], N_CHANNELS + 2))
    noise = (white[..., :-2] + 2 * white[..., 1:-1] + white[..., 2:]) / np.sqrt(6)  # lags .667 and .167
    data = prepare(SpectrumStream((truth + noise).astype(np.float32)), Run(), n_needed=3)

    assert data.hold_out != "none"
    assert max(data.folds.noise.correlation[1:]) > 0.5
    assert sum(Residual(data, truth.shape[:2]).coherent(known(truth))) <= 1


def test_components_are_added_to_a_fit_until_nothing_is_left_and_not_beyond_the_most():
    residual, (one, _) = residual_of(counts_of(0.25))

    assert add_components(PCA(), residual, one, 12, Run()).fold_model.n_components == 2
    assert add_components(PCA(), residual, one, 1, Run()) is one


CURVE = RankCurve(np.array([1, 2, 3]), np.array([5.0, 5.01, 5.2]), np.array([0, 0.02, 0.1]), 1, "held-out counts")


@dataclasses.dataclass(frozen=True)
class Counting(PCA):
    """PCA that notes what it is asked for, and perhaps says that its training collapsed."""

    asked: list = dataclasses.field(default_factory=list)
    collapsed: str = ""

    def fit(self, data, n_components, run):
        self.asked.append(n_components)
        fit = super().fit(data, n_components, run)
        return dataclasses.replace(fit, attempts=(Attempt("seed 0", 5.0, self.collapsed),))


@pytest.mark.parametrize(
    ("share", "collapsed", "chosen"),
    [(0.25, "", 2), (0.0, "", 1), (0.25, "component 1 explains nothing", 2)],
    ids=["better in full", "not better", "better, though one training says it is not"],
)
def test_numbers_that_brief_trainings_cannot_tell_apart_are_trained_in_full(share, collapsed, chosen):
    residual, (one, _) = residual_of(counts_of(share))
    architecture = Counting(collapsed=collapsed)

    fit = add_components(architecture, residual, one, 12, Run(), CURVE)

    assert fit.fold_model.n_components == chosen
    assert architecture.asked == [2]  # 3 is worse by two standard errors


class Luckless(PCA):
    """Its trainings end a little worse than they should: by two or three standard errors."""

    def fit(self, data, n_components, run):
        model = LinearModel(data.fold_basis.first(n_components))
        bad = dataclasses.replace(model.basis, offset=model.basis.offset + 0.05 * (model.basis.offset == 0))
        return Fit(LinearModel(bad), lambda: None)


def test_where_brief_trainings_tell_no_difference_what_is_left_decides_and_not_the_luck_of_one_training():
    residual, (one, _) = residual_of(counts_of(0.25, height=0.35))
    pair = paired(*(residual.data.scores_of(f.fold_model) for f in (Luckless().fit(residual.data, 2, Run()), one)))
    assert pair.difference > pair.standard_error
    assert max(residual.coherent(one)) >= residual.many()

    assert add_components(Luckless(), residual, one, 12, Run()) is one
    assert add_components(Luckless(), residual, one, 12, Run(), CURVE).fold_model.n_components == 2


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
