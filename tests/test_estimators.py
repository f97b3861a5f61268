"""Estimators on arrays: scikit-learn's manners, the method's numbers, HyperSpy's own decomposition."""

from __future__ import annotations

import pickle
import sys

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml import estimators
from hyperspy_specml.decompose import DenseOptions
from hyperspy_specml.estimators import DenseAutoencoder, NoiseWeightedPCA
from hyperspy_specml.exceptions import ArrayShapeError, DataTypeError, NotFittedError, OptionError
from hyperspy_specml.run import TrainConfig

QUICK = TrainConfig(max_steps=60, evaluate_every=20)
SMALL = {DenseAutoencoder: DenseOptions(n_hidden=32), NoiseWeightedPCA: None}
EXPECTED_TO_FAIL = {  # our errors are TypeErrors with other words, and one spectrum is no map
    "check_complex_data": "DataTypeError is a TypeError",
    "check_dtype_object": "objects are not converted",
    "check_fit2d_1sample": "TooFewSpectraError counts spectra, not samples",
    "check_fit2d_1feature": "TooFewSpectraError counts channels, not features",
}


def make(kind, n_components=3, **options):
    if kind is DenseAutoencoder:
        options = {"options": SMALL[kind], **options}
    return kind(n_components, config=QUICK, **options)


@pytest.fixture(scope="module")
def counts():
    random = np.random.default_rng(0)
    channel = np.arange(53)
    peaks = np.exp(-((channel - np.array([[12], [25], [40]])) ** 2) / 18) + 0.02
    return random.poisson(200 * random.dirichlet([1, 1, 1], 207) @ peaks)


@pytest.fixture(params=[NoiseWeightedPCA, DenseAutoencoder])
def kind(request):
    return request.param


_FITTED = {}


@pytest.fixture
def fitted(kind, counts):
    """Fit once for each kind; nobody may write to what comes back."""
    if kind not in _FITTED:
        _FITTED[kind] = make(kind).fit(counts)
    return _FITTED[kind]


def test_the_scores_are_those_of_the_method(kind, counts):
    architecture = "pca" if kind is NoiseWeightedPCA else "dense"
    dec = hs.signals.Signal1D(counts).decomposition_ae(
        3, architecture=architecture, options=SMALL[kind], config=QUICK, show_progressbar=False
    )

    estimator = make(kind)
    scores = estimator.fit_transform(counts)

    np.testing.assert_array_equal(scores, dec.scores.data.T)
    again, kept = estimator.inverse_transform(scores), dec.reconstruction.data
    if kind is NoiseWeightedPCA:
        np.testing.assert_array_equal(again, kept)
    else:  # the method keeps the intensity of each spectrum, which its scores alone do not tell
        shapes = [spectra / spectra.sum(axis=1, keepdims=True) for spectra in (again, kept)]
        np.testing.assert_allclose(*shapes, rtol=0.05, atol=1e-3)
    spectra = estimator.components_ if kind is NoiseWeightedPCA else estimator.responses_
    np.testing.assert_array_equal(spectra, dec.components.data)


def test_transform_after_fit_is_fit_transform(kind, fitted, counts):
    np.testing.assert_allclose(fitted.transform(counts), make(kind).fit_transform(counts), atol=1e-4)


@pytest.mark.parametrize("chunks", [(50, 53), (207, 20), (31, 17)])
def test_dask_arrays_give_the_same_in_any_chunks(kind, fitted, counts, chunks):
    lazy = da.from_array(counts, chunks=chunks)

    estimator = make(kind).fit(lazy)

    scores = estimator.transform(lazy)
    assert isinstance(scores, np.ndarray)
    np.testing.assert_allclose(scores, fitted.transform(counts), rtol=1e-4, atol=1e-3)


def test_spectra_of_dask_scores_are_a_graph(fitted, counts, no_compute):
    scores = da.zeros((207, 3), chunks=(50, 2), dtype=np.float32)

    spectra = fitted.inverse_transform(scores)

    assert spectra.shape == (207, 53)
    assert spectra.chunks[0] == scores.chunks[0]


