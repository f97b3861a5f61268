"""Every kind of fitted model: apart and together again bit for bit, and made-up parts are refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch

import hyperspy_specml as specml
import hyperspy_specml.anomaly
import hyperspy_specml.decompose
import hyperspy_specml.denoise
import hyperspy_specml.latent  # each defines kinds of models
from hyperspy_specml import models
from hyperspy_specml.exceptions import ModelFileError, SpecMLWarning
from hyperspy_specml.models import Parts, TrainedModel, parts_of
from hyperspy_specml.models._base import KINDS
from hyperspy_specml.models._file import pack, unpack
from hyperspy_specml.nn import FilterMixture, Shrinkage

QUICK = specml.TrainConfig(max_steps=20, evaluate_every=10)
P, N_CHANNELS = 4, 61


@pytest.fixture(scope="module")
def signal(make_map):
    rng = np.random.default_rng(0)
    peaks = np.exp(-0.5 * ((np.arange(N_CHANNELS) - np.array([[15], [30], [45]])) / 3) ** 2) + 0.1
    return make_map(data=rng.poisson(20 * rng.dirichlet(np.ones(3), (13, 11)) @ peaks).astype(np.uint16))


@pytest.fixture(scope="module")
def result(signal):
    """Return the result of a call, computed once."""
    known = {}

    def compute(method, *arguments, **options):
        key = (method, arguments, tuple(options.items()))
        if key not in known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SpecMLWarning)  # so brief a training may lose against PCA
                known[key] = getattr(signal, method)(*arguments, noise="poisson", show_progressbar=False, **options)
        return known[key]

    return compute


def decomposed(result, **options):
    return result("decomposition_ae", 3, config=QUICK, **options).model.model


def basis_of(result):
    basis = decomposed(result).basis
    assert basis.n_vectors >= P
    return basis.first(P)


def trained(network):
    """Return a network whose weights are all different."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    return network.eval()


def filtered(result, *, network):
    n_filters, rng = len(models.filters(2)), np.random.default_rng(2)
    moments = rng.random(P) + 0.5, rng.normal(size=P), rng.random(P) + 1
    weights = rng.dirichlet(np.ones(n_filters), P).T
    mixture = trained(FilterMixture(2, n_filters, P, n_hidden=5)) if network else None
    return models.FilteredScores(basis_of(result), *moments, weights, 3, 2, mixture)


def library(result):
    rng = np.random.default_rng(3)
    moments = rng.random(P) + 0.5, rng.normal(size=P), rng.random(P) + 1
    network = trained(Shrinkage(P, n_hidden=5, n_layers=2))
    return models.LibraryDenoiser(basis_of(result), *moments, np.array([0.01, 0.3]), network)


def unmoved(model):
    """Return a simplex model that has learnt to shift spectra as one that has not."""
    network = copy.deepcopy(model.network)
    network.shifts = False
    return dataclasses.replace(model, network=network)


EXAMPLES = {
    "pca": lambda result: decomposed(result, architecture="pca"),
    "pca about the mean": lambda result: decomposed(result, architecture="pca", options=specml.PCAOptions(centre=True)),
    "autoencoder": lambda result: decomposed(result, options=specml.DenseOptions(n_hidden=16)),
    "moving": lambda result: decomposed(result, options=specml.DenseOptions(n_hidden=16, augment=1.5)),
    "simplex": lambda result: unmoved(EXAMPLES["simplex with shifts"](result)),
    "simplex with shifts": lambda result: decomposed(result, architecture="simplex", energy_shift=True),
    "variational": lambda result: decomposed(result, architecture="vae"),
    "nmf": lambda result: models.FactorModel(basis_of(result), np.random.default_rng(4).random((3, N_CHANNELS))),
    "unfiltered": lambda result: models.UnfilteredScores(basis_of(result)),
    "filtered": lambda result: filtered(result, network=False),
    "filtered by a network": lambda result: filtered(result, network=True),
    "spectral": lambda result: models.SpectralDenoiser(EXAMPLES["autoencoder"](result)),
    "library": library,
    "reference": lambda result: result("anomaly_map").model.model,
    "reference of an autoencoder": lambda result: dataclasses.replace(
        result("anomaly_map").model.model, model=EXAMPLES["autoencoder"](result), leverage=None, shift_scan=None
    ),
    "phases": lambda result: result("phase_map", 2).model.model,
}


@pytest.fixture(scope="module", params=EXAMPLES)
def model(request, result):
    return EXAMPLES[request.param](result)


@pytest.fixture
def whole(model, result):
    """A trained model around the fitted one."""
    of_pca = result("decomposition_ae", 3, config=QUICK, architecture="pca").model
    return dataclasses.replace(of_pca, model=model, baseline=None)


def parts_from_file(model):
    parts = parts_of(model)
    arrays = {name: array.copy() for name, array in parts.arrays.items()}
    return Parts(json.loads(json.dumps(parts.settings)), arrays)


def assert_same(one, other):
    assert type(one) is type(other)
    assert (one.kind, one.architecture, one.n_components, one.outputs) == (
        other.kind,
        other.architecture,
        other.n_components,
        other.outputs,
    )
    assert parts_of(one).settings == parts_of(other).settings
    arrays, others = parts_of(one).arrays, parts_of(other).arrays
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype, name
        np.testing.assert_array_equal(array, others[name])
    rows = np.random.default_rng(1).poisson(5, (7, N_CHANNELS)).astype(np.uint16)
    scores = one.encode(rows)
    assert scores.shape == (7, one.n_columns)
    np.testing.assert_array_equal(other.encode(rows), scores)
    np.testing.assert_array_equal(other.decode(scores), one.decode(scores))
    np.testing.assert_array_equal(other.components(), one.components())


