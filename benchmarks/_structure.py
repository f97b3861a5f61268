"""How a package is built: its lines of code, its functions, and how its modules import each other.

A module is a ``.py`` file. A module directly below the package counts as a folder, too. Counted are imports of
the package's own modules, one for each name that is imported; those in a stub beside a module
(``__init__.pyi``, which lazy_loader runs) are that module's own. Modules named by a string (``importlib``)
are not seen.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes
    ----------
    importer, line
        Module and line of the statement.
    target
        The module that the statement names: ``p.folder._a`` both in ``from p.folder import _a`` and in
        ``from p.folder._a import name``.
    written
        Module and name together, ``p.folder._a.name``.
    origin
        The module where the name is defined, behind all modules that only pass it on.
    for_types
        Whether the statement stands below ``if TYPE_CHECKING:`` and so never runs.
    """

    importer: str
    line: int
    target: str
    written: str
    origin: str
    for_types: bool


class Module:
    """A source file: which of its lines are code, what its functions are, what it imports."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        tokens = list(tokenize.generate_tokens(io.StringIO(self.text).readline))
        comments = [token for token in tokens if token.type == tokenize.COMMENT]
        self.commented = {token.start[0] for token in comments}
        self.skips = sum("fmt: skip" in token.string for token in comments)
        code = (token for token in tokens if token.type not in _NO_CODE)
        lines = {line for token in code for line in range(token.start[0], token.end[0] + 1)}
        self.code = lines - set(self._docstring_lines())

    def functions(self) -> list[tuple[str, int]]:
        """Return name and lines of code of every function; of one within another, in both."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef
        found = (node for node in ast.walk(self.tree) if isinstance(node, kinds))
        return [(f.name, len(self.code & set(_lines(f)))) for f in found]

    def _docstring_lines(self) -> Iterator[int]:
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        for node in ast.walk(self.tree):
            if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
                yield from _lines(node.body[0])


def _lines(node: ast.stmt) -> range:
    assert node.end_lineno is not None  # the parser knows it
    return range(node.lineno, node.end_lineno + 1)


class Package:
    """All modules of a package, read from its folder without importing it."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.modules: dict[str, Module] = {}
        self._stubs: dict[str, Module] = {}
        self._folders = set()
        for path in sorted(folder.rglob("*.py*")):
            if path.suffix not in (".py", ".pyi"):
                continue
            name = ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
            (self.modules if path.suffix == ".py" else self._stubs)[name] = Module(path)
            if path.stem == "__init__":
                self._folders.add(name)

    def folder(self, module: str) -> str:
        """Return the folder of a module; that of the package's own ``__init__`` is the package."""
        parts = module.split(".")
        return parts[1] if len(parts) > 1 else self.name

    @cached_property
    def imports(self) -> list[Import]:
        """Every name of the package that one of its modules imports."""
        raw = list(self._statements())
        passed_on = {(importer, name): written for importer, _, written, name, _ in raw}
        found = []
        for importer, line, written, _, for_types in raw:
            target, origin = self._module_of(written), self._origin(written, passed_on)
            if target != importer:
                found.append(Import(importer, line, target, written, origin, for_types))
        return found

    def graph(self, *, types: bool, origins: bool = False, folders: bool = False) -> nx.DiGraph:
        """Return who imports whom.

        Parameters
        ----------
        types
            Whether imports that only type checkers see belong to it.
        origins
            Lead to the module that defines a name rather than to the one that the statement names.
        folders
            Between folders rather than modules.
        """
        graph = nx.DiGraph()
        graph.add_nodes_from(map(self.folder, self.modules) if folders else self.modules)
        for one in self.imports:
            ends = one.importer, one.origin if origins else one.target
            start, end = map(self.folder, ends) if folders else ends
            if start != end and (types or not one.for_types):
                graph.add_edge(start, end)
        return graph

    def private_imports(self) -> list[Import]:
        """Return imports of another folder's private modules or names, those for types included."""
        return [
            one
            for one in self.imports
            if self.folder(one.importer) != self.folder(one.target)
            and any(p.startswith("_") and not p.startswith("__") for p in one.written.split(".")[2:])
        ]

    def _statements(self) -> Iterator[tuple[str, int, str, str, bool]]:
        """Yield importer, line, dotted name, name given to it here, and whether it is for types."""
        for importer, module in [*self.modules.items(), *self._stubs.items()]:
            for_types = set(_below_type_checking(module.tree))
            for node in ast.walk(module.tree):
                if not isinstance(node, ast.Import | ast.ImportFrom):
                    continue
                for written, name in self._names(importer, node):
                    if written.partition(".")[0] == self.name:
                        yield importer, node.lineno, written, name, node in for_types

    def _names(self, importer: str, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
        else:
            base = node.module or ""
            if node.level:
                above = importer.split(".")
                above = above[: len(above) - node.level + (importer in self._folders)]
                base = ".".join([*above, *filter(None, [base])])
            yield from ((f"{base}.{alias.name}", alias.asname or alias.name) for alias in node.names)

    def _module_of(self, written: str) -> str:
        while written not in self.modules and "." in written:
            written = written.rpartition(".")[0]
        return written

    def _origin(self, written: str, passed_on: dict[tuple[str, str], str]) -> str:
        seen: set[str] = set()
        while written not in self.modules and written not in seen:
            seen.add(written)
            module, _, name = written.rpartition(".")
            written = passed_on.get((module, name), written)
        return self._module_of(written)


def longest_chain(graph: nx.DiGraph) -> list[str]:
    """Return the most modules that stand behind each other, each importing the next.

    The modules of a circle stand in it one behind the other, all of them.
    """
    whole = nx.condensation(graph)
    members = {node: sorted(whole.nodes[node]["members"]) for node in whole}
    for node, names in members.items():
        whole.add_edge("start", node)
        for before in whole.predecessors(node):
            whole.edges[before, node]["weight"] = len(names)
    return [name for node in nx.dag_longest_path(whole)[1:] for name in members[node]]


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """Return the groups of modules, or folders, of which each imports all others, on detours if need be."""
    return sorted(sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1)


def quantile(values: list[int], share: float) -> int:
    """Return the smallest value that this share of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0


def _below_type_checking(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                yield from ast.walk(statement)


def structure(folder: Path) -> dict[str, int | list[str]]:
    """Return the figures of the package in a folder; of lists, that is how many there are."""
    package = Package(folder)
    modules = package.modules.values()
    lengths = [lines for module in modules for _, lines in module.functions()]
    private = package.private_imports()
    counts: dict[str, int | list[str]] = {
        "lines of code": sum(len(module.code) for module in modules),
        "without a comment": sum(len(module.code - module.commented) for module in modules),
        "files": len(modules),
        "longest file": max(len(module.text.splitlines()) for module in modules),
        "functions": len(lengths),
        "median function": quantile(lengths, 0.5),
        "90 % of functions": quantile(lengths, 0.9),
        "longest function": max(lengths, default=0),
        "# fmt: skip": sum(module.skips for module in modules),
        "private imports": sorted({f"{one.importer}, line {one.line}: {one.target}" for one in private}),
        "private names": len(private),
    }
    ways: dict[str, dict[str, bool]] = {"": {}, ", followed": {"origins": True}, " of folders": {"folders": True}}
    for way, options in ways.items():
        counts[f"longest chain{way}"] = longest_chain(package.graph(types=False, **options))
    for way, options in ways.items():
        groups = circles(package.graph(types=True, **options))
        counts[f"circles{way}"] = [", ".join(group) for group in groups]
    return counts