def test_lazy_spectra_are_the_eager_ones(fitted, counts):
    scores = fitted.transform(counts)

    lazy = fitted.inverse_transform(da.from_array(scores, chunks=(50, 2)))

    np.testing.assert_allclose(lazy.compute(), fitted.inverse_transform(scores), rtol=1e-5, atol=1e-3)


def test_linear_spectra_are_scores_times_components_and_the_variance_is_that_of_the_scores(counts):
    pca = make(NoiseWeightedPCA).fit(counts)
    scores = pca.transform(counts)

    np.testing.assert_allclose(pca.inverse_transform(scores), scores @ pca.components_, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.mean(scores.astype(float) ** 2, axis=0), pca.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(pca.explained_variance_ratio_, pca.explained_variance_ / pca.scree_.sum(), rtol=1e-12)
    assert (pca.scree_ > pca.noise_edge_).sum() == 3


def test_settings_that_pca_has_no_use_for_are_in_the_log(counts, caplog):
    NoiseWeightedPCA(2).fit(counts)
    assert "no effect" not in caplog.text

    NoiseWeightedPCA(2, config=TrainConfig(max_steps=5)).fit(counts)

    assert "NoiseWeightedPCA(): no network is trained" in caplog.text


def test_a_centred_pca_has_its_offset(counts):
    pca = NoiseWeightedPCA(2, centre=True).fit(counts)

    np.testing.assert_allclose(pca.offset_, counts.mean(axis=0))
    scores = pca.transform(counts)
    np.testing.assert_allclose(pca.inverse_transform(scores), scores @ pca.components_ + pca.offset_, atol=1e-2)


def test_the_number_of_components_is_chosen_where_none_is_given(counts):
    pca = NoiseWeightedPCA().fit(counts)

    assert pca.n_components is None
    assert pca.n_components_ == 3


def test_bad_spectra_and_dead_channels_are_left_out(kind, counts):
    spectra = counts / 4  # of whole numbers, a spectrum of zeros is data
    spectra[3, 5], spectra[4], spectra[:, 7] = np.nan, 0, 0

    estimator = make(kind).fit(spectra)
    scores = estimator.transform(spectra)

    assert np.isnan(scores[3]).all()
    assert not scores[4].any()
    again = estimator.inverse_transform(scores)
    assert not again[5:, 7].any()
    if kind is NoiseWeightedPCA:  # about a mean, no scores are those of an empty spectrum
        assert not again[4].any()


def test_parameters_are_what_the_constructor_takes(kind):
    estimator = make(kind, 2, noise="poisson")

    assert estimator.set_params(n_components=4, random_state=7) is estimator
    assert estimator.get_params()["n_components"] == 4
    assert repr(estimator).startswith(f"{kind.__name__}(n_components=4, noise='poisson', random_state=7")
    with pytest.raises(OptionError, match=r"set_params='n_component' is unknown.*mean 'n_components'"):
        estimator.set_params(n_component=3)


def test_scikit_learn_clones_an_estimator_without_what_it_learnt(fitted):
    sklearn = pytest.importorskip("sklearn.base")

    copy = sklearn.clone(fitted)

    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "decomposition_")


def test_an_estimator_is_a_step_of_a_pipeline(counts):
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline(
        make(NoiseWeightedPCA), pytest.importorskip("sklearn.cluster").KMeans(3, n_init=2, random_state=0)
    )

    assert set(pipeline.fit_predict(counts)) == {0, 1, 2}


@pytest.mark.filterwarnings("ignore")  # of scikit-learn's own toy data
@pytest.mark.parametrize("kind", [NoiseWeightedPCA])
def test_scikit_learns_own_checks_pass(kind):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")

    found = checks.check_estimator(kind(1), expected_failed_checks=EXPECTED_TO_FAIL, on_fail=None, on_skip=None)

    assert [result["check_name"] for result in found if result["status"] == "failed"] == []
    assert sum(result["status"] == "passed" for result in found) > 30


