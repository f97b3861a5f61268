"""An autoencoder as the model of what is normal: trained for pixels, judged by sums over patches."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.anomaly._autoencoder import _split, _sums_score, _training, try_network
from hyperspy_specml.datasets import RarePhase, ShiftedEdge, fe_cr_ni_map, fe_l_map
from hyperspy_specml.exceptions import OptionError, TrainingDivergedError
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise

ENERGY, N_PIXELS = np.arange(60), 9
BRIEF = TrainConfig(max_steps=600)
CONFIG = TrainConfig()


def peak(at, width=5.0):
    return np.exp(-0.5 * ((ENERGY - np.asarray(at)[..., None]) / width) ** 2)


def curved(n=600, dose=60.0):
    """Expected pixels whose one peak wanders: a line of shapes that takes many components."""
    at = np.random.default_rng(0).uniform(20, 40, n)
    return dose * (0.1 + peak(at))


def mixed(n=600, dose=2000.0):
    """Expected pixels that are mixtures of two spectra, in any amounts: two components are all there is."""
    amounts = dose * np.random.default_rng(0).uniform(0.3, 1.0, (n, 2))
    return amounts @ (0.1 + np.stack([peak(20), peak(40)]))


def tried(expected, n_components, config=BRIEF, noise=None, **options):
    rng = np.random.default_rng(1)
    if noise is None:
        rows = rng.poisson(N_PIXELS * expected).astype(np.float32)
    else:
        rows = (N_PIXELS * expected + noise.readout * rng.standard_normal(expected.shape)).astype(np.float32)
    return try_network(
        rows, N_PIXELS, noise or PoissonNoise(), n_components, 0.0, config, **({"seed": 0} | options)
    )


@pytest.mark.parametrize("noise", [None, PoissonGaussianNoise(0.0, 20.0)])
def test_curved_families_are_better_described_by_the_network(noise):
    found = tried(curved(), 2, CONFIG, noise)

    assert found.better
    assert found.score.difference < -10 * found.score.standard_error


def test_mixtures_are_not():
    found = tried(mixed(), 2, CONFIG)

    assert not found.better
    assert abs(found.score.difference) < 0.1  # of 60


def test_it_describes_pixels_without_losing_counts_of_their_sums():
    """Trained on the sums themselves it would never have met anything as faint, and as noisy, as a pixel."""
    expected = curved()
    model = tried(expected, 2, CONFIG).model
    pixels = np.random.default_rng(2).poisson(expected[:200, None], (200, N_PIXELS, 60)).astype(np.float32)

    sums = model.decode(model.encode(pixels.reshape(-1, 60))).reshape(pixels.shape).sum(axis=1)

    residual = (sums - N_PIXELS * expected[:200]) / np.sqrt(N_PIXELS * expected[:200])
    assert np.sqrt(np.mean(residual**2)) < 0.6  # noise is 1
    assert abs(residual.mean()) < 0.05


def test_targets_share_no_noise_with_inputs():
    rows = np.random.default_rng(1).poisson(N_PIXELS * np.full((4000, 60), 2.0)).astype(np.float32)
    noise = np.random.default_rng(2).standard_normal((4000, 6, 4)).astype(np.float32)
    axes = tried(curved(50), 1, TrainConfig(max_steps=1)).model.basis

    draws = _training(noise, axes, PoissonNoise(), rows, 1).draws

    products = (draws.inputs[:, 0] * draws.target).mean(axis=0)
    np.testing.assert_allclose(products, 0, atol=0.02)
    target = draws.target.reshape(noise.shape)[:, 2]
    np.testing.assert_allclose(target, noise[:, [0, 1, 3, 4, 5]].mean(axis=1), atol=1e-5)


def test_the_score_is_that_of_sums_of_what_is_said_of_each_part():
    rows = np.random.default_rng(1).poisson(N_PIXELS * curved(50)).astype(np.float32)
    model = tried(curved(50), 2).model
    parts, folds = _split(rows, model.basis, PoissonNoise(), 6, seed=0)
    inputs = np.stack([model.basis.project(part / 1.05) for part in parts], axis=1)

    scores = _sums_score(folds, "test", model, inputs, N_PIXELS)

    np.testing.assert_array_equal(sum(parts) + folds.validation + folds.test, rows)
    for i in (0, 17, 49):
        expected = 0.15 * N_PIXELS * sum(model.predict(inputs[i, [k]])[0] for k in range(6)) / 6
        counts = folds.test[i].astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            term = np.where(counts > 0, counts * np.log(counts / expected), 0) - counts + expected
        assert scores[i] == pytest.approx(2 * term.sum(), rel=1e-3)


def test_before_it_has_learnt_anything_it_is_pca():
    found = tried(mixed(), 2, TrainConfig(max_steps=1, learning_rate=1e-12))

    assert found.score.difference == pytest.approx(0, abs=1e-3)
    assert not found.better


def test_the_same_seed_gives_the_same_network():
    one, again, other = (tried(curved(200), 2, seed=seed) for seed in (3, 3, 4))

    assert one.score == again.score
    assert one.score != other.score


SHAPE = (29, 37)


@pytest.fixture(scope="module")
def rare():
    return fe_cr_ni_map(SHAPE, n_channels=257, dose=400, rare_phase=RarePhase(12, 0.6), random_state=2)


def search(signal, **options):
    return signal.anomaly_map(show_progressbar=False, **{"config": BRIEF} | options)


@pytest.fixture(scope="module")
def dense(rare):
    return search(rare.signal, architecture="dense")


def test_the_planted_phase_is_found_with_a_network_too(rare, dense):
    (region,) = dense.regions

    hit = np.zeros(SHAPE, bool)
    for x, y in region.pixels:
        hit[y, x] = True
    planted = rare.rare_mask.data
    assert (hit & planted).sum() >= 0.8 * planted.sum()
    assert hit.sum() <= 2 * planted.sum()
    assert dense.report["model"] == "dense"
    assert dense.report["autoencoder"]["standard_error"] >= 0
    assert not dense.report["autoencoder"]["better"]
    assert "Nb" in [candidate.element for candidate in region.candidates[:3]]


def test_where_the_network_is_not_better_pca_stays(rare):
    plain, chosen = search(rare.signal), search(rare.signal, architecture="auto")

    assert chosen.report["model"] == "pca"
    assert chosen.report["autoencoder"]["over_pca"] > -2 * chosen.report["autoencoder"]["standard_error"]
    assert plain.report["autoencoder"] is None
    np.testing.assert_array_equal(chosen.score.data, plain.score.data)


def test_where_it_is_better_it_is_taken():
    edges = fe_l_map((48, 48), n_channels=200, dose=60, random_state=0)

    found = search(edges.signal, architecture="auto", drift=False, output_dimension=2)

    assert found.report["autoencoder"]["over_pca"] < -2 * found.report["autoencoder"]["standard_error"]
    assert found.report["model"] == "dense"
    assert found.regions == ()
    assert (found.p_value.data < 0.001).mean() < 0.003


def test_an_edge_that_lies_elsewhere_than_all_others_is_found_with_a_network():
    edges = fe_l_map((48, 48), n_channels=300, dose=60, rare_phase=ShiftedEdge(16, 4.0), random_state=0)

    found = search(edges.signal, architecture="dense")

    assert edges.rare_mask.data[tuple(found.regions[0].pixels[0][::-1])]


def test_lazy_is_eager_and_the_file_is_read_four_times(rare, dense, counted):
    file = counted(rare.signal.data)
    lazy = rare.signal._deepcopy_with_new_data(file.dask((8, 37, 257))).as_lazy()
    cut = rare.signal._deepcopy_with_new_data(da.from_array(rare.signal.data, chunks=(9, 7, 100))).as_lazy()

    for again in (search(lazy, architecture="dense"), search(cut, architecture="dense")):
        np.testing.assert_allclose(again.score.data, dense.score.data, rtol=1e-3, atol=1e-3)
    assert file.reads.mean() <= 4.3  # the spectra of a region are read once more


def test_what_known_spectra_need_is_a_linear_model(rare, dense):
    with pytest.raises(OptionError, match=r"linear model, not to a network\. Use architecture='pca'"):
        search(rare.signal, architecture="dense", known=dense.spectra)
    assert search(rare.signal, architecture="auto", known=dense.spectra).regions == ()


def test_unknown_architectures_are_refused(rare):
    with pytest.raises(OptionError, match="'dense'"):
        search(rare.signal, architecture="simplex")


@pytest.mark.parametrize("given", [{"architecture": "auto"}, {"output_dimension": 3}, {"noise": "poisson"}])
def test_a_model_has_its_own(rare, given):
    model = rare.signal.decomposition_ae(3, architecture="pca", show_progressbar=False).model
    (name,) = given

    with pytest.raises(OptionError, match=f"the model has its own {name}"):
        search(rare.signal, model=model, **given)


def test_a_training_that_diverges_says_so_or_leaves_pca(rare):
    wild = TrainConfig(learning_rate=1e6)

    with pytest.raises(TrainingDivergedError, match=r"anomaly_map\(architecture='dense'\).*learning_rate"):
        search(rare.signal, architecture="dense", config=wild)
    assert search(rare.signal, architecture="auto", config=wild).report["autoencoder"] is None
