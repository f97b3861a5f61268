"""How the package is built: imports point downwards, by public names, and never in a circle.

A module is a file or folder directly below the package. What others may import of a folder is what its
``__init__`` names.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hyperspy_specml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hyperspy_specml"
# A module may import from the layers below its own.
LAYERS = (
    {"hyperspy_specml"},
    {"__main__", "registration"},
    {"tour"},
    {"methods", "data", "datasets", "encoders"},
    {"gui"},
    {"workflows"},
    {"results"},
    {"signals"},
    {"estimators", "live", "pretraining"},
    {"latent"},
    {"anomaly", "denoise"},
    {"decompose"},
    {"prepare"},
    {"models"},
    {"train"},
    {"run"},
    {"nn", "statistics"},
    {"streaming"},
    {"progress"},
    {"exceptions", "lazy"},
)
# They know arrays only: no signals.
WITHOUT_SIGNALS = {
    "anomaly", "decompose", "denoise", "estimators", "latent", "lazy", "live", "models", "nn", "prepare", "pretraining",
    "progress", "run", "statistics", "streaming", "train",
}  # fmt: skip
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Return the function that reads who imports what in the package in a folder."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks._structure").Package


def layer(module: str) -> int:
    found = [height for height, modules in enumerate(LAYERS) if module in modules]
    assert found, f"hyperspy_specml.{module} has no layer yet: give it one in LAYERS"
    return found[0]


def upward(package: Any) -> list[str]:
    """Return the imports, in functions and for types too, that do not lead to a lower layer."""
    return [
        f"{one.importer}:{one.line} {one.written}"
        for one in package.imports
        for here, there in [(package.folder(one.importer), package.folder(one.target))]
        if here != there and layer(here) >= layer(there)
    ]


def private(package: Any) -> list[str]:
    """Return the imports, in functions and for types too, that reach behind another module's ``__init__``."""
    return [f"{one.importer}:{one.line} {one.written}" for one in package.private_imports()]


def circles(package: Any) -> list[list[str]]:
    """Return the groups of files that import each other, in functions and for types too.

    Names are followed through ``__init__`` to the file that defines them.
    """
    found = importlib.import_module("benchmarks._structure").circles
    return found(package.graph(types=True, origins=True)) + found(package.graph(types=True, folders=True))


@pytest.fixture(scope="module")
def whole() -> Any:
    """Who imports what in the package itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return importlib.import_module("benchmarks._structure").Package(PACKAGE)


def test_imports_point_downwards(whole: Any) -> None:
    assert upward(whole) == []


def test_modules_import_each_other_by_their_public_names(whole: Any) -> None:
    assert private(whole) == []


def test_no_files_import_each_other(whole: Any) -> None:
    assert circles(whole) == []


def test_whoever_follows_a_name_opens_twelve_files_at_most(whole: Any) -> None:
    chain = importlib.import_module("benchmarks._structure").longest_chain(whole.graph(types=False, origins=True))

    assert len(chain) <= 12, chain


PLANTED = {
    "__init__": "",
    "exceptions": "class Error(Exception): ...\n",
    "streaming/__init__": "from hyperspy_specml.streaming._blocks import Block\n",
    "streaming/_blocks": "from hyperspy_specml.exceptions import Error\nclass Block: ...\n",
    "streaming/_passes": "from hyperspy_specml.streaming._blocks import Block\n",
    "statistics/__init__": "from hyperspy_specml.statistics._basis import basis\n",
    "statistics/_basis": "from hyperspy_specml.streaming import Block\ndef basis(): ...\n",
}
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize("form", ["{}\n", "def late():\n    {}\n", FOR_TYPES + "{}\n"])
@pytest.mark.parametrize(
    ("check", "name", "line"),
    [
        (upward, "streaming/_passes", "from hyperspy_specml.statistics import basis"),
        (private, "statistics/_rank", "from hyperspy_specml.streaming._blocks import Block"),
        (circles, "streaming/_blocks", "from hyperspy_specml.streaming import _passes"),
        # by way of streaming/__init__, which only passes the name on
        (circles, "streaming/_blocks", "from hyperspy_specml.statistics import basis"),
    ],
)
def test_a_planted_violation_is_found(
    tmp_path: Path, read: Callable[[Path], Any], check: Callable, name: str, line: str, form: str
) -> None:
    files = PLANTED | {name: PLANTED.get(name, "") + form.format(line)}
    for changed, contents in ((False, PLANTED), (True, files)):
        for path, text in contents.items():
            file = tmp_path / "hyperspy_specml" / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        assert bool(check(read(tmp_path / "hyperspy_specml"))) == changed


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the libraries that nodes import from."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


def run_on_loading(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a node that run when the file is imported: no functions, no types."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from run_on_loading(child)


def libraries(path: Path) -> set[str]:
    return imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def libraries_on_loading(path: Path) -> set[str]:
    return imported(run_on_loading(ast.parse(path.read_text(encoding="utf-8"))))


def module(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_datasets_stand_alone(whole: Any) -> None:
    targets = {whole.folder(one.target) for one in whole.imports if whole.folder(one.importer) == "datasets"}
    assert targets <= {"datasets", "exceptions"}


def test_torch_is_loaded_by_the_modules_with_networks_only() -> None:
    assert {module(path) for path in FILES if "torch" in libraries_on_loading(path)} == {"nn"}


def test_the_modules_below_the_signals_know_arrays_only() -> None:
    found = {path for path in FILES if {"hyperspy", "exspy"} & libraries(path)}
    assert [path for path in found if module(path) in WITHOUT_SIGNALS] == []


def test_the_files_that_load_with_hyperspy_use_the_standard_library_only() -> None:
    for name in ("__init__.py", "registration.py", "methods.py"):
        assert libraries_on_loading(PACKAGE / name) <= {"hyperspy_specml", *sys.stdlib_module_names}, name


@pytest.mark.parametrize("name", hyperspy_specml.__all__)
def test_every_public_name_exists_and_is_listed(name: str) -> None:
    assert getattr(hyperspy_specml, name) is not None
    assert name in dir(hyperspy_specml)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hyperspy_specml' has no attribute 'nowhere'"):
        hyperspy_specml.nowhere  # noqa: B018  (the access is the test)
