"""What scores and components mean, checked against arithmetic that shares no code with the package."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.decompose import DenseOptions, PCAOptions
from hyperspy_specml.run import TrainConfig


def table(maps):
    """(K | scan) maps as (n_pixels, K)."""
    return maps.data.reshape(len(maps.data), -1).T.astype(np.float64)


def weighted_svd(signal):
    """Channel weights for counts, and the SVD of the weighted spectra."""
    rows = signal.data.reshape(-1, signal.data.shape[-1]).astype(np.float64)
    weights = 1 / np.sqrt(rows.mean(axis=0))
    return weights, *np.linalg.svd(rows * weights, full_matrices=False)


def test_pca_is_the_svd_of_noise_weighted_counts(fitted):
    signal, dec = fitted("pca")
    weights, left, values, right = weighted_svd(signal)

    scores, components = table(dec.scores), dec.components.data

    signs = np.sign(np.sum(components * weights * right[:3], axis=1))
    np.testing.assert_allclose(components * weights, signs[:, None] * right[:3], atol=1e-6)
    np.testing.assert_allclose(scores, signs * (left * values)[:, :3], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dec.report.scree, values**2 / len(scores), rtol=1e-6, atol=1e-9)


def test_pca_reconstructs_as_hyperspys_svd_of_the_same_weighted_spectra(fitted):
    signal, dec = fitted("pca")
    weights = weighted_svd(signal)[0]
    weighted = signal.deepcopy()
    weighted.data = signal.data * weights

    weighted.decomposition(algorithm="SVD", output_dimension=3, print_info=False)

    theirs = weighted.get_decomposition_model(3).data / weights
    np.testing.assert_allclose(dec.reconstruction.data, theirs, rtol=1e-4, atol=1e-3)


def test_centred_pca_adds_the_mean_spectrum(make_map, make_counts, decompose):
    signal = make_map(data=make_counts())
    mean = signal.data.mean(axis=(0, 1), dtype=np.float64)

    dec = decompose(signal, 2, architecture="pca", options=PCAOptions(centre=True))

    expected = table(dec.scores) @ dec.components.data + mean
    np.testing.assert_allclose(dec.reconstruction.data.reshape(-1, 61), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(table(dec.scores).mean(axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_pca_reconstructs_as_scores_times_components(fitted, n_navigation, k):
    _, dec = fitted("pca", k, n_navigation)

    product = np.tensordot(dec.scores.data, dec.components.data, axes=(0, 0))

    np.testing.assert_allclose(dec.reconstruction.data, product, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_dense_components_are_half_the_change_from_minus_to_plus_one_deviation(fitted, k):
    _, dec = fitted("dense", k)
    scores = table(dec.scores)
    decode = dec.model.model.decode

    middle = scores.mean(axis=0)
    for i, deviation in enumerate(scores.std(axis=0)):
        step = deviation * np.eye(k)[i]
        ends = decode(np.stack([middle - step, middle + step]).astype(np.float32)).astype(np.float64)
        expected = 0.5 * (ends[1] - ends[0])
        close = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(dec.components.data[i], expected, atol=close)


def test_dense_scores_are_uncorrelated_of_falling_spread_and_point_upwards(fitted):
    _, dec = fitted("dense")
    scores = table(dec.scores)

    assert dec.report.best_step > 0, "an untrained network would prove nothing"
    deviation = scores.std(axis=0)
    assert list(deviation) == sorted(deviation, reverse=True)
    np.testing.assert_allclose(np.corrcoef(scores.T), np.eye(3), atol=1e-3)
    assert np.all(np.sum(dec.components.data**3, axis=1) > 0)


def test_dense_follows_a_moving_peak_better_than_pca_of_the_same_size(make_map, make_counts, decompose):
    data = make_counts((24, 31))
    clean = make_counts((24, 31), dose=4e3).astype(np.float64) / 100  # a hundred times the counts

    dec = decompose(make_map(data=data), 3, options=DenseOptions(), config=TrainConfig(max_steps=600))

    ours, pca = (np.mean((one.reconstruction.data - clean) ** 2) for one in (dec, dec.baseline))
    assert ours < 0.9 * pca
    assert dec.report.candidates[0].difference < -2 * dec.report.candidates[0].standard_error
