"""Prints how much the packages of each extra take beyond those of the package itself, as installed here.

The numbers of the table in docs/user_guide/install.rst. What is not installed is named, and the size is left out.
"""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

NAME = "hyperspy_specml"
EXTRAS = ("tables", "formats", "data", "umap", "distributed", "gui-jupyter", "gui-qt", "gui", "tests", "docs")


def needed(requirement: Requirement, found: dict[str, Distribution], missing: set[str]) -> None:
    """Collect what a requirement installs, by the name of the project."""
    try:
        one = distribution(requirement.name)
    except PackageNotFoundError:
        missing.add(requirement.name)
        return
    key = one.metadata["Name"].lower().replace("_", "-")
    new = key not in found
    found[key] = one
    for text in one.requires or () if new or requirement.extras else ():
        inner = Requirement(text)
        marker = inner.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
            needed(inner, found, missing)


def megabytes(one: Distribution) -> float:
    """Return the size of its files, compiled ones of Python left out."""
    paths = [Path(str(one.locate_file(file))) for file in one.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    """Print a line for the package and for each extra."""
    base: dict[str, Distribution] = {}
    needed(Requirement(NAME), base, missing := set())
    print(f"{NAME}: {sum(map(megabytes, base.values())):.0f} MB {sorted(missing) or ''}")
    for extra in EXTRAS:
        found: dict[str, Distribution] = {}
        needed(Requirement(f"{NAME}[{extra}]"), found, missing := set())
        more = {key: one for key, one in found.items() if key not in base}
        print(f"{extra}: {sum(map(megabytes, more.values())):.0f} MB, {len(more)} packages {sorted(missing) or ''}")


if __name__ == "__main__":
    main()
