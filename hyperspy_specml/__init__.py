"""Trustworthy machine learning on spectrum images, as methods of HyperSpy's signals.

HyperSpy imports this package while it loads: nothing here may raise or need more than the standard library.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperspy_specml import datasets, estimators, exceptions
    from hyperspy_specml.models import denoise_model, denoise_report, load_model
    from hyperspy_specml.run import TrainConfig
    from hyperspy_specml.workflows import train_denoiser

__version__ = "0.1.0.dev0"
__all__ = [
    "TrainConfig",
    "__version__",
    "datasets",
    "denoise_model",
    "denoise_report",
    "estimators",
    "exceptions",
    "load_model",
    "train_denoiser",
]

_HOMES = {  # the other public names are modules
    "TrainConfig": "hyperspy_specml.run",
    "denoise_model": "hyperspy_specml.results",
    "denoise_report": "hyperspy_specml.results",
    "load_model": "hyperspy_specml.results",
    "train_denoiser": "hyperspy_specml.workflows",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


try:
    from hyperspy_specml.registration import register_methods

    register_methods()
except Exception as error:  # raised further it would break `import hyperspy`, whatever it is
    logging.getLogger(__name__).error(
        "hyperspy_specml added no methods to HyperSpy's signals: %r. "
        "`from hyperspy_specml import registration; registration.register_methods()` shows where it fails.",
        error,
    )
