"""What metadata say of detector, beam and elements, also where they say it in text, or nonsense."""

from __future__ import annotations

import logging

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_specml.signals import below_first_line, line_width, spectral_lines


def eds(units="keV", **items):
    s = hs.signals.Signal1D(np.zeros((2, 400), np.uint8))
    s.set_signal_type("EDS_TEM")
    axis = s.axes_manager[-1]
    axis.units, axis.scale, axis.offset = units, 0.05, 0.0
    names = {"resolution": "Acquisition_instrument.TEM.Detector.EDS.energy_resolution_MnKa"}
    names |= {"beam": "Acquisition_instrument.TEM.beam_energy", "elements": "Sample.elements"}
    for name, value in items.items():
        s.metadata.set_item(names[name], value)
    return s


@pytest.mark.parametrize("text", ["150 eV", "0.15 keV", "150", 150, np.float32(150)])
def test_a_resolution_in_text_is_understood(text):
    np.testing.assert_allclose(line_width(eds(resolution=text)), line_width(eds(resolution=150.0)), rtol=1e-6)


@pytest.mark.parametrize("value", ["unknown", float("nan"), -130.0, 1e9, "130 m", [130, 131]])
def test_a_resolution_that_is_none_is_said_and_the_usual_one_taken(value, caplog):
    with caplog.at_level(logging.WARNING, "hyperspy_specml"):
        width = line_width(eds(resolution=value))

    np.testing.assert_array_equal(width, line_width(eds(resolution=130.0)))
    assert "energy_resolution_MnKa" in caplog.text
    assert "set_microscope_parameters(energy_resolution_MnKa=130)" in caplog.text


@pytest.mark.parametrize(("beam", "highest"), [("10 kV", 10.0), ("10000 V", 10.0), (10.0, 10.0), ("10", 10.0)])
def test_lines_above_the_beam_energy_are_left_out(beam, highest):
    lines = spectral_lines(eds(beam=beam))

    assert max(line.energy for line in lines) < highest
    assert {line.element for line in lines} >= {"Al", "Cu"}


@pytest.mark.parametrize("beam", ["200 apples", float("nan"), -5.0, 200_000_000.0])
def test_a_beam_energy_that_is_none_is_said_and_limits_nothing(beam, caplog):
    with caplog.at_level(logging.WARNING, "hyperspy_specml"):
        lines = spectral_lines(eds(beam=beam))

    assert lines == spectral_lines(eds(beam=200.0))
    assert "set_microscope_parameters(beam_energy=200)" in caplog.text


def test_keV_in_other_letters_is_keV_and_other_units_are_said(caplog):
    right = spectral_lines(eds())
    assert spectral_lines(eds("KeV")) == right
    np.testing.assert_array_equal(below_first_line(eds("KEV")), below_first_line(eds()))

    with caplog.at_level(logging.WARNING, "hyperspy_specml"):
        assert spectral_lines(eds("channel")) == ()
    assert "'channel', which are no energy" in caplog.text
    assert "units = 'keV'" in caplog.text


def test_listed_elements_have_the_first_rank_and_unlikely_ones_the_last():
    ranks = {line.element: line.rank for line in spectral_lines(eds(elements=["U", "Fe"]))}

    assert (ranks["U"], ranks["Fe"], ranks["S"], ranks["Os"], ranks["Th"], ranks["Ar"]) == (0, 0, 1, 2, 3, 3)
    assert "H" not in ranks  # below what the detector passes
