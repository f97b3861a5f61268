"""From maxima to p-values, and from p-values to regions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hyperspy_specml.anomaly._components import robust_distance
from hyperspy_specml.anomaly._significance import equivalent_z, fit_null, label_regions, local_peaks, significant_log_p
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise, draw_noise


def maxima(n: int, seed: int, n_windows: int = 300) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).standard_normal((n, n_windows))).max(axis=1)


@pytest.mark.parametrize("p", [0.1, 0.01, 0.001])
def test_p_values_of_maxima_are_met(p):
    null = fit_null(maxima(8000, 0), np.ones(8000))

    met = (null.log_p(maxima(20000, 1), np.ones(20000)) < np.log(p)).mean()

    assert met == pytest.approx(p, rel=0.5)


def test_dim_and_bright_pixels_have_nulls_of_their_own():
    counts = np.repeat([1.0, 100.0], 4000)
    strong = np.where(counts > 10, 1.3, 1.0)
    null = fit_null(maxima(8000, 0) * strong, counts)

    p = np.exp(null.log_p(maxima(8000, 1) * strong, counts))

    for chosen in (counts < 10, counts > 10):
        assert (p[chosen] < 0.05).mean() == pytest.approx(0.05, rel=0.4)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 24, 33, 100])
def test_few_maxima_give_a_null_all_the_same(n):
    null = fit_null(maxima(n, 0), np.ones(n))

    p = np.exp(null.log_p(np.array([2.0, 3.0, 5.0, 9.0]), np.ones(4)))

    assert np.isfinite(p).all()
    assert (np.diff(p) < 0).all()
    assert p[2] < 0.05


def test_p_values_beyond_the_smallest_float_keep_their_order():
    null = fit_null(maxima(4000, 0), np.ones(4000))

    score = equivalent_z(null.log_p(np.array([6.0, 40.0, 80.0]), np.ones(3)))

    assert np.isfinite(score).all()
    assert (np.diff(score) > 10).all()


def test_maxima_that_are_all_a_little_too_strong_are_met_after_adaptation():
    counts = np.ones(20000)
    null = fit_null(maxima(8000, 0), np.ones(8000))
    inflated = maxima(20000, 1) * 1.15
    before = null.log_p(inflated, counts)

    maps = (values.reshape(100, 200) for values in (inflated, counts, counts > 0))
    after = null.adapted_to(*maps, reach=3).log_p(inflated, counts)

    assert (before < np.log(0.01)).mean() > 0.04
    assert (after < np.log(0.01)).mean() == pytest.approx(0.01, rel=0.6)


def test_calibrated_maxima_with_a_few_anomalies_are_not_adapted():
    null = fit_null(maxima(8000, 0), np.ones(8000))
    found = maxima(8000, 2)
    found[:80] = 30.0

    maps = (values.reshape(80, 100) for values in (found, np.ones(8000), np.ones(8000, bool)))
    assert null.adapted_to(*maps, reach=3) is null


@pytest.mark.parametrize("noise", [PoissonNoise(), PoissonGaussianNoise(2.0, 3.0, (1.0, 0.3))])
def test_drawn_values_have_the_mean_and_variance_of_the_model(noise):
    values = draw_noise(np.full((400, 101), 8.0), noise, np.random.default_rng(0))

    assert values.mean() == pytest.approx(8, rel=0.02)
    assert values.var() == pytest.approx(float(noise.variance(np.array(8.0))), rel=0.05)


def test_peaks_are_counted_once_also_where_they_are_flat():
    strength = np.zeros((9, 11))
    strength[2, 3:5] = 5.0
    strength[7, 9] = 4.0
    found = local_peaks(strength, 3)

    assert found[2].sum() == 1
    assert found[7, 9]


def test_without_anomalies_few_maps_have_any_region():
    found = 0
    for seed in range(400):
        log_p = np.log(np.random.default_rng(seed).random((17, 13)))
        found += np.isfinite(significant_log_p(log_p, fdr=0.05, reach=3))

    assert found / 400 < 0.08


def test_a_region_of_many_peaks_counts_once():
    log_p = np.log(np.random.default_rng(0).uniform(0.1, 1.0, (40, 41)))
    alone = log_p.copy()
    alone[30, 30] = np.log(2e-6)
    log_p[5:20, 5:20] = -60 + np.random.default_rng(1).random((15, 15))  # one region, several peaks

    def limit(values):
        return significant_log_p(values, fdr=0.05, reach=3)

    assert local_peaks(-log_p[5:20, 5:20], 3).sum() > 10
    assert limit(log_p) == pytest.approx(limit(alone), abs=1e-9)  # of one discovery


def test_regions_do_not_grow_by_the_window_that_found_them():
    score = np.zeros((15, 17))
    score[3:9, 4:10] = 6.0  # where windows of three pixels reach
    score[4:8, 5:9] = 20.0

    labels, n = label_regions(score, 5.0, 3)

    assert n == 1
    assert (labels > 0).sum() == 16


def test_pieces_are_one_region_unless_windows_see_the_gap():
    score = np.zeros((9, 20))
    score[4, [2, 4, 5, 8, 12]] = 9.0

    labels, n = label_regions(score, 5.0, 3)

    assert n == 2
    assert labels[4, [2, 4, 5, 8, 12]].tolist() == [1, 1, 1, 1, 2]
    assert (labels > 0).sum() == 5


def test_robust_distance_finds_a_group_that_the_covariance_hides():
    values = np.random.default_rng(0).standard_normal((300, 3))
    values[:12] += (0, 0, 40)

    distance = robust_distance(values)

    assert distance[:12].min() > 10 * distance[12:].max()


def test_equivalent_z_is_the_normal_deviate():
    np.testing.assert_allclose(equivalent_z(np.log([0.5, 1e-3])), norm.isf([0.5, 1e-3]), atol=1e-9)
