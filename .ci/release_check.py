"""Do version, changelog, citation, built files and tag of a release agree? Part of `make release-check`."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packaging.version import Version

import hyperspy_specml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
TITLE = re.compile(r"^(\S+) \((\d{4}-\d\d-\d\d)\)\n-+$", re.M)  # of a release in CHANGES.rst


@dataclass(frozen=True)
class Release:
    """What a release says about itself.

    Attributes
    ----------
    version
        Of the package.
    citation
        CITATION.cff.
    changelog
        CHANGES.rst.
    news
        Names of the files of docs/changes, which a release joins into the changelog.
    built
        Names of the files in dist.
    tags
        Of the commit that is checked out.
    changed
        Files that differ from that commit, or are not in it.
    """

    version: str
    citation: dict[str, Any]
    changelog: str
    news: list[str]
    built: list[str]
    tags: list[str]
    changed: list[str]


def disagreements(release: Release) -> Iterator[str]:
    """Yield a sentence for everything that does not agree with the version of the package."""
    version = release.version
    if Version(version).is_devrelease or Version(version).local:
        yield f"hyperspy_specml.__version__ is {version!r}: a release has no 'dev' and no '+'."
    if release.citation["version"] != version:
        yield f"CITATION.cff has version {release.citation['version']!r}, the package {version!r}."
    newest, date = next(iter(TITLE.findall(release.changelog)), ("no release", None))
    if newest != version:
        yield f"CHANGES.rst begins with {newest}, not with {version}: towncrier build --version {version}"
    elif str(release.citation.get("date-released")) != date:
        yield f"CITATION.cff needs the date of CHANGES.rst: date-released: {date}"
    if release.news:
        yield f"docs/changes still has {', '.join(release.news)}: towncrier build --version {version}"
    expected = [f"hyperspy_specml-{version}-py3-none-any.whl", f"hyperspy_specml-{version}.tar.gz"]
    if sorted(release.built) != expected:
        yield f"dist has {sorted(release.built)}, and {expected} were expected: python -m build"
    if f"v{version}" not in release.tags:
        yield f"The commit has no tag v{version}: git tag -a v{version} -m 'hyperspy_specml {version}'"
    if release.changed:
        yield f"Not committed, and so not what the tag says: {', '.join(release.changed)}"


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout.splitlines()


def this_release() -> Release:
    """Look at the repository."""
    return Release(
        version=hyperspy_specml.__version__,
        citation=yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")),
        changelog=(ROOT / "CHANGES.rst").read_text(encoding="utf-8"),
        news=sorted(path.name for path in (ROOT / "docs/changes").iterdir() if path.name != "README.rst"),
        built=[path.name for path in (ROOT / "dist").iterdir() if not path.name.startswith(".")],
        tags=git("tag", "--points-at", "HEAD"),
        changed=[line[3:] for line in git("status", "--porcelain")],
    )


if __name__ == "__main__":
    found = list(disagreements(release := this_release()))
    print("\n".join(found) or f"Version, changelog, citation, files and tag agree: {release.version}")
    sys.exit(bool(found))
