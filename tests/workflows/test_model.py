"""A model trained on one map and applied to another: one pass, nothing fitted."""

from __future__ import annotations

import logging

import dask.array as da
import numpy as np
import pytest

from hyperspy_specml.exceptions import EnergyAxisMismatchError, OptionError, TooFewSpectraError

pytestmark = pytest.mark.parametrize("architecture", ["pca", "dense"])


@pytest.fixture
def trained(fitted, architecture):
    _, dec = fitted(architecture)
    return dec.model


@pytest.fixture
def other(make_map, make_counts):
    """Another map of the same kind and size of spectra, of another scan."""
    return make_map(data=make_counts((7, 9), seed=5))


def apply(signal, model, **options):
    return signal.decomposition_ae(model=model, show_progressbar=False, **options)


def test_applying_is_encoding_every_spectrum_and_decoding_it_again(other, trained, unchanged):
    dec = apply(unchanged(other), trained)

    model = trained.model
    by_hand = model.encode(other.data.reshape(-1, 61))
    # Behind the scores come outputs: an autoencoder of counts keeps the intensity of each spectrum.
    np.testing.assert_allclose(dec.scores.data.reshape(3, -1).T, by_hand[:, :3], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        dec.residual.data.reshape(-1, 61), other.data.reshape(-1, 61) - model.decode(by_hand), atol=1e-3
    )
    np.testing.assert_array_equal(dec.components.data, model.components())


def test_a_model_applied_to_its_own_map_repeats_the_result(fitted, architecture):
    signal, dec = fitted(architecture)

    again = apply(signal, dec.model)

    np.testing.assert_array_equal(again.scores.data, dec.scores.data)
    np.testing.assert_array_equal(again.baseline.scores.data, dec.baseline.scores.data)
    # The decoder's products round by where their arrays happen to lie in memory.
    np.testing.assert_allclose(again.residual.data, dec.residual.data, rtol=1e-4, atol=1e-4)


def test_the_report_tells_the_map_from_the_one_of_the_training(other, trained):
    other.data[3, 4] = 0
    masked = np.zeros((7, 9), bool)
    masked[1, 2] = True

    dec = apply(other, trained, navigation_mask=masked)

    assert dec.report.used["pixels"] == {"used": 62, "masked": 1}  # no counts are data
    assert dec.report.trained_on == "steel"
    assert "trained on    steel" in str(dec.report)
    assert dec.report.candidates == trained.report.candidates
    assert list(dec.report.seconds) == ["projection"]
    assert dec.baseline.report.architecture == "pca"
    assert dec.baseline.report.used == dec.report.used
    assert trained.report.trained_on is None


def test_an_applied_model_can_be_applied_again(other, trained):
    dec = apply(other, trained)

    again = apply(other, dec.model)

    np.testing.assert_array_equal(again.scores.data, dec.scores.data)
    assert again.report.trained_on == "steel"


def test_the_baseline_is_a_model_too(other, trained):
    dec = apply(other, trained)

    pca = apply(other, dec.baseline.model)

    np.testing.assert_array_equal(pca.scores.data, dec.baseline.scores.data)
    assert pca.baseline is None


@pytest.mark.parametrize("chunks", [(3, 4, 61), (3, 4, 20)])
def test_a_lazy_map_is_read_once(make_map, make_counts, other, trained, counted, unchanged, chunks):
    file = counted(other.data)
    expected = apply(other, trained)

    dec = apply(unchanged(make_map(data=file.dask(chunks))), trained)

    assert np.all(file.reads == 1)
    assert dec.reconstruction._lazy
    np.testing.assert_allclose(dec.scores.data, expected.scores.data, rtol=1e-5, atol=1e-4)
    residual = np.asarray(dec.residual.data)
    np.testing.assert_allclose(residual, expected.residual.data, rtol=1e-5, atol=1e-3)


def test_ev_and_kev_are_the_same_axis(other, trained):
    expected = apply(other, trained)
    energy = other.axes_manager[-1]
    energy.units, energy.scale, energy.offset = "keV", energy.scale / 1000, energy.offset / 1000
    energy.name = "E"

    dec = apply(other, trained)

    np.testing.assert_array_equal(dec.scores.data, expected.scores.data)
    assert dec.components.axes_manager[-1].units == "keV"


