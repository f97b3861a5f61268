"""Views of tools in HyperSpy's registry, of those toolkits alone whose package is installed.

HyperSpy supposes that a toolkit named in an extension's YAML is installed: with a name too many, its own
``s.plot()`` of five axes fails. So the views stand in a section of ours, and are registered here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T", bound=type)

PACKAGES = {"ipywidgets": "hyperspy_gui_ipywidgets", "traitsui": "hyperspy_gui_traitsui"}
_EXTRAS = {"ipywidgets": "gui-jupyter", "traitsui": "gui-qt"}


def views() -> dict[str, dict[str, dict[str, str]]]:
    """Read module and function of the view of each toolkey, by toolkit."""
    import yaml

    text = (Path(__file__).parents[1] / "hyperspy_extension.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["tool_views"]


def installed() -> list[str]:
    """Return the toolkits whose package is there."""
    return [toolkit for toolkit, package in PACKAGES.items() if find_spec(package) is not None]


def with_gui(toolkey: str) -> Callable[[T], T]:
    """Give a tool the method ``gui(display=True, toolkit=None)`` that HyperSpy's tools have.

    Parameters
    ----------
    toolkey
        As in hyperspy_extension.yaml.
    """

    def decorate(tool: T) -> T:
        from hyperspy.ui_registry import GUI_DT

        def gui(self: Any, display: bool = True, toolkit: str | Iterable[str] | None = None) -> Any:
            return _open(self, toolkey, display, toolkit)

        gui.__doc__ = GUI_DT
        tool.gui = gui  # type: ignore[attr-defined]
        return tool

    return decorate


def _open(tool: Any, toolkey: str, display: bool, toolkit: str | Iterable[str] | None) -> Any:
    from hyperspy import ui_registry

    there = installed()
    asked = [toolkit] if isinstance(toolkit, str) else list(toolkit or there)
    missing = [name for name in asked if name in PACKAGES and name not in there]
    if missing or not there:
        extra = _EXTRAS[missing[0]] if missing else "gui-jupyter"
        needed = PACKAGES[missing[0]] if missing else " or ".join(PACKAGES.values())
        raise ImportError(f"This tool needs {needed}: pip install 'hyperspy_specml[{extra}]'.")
    for name in there:
        ui_registry.TOOLKIT_REGISTRY.add(name)
        ui_registry.UI_REGISTRY.setdefault(toolkey, {})[name] = views()[name][toolkey]
    return ui_registry.get_gui(tool, toolkey, display=display, toolkit=None if toolkit is None else asked)


def with_limits(owner: Any, name: str) -> tuple[Any, Any, Any]:
    """Return the value of a trait, and its smallest and largest one; None where it has none.

    Parameters
    ----------
    owner, name
        The trait.
    """
    kind = owner.trait(name).trait_type
    return getattr(owner, name), getattr(kind, "_low", None), getattr(kind, "_high", None)
