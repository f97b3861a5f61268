"""Attach our methods to the class that every HyperSpy signal with one signal dimension inherits.

HyperSpy's extension file registers classes, but no methods of classes of HyperSpy. HyperSpy ignores sections
that it does not know, so the methods are listed in the same file, in a section ``signal_methods``.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

_logger = logging.getLogger(__name__)


def signal_methods() -> dict[str, str]:
    """Read which methods the plugin adds.

    Returns
    -------
    dict
        The module that defines each method, by the method's name.
    """
    import yaml

    text = (Path(__file__).parent / "hyperspy_extension.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["signal_methods"]


def register_methods() -> None:
    """Attach the listed methods; calling it again, or after a reload, changes nothing else.

    A method of the same name that HyperSpy or another package defines is not replaced.
    """
    # This module of HyperSpy does not load extensions, so it can be imported while HyperSpy is half imported.
    # The class comes last in the method resolution order, so a method that HyperSpy defines in a subclass
    # wins.
    from hyperspy._signals.common_signal1d import CommonSignal1D

    for name, module in signal_methods().items():
        present = getattr(CommonSignal1D, name, None)
        if present is not None and getattr(present, "__module__", None) != module:
            _logger.warning("Signal1D.%s is not hyperspy_specml's: another package defined it first", name)
            continue
        setattr(CommonSignal1D, name, getattr(importlib.import_module(module), name))
