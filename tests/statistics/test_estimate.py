"""The estimated noise is the simulated one, whatever the structure of the spectra."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.exceptions import NegativeCountsError, NotCountsError, OptionError
from hyperspy_specml.statistics import PoissonNoise, estimate_noise

SHAPE = 700, 300


def estimate(rows, noise="auto"):
    return estimate_noise(rows, noise=noise, minimum=float(rows.min()))


@pytest.mark.parametrize("level", [0.03, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("n", [9, 60, 700])
def test_counts_are_recognised_at_any_dose_and_from_few_spectra(level, n, planted):
    mean = planted(n, 300, level=level, rank=1 if n < 10 else 4)
    counts = np.random.default_rng(1).poisson(mean)
    found = estimate(counts)

    assert found.model == PoissonNoise()
    assert found.mean is None
    assert found.fano == pytest.approx(1, abs=0.03 + 3 * np.sqrt(2 / counts.size + 1 / counts.sum()))


@pytest.mark.parametrize("n", [33, 128, 256])
def test_counts_of_a_few_spectra_with_many_empty_channels_are_counts(n):
    """As the first lines of a scan: each spectrum is a direction of its own, and most of its noise lies along it."""
    channel = np.arange(1024)
    line = np.exp(-0.5 * ((channel - np.array([[150], [410], [700]])) / 6) ** 2)
    shares = np.random.default_rng(2).dirichlet(np.ones(3), n)
    mean = 8 * (shares @ line + 0.01) / (shares @ line + 0.01).sum(axis=1, keepdims=True)
    counts = np.random.default_rng(1).poisson(mean)
    assert estimate(counts).model == PoissonNoise()
    assert estimate(3 * counts).model != PoissonNoise()


def test_whole_floats_are_counts(planted):
    counts = np.random.default_rng(1).poisson(planted(*SHAPE, level=2.0)).astype(np.float32)

    assert estimate(counts).model == PoissonNoise()


@pytest.mark.parametrize("factor", [0.37, 2.0, 1e-6])
def test_scaled_counts_are_not_poisson_and_their_gain_is_the_factor(factor, planted):
    rows = factor * np.random.default_rng(1).poisson(planted(*SHAPE, level=5.0))
    found = estimate(rows)

    assert found.model.name == "poisson-gaussian"
    assert found.fano == pytest.approx(factor, rel=0.05)
    assert found.model.gain == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("correlation", [(1.0,), (1.0, 0.5), (1.0, 0.6, 0.25, 0.1)])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_gain_readout_and_correlation_are_recovered(correlation, unit, planted, noisy):
    mean = planted(*SHAPE, level=20.0, rank=4)
    model = estimate(unit * noisy(mean, gain=3.0, readout=5.0, correlation=correlation)).model

    assert model.name == "poisson-gaussian"
    assert model.gain == pytest.approx(3 * unit, rel=0.12)
    assert model.readout == pytest.approx(5 * unit, rel=0.12)
    assert model.offset == 0
    assert len(model.correlation) == len(correlation)
    np.testing.assert_allclose(model.correlation, correlation, atol=0.04)


@pytest.mark.parametrize("shift", [-100.0, 0.0, 40.0])
@pytest.mark.parametrize("correlation", [(1.0,), (1.0, 0.5)])
def test_constant_noise_is_gaussian_also_below_zero(shift, correlation, planted, noisy):
    rows = noisy(planted(*SHAPE, level=20.0), gain=0, readout=2.0, correlation=correlation) + shift
    found = estimate(rows)

    assert found.model.name == "gaussian"
    assert found.model.readout == pytest.approx(2, rel=0.05)
    assert found.mean is None
    np.testing.assert_allclose(found.model.correlation, correlation, atol=0.04)


def test_a_dark_level_that_was_not_subtracted_is_found(planted, noisy):
    rows = noisy(planted(*SHAPE, level=100.0), gain=3.0, readout=0.1) + 400
    model = estimate(rows).model

    assert model.gain == pytest.approx(3, rel=0.1)
    assert model.offset == pytest.approx(400, rel=0.05)


@pytest.mark.parametrize("rate", [1e-4, 1e-3])
def test_glitches_are_not_noise(rate, planted, noisy):
    rng = np.random.default_rng(5)
    rows = noisy(planted(*SHAPE, level=100.0), gain=3.0, readout=5.0, correlation=(1, 0.5))
    glitches = rng.random(rows.shape) < rate
    rows[glitches] += rng.exponential(2000, glitches.sum())
    model = estimate(rows).model

    assert model.gain == pytest.approx(3, rel=0.12)
    assert model.readout == pytest.approx(5, rel=0.25)
    assert model.correlation[1] == pytest.approx(0.5, abs=0.04)


def test_a_drifting_edge_is_structure(noisy):
    channel, drift = np.arange(300), np.random.default_rng(2).normal(0, 3, (700, 1))
    mean = 40 + 400 / (1 + np.exp((100 + drift - channel) / 1.5)) * np.exp(-channel / 200)
    model = estimate(noisy(mean, gain=3.0, readout=5.0, correlation=(1, 0.5))).model
    counts = np.random.default_rng(3).poisson(mean)

    assert model.gain == pytest.approx(3, rel=0.15)
    assert model.correlation[1] == pytest.approx(0.5, abs=0.05)
    assert estimate(counts).model == PoissonNoise()


def test_the_mean_that_comes_with_a_model_is_that_of_the_spectra(planted, noisy):
    mean = planted(*SHAPE, level=100.0)
    found = estimate(noisy(mean, gain=3.0, readout=5.0).astype(np.float32))

    assert found.mean.shape == mean.shape
    assert found.mean.dtype == np.float32
    assert found.mean.min() >= 0
    assert np.sqrt(np.mean((found.mean - mean) ** 2)) < 0.2 * np.sqrt(np.mean(3 * mean + 25))


@pytest.mark.parametrize("rows", [np.ones((9, 40)), np.outer(np.arange(1.0, 10), np.arange(40.0))])
def test_data_without_noise_get_the_deviation_of_their_rounding(rows):
    model = estimate(rows).model

    assert model.correlation == (1.0,)
    assert 0 < model.readout < 1e-6 * rows.max()


@pytest.mark.parametrize("shape", [(2, 50), (3, 7), (50, 1), (50, 2), (50, 5)])
@pytest.mark.parametrize("noise", ["auto", "gaussian", "poisson-gaussian"])
def test_few_spectra_or_channels_give_some_finite_model(shape, noise, noisy):
    model = estimate(noisy(np.full(shape, 100.0), gain=1.0, readout=5.0), noise).model

    assert np.isfinite(model.variance(np.array([0.0, 100.0]))).all()
    assert np.isfinite(model.correlation).all()


def test_a_named_model_is_used_although_another_fits_better(planted):
    counts = np.random.default_rng(1).poisson(planted(*SHAPE, level=5.0))

    assert estimate(2 * counts, "poisson").model == PoissonNoise()
    assert estimate(counts, "gaussian").model.name == "gaussian"
    named = estimate(counts, "poisson-gaussian").model
    assert named.name == "poisson-gaussian"
    assert named.gain == pytest.approx(1, rel=0.1)


def test_poisson_is_refused_for_values_that_are_no_counts():
    with pytest.raises(NegativeCountsError, match=r"smallest value is -1\. Use noise='auto'"):
        estimate(np.array([[1.0, -1.0], [0.0, 2.0]]), "poisson")
    with pytest.raises(NotCountsError, match=r"needs whole numbers .* undo the normalisation"):
        estimate(np.array([[1.0, 0.5], [0.0, 2.0]]), "poisson")


def test_an_unknown_name_is_answered_with_a_suggestion():
    with pytest.raises(OptionError, match=r"noise='poison' is unknown.*Did you mean 'poisson'\?"):
        estimate(np.ones((2, 2)), "poison")
