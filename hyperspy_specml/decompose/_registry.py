"""The architectures that are known, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperspy_specml.decompose._architecture import Architecture
from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import AUTOENCODERS

if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN: dict[str, Architecture] = {}


def register_architecture(architecture: Architecture) -> None:
    """Make an architecture known: to ``s.decomposition_ae``, to model files and to the command line.

    Parameters
    ----------
    architecture
        An `Autoencoder` with a network of yours, or any other `Architecture`. One of the same name is replaced.

    Raises
    ------
    OptionError
        It is no architecture.
    """
    if not isinstance(architecture, Architecture):
        raise OptionError(
            f"register_architecture({architecture!r}) needs an Architecture, e.g. "
            "Autoencoder('mine', MyNetwork, MyOptions())."
        )
    _KNOWN[architecture.name] = architecture
    if (network := getattr(architecture, "network", None)) is not None:
        AUTOENCODERS[architecture.name] = network


def architecture_names() -> tuple[str, ...]:
    """Return the names of all architectures."""
    return tuple(_KNOWN)


def choose_architecture(
    name: str, options: object = None, *, method: str = "decomposition_ae", also: Mapping[str, Any] | None = None
) -> Architecture:
    """Return an architecture with its options.

    Parameters
    ----------
    name
        Of the architecture.
    options
        Of the class that it has; None takes the defaults.
    method
        Name of the method that asks, for the messages.
    also
        Single options by name, which have keywords of their own in the method, where they are not the default.

    Raises
    ------
    OptionError
        An unknown architecture, options of another class, or an option that it does not have.
    """
    if name not in _KNOWN:
        raise OptionError.unknown("architecture", name, _KNOWN)
    found = _KNOWN[name]
    kind = type(found.options)
    if options is not None and type(options) is not kind:
        here = "specml." if kind.__module__.startswith("hyperspy_specml.") else ""
        raise OptionError(
            f"{method}(architecture={name!r}, options={options!r}) needs options={here}{kind.__name__}(...)."
        )
    options = options or found.options
    for option, value in (also or {}).items():
        if not hasattr(options, option):
            having = [n for n, a in _KNOWN.items() if hasattr(a.options, option)]
            raise OptionError(
                f"{method}({option}={value!r}) is not known to architecture={name!r}, only to "
                f"{' and '.join(map(repr, having))}: {method}(architecture={having[0]!r}, {option}={value!r})."
            )
        options = replace(options, **{option: value})  # type: ignore[type-var]
    return replace(found, options=options)  # type: ignore[type-var]
