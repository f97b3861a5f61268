"""Opened with and without the packages of the toolkits, and what HyperSpy does without them."""

from __future__ import annotations

import pytest

import hyperspy_specml.gui._guard as guard
from hyperspy_specml.gui import DecompositionAE

BOTH = {"ipywidgets", "traitsui"}


@pytest.fixture
def registries(monkeypatch):
    """HyperSpy's registries as they are where no GUI package is installed; what is opened is recorded."""
    from hyperspy import ui_registry

    monkeypatch.setattr(ui_registry, "TOOLKIT_REGISTRY", set())
    registry = {key: {} for key in ui_registry.UI_REGISTRY}
    monkeypatch.setattr(ui_registry, "UI_REGISTRY", registry)
    shown = []
    for toolkit in BOTH:
        module = __import__(f"hyperspy_specml.gui.{toolkit}", fromlist=["view"])
        monkeypatch.setattr(module, "view", lambda obj, display, toolkit=toolkit: shown.append(toolkit))
    return shown


@pytest.mark.parametrize("there", [set(), {"ipywidgets"}, {"traitsui"}, BOTH])
@pytest.mark.parametrize("asked", [None, "ipywidgets", "traitsui"])
def test_what_is_installed_is_opened_and_what_is_missing_is_named_in_one_sentence(
    make_map, monkeypatch, registries, there, asked
):
    import hyperspy.api as hs

    for toolkit in BOTH:
        monkeypatch.setattr(hs.preferences.GUIs, f"enable_{toolkit}_gui", True)
    monkeypatch.setattr(guard, "find_spec", lambda name: name if name.removeprefix("hyperspy_gui_") in there else None)
    tool = DecompositionAE(make_map())
    wanted = {asked} if asked else there

    if wanted and wanted <= there:
        assert tool.open(toolkit=asked) is tool
        assert set(registries) == wanted
        return
    with pytest.raises(ImportError) as error:
        tool.open(toolkit=asked)
    assert str(error.value).count(". ") == 0
    assert "pip install 'hyperspy_specml[gui-" in str(error.value)
    assert registries == []


def test_every_tool_has_a_toolkey_and_a_view_in_each_toolkit():
    from importlib import import_module

    import hyperspy.ui_registry as ui_registry

    from hyperspy_specml import gui

    tools = {f"hyperspy_specml.{name}" for name in dir(gui) if isinstance(getattr(gui, name), type)}
    tools -= {"hyperspy_specml.Tool", "hyperspy_specml.RunTool", "hyperspy_specml.Action"}
    assert tools == {key for key in ui_registry.UI_REGISTRY if key.startswith("hyperspy_specml.")}
    for views in guard.views().values():
        assert set(views) == tools
        for spec in views.values():
            assert callable(getattr(import_module(spec["module"]), spec["function"]))


def test_hyperspy_loads_no_toolkit_and_plots_five_axes_where_none_is_installed(python):
    python("""
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.startswith("hyperspy_gui") else find(name, *a)
import importlib.metadata as metadata
every = metadata.entry_points
metadata.entry_points = lambda **query: (
    [e for e in every(**query) if not e.name.startswith("hyperspy_gui")] if query else every())
import matplotlib; matplotlib.use("agg")
import numpy as np, hyperspy.api as hs
toolkits = {"ipywidgets", "traitsui", "PySide6", "IPython", "ipympl", "hyperspy_specml.gui"}
assert not toolkits & set(sys.modules)
hs.signals.Signal1D(np.zeros((2, 2, 2, 2, 8))).plot()
try:
    hs.signals.Signal1D(np.ones((4, 4, 8))).decomposition_ae(interactive=True)
except ImportError as error:
    assert "pip install" in str(error), error
else:
    raise AssertionError("a tool without a toolkit")
""")
