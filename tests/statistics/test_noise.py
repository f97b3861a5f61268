"""Noise models: variance, deviance and their form in JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise, noise_from_dict
from hyperspy_specml.statistics._basis import channel_weights
from hyperspy_specml.statistics._noise import gaussian_noise

MODELS = [
    PoissonNoise(),
    gaussian_noise(2.5, (1.0, 0.4)),
    PoissonGaussianNoise(3.0, 5.0, (1.0, 0.5, 0.1), offset=100.0),
]


@pytest.mark.parametrize("density", [0.02, 4.0])  # the sparse and the dense way of summing
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64", "bool"])
def test_the_poisson_deviance_is_twice_the_log_likelihood_ratio(density, dtype):
    rng = np.random.default_rng(0)
    prediction = rng.gamma(2, density / 2, (7, 300)) + 1e-4
    counts = rng.poisson(prediction).astype(dtype)
    whole = counts.astype(np.int64)
    expected = 2 * (stats.poisson.logpmf(whole, np.maximum(whole, 1e-300)) * (whole > 0)).sum(axis=1)
    expected -= 2 * stats.poisson.logpmf(whole, prediction).sum(axis=1)

    found = PoissonNoise().deviance(counts, prediction.astype(np.float32), None)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_the_gaussian_deviance_is_the_sum_of_squared_errors_in_units_of_the_variance():
    rng = np.random.default_rng(1)
    values, prediction, variance = rng.normal(size=(7, 11)), rng.normal(size=(7, 11)), rng.random((7, 11)) + 1
    expected = -2 * stats.norm.logpdf(values, prediction, np.sqrt(variance)).sum(axis=1)
    expected -= np.log(2 * np.pi * variance).sum(axis=1)

    np.testing.assert_allclose(gaussian_noise(1.0).deviance(values, prediction, variance), expected)


def test_variances_follow_their_formula_and_are_never_negative():
    mean = np.array([-3.0, 0.0, 2.0, 150.0])

    np.testing.assert_array_equal(PoissonNoise().variance(mean), [0, 0, 2, 150])
    np.testing.assert_array_equal(gaussian_noise(3.0).variance(mean), [9, 9, 9, 9])
    np.testing.assert_array_equal(PoissonGaussianNoise(2.0, 3.0).variance(mean), [9, 9, 13, 309])
    np.testing.assert_array_equal(MODELS[2].variance(mean), [25, 25, 25, 175])


@pytest.mark.parametrize("model", MODELS)
def test_a_model_survives_json(model):
    assert noise_from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_weights_whiten_and_stay_finite_in_dead_channels():
    mean = np.array([4.0, 100.0, 0.0])
    weights = channel_weights(mean, PoissonNoise())

    np.testing.assert_allclose(weights[:2], [0.5, 0.1])
    assert np.isfinite(weights[2])
    np.testing.assert_array_equal(channel_weights(np.zeros(3), PoissonNoise()), 1)


def test_weights_do_not_depend_on_the_unit():
    mean = np.array([4.0, 100.0, 0.01])
    small, large = (scale * channel_weights(scale * mean, PoissonGaussianNoise(scale, 0.0)) for scale in (1e-6, 1e9))

    np.testing.assert_allclose(small, large)
