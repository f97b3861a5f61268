"""Settings of Sphinx; `make docs` builds the pages, with warnings as errors and without a network."""

from __future__ import annotations

import hyperspy_specml

project = "hyperspy_specml"
copyright = "the developers of hyperspy_specml, GPL-3.0-or-later"
version = release = hyperspy_specml.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build", "changes"]
nitpicky = False  # types point to HyperSpy and NumPy, whose pages would have to be downloaded

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_show_sourcelink = False
