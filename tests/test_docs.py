"""Links between pages lead somewhere, without a build: pages, files, and parts of the gallery."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# folders that the build makes, and those that it makes them of
MADE = {"_gallery": "gallery", "_tutorial": "tutorial"}
GUIDE = sorted((DOCS / "user_guide").glob("*.rst"))
PAGES = [
    *sorted(DOCS.glob("*.rst")),
    *(page for folder in ("user_guide", "reference", "developer") for page in sorted((DOCS / folder).glob("*.rst"))),
    *(page for folder in MADE.values() for page in sorted((DOCS / folder).iterdir()) if page.is_file()),
]
# words and tables need no figure, and what is installed has none
WITHOUT_FIGURE = {"glossary", "index", "install", "warnings"}


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def source(target: str, page: Path) -> Path:
    """Return the file that a page of this name is made of."""
    folder = {made: key for key, made in MADE.items()}.get(page.parent.name, page.parent.relative_to(DOCS).as_posix())
    path = (DOCS / target.lstrip("/")) if target.startswith("/") else (DOCS / folder / target)
    place = path.resolve().relative_to(DOCS.resolve())
    if place.parts[0] not in MADE:
        return DOCS / f"{place}.rst"
    made = DOCS / MADE[place.parts[0]]
    return made / "GALLERY_HEADER.rst" if place.name == "index" else made / f"{place.name}.py"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_to_a_page_finds_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [given.partition("<")[2].rstrip(">") or given for given in re.findall(r":doc:`([^`]+)`", text)]
    targets += re.findall(r"^   :link: (\S+)$", text, re.M)

    assert [target for target in targets if not source(target, page).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_picture_of_a_page_is_there(page: Path) -> None:
    for target in re.findall(r"\.\. (?:image|figure):: (\S+)", page.read_text(encoding="utf-8")):
        assert (DOCS / target.lstrip("/") if target.startswith("/") else page.parent / target).is_file(), target


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_a_page_of_the_guide_has_a_figure_and_is_in_its_contents(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert page.stem in WITHOUT_FIGURE or re.search(r"\.\. (gallery-figure|image|figure)::", text)
    assert page.stem == "index" or f"\n   {page.stem}\n" in (DOCS / "user_guide" / "index.rst").read_text("utf-8")


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_a_part_of_the_gallery_has_its_script(page: Path) -> None:
    for script in re.findall(r"gallery-(?:figure|output):: (\w+) / \d+$", page.read_text("utf-8"), re.M):
        assert any((DOCS / folder / f"{script}.py").is_file() for folder in MADE.values()), script
