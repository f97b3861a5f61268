"""Parts of pages that the build makes: figures and printed lines of the gallery, tables of versions and measured maps.

``.. gallery-figure:: SCRIPT / NUMBER``
    A figure of a script of the gallery or the tutorial, with a link to its page. The text below is the caption.
``.. gallery-output:: SCRIPT / NUMBER``
    What a block of the script printed.
``.. support-table::``
    Versions that tests run with, from ``constraints-lowest.txt`` and ``constraints.txt``.
``.. measured-maps::``
    What ``specml.data`` knows.

Where scripts are not run (``-D plot_gallery=0``), figures and outputs are left out. Else a missing one is a warning.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
# What a block printed, in the page that Sphinx-Gallery writes.
OUTPUT = re.compile(r"^ \.\. code-block:: none\n\n((?:    .*\n|\s*\n)+)", re.M)
# Versions that the table shows, by their names on PyPI.
LIBRARIES = ("hyperspy", "exspy", "torch", "numpy", "scipy", "dask", "scikit-learn", "scikit-image", "matplotlib")


class FromGallery(SphinxDirective):
    """What shows a part of a page that Sphinx-Gallery made."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Find the page of the script, and show the part of it."""
        script, _, number = self.arguments[0].partition(" / ")
        pages = [Path(self.env.srcdir) / folder / f"{script}.rst" for folder in ("_gallery", "_tutorial")]
        page = next((page for page in pages if page.is_file()), None)
        if page is not None:
            self.env.note_dependency(str(page))
            found = self.show(page, int(number))
            if found:
                return found
        if self.config.sphinx_gallery_conf["plot_gallery"] in (True, "True"):
            getLogger(__name__).warning("the gallery has no %s", self.arguments[0], location=self.get_location())
        return []

    def show(self, page: Path, number: int) -> list[nodes.Node]:
        """Return the nodes, none if the part is not there."""
        raise NotImplementedError


class GalleryFigure(FromGallery):
    """A figure of a script, with a caption, that leads to the page of the script."""

    def show(self, page: Path, number: int) -> list[nodes.Node]:
        """Return the figure."""
        images = page.parent / "images"
        wide, narrow = images / f"sphx_glr_{page.stem}_{number:03d}_2_00x.png", f"sphx_glr_{page.stem}_{number:03d}.png"
        if not (images / narrow).is_file():
            return []
        folder = f"/{page.parent.name}/images"
        sharp = f"\n   :srcset: {folder}/{narrow}, {folder}/{wide.name} 2.00x" if wide.is_file() else ""
        caption = " ".join(self.content)
        source = [
            f".. image-sg:: {folder}/{narrow}",
            f"   :alt: {re.sub(r':[a-z]+:|[`*]', '', caption) or page.stem}{sharp}",
            "   :class: gallery-figure",
            "",
            ".. rst-class:: gallery-caption",
            "",
            f"{caption} (:doc:`script </{page.parent.name}/{page.stem}>`)",
        ]
        return self.parse_text_to_nodes("\n".join(source))


class GalleryOutput(FromGallery):
    """What a block of a script printed."""

    def show(self, page: Path, number: int) -> list[nodes.Node]:
        """Return the lines."""
        printed = OUTPUT.findall(page.read_text(encoding="utf-8"))
        if number > len(printed):
            return []
        text = textwrap.dedent(printed[number - 1]).strip("\n")
        return [nodes.literal_block(text, text, language="none")]


class SupportTable(SphinxDirective):
    """The lowest and the newest versions that tests run with."""

    def run(self) -> list[nodes.Node]:
        """Read both files of versions."""
        lowest, newest = (pinned(ROOT / f"constraints{end}.txt") for end in ("-lowest", ""))
        for end in ("-lowest", ""):
            self.env.note_dependency(str(ROOT / f"constraints{end}.txt"))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        python = project["requires-python"].removeprefix(">=")
        rows = [["Python", python, python], *([name, lowest[name], newest[name]] for name in LIBRARIES)]
        return [table(["", "lowest", "newest"], rows)]


class MeasuredMaps(SphinxDirective):
    """The maps that can be fetched."""

    def run(self) -> list[nodes.Node]:
        """Read them from the package."""
        from hyperspy_specml import data

        rows = [[name, one.title, f"{one.megabytes:g}", one.licence] for name, one in data.MAPS.items()]
        return [table(["name", "what", "MB", "licence of its repository"], rows)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx the directives."""
    for name, directive in {
        "gallery-figure": GalleryFigure, "gallery-output": GalleryOutput, "support-table": SupportTable,
        "measured-maps": MeasuredMaps,
    }.items():  # fmt: skip
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}


def pinned(path: Path) -> dict[str, str]:
    """Return the versions of a file of constraints by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)


def table(columns: list[str], rows: Iterable[list[str]]) -> nodes.table:
    """Return a table of text."""
    rows = [columns, *rows]
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=max(map(len, cells)) + 1) for cells in zip(*rows, strict=True)]
    made = [nodes.row("", *(nodes.entry("", nodes.paragraph(cell, cell)) for cell in cells)) for cells in rows]
    group += nodes.thead("", made[0])
    group += nodes.tbody("", *made[1:])
    return nodes.table("", group)
