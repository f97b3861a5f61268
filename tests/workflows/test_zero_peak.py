"""The zero-energy peak of X-ray detectors, and channels below their first line, are no spectrum."""

from __future__ import annotations

import logging

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml

SHAPE = (13, 17)
ENERGY = -0.2 + 0.02 * np.arange(160)
LINES = {"C": 0.2774, "Si": 1.7397, "Be": 0.1085}


def peak(centre: float, width: float = 0.03) -> np.ndarray:
    shape = np.exp(-0.5 * ((ENERGY - centre) / width) ** 2)
    return shape / shape.sum()


def eds_map(elements: tuple[str, ...] = ("C", "Si"), units: str = "keV", zero: float = 60.0):
    """Two phases; the zero-energy peak of the electronics varies as neither of them does."""
    y, x = np.indices(SHAPE)
    share = 0.5 + 0.4 * np.sin(x / 3)
    rate = 30 * (share[..., None] * peak(LINES["C"]) + (1 - share[..., None]) * peak(LINES["Si"])) + 0.02
    rate = np.where(ENERGY > 0.12, rate, 0) + zero * (1 + 0.8 * np.cos(y / 2))[..., None] * peak(0.0)
    s = hs.signals.Signal1D(np.random.default_rng(0).poisson(rate).astype(np.uint16))
    s.set_signal_type("EDS_TEM")
    axis = s.axes_manager[-1]
    axis.name, axis.units, axis.scale, axis.offset = "Energy", units, 0.02, -0.2
    s.metadata.set_item("Sample.elements", list(elements))
    return s


def zero_peak(s) -> np.ndarray:
    return s.axes_manager[-1].axis < 0.1833 - 0.0512  # B Ka less the full width there of 130 eV at Mn Ka


def components(s, **options):
    return s.decomposition_ae(architecture="pca", show_progressbar=False, **options)


def test_no_component_is_spent_on_it():
    s = eds_map()

    found, kept = components(s), components(s, signal_mask=np.zeros(160, bool))

    assert (found.report.n_components, kept.report.n_components) == (2, 3)
    assert found.report.used["channels"]["below the first line"] == zero_peak(s).sum() == 17
    assert "17 below the first line" in str(found.report)
    assert "below the first line" not in kept.report.used["channels"]


def test_outputs_are_zero_there_and_the_residual_holds_the_peak():
    s = eds_map()
    found, below = components(s, output_dimension=2), zero_peak(s)

    for output in (found.components, found.reconstruction):
        assert not output.data[..., below].any()
        assert np.isfinite(output.data).all()
    np.testing.assert_array_equal(found.residual.data[..., below], s.data[..., below])


@pytest.mark.usefixtures("brief_training")
def test_lazy_denoising_and_anomaly_maps_leave_it_out_too_and_say_so(caplog):
    s = eds_map().as_lazy()
    with caplog.at_level(logging.INFO, "hyperspy_specml"):
        clean = s.denoise_dae(context="spatial", show_progressbar=False)
        found = s.anomaly_map(show_progressbar=False)

    said = [record.getMessage() for record in caplog.records if "zero-energy peak" in record.getMessage()]
    assert [text.split("(")[0] for text in said] == ["denoise_dae", "anomaly_map"]
    assert all("17 channels below 0.14 keV" in text for text in said)
    assert specml.provenance(clean)["used"]["channels"]["below the first line"] == 17
    assert not np.asarray(clean.data)[..., zero_peak(s)].any()
    assert found.report.used["channels"]["below the first line"] == 17
    assert found.regions == ()


def test_a_glitch_of_the_peak_is_no_anomaly():
    s = eds_map()
    s.data[5:8, 5:8, 3:7] += 40  # beside 0 keV, where the peak has its flank

    assert s.anomaly_map(show_progressbar=False).regions == ()
    assert len(s.anomaly_map(signal_mask=np.zeros(160, bool), show_progressbar=False).regions) == 1


def test_a_mask_of_the_user_is_added_to_it():
    mask = np.zeros(160, bool)
    mask[[3, 100]] = True

    used = components(eds_map(), signal_mask=mask).report.used["channels"]

    assert (used["masked"], used["below the first line"]) == (1, 17)


def test_lighter_elements_are_measured_where_they_are_listed():
    s = eds_map(("Be", "Si"))

    used = components(s).report.used["channels"]

    assert used["below the first line"] == (ENERGY < 0.1085 - 0.0494).sum() == 13


@pytest.mark.parametrize("change", ["EELS", "cropped", "no energy"])
def test_other_spectra_are_used_whole(change):
    s = eds_map(units="px" if change == "no energy" else "keV", zero=5)
    s = s.isig[30:] if change == "cropped" else s
    if change == "EELS":
        s.set_signal_type("EELS")

    assert "below the first line" not in components(s).report.used["channels"]


def test_a_model_is_applied_to_the_next_map_without_it(tmp_path):
    s = eds_map()
    path = components(s, output_dimension=2).model.save(tmp_path / "model")
    other = eds_map()
    other.data[..., zero_peak(s)] = 0

    both = [components(one, model=path).scores.data for one in (s, other)]

    np.testing.assert_array_equal(*both)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "share"),
    [("rosettasciio/bcf_v2_50x50px.bcf", 0.05), ("hyperspy-1.7.6/fei_SI_SuperX-HAADF_10frames_10x50.emd", 0.8)],
)
def test_measured_maps_have_it_where_it_is_left_out(data_folder, file, share):
    from hyperspy_specml.signals import below_first_line

    s = next(one for one in hs.load(str(data_folder / file)) if one.axes_manager.signal_dimension == 1)
    below, axis, counts = below_first_line(s), s.axes_manager[-1].axis, s.data.sum(axis=(0, 1), dtype=float)

    assert counts[below].sum() > share * counts.sum()
    assert axis[below].max() == pytest.approx(0.132, abs=0.01)
    assert abs(axis[below][counts[below].argmax()]) < 0.02
    assert counts[below][-1] < 0.01 * counts[below].max()
