"""From a result to the tool that shows it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.signals import Source


def open_tool(name: str, signal: BaseSignal | None, source: Source | None, *how: Any, **given: Any) -> Any:
    """Open a tool by its name: tools stand above results, and are loaded when somebody wants one.

    Parameters
    ----------
    name
        Of its class.
    signal
        The map that it follows; None takes that of the source.
    source
        Of the result; None where it has no map, such as one of a file.
    *how
        `display` and `toolkit`, as of HyperSpy's ``gui``.
    **given
        Further arguments of the class.

    Raises
    ------
    OptionError
        There is no map.
    """
    if signal is None:
        if source is None:
            raise OptionError("explore() needs the map, which this result does not hold: explore(s).")
        signal = source.signal()
    return getattr(import_module("hyperspy_specml.gui"), name)(signal, **given).open(*how)