@pytest.mark.parametrize(
    ("change", "value", "reason"),
    [
        ("offset", 700.5, r"the model needs all channels from 699\.875 to 715\.125"),
        ("scale", 0.24, r"the model needs all channels from 699\.875 to 715\.125"),
        ("scale", 0.55, r"its channels are 2\.2 times as wide, which is beyond a factor of two"),
        ("units", "nm", r"'nm' cannot be converted to 'eV'"),
        ("units", "keV", r"the model needs all channels from 699\.875 to 715\.125"),
        ("units", "no unit", r"'no unit' cannot be converted to 'eV'"),
        ("units", "", r"'' cannot be converted to 'eV'"),
    ],
)
def test_another_energy_axis_is_refused_with_both_axes_and_the_reason(other, trained, unchanged, change, value, reason):
    setattr(other.axes_manager[-1], change, value)

    with pytest.raises(
        EnergyAxisMismatchError,
        match=rf"trained on 61 channels from 700 to 715 eV, but .*has 61 channels from .*: {reason}\. "
        r"Bring it .*interpolate_on_axis.*only its calibration differs, align=True moves the model; or fit anew",
    ):
        apply(unchanged(other), trained)


def test_an_axis_without_the_last_channel_is_refused(other, trained):
    with pytest.raises(
        EnergyAxisMismatchError,
        match=r"61 channels from 700 to 715 eV, but .* has 60 channels from 700 to 714\.75 eV: the model",
    ):
        apply(other.isig[:-1], trained)


def test_a_navigation_mask_hides_pixels_of_the_new_map(other, trained):
    mask = np.zeros((7, 9), bool)
    mask[2] = True

    dec = apply(other, trained, navigation_mask=mask)

    assert dec.report.used["pixels"] == {"used": 54, "masked": 9}
    np.testing.assert_array_equal(np.isnan(dec.scores.data).all(axis=0), mask)
    np.testing.assert_array_equal(np.isnan(dec.residual.data).all(axis=-1), mask)


def test_what_agrees_with_the_model_may_be_said(other, trained, architecture):
    dec = apply(other, trained, output_dimension=3, architecture=architecture)

    assert dec.report.n_components == 3


def test_a_result_is_no_model_but_has_one(other, fitted, architecture):
    _, dec = fitted(architecture)

    with pytest.raises(OptionError, match=r"needs a trained model, result\.model or .*, not DecompositionResult"):
        apply(other, dec)


@pytest.mark.parametrize("lazy", [False, True])
def test_spectra_that_cannot_be_used_are_marked_as_in_a_fit(make_map, other, trained, lazy):
    data = other.data.astype(np.float32)
    data[0, 1, 7] = np.nan
    data[0, 2, 7] = np.inf
    data[6, 8] = 0
    data[6, 7, 5] = 0.5  # no counts, so a spectrum of zeros was not measured

    signal = make_map(data=da.from_array(data, chunks=(3, 4, 20)) if lazy else data)
    dec = apply(signal, trained)

    assert dec.report.used["pixels"] == {"used": 60, "not finite": 2, "empty": 1}
    for one in (dec, dec.baseline):
        for values in (np.moveaxis(one.scores.data, 0, -1), np.asarray(one.residual.data)):
            assert np.isnan(values[0, 1:3]).all()
            assert not values[6, 8].any()
            assert np.isnan(values).any(axis=-1).sum() == 2


def test_channels_that_the_training_left_out_are_not_looked_at(make_map, make_counts, decompose, other, architecture):
    dead = make_counts()
    dead[..., 3] = 0
    dec = decompose(make_map(data=dead), architecture=architecture, signal_mask=np.arange(61) < 2)
    data = other.data.astype(np.float32)
    data[..., :2] = np.nan

    again = apply(make_map(data=data), dec.model)

    assert again.report.used == {"pixels": {"used": 63}, "channels": {"used": 58, "masked": 2, "empty": 1}}
    assert np.isfinite(again.scores.data).all()
    assert np.isnan(again.reconstruction.data[..., :2]).all()
    assert not again.reconstruction.data[..., 3].any()


def test_a_map_without_a_usable_spectrum_is_refused(make_map, other, trained):
    data = other.data.astype(np.float32)
    data[..., 30] = np.nan

    with pytest.raises(TooFewSpectraError, match=r"no spectrum of .*'not finite': 63.*signal_mask"):
        apply(make_map(data=data), trained)


def test_saturation_that_the_model_cannot_leave_out_is_said(make_map, other, trained, caplog):
    data = np.minimum(other.data, 255).astype(np.uint8)
    data[:2, :, 15] = 255

    with caplog.at_level(logging.WARNING, logger="hyperspy_specml"):
        dec = apply(make_map(data=data), trained)

    assert dec.report.used["pixels"] == {"used": 45, "saturated": 18}
    assert "18 spectra hold the largest value of uint8" in caplog.text
    assert np.isfinite(dec.scores.data).all()
