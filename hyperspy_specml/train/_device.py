"""Where tensors live."""

from __future__ import annotations

import torch

from hyperspy_specml.exceptions import OptionError


def choose_device(name: str) -> torch.device:
    """Return a torch device.

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
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise OptionError(
            f"device={name!r} cannot be used here ({str(error).splitlines()[0]}). Use device='auto' or 'cpu'."
        ) from error
    return device
