"""The house stands: imports point downwards, and only the rooms with networks load torch."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hyperspy_specml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(__file__).resolve().parents[1] / "hyperspy_specml"
LAYERS = (  # a room may import from its own room and from the layers below its own
    {"__main__", "registration"},
    {"_demo"},
    {"methods", "datasets"},
    {"workflows"},
    {"results"},
    {"signals"},
    {"estimators"},
    {"anomaly", "denoise"},
    {"decompose"},
    {"prepare"},
    {"models"},
    {"train"},
    {"run"},
    {"nn", "statistics"},
    {"streaming"},
    {"progress"},
    {"exceptions"},
)
TORCH_ROOMS = {"anomaly", "decompose", "denoise", "models", "nn", "train"}
ARRAY_ROOMS = TORCH_ROOMS | {
    "prepare",
    "run",
    "progress",
    "statistics",
    "streaming",
}  # signals stay at the edge
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer(name: str) -> int:
    found = [height for height, rooms in enumerate(LAYERS) if name in rooms]
    assert found, f"hyperspy_specml.{name} has no layer yet: give it one in LAYERS"
    return found[0]


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the dotted name of everything that *nodes* import from outside their room."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def run_on_loading(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below *node* that run when the module is imported: no functions, no types."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from run_on_loading(child)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def everything_imported(path: Path) -> set[str]:
    return set(imported(ast.walk(parsed(path))))


def libraries(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def libraries_on_loading(path: Path) -> set[str]:
    return libraries(imported(run_on_loading(parsed(path))))


def our_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in everything_imported(path) if name.startswith("hyperspy_specml.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    here = room(path)
    upwards = {there for there in our_rooms(path) if there != here and layer(there) <= layer(here)}
    assert not upwards, f"{here} is not above {upwards}"


def test_relative_imports_stay_in_their_room() -> None:
    for path in MODULES:
        froms = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom)]
        assert all(node.level < len(path.relative_to(PACKAGE).parts) for node in froms), path


def test_datasets_stand_alone() -> None:
    for path in (PACKAGE / "datasets").rglob("*.py"):
        assert our_rooms(path) <= {"datasets", "exceptions"}, path.name


def test_torch_is_loaded_by_the_rooms_with_networks_only() -> None:
    heavy = {path for path in MODULES if "torch" in libraries_on_loading(path)}
    assert {room(path) for path in heavy} <= TORCH_ROOMS


def test_the_rooms_below_the_signals_know_arrays_only() -> None:
    for path in MODULES:
        if room(path) in ARRAY_ROOMS:
            assert not {"hyperspy", "exspy"} & libraries(everything_imported(path)), path


def test_the_modules_that_load_with_hyperspy_use_the_standard_library_only() -> None:
    for name in ("__init__.py", "registration.py", "methods.py"):
        assert libraries_on_loading(PACKAGE / name) <= {"hyperspy_specml", *sys.stdlib_module_names}, name


@pytest.mark.parametrize("name", hyperspy_specml.__all__)
def test_every_public_name_exists_and_is_listed(name: str) -> None:
    assert getattr(hyperspy_specml, name) is not None
    assert name in dir(hyperspy_specml)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hyperspy_specml' has no attribute 'nowhere'"):
        hyperspy_specml.nowhere  # noqa: B018  (the access is the test)
