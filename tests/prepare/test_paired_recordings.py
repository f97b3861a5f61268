"""Two recordings of one area are independent: neither holds counts of the other."""

from __future__ import annotations

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import PairsError
from hyperspy_specml.prepare._corruptions import _check_apart


@pytest.fixture(scope="module")
def records():
    """Counts of the same area, of different doses, and Gaussian values of it."""
    simulated = specml.datasets.fe_cr_ni_map((13, 17), n_channels=96, dose=60)
    rng, mean = np.random.default_rng(3), simulated.clean.data.reshape(-1, 96)
    found = {name: rng.poisson(float(name[:2]) * mean).astype(np.uint16) for name in ("1", "1 more", "2", "30")}
    return found | {"gaussian": [mean + rng.normal(0, 0.4, mean.shape) for _ in range(2)]}


@pytest.mark.parametrize("more", [1, 2, 30])
def test_independent_recordings_of_any_dose_pass(records, more):
    rng = np.random.default_rng(9)
    first, second = records["1"], rng.poisson(more * records["30"] / 30)
    _check_apart((first, second), [record.mean(axis=0) for record in (first, second)])
    _check_apart(records["gaussian"], [np.full(96, 0.16)] * 2)


@pytest.mark.parametrize("dose", ["1 more", "2"])
def test_a_recording_that_contains_the_other_is_refused_in_any_order(records, dose):
    part, whole = records["1"], records["1"] + records[dose]
    for both in ((part, whole), (whole, part)):
        with pytest.raises(PairsError, match=r"contains the counts of the other.*0\.[345]\d times.*pairs=\(a, s - a\)"):
            _check_apart(both, [record.mean(axis=0) for record in both])
    one, other = records["gaussian"]
    with pytest.raises(PairsError, match=r"0\.3\d times"):
        _check_apart((one, one + other), [np.full(96, 0.16), np.full(96, 0.32)])


def test_the_method_refuses_a_pair_of_a_part_and_the_whole(make_map, records):
    part, other = (records[dose].reshape(13, 17, 96) for dose in ("1", "2"))
    whole = make_map(data=part + other)
    with pytest.raises(PairsError, match="contains the counts of the other"):
        whole.denoise_dae(pairs=(make_map(data=part), whole), show_progressbar=False)
