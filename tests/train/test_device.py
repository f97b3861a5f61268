"""Where networks are trained: the device is checked, and small steps take one thread."""

from __future__ import annotations

import pytest
import torch

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.train import choose_device, one_thread


def test_a_device_goes_by_the_name_that_torch_knows():
    assert choose_device("cpu") == "cpu"
    assert torch.empty(1, device=choose_device("auto")).device.type in choose_device("auto")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "", "meta", None])
def test_an_impossible_device_is_refused_with_the_way_out(name):
    with pytest.raises(OptionError, match=rf"device={name!r} cannot be used.*device='auto' or 'cpu'"):
        choose_device(name)


def test_training_on_one_thread_leaves_the_users_threads_as_they_were():
    before = torch.get_num_threads()
    with one_thread("cpu"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
