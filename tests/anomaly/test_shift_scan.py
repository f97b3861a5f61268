"""A shifted spectrum is found by its derivative, as strongly as its counts allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_specml.anomaly._scan import ScanModel, ShiftScan
from hyperspy_specml.statistics import PoissonGaussianNoise, PoissonNoise

N_CHANNELS, SHAPE = 80, (9, 11)
CHANNELS = np.arange(N_CHANNELS, dtype=float)
USED = np.ones(SHAPE, bool)


def edge(shift=0.0):
    return 20 + 200 * np.exp(-0.5 * ((CHANNELS - 40 - shift) / 5) ** 2)


def model_of(*spectra, noise=None):
    return ScanModel(np.array(spectra), np.zeros(N_CHANNELS), noise or PoissonNoise(), 10**6)


def fitted(model, values):
    """Return coefficients by weighted least squares, as those of PCA are."""
    scale = 1 / np.sqrt(edge())
    return np.linalg.lstsq((model.spectra * scale).T, (values * scale).reshape(-1, N_CHANNELS).T, rcond=None)[
        0
    ].T.reshape(*values.shape[:-1], -1)


def looked_at(values, model=None, **options):
    model = model or model_of(edge())
    scan = replace(ShiftScan.of(model, edge(), 1.0), **options)
    z, size = scan.strongest(values.astype(np.float32), fitted(model, values).astype(np.float32), USED, (0, 1, 2))
    return z, size


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_z_is_that_of_the_best_estimate_of_the_shift(shift):
    values = np.tile(edge(), (*SHAPE, 1))
    values[4, 5] = edge(shift)

    z, size = looked_at(values)

    # Fisher information of a shift, less what a change of the dose would explain.
    slope, scale = (edge(-0.5) - edge(0.5)), 1 / np.sqrt(edge())
    white, known = slope * scale, edge() * scale
    white = white - known * (known @ white) / (known @ known)
    assert z[4, 5] == pytest.approx(shift * np.linalg.norm(white), rel=0.05)
    assert size[4, 5] == 0
    assert z[4, 6] == pytest.approx(z[4, 5] / 3, rel=0.05)  # one of nine pixels
    assert size[4, 6] == 1


def test_noise_has_z_of_variance_one():
    values = np.random.default_rng(0).poisson(edge(), (*SHAPE, 20, N_CHANNELS)).astype(float)
    model = model_of(edge())
    scan = ShiftScan.of(model, edge(), 1.0)

    sums = scan.sums(values, fitted(model, values), np.ones((*SHAPE, 20)), model.noise)

    z = sums[..., 0] / np.sqrt(sums[..., 1])
    assert z.std() == pytest.approx(1, abs=0.05)
    assert abs(z.mean()) < 0.1


def test_correlated_noise_is_not_stronger_than_it_is():
    noise = PoissonGaussianNoise(0.0, 3.0, (1.0, 0.5))
    rng = np.random.default_rng(0)
    white = rng.standard_normal((4000, N_CHANNELS + 1)) * 3
    values = edge() + (white[:, 1:] + white[:, :-1]) / np.sqrt(2)
    model = model_of(edge(), noise=noise)
    scan = ShiftScan.of(model, edge(), 1.0)
    flat = np.linalg.lstsq(model.spectra.T, values.T, rcond=None)[0].T

    sums = scan.sums(values, flat, np.ones(4000), noise)

    assert (sums[:, 0] / np.sqrt(sums[:, 1])).std() == pytest.approx(1, abs=0.05)
    assert scan.correlated > 1.5


def test_a_model_that_describes_shifts_shows_none():
    slope = edge(-0.5) - edge(0.5)
    values = np.tile(edge(), (*SHAPE, 1))
    values[4, 5] = edge(0.5)

    z, _ = looked_at(values, model_of(edge(), slope))

    assert np.abs(z).max() < 0.5


def test_shifts_of_ordinary_spectra_are_allowed_for():
    values = np.tile(edge(), (*SHAPE, 1))
    values[4, 5] = edge(0.5)
    strict, _ = looked_at(values)

    z, _ = looked_at(values, model_error=0.5)

    assert z[4, 5] == pytest.approx(strict[4, 5] / np.hypot(1, strict[4, 5]), rel=0.05)


def test_neighbours_of_a_certain_pixel_are_scored_without_it():
    values = np.tile(edge(), (*SHAPE, 1))
    values[4, 5] = edge(4.0)

    z, _ = looked_at(values)

    assert z[4, 5] > 7
    z[4, 5] = 0
    assert np.abs(z).max() < 1e-2


def test_pixels_that_are_not_used_are_ignored():
    values = np.tile(edge(0.5), (*SHAPE, 1))
    used = USED.copy()
    used[2, 3] = False
    model = model_of(edge())
    coefficients = fitted(model, values)
    values[2, 3] = coefficients[2, 3] = 0
    scan = ShiftScan.of(model, edge(), 1.0)

    z, _ = scan.strongest(values.astype(np.float32), coefficients.astype(np.float32), used, (0, 1))

    assert z[2, 3] == 0
    assert z[2, 4] == pytest.approx(z[6, 7] * np.sqrt(8 / 9), rel=1e-3)


@pytest.mark.parametrize("shift", [-9.0, -0.5, 0.0, 0.75, 6.0])
def test_the_shift_of_a_mean_spectrum_is_measured(shift):
    other = 20 + 100 * np.exp(-0.5 * ((CHANNELS - 55) / 7) ** 2)
    model = model_of(edge(), other)
    truth = 0.7 * edge(shift) + 0.5 * np.interp(CHANNELS - shift, CHANNELS, other)
    mean = np.random.default_rng(0).poisson(9 * truth, (200, N_CHANNELS)) / 9
    scan = ShiftScan.of(model, edge() + other, 1.0)

    found = scan.estimate(mean, fitted(model, mean), np.full(200, 9), 12.0)

    assert found[:, 0].mean() == pytest.approx(shift, abs=0.05)
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.5)


def test_a_shift_beyond_those_tried_is_not_reported():
    model = model_of(edge())
    scan = ShiftScan.of(model, edge(), 1.0)
    far = edge(9.0)[None]

    assert np.isnan(scan.estimate(far, fitted(model, far), np.ones(1), 3.0)[0, 0])
    assert scan.estimate(far, fitted(model, far), np.ones(1), 12.0)[0, 0] == pytest.approx(9, abs=0.1)


def test_too_few_channels_have_no_room_for_a_shift():
    spectra = np.array([[5.0, 9.0, 3.0, 1.0]])
    model = ScanModel(spectra, np.zeros(4), PoissonNoise(), 100)
    scan = ShiftScan.of(model, spectra[0], 1.0)

    assert np.isnan(scan.estimate(spectra, np.ones((1, 1)), np.ones(1), 12.0)).all()


def test_another_element_is_no_shift():
    model = model_of(edge())
    scan = ShiftScan.of(model, edge(), 1.0)
    foreign = (edge() + 100 * np.exp(-0.5 * ((CHANNELS - 55) / 5) ** 2))[None]

    assert np.isnan(scan.estimate(foreign, fitted(model, foreign), np.full(1, 9), 20.0)[0, 0])


@pytest.mark.parametrize(("start", "known"), [(4, False), (40, True)])
def test_a_shift_is_told_only_where_the_compared_channels_hold_the_feature(start, known):
    def decay(shift=0.0):  # a pulse and its decay
        after = CHANNELS - start - shift
        return 5 + 400 * np.exp(-np.maximum(after, 0) / 12) / (1 + np.exp(-after / 0.7))

    model = model_of(decay())
    scan = ShiftScan.of(model, decay(), 1.0)
    spectrum = decay(0.5)[None]

    ((shift, error),) = scan.estimate(spectrum, fitted(model, spectrum), np.array([50.0]), 12.0)

    assert shift == pytest.approx(0.5, abs=0.15) if known else np.isnan(shift)
    assert error > 0
