"""The principal basis against a singular value decomposition of the same whitened data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from hyperspy_specml.statistics import PoissonNoise, canonical_signs, moments_of, principal_basis, project_on
from hyperspy_specml.statistics._basis import all_eigenvalues, channel_weights
from hyperspy_specml.statistics._noise import gaussian_noise


@pytest.fixture(scope="module")
def rows(planted):
    return np.random.default_rng(0).poisson(planted(90, 31, level=40.0, rank=4)).astype(np.float64)


def basis_of(rows, *, n_vectors=5, noise=None, **options):
    return principal_basis(moments_of(rows), noise or PoissonNoise(), n_vectors=n_vectors, **options)


@pytest.mark.parametrize("centre", [False, True])
def test_vectors_and_eigenvalues_are_those_of_a_singular_value_decomposition(rows, centre):
    found = basis_of(rows, centre=centre, scree=True)
    white = (rows - centre * rows.mean(axis=0)) / np.sqrt(rows.mean(axis=0))
    _, s, vt = np.linalg.svd(white, full_matrices=False)

    np.testing.assert_allclose(found.eigenvalues, s**2 / len(rows), rtol=1e-9)
    np.testing.assert_allclose(np.abs(found.vectors.T @ vt[:5].T), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(np.abs(found.project(rows)), np.abs(white @ vt[:5].T), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(basis_of(rows, centre=centre).vectors.shape, (31, 5))


@pytest.mark.parametrize(("n_channels", "n_vectors"), [(63, 63), (64, 1), (131, 5), (131, 131)])
def test_all_eigenvalues_and_the_leading_vectors_are_those_of_a_full_eigendecomposition(n_channels, n_vectors):
    white = np.random.default_rng(0).standard_normal((200, n_channels)) * np.linspace(1, 3, n_channels)
    covariance = white.T @ white
    values, vectors = all_eigenvalues(covariance, n_vectors)
    expected_values, expected = np.linalg.eigh(covariance)

    np.testing.assert_allclose(values, expected_values[::-1], rtol=1e-9)
    overlaps = np.abs(vectors.T @ expected[:, ::-1][:, :n_vectors])
    np.testing.assert_allclose(overlaps, np.eye(n_vectors), atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f8"])
def test_projections_on_several_bases_leave_out_the_channels_that_these_do_not_have(rows, dtype):
    one, other = basis_of(rows, n_vectors=2, centre=True), basis_of(rows, n_vectors=3)
    channels = np.ones(35, bool)
    channels[[0, 7, 20, 34]] = False
    spread = np.full((len(rows), 35), np.nan if "f" in dtype else 255).astype(dtype)
    spread[:, channels] = np.minimum(rows, 200)

    found = project_on(spread, (one, other), channels)

    for scores, basis in zip(found, (one, other), strict=True):
        np.testing.assert_allclose(scores, basis.project(np.minimum(rows, 200)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("centre", [False, True])
def test_a_complete_basis_reproduces_the_spectra(rows, centre):
    found = basis_of(rows, n_vectors=31, centre=centre)

    np.testing.assert_allclose(found.spectra(found.project(rows)), rows, rtol=1e-4, atol=1e-3)
    # a component is the spectrum that a score of one adds
    np.testing.assert_allclose(found.components() * found.weights, found.vectors.T, atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float16", "float32", ">f4", "int64"])
def test_scores_do_not_depend_on_the_dtype(rows, dtype):
    found = basis_of(rows)
    few = np.minimum(rows, 200)

    np.testing.assert_allclose(found.project(few.astype(dtype)), found.project(few), rtol=1e-5)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1e9, 1e30])
def test_scores_have_no_unit(rows, unit):
    found = basis_of(unit * rows, noise=gaussian_noise(unit))
    expected = basis_of(rows, noise=gaussian_noise(1)).project(rows)

    np.testing.assert_allclose(found.project(unit * rows), expected, rtol=1e-4, atol=1e-4)


def test_aligned_vectors_span_the_same_space_and_lie_closer(rows):
    found, other = basis_of(rows[::2]), basis_of(rows[1::2])
    aligned = found.aligned_with(other)

    np.testing.assert_allclose(aligned.vectors @ aligned.vectors.T, found.vectors @ found.vectors.T, atol=1e-9)
    distance = np.linalg.norm(aligned.vectors - other.vectors)
    for _ in range(3):  # no other rotation is closer
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
        assert distance <= np.linalg.norm(found.vectors @ rotation - other.vectors)


def test_signs_point_peaks_up_and_change_nothing_else(rows):
    components = basis_of(rows).components()
    flipped = components * np.array([1, -1, -1, 1, -1])[:, None]

    np.testing.assert_allclose(canonical_signs(flipped), canonical_signs(components))
    assert canonical_signs(np.array([[-9.0, 1.0, 1.0]])).tolist() == [[9.0, -1.0, -1.0]]


def test_weights_are_finite_for_dead_channels(rows):
    mean = rows.mean(axis=0) * (np.arange(31) != 4)

    assert np.isfinite(channel_weights(mean, PoissonNoise())).all()


def test_smoothing_along_energy_is_that_of_the_spectra(rows):
    weights = 1 / np.sqrt(rows.mean(axis=0))
    smooth = gaussian_filter1d(rows * weights, 1.5, axis=1)
    _, s, vt = np.linalg.svd(smooth, full_matrices=False)

    found = basis_of(rows, smoothing=1.5, scree=True)

    np.testing.assert_allclose(np.abs(found.vectors.T @ vt[:5].T), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(found.eigenvalues[:5], s[:5] ** 2 / len(rows), rtol=1e-9)
