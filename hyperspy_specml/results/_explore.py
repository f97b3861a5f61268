"""From a result to the tool that shows it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal


def open_tool(name: str, signal: BaseSignal, display: bool, toolkit: str | None, **given: Any) -> Any:
    """Open a tool by its name: tools stand above results, and are loaded when somebody wants one.

    Parameters
    ----------
    name
        Of its class.
    signal
        The map that it follows.
    display, toolkit
        As of HyperSpy's ``gui``.
    **given
        Further arguments of the class.
    """
    tool = getattr(import_module("hyperspy_specml.gui"), name)
    return tool(signal, **given).open(display, toolkit)
