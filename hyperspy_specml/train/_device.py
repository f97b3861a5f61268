"""Where tensors live."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator


def choose_device(name: str) -> str:
    """Return the name of a torch device that is there.

    Parameters
    ----------
    name
        "auto" (CUDA, else Apple's MPS, else the CPU) or any name that torch knows.

    Raises
    ------
    OptionError
        torch does not know the name or the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(name)).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise OptionError(
            f"device={name!r} cannot be used here ({str(error).splitlines()[0]}). Use device='auto' or 'cpu'."
        ) from error
    return name


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Run small operations on one CPU core; no limit on other devices.

    A batch is too small to share: two threads gain a fifth on an idle machine and lose a factor on a busy
    one, waiting for each other. One thread also gives the same bits on any number of cores.
    """
    if torch.device(device).type != "cpu":
        yield
        return
    with threadpool_limits(limits=1, user_api="openmp"):
        yield
