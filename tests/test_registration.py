"""HyperSpy's signals have our methods, whatever is imported first; HyperSpy loads even when we are broken.

Each case needs an interpreter of its own, so a case checks all that it can.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Python = Callable[..., str]

ROOT = Path(__file__).resolve().parents[1]
# exspy 0.3.2 imports lazy classes from where HyperSpy 2.4 had them (its warning is a UserWarning)
STRICT = ("-W", "error", "-W", "ignore:Importing `Lazy:UserWarning")

METHODS_ARE_THERE = """
import pickle
import exspy.signals, hyperspy.api as hs
from importlib import import_module
from hyperspy_specml.registration import signal_methods

owners = [hs.signals.Signal1D, hs.signals.ComplexSignal1D]
owners += [exspy.signals.EELSSpectrum, exspy.signals.EDSTEMSpectrum, exspy.signals.EDSSEMSpectrum]
try:
    import lumispy.signals
    owners.append(lumispy.signals.CLSEMSpectrum)
except ImportError:
    pass
owners += [type(owner([0.0, 1.0]).as_lazy()) for owner in owners]
assert all(owner.__name__.startswith("Lazy") for owner in owners[len(owners) // 2:])
others = [hs.signals.BaseSignal, hs.signals.Signal2D]
listed = signal_methods()
assert "decomposition_ae" in listed
for name, module in listed.items():
    ours = getattr(import_module(module), name)
    assert all(getattr(owner, name) is ours for owner in owners)
    assert not any(hasattr(other, name) for other in others)
    assert pickle.loads(pickle.dumps(ours)) is ours
"""

FIRST_IMPORTS = {
    "hyperspy.api": "import hyperspy.api",
    "exspy": "import exspy; exspy.signals.EELSSpectrum",
    "lumispy": "import lumispy; lumispy.signals.CLSEMSpectrum",
    "hyperspy.signals": "from hyperspy.signals import Signal1D",
    "a private signal module": "import hyperspy._signals.signal1d",
    "the private base class": "import hyperspy._signals.common_signal1d",
    "hyperspy_specml": "import hyperspy_specml",
    "hyperspy_specml, reloaded": (
        "import hyperspy_specml, hyperspy_specml.methods, hyperspy.api; from importlib import reload;"
        "reload(hyperspy_specml); reload(hyperspy_specml.methods); reload(hyperspy_specml)"
    ),
}


@pytest.mark.parametrize("first", FIRST_IMPORTS)
def test_methods_are_there_whatever_is_imported_first(python: Python, first: str) -> None:
    if first == "lumispy" and importlib.util.find_spec("lumispy") is None:
        pytest.skip("lumispy is not installed: pip install lumispy")
    said = python(FIRST_IMPORTS[first] + METHODS_ARE_THERE, *STRICT)
    assert "specml" not in said, "all is well, so there is nothing to log"


def test_a_plain_folder_of_our_name_beside_python_does_not_hide_the_package(python: Python, tmp_path: Path) -> None:
    (tmp_path / "hyperspy_specml").mkdir()
    python(METHODS_ARE_THERE)


def test_python_started_in_the_repository_has_the_methods(python: Python) -> None:
    python(METHODS_ARE_THERE, folder=ROOT)


def test_the_method_shows_its_signature_and_text_like_a_native_one(python: Python) -> None:
    python("""
import inspect, hyperspy.api as hs
method = hs.signals.Signal1D.decomposition_ae
parameters = list(inspect.signature(method).parameters.values())
assert [p.name for p in parameters[:2]] == ["self", "output_dimension"]
assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
assert "Parameters" in inspect.getdoc(method)
assert "decomposition_ae" in dir(hs.signals.Signal1D([0.0, 1.0]))
""")


LOADED = """
import importlib.metadata as metadata, sys
every = metadata.entry_points
if {without_us}:
    metadata.entry_points = lambda **query: [e for e in every(**query) if "specml" not in e.name]
import hyperspy.api as hs
hs.signals.Signal1D
print(*sys.modules)
"""


def test_loading_hyperspy_with_us_loads_nothing_else(python: Python) -> None:
    alone = set(python(LOADED.format(without_us=True)).split())
    added = set(python(LOADED.format(without_us=False)).split()) - alone
    assert {"hyperspy_specml.registration", "hyperspy_specml.methods"} <= added
    assert {name.partition(".")[0] for name in added} == {"hyperspy_specml"}


def test_the_package_alone_loads_no_heavy_library(python: Python) -> None:
    loaded = python("""
import sys, hyperspy_specml
from hyperspy_specml import TrainConfig, exceptions
print(*sys.modules)
""").split()
    assert not {"torch", "dask", "sklearn", "numpy", "hyperspy.signals", "ipywidgets"} & set(loaded)


EVERY_DAMAGE = {
    "methods.py raises": ("methods.py", "raise RuntimeError('on purpose')"),
    "methods.py has a syntax error": ("methods.py", "def ("),
    "methods.py lacks the function": ("methods.py", ""),
    "registration.py raises": ("registration.py", "raise RuntimeError('on purpose')"),
    "the YAML section is a list": ("hyperspy_extension.yaml", "signal_methods: [decomposition_ae]"),
    "the YAML section is empty": ("hyperspy_extension.yaml", "signal_methods:"),
    "the YAML names no module of ours": (
        "hyperspy_extension.yaml",
        "signal_methods: {decomposition_ae: hyperspy_specml.nowhere}",
    ),
}


@pytest.mark.parametrize("damage", EVERY_DAMAGE)
def test_hyperspy_loads_and_we_say_so_when_we_are_broken(python: Python, tmp_path: Path, damage: str) -> None:
    package = Path(importlib.util.find_spec("hyperspy_specml").origin).parent
    shutil.copytree(package, tmp_path / "hyperspy_specml", ignore=shutil.ignore_patterns("__pycache__"))
    file, content = EVERY_DAMAGE[damage]
    (tmp_path / "hyperspy_specml" / file).write_text(content, encoding="utf-8")
    said = python(
        """
import hyperspy.api as hs
assert not hasattr(hs.signals.Signal1D([0.0, 1.0]), "decomposition_ae")
import hyperspy_specml
print("loaded", hyperspy_specml.__file__)
""",
        *STRICT,
        search=tmp_path,
    )
    assert f"loaded {tmp_path}" in said
    assert said.count("hyperspy_specml added no methods to HyperSpy's signals") == 1


def test_a_method_that_others_defined_first_stays_theirs(python: Python) -> None:
    said = python("""
from hyperspy._signals.common_signal1d import CommonSignal1D
def theirs(self): ...
CommonSignal1D.decomposition_ae = theirs
import hyperspy.api as hs
assert hs.signals.Signal1D.decomposition_ae is theirs
""")
    assert "Signal1D.decomposition_ae is not hyperspy_specml's" in said


def test_a_method_of_the_same_name_in_hyperspy_wins(python: Python) -> None:
    python("""
import hyperspy.api as hs
def theirs(self): ...
hs.signals.BaseSignal.decomposition_ae = theirs
assert hs.signals.Signal1D([0.0, 1.0]).decomposition_ae.__func__ is theirs
""")