# HyperSpy 2.5 mixes up the pixels of lazy data with a mask, whoever's estimator it is.
@pytest.mark.parametrize(("lazy", "masked"), [(False, False), (False, True), (True, False)])
def test_hyperspys_decomposition_takes_a_linear_estimator(make_map, counts, lazy, masked):
    data = counts[:204].reshape(12, 17, 53).astype(float)
    signal = make_map(data=da.from_array(data, chunks=(5, 6, 20)) if lazy else data)
    mask = np.zeros((12, 17), bool)
    mask[:3] = masked
    before = data.copy()

    signal.decomposition(
        algorithm=make(NoiseWeightedPCA),
        output_dimension=3,
        print_info=False,
        **({"navigation_mask": hs.signals.BaseSignal(mask).T} if masked else {}),
    )

    np.testing.assert_array_equal(np.asarray(signal.data), before)  # HyperSpy adds a `mean_` to the data
    pca = make(NoiseWeightedPCA).fit(data[~mask])
    model = np.asarray(signal.get_decomposition_model().data)
    expected = pca.inverse_transform(pca.transform(data[~mask]))
    np.testing.assert_allclose(model[~mask], expected, rtol=1e-4, atol=1e-2)
    assert len(signal.learning_results.explained_variance) == 3
    signal.plot_scree_plot()


def test_hyperspys_decomposition_refuses_a_curved_one(make_map, counts):
    signal = make_map(data=counts[:204].reshape(12, 17, 53).astype(float))

    with pytest.raises(AttributeError, match="components_"):
        signal.decomposition(algorithm=make(DenseAutoencoder), output_dimension=3, print_info=False)


def test_a_fitted_estimator_travels_to_other_processes(fitted, counts):
    again = pickle.loads(pickle.dumps(fitted))

    np.testing.assert_array_equal(again.transform(counts), fitted.transform(counts))


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_before_the_fit_nothing_can_be_transformed(kind, counts, method):
    with pytest.raises(NotFittedError, match=rf"{kind.__name__}\.{method}\(\) needs a fit first"):
        getattr(kind(2), method)(counts)
    assert not hasattr(kind(2), "components_")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x[0], ArrayShapeError, r"\(n, E\), but got shape \(53,\).*reshape"),
        (lambda x: x[:, :, None], ArrayShapeError, r"got shape \(207, 53, 1\)"),
        (lambda x: x[:0], ArrayShapeError, r"got 0 sample\(s\)"),
        (lambda x: x + 1j, DataTypeError, r"needs real numbers, but got complex128"),
        (lambda x: x.astype(str), DataTypeError, r"needs real numbers, but got <U"),
    ],
)
def test_what_holds_no_spectra_is_refused(counts, change, error, message):
    with pytest.raises(error, match=r"NoiseWeightedPCA\.fit\(\) .*" + message):
        NoiseWeightedPCA(2).fit(change(counts))


def test_other_channels_and_other_scores_are_refused(fitted, counts):
    with pytest.raises(ArrayShapeError, match=r"X has 52 features, but .* is expecting 53 features"):
        fitted.transform(counts[:, 1:])
    with pytest.raises(ArrayShapeError, match=r"needs \(n, 3\) scores, but has shape \(207, 53\)"):
        fitted.inverse_transform(counts)


def test_sparse_arrays_are_refused_with_the_way_out(counts):
    sparse = pytest.importorskip("scipy.sparse").csr_array(counts)

    with pytest.raises(DataTypeError, match=r"does not take sparse arrays: pass X\.toarray\(\)"):
        NoiseWeightedPCA(2).fit(sparse)


def test_scikit_learn_is_not_needed(python):
    blocked = "import sys; sys.modules['sklearn'] = None\n"
    code = "import numpy as np; from hyperspy_specml.estimators import NoiseWeightedPCA as P\n"
    run = "print(P(1).fit_transform(np.random.default_rng(0).poisson(5, (40, 9))).shape)"

    assert python(blocked + code + run).endswith("(40, 1)\n")
    assert "sklearn" not in vars(sys.modules[estimators.__name__])