def test_every_kind_has_an_example_here():
    ours = {name: kind for name, kind in KINDS.items() if kind.__module__.startswith("hyperspy_specml.")}

    assert ours.keys() == {example.partition(" ")[0] for example in EXAMPLES}
    assert all(kind.kind == name for name, kind in ours.items())


def test_a_model_comes_back_from_its_parts_bit_for_bit(model):
    assert_same(parts_from_file(model).model(), model)


def test_a_trained_model_comes_back_from_its_bytes(whole):
    content = whole.to_bytes()

    again = TrainedModel.from_bytes(content)

    assert_same(again.model, whole.model)
    assert again.to_bytes() == content


def test_what_a_model_is_made_of_is_json_and_arrays_of_numbers(model):
    parts = parts_of(model)

    assert json.loads(json.dumps(parts.settings)) == parts.settings
    assert {array.dtype.name for array in parts.arrays.values()} <= {"float32", "float64"}


def test_a_model_in_other_channels_comes_back_too(model, result):
    if isinstance(model, models.SimplexModel) and "shift" in model.outputs:
        pytest.skip("a model that shifts spectra fits its own channels only")
    trained = result("decomposition_ae", 3, config=QUICK, architecture="pca").model
    whole = dataclasses.replace(trained, model=model, baseline=None)
    finer = {**whole.energy_axis, "scale": 0.125, "offset": 699.5, "size": 150}

    other = whole.on_axis(finer, method="test")

    assert len(other.model.basis.weights) == int((other.channel_state == 0).sum()) > N_CHANNELS
    again = TrainedModel.from_bytes(other.to_bytes())
    assert again.to_bytes() == other.to_bytes()
    np.testing.assert_array_equal(again.model.components(), other.model.components())


# What a fit was asked for and the model does not need, and parts that a reference model may lack.
NOT_READ = {("options", "centre"), ("options", "augment")}
MAY_BE_MISSING = {"shift", "null", "shift_null", "line_width", "component_variance", "leverage"}


def settings_in(settings, before=()):
    """Yield the path and the value of every setting, and of those inside."""
    for name, value in settings.items():
        yield (*before, name), value
        if isinstance(value, dict):
            yield from settings_in(value, (*before, name))


def changed(parts, path, value):
    settings = copy.deepcopy(dict(parts.settings))
    place = settings
    for step in path[:-1]:
        place = place[step]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return Parts(settings, parts.arrays)


def wrong_values(value):
    """Return values of other types, and numbers that are impossible."""
    others = [None, "text", [[]], {"x": 1}, True, KeyError]
    if type(value) is int:
        others += [-7, 10**15, 0.5]
    if isinstance(value, float):
        others += [np.nan, np.inf, "1.0"]
    return [other for other in others if other is KeyError or type(other) is not type(value) or value != value]


def accepted(parts):
    try:
        parts.model()
    except ValueError:
        return False
    return True


def test_settings_of_a_wrong_type_or_size_are_value_errors(model):
    parts = parts_from_file(model)
    wrongly = [
        (".".join(path), wrong)
        for path, value in settings_in(parts.settings)
        if path[-2:] not in NOT_READ
        for wrong in wrong_values(value)
        if not (path[-1] in MAY_BE_MISSING and wrong in (None, KeyError)) and accepted(changed(parts, path, wrong))
    ]

    assert wrongly == []


def test_arrays_that_are_missing_or_not_as_they_should_be_are_value_errors(model):
    parts = parts_from_file(model)

    def spoilt(name):
        array = parts.arrays[name]
        bad = array.copy()
        bad.flat[-1] = np.nan
        yield "not finite", {**parts.arrays, name: bad}
        yield "whole numbers", {**parts.arrays, name: np.ones(array.shape, np.int64)}
        yield "text", {**parts.arrays, name: np.full(array.shape, "x")}
        if array.ndim:  # torch takes one number for a single one
            yield "one axis more", {**parts.arrays, name: array[..., None]}
        if name.rpartition(".")[2] not in MAY_BE_MISSING:
            yield "missing", {n: a for n, a in parts.arrays.items() if n != name}
        if array.ndim and not name.endswith("basis.eigenvalues"):  # these are as many as there are channels
            yield "longer", {**parts.arrays, name: np.concatenate([array, array[:1]])}

    wrongly = [
        (name, how) for name in parts.arrays for how, arrays in spoilt(name) if accepted(Parts(parts.settings, arrays))
    ]

    assert wrongly == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("kind",), "lstm", r"kind of model 'lstm' is not one of 'pca', "),
        (("kind",), None, r"setting 'kind' is None, not of type str"),
        (("kind",), KeyError, r"setting 'kind' is None, not of type str"),
    ],
)
def test_a_file_of_an_unknown_kind_names_it(whole, path, value, message):
    plain, arrays = unpack(whole.to_bytes(), "x")
    parts = changed(Parts(plain["model"]["fitted"], {}), path, value)
    plain["model"]["fitted"] = parts.settings

    with pytest.raises(ModelFileError, match=r"load_model\('from_bytes\(\.\.\.\)'\): .*" + message):
        TrainedModel.from_bytes(pack(plain, arrays))
