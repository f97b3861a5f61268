"""Counts stay counts: their sums are kept at every intensity, none is negative, and no count is data too."""

from __future__ import annotations

from typing import Any

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.denoise import Denoised, find_removed, keep_counts, keep_mean, overlapping_windows
from hyperspy_specml.statistics import USED, PoissonGaussianNoise, PoissonNoise, PrincipalBasis

SCAN, N_CHANNELS = (24, 28), 48


def particle() -> tuple[np.ndarray, np.ndarray]:
    """A particle of 500 counts per pixel in a vacuum of .2 counts, and where the vacuum is."""
    channel, (y, x) = np.arange(N_CHANNELS), np.indices(SCAN)
    spectrum = np.exp(-((channel - 15) ** 2) / 18) + 0.6 * np.exp(-((channel - 34) ** 2) / 18) + 0.1
    vacuum = np.hypot(y - 12, x - 14) > 5
    mean = np.where(vacuum[..., None], 0.2 / N_CHANNELS, 500 * spectrum / spectrum.sum())
    return np.random.default_rng(0).poisson(mean).astype(np.uint16), vacuum


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_vacuum_beside_a_bright_particle_gets_the_mean_of_all_of_its_spectra(quick: Any, dtype: str) -> None:
    data, vacuum = particle()
    assert (data.sum(axis=-1) == 0).mean() > 0.6
    clean = hs.signals.Signal1D(data.astype(dtype)).denoise_dae(context="spatial", **quick | {"noise": "auto"})
    report = specml.denoise_report(clean)
    totals, counts = clean.data.sum(axis=-1), data.sum(axis=-1)
    assert report.used["pixels"] == {"used": 24 * 28}
    assert report.hold_out == "exact"
    assert report.removed == ()
    assert totals[vacuum].mean() == pytest.approx(counts[vacuum].mean(), rel=0.03)
    assert totals[~vacuum].mean() == pytest.approx(counts[~vacuum].mean(), rel=0.01)
    assert totals[vacuum].std() < 0.5 * counts[vacuum].std()


@pytest.mark.parametrize("dose", [5, 10, 50])
@pytest.mark.parametrize("context", ["spectral", "spatial"])
def test_counts_are_kept_in_all_and_in_dim_and_bright_pixels(dose: float, context: str, quick: Any) -> None:
    bright = specml.datasets.fe_cr_ni_map((32, 40), n_channels=64, dose=1e5).signal
    truth = dose / 1e5 * bright.data.sum(axis=-1).ravel()
    s = bright.deepcopy()
    s.data = np.random.default_rng(5).poisson(bright.data / 1e5 * dose).astype("uint8")
    clean = s.denoise_dae(context=context, **quick)
    totals, counts = clean.data.sum(axis=-1).ravel(), s.data.sum(axis=-1).ravel()
    assert clean.data.min() >= 0
    assert totals.sum() == pytest.approx(counts.sum(), rel=0.01)
    for quarter in np.array_split(np.argsort(truth), 4):  # the mean of the map instead is 12 to 18 % off
        assert totals[quarter].sum() == pytest.approx(counts[quarter].sum(), rel=0.03)
    # Totals of single spectra are off by 1 / sqrt(dose).
    assert (totals / truth - 1).std() < 0.5 / np.sqrt(dose)


def test_sums_that_are_farther_from_the_counts_than_noise_explains_are_drawn_to_them() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([30.0, 70.0], 600)
    flat, right = np.full((1200, 5), 10.0), np.repeat(truth[:, None] / 5, 5, axis=1)
    counts = rng.poisson(truth)
    kept = keep_counts(denoised(flat, identity(5)), counts).totals()
    wiener = 400 / (400 + 50)  # variance of the truth, and of the noise
    for here in (slice(None, 600), slice(600, None)):
        assert kept[here].mean() == pytest.approx(50 + wiener * (counts[here].mean() - 50), rel=0.01)
    assert np.mean((kept - truth) ** 2) < 0.2 * np.mean((50 - truth) ** 2)
    for known in (np.full(1200, 1.0), right / right.mean()):  # nothing is drawn to the noise where sums are right
        exact = np.broadcast_to(known.reshape(1200, -1) * 10, (1200, 5))
        own = rng.poisson(exact.sum(axis=1))
        np.testing.assert_allclose(
            keep_counts(denoised(exact, identity(5)), own).totals(), exact.sum(axis=1), rtol=0.02
        )


