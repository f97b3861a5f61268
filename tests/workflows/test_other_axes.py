"""A model applied to spectra in other channels: the model is brought to them, the counts never are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

import hyperspy_specml as specml

SCAN = (7, 9)
GRIDS = {  # scale, offset, size: all of them cover the 61 channels of the training, from 699.875 to 715.125
    "half a channel off": (0.25, 699.625, 64),
    "finer": (0.125, 699.5, 140),
    "coarser": (0.5, 700.0, 31),  # what rebinning by two makes of 61 channels and one more
    "another dispersion": (0.3, 699.4, 60),
    "longer": (0.25, 690.0, 120),
    "falling": (-0.26, 716.0, 70),
}


def expected_counts(scan, scale, offset, size, *, dose=400.0):
    """Integrate three peaks, one of them moving, over the channels of an axis: exact for any width."""
    pixel = np.arange(np.prod(scan)).reshape(scan)
    mixing, shift = np.sin(pixel / 23.0) ** 2, np.cos(pixel / 7.0)
    edges = offset - scale / 2 + scale * np.arange(size + 1)

    def peak(centre, width):
        below = 0.5 * erf((edges - (centre + 0 * pixel)[..., None]) / (np.sqrt(2) * width))
        return np.abs(np.diff(below, axis=-1))

    mean = mixing[..., None] * peak(704, 0.75) + (1 - mixing)[..., None] * peak(706.5, 1.0)
    return dose * (mean + peak(711 + shift, 0.75) + 0.01 * abs(scale))


@pytest.fixture
def on_grid(make_map):
    def make(scan, grid, seed=None):
        counts = expected_counts(scan, *grid)
        if seed is not None:
            counts = np.random.default_rng(seed).poisson(counts)
        scale, offset, _ = grid
        energy = {"name": "Energy loss", "units": "eV", "scale": scale, "offset": offset}
        return make_map(data=counts.astype(np.float32), energy=energy)

    return make


OWN = (0.25, 700.0, 61)


@pytest.fixture(scope="module", params=["pca", "dense"])
def architecture(request):
    return request.param


_TRAINED = {}


@pytest.fixture
def trained(on_grid, decompose, architecture):
    if architecture not in _TRAINED:
        _TRAINED[architecture] = decompose(on_grid((20, 31), OWN, seed=0), 3, architecture=architecture).model
    return _TRAINED[architecture]


def apply(signal, model):
    return signal.decomposition_ae(model=model, show_progressbar=False)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_scores_mean_the_same_in_other_channels(on_grid, trained, grid):
    expected = apply(on_grid(SCAN, OWN), trained)

    dec = apply(on_grid(SCAN, grid), trained)

    for one, reference in ((dec, expected), (dec.baseline, expected.baseline)):
        scores, wanted = one.scores.data.reshape(3, -1), reference.scores.data.reshape(3, -1)
        size = np.sqrt(np.mean(wanted**2, axis=1, keepdims=True))
        assert np.abs(scores - wanted).max() <= 0.05 * size.max()
        assert np.all(np.sqrt(np.mean((scores - wanted) ** 2, axis=1, keepdims=True)) < 0.04 * size)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_counts_are_reconstructed_as_well_as_in_the_own_channels(on_grid, trained, grid):
    def error(grid):
        dec, truth = apply(on_grid(SCAN, grid, seed=1), trained), expected_counts(SCAN, *grid)
        used = dec.model.channel_state == 0
        assert np.isnan(dec.reconstruction.data[..., ~used]).all()
        return np.sqrt(np.mean((dec.reconstruction.data - truth)[..., used] ** 2)) / abs(grid[0])

    assert error(grid) < 1.15 * error(OWN)


def test_the_same_channels_give_the_same_bits_and_no_word_of_it(on_grid, trained):
    dec = apply(on_grid(SCAN, OWN, seed=1), trained)

    assert dec.model.model is trained.model
    assert dec.report.resampled_from is None
    assert "resampled" not in str(dec.report)


def test_the_report_says_that_the_model_was_resampled(on_grid, trained):
    dec = apply(on_grid(SCAN, GRIDS["longer"], seed=1), trained)

    for report in (dec.report, dec.baseline.report):
        assert report.resampled_from == "61 channels from 700 to 715 eV"
        assert report.used["channels"] == {"used": 61, "masked": 59}
        assert "resampled" in str(report)
        assert specml.provenance(dec.scores)["resampled_from"] == report.resampled_from


def test_a_resampled_model_is_a_model_of_the_new_channels(on_grid, trained, tmp_path):
    signal = on_grid(SCAN, GRIDS["finer"], seed=1)
    dec = apply(signal, trained)

    path = dec.model.save(tmp_path / "finer")
    again = apply(signal, specml.load_model(path))

    np.testing.assert_array_equal(again.scores.data, dec.scores.data)
    assert again.report.resampled_from == "61 channels from 700 to 715 eV"
    assert len(again.model.channel_state) == 140


def test_the_signal_is_not_touched(on_grid, trained, unchanged):
    dec = apply(unchanged(on_grid(SCAN, GRIDS["half a channel off"], seed=1)), trained)

    assert dec.residual.data.shape == (*SCAN, 64)


def test_channels_that_the_model_left_out_stay_out(on_grid, decompose, architecture):
    signal = on_grid((20, 31), OWN, seed=0)
    signal.data[..., 3] = 0  # dead
    masked = np.arange(61) >= 55
    dec = decompose(signal, 3, architecture=architecture, signal_mask=masked)

    applied = apply(on_grid(SCAN, GRIDS["finer"], seed=1), dec.model)

    energy = 699.5 + 0.125 * np.arange(140)
    out = np.isnan(applied.reconstruction.data).all(axis=(0, 1))
    np.testing.assert_array_equal(out, (energy < 699.9) | (energy > 713.6))
    dead = (applied.reconstruction.data == 0).all(axis=(0, 1))
    np.testing.assert_allclose(energy[dead], 700.75, atol=0.07)
    assert applied.report.used["channels"].keys() == {"used", "masked", "empty"}
