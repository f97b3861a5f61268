"""Trustworthy machine learning on spectrum images, as methods of HyperSpy's signals.

HyperSpy imports this package while it loads: nothing here may raise or need more than the standard library.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperspy_specml import data, datasets, encoders, estimators, exceptions
    from hyperspy_specml.decompose import (
        Autoencoder,
        ConvOptions,
        DenseOptions,
        PCAOptions,
        SimplexOptions,
        VariationalOptions,
        register_architecture,
    )
    from hyperspy_specml.denoise import DenoiseOptions, LibraryOptions
    from hyperspy_specml.live import Damage, EnergyDrift, IntensityChange, NewPhase, scan_order
    from hyperspy_specml.pretraining import Instruments, LoraOptions, Masking, PatchShape
    from hyperspy_specml.progress import Progress, ProgressBar
    from hyperspy_specml.results import denoise_model, denoise_report, load_result
    from hyperspy_specml.run import ComputeConfig, TrainConfig
    from hyperspy_specml.signals import provenance
    from hyperspy_specml.workflows import (
        Encoder,
        LiveMonitor,
        Predictor,
        align,
        estimate_shift,
        load_model,
        pretrain,
        train_denoiser,
    )

__version__ = "0.1.0.dev0"

_HOMES = {  # of the public names
    "decompose": (
        "Autoencoder",
        "ConvOptions",
        "DenseOptions",
        "PCAOptions",
        "SimplexOptions",
        "VariationalOptions",
        "register_architecture",
    ),
    "denoise": ("DenoiseOptions", "LibraryOptions"),
    "pretraining": ("Instruments", "LoraOptions", "Masking", "PatchShape"),
    "progress": ("Progress", "ProgressBar"),
    "results": ("denoise_model", "denoise_report", "load_result"),
    "run": ("ComputeConfig", "TrainConfig"),
    "signals": ("provenance",),
    "live": ("Damage", "EnergyDrift", "IntensityChange", "NewPhase", "scan_order"),
    "workflows": (
        "Encoder",
        "LiveMonitor",
        "Predictor",
        "align",
        "estimate_shift",
        "load_model",
        "pretrain",
        "train_denoiser",
    ),
}
_MODULES = ("data", "datasets", "encoders", "estimators", "exceptions")
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_MODULES, *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _MODULES:
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
