"""The files around the package agree with it: citation, news, changelog, issue forms, check of a release."""

from __future__ import annotations

import dataclasses
import datetime
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import hyperspy_specml

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEWS_README = ROOT / "docs" / "changes" / "README.rst"
NEWS = sorted(path for path in NEWS_README.parent.iterdir() if path != NEWS_README)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


@pytest.fixture(scope="module")
def check() -> SimpleNamespace:
    """The script that `make release-check` runs."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / ".ci" / "release_check.py")))


@pytest.fixture
def release(check: SimpleNamespace) -> Any:
    return check.Release(
        version="0.7.0",
        citation={"version": "0.7.0", "date-released": datetime.date(2027, 5, 11)},
        changelog="Changes\n=======\n\n0.7.0 (2027-05-11)\n------------------\n\n0.5.0 (2027-01-01)\n-----\n",
        news=[],
        built=["hyperspy_specml-0.7.0.tar.gz", "hyperspy_specml-0.7.0-py3-none-any.whl"],
        tags=["good", "v0.7.0"],
        changed=[],
    )


def test_the_citation_has_what_the_format_asks_for_and_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == PYPROJECT["project"]["authors"]
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert citation["repository-code"] == PYPROJECT["project"]["urls"]["Source"]
    assert str(citation["version"]) == hyperspy_specml.__version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_file_of_the_repository_finds_it(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert ":" in link or (page.parent / link).exists(), link


def test_the_readme_of_the_news_lists_the_types_of_the_changelog_in_their_order() -> None:
    listed = re.findall(r"^``(\w+)``", NEWS_README.read_text(encoding="utf-8"), re.M)
    assert listed == [kind["directory"] for kind in PYPROJECT["tool"]["towncrier"]["type"]]


@pytest.mark.parametrize("path", NEWS, ids=lambda path: path.name)
def test_a_news_file_is_named_by_issue_and_type(path: Path) -> None:
    kinds = "|".join(kind["directory"] for kind in PYPROJECT["tool"]["towncrier"]["type"])
    assert re.fullmatch(rf"\d+\.({kinds})(\.\d+)?\.rst", path.name)


def test_the_draft_of_the_changelog_has_all_news() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.7.0", "--date", "today"]
    draft = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    said = " ".join(draft.split())
    for path in NEWS:
        assert " ".join(path.read_text(encoding="utf-8").split()) in said, path.name
    assert said.startswith("0.7.0 (today)")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_for(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = form["body"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert {field["type"] for field in fields} <= {"textarea", "input"}
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_a_release_whose_parts_agree_passes(check: SimpleNamespace, release: Any) -> None:
    assert list(check.disagreements(release)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"citation": {"version": "0.5.0", "date-released": "2027-05-11"}}, "version '0.5.0'"),
        ({"citation": {"version": "0.7.0"}}, "date-released: 2027-05-11"),
        ({"citation": {"version": "0.7.0", "date-released": "2027-05-12"}}, "date-released: 2027-05-11"),
        ({"changelog": "Changes\n=======\n"}, "begins with no release, not with 0.7.0"),
        ({"changelog": "0.5.0 (2027-01-01)\n------\n"}, "begins with 0.5.0"),
        ({"news": ["3.bugfix.rst"]}, "still has 3.bugfix.rst"),
        ({"built": ["hyperspy_specml-0.7.0.tar.gz"]}, "dist has"),
        ({"built": ["hyperspy_specml-0.5.0.tar.gz", "hyperspy_specml-0.5.0-py3-none-any.whl"]}, "dist has"),
        ({"tags": ["v0.5.0"]}, "no tag v0.7.0"),
        ({"changed": ["CHANGES.rst"]}, "Not committed.*CHANGES.rst"),
    ],
)
def test_what_does_not_agree_in_a_release_is_named(
    check: SimpleNamespace, release: Any, change: dict[str, Any], message: str
) -> None:
    (found,) = check.disagreements(dataclasses.replace(release, **change))
    assert re.search(message, found)


def test_a_version_in_development_is_not_released(check: SimpleNamespace, release: Any) -> None:
    found = list(check.disagreements(dataclasses.replace(release, version="0.7.0.dev0")))
    assert "a release has no 'dev'" in found[0]
    assert len(found) == 5  # citation, changelog, files and tag are another version's, too


# Names that differ between PyPI and conda-forge.
CONDA = {
    "dask": "dask-core", "hyperspy": "hyperspy-base", "lazy_loader": "lazy-loader", "matplotlib": "matplotlib-base",
    "torch": "pytorch",
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """The conda recipe, its template filled in."""
    from jinja2 import Template

    text = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(Template(text).render(PYTHON="python"))


def bounds(requirements: list[str]) -> dict[str, set[str]]:
    """Return the limits of versions by the name on conda-forge."""
    split = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?\s*(.*)", one) for one in requirements]
    return {CONDA.get(one[1], one[1]): set(filter(None, one[2].split(","))) for one in split if one}


def test_the_conda_recipe_asks_for_what_pyproject_asks_for(recipe: dict[str, Any]) -> None:
    project = PYPROJECT["project"]
    python = [f"python{project['requires-python']}"]

    assert bounds(recipe["requirements"]["run"]) == bounds(python + project["dependencies"])
    assert bounds(recipe["requirements"]["host"]) == bounds([*python, "pip", *PYPROJECT["build-system"]["requires"]])


def test_the_conda_recipe_is_of_this_package(recipe: dict[str, Any]) -> None:
    project = PYPROJECT["project"]

    assert recipe["package"] == {"name": project["name"], "version": hyperspy_specml.__version__.partition(".dev")[0]}
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
    assert recipe["about"]["home"] == project["urls"]["Source"]
