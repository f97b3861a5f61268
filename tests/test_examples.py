"""The examples of README.md and of the pages run as they are printed, with shorter trainings than their readers'."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hyperspy_specml as specml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
RST = re.compile(r"^\.\. code-block:: python\n\n((?:    [^\n]*\n|\n)+)", re.M)
MARKDOWN = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
FOLDERS = ("docs", "docs/user_guide", "docs/reference", "docs/developer")  # not those that the build makes
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.rst")))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[str]:
    """Yield the Python blocks of a page, after empty lines that make errors name the line of the page."""
    text = page.read_text(encoding="utf-8")
    for found in (MARKDOWN if page.suffix == ".md" else RST).finditer(text):
        code = re.sub("^    ", "", found[1], flags=re.M) if page.suffix == ".rst" else found[1]
        yield "\n" * text.count("\n", 0, found.start(1)) + code


@pytest.mark.filterwarnings("ignore:.*PCA of the same size is better")  # after so short a training
@pytest.mark.usefixtures("brief_training", "few_drawn_pixels")
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=name_of)
def test_the_examples_of_the_page_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that they save
    if 'hs.load("map.hspy")' in page.read_text(encoding="utf-8"):
        specml.datasets.fe_cr_ni_map((9, 11), n_channels=128).signal.save(tmp_path / "map.hspy")
    namespace: dict[str, object] = {}
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), namespace)


def test_the_start_page_goes_from_a_file_to_the_answers_in_six_lines() -> None:
    (code,) = blocks(ROOT / "docs" / "index.rst")

    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    assert all(call in code for call in ("hs.load(", ".phase_map()", ".anomaly_map()"))


def test_the_start_pages_have_examples() -> None:
    names = {name_of(page) for page in PAGES if any(blocks(page))}
    guide = {f"docs/user_guide/{name}.rst" for name in ("decomposition", "denoising", "anomaly", "lazy")}
    assert {"README.md", *guide} <= names