def denoised(spectra: np.ndarray, basis: PrincipalBasis, noise: Any = None) -> Denoised:
    state = np.full(len(spectra), USED, np.uint8)
    return Denoised.of(basis, noise or PoissonNoise(), basis.project(spectra), state, 3.0)


def identity(n: int, offset: float = 0.0) -> PrincipalBasis:
    return PrincipalBasis(np.ones(n), np.full(n, offset), np.eye(n), np.ones(n))


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_each_level_of_intensity_is_scaled_to_its_own_counts(offset: float) -> None:
    truth = np.concatenate([np.full((2000, 11), 0.02), np.full((70, 11), 3.0), np.full((30, 11), 90.0)])
    wrong = truth * np.repeat([1.5, 0.8, 1.1], [2000, 70, 30])[:, None]
    one = denoised(wrong, identity(11, offset))
    kept = keep_counts(one, truth.sum(axis=1))
    np.testing.assert_allclose(kept.model.decode(kept.scores), truth, rtol=1e-4)


def test_faint_levels_share_a_scale_and_empty_maps_stay_empty() -> None:
    truth = np.concatenate([np.full((3, 11), 0.02), np.full((70, 11), 3.0)])
    kept = keep_counts(denoised(2 * truth, identity(11)), truth.sum(axis=1))
    np.testing.assert_allclose(kept.model.decode(kept.scores), truth, rtol=1e-4)
    nothing = denoised(np.zeros((7, 11)), identity(11))
    assert keep_counts(nothing, np.zeros(7)) is nothing


def test_no_denoised_count_is_negative_and_sums_are_kept() -> None:
    spectra = np.random.default_rng(0).normal(0.03, 0.04, (35, 200)).astype(np.float32)
    one = denoised(spectra, identity(200))
    decoded = one.model.decode(one.scores)
    assert spectra.min() < -0.05
    assert decoded.min() == 0
    np.testing.assert_allclose(decoded.sum(axis=1), spectra.sum(axis=1), rtol=1e-4)
    signed = denoised(spectra, identity(200), PoissonGaussianNoise(0.0, 0.1))
    np.testing.assert_allclose(signed.model.decode(signed.scores), spectra, atol=1e-6)


def test_a_line_that_is_too_low_in_the_whole_map_is_put_right_and_noise_is_not_added() -> None:
    rng = np.random.default_rng(0)
    intensity = rng.uniform(0.2, 1.8, 5000)[:, None]
    profile = 3 + 40 * np.exp(-0.5 * (np.arange(31) - 12) ** 2)
    counts = rng.poisson(intensity * profile)
    low = profile.copy()
    low[12] *= 0.95
    one = denoised(intensity * low, identity(31))
    kept = keep_mean(one, counts.mean(axis=0), PoissonNoise())
    found = kept.model.decode(kept.scores)
    np.testing.assert_allclose(found[:, 12], intensity[:, 0] * profile[12], rtol=0.01)
    np.testing.assert_allclose(np.delete(found, 12, axis=1), np.delete(intensity * low, 12, axis=1), rtol=1e-5)
    assert (
        keep_mean(denoised(intensity * profile, identity(31)), counts.mean(axis=0), PoissonNoise()).scores.shape[1]
        == 31
    )


def test_what_is_missing_in_the_whole_map_is_no_feature() -> None:
    windows, shape = overlapping_windows(20, 3.0), (16, 16)
    n = len(windows.starts)

    def find(residual: np.ndarray) -> tuple[Any, ...]:
        def sums(pixels: Any, some: slice) -> tuple[np.ndarray, ...]:
            return tuple(v.reshape(-1, n)[pixels, some] for v in (residual, np.full((*shape, n), 4.0)))

        return find_removed(sums, np.ones(shape, bool), windows, gain=1.0, progress=specml.Progress())

    everywhere, somewhere = np.full((*shape, n), 9.0), np.zeros((*shape, n))
    somewhere[3:9, 4:12] = 9
    assert find(everywhere) == ()
    assert len(find(somewhere)) == 1
