"""Intervals and new spectra on arrays, where the answer is known in closed form or by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.decompose import (
    Certainty,
    ConvOptions,
    Quantity,
    SimplexOptions,
    choose_architecture,
    decompose,
    fit_density,
    inflation,
    make_replica,
)
from hyperspy_specml.models import LinearModel
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.statistics import (
    PoissonGaussianNoise,
    PoissonNoise,
    draw_noise,
    moments_of,
    principal_basis,
    two_sample_score,
)
from hyperspy_specml.streaming import SpectrumStream

RUN = Run()
WINDOW = (np.arange(64) < 14).astype(float)
OTHER = (np.arange(64) > 50).astype(float)


@pytest.mark.parametrize(
    "noise", [PoissonNoise(), PoissonGaussianNoise(2.0, 3.0), PoissonGaussianNoise(0.0, 2.0, (1.0, 0.4))]
)
@pytest.mark.parametrize("quantity", [Quantity(WINDOW), Quantity(WINDOW, OTHER), Quantity(component=1)])
def test_the_noise_of_a_projection_is_that_of_many_draws(planted_counts, noise, quantity):
    _, expected = planted_counts((5, 7), dose=60.0)
    expected = expected.reshape(-1, 64)
    model = LinearModel(principal_basis(moments_of(expected), noise, n_vectors=3))
    sure, rng = Certainty(model, noise), np.random.default_rng(0)
    columns = model.encode(expected)

    drawn = [sure.values(model.encode(draw_noise(expected, noise, rng)), quantity) for _ in range(600)]

    np.testing.assert_allclose(sure.deviations(columns, quantity), np.std(drawn, axis=0), rtol=0.15)
    through = sure._through_encoder(columns, quantity)  # the way of any encoder; of ratios a difference, not a slope
    np.testing.assert_allclose(
        through, sure.deviations(columns, quantity), rtol=0.1 if quantity.below is not None else 1e-3
    )


@pytest.mark.parametrize("architecture", ["conv", "simplex"])
@pytest.mark.parametrize("quantity", [Quantity(WINDOW), Quantity(component=0)])
def test_the_noise_of_any_encoder_is_that_of_many_draws(planted_counts, architecture, quantity):
    counts, _ = planted_counts((12, 11), dose=60.0)
    run = Run(TrainConfig(max_steps=60, restarts=1))
    found = decompose(SpectrumStream(counts.astype(np.uint16)), run, architecture=architecture, n_components=3)
    sure, rng = Certainty(found.model, PoissonNoise()), np.random.default_rng(0)
    columns = found.scores[:40]
    expected = found.model.decode(columns).astype(np.float64)

    drawn = [sure.values(found.model.encode(rng.poisson(expected)), quantity) for _ in range(400)]

    ratio = sure.deviations(columns, quantity) / np.std(drawn, axis=0)
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert np.quantile(ratio, [0.1, 0.9]) == pytest.approx([1, 1], abs=0.3)


def test_a_replica_is_fitted_with_the_options_of_the_original(planted_counts):
    counts, _ = planted_counts((9, 7), dose=20.0)
    architecture = choose_architecture("simplex", SimplexOptions(n_hidden=7, energy_shift=True))
    run = Run(TrainConfig(max_steps=20, restarts=1))
    found = decompose(SpectrumStream(counts.astype(np.uint16)), run, architecture=architecture, n_components=2)

    replica = make_replica(Certainty(found.model, PoissonNoise()), found.scores, 63, run)

    assert replica.refitted.model.outputs == found.model.outputs == {"intensity": "signal", "shift": "channels"}
    assert replica.refitted.model.settings()["n_hidden"] == 7


def test_a_replica_of_a_model_that_moves_spectra_moves_them_too(planted_counts):
    counts, _ = planted_counts((9, 7), dose=20.0)
    architecture = choose_architecture("conv", ConvOptions(n_filters=4, n_hidden=16, augment=1.5))
    run = Run(TrainConfig(max_steps=20, restarts=1))
    found = decompose(SpectrumStream(counts.astype(np.uint16)), run, architecture=architecture, n_components=2)

    replica = make_replica(Certainty(found.model, PoissonNoise()), found.scores, 63, run)

    assert replica.refitted.model.outputs == found.model.outputs
    assert [*found.model.outputs] == ["intensity", "shift", "stretch"]


def test_a_replica_finds_the_inflation_that_the_truth_asks_for(planted_counts):
    counts, expected = planted_counts((24, 20), dose=20.0)
    found = decompose(SpectrumStream(counts.astype(np.uint16)), RUN, architecture="pca", n_components=3)
    sure, quantity = Certainty(found.model, PoissonNoise()), Quantity(WINDOW)

    replica = make_replica(sure, found.scores, 400, Run(seed=5))
    factor = inflation([replica], quantity, 0.9)

    assert len(replica.drawn) == 400
    error = np.abs(sure.values(found.scores, quantity) - expected.reshape(-1, 64) @ WINDOW)
    wanted = np.quantile(error / sure.deviations(found.scores, quantity), 0.9) / 1.64485
    assert factor == pytest.approx(max(1, wanted), rel=0.15)
    assert inflation([replica], Quantity(component=0), 0.5) >= 1


def test_a_replica_of_few_counts_may_lack_channels(planted_counts):
    counts, _ = planted_counts((9, 7), dose=20.0)
    counts = counts.copy()
    counts[..., 20:40] = 0
    counts[3, 2, 20:40] = 1  # so that most replicas have no count in some of these channels
    found = decompose(SpectrumStream(counts.astype(np.uint16)), RUN, architecture="pca", n_components=2)
    sure = Certainty(found.model, PoissonNoise())

    replica = make_replica(sure, found.scores, 63, Run(seed=5))

    assert replica.refitted.model.decode(replica.columns).shape[1] < 64
    assert inflation([replica], Quantity(np.ones(64)), 0.9) >= 1
    assert inflation([replica], Quantity(WINDOW, OTHER), 0.9) >= 1


def test_a_mixture_of_two_clouds_is_found():
    rng = np.random.default_rng(2)
    clouds = [
        rng.multivariate_normal(m, c, 600) for m, c in ([(-4, 1), [[1, 0.5], [0.5, 1]]], [(5, 0), [[0.3, 0], [0, 2]]])
    ]
    values = np.vstack(clouds)

    density = fit_density(values, rng)
    drawn = density.draw(1200, rng)

    assert len(density.shares) == 2
    left = drawn[:, 0] < 0
    assert left.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(np.cov(drawn[left].T), [[1, 0.5], [0.5, 1]], atol=0.2)
    assert two_sample_score(values, drawn) < 0.56


def test_samples_are_told_apart_by_mean_by_covariance_and_by_shape_and_same_ones_are_not():
    rng = np.random.default_rng(1)
    one = rng.standard_normal((1000, 3))
    ring = rng.standard_normal((1000, 3))
    ring[:, :2] *= (2 / np.linalg.norm(ring[:, :2], axis=1))[:, None]

    assert two_sample_score(one, rng.standard_normal((1000, 3))) == pytest.approx(0.5, abs=0.05)
    assert two_sample_score(one, one + 2) > 0.9
    assert two_sample_score(one, 3 * rng.standard_normal((1000, 3))) > 0.8
    assert two_sample_score(one, ring) > 0.85
