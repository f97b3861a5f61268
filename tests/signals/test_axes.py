from __future__ import annotations

import json

import numpy as np
import pytest
from hyperspy.axes import DataAxis, FunctionalDataAxis, UniformDataAxis

from hyperspy_specml.models import in_words, same_channels
from hyperspy_specml.signals import axis_spec, energy_axis


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_energy_axis_is_the_signal_axis_wherever_it_lies(make_map, order):
    assert energy_axis(make_map(order=order)).name == "Energy loss"


def test_a_uniform_axis_is_described_by_scale_and_offset():
    axis = UniformDataAxis(size=11, scale=0.25, offset=700, name="Energy loss", units="eV")

    assert axis_spec(axis) == {"name": "Energy loss", "units": "eV", "size": 11, "scale": 0.25, "offset": 700.0}


@pytest.mark.parametrize(
    "axis",
    [
        DataAxis(axis=np.array([1.0, 2.0, 4.0], np.float32)),
        FunctionalDataAxis(expression="2**x", x=UniformDataAxis(size=3)),
    ],
)
def test_any_other_axis_is_described_by_its_values(axis):
    assert axis_spec(axis) == {"name": None, "units": None, "size": 3, "values": [1.0, 2.0, 4.0]}


@pytest.mark.parametrize("energy", [{"size": 11, "scale": np.float32(0.5)}, {"axis": np.arange(11) ** 2}])
def test_a_description_passes_through_json(make_map, energy):
    spec = axis_spec(energy_axis(make_map(energy=energy)))

    assert json.loads(json.dumps(spec)) == spec


EV = {"name": "Energy", "units": "eV", "size": 5, "scale": 0.5, "offset": 700.0}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"name": "E"},
        {"units": "keV", "scale": 0.5e-3, "offset": 0.7},
        {"offset": 700.02},  # a twentieth of a channel
        {"scale": 0.5 * (1 + 1e-7)},
    ],
)
def test_axes_are_the_same_whatever_their_names_and_units(other):
    assert same_channels(EV, EV | other)
    assert same_channels(EV | other, EV)


@pytest.mark.parametrize(
    "other",
    [
        {"size": 6},
        {"offset": 700.1},
        {"scale": 0.52},
        {"scale": -0.5},
        {"units": "keV"},
        {"units": "nm"},
        {"units": None},
        {"units": "channels / (odd]"},
    ],
)
def test_axes_that_put_a_channel_elsewhere_are_not_the_same(other):
    assert not same_channels(EV, EV | other)
    assert not same_channels(EV | other, EV)


@pytest.mark.parametrize("units", [None, "cm$^{-1}$", "a.u."])
def test_equal_units_match_also_where_they_are_unknown(units):
    assert same_channels(EV | {"units": units}, EV | {"units": units})


def test_an_axis_of_values_can_be_a_uniform_one():
    values = {"name": None, "units": "eV", "size": 5, "values": [700.0, 700.5, 701.0, 701.5, 702.0]}

    assert same_channels(EV, values)
    assert not same_channels(EV, values | {"values": [700.0, 700.5, 701.0, 701.5, 702.2]})


def test_an_axis_of_many_values_is_described_in_few_words():
    assert in_words(EV) == "5 channels from 700 to 702 eV"
    many = {"name": None, "units": None, "size": 3000, "values": list(np.geomspace(1.0, 9.0, 3000))}
    assert in_words(many) == "3000 channels from 1 to 9 (no unit)"
