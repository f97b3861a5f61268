"""What is installed: the file that HyperSpy reads, the names it looks up, the dependencies we use."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import yaml

import hyperspy_specml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = Path(hyperspy_specml.__file__).parent
# where the name to import is not the name to install
DISTRIBUTIONS = {"mpl_toolkits": "matplotlib", "skimage": "scikit-image", "yaml": "pyyaml"}
# used where the user has them
ON_DEMAND = {
    "distributed",
    "sklearn",
    "ipywidgets",
    "ipympl",
    "IPython",
    "pyface",
    "traitsui",
    "hyperspy_gui_traitsui",
    "pandas",
    "pooch",
    "umap",
}


def test_the_file_hyperspy_reads_is_the_one_at_the_top_of_the_repository() -> None:
    installed = (INSTALLED / "hyperspy_extension.yaml").read_text(encoding="utf-8")
    assert installed == (ROOT / "hyperspy_extension.yaml").read_text(encoding="utf-8")


def test_the_package_says_that_it_is_typed() -> None:
    assert (INSTALLED / "py.typed").exists()


def test_hyperspy_finds_the_plain_and_the_dotted_name() -> None:
    names = {e.name for e in entry_points(group="hyperspy.extensions") if "specml" in e.name}
    assert names == {"hyperspy_specml", "hyperspy_specml.registration"}


def test_every_toolkey_starts_with_our_name_or_hyperspy_drops_its_widgets() -> None:
    extension = yaml.safe_load((INSTALLED / "hyperspy_extension.yaml").read_text(encoding="utf-8"))
    assert all(key.startswith("hyperspy_specml.") for key in extension["GUI"]["toolkeys"])


def test_the_version_is_the_installed_one() -> None:
    assert version("hyperspy_specml") == hyperspy_specml.__version__


def test_everything_that_the_package_imports_is_a_dependency() -> None:
    names = set()
    for path in INSTALLED.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    used = {DISTRIBUTIONS.get(name, name) for name in names - sys.stdlib_module_names}
    declared = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert used - {"hyperspy_specml"} - ON_DEMAND <= declared


@pytest.mark.parametrize("extra", ["tests", "docs", "gui", "distributed", "tables", "umap", "data"])
def test_the_extras_of_the_documentation_exist(extra: str) -> None:
    assert extra in PROJECT["optional-dependencies"]
