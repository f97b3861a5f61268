"""An autoencoder as the reference model: trained for pixels, scored on sums over patches."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.anomaly._components import ComponentChoice, _normalised, _split, _sums, try_network
from hyperspy_specml.datasets import RarePhase, ShiftedEdge, fe_cr_ni_map, fe_l_map
from hyperspy_specml.decompose import DenseOptions, SimplexOptions, choose_architecture
from hyperspy_specml.exceptions import Cancelled, OptionError, TrainingDivergedError
from hyperspy_specml.progress import Progress
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise

ENERGY, N_PIXELS = np.arange(60), 9
pytestmark = pytest.mark.usefixtures("few_drawn_pixels")
BRIEF = TrainConfig(max_steps=300)
CONFIG = TrainConfig(max_steps=800, extension=0.0)


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


def tried(expected, n_components, config=BRIEF, noise=None, seed=0):
    rng = np.random.default_rng(1)
    if noise is None:
        rows = rng.poisson(N_PIXELS * expected).astype(np.float32)
    else:
        rows = (N_PIXELS * expected + noise.readout * rng.standard_normal(expected.shape)).astype(np.float32)
    choice, noise = ComponentChoice(None, n_components, 0.0), noise or PoissonNoise()
    return try_network(rows, N_PIXELS, noise, choice, choose_architecture("dense"), Run(config, seed))


@pytest.fixture(scope="module")
def of_curved():
    return tried(curved(), 2, CONFIG)


def test_curved_families_are_better_described_by_the_network(of_curved):
    for found in (of_curved, tried(curved(), 2, BRIEF, PoissonGaussianNoise(0.0, 20.0))):
        assert found.better
        assert found.score.difference < -10 * found.score.standard_error


def test_mixtures_are_not_better_described_by_the_network():
    found = tried(mixed(), 2, CONFIG)

    assert not found.better
    assert abs(found.score.difference) < 0.1  # of 60


def test_sums_of_described_pixels_have_the_counts_of_the_pixels(of_curved):
    """Trained on the sums themselves it would never have met anything as faint, and as noisy, as a pixel."""
    expected, model = curved(), of_curved.model
    pixels = np.random.default_rng(2).poisson(expected[:200, None], (200, N_PIXELS, 60)).astype(np.float32)

    sums = model.decode(model.encode(pixels.reshape(-1, 60))).reshape(pixels.shape).sum(axis=1)

    residual = (sums - N_PIXELS * expected[:200]) / np.sqrt(N_PIXELS * expected[:200])
    assert np.sqrt(np.mean(residual**2)) < 0.6  # noise is 1
    assert abs(residual.mean()) < 0.05


def test_targets_share_no_noise_with_inputs():
    rows = np.random.default_rng(1).poisson(N_PIXELS * np.full((4000, 60), 2.0)).astype(np.float32)
    noise = np.random.default_rng(2).standard_normal((4000, 6, 4)).astype(np.float32)
    basis = tried(curved(50), 1, TrainConfig(max_steps=1)).model.basis

    draws = _normalised(noise, basis, PoissonNoise(), rows).draws

    products = (draws.inputs[:, 0] * draws.target).mean(axis=0)
    np.testing.assert_allclose(products, 0, atol=0.02)
    target = draws.target.reshape(noise.shape)[:, 2]
    np.testing.assert_allclose(target, noise[:, [0, 1, 3, 4, 5]].mean(axis=1), atol=1e-5)


def test_patches_are_scored_by_the_sum_of_the_predictions_of_their_parts():
    rows = np.random.default_rng(1).poisson(N_PIXELS * curved(50)).astype(np.float32)
    model = tried(curved(50), 2).model
    parts, folds = _split(rows, model.basis, PoissonNoise(), 6, seed=0)
    inputs = np.stack([model.basis.project(part / 1.05) for part in parts], axis=1)

    scores = folds.score("test", _sums(model, inputs, N_PIXELS))

    np.testing.assert_array_equal(sum(parts) + folds.validation + folds.test, rows)
    for i in (0, 17, 49):
        expected = 0.15 * N_PIXELS * sum(model.predict(inputs[i, [k]])[0] for k in range(6)) / 6
        counts = folds.test[i].astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            term = np.where(counts > 0, counts * np.log(counts / expected), 0) - counts + expected
        assert scores[i] == pytest.approx(2 * term.sum(), rel=1e-3)


def test_before_it_has_learnt_anything_it_is_pca():
    found = tried(mixed(), 2, TrainConfig(max_steps=1, learning_rate=1e-12, extension=0.0))

    assert found.score.difference == pytest.approx(0, abs=1e-3)
    assert not found.better


def test_the_same_seed_gives_the_same_network():
    short = TrainConfig(max_steps=40, extension=0.0)
    one, again, other = (tried(curved(200), 2, short, seed=seed) for seed in (3, 3, 4))

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
    network, pca = dense.report.candidates
    n = dense.report.n_components
    assert (network.name, pca.name, dense.report.chosen) == (f"dense ({n})", f"pca ({n})", f"dense ({n})")
    assert network.difference == pytest.approx(network.score - pca.score)
    assert network.difference > -2 * network.standard_error
    assert "does not describe" in str(dense.report)
    assert dense.report.steps[-1] == 300
    assert "Nb" in [candidate.element for candidate in region.candidates[:3]]


def test_where_the_network_is_not_better_pca_stays(rare):
    plain = rare.signal.anomaly_map(show_progressbar=False)
    chosen = search(rare.signal, architecture="auto")

    assert (chosen.report.model, chosen.report.chosen) == ("pca", chosen.report.candidates[1].name)
    assert plain.report.candidates == ()
    np.testing.assert_array_equal(chosen.score.data, plain.score.data)


def test_where_it_is_better_it_is_taken():
    edges = fe_l_map((48, 48), n_channels=200, dose=60, random_state=0)

    found = search(edges.signal, architecture="auto", drift=False, output_dimension=2)

    assert found.report.candidates[0].difference < -2 * found.report.candidates[0].standard_error
    assert found.report.model == "dense"
    assert found.regions == ()
    assert (found.p_value.data < 0.001).mean() < 0.003


def test_an_edge_that_lies_elsewhere_than_all_others_is_found_with_a_network():
    edges = fe_l_map((48, 48), n_channels=300, dose=60, rare_phase=ShiftedEdge(16, 4.0), random_state=0)

    found = search(edges.signal, architecture="dense")

    assert edges.rare_mask.data[tuple(found.regions[0].pixels[0][::-1])]


def test_lazy_is_eager_and_the_file_is_read_four_times(rare, dense, counted, read_again):
    file = counted(rare.signal.data)
    lazy = rare.signal._deepcopy_with_new_data(file.dask((8, 37, 257))).as_lazy()
    cut = rare.signal._deepcopy_with_new_data(da.from_array(rare.signal.data, chunks=(9, 7, 100))).as_lazy()

    for again in (search(lazy, architecture="dense"), search(cut, architecture="dense")):
        np.testing.assert_allclose(again.score.data, dense.score.data, rtol=1e-3, atol=1e-3)
    assert file.reads.mean() <= 4 + read_again(again, 8)


def test_known_spectra_need_a_linear_model(rare, dense):
    with pytest.raises(OptionError, match=r"linear model, not to a network\. Use architecture='pca'"):
        search(rare.signal, architecture="dense", known=dense.spectra)
    with pytest.raises(OptionError, match="linear model, not to a network"):
        rare.signal.anomaly_map(model=dense.model, known=dense.spectra)
    assert search(rare.signal, architecture="auto", known=dense.spectra).regions == ()


def test_unknown_architectures_are_refused(rare):
    with pytest.raises(OptionError, match="'dense'"):
        search(rare.signal, architecture="simplex")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": DenseOptions()}, "PCA has no options here"),
        ({"architecture": "dense", "options": SimplexOptions()}, r"needs options=specml.DenseOptions"),
        ({"architecture": "dense", "options": DenseOptions(centre=True)}, "Leave centre=True out"),
        ({"architecture": "dense", "device": "nowhere"}, "device='nowhere' cannot be used here"),
        ({"architecture": "dense", "config": TrainConfig(restarts=2)}, "Leave restarts out"),
    ],
)
def test_arguments_that_no_training_would_use_are_refused_before_the_file_is_read(rare, counted, given, message):
    file = counted(rare.signal.data)
    lazy = rare.signal._deepcopy_with_new_data(file.dask((29, 37, 257))).as_lazy()

    with pytest.raises(OptionError, match=message):
        lazy.anomaly_map(show_progressbar=False, **given)

    assert file.reads.max() == 0


def test_a_device_without_a_training_is_named_in_the_log(rare, caplog):
    search(rare.signal, device="cpu")

    assert "anomaly_map(): no network is trained, so device and training settings have no effect" in caplog.text


def test_options_make_the_network(rare):
    options = DenseOptions(n_hidden=7, n_layers=1)

    found = search(rare.signal, architecture="dense", options=options, config=TrainConfig(max_steps=1))

    assert found.model.model.model.options["n_hidden"] == 7
    assert found.model.model.model.network.encode_mlp[0].out_features == 7


def test_a_training_that_diverges_is_an_error_or_leaves_pca(rare):
    wild = TrainConfig(learning_rate=1e6)

    with pytest.raises(TrainingDivergedError, match=r"anomaly_map\(architecture='dense'\).*learning_rate"):
        search(rare.signal, architecture="dense", config=wild)
    assert search(rare.signal, architecture="auto", config=wild).report.candidates == ()


class CancelIn(Progress):
    """Cancels in a stage, and keeps what was shown."""

    def __init__(self, stage):
        super().__init__()
        self.wanted, self.stages, self.fractions = stage, [], []

    def show(self):
        if self.stage not in self.stages:
            self.stages.append(self.stage)
            if self.stage == self.wanted:
                self.cancel()
        self.fractions.append(self.fraction)


class CancelTraining(Progress):
    """Cancels once a network has been trained for 150 steps."""

    n_shown = 0

    def show(self):
        self.n_shown += self.stage == "Train network"
        if self.n_shown == 150:
            self.cancel()


def test_a_cancelled_training_keeps_the_best_network_so_far(rare):
    progress = CancelTraining()

    found = rare.signal.anomaly_map(architecture="dense", show_progressbar=progress)

    assert found.report.interrupted
    assert found.report.model == "dense"
    assert found.report.steps == (0, 100)
    assert len(found.regions) == 1
    assert progress.fraction == 1


def test_without_a_network_so_far_a_cancelled_training_leaves_pca(rare):
    found = rare.signal.anomaly_map(architecture="dense", show_progressbar=CancelIn("Train network"))

    assert found.report.interrupted
    assert found.report.model == "pca"
    assert len(found.regions) == 1


def test_progress_rises_to_one_and_every_stage_can_be_cancelled(rare, unchanged):
    watch = CancelIn(None)
    rare.signal.anomaly_map(show_progressbar=watch)
    assert watch.fractions == sorted(watch.fractions)
    assert watch.fraction == 1
    assert {"Read spectra", "Sum patches", "Fit PCA", "Scan", "Draw null maps"} <= set(watch.stages)

    for stage in filter(None, watch.stages):
        with pytest.raises(Cancelled, match=stage):
            unchanged(rare.signal).anomaly_map(show_progressbar=CancelIn(stage))
