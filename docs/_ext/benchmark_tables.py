"""``.. benchmark-table:: FILE / TABLE`` shows a table of benchmarks/results/FILE.json and its runs.

``benchmarks/_records.py`` describes these files. A file or table that is not there is a warning; with
``:pending:`` a line says that it was not measured yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class BenchmarkTable(SphinxDirective):
    """A table, its caption, and a line for each kind of run that its rows are of."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"pending": directives.flag}  # noqa: RUF012  (docutils reads it so)

    def run(self) -> list[nodes.Node]:
        """Read the file and return what is shown of it."""
        file, _, name = self.arguments[0].partition(" / ")
        path = Path(self.env.srcdir).parent / "benchmarks" / "results" / f"{file}.json"
        self.env.note_dependency(str(path))
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"tables": []}
        table = next((one for one in record["tables"] if one["name"] == name), None)
        if table is None and "pending" in self.options:
            text = f"{name}: not measured yet, see the command above."
            return [nodes.paragraph(text, text)]
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
        return [_table(f"{name}: {table['caption']}", columns, rows), *_sources(of_table)]


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


def _sources(runs: list[dict[str, Any]]) -> list[nodes.paragraph]:
    """Return a line for each run; for those that differ in the commit only, one together."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        machine = run["machine"]
        cores = [f"{machine['cores']} core" + "s" * (machine["cores"] > 1)] if "cores" in machine else []
        place = " of ".join([*cores, *([machine["cpu"]] if "cpu" in machine else [])]) or "machine not recorded"
        words = (run["date"], run["command"], run["package_version"], place, run.get("recorded", ""))
        lines.setdefault(words, []).extend(filter(None, [run["commit"]]))
    return [_source(*words, ", ".join(commits)) for words, commits in lines.items()]


def _source(date: str, command: str, version: str, place: str, recorded: str, commits: str) -> nodes.paragraph:
    code = f" ({commits})" if commits else ""
    tail = f", version {version}{code}, {place}{'; ' * bool(recorded)}{recorded}."
    return nodes.paragraph(
        "", "", nodes.Text(f"Measured {date} with "), nodes.literal(command, command), nodes.Text(tail)
    )


def _when(run: dict[str, Any]) -> str:
    return f"{run['date']} ({run['commit']})" if run["commit"] else run["date"]
