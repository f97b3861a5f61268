from __future__ import annotations

import json

import numpy as np
import pytest
from hyperspy.axes import DataAxis, FunctionalDataAxis, UniformDataAxis

from hyperspy_specml.signals import axis_spec, energy_axis


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_energy_axis_is_the_signal_axis_wherever_it_lies(make_map, order):
    assert energy_axis(make_map(order=order)).name == "Energy loss"


def test_a_uniform_axis_is_described_by_scale_and_offset():
    axis = UniformDataAxis(size=11, scale=0.25, offset=700, name="Energy loss", units="eV")

    assert axis_spec(axis) == {
        "name": "Energy loss",
        "units": "eV",
        "size": 11,
        "scale": 0.25,
        "offset": 700.0,
    }


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
