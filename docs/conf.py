"""Settings of Sphinx; `make docs` builds the pages, with warnings as errors and without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

EXTENSIONS = str(Path(__file__).parent / "_ext")
sys.path.insert(0, EXTENSIONS)
# Of the processes that run the gallery.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [EXTENSIONS, os.environ.get("PYTHONPATH")]))

import matplotlib

import hyperspy_specml

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/hyperspy-specml/hyperspy_specml"

matplotlib.use("Agg")
# Of the tests, too: the page of a measured map is without figures where the folder is missing.
os.environ.setdefault("SPECML_DATA", str(ROOT.parent / "shared" / "data"))

project = "hyperspy_specml"
author = "hyperspy_specml maintainers"
copyright = f"{author}, GPL-3.0-or-later"
version = release = hyperspy_specml.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.extlinks",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
extensions += ["benchmark_tables", "page_parts"]  # docs/_ext
exclude_patterns = ["_build", "changes", "gallery", "tutorial"]
nitpicky = False  # types point to HyperSpy and NumPy, whose pages would have to be downloaded

# Pages of the libraries below, by their place. The build needs no network; `make linkcheck` does.
extlinks = {
    "hyperspy": ("https://hyperspy.org/hyperspy-doc/current/%s.html", "%s"),
    "exspy": ("https://hyperspy.org/exspy/%s.html", "%s"),
    "rosettasciio": ("https://hyperspy.org/rosettasciio/%s.html", "%s"),
}
linkcheck_ignore = [rf"{REPOSITORY}.*"]  # not public yet

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": ["tutorial", "gallery"],
    "gallery_dirs": ["_tutorial", "_gallery"],  # made by the build, in no repository
    "filename_pattern": "",  # every script is run
    "parallel": 2,
    "reset_modules": ("matplotlib", "gallery_settings.quiet"),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "image_srcset": ["2x"],  # sharp on screens with small pixels
    "show_memory": False,
    "write_computation_times": False,
    "capture_repr": (),  # what scripts print is shown, not the last value of every block
}

html_theme = "pydata_sphinx_theme"
html_title = "hyperspy_specml"  # a longer one leaves a telephone no room for the menu
html_theme_options = {
    "github_url": REPOSITORY,
    "header_links_before_dropdown": 5,  # with more, the menu needs a second row at 1280 pixels
    "navbar_persistent": ["search-button"],
}
html_sidebars = {page: [] for page in ("index", "benchmarks", "changes")}  # pages without pages below them
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False


def add_unreleased(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the news that no release has yet above the changelog."""
    if page != "changes":
        return
    app.env.note_reread()  # files of docs/changes come and go without any change to the page
    title = ["--version", release, "--date", "not released"]
    command = [sys.executable, "-m", "towncrier", "build", "--draft", *title]
    draft = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    source[0] = source[0].replace(".. include::", f"{draft}\n.. include::")


def setup(app: Sphinx) -> None:
    """Connect what pages are made of while they are read."""
    app.connect("source-read", add_unreleased)
