"""``.. benchmark-table:: FILE / TABLE`` shows a table of benchmarks/results/FILE.json and its runs.

``benchmarks/_records.py`` describes these files. A file or table that is not there is a warning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx


class BenchmarkTable(SphinxDirective):
    """A table, its caption, and a line for each run that its rows are of."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Read the file and return what is shown of it."""
        file, _, name = self.arguments[0].partition(" / ")
        path = Path(self.env.srcdir).parent / "benchmarks" / "results" / f"{file}.json"
        self.env.note_dependency(str(path))
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"tables": []}
        table = next((one for one in record["tables"] if one["name"] == name), None)
        if table is None:
            message = "benchmarks/results/%s.json has no table %r: run the benchmark, or name another"
            getLogger(__name__).warning(message, file, name, location=self.get_location())
            return []
        runs = [record, *record.get("earlier", [])]
        of_rows = [runs[number] for number in table.get("runs", [0] * len(table["rows"]))]
        of_table = [run for run in runs if run in of_rows]
        columns, rows = table["columns"], table["rows"]
        if len(of_table) > 1:
            columns = [*columns, "measured"]
            rows = [[*row, _when(run)] for row, run in zip(rows, of_rows, strict=True)]
        return [_table(table["caption"], columns, rows), *map(_source, of_table)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx the directive."""
    app.add_directive("benchmark-table", BenchmarkTable)
    return {"parallel_read_safe": True}


def _table(caption: str, columns: list[str], rows: list[list[str]]) -> nodes.table:
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=max(map(len, cells))) for cells in zip(columns, *rows, strict=True)]
    group += nodes.thead("", _row(columns))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", nodes.title(caption, caption), group)


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(cell, cell)) for cell in cells))


def _source(run: dict[str, Any]) -> nodes.paragraph:
    return nodes.paragraph("", "", *_words(run))


def _words(run: dict[str, Any]) -> Iterator[nodes.Node]:
    machine = run["machine"]
    where = [f"{machine['cores']} cores"] if "cores" in machine else []
    where += [f"of {machine['cpu']}"] if "cpu" in machine else []
    yield nodes.Text(f"Measured {_when(run)} with ")
    yield nodes.literal(run["command"], run["command"])
    yield nodes.Text(f", version {run['package_version']}, {' '.join(where) or 'machine not recorded'}")
    yield nodes.Text(f"; {run['recorded']}." if "recorded" in run else ".")


def _when(run: dict[str, Any]) -> str:
    return f"{run['date']} ({run['commit']})" if run["commit"] else run["date"]
